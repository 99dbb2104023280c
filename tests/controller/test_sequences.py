"""Any sequence of looks, kills, pauses, take-overs and clocks, against what may never be.

Several controllers run on one registry and one log, more than a kernel would let: each looks, is
paused for as long as it likes, and acts on what it saw, or is killed at any step of that. The world
and the clock change in between; the log is full at times. Nothing waits and nothing is real but
what decides and what writes: `plan`, `act`, the registry and what the past says.
"""

from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sovereign.audit import record
from sovereign.controller.act import act
from sovereign.controller.observe import Seen
from sovereign.controller.past import Past, shut_times
from sovereign.controller.plan import Plan, plan
from sovereign.errors import LeaseLost, LogUnwritable
from sovereign.gateway.choose import judge
from sovereign.host import EngineProcess
from sovereign.registry import Endpoint, Registry, Snapshot
from tests.controller.seen import (
    ADDRESS,
    ANSWERS,
    ENVIRONMENT,
    MODEL,
    NOW,
    POLICY,
    SILENT,
    VALID,
    WELL,
    sight,
    wanted,
)

NAMES = ("one", "two")
SLOTS = st.sampled_from((0, 0, 0, 1))
WORLD: dict[str, tuple[Any, EngineProcess]] = {
    "well": (ANSWERS, WELL),
    "gone": (SILENT, EngineProcess()),
    "silent": (SILENT, WELL),
    "unseen": (ANSWERS, EngineProcess()),
    "telling": (ANSWERS, EngineProcess(77, {**ENVIRONMENT, "DO_NOT_TRACK": "0"}, (ADDRESS,))),
    "reachable": (ANSWERS, EngineProcess(77, ENVIRONMENT, ("0.0.0.0:8081",))),
}
STATES = st.sampled_from(("well", "well", "well", *sorted(WORLD)))
SECONDS = st.sampled_from((1, 5, 14, 16, 29, 30, 31, 600, 3600))
ENTRIES_MAX = 4
"""Steps of a plan over two endpoints, at most: each may be the one at which it is killed."""


class Killed(BaseException):
    """The process is gone: no code of ours runs after it."""


@dataclass
class Controller:
    """One process: the number of its turn, what it remembers, and the plan it made last."""

    number: int
    past: Past
    made: Plan | None = None
    before: Snapshot | None = None
    seen: dict[str, bool] | None = None
    now: datetime = NOW
    ticks: float = 0.0


