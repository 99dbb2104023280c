"""Judge what receipts of erasure say. Pure: records and tiles in, findings out.

A receipt of form 2 says what was erased (class, range, count, times of the oldest and newest
entry), of which tree (size and root of the log's checkpoint) and by which rule (digest of the
policy, and the limits it sets). Erasing entries leaves every hash where it is, so size and root
are the tree *before* and *after* the deletion: the log must still lead to that root at that size.
Receipts of form 1 name a range only. They excuse a gap, but where rules are given, a receipt that
nobody can hold against a rule is a finding of its own.

How far a deletion can be proven to be on time: the entries are gone, so their times are the
controller's word, read before it erased them. What is left can contradict it. Entries of a log
are in the order of their times, so a range cannot be older than what stands before it, be that
an entry or another receipt, nor newer than what stands behind it. A checkpoint that somebody
else has dated narrows it further; without one, `CLOCK_SLACK` is what a lie can gain for each
entry that is left beside the gap.

`verify.py` asks `judged` of each log it judges; when a policy and a clock are given (`Rules`),
it asks for what is overdue too. What a policy demands is not a matter of integrity: a log with
such findings alone (`OF_RULES`) is intact, and its receipts count.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sovereign.audit import record, tiles
from sovereign.audit.merkle import HASH_BYTES, TILE_HEIGHT, TILE_WIDTH, Tree
from sovereign.errors import RecordInvalid

FORM = 2
"""The form of receipt written today; one without `form` is of form 1."""
CARRIED_OVER = "receipt-carried-over"
"""The rule of a receipt that stands in for one which was erased itself."""
CLOCK_SLACK = timedelta(days=1)
"""How far the times of neighbouring entries may disagree before it is a finding."""
HOLD = "hold"
"""The sink that held copies are erased from: a receipt for it names the hold as its item."""
DAY_S = 86_400

FINDINGS: dict[str, str] = {
    "erasure-early": "Entries were erased before their class allows it.",
    "erasure-late": "Entries were erased after their class allows it.",
    "erasure-overdue": "Entries are still there after their class allows it.",
    "receipt-differs": "A receipt does not fit the log, the policy or itself.",
    "erased-under-hold": "Held copies were erased while their hold was in force.",
    "hold-differs": "Held copies are not those whose hash was recorded.",
    "hold-overdue": "Held copies are still there after their hold ended.",
}
OF_RULES = frozenset(
    ("erasure-early", "erasure-late", "erasure-overdue", "erased-under-hold", "hold-overdue")
)
"""Findings that say a rule was broken, while every byte is what was signed."""

_WHOLE = frozenset(("class", "count", "from", "to", "policy", "min_days", "interval_hours"))
Found = tuple[str, str]
"""A code of `FINDINGS`, and where."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a class is kept; `max_days` is None for one that is kept without end."""

    min_days: int
    max_days: int | None
    interval_hours: int


NOT_KEPT = Limits(0, 0, 24)
"""What has no class may not be kept: silence in the policy means no."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The policy to judge by, as far as retention goes, and the aware time at which."""

    policy: str
    classes: Mapping[str, Limits]
    now: datetime

    def of(self, kept: str) -> Limits:
        """The limits of a class."""
        return self.classes.get(kept, NOT_KEPT)


