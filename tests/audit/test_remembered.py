"""A log put back from an older copy is not taken up again: that would sign a second history."""

import errno
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sovereign.audit import checkpoint, log, remembered
from sovereign.audit.log import Log
from sovereign.audit.merkle import EMPTY_ROOT, Tree, leaf_hash
from sovereign.audit.note import VerifierKey
from sovereign.audit.remembered import Places, Remembering, refuse_split, root_at
from sovereign.audit.trail import Trail, create
from sovereign.errors import HistorySplit, TileMissing
from tests.audit.loglab import entries, files
from tests.audit.scenario import KEY, ORIGIN, PATIENCE_S, Run, clock, completion, entry
from tests.simulated.disk import SimulatedDisk

LIFE: tuple[str | int, ...] = ("create", "open", 1, 2, "close", "open", 3, "close")


class Machine:
    """One writer's folders, and a copy of its event log as it was once."""

    def __init__(self, root: Path) -> None:
        self.audit, self.keys, self.trust = root / "audit", root / "keys", root / "trust"
        create(self.audit, self.keys, self.trust, "gateway", "test.example")
        self.folder, self.copy = self.audit / "gateway/event", root / "copy"

    def open(self) -> Trail:
        site = "test.example"
        return Trail.open(self.audit, self.keys, "gateway", site, clock, trust=self.trust)

    def write(self, count: int) -> None:
        with self.open() as trail:
            waiting = [trail.record("completion", **completion(n)) for n in range(count)]
            for future in waiting:
                future.result(PATIENCE_S)

    def keep_a_copy(self) -> None:
        shutil.copytree(self.folder, self.copy)

    def put_the_copy_back(self) -> None:
        shutil.rmtree(self.folder)
        shutil.copytree(self.copy, self.folder)

    def everything(self) -> dict[str, bytes]:
        paths = (path for path in self.folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in paths}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


# --- an older copy ------------------------------------------------------------------------------


def test_an_older_copy_of_a_log_is_not_taken_up_again_and_is_left_as_it_is(
    machine: Machine,
) -> None:
    """A snapshot put back in good faith forks a log as surely as an attacker does."""
    machine.write(3)
    machine.keep_a_copy()
    machine.write(300)
    machine.put_the_copy_back()
    before = machine.everything()
    with pytest.raises(HistorySplit, match="older than this machine remembers") as refused:
        machine.open()
    assert "Fix D" in refused.value.next_step
    assert machine.everything() == before
    with pytest.raises(HistorySplit):
        machine.open()


def test_the_newest_copy_is_taken_up_again(machine: Machine) -> None:
    """A log moved to another disk, or back, goes on as if nothing had been."""
    machine.write(300)
    machine.keep_a_copy()
    machine.put_the_copy_back()
    machine.write(1)


def test_another_history_of_the_same_length_is_refused(machine: Machine) -> None:
    """Two copies that each went on are the same length sooner or later."""
    machine.keep_a_copy()
    machine.write(2)
    stem = "gateway-event.checkpoint"
    newest = (machine.trust / stem).read_bytes()
    machine.put_the_copy_back()
    (machine.trust / stem).unlink()
    machine.write(9)
    assert (machine.trust / stem).read_bytes() != newest
    (machine.trust / stem).write_bytes(newest)
    with pytest.raises(HistorySplit, match="not the one that this machine remembers"):
        machine.open()


@pytest.mark.parametrize("suffix", remembered.OTHERS)
def test_what_a_standby_or_a_witness_acknowledged_counts_too(machine: Machine, suffix: str) -> None:
    """When the whole machine is put back, only what came from elsewhere is newer."""
    machine.write(1)
    machine.keep_a_copy()
    old = (machine.trust / "gateway-event.checkpoint").read_bytes()
    machine.write(5)
    newest = machine.trust / "gateway-event.checkpoint"
    newest.rename(machine.trust / f"gateway-event{suffix}")
    newest.write_bytes(old)
    machine.put_the_copy_back()
    with pytest.raises(HistorySplit):
        machine.open()


def test_a_note_that_the_key_did_not_sign_stops_nobody(machine: Machine) -> None:
    """A key that was changed leaves such a note; verification is what judges it."""
    machine.write(1)
    (machine.trust / "gateway-event.checkpoint").write_bytes(files(entries(9))["checkpoint"])
    machine.write(1)


# --- when and where it is remembered ------------------------------------------------------------