class Log:
    """What was recorded, by whom. It says no while it is full; it kills at the entry told to."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.is_full = False
        self.kill_at: int | None = None
        self.kills_after = False
        self.at = NOW
        self.writer = 0

    def record(self, kind: str, **fields: str | int) -> "Future[None]":
        left, self.kill_at = self.kill_at, None if self.kill_at is None else self.kill_at - 1
        if left == 0 and not self.kills_after:
            raise Killed
        if self.is_full:
            raise LogUnwritable("the disk is full")
        record.encode(kind, fields, self.at)
        said = {"type": kind, "at": record.written(self.at), "by": self.writer}
        self.entries.append({**fields, **said})
        if left == 0:
            raise Killed
        done: Future[None] = Future()
        done.set_result(None)
        return done


class Dying(Registry):
    """Kills whoever writes, before or after it is written."""

    dies: str = ""

    def write(self, endpoints: Iterable[Endpoint], **named: Any) -> int:
        if self.dies == "before":
            raise Killed
        generation = super().write(endpoints, **named)
        if self.dies == "after":
            raise Killed
        return generation


class Site(RuleBasedStateMachine):
    """Two endpoints, up to two controllers, and a clock that anybody may set."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.registry = Dying(Path(self.folder.name) / "registry.sqlite", writable=True)
        self.log, self.now, self.ticks, self.set_back = Log(), NOW, 0.0, timedelta()
        self.running: dict[int, Controller] = {}
        self.newest = 0
        self.world = dict.fromkeys(NAMES, "well")
        self.looks: list[tuple[str, datetime, float, bool]] = []
        self.acted_on: dict[str, bool] = {}

    def teardown(self) -> None:
        self.folder.cleanup()

    @initialize()
    def the_first_begins(self) -> None:
        self.begin(0)

    @rule(slot=SLOTS)
    def begin(self, slot: int) -> None:
        """A process begins, whatever became of the one before; it knows what the log says."""
        self.newest = self.registry.take_lease()
        self.running[slot] = Controller(self.newest, Past(shut_times(self.log.entries)))

    @rule(name=st.sampled_from(NAMES), state=STATES)
    def change(self, name: str, state: str) -> None:
        self.world[name] = state

    @rule(is_full=st.booleans())
    def fill(self, is_full: bool) -> None:
        self.log.is_full = is_full

    @rule(seconds=SECONDS)
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.ticks += seconds

    @rule(seconds=SECONDS, forward=st.booleans())
    def set_clock(self, seconds: int, forward: bool) -> None:
        moved = timedelta(seconds=seconds)
        self.now += moved if forward else -moved
        self.set_back += timedelta() if forward else moved

    @rule(slot=SLOTS)
    def look(self, slot: int) -> None:
        """The first half of a round; the same inputs give the same plan."""
        if slot not in self.running:
            return
        it, before = self.running[slot], self.registry.snapshot()
        seen = tuple(self._sight(name) for name in NAMES)
        needed = it.past.looks(self.now)
        it.made = plan(POLICY, seen, before, self.now, looks=needed)
        assert plan(POLICY, seen, before, self.now, looks=needed) == it.made
        it.seen = {name: self.world[name] == "well" for name in NAMES}
        it.before, it.now, it.ticks = before, self.now, self.ticks
        self.looks += [(n, self.now, self.ticks, it.seen[n]) for n in NAMES]

    def _sight(self, name: str) -> Seen:
        return sight(*WORLD[self.world[name]], wanted(name=name))

    @rule(slot=SLOTS)
    def act(self, slot: int) -> None:
        """The second half, however much later, and as often as it likes."""
        self._act(slot)

    @rule(slot=SLOTS, name=st.sampled_from(NAMES), state=STATES)
    def round(self, slot: int, name: str, state: str) -> None:
        """What a controller does that nobody disturbs."""
        self.world[name] = state
        self.look(slot)
        self._act(slot)

    @rule(
        slot=SLOTS,
        at=st.integers(0, ENTRIES_MAX) | st.just("registry"),
        dies=st.sampled_from(("before", "after")),
    )
    def act_and_be_killed(self, slot: int, at: int | str, dies: str) -> None:
        if at == "registry":
            self.registry.dies = dies
        else:
            self.log.kill_at, self.log.kills_after = int(at), dies == "after"
        self._act(slot)
        self.registry.dies, self.log.kill_at = "", None

    def _act(self, slot: int) -> None:
        it = self.running.get(slot)
        if it is None or it.made is None or self.ticks - it.ticks >= VALID.total_seconds():
            return
        assert it.before is not None
        assert it.seen is not None
        self.log.at, self.log.writer = self.now, it.number
        said, generation = len(self.log.entries), self.registry.snapshot().generation
        is_stale = bool(it.made.steps) and it.made.generation != generation
        done = False
        try:
            trail: Any = self.log  # all of a trail that acting uses
            done = act(it.made, self.registry, trail, lease=it.number)
            it.past.learn(it.made, NAMES, it.before, it.now)
        except LeaseLost:
            assert it.number < self.newest
            del self.running[slot]
        except Killed:
            del self.running[slot]
        if it.number < self.newest or is_stale:
            assert not done
            assert len(self.log.entries) == said
            assert self.registry.snapshot().generation == generation
        if done or self.registry.snapshot().generation != generation:
            self.acted_on |= it.seen

    def usable(self) -> list[Endpoint]:
        """What a gateway would send data about people to at this moment."""
        shown = self.registry.snapshot().endpoints
        group = judge(POLICY, "personal", MODEL, shown, self.now)
        return [c.endpoint for c in group.choices if group.may_answer and c.endpoint]

    @invariant()
    def what_is_open_was_looked_at_and_well_and_not_longer_ago_than_is_allowed(self) -> None:
        """A clock that is set back lengthens it by no more than it was set back."""
        longest = (VALID + self.set_back).total_seconds()
        for each in self.usable():
            assert any(
                (name, at, is_well) == (each.id, each.attested_at, True)
                and self.ticks - ticks < longest
                for name, at, ticks, is_well in self.looks
            )

    @invariant()
    def what_is_open_was_well_at_the_last_look_that_was_acted_on(self) -> None:
        assert all(self.acted_on[each.id] for each in self.usable())

    @invariant()
    def what_is_open_has_its_attestation_in_the_log(self) -> None:
        for each in self.usable():
            assert each.expires_at is not None
            until = record.written(each.expires_at)
            assert ("attestation", each.id, until) in {
                (e["type"], e["endpoint"], e.get("expires_at")) for e in self.log.entries
            }

    @invariant()
    def nobody_writes_after_a_newer_one_has_begun(self) -> None:
        writers = [each["by"] for each in self.log.entries]
        assert writers == sorted(writers)

    @invariant()
    def what_is_shut_and_says_so_has_its_reason_in_the_log(self) -> None:
        said = {(e["endpoint"], e.get("code")) for e in self.log.entries}
        for each in self.registry.snapshot().endpoints:
            if each.quarantine and each.recorded:
                assert (each.id, each.quarantine) in said


TestNoSequenceOpensWhatIsNotWell = Site.TestCase
TestNoSequenceOpensWhatIsNotWell.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None
)
