"""A full, read-only or broken disk: the log stops, says so, and is whole when opened again."""

import errno
from pathlib import Path

import pytest

from sovereign.audit import log
from sovereign.audit.disk import RealDisk
from sovereign.audit.log import Log
from sovereign.errors import LogLocked, LogMissing, LogUnwritable
from tests.audit.scenario import (
    KEY,
    Ear,
    Run,
    append_group,
    clock,
    completion,
    faults,
    reopen,
    reopenings,
)
from tests.simulated.disk import Fault, SimulatedDisk, files_of

LIFE = ("create", "open", 1, 2, "close", "open", 3, 1, "close")


@pytest.fixture(autouse=True)
def _published_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "PUBLISH_EVERY_S", 0.0)
    monkeypatch.setattr(log, "JOURNAL_MAX_BYTES", 1500)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_after_an_error_at_any_operation_the_log_opens_again_and_lost_nothing(number: int) -> None:
    """Disks fill at night. In the morning there must be a log, not a puzzle."""
    operations = Run(SimulatedDisk()).play(LIFE).disk.operations
    for at in range(operations):
        run = Run(SimulatedDisk(fail_at=Fault(at, number, times=None))).play(LIFE)
        assert faults(run, run.disk.mended()) == [], f"failed from {at} on"


def test_after_a_failed_sync_the_data_counts_as_lost_even_if_it_can_still_be_read() -> None:
    """Linux marks the pages clean and forgets: a later sync says yes and writes nothing."""
    operations = Run(SimulatedDisk()).play(LIFE).disk.operations
    for at in range(operations):
        run = Run(SimulatedDisk(fail_at=Fault(at, errno.EIO, only="sync"))).play(LIFE)
        again = run.disk.mended()
        try:
            reopen(again, created=run.created)
        except LogMissing:
            assert not run.created
            continue
        power_cut = dict(again.survivors()).get("lost", again)
        assert faults(run, power_cut, reopened=True) == [], f"failed at {at}"


@pytest.mark.parametrize("call", ["append journal", "fdatasync journal"])
def test_a_log_that_could_not_write_tells_everyone_and_takes_nothing_more(call: str) -> None:
    """Whoever waits must hear a no: an answer without its record may never leave."""
    disk = SimulatedDisk()
    Run(disk).play(("create",))
    target = Log(disk, KEY, clock)
    disk.fail(Fault(disk.operations, errno.EIO, only=call))
    heard = [ear.heard() for ear in append_group(target, [1, 2, 3]).values()]
    assert [type(each) for each in heard] == [LogUnwritable] * 3
    assert target.failure is not None
    with pytest.raises(LogUnwritable):
        target.append("completion", completion(4), Ear())
    target.close()
    assert target.size == 2, "log-created and log-reopened; nothing of the failed group"


def test_a_failed_sync_is_never_tried_again() -> None:
    """The second call would say yes about data that is gone."""
    disk = SimulatedDisk()
    Run(disk).play(("create",))
    target = Log(disk, KEY, clock)
    disk.fail(Fault(disk.operations, errno.EIO, only="fdatasync"))
    append_group(target, [1])[1].heard()
    before = list(disk.history)
    target.close()
    assert disk.history == before, "the stopped log left the disk alone"
    assert before[-1] == "fdatasync journal"


def test_a_full_disk_that_took_half_a_frame_costs_only_that_group() -> None:
    """What a full disk leaves is a torn tail: dropped, counted, and written down."""
    disk = SimulatedDisk()
    run = Run(disk).play(("create", "open", 2, "close"))
    target = Log(disk, KEY, clock)
    disk.fail(Fault(disk.operations, errno.ENOSPC, times=None, only="append"))
    assert isinstance(append_group(target, [99])[99].heard(), LogUnwritable)
    target.close()
    left = disk.mended()
    assert faults(run, left) == []
    assert [each["ended"] for each in reopenings(left)][-1] == "in-a-crash"
    assert reopenings(left)[-1]["torn_bytes"] > 0


class _Deaf(Ear):
    """A waiter that is gone: a cancelled future, an event loop that is closed."""

    def acknowledged(self, index: int) -> None:
        super().acknowledged(index)
        raise RuntimeError("the loop is closed")


def test_a_waiter_that_is_gone_does_not_stop_the_log_for_the_others() -> None:
    """One client that hangs up must not silence the audit log of all."""
    disk = SimulatedDisk()
    Run(disk).play(("create",))
    target = Log(disk, KEY, clock)
    deaf, other = _Deaf(), Ear()
    with target._wake:
        target.append("completion", completion(1), deaf)
        target.append("completion", completion(2), other)
    assert (deaf.heard(), other.heard()) == (2, 3)
    assert append_group(target, [3])[3].heard() == 4
    target.close()
    assert target.failure is None


def test_a_queue_that_is_full_refuses_and_a_closed_log_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every queue has a bound; beyond it the caller hears no instead of waiting."""
    monkeypatch.setattr(log, "QUEUE_MAX", 2)
    disk = SimulatedDisk()
    Run(disk).play(("create",))
    target = Log(disk, KEY, clock)
    with target._wake:
        for number in (1, 2):
            target.append("completion", completion(number), Ear())
        with pytest.raises(LogUnwritable, match="wait"):
            target.append("completion", completion(3), Ear())
    target.close()
    with pytest.raises(LogUnwritable, match="closed"):
        target.append("completion", completion(4), Ear())


# --- the real disk --------------------------------------------------------------------------


def test_a_second_writer_is_locked_out_until_the_first_has_closed(tmp_path: Path) -> None:
    """Two writers would sign two histories of one log."""
    log.create(RealDisk(tmp_path), KEY, clock)
    first = Log(RealDisk(tmp_path), KEY, clock)
    with pytest.raises(LogLocked):
        Log(RealDisk(tmp_path), KEY, clock)
    with pytest.raises(LogLocked):
        log.create(RealDisk(tmp_path), KEY, clock)
    assert append_group(first, [1])[1].heard() == 2, "the first goes on undisturbed"
    first.close()
    Log(RealDisk(tmp_path), KEY, clock).close()


def test_a_folder_that_is_not_there_is_a_missing_log(tmp_path: Path) -> None:
    """A mount that did not come up is the usual reason; it must not become a new log."""
    with pytest.raises(LogMissing):
        Log(RealDisk(tmp_path / "gone"), KEY, clock)
    assert not (tmp_path / "gone").exists()


def test_the_real_disk_does_what_the_simulated_one_does(tmp_path: Path) -> None:
    """The same life on both must end in the same set of files with the same sizes."""
    script = ("create", "open", 250, 3, 2, 2, "close", "open", 1, "close")
    simulated = Run(SimulatedDisk()).play(script)
    real = Run(RealDisk(tmp_path)).play(script)  # type: ignore[arg-type]  # a Disk all the same
    assert real.acknowledged == simulated.acknowledged
    there = {
        str(path.relative_to(tmp_path)): path.stat().st_size
        for path in tmp_path.rglob("*")
        if path.is_file() and path.name != "lock"
    }
    assert there == {path: len(content) for path, content in files_of(simulated.disk).items()}
