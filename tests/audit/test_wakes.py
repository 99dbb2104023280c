"""Many callers of one event loop are told of their records with one wake-up for each group."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from sovereign.audit import trail
from sovereign.audit.log import Log
from sovereign.audit.trail import Trail
from sovereign.errors import LogUnwritable
from tests.audit.scenario import KEY, Run, append_group, clock, completion
from tests.simulated.disk import SimulatedDisk

SITE, WRITER = "test.example", "gateway"
CALLERS = 64


class Sleeper:
    """A waiter whose thread has to be woken; some of them raise when they are told."""

    def __init__(self, wake: Callable[[], None], *, gone: bool = False) -> None:
        self.index = -1
        self._wake = wake
        self._gone = gone

    def acknowledged(self, index: int) -> Callable[[], None]:
        if self._gone:
            raise RuntimeError("nobody is here any more")
        self.index = index
        return self._wake

    def failed(self, error: LogUnwritable) -> None:
        raise AssertionError


def test_a_group_wakes_each_thread_once_however_many_wait_there() -> None:
    """A wake-up for each record made every caller wait for sixty-three others' wake-ups."""
    disk = Run(SimulatedDisk()).play(("create",)).disk
    target = Log(disk, KEY, clock)
    woken: list[str] = []

    def one() -> None:
        woken.append("one")

    def other() -> None:
        woken.append("other")
        raise RuntimeError("this loop is closed")

    sleepers = [Sleeper(one if i % 2 else other, gone=i == 7) for i in range(20)]
    with target._wake:
        for number, sleeper in enumerate(sleepers):
            target.append("completion", completion(number), sleeper)
    assert isinstance(append_group(target, [20])[20].heard(), int), "a later group is told too"
    target.close()
    assert sorted(woken) == ["one", "other"]
    told = [sleeper.index for sleeper in sleepers]
    assert told == [2 + i if i != 7 else -1 for i in range(20)]


def test_every_caller_of_a_loop_gets_the_record_that_is_its_own(tmp_path: Path) -> None:
    """What comes in one wake-up must still go to whom it belongs."""
    folders = [tmp_path / name for name in ("audit", "keys", "trust")]
    for folder in folders:
        folder.mkdir()
    trail.create(*folders, WRITER, SITE)

    async def ask(opened: Trail, number: int) -> tuple[int, int]:
        recorded = await opened.arecord("completion", **completion(number))
        return number, recorded.index

    async def all_of_them(opened: Trail) -> dict[int, int]:
        return dict(await asyncio.gather(*(ask(opened, number) for number in range(CALLERS))))

    with Trail.open(folders[0], folders[1], WRITER, SITE, clock) as opened:
        first = asyncio.run(all_of_them(opened))
        second = asyncio.run(all_of_them(opened))  # another loop, and the first one is closed
    assert sorted([*first.values(), *second.values()]) == list(range(2, 2 + 2 * CALLERS))
    assert list(first.values()) == sorted(first.values()), "in the order they asked"