def test_it_is_remembered_while_the_log_is_open(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that is killed has no chance to remember anything on its way out."""
    real = Remembering
    monkeypatch.setattr("sovereign.audit.trail.Remembering", lambda places: real(places, 0.02))
    with machine.open() as trail:
        trail.record("completion", **completion(1)).result(PATIENCE_S)
        note = machine.trust / "gateway-event.checkpoint"
        _wait(lambda: note.exists() and b"\n3\n" in note.read_bytes())


def _wait(done: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("number", remembered.NOT_OURS_TO_WRITE)
def test_a_writer_that_may_not_touch_the_pins_remembers_beside_its_log(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """On a managed host the pins are root's, and the writer is somebody else."""
    real = remembered.keep

    def refuse(path: Path, note: bytes, vkey: VerifierKey) -> bool:
        if path.parent == machine.trust:
            raise OSError(number, "not yours")
        return real(path, note, vkey)

    monkeypatch.setattr(remembered, "keep", refuse)
    machine.write(1)
    machine.keep_a_copy()
    machine.write(1)
    assert not (machine.trust / "gateway-event.checkpoint").exists()
    assert (machine.audit / "gateway/event.checkpoint").exists()
    machine.put_the_copy_back()
    with pytest.raises(HistorySplit):
        machine.open()


def test_a_disk_that_does_not_let_it_remember_costs_no_record(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Remembering guards the log; it must not become a way to stop it."""

    def refuse(*_: object) -> bool:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(remembered, "keep", refuse)
    machine.write(3)


def test_a_newer_checkpoint_is_never_replaced_by_an_older_one(tmp_path: Path) -> None:
    """Two who remember may finish in the other order."""
    kept = tmp_path / "it.checkpoint"
    old, new = (files(entries(size))["checkpoint"] for size in (3, 4))
    assert remembered.keep(kept, new, KEY.verifier)
    assert not remembered.keep(kept, old, KEY.verifier)
    assert not remembered.keep(kept, new, KEY.verifier)
    assert kept.read_bytes() == new
    assert remembered.size_in(new, KEY.verifier) == 4
    assert remembered.size_in(b"", KEY.verifier) == remembered.size_in(b"x", KEY.verifier) == -1


# --- the comparison -----------------------------------------------------------------------------


@pytest.mark.parametrize("base", [1, 255, 256, 257, 300, 700])
def test_the_root_of_any_earlier_size_is_found_whatever_has_grown_since(
    base: int,
) -> None:
    """Partial tiles make way for wider ones; the comparison must not need them."""
    content = entries(base + 5)
    there = files(content[:base])
    tree, roots = Tree(), [EMPTY_ROOT]
    for each in content:
        tree.append(leaf_hash(each))
        roots.append(tree.root())
    for size in range(1, len(content) + 1):
        known = checkpoint.Checkpoint(ORIGIN, size, roots[size])
        assert root_at(there.get, known, base, content[base:]) == roots[size], size


def test_a_hash_that_is_gone_is_no_split() -> None:
    """A lost file has its own runbook; calling it a fork would send people the wrong way."""
    there = files(entries(300))
    note = files(entries(260))["checkpoint"]
    del there["tile/0/001.p/44"]
    with pytest.raises(TileMissing):
        refuse_split([note], KEY.verifier, there.get, 300, [])


def test_whatever_was_published_before_a_crash_does_not_stop_the_recovery() -> None:
    """What is remembered is durable in the journal by then, wherever the machine stopped."""
    tried = 0
    for at, run in _stopped_runs():
        if not run.disk.served:
            continue
        for name, left in run.disk.survivors():
            doing = f"stopped at {at} ({run.disk.history[-1]}), {name}"
            for note in {run.disk.served[-1], run.disk.served[0]}:
                if run.created:
                    opened = Log(left.copied(), KEY, clock, [note])
                    assert opened.size > remembered.size_in(note, KEY.verifier), doing
                    opened.close()
                    tried += 1
    assert tried > 100


def _stopped_runs() -> Iterator[tuple[int, Run]]:
    for at in range(400):
        run = Run(SimulatedDisk(stop_at=at)).play(LIFE)
        yield at, run
        if not run.disk.stopped:
            return
    pytest.fail("the script does not end")


def test_the_journals_entries_are_compared_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two settlings everything new is in the journal alone."""
    monkeypatch.setattr(log, "PUBLISH_EVERY_S", 0.0)
    run = Run(SimulatedDisk()).play(("create", "open", 2, 3))
    disk = run.disk
    foreign = files([*entries(2), entry(7, b"\x09" * 16)])["checkpoint"]
    with pytest.raises(HistorySplit):
        Log(disk.copied(), KEY, clock, [foreign])


def test_places_are_named_after_writer_and_stream(tmp_path: Path) -> None:
    """Whoever restores a machine must know which files to look at."""
    places = Places.of(tmp_path / "audit/gateway/event", KEY.verifier, tmp_path / "trust")
    assert [path.relative_to(tmp_path).as_posix() for path in (*places.own, *places.others)] == [
        "trust/gateway-event.checkpoint",
        "audit/gateway/event.checkpoint",
        "trust/gateway-event.standby",
        "trust/gateway-event.witnessed",
    ]
