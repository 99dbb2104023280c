"""Find records in a log: which bundles to read, which records match, and what is not there.

Reading verifies nothing; `verify.py` does. It holds one bundle at a time, whatever the log's
size: a range of time is found by binary search over the bundles' first records, and a bundle
in which a wanted value does not occur is not taken apart. The newest records are read from
the end.

Rules that hold everywhere below:
  * Nothing is skipped in silence. Entries that are gone, or are no records, come out as a
    `Gap` in their place.
  * Records are nearly in the order of their times: `CLOCK_MARGIN` is how far a clock may have
    been set back without a record being missed. A search by number does not depend on it.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

import msgspec

from sovereign.audit import bulk, record, tiles
from sovereign.audit.erasures import Receipt, receipt_of
from sovereign.audit.merkle import TILE_WIDTH
from sovereign.audit.scan import Read, read_or_full
from sovereign.errors import RecordInvalid

CLOCK_MARGIN = timedelta(hours=1)
"""Bundles this far outside a wanted time are read too: a clock is set back by less than that."""

_EQUAL = ("tenant", "verdict", "rule", "type")
"""Fields that hold what is asked for, word for word."""


@dataclass(frozen=True, slots=True)
class Source:
    """A log as it is read: its first `size` entries."""

    origin: str
    size: int
    read: Read

    @property
    def bundles(self) -> int:
        """How many bundles those entries stand in."""
        return -(-self.size // TILE_WIDTH)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a record must be; None asks for nothing.

    `since` is included and `until` is not. `decision` is the index of a decision: that record
    and the completion that names it. `first` and `last` are indexes, both included. `about`
    says whether a record is of that `subject`, which may be sealed under a key of theirs;
    without it only pseudonyms in the clear are found.
    """

    since: datetime | None = None
    until: datetime | None = None
    tenant: str | None = None
    verdict: str | None = None
    rule: str | None = None
    subject: str | None = None
    type: str | None = None
    decision: int | None = None
    first: int | None = None
    last: int | None = None
    about: Callable[[Mapping[str, Any]], bool] | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """Which of them are asked for, by name and without their values."""
        names = (each.name for each in fields(self) if each.name != "about")
        return tuple(name for name in names if getattr(self, name) is not None)

    def needles(self) -> tuple[bytes, ...]:
        """What must occur in the bytes of a record that matches, as canonical JSON writes it."""
        asked = ((name, getattr(self, name)) for name in _EQUAL)
        exact = tuple(_pair(name, value) for name, value in asked if value is not None)
        return exact if self.subject is None else (*exact, b'"subject":')

    def matches(self, index: int, found: dict[str, Any]) -> bool:
        """Whether the record at `index` is one of those."""
        if not self.is_in_time(found["at"]):
            return False
        if self.decision is not None and not self._is_of_decision(index, found):
            return False
        if self.subject is not None and not self._is_about(found):
            return False
        return all(
            found.get(name) == getattr(self, name)
            for name in _EQUAL
            if getattr(self, name) is not None
        )

    def _is_of_decision(self, index: int, found: dict[str, Any]) -> bool:
        """The decision itself, or what says how it ended."""
        itself = index == self.decision and found["type"] == "decision"
        return itself or found.get("decision") == self.decision

    def is_in_time(self, at: str) -> bool:
        """Whether a record of this time may be one of those."""
        if self.since is not None and at < record.written(self.since):
            return False
        return self.until is None or at < record.written(self.until)

    def _is_about(self, found: dict[str, Any]) -> bool:
        return self.about(found) if self.about else found.get("subject") == self.subject


@dataclass(frozen=True, slots=True)
class Hit:
    """A record that matches."""

    origin: str
    index: int
    fields: dict[str, Any]

    @property
    def name(self) -> str:
        """`ORIGIN#INDEX`."""
        return f"{self.origin}#{self.index}"


