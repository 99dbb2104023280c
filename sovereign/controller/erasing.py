"""One retention run over every sink of a site, in batches: receipts, a wait, deletions.

Receipts come first, then we wait until they are published, and the deletions come last: a
crash in between leaves something that is still there although a receipt says otherwise, which
verification finds and the next run mends. The other order would leave a gap nobody can
explain. A receipt that is itself in a bundle to be erased is written again before, so that
what it excuses stays excused.

A receipt says what was erased, of which tree and by which limits (`audit/erasures.py`), so that
verification can tell later whether it was on time.

A sink that cannot be read, or that refuses, holds up no other: it is counted, said, and asked again
by the next run. What a sink refuses after its receipt was written is recorded (`erasure-refused`).

A run looks at the names of all bundles, and into those it has not seen: their times never change.
Of other sinks it holds `LOOKED_AT_ONCE` items at a time, however many there are.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice

from sovereign import eventlog, fleet, holds, sinks
from sovereign.audit import erasures, record
from sovereign.audit import holds as held
from sovereign.audit.checkpoint import Checkpoint
from sovereign.audit.trail import Recorded, Trail
from sovereign.audit.verify import eraser_of
from sovereign.errors import SovereignError, TileMissing
from sovereign.policy import Policy
from sovereign.retention import Erasure, Item, due
from sovereign.settings import Home
from sovereign.sinks.model import NotErased, Sink
from sovereign.sinks.told import told

RECORD_TIMEOUT_S = 10
BATCH = 1_024
"""Receipts that wait to be acknowledged together, far below what a log lets wait."""
LOOKED_AT_ONCE = 4_096
"""Items of a sink that are held in memory together."""
POLL_S = 0.02
QUIET_WRITERS = ("operator",)
"""Writers that are no process of their own: nobody else would seal their bundles."""
Batch = tuple[Erasure, ...]


@dataclass(slots=True)
class Told:
    """How a run went: counts of items, and the sinks that could not be read, by name.

    `late` counts, by class, what is past its maximum by more than one interval and still there.
    """

    kept: int = 0
    due: int = 0
    erased: int = 0
    refused: int = 0
    unseen: set[str] = field(default_factory=set)
    late: Counter[str] = field(default_factory=Counter)


class Erasing:
    """What one run needs: the site, its rules, and the trail that receipts go into."""

    def __init__(self, home: Home, policy: Policy, trail: Trail, ages: sinks.Ages) -> None:
        self._home = home
        self._policy = policy
        self._trail = trail
        self._ages = ages

    def batches(self, now: datetime, said: Told) -> Iterator[Batch]:
        """Erase what is due at `now`, a batch each time the next one is asked for.

        Whoever stops asking stops between two batches; the next run does the rest.

        Args:
            said: filled in on the way, and whole once this has ended.

        Raises:
            LogUnwritable, TimeoutError: a receipt is not acknowledged, so nothing more is erased.
            TileDamaged: a bundle cannot be read, so its age is not known. Nothing was erased.
            OSError: a bundle could not be erased; its receipt stands, and the next run mends it.
        """
        self._seal_quiet_writers(now)
        yield from self._of_logs(now, said)
        yield from self._of_holds(now, said)
        for sink in sinks.of_site(self._home, self._policy):
            yield from self._of_sink(sink, now, said)
        counts = {"due": said.due, "erased": said.erased}
        more = {"kept": said.kept, "refused": said.refused, "unseen": len(said.unseen)}
        self._trail.record("retention-run", **counts, **more).result(RECORD_TIMEOUT_S)
        eventlog.emit("retention-run", **counts)

    def late(self, now: datetime) -> Counter[str]:
        """What is past its maximum by more than an interval at `now`, by class; erases nothing.

        Raises:
            TileDamaged, OSError: a log cannot be read.
        """
        said = Told()
        self._count_late(sinks.items(self._home, self._ages), now, said)
        return said.late

    # --- the logs -------------------------------------------------------------------------------

    def _of_logs(self, now: datetime, said: Told) -> Iterator[Batch]:
        found = list(sinks.items_of_logs(self._home, self._ages))
        erasures_due = due(self._policy, found, now)
        logs = {member.origin: member for member in fleet.members(self._home)}
        ready = _ready(erasures_due, logs)
        said.due += len(erasures_due)
        said.kept += len(found) - len(ready)
        self._count_late({e.item for e in erasures_due} - {e.item for e in ready}, now, said)
        for start in range(0, len(ready), BATCH):
            batch = tuple(ready[start : start + BATCH])
            self._wait_until_published(self._write_receipts(batch, logs), logs)
            for erasure in batch:
                sinks.erase(erasure.item, self._home)
            said.erased += len(batch)
            yield batch

    def _write_receipts(self, batch: Batch, logs: Mapping[str, fleet.Member]) -> Recorded | None:
        """Return the last one once all are acknowledged, None when there was none to write."""
        signed = {origin: _signed(logs[origin]) for origin in {e.item.sink for e in batch}}
        waiting: list[Future[Recorded]] = []
        for erasure in batch:
            waiting += self._receipts(erasure, logs[erasure.item.sink], signed[erasure.item.sink])
        return _acknowledged(waiting)

    def _receipts(
        self, erasure: Erasure, member: fleet.Member, signed: Checkpoint
    ) -> list[Future[Recorded]]:
        """Write the receipt for a bundle, and again those that stand in it."""
        item = erasure.item
        first, last = sinks.entries_of(item)
        inside = _inside(member, first, last) if item.sink == eraser_of(item.sink) else []
        again = [self._trail.record("erasure", **fields) for fields in inside]
        return [*again, self._receipt(erasure, item.id, first, last, signed)]

    def _receipt(
        self, erasure: Erasure, name: str, first: int, last: int, signed: Checkpoint | None = None
    ) -> Future[Recorded]:
        item = erasure.item
        kept = self._policy.retention.get(item.retention_class)
        fields = erasures.fields_of(
            item.retention_class,
            sinks.limits_of(kept) if kept else erasures.NOT_KEPT,
            policy=self._policy.digest,
            first=first,
            last=last,
            oldest=record.written(item.oldest),
            newest=record.written(item.newest),
            size=signed.size if signed else 0,
            root=signed.root.hex() if signed else "",
        )
        named = {"log": item.sink, "rule": erasure.rule, "item": name}
        return self._trail.record("erasure", first=first, last=last, **named, **fields)

    def _wait_until_published(
        self, last: Recorded | None, logs: Mapping[str, fleet.Member] | None = None
    ) -> None:
        """Return once everybody who verifies would see the receipts up to this one."""
        if last is None:
            return
        origin = last.name.rpartition("#")[0]
        known = logs or {member.origin: member for member in fleet.members(self._home)}
        deadline = time.monotonic() + RECORD_TIMEOUT_S
        while (fleet.size_of(known[origin]) or 0) <= last.index:
            if time.monotonic() > deadline:
                raise TimeoutError("the receipts are not published")
            time.sleep(POLL_S)

    def _seal_quiet_writers(self, now: datetime) -> None:
        for writer in QUIET_WRITERS:
            with suppress(SovereignError, OSError), self._opened(writer, now) as trail:
                trail.seal_older(self._policy.bundle_spans())

    def _opened(self, writer: str, now: datetime) -> Trail:
        home = self._home
        site = home.settings.site
        return Trail.open(home.audit, home.keys, writer, site, lambda: now, trust=home.trust)

    # --- the copies of holds that are over ------------------------------------------------------

    def _of_holds(self, now: datetime, said: Told) -> Iterator[Batch]:
        ended = holds.ended(self._home, now)
        said.due += len(ended)
        self._wait_until_published(
            _acknowledged(
                self._trail.record("erasure", **held.receipt_of(hold, rule, self._policy.digest))
                for hold, rule in ended
            )
        )
        for hold, _ in ended:
            holds.erase(self._home, hold.hold)
            said.erased += 1
        yield ()

    # --- every other sink -----------------------------------------------------------------------

    def _of_sink(self, sink: Sink, now: datetime, said: Told) -> Iterator[Batch]:
        reasons: Counter[str] = Counter()
        for some in self._looked_at(sink, said):
            found = due(self._policy, some, now)
            ready = [each for each in found if not _refused(sink, each.item, reasons)]
            went: set[Item] = set()
            for start in range(0, len(ready), BATCH):
                batch = self._erase_of(sink, ready[start : start + BATCH], reasons)
                went |= {each.item for each in batch}
                yield batch
            said.due += len(found)
            said.erased += len(went)
            said.kept += len(some) - len(went)
            self._count_late((item for item in some if item not in went), now, said)
            yield ()
        said.refused += reasons.total()
        for reason, items in sorted(reasons.items()):
            eventlog.emit("retention-refused", sink=sink.name, items=items, reason=reason)

    def _looked_at(self, sink: Sink, said: Told) -> Iterator[list[Item]]:
        """Its items, so many at a time; one that cannot be read is counted as unseen."""
        try:
            sink.settle()
            seen = sink.look()
            if seen.state == "unknown":
                raise OSError(seen.why)
            items = sink.items() if seen.state == "present" else iter(())
            while some := list(islice(items, LOOKED_AT_ONCE)):
                yield some
        except (SovereignError, OSError, NotErased) as error:
            said.unseen.add(sink.name)
            eventlog.emit("retention-unseen", sink=sink.name, exception=type(error).__name__)

    def _erase_of(self, sink: Sink, ready: list[Erasure], reasons: Counter[str]) -> Batch:
        """One batch of a sink: receipts, the wait, deletions; return what it did erase."""
        names = [told(each.item.id, plain=sink.plain) for each in ready]
        receipts = [self._receipt(e, name, 0, 0) for e, name in zip(ready, names, strict=True)]
        self._wait_until_published(_acknowledged(receipts))
        went = []
        for each, name in zip(ready, names, strict=True):
            try:
                sink.erase(each.item)
                went.append(each)
            except (NotErased, OSError) as error:
                reason = str(error) if isinstance(error, NotErased) else type(error).__name__
                reasons[reason] += 1
                self._take_back(each, name, reason)
        sink.sync()
        return tuple(went)

    def _take_back(self, erasure: Erasure, name: str, reason: str) -> None:
        """Record that what a receipt calls erased is still there."""
        named = {"log": erasure.item.sink, "rule": erasure.rule, "item": name, "reason": reason}
        self._trail.record("erasure-refused", **named).result(RECORD_TIMEOUT_S)

    def _count_late(self, left: Iterable[Item], now: datetime, said: Told) -> None:
        for item in left:
            kept = self._policy.retention.get(item.retention_class)
            limits = sinks.limits_of(kept) if kept else erasures.NOT_KEPT
            if limits.max_days is None or item.held:
                continue
            allowed = timedelta(days=limits.max_days, hours=limits.interval_hours)
            if now - item.oldest > allowed:
                said.late[item.retention_class] += 1


def _refused(sink: Sink, item: Item, reasons: Counter[str]) -> bool:
    """Whether it is known before that the sink would not erase it; then it gets no receipt."""
    reason = sink.refusal(item)
    if reason:
        reasons[reason] += 1
    return bool(reason)


def _acknowledged(waiting: Iterable[Future[Recorded]]) -> Recorded | None:
    """The last of these records once all are acknowledged; None when there are none."""
    done = [future.result(RECORD_TIMEOUT_S) for future in list(waiting)]
    return done[-1] if done else None


def _ready(found: Batch, logs: Mapping[str, fleet.Member]) -> list[Erasure]:
    """Those that can go: an unfinished bundle, or one that is in its journal too, waits."""
    base = {origin: sinks.settled(logs[origin]) for origin in {each.item.sink for each in found}}
    return [
        each
        for each in found
        if sinks.is_whole_bundle(each.item)
        and sinks.entries_of(each.item)[1] < base[each.item.sink]
    ]


def _inside(member: fleet.Member, first: int, last: int) -> list[dict[str, str | int]]:
    """The receipts among these entries, as they are written again."""
    found = fleet.records(member, first, last + 1)
    receipts = [
        erasures.receipt_of(r, f"{member.origin}#{i}") for i, r in found if r["type"] == "erasure"
    ]
    return list(erasures.carried(receipts))


def _signed(member: fleet.Member) -> Checkpoint:
    """The log's checkpoint: its tree is the same before and after entries are erased.

    Raises:
        TileMissing: there is none that the log's key signed. Nothing may be erased unproven.
    """
    signed = fleet.checkpoint_of(member)
    if signed is None:
        raise TileMissing(f"{member.origin} has no checkpoint that its key signed")
    return signed
