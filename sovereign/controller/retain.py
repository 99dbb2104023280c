"""Erase what the retention rules say must be gone, and keep the proof that it was on time.

The copies of a legal hold go when the hold is over, the same way.

Receipts come first, then we wait until they are published, and the deletions come last: a
crash in between leaves something that is still there although a receipt says otherwise, which
verification finds and the next run mends. The other order would leave a gap nobody can
explain. A receipt that is itself in a bundle to be erased is written again before, so that
what it excuses stays excused.

A receipt says what was erased, of which tree and by which limits (`audit/erasures.py`), so that
verification can tell later whether it was on time.

A run looks at the names of all bundles, and into those it has not seen: their times never
change. What a controller that starts has to read, it reads a part of in each round.
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime, timedelta

from sovereign import eventlog, fleet, holds, sinks
from sovereign.audit import erasures, record
from sovereign.audit import holds as held
from sovereign.audit.checkpoint import Checkpoint
from sovereign.audit.holds import Facts
from sovereign.audit.trail import Recorded, Trail
from sovereign.audit.verify import eraser_of
from sovereign.errors import SovereignError, TileMissing
from sovereign.policy import Policy
from sovereign.retention import Erasure, due
from sovereign.settings import Home

RECORD_TIMEOUT_S = 10
RECEIPTS_AT_ONCE = 1_024
"""Receipts that wait to be acknowledged together, far below what a log lets wait."""
LEARNED_A_ROUND = 2_048
"""Bundles a round reads the times of: half a second, of the five that a round may take."""
POLL_S = 0.02
AGAIN_AFTER = timedelta(minutes=1)
"""Each try opens the quiet writers' logs, which is a record in each: not every five seconds."""
JUMP = timedelta(hours=1)
"""More than any correction of a clock; a machine that slept counts its sleep."""
QUIET_WRITERS = ("operator",)
"""Writers that are no process of their own: nobody else would seal their bundles."""


