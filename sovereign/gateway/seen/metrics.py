"""Count what calls came to. Plain numbers here; `exposition.py` turns them into Prometheus' text.

Only the event loop writes here, so nothing is locked: a call costs a few microseconds. A family has
at most `SERIES_MAX` series; what comes beyond is counted under `other`.
"""

from bisect import bisect_left
from time import perf_counter
from typing import TYPE_CHECKING

from sovereign.gateway.seen.course import ANSWERED, NONE, Course
from sovereign.gateway.seen.families import (
    APPEND,
    COUNTED,
    DURATION,
    FIRST_TOKEN,
    MOVES,
    OPERATIONS,
    PER_TOKEN,
    REQUESTS,
    USAGE,
    WAIT,
    Family,
)

if TYPE_CHECKING:
    from sovereign.gateway.call import Call

SERIES_MAX = 2_000
OTHER = "other"
Labels = tuple[str, ...]


class Counts:
    """A family of counters."""

    def __init__(self) -> None:
        self.of: dict[Labels, int] = {}

    def add(self, labels: Labels) -> None:
        """Count one more."""
        try:
            self.of[labels] += 1
        except KeyError:
            kept = labels if len(self.of) < SERIES_MAX else (OTHER,) * len(labels)
            self.of[kept] = self.of.get(kept, 0) + 1


class Buckets:
    """A family of histograms. Each is its counts by bucket, infinity last, and the sum."""

    def __init__(self, family: Family) -> None:
        self._bounds = family.bounds
        self.of: dict[Labels, tuple[list[int], list[float]]] = {}

    def observe(self, labels: Labels, value: float) -> None:
        """Take one value into account."""
        found = self.of.get(labels)
        if found is None:
            kept = labels if len(self.of) < SERIES_MAX else (OTHER,) * len(labels)
            found = self.of.setdefault(kept, ([0] * (len(self._bounds) + 1), [0.0]))
        found[0][bisect_left(self._bounds, value)] += 1
        found[1][0] += value


class Counting:
    """Everything that is counted, and the calls that are under way."""

    def __init__(self) -> None:
        self.open: set[Course] = set()
        self.counts = {family.name: Counts() for family in COUNTED if not family.bounds}
        self.requests, self._moves = self.counts[REQUESTS.name], self.counts[MOVES.name]
        self.buckets = {family.name: Buckets(family) for family in COUNTED if family.bounds}
        self._duration = self.buckets[DURATION.name]
        self._first_token = self.buckets[FIRST_TOKEN.name]
        self._per_token = self.buckets[PER_TOKEN.name]
        self._usage = self.buckets[USAGE.name]
        self._wait = self.buckets[WAIT.name]
        self._append = self.buckets[APPEND.name]

    def begin(self, call: "Call") -> None:
        """A call has come."""
        self.open.add(call.course)

    def end(self, call: "Call") -> None:
        """It is over; its course says how. Of what never came to an engine only that is counted."""
        course = call.course
        self.open.discard(course)
        self.requests.add(
            (call.route or NONE, course.code, course.model, course.endpoint, call.dialect)
        )
        if course.recorded and course.decided:
            self._append.observe(("decision",), course.recorded - course.decided)
        if course.ended:
            self._append.observe(("completion",), course.ended - course.ending)
        if course.waits:
            until = course.asked or perf_counter()  # whoever gives up has waited, too
            self._wait.observe((course.endpoint,), until - course.waits)
        for endpoint in course.left:
            self._moves.add((endpoint,))
        if course.asked:
            self._end_asked(course)

    def _end_asked(self, course: Course) -> None:
        what = (OPERATIONS.get(course.kind, course.kind), course.engine, course.model)
        answered = course.code == ANSWERED
        error = "" if answered else course.code
        self._duration.observe((*what, error), perf_counter() - course.came)
        if not answered:
            return
        if course.tokens_in:
            self._usage.observe((*what, "input"), course.tokens_in)
        if course.tokens_out:
            self._usage.observe((*what, "output"), course.tokens_out)
        if course.streams and course.first:
            self._first_token.observe(what, course.first - course.came)
            if course.tokens_out > 1:
                spent = course.ending - course.first
                self._per_token.observe(what, spent / (course.tokens_out - 1))
