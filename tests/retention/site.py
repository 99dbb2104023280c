"""A site of three writers whose clock the test moves, and a retention run over it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sovereign import fleet
from sovereign import policy as policies
from sovereign.audit import trail as trails
from sovereign.audit.trail import WRITERS, Recorded, Trail
from sovereign.controller.retain import Retaining
from sovereign.policy import Policy
from sovereign.registry import utcnow
from sovereign.retention import Erasure
from sovereign.settings import Home, Settings

POLICY = policies.load(Path(__file__).resolve().parents[2] / "policies", "eea")
DAY = timedelta(days=1)
DECISION: dict[str, Any] = {
    "request": 1,
    "tenant": "acme",
    "key": "key_1",
    "purpose": "tests",
    "basis": "contract",
    "data": "personal",
    "verb": "process",
    "model": "m",
    "verdict": "allow",
    "rule": "nothing-leaves-this-host",
    "policy": "0" * 64,
    "asked_at": "2026-11-24T12:00:00.000000Z",
}


def keeping(**days: int) -> Policy:
    """The shipped policy with other maxima: `keeping(evidence=100)`."""
    changed = {
        name: type(kept)(
            id=kept.id,
            min_days=min(kept.min_days, days[name] - 10),
            max_days=days[name],
            because=kept.because,
            source=kept.source,
            bundle_span_max_hours=kept.bundle_span_max_hours,
            interval_hours=kept.interval_hours,
        )
        for name, kept in POLICY.retention.items()
        if name in days
    }
    return replace(POLICY, retention={**POLICY.retention, **changed})


def noting(runs: list[Any]) -> Callable[[datetime], Iterator[Any]]:
    """In the place of a run: notes when it was begun, and has nothing to do."""

    def batches(now: datetime) -> Iterator[Any]:
        runs.append(now)
        return iter(())

    return batches


@dataclass
class Clock:
    """Aware time that stands still until a test moves it."""

    now: datetime

    def __call__(self) -> datetime:
        return self.now

    def ticks(self) -> float:
        """What a counter shows that goes with it: the test lets time pass, it sets no clock."""
        return self.now.timestamp()


class Site:
    """Its gateway's and its controller's trails are open; the operator's is opened when used."""

    def __init__(self, root: Path, policy: Policy = POLICY) -> None:
        self.home = Home(root, Settings())
        self.policy = policy
        home = self.home
        for writer in WRITERS:
            trails.create(home.audit, home.keys, home.trust, writer, "local")
        self.clock = Clock(utcnow())
        self.gateway = self.open("gateway")
        self.controller = self.open("controller")

    def open(self, writer: str) -> Trail:
        return Trail.open(self.home.audit, self.home.keys, writer, "local", self.clock)

    def close(self) -> None:
        for trail in (self.gateway, self.controller):
            trail.close()

    def decide(self, count: int) -> list[Recorded]:
        """So many decisions in the gateway's event log."""
        waiting = [self.gateway.record("decision", **DECISION) for _ in range(count)]
        return [future.result(10) for future in waiting]

    def seal(self) -> None:
        """What each writer's own timer does: seal what has been open for its span."""
        for trail in (self.gateway, self.controller):
            trail.seal_older(self.policy.bundle_spans())
        self.settle()

    def settle(self) -> None:
        """Wait until the writers' threads have done what they were asked: close and reopen."""
        self.close()
        self.gateway, self.controller = self.open("gateway"), self.open("controller")

    def pass_days(self, days: int) -> None:
        self.clock.now += days * DAY

    def run(self) -> tuple[Erasure, ...]:
        """One retention run now."""
        return Retaining(self.home, self.policy, self.controller).run(self.clock.now)

    def member(self, origin: str) -> fleet.Member:
        return next(m for m in fleet.members(self.home) if m.origin == origin)

    def records(self, origin: str) -> list[tuple[int, dict[str, Any]]]:
        """What is left of a log, with its index."""
        member = self.member(origin)
        return list(fleet.records(member, 0, fleet.size_of(member) or 0))

    def findings(self) -> set[str]:
        """Codes of all findings over the whole site, as they stand on the disk."""
        self.settle()
        return {f.code for result in fleet.verify(self.home) for f in result.findings}

    def files_with(self, needle: bytes) -> list[str]:
        """Every file of the site in which these bytes stand, while writers may be at work."""
        return [
            str(path.relative_to(self.home.root))
            for path in _files(self.home.root)
            if needle in _content(path)
        ]


def _files(root: Path) -> Iterable[Path]:
    return (path for path in sorted(root.rglob("*")) if path.is_file())


def _content(path: Path) -> bytes:
    """What a file holds; nothing, when it has just been swept away."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
