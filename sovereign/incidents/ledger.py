"""Read what was recorded of incidents out of the two logs that hold it.

It verifies nothing, as every reader here: `sovereign audit verify` does. It reads whole bundles and
takes apart only those in which a wanted type stands, so that a year of attestations costs a second
once; a `Ledger` that is kept reads on from where it was. Entries that are gone or cannot be read
are named in `gaps`: what is known then may not be all, and whoever shows it says so.
"""

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from sovereign import fleet
from sovereign.audit import record, tiles
from sovereign.audit.merkle import TILE_WIDTH
from sovereign.audit.scan import read_or_full
from sovereign.errors import RecordInvalid, UnknownName
from sovereign.incidents.case import OPENED, TYPES, Entry, Incident, applied, replayed
from sovereign.settings import Home

OPERATORS, CONTROLLERS = ("operator", "evidence"), ("controller", "evidence")
SHUT, FREED = "quarantine", "release"
READ = {OPERATORS: TYPES, CONTROLLERS: (OPENED, SHUT, FREED)}
"""Which types are read of which log."""
LISTED_MAX = 20
CLOCK_SLACK = timedelta(seconds=60)
"""So far two clocks of a site may be apart, and a clock may be put right, without a word."""


@dataclass(frozen=True, slots=True)
class Known:
    """Every incident by its id, oldest first; since when endpoints are shut; and what is missing.

    `shut` has the first `quarantine` record of each endpoint and code since its last release;
    `newest` is when the last of the records that were read was written.
    """

    incidents: Mapping[str, Incident]
    shut: Mapping[tuple[str, str], Entry]
    gaps: tuple[str, ...] = ()
    newest: datetime | None = None

    def doubts(self, now: datetime) -> tuple[str, ...]:
        """Why an answer given at `now` may be wrong: gaps, and a clock that was moved back.

        What was recorded cannot be in the future. Where it is, no time left can be believed.
        """
        if self.newest is None or self.newest <= now + CLOCK_SLACK:
            return self.gaps
        behind = int((self.newest - now).total_seconds())
        return (*self.gaps, f"this clock is {behind} s behind the newest record")

    def named(self, name: str) -> Incident:
        """The incident of that id.

        Raises:
            UnknownName: there is none; the message says which there are.
        """
        if name not in self.incidents:
            listed = ", ".join([*self.incidents][-LISTED_MAX:])
            raise UnknownName(
                f"no incident is called {name!r}",
                found=f"entries that cannot be read: {', '.join(self.gaps)}" if self.gaps else "",
                accepted=listed or "none: there is no incident",
                next_step="sovereign incident list",
            )
        return self.incidents[name]

    def after(self, kind: str, fields: Mapping[str, Any], at: datetime) -> "Known":
        """What would be known once this had been recorded at `at`; nothing is recorded."""
        entry = Entry("", at, {**fields, "type": kind})
        before = self.incidents.get(entry.fields["incident"])
        fresh = replayed([entry], []) if before is None else {before.id: applied(before, entry)}
        return replace(self, incidents={**self.incidents, **fresh})


class Ledger:
    """The two logs, read as far as they are published; `look` reads what has come since."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._next: dict[str, int] = {}
        self._entries: dict[tuple[str, str], list[Entry]] = {key: [] for key in READ}
        self._gaps: list[str] = []

    def look(self) -> Known:
        """Everything that is known now.

        Raises:
            OSError: a log could not be read, so nothing can be said.
        """
        for member in fleet.members(self._home):
            log = (member.writer, member.stream)
            if log in READ:
                self._entries[log] += self._read(member, READ[log])
        theirs, ours = self._entries[CONTROLLERS], self._entries[OPERATORS]
        openings = [each for each in (*theirs, *ours) if each.fields["type"] == OPENED]
        others = [each for each in ours if each.fields["type"] != OPENED]
        newest = max((each.at for each in (*theirs, *ours)), default=None)
        return Known(replayed(openings, others), shut_since(theirs), tuple(self._gaps), newest)

    def _read(self, member: fleet.Member, types: tuple[str, ...]) -> Iterator[Entry]:
        size, start = fleet.size_of(member) or 0, self._next.get(member.origin, 0)
        marks = tuple(f'"type":"{name}"'.encode() for name in types)
        for number in range(start // TILE_WIDTH, -(-size // TILE_WIDTH)):
            first, last = number * TILE_WIDTH, min((number + 1) * TILE_WIDTH, size)
            width = tiles.width_of(0, number, size)
            raw = read_or_full(fleet.reader(member.folder), tiles.bundle_path(number, width))
            if raw is None:
                self._gaps.append(f"{member.origin}#{max(first, start)}-{last - 1}")
            elif any(mark in raw for mark in marks):
                yield from self._unpacked(member.origin, raw, range(max(first, start), last), marks)
        self._next[member.origin] = max(size, start)

    def _unpacked(
        self, origin: str, raw: bytes, wanted: range, marks: tuple[bytes, ...]
    ) -> Iterator[Entry]:
        try:
            entries = tiles.unpack(raw)
        except ValueError:
            entries = []
        base = wanted.start - wanted.start % TILE_WIDTH
        for index in wanted:
            if index - base >= len(entries):
                self._gaps.append(f"{origin}#{index}-{wanted.stop - 1}")
                return
            content = entries[index - base]
            if any(mark in content for mark in marks):
                yield from self._entry(f"{origin}#{index}", content)

    def _entry(self, name: str, content: bytes) -> Iterator[Entry]:
        try:
            fields = record.parse(content)
        except RecordInvalid:
            self._gaps.append(name)
            return
        yield Entry(name, datetime.fromisoformat(fields["at"]), fields)


def shut_since(entries: list[Entry]) -> dict[tuple[str, str], Entry]:
    """The first record of each quarantine since the endpoint's last release, by it and its code."""
    found: dict[tuple[str, str], Entry] = {}
    for each in entries:
        if each.fields["type"] == SHUT:
            found.setdefault((each.fields["endpoint"], each.fields["code"]), each)
        elif each.fields["type"] == FREED:
            gone = [key for key in found if key[0] == each.fields["endpoint"]]
            for key in gone:
                del found[key]
    return found


def new_id() -> str:
    """The id of an incident that somebody opens."""
    return f"inc_{secrets.token_hex(6)}"


def id_of(trigger: str) -> str:
    """The id of the incident that a cause gives: the same cause, the same incident."""
    return f"inc_{sha256(trigger.encode()).hexdigest()[:12]}"