def ticks() -> float:
    """Seconds since the machine was started, its sleep included where the kernel tells."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Retaining:
    """Runs at the start and then twice in the shortest interval of any class.

    Twice, so that what falls due just after a run is gone before its time is over.

    What is erased cannot be brought back, so a clock that jumps ahead puts the next run off by
    half an interval: time to set it right, and still before anything outlives its maximum. A
    clock that is set back does not keep runs away until it is there again.
    """

    def __init__(
        self, home: Home, policy: Policy, trail: Trail, ticking: Callable[[], float] = ticks
    ) -> None:
        """`ticking` counts seconds that nobody can set.

        `ran_at` is when the last whole run was, `overdue` what it could not erase yet.
        """
        self._home = home
        self._ticking = ticking
        self._seen: tuple[datetime, float] | None = None
        self._policy = policy
        self._trail = trail
        hours = min((kept.interval_hours for kept in policy.retention.values()), default=24)
        self._interval = timedelta(hours=hours)
        self._next: datetime | None = None
        self._ages = sinks.Ages()
        self.ran_at: datetime | None = None
        self.overdue = 0

    def run_when_due(self, now: datetime) -> None:
        """Run if it is time; a run that fails is tried again after `AGAIN_AFTER`.

        Whatever it failed at, a log that cannot be read or a receipt that cannot be written,
        the rounds go on: an engine must not lose its attestation over it.
        """
        if self._has_jumped(now):
            eventlog.emit("retention-put-off", reason="the clock jumped ahead")
            self._next = now + self._interval / 2
        if self._next is not None and now < self._next <= now + self._interval:
            return
        try:
            if not self._ages.learn(self._home, LEARNED_A_ROUND):
                return
            self.run(now)
        except (SovereignError, OSError, TimeoutError) as error:
            eventlog.emit("retention-failed", exception=type(error).__name__)
            self._next = now + AGAIN_AFTER
            return
        self._next = now + self._interval / 2

    def _has_jumped(self, now: datetime) -> bool:
        """Whether the clock went on by more than the time that passed since the last round."""
        last, self._seen = self._seen, (now, self._ticking())
        if last is None:
            return False
        passed_s = self._seen[1] - last[1]
        return now - last[0] - timedelta(seconds=passed_s) > JUMP

    def run(self, now: datetime) -> tuple[Erasure, ...]:
        """Erase everything due; return what was.

        Raises:
            LogUnwritable, TimeoutError: a receipt is not acknowledged, so nothing more is erased.
            TileDamaged: a bundle cannot be read, so its age is not known. Nothing was erased.
            OSError: something could not be erased; its receipt stands, and the next run mends it.
        """
        self._seal_quiet_writers(now)
        found = list(sinks.items(self._home, self._ages))
        erasures_due = due(self._policy, found, now)
        ended = holds.ended(self._home, now)
        logs = {member.origin: member for member in fleet.members(self._home)}
        ready = _ready(erasures_due, logs)
        written = self._write_receipts(ready, logs), self._write_hold_receipts(ended)
        self._wait_until_published([each for each in written if each is not None], logs)
        for erasure in ready:
            sinks.erase(erasure.item, self._home)
        for hold, _ in ended:
            holds.erase(self._home, hold.hold)
        counts = {"due": len(erasures_due) + len(ended), "erased": len(ready) + len(ended)}
        kept = len(found) - len(ready)
        self._trail.record("retention-run", kept=kept, **counts).result(RECORD_TIMEOUT_S)
        eventlog.emit("retention-run", **counts)
        self.ran_at, self.overdue = now, counts["due"] - counts["erased"]
        return tuple(ready)

    def _write_receipts(
        self, ready: list[Erasure], logs: Mapping[str, fleet.Member]
    ) -> Recorded | None:
        """Return the last one once all are acknowledged, None when there was none to write."""
        signed = {
            origin: _signed(logs[origin])
            for origin in {e.item.sink for e in ready if e.item.sink != sinks.PROCESS_LOG}
        }
        last: Recorded | None = None
        for start in range(0, len(ready), RECEIPTS_AT_ONCE):
            waiting: list[Future[Recorded]] = []
            for erasure in ready[start : start + RECEIPTS_AT_ONCE]:
                waiting += self._receipts(erasure, logs, signed)
            last = [future.result(RECORD_TIMEOUT_S) for future in waiting][-1]
        return last

    def _write_hold_receipts(self, ended: list[tuple[Facts, str]]) -> Recorded | None:
        """The same for the copies of holds that are over."""
        waiting = [
            self._trail.record("erasure", **held.receipt_of(hold, rule, self._policy.digest))
            for hold, rule in ended
        ]
        return [future.result(RECORD_TIMEOUT_S) for future in waiting][-1] if waiting else None

    def _receipts(
        self, erasure: Erasure, logs: Mapping[str, fleet.Member], signed: Mapping[str, Checkpoint]
    ) -> list[Future[Recorded]]:
        """Write the receipt for an item, and again those that stand in it."""
        item = erasure.item
        if item.sink == sinks.PROCESS_LOG:
            return [self._receipt(erasure, 0, 0)]
        first, last = sinks.entries_of(item)
        holds_receipts = item.sink == eraser_of(item.sink)
        inside = _inside(logs[item.sink], first, last) if holds_receipts else []
        again = [self._trail.record("erasure", **fields) for fields in inside]
        return [*again, self._receipt(erasure, first, last, signed[item.sink])]

    def _receipt(
        self, erasure: Erasure, first: int, last: int, signed: Checkpoint | None = None
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
        named = {"log": item.sink, "rule": erasure.rule, "item": item.id}
        return self._trail.record("erasure", first=first, last=last, **named, **fields)

    def _wait_until_published(
        self, receipts: list[Recorded], logs: Mapping[str, fleet.Member]
    ) -> None:
        """Return once everybody who verifies would see the receipts up to these."""
        if not receipts:
            return
        last = max(receipts, key=lambda receipt: receipt.index)
        member = logs[last.name.rpartition("#")[0]]
        deadline = time.monotonic() + RECORD_TIMEOUT_S
        while (fleet.size_of(member) or 0) <= last.index:
            if time.monotonic() > deadline:
                raise TimeoutError("the receipts are not published")
            time.sleep(POLL_S)

    def _seal_quiet_writers(self, now: datetime) -> None:
        for writer in QUIET_WRITERS:
            with (
                suppress(SovereignError, OSError),
                self._opened(writer, now) as trail,
            ):
                trail.seal_older(self._policy.bundle_spans())

    def _opened(self, writer: str, now: datetime) -> Trail:
        home = self._home
        site = home.settings.site
        return Trail.open(home.audit, home.keys, writer, site, lambda: now, trust=home.trust)


def _ready(found: tuple[Erasure, ...], logs: Mapping[str, fleet.Member]) -> list[Erasure]:
    """Those that can go: an unfinished bundle, or one that is in its journal too, waits."""
    sinks_due = {erasure.item.sink for erasure in found}
    base = {origin: sinks.settled(logs[origin]) for origin in sinks_due & logs.keys()}
    return [erasure for erasure in found if _can_go(erasure, base)]


def _can_go(erasure: Erasure, base: Mapping[str, int]) -> bool:
    item = erasure.item
    if item.sink == sinks.PROCESS_LOG:
        return True
    return sinks.is_whole_bundle(item) and sinks.entries_of(item)[1] < base[item.sink]


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