@dataclass(frozen=True, slots=True)
class Gap:
    """Entries that cannot be shown: `gone`, because their bundle is, or `unreadable`."""

    origin: str
    first: int
    last: int
    state: str

    @property
    def name(self) -> str:
        """`ORIGIN#FIRST-LAST`."""
        last = "" if self.first == self.last else f"-{self.last}"
        return f"{self.origin}#{self.first}{last}"


Found = Hit | Gap


def _pair(name: str, value: str) -> bytes:
    return msgspec.json.encode(name) + b":" + msgspec.json.encode(value)


# --- which entries -------------------------------------------------------------------------


def span(source: Source, wanted: Wanted) -> range:
    """The indexes among which every match lies; costs a few reads however long the log is."""
    start, end = 0, source.size
    if wanted.since is not None:
        begun = last_begun_before(source, wanted.since - CLOCK_MARGIN)
        start = max(0, begun) * TILE_WIDTH
    if wanted.until is not None:
        end = min(end, bundles_until(source, wanted.until + CLOCK_MARGIN) * TILE_WIDTH)
    if wanted.decision is not None:  # what completes a decision comes after it
        start = max(start, wanted.decision)
    if wanted.first is not None:
        start = max(start, wanted.first)
    if wanted.last is not None:
        end = min(end, wanted.last + 1)
    return range(min(start, source.size), max(min(start, source.size), end))


def last_begun_before(source: Source, time: datetime) -> int:
    """The newest bundle that is there and whose first record is older; -1 for none."""
    limit, found, low, high = record.written(time), -1, 0, source.bundles
    while low < high:
        middle = (low + high) // 2
        number, began = _next_begun(source, middle, high)
        if number < high and began < limit:
            found, low = number, number + 1
        else:
            high = middle
    return found


def bundles_until(source: Source, time: datetime) -> int:
    """How many bundles to read to have everything older; what is gone there counts as older."""
    last = last_begun_before(source, time)
    if reaches(source, last, time):
        return last + 1
    return _next_there(source, last + 1, source.bundles)


def reaches(source: Source, number: int, time: datetime) -> bool:
    """Whether the last record of a bundle that is there is of this time or later."""
    entries = _entries(source, number) if number >= 0 else []
    return bool(entries) and _time_of(entries[-1]) >= record.written(time)


def _next_begun(source: Source, start: int, end: int) -> tuple[int, str]:
    """The first bundle from `start` on that says when it began; `end` for none."""
    for number in range(start, end):
        entries = _entries(source, number)
        began = _time_of(entries[0]) if entries else ""
        if began:
            return number, began
    return end, ""


def _time_of(entry: bytes) -> str:
    """When an entry was recorded, "" when it is no record."""
    try:
        return str(record.parse(entry)["at"])
    except RecordInvalid:
        return ""


def _next_there(source: Source, start: int, end: int) -> int:
    return next((n for n in range(start, end) if _bundle(source, n) is not None), end)


# --- reading -------------------------------------------------------------------------------


