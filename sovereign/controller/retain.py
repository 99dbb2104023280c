"""Decide when the retention rules are run, and run them a part in each round.

What a run does is in `erasing.py`. What is erased cannot be brought back, so a clock that jumps
ahead puts the next run off; and a run that takes long takes it from many rounds, for an engine must
not lose its attestation over it.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta

from sovereign import eventlog, sinks
from sovereign.audit.trail import Trail
from sovereign.controller import clock
from sovereign.controller.erasing import Batch, Erasing, Told
from sovereign.errors import SovereignError
from sovereign.policy import Policy
from sovereign.retention import Erasure
from sovereign.settings import Home

LEARNED_A_ROUND = 2_048
"""Bundles a round reads the times of: half a second, of the five that a round may take."""
ERASES_A_ROUND_S = 2.0
"""How long a round goes on with a run, but for the batch that is under way."""
BEFORE_SERVING_S = 20.0
"""Below the time for which an attestation is given: a restart shuts nobody out."""
AGAIN_AFTER = timedelta(minutes=1)
"""Each try opens the quiet writers' logs, which is a record in each: not every five seconds."""
JUMP = timedelta(hours=1)
"""More than any correction of a clock; a machine that slept counts its sleep."""


def ticks() -> float:
    """Seconds since the machine was started, its sleep included where the kernel tells."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Retaining:
    """Runs at the start and then twice in the shortest interval of any class.

    Twice, so that what falls due just after a run is gone before its time is over.

    What is erased cannot be brought back, so a clock that jumps ahead puts the next run off by
    half an interval: time to set it right, and still before anything outlives its maximum. A
    clock that is set back does not keep runs away until it is there again. And a clock that is
    far after the last run is not believed until somebody vouches for it (`clock.py`).
    """

    def __init__(
        self, home: Home, policy: Policy, trail: Trail, ticking: Callable[[], float] = ticks
    ) -> None:
        """`ticking` counts seconds that nobody can set.

        `ran_at` is when the last whole run began; `overdue` what a run of this process could not
        erase yet, None before the first; `doubt` what speaks against the clock, "" for nothing;
        `shutting` the classes of which something should be gone before anything is served.
        """
        self._home = home
        self._policy = policy
        self._ticking = ticking
        self._seen: tuple[datetime, float] | None = None
        hours = min((kept.interval_hours for kept in policy.retention.values()), default=24)
        self._interval = timedelta(hours=hours)
        self._next: datetime | None = None
        self._ages = sinks.Ages()
        self._erasing = Erasing(home, policy, trail, self._ages)
        self._under_way: Iterator[Batch] | None = None
        self._asking = clock.Asking(home)
        self._vouched_at: datetime | None = None
        self._knows_last = False
        self.ran_at: datetime | None = None
        self.overdue: int | None = None
        self.doubt = ""
        self.shutting: tuple[str, ...] = ()

    def before_serving(self, clock: Callable[[], datetime], is_stopped: Callable[[], bool]) -> None:
        """Begin with a run, before anything is vouched for; for at most `BEFORE_SERVING_S`.

        What a backup brought back that should be gone goes before it can be served. A run that
        is not whole by then goes on beside the rounds.
        """
        began = time.monotonic()
        while self._next is None and not self.doubt and not is_stopped():
            self.run_when_due(clock())
            if time.monotonic() - began > BEFORE_SERVING_S:
                return

    def run_when_due(self, now: datetime) -> None:
        """Go on with a run, or begin one if it is time; one that fails is tried again later.

        Whatever it failed at, a log that cannot be read or a receipt that cannot be written,
        the rounds go on: an engine must not lose its attestation over it.
        """
        if self._has_jumped(now):
            eventlog.emit("retention-put-off", reason="the clock jumped ahead")
            self._under_way = None
            self._next = now + self._interval / 2
        try:
            self._hear(now)
            if self._under_way is None and (not self._is_time(now) or self._is_doubted(now)):
                return
            if not self._ages.learn(self._home, LEARNED_A_ROUND):
                return
            if not self._went_on(now):
                return
        except (SovereignError, OSError, TimeoutError) as error:
            eventlog.emit("retention-failed", exception=type(error).__name__)
            self._under_way = None
            self._next = now + AGAIN_AFTER
            return
        self._under_way = None
        self._next = now + (AGAIN_AFTER if self.shutting else self._interval / 2)

    def _hear(self, now: datetime) -> None:
        """Take up what somebody asked for: a run now, perhaps with their word for the clock."""
        asked = self._asking.newest(now)
        if asked is not None:
            self._next = None
            self._vouched_at = asked.right_at or self._vouched_at

    def _is_doubted(self, now: datetime) -> bool:
        """Whether nothing may be erased on the word of this clock; said once a reason."""
        if not self._knows_last:
            self.ran_at, self._knows_last = clock.last_run(self._home), True
        last = max(filter(None, (self.ran_at, self._vouched_at)), default=None)
        found = clock.doubt(now, last, synchronised=clock.synchronised())
        if found.why and found.why != self.doubt:
            eventlog.emit("retention-put-off", reason=found.why)
            if found.stops:
                self.shutting = self._shuts(self._erasing.late(now))
        self.doubt = found.why
        return found.stops

    def _is_time(self, now: datetime) -> bool:
        return self._next is None or not now < self._next <= now + self._interval

    def _went_on(self, now: datetime) -> bool:
        """Do batches for as long as a round may take; True once the run is whole."""
        if self._under_way is None:
            self._under_way = self.batches(now)
        began = time.monotonic()
        while next(self._under_way, None) is not None:
            if time.monotonic() - began > ERASES_A_ROUND_S:
                return False
        return True

    def _has_jumped(self, now: datetime) -> bool:
        """Whether the clock went on by more than the time that passed since the last round."""
        last, self._seen = self._seen, (now, self._ticking())
        if last is None:
            return False
        passed_s = self._seen[1] - last[1]
        return now - last[0] - timedelta(seconds=passed_s) > JUMP

    def run(self, now: datetime) -> tuple[Erasure, ...]:
        """Erase everything due in one go; return what was. Raises as `Erasing.batches` does."""
        return tuple(each for batch in self.batches(now) for each in batch)

    def batches(self, now: datetime) -> Iterator[Batch]:
        """The same, a batch at a time; what is due is what is due at `now`, however long it takes.

        Raises:
            SovereignError, OSError, TimeoutError: as `Erasing.batches` says.
        """
        said = Told()
        yield from self._erasing.batches(now, said)
        self.ran_at, self.overdue = now, said.due - said.erased
        self.shutting = self._shuts(said.late)

    def _shuts(self, late: Mapping[str, int]) -> tuple[str, ...]:
        classes = self._policy.retention
        return tuple(sorted(k for k in late if k in classes and classes[k].before_serving))
