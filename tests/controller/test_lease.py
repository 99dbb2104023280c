"""Two controllers on one site do not fight: real processes, killed and stopped."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from sovereign.audit.trail import Trail
from sovereign.controller import lease, loop
from sovereign.controller.act import act
from sovereign.controller.plan import Plan, plan
from sovereign.errors import LeaseHeld, LeaseLost, LogMissing
from sovereign.registry import LeaseTaken, Registry, utcnow
from sovereign.settings import Home, Settings
from tests.controller.seen import NOW, POLICY, sight
from tests.controller.test_loop import evidence, home_at

TERM_S = 1.0
ENDS_WITHIN_S = 60
LONG_S = 30.0
"""A term in which a busy machine lets every holder count on at least once."""


class Other:
    """A process that holds the lease, or was refused it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.said = self.line()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def act(self) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.line()


@contextmanager
def other(registry: Path, term_s: float) -> Iterator[Other]:
    command = [sys.executable, "-m", "tests.controller.holding", str(registry), str(term_s)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    try:
        yield Other(process)
    finally:
        if process.poll() is None:
            process.kill()
        assert process.stdin is not None
        assert process.stdout is not None
        process.wait(timeout=ENDS_WITHIN_S)
        process.stdin.close()
        process.stdout.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.sqlite"


def test_a_second_controller_is_refused_while_the_first_runs(path: Path) -> None:
    """It learns so by watching the first count on, not by believing a file."""
    with other(path, TERM_S) as first:
        assert first.said == "1"
        with other(path, LONG_S) as second:
            assert second.said == "held"
            assert second.process.wait(timeout=ENDS_WITHIN_S) == 3
        assert first.act() == "1", "and the first goes on as before"


def test_the_next_controller_takes_over_from_a_killed_one_at_once(path: Path) -> None:
    """The kernel gives up the lock of a process that is gone; nobody waits for a term."""
    with ExitStack() as both:
        first = both.enter_context(other(path, TERM_S))
        first.process.kill()
        first.process.wait(timeout=ENDS_WITHIN_S)
        assert both.enter_context(other(path, LONG_S * 100)).said == "2"


def test_a_stopped_controller_is_ended_before_the_next_one_acts(path: Path) -> None:
    """One that wakes after an hour would open what has been shut since."""
    with ExitStack() as both:
        first = both.enter_context(other(path, TERM_S))
        os.kill(first.process.pid, signal.SIGSTOP)
        second = both.enter_context(other(path, TERM_S))
        assert second.said == "2"
        assert first.process.wait(timeout=ENDS_WITHIN_S) == -signal.SIGKILL
        assert second.act() == "1"


def test_a_controller_whose_lock_was_replaced_writes_nothing_however_late_it_wakes(
    path: Path,
) -> None:
    """After a restore under a running controller the old one holds a lock of a deleted file."""
    with ExitStack() as both:
        first = both.enter_context(other(path, TERM_S))
        os.kill(first.process.pid, signal.SIGSTOP)
        lease.path_of(path).unlink()
        second = both.enter_context(other(path, TERM_S))
        assert second.said == "2"
        os.kill(first.process.pid, signal.SIGCONT)
        assert first.act() == "LeaseTaken"
        assert second.act() == "1", "the registry is as if the first had never woken"


def test_a_holder_that_cannot_be_told_is_never_killed(path: Path) -> None:
    """A pid is used again; ending a stranger would be worse than waiting."""
    registry = Registry(path, writable=True)
    spared: list[lease.Holder] = []

    def spare(holder: lease.Holder) -> bool:
        spared.append(holder)
        return False

    with other(path, TERM_S) as first:
        os.kill(first.process.pid, signal.SIGSTOP)
        with (
            pytest.raises(LeaseHeld),
            lease.held(lease.path_of(path), registry, TERM_S, spare),
        ):
            pytest.fail("the lease was given twice")
        assert [each.pid for each in spared] == [first.process.pid]
        os.kill(first.process.pid, signal.SIGCONT)
        assert first.act() == "1"


@pytest.mark.parametrize(
    ("pid", "started", "boot"),
    [
        (os.getpid(), 0, None),  # this very process
        (1, 0, None),
        (0, 0, None),
        (os.getppid(), -1, None),  # a process of another start: the number was used again
        (os.getppid(), 0, "another boot"),
    ],
    ids=["itself", "init", "nobody", "another start", "another boot"],
)
def test_who_is_not_the_process_that_wrote_so_is_not_ended(
    pid: int, started: int, boot: str | None
) -> None:
    """If it were, this test would end whoever runs it."""
    written = lease.Holder(1, pid, started, lease._boot() if boot is None else boot, 3)
    assert lease._end(written) is False


def test_numbers_only_grow_and_an_older_one_is_refused_in_the_transaction(path: Path) -> None:
    """Where locks do not meet, this is what keeps two histories out of one registry."""
    registry = Registry(path, writable=True)
    first, second = registry.take_lease(), registry.take_lease()
    assert second == first + 1
    with pytest.raises(LeaseTaken):
        registry.write([], planned_on=0, lease=first)
    assert registry.snapshot().generation == 0
    assert registry.write([], planned_on=0, lease=second) == 1


def test_a_controller_that_lost_its_turn_records_nothing_also_in_a_round_without_steps(
    tmp_path: Path,
) -> None:
    """It would go on to erase what is due in a folder that another looks after."""
    home = home_at(tmp_path, "127.0.0.1:9")
    registry = Registry(home.registry, writable=True)
    mine = registry.take_lease()
    with Trail.open(home.audit, home.keys, "controller", "local", utcnow) as trail:
        assert act(Plan(0, ()), registry, trail, lease=mine)
        registry.take_lease()
        before = len(evidence(home))
        for made in (Plan(0, ()), plan(POLICY, (sight(),), registry.snapshot(), NOW)):
            with pytest.raises(LeaseLost):
                act(made, registry, trail, lease=mine)
    assert len([r for r in evidence(home)[before:] if not r["type"].startswith("log-")]) == 0
    home.registry.unlink()
    assert registry.newest_lease() == 0


def test_a_controller_of_a_home_without_logs_leaves_nothing_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever mistypes a folder finds no half of a site in it afterwards."""
    monkeypatch.setattr(loop.signal, "signal", lambda *_: None)
    with pytest.raises(LogMissing):
        loop.serve(Home(tmp_path / "mistyped", Settings()), POLICY)
    assert list(tmp_path.iterdir()) == []
