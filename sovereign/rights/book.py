"""Read what was recorded of people's requests and restrictions, out of the operator's evidence.

It verifies nothing, as every reader: `sovereign audit verify` does. A `Book` that is kept reads on
from where it was. What cannot be read is named in `gaps`: a request may stand there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sovereign import fleet
from sovereign.audit import search
from sovereign.audit.search import Gap, Wanted
from sovereign.errors import UnknownName
from sovereign.rights.requests import TYPES, Entry, Request, replayed
from sovereign.settings import Home

LOG = ("operator", "evidence")
RESTRICTED, LIFTED = "subject-restricted", "subject-unrestricted"
CLOCK_SLACK = timedelta(seconds=60)
LISTED_MAX = 20


@dataclass(frozen=True, slots=True)
class Known:
    """Every request by its id, the ids of restrictions that stand, and why this may not be all."""

    requests: Mapping[str, Request]
    restricted: frozenset[str]
    gaps: tuple[str, ...] = ()
    newest: datetime | None = None

    def doubts(self, now: datetime) -> tuple[str, ...]:
        """Why an answer given at `now` may be wrong: gaps, and a clock that was moved back."""
        if self.newest is None or self.newest <= now + CLOCK_SLACK:
            return self.gaps
        behind = int((self.newest - now).total_seconds())
        return (*self.gaps, f"this clock is {behind} s behind the newest record")

    def named(self, name: str) -> Request:
        """The request of that id.

        Raises:
            UnknownName: there is none; the message says which there are.
        """
        if name not in self.requests:
            listed = ", ".join([*self.requests][-LISTED_MAX:])
            raise UnknownName(
                f"no request is called {name!r}",
                accepted=listed or "none: no request was received",
                next_step="sovereign subject requests --all",
            )
        return self.requests[name]


class Book:
    """The operator's evidence, read as far as it is published; `look` reads what came since."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._next = 0
        self._requests: list[Entry] = []
        self._restricted: set[str] = set()
        self._gaps: list[str] = []
        self._newest: datetime | None = None

    def look(self) -> Known:
        """Everything that is known now.

        Raises:
            OSError: the log could not be read, so nothing can be said.
        """
        members = [m for m in fleet.members(self._home) if (m.writer, m.stream) == LOG]
        for member in members:
            source = fleet.source(member)
            for found in search.search(source, Wanted(), range(self._next, source.size)):
                if isinstance(found, Gap):
                    self._gaps.append(found.name)
                else:
                    self._take(found)
            self._next = max(self._next, source.size)
        gaps = self._gaps if members else ["the operator has no log of evidence"]
        requests, restricted = replayed(self._requests), frozenset(self._restricted)
        return Known(requests, restricted, tuple(gaps), self._newest)

    def _take(self, found: search.Hit) -> None:
        kind, at = found.fields["type"], datetime.fromisoformat(found.fields["at"])
        self._newest = at if self._newest is None else max(at, self._newest)
        if kind in TYPES:
            self._requests.append(Entry(found.name, at, found.fields))
        elif kind == RESTRICTED:
            self._restricted.add(found.fields["restriction"])
        elif kind == LIFTED:
            self._restricted.discard(found.fields["restriction"])