@dataclass(frozen=True, slots=True)
class Told:
    """What a receipt of form 2 says beyond its range. Ages are those at the deletion."""

    kept: str
    count: int
    oldest: datetime
    newest: datetime
    youngest_s: int
    oldest_s: int
    policy: str
    limits: Limits
    size: int
    root: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an `erasure` record says: entries `first` to `last` of `log` are erased.

    `told` is None for form 1, and for one that claims a later form without what belongs to it:
    then `form` is not 1.
    """

    log: str
    first: int
    last: int
    record: str
    at: datetime | None = None
    rule: str = ""
    item: str = ""
    form: int = 1
    told: Told | None = None

    @property
    def giver(self) -> str:
        """The origin of the log that the receipt stands in."""
        return self.record.rpartition("#")[0]

    @property
    def where(self) -> str:
        """The receipt, and what it is about."""
        return f"{self.record} about {self.log}#{self.first} to #{self.last}"


@dataclass(frozen=True, slots=True)
class HoldEvent:
    """What a `hold-placed` or `hold-released` record says. `ends` is when it ends at the latest.

    The end of a placed hold is its expiry, of a released one the time of its release.
    """

    hold: str
    kind: str
    ends: datetime
    record: str


def receipt_of(content: Mapping[str, Any], name: str) -> Receipt:
    """The receipt in an `erasure` record that the table of records found well formed."""
    at = when(content["at"])
    form = content.get("form", 1)
    told = _told(content, at) if form == FORM and content.keys() >= _WHOLE else None
    return Receipt(
        log=content["log"],
        first=content["first"],
        last=content["last"],
        record=name,
        at=at,
        rule=content["rule"],
        item=content.get("item", ""),
        form=form,
        told=told,
    )


def _told(content: Mapping[str, Any], at: datetime) -> Told:
    oldest, newest = when(content["from"]), when(content["to"])
    return Told(
        kept=content["class"],
        count=content["count"],
        oldest=oldest,
        newest=newest,
        youngest_s=content.get("youngest_s", _seconds(at - newest)),
        oldest_s=content.get("oldest_s", _seconds(at - oldest)),
        policy=content["policy"],
        limits=Limits(content["min_days"], content.get("max_days"), content["interval_hours"]),
        size=content.get("size", 0),
        root=content.get("root", ""),
    )


def hold_event_of(content: Mapping[str, Any], name: str) -> HoldEvent:
    """What a well-formed `hold-placed` or `hold-released` record says."""
    ends = content["expires_at"] if content["type"] == "hold-placed" else content["at"]
    return HoldEvent(content["hold"], content["type"], when(ends), name)


def when(written: str) -> datetime:
    """An aware time as records hold it."""
    return datetime.fromisoformat(written.replace("Z", "+00:00")).astimezone(UTC)


def _seconds(age: timedelta) -> int:
    return int(age.total_seconds())


def fields_of(
    kept: str,
    limits: Limits,
    *,
    policy: str,
    first: int,
    last: int,
    oldest: str,
    newest: str,
    size: int = 0,
    root: str = "",
) -> dict[str, str | int]:
    """What belongs into a receipt of form 2, besides its log, range, rule and item.

    Args:
        oldest: time of the oldest entry erased, as records hold it; `newest` likewise.
        size, root: the log's checkpoint; left out for what is no log.
    """
    fields: dict[str, str | int] = {
        "form": FORM,
        "class": kept,
        "count": last - first + 1,
        "from": oldest,
        "to": newest,
        "policy": policy,
        "min_days": limits.min_days,
        "interval_hours": limits.interval_hours,
    }
    if limits.max_days is not None:
        fields["max_days"] = limits.max_days
    if root:
        fields |= {"size": size, "root": root}
    return fields


def carried(receipts: Iterable[Receipt]) -> Iterator[dict[str, str | int]]:
    """The receipts that stand in for these, as few as say the same: their fields.

    Neighbours under one policy and class become one, with the ages of the youngest and the
    oldest entry at their deletion, so that what can be judged of them stays so.
    """
    logs = (r for r in receipts if r.last >= r.first and "/" in r.log)
    pending: Receipt | None = None
    for receipt in sorted(logs, key=lambda r: (r.log, r.first, r.last)):
        joined = _joined(pending, receipt) if pending else None
        if joined is None and pending is not None:
            yield _carried_fields(pending)
        pending = joined or receipt
    if pending is not None:
        yield _carried_fields(pending)


def _joined(one: Receipt, two: Receipt) -> Receipt | None:
    """Both as one receipt, None when they are about different things, or one is to be blamed.

    An early deletion stays alone: beside one that had to go it would look like that one.
    """
    if one.log != two.log or two.first > one.last + 1 or (one.told is None) != (two.told is None):
        return None
    last = max(one.last, two.last)
    if one.told is None or two.told is None:
        return Receipt(one.log, one.first, last, one.record)
    a, b = one.told, two.told
    if (a.kept, a.policy, a.limits) != (b.kept, b.policy, b.limits):
        return None
    if _is_early(a) or _is_early(b):
        return None
    newer = max(a, b, key=lambda told: told.size)
    told = Told(
        kept=a.kept,
        count=last - one.first + 1,
        oldest=min(a.oldest, b.oldest),
        newest=max(a.newest, b.newest),
        youngest_s=min(a.youngest_s, b.youngest_s),
        oldest_s=max(a.oldest_s, b.oldest_s),
        policy=a.policy,
        limits=a.limits,
        size=newer.size,
        root=newer.root,
    )
    return Receipt(one.log, one.first, last, one.record, form=FORM, told=told)


def _carried_fields(receipt: Receipt) -> dict[str, str | int]:
    fields: dict[str, str | int] = {
        "log": receipt.log,
        "first": receipt.first,
        "last": receipt.last,
        "rule": CARRIED_OVER,
    }
    told = receipt.told
    if told is None:
        return fields
    ages = {"youngest_s": told.youngest_s, "oldest_s": told.oldest_s}
    return (
        fields
        | ages
        | fields_of(
            told.kept,
            told.limits,
            policy=told.policy,
            first=receipt.first,
            last=receipt.last,
            oldest=record.written(told.oldest),
            newest=record.written(told.newest),
            size=told.size,
            root=told.root,
        )
    )


class Asked:
    """A log's tiles and bundles, asked for one root or one time; the last answers are kept.

    `present` are the entries that are there, first and last of each bundle: no other is read,
    for a log may be far away and every question a round trip. None: whatever is asked for.
    """

    def __init__(
        self,
        read: Callable[[str], bytes | None],
        size: int,
        present: Iterable[tuple[int, int]] | None = None,
    ) -> None:
        self._read = read
        self._size = size
        self._there = None if present is None else {first // TILE_WIDTH for first, _ in present}
        self._roots: dict[int, bytes | None] = {}
        self._bundle: tuple[int, list[bytes]] = (-1, [])

    def root_at(self, size: int) -> bytes | None:
        """The root over the first `size` entries, None when a tile for it cannot be read."""
        if size not in self._roots:
            edge = [self._edge(level, size) for level in range(tiles.levels(size))]
            whole = all(hashes is not None for hashes in edge)
            tree = Tree(size, [hashes or [] for hashes in edge]) if whole else None
            self._roots[size] = tree.root() if tree else None
        return self._roots[size]

    def _edge(self, level: int, size: int) -> list[bytes] | None:
        """The hashes of a level that the tree of `size` entries has in its unfinished tile."""
        index, width = divmod(size >> (TILE_HEIGHT * level), TILE_WIDTH)
        if not width:
            return []
        there = tiles.width_of(level, index, self._size)
        tile = self._or_full(tiles.tile_path(level, index, there))
        hashes = tiles.split_hashes(tile or b"")[:width]
        good = len(hashes) == width and len(hashes[-1]) == HASH_BYTES
        return hashes if good else None

    def time_of(self, index: int) -> datetime | None:
        """When an entry was recorded; None when it is gone, or no record."""
        number, offset = divmod(index, TILE_WIDTH)
        if not 0 <= index < self._size:
            return None
        if self._there is not None and number not in self._there:
            return None
        if self._bundle[0] != number:
            self._bundle = number, self._entries(number)
        entries = self._bundle[1]
        try:
            return record.time_of(entries[offset]) if offset < len(entries) else None
        except RecordInvalid:
            return None

    def _entries(self, number: int) -> list[bytes]:
        width = tiles.width_of(0, number, self._size)
        bundle = self._or_full(tiles.bundle_path(number, width))
        try:
            return tiles.unpack(bundle or b"")
        except ValueError:
            return []

    def _or_full(self, path: str) -> bytes | None:
        found = self._read(path)
        full, partial, _ = path.partition(".p/")
        return self._read(full) if found is None and partial else found


# --- what verification asks ---------------------------------------------------------------------


def judged(
    origin: str,
    size: int,
    receipts: Iterable[Receipt],
    root_at: Callable[[int], bytes | None],
    time_of: Callable[[int], datetime | None],
    rules: Rules | None = None,
) -> Iterator[Found]:
    """Everything that is wrong with the receipts about one log.

    Args:
        size: entries of the log, as its checkpoint says.
        receipts: those that count for this log.
        root_at: the root over so many entries, out of the tiles; None when it cannot be told.
        time_of: when the entry with an index was recorded; None when it is gone.
        rules: what to judge lateness by; without it a receipt is held to its own limits.
    """
    found = sorted(receipts, key=lambda r: (r.first, r.last))
    for receipt in found:
        if receipt.form == 1:
            if rules is not None:  # it says nothing that a rule could be held against
                yield "receipt-differs", receipt.where
        elif _differs(receipt, origin, size, root_at, rules):
            yield "receipt-differs", receipt.where
        elif receipt.told is not None:
            yield from _early_or_late(receipt, receipt.told, rules)
    for receipt in _out_of_order(found, time_of):
        yield "receipt-differs", receipt.where


def _differs(
    receipt: Receipt,
    origin: str,
    size: int,
    root_at: Callable[[int], bytes | None],
    rules: Rules | None,
) -> bool:
    """Whether it contradicts itself, the log's tree or the policy it names."""
    told = receipt.told
    if told is None or receipt.at is None:
        return True  # of form 2 without what belongs to it, or of a form from the future
    own = receipt.rule == CARRIED_OVER or told.newest <= receipt.at
    if not own or told.oldest > told.newest or told.count != receipt.last - receipt.first + 1:
        return True
    if told.kept != origin.rpartition("/")[2] or not receipt.last < told.size <= size:
        return True
    if rules is not None and receipt.at - rules.now > CLOCK_SLACK:
        return True  # written by a clock that was ahead, or for one
    if rules is not None and rules.policy == told.policy and rules.of(told.kept) != told.limits:
        return True
    root = root_at(told.size)
    return root is not None and root.hex() != told.root


