"""Show what was counted, and how things stand, as Prometheus reads it.

Looking (`look`) happens in the event loop, where nothing changes meanwhile, and copies; turning the
copy into text (`render`) is left to a thread. Neither asks anybody anything: what is shown is what
the gateway itself goes by, its view of keys and endpoints and the state of its log.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from sovereign import __version__
from sovereign.gateway.seen import families as fam
from sovereign.gateway.seen.course import STATES, Course
from sovereign.gateway.seen.families import Family
from sovereign.gateway.seen.metrics import Counting, Labels
from sovereign.gateway.view import View
from sovereign.registry import Endpoint

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
Values = dict[Labels, float]


@dataclass(frozen=True, slots=True)
class Calls:
    """Where calls are now: how many at each endpoint, and which ones are not asked just now."""

    outstanding: Mapping[str, int]
    resting: Collection[str]


@dataclass(frozen=True, slots=True)
class Standing:
    """How things stand, beside what was counted. `certificate_ends` is None without TLS."""

    site: str
    policy: str
    profile: str
    calls_max: int
    log_failed: bool
    view: View
    calls: Calls
    certificate_ends: datetime | None = None
    spans: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """A copy of everything at one moment."""

    counts: dict[str, dict[Labels, int]]
    buckets: dict[str, dict[Labels, tuple[tuple[int, ...], float]]]
    stated: dict[str, Values]


def look(counting: Counting, standing: Standing, now: datetime) -> Look:
    """Copy what is counted, and say how things stand at `now`; quick, and asks nobody."""
    buckets = {
        name: {labels: (tuple(counts), total[0]) for labels, (counts, total) in family.of.items()}
        for name, family in counting.buckets.items()
    }
    return Look(
        {name: dict(family.of) for name, family in counting.counts.items()},
        buckets,
        {f.name: v for f, v in _stated(tuple(counting.open), standing, now)},
    )


def _stated(
    open_calls: tuple[Course, ...], standing: Standing, now: datetime
) -> Iterator[tuple[Family, Values]]:
    view = standing.view
    states = Counter(course.state for course in open_calls)
    yield fam.CALLS, {(state,): float(states[state]) for state in STATES}
    yield fam.STREAMS, {(): float(sum(1 for c in open_calls if c.streams and c.first))}
    yield fam.CALLS_MAX, {(): float(standing.calls_max)}
    yield fam.BUILD, {(__version__, standing.site, standing.policy, standing.profile): 1.0}
    yield fam.LOG_FAILED, {(): float(standing.log_failed)}
    yield fam.KEYS_AGE, {(): (now - view.keys_read_at).total_seconds()}
    yield fam.REGISTRY_AGE, {(): (now - view.registry_read_at).total_seconds()}
    if standing.certificate_ends is not None:
        yield fam.CERTIFICATE, {(): standing.certificate_ends.timestamp()}
    yield from _of_endpoints(view.snapshot.endpoints, now)
    running, resting = standing.calls.outstanding, standing.calls.resting
    yield fam.OUTSTANDING, {(name,): float(count) for name, count in running.items()}
    yield fam.RESTING, {(name,): float(name in resting) for name in running}
    if standing.spans is not None:
        sent, lost = standing.spans
        yield fam.SPANS, {("sent",): float(sent), ("lost",): float(lost)}


def _of_endpoints(endpoints: Iterable[Endpoint], now: datetime) -> Iterator[tuple[Family, Values]]:
    there = tuple(endpoints)
    yield (
        fam.ATTESTATION,
        {(e.id,): e.expires_at.timestamp() for e in there if e.expires_at is not None},
    )
    yield (
        fam.USABLE,
        {(e.id, e.engine, e.place): float(not e.quarantine and e.is_fresh(now)) for e in there},
    )
    yield fam.QUARANTINED, {(e.id, e.quarantine): 1.0 for e in there if e.quarantine}


class Shown(Collector):
    """A look, as the library wants it."""

    def __init__(self, taken: Look) -> None:
        self._taken = taken

    def collect(self) -> Iterator[Metric]:
        """Every family that has something to show, in the order of the table."""
        for family in fam.FAMILIES:
            if family.name in self._taken.counts:
                yield _counter(family, self._taken.counts[family.name])
            elif family.bounds:
                yield _histogram(family, self._taken.buckets[family.name])
            elif family.name in self._taken.stated:
                values = self._taken.stated[family.name]
                yield (
                    _counter(family, values) if family.kind == "counter" else gauge(family, values)
                )


def gauge(family: Family, values: Values) -> Metric:
    """A family of gauges with its values."""
    made = GaugeMetricFamily(family.name, family.says, labels=family.labels)
    for labels, value in values.items():
        made.add_metric(labels, value)
    return made


def _counter(family: Family, values: dict[Labels, int] | Values) -> Metric:
    made = CounterMetricFamily(family.name, family.says, labels=family.labels)
    for labels, value in values.items():
        made.add_metric(labels, value)
    return made


def _histogram(family: Family, values: dict[Labels, tuple[tuple[int, ...], float]]) -> Metric:
    made = HistogramMetricFamily(family.name, family.says, labels=family.labels)
    names = [*(repr(bound) for bound in family.bounds), "+Inf"]
    for labels, (counts, total) in values.items():
        so_far, buckets = 0, []
        for name, count in zip(names, counts, strict=True):
            so_far += count
            buckets.append((name, float(so_far)))
        made.add_metric(labels, buckets, total)
    return made


class Exposition:
    """What the admin listener answers with: `take` in the event loop, `render` in a thread."""

    def __init__(
        self, counting: Counting, standing: Callable[[], Standing], clock: Callable[[], datetime]
    ) -> None:
        self._counting = counting
        self._standing = standing
        self._clock = clock
        self._process = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._process)

    def take(self) -> Look:
        """Everything as it is now."""
        return look(self._counting, self._standing(), self._clock())

    def render(self, taken: Look) -> bytes:
        """The page, in the form that `CONTENT_TYPE` names, which every Prometheus reads."""
        ours = CollectorRegistry()
        ours.register(Shown(taken))
        return generate_latest(ours) + generate_latest(self._process)