def search(source: Source, wanted: Wanted, within: range) -> Iterator[Found]:
    """Every match among the entries `within`, and every gap there, oldest first."""
    numbers = range(within.start // TILE_WIDTH, -(-within.stop // TILE_WIDTH))
    needles = wanted.needles()
    parts = (_of_bundle(source, number, wanted, needles, within) for number in numbers)
    return _joined(chain.from_iterable(parts))


def newest(source: Source, wanted: Wanted, within: range, number: int) -> list[Found]:
    """The last `number` matches and the gaps after the first of them, oldest first.

    Reads from the end, so that it costs nothing how long the log is.
    """
    needles = wanted.needles()
    kept: deque[Found] = deque()
    lacking = number
    for each in reversed(range(within.start // TILE_WIDTH, -(-within.stop // TILE_WIDTH))):
        for found in reversed(list(_of_bundle(source, each, wanted, needles, within))):
            if lacking == 0:
                break
            kept.appendleft(found)
            lacking -= isinstance(found, Hit)
        if lacking == 0:
            break
    return list(_joined(kept))


def merged(logs: Iterable[Iterable[Found]]) -> Iterator[Found]:
    """What several logs hold, by time; a gap stands after what precedes it in its own log."""
    return (found for _, found in heapq.merge(*map(_timed, logs), key=lambda pair: pair[0]))


def receipts(eraser: Source) -> Iterator[Receipt]:
    """Every receipt of an erasure in the log that holds them."""
    everything = range(eraser.size)
    for found in search(eraser, Wanted(type="erasure"), everything):
        if isinstance(found, Hit):
            yield receipt_of(found.fields, found.name)


def _timed(log: Iterable[Found]) -> Iterator[tuple[str, Found]]:
    at = ""
    for found in log:
        if isinstance(found, Hit):
            at = str(found.fields["at"])
        yield at, found


def _of_bundle(
    source: Source, number: int, wanted: Wanted, needles: tuple[bytes, ...], within: range
) -> Iterator[Found]:
    first = max(number * TILE_WIDTH, within.start)
    last = min((number + 1) * TILE_WIDTH, within.stop) - 1
    bundle = _bundle(source, number)
    if bundle is None:
        yield Gap(source.origin, first, last, "gone")
        return
    if not all(needle in bundle for needle in needles):
        return
    entries = _unpacked(bundle)
    if len(entries) <= last - number * TILE_WIDTH:
        yield Gap(source.origin, first, last, "unreadable")
        return
    asked = ((index, entries[index - number * TILE_WIDTH]) for index in range(first, last + 1))
    likely = [(index, e) for index, e in asked if all(needle in e for needle in needles)]
    yield from _of_entries(source.origin, likely, wanted)


def _of_entries(origin: str, likely: list[tuple[int, bytes]], wanted: Wanted) -> Iterator[Found]:
    """The matches among these; all are looked at together where that is possible."""
    entries = [entry for _, entry in likely]
    checked = bulk.check(entries, origin.rpartition("/")[2], ()) if entries else None
    if checked is None:
        for index, entry in likely:
            yield from _of_entry(origin, index, entry, wanted)
        return
    for place, (index, entry) in enumerate(likely):
        if not wanted.is_in_time(checked.times[place]):
            continue
        found = msgspec.json.decode(entry)
        if wanted.matches(index, found):
            yield Hit(origin, index, found)


def _of_entry(origin: str, index: int, entry: bytes, wanted: Wanted) -> Iterator[Found]:
    try:
        found = record.parse(entry)
    except RecordInvalid:
        yield Gap(origin, index, index, "unreadable")
        return
    if wanted.matches(index, found):
        yield Hit(origin, index, found)


def _joined(parts: Iterable[Found]) -> Iterator[Found]:
    """Gaps of one state that touch become one."""
    held: Gap | None = None
    for found in parts:
        if held is not None and isinstance(found, Gap) and _touch(held, found):
            held = Gap(held.origin, held.first, found.last, held.state)
            continue
        if held is not None:
            yield held
        held = found if isinstance(found, Gap) else None
        if held is None:
            yield found
    if held is not None:
        yield held


def _touch(one: Gap, next_one: Gap) -> bool:
    return one.state == next_one.state and one.last + 1 == next_one.first


def _entries(source: Source, number: int) -> list[bytes]:
    bundle = _bundle(source, number)
    return [] if bundle is None else _unpacked(bundle)


def _unpacked(bundle: bytes) -> list[bytes]:
    """The entries of a bundle, none when it cannot be taken apart."""
    try:
        return tiles.unpack(bundle)
    except ValueError:
        return []


def _bundle(source: Source, number: int) -> bytes | None:
    width = tiles.width_of(0, number, source.size)
    return read_or_full(source.read, tiles.bundle_path(number, width))