def _early_or_late(receipt: Receipt, told: Told, rules: Rules | None) -> Iterator[Found]:
    if _is_early(told):
        yield "erasure-early", receipt.where
    if rules is None or told.limits.max_days is None:
        return
    if told.oldest_s > told.limits.max_days * DAY_S + told.limits.interval_hours * 3600:
        yield "erasure-late", receipt.where


def _is_early(told: Told) -> bool:
    """The minimum gives way only to the maximum: what reached that had to go."""
    limits = told.limits
    forced = limits.max_days is not None and told.oldest_s >= limits.max_days * DAY_S
    return told.youngest_s < limits.min_days * DAY_S and not forced


def _out_of_order(
    receipts: list[Receipt], time_of: Callable[[int], datetime | None]
) -> Iterator[Receipt]:
    """Receipts that call a range older than what stands before it, or newer than what follows.

    Looks at one entry on each side, and at the receipts for everything before.
    """
    ended = sorted((r for r in receipts if r.told is not None), key=lambda r: r.last)
    floor: datetime | None = None
    passed = 0
    for receipt in receipts:
        if receipt.told is None:
            continue
        while passed < len(ended) and ended[passed].last < receipt.first:
            floor = _later(floor, _newest(ended[passed]))
            passed += 1
        before = time_of(receipt.first - 1) if receipt.first else None
        after = time_of(receipt.last + 1)
        earliest, told = _later(floor, before), receipt.told
        too_old = earliest is not None and earliest - told.newest > CLOCK_SLACK
        too_new = after is not None and told.oldest - after > CLOCK_SLACK
        if too_old or too_new:
            yield receipt


