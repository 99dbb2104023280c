"""How every sink of a site stands: what it keeps, since when, and what is wrong with it.

Unknown is an answer of its own: a sink that cannot be read is not empty, and a site with one is not
known to have erased what it should.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from sovereign.errors import SovereignError
from sovereign.policy import Policy
from sovereign.retention import Item
from sovereign.settings import Home
from sovereign.sinks import items_of_logs, of_site, rules_of, undeclared
from sovereign.sinks.model import Sink, State


@dataclass(slots=True)
class Standing:
    """One sink and class. `late` counts what is past its maximum by more than an interval."""

    sink: str
    kept: str
    state: State = "present"
    why: str = ""
    items: int = 0
    late: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None
    faults: tuple[str, ...] = ()


@dataclass(slots=True)
class Site:
    """All of it. `strays` are files nobody declared; `unread` says why they could not be sought."""

    standings: list[Standing]
    strays: list[Path] = field(default_factory=list)
    unread: str = ""

    @property
    def wrong(self) -> bool:
        """Whether something is overdue, undeclared, or set so that it will be."""
        return bool(self.strays) or any(each.late or each.faults for each in self.standings)

    @property
    def unknown(self) -> bool:
        """Whether something could not be read."""
        return bool(self.unread) or any(each.state == "unknown" for each in self.standings)


def of_home(home: Home, policy: Policy, now: datetime) -> Site:
    """Look at every sink, and for what is in none.

    Raises:
        TileDamaged, OSError: a log cannot be read.
    """
    judging = _Judging(policy, now)
    for item in items_of_logs(home):
        judging.count(item)
    sinks = of_site(home, policy)
    for sink in sinks:
        judging.look(sink)
    site = Site(judging.standings())
    try:
        site.strays = sorted(undeclared.find(home, sinks))
    except OSError as error:
        site.unread = error.strerror or type(error).__name__
    return site


class _Judging:
    """Counts items as they come, so that a million of them take no memory."""

    def __init__(self, policy: Policy, now: datetime) -> None:
        self._now = now
        self._rules = rules_of(policy, now)
        self._found: dict[tuple[str, str], Standing] = {}

    def standings(self) -> list[Standing]:
        """By name and class."""
        return [self._found[each] for each in sorted(self._found)]

    def of(self, sink: str, kept: str) -> Standing:
        """The standing that such an item counts for."""
        return self._found.setdefault((sink, kept), Standing(sink, kept))

    def look(self, sink: Sink) -> None:
        """All of one sink; several of one name are told together, the worst of them first."""
        seen = sink.look()
        new = (sink.name, sink.kept) not in self._found
        told = self.of(sink.name, sink.kept)
        if new or _WORSE[seen.state] > _WORSE[told.state]:
            told.state, told.why = seen.state, seen.why
        try:
            told.faults += sink.faults(self._rules.of(sink.kept).max_days)
            if seen.state == "present":
                self._count_all(sink.items())
        except (OSError, SovereignError) as error:
            told.state, told.why = "unknown", type(error).__name__

    def _count_all(self, items: Iterable[Item]) -> None:
        for item in items:
            self.count(item)

    def count(self, item: Item) -> None:
        """One more."""
        told, limits = (
            self.of(item.sink, item.retention_class),
            self._rules.of(item.retention_class),
        )
        told.items += 1
        told.oldest = min(told.oldest or item.oldest, item.oldest)
        told.newest = max(told.newest or item.newest, item.newest)
        if item.retention_class not in self._rules.classes:
            told.late += 1  # silence means no
        elif limits.max_days is not None and not item.held:
            allowed = timedelta(days=limits.max_days, hours=limits.interval_hours)
            told.late += self._now - item.oldest > allowed


_WORSE: dict[State, int] = {"absent": 0, "present": 1, "unknown": 2}


def found(site: Site) -> Iterator[str]:
    """What is wrong, in words without names of files."""
    for each in site.standings:
        if each.late:
            yield f"{each.sink}: {each.late} past what the class {each.kept} allows"
        yield from (f"{each.sink}: {fault}" for fault in each.faults)
    if site.strays:
        yield f"{len(site.strays)} files of the site belong to no sink"


def unclear(site: Site) -> Iterator[str]:
    """What nobody can tell."""
    for each in site.standings:
        if each.state == "unknown":
            yield f"{each.sink} cannot be read: {each.why}"
    if site.unread:
        yield f"a folder of the site cannot be walked: {site.unread}"
