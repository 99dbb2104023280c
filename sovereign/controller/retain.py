"""Erase what the retention rules say must be gone, and keep the proof that it was on time.

Receipts come first, then we wait until they are published, and the deletions come last: a
crash in between leaves something that is still there although a receipt says otherwise, which
verification finds and the next run mends. The other order would leave a gap nobody can
explain. A receipt that is itself in a bundle to be erased is written again before, so that
what it excuses stays excused.
"""

import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta

from sovereign import eventlog, fleet, sinks
from sovereign.audit.trail import Recorded, Trail
from sovereign.errors import SovereignError
from sovereign.policy import Policy
from sovereign.retention import Erasure, Item, due
from sovereign.settings import Home

CARRIED_OVER = "receipt-carried-over"
RECORD_TIMEOUT_S = 10
POLL_S = 0.02
AGAIN_AFTER = timedelta(minutes=1)
"""Each try opens the quiet writers' logs, which is a record in each: not every five seconds."""
QUIET_WRITERS = ("operator",)
"""Writers that are no process of their own: nobody else would seal their bundles."""


class Retaining:
    """Runs at the start and then twice in the shortest interval of any class.

    Twice, so that what falls due just after a run is gone before its time is over.
    """

    def __init__(self, home: Home, policy: Policy, trail: Trail) -> None:
        self._home = home
        self._policy = policy
        self._trail = trail
        hours = min((kept.interval_hours for kept in policy.retention.values()), default=24)
        self._interval = timedelta(hours=hours)
        self._next: datetime | None = None
        self._receipts: Recorded | None = None

    def run_when_due(self, now: datetime) -> None:
        """Run if it is time; a run that fails is tried again after `AGAIN_AFTER`.

        Whatever it failed at, a log that cannot be read or a receipt that cannot be written,
        the rounds go on: an engine must not lose its attestation over it.
        """
        if self._next is not None and now < self._next:
            return
        try:
            self.run(now)
        except (SovereignError, OSError, TimeoutError) as error:
            eventlog.emit("retention-failed", exception=type(error).__name__)
            self._next = now + AGAIN_AFTER
            return
        self._next = now + self._interval / 2

    def run(self, now: datetime) -> tuple[Erasure, ...]:
        """Erase everything due; return what was.

        Raises:
            LogUnwritable, TimeoutError: a receipt is not acknowledged, so nothing more is erased.
            TileDamaged: a bundle cannot be read, so its age is not known. Nothing was erased.
            OSError: something could not be erased; its receipt stands, and the next run mends it.
        """
        self._seal_quiet_writers(now)
        found = list(sinks.items(self._home))
        erasures = due(self._policy, found, now)
        ready = [e for e in erasures if self._can_go(e.item)]
        for erasure in ready:
            self._receipt(erasure)
        self._wait_until_published()
        for erasure in ready:
            sinks.erase(erasure.item, self._home)
        self._trail.record(
            "retention-run", due=len(erasures), erased=len(ready), kept=len(found) - len(ready)
        ).result(RECORD_TIMEOUT_S)
        eventlog.emit("retention-run", due=len(erasures), erased=len(ready))
        return tuple(ready)

    def _receipt(self, erasure: Erasure) -> None:
        item = erasure.item
        if item.sink == sinks.PROCESS_LOG:
            self._record_erasure(item.sink, 0, 0, erasure.rule, item.id)
            return
        first, last = sinks.entries_of(item)
        self._carry_over(item, first, last)
        self._record_erasure(item.sink, first, last, erasure.rule, item.id)

    def _carry_over(self, item: Item, first: int, last: int) -> None:
        member = next(m for m in fleet.members(self._home) if m.origin == item.sink)
        inside = [r for _, r in fleet.records(member, first, last + 1) if r["type"] == "erasure"]
        for log, start, end in _merged((r["log"], r["first"], r["last"]) for r in inside):
            if log != sinks.PROCESS_LOG:
                self._record_erasure(log, start, end, CARRIED_OVER, "")

    def _record_erasure(self, log: str, first: int, last: int, rule: str, item: str) -> None:
        named = {"item": item} if item else {}
        self._receipts = self._trail.record(
            "erasure", log=log, first=first, last=last, rule=rule, **named
        ).result(RECORD_TIMEOUT_S)

    def _can_go(self, item: Item) -> bool:
        """An unfinished bundle, or one that is in its journal too, waits for its writer."""
        if item.sink == sinks.PROCESS_LOG:
            return True
        return sinks.is_whole_bundle(item) and sinks.is_settled(item, self._home)

    def _wait_until_published(self) -> None:
        """Return once everybody who verifies would see the receipts written so far."""
        if self._receipts is None:
            return
        origin, _, index = self._receipts.name.rpartition("#")
        member = next(m for m in fleet.members(self._home) if m.origin == origin)
        deadline = time.monotonic() + RECORD_TIMEOUT_S
        while (fleet.size_of(member) or 0) <= int(index):
            if time.monotonic() > deadline:
                raise TimeoutError("the receipts are not published")
            time.sleep(POLL_S)

    def _seal_quiet_writers(self, now: datetime) -> None:
        home = self._home
        for writer in QUIET_WRITERS:
            with (
                suppress(SovereignError, OSError),
                Trail.open(home.audit, home.keys, writer, home.settings.site, lambda: now) as trail,
            ):
                trail.seal_older(self._policy.bundle_spans())


def _merged(ranges: Iterable[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """The same entries in as few ranges as possible."""
    found: list[tuple[str, int, int]] = []
    for log, first, last in sorted(ranges):
        if found and found[-1][0] == log and first <= found[-1][2] + 1:
            found[-1] = (log, found[-1][1], max(last, found[-1][2]))
        else:
            found.append((log, first, last))
    return found