def _newest(receipt: Receipt) -> datetime:
    assert receipt.told is not None
    return receipt.told.newest


def _later(one: datetime | None, two: datetime | None) -> datetime | None:
    return two if one is None else one if two is None else max(one, two)


def overdue(
    kept: str,
    present: Iterable[tuple[int, int]],
    time_of: Callable[[int], datetime | None],
    rules: Rules,
) -> tuple[int, int] | None:
    """The first and last entry of the bundles that should be gone by now; None when none should.

    Bundles are in the order of their times: the first that is young enough ends the search.
    """
    limits = rules.of(kept)
    if limits.max_days is None:
        return None
    allowed = timedelta(days=limits.max_days, hours=limits.interval_hours)
    found: tuple[int, int] | None = None
    for first, last in sorted(present):
        began = time_of(first)
        if began is None:
            continue
        if rules.now - began <= allowed:
            break
        found = (found[0] if found else first, last)
    return found


def erased_under_hold(receipts: Iterable[Receipt], events: Iterable[HoldEvent]) -> Iterator[Found]:
    """Receipts for the copies of a hold that are older than the hold's end.

    A hold ends when it is released or when it expires, whichever is first.
    """
    placed: dict[str, datetime] = {}
    ends: dict[str, datetime] = {}
    for event in events:
        if event.kind == "hold-placed":
            placed[event.hold] = event.ends
        ends[event.hold] = min(event.ends, ends.get(event.hold, event.ends))
    for receipt in receipts:
        if receipt.log != HOLD or receipt.item not in placed or receipt.at is None:
            continue
        if receipt.at < ends[receipt.item]:
            yield "erased-under-hold", f"{receipt.record} about the hold {receipt.item}"
