"""Show Prometheus how the controller's own work stands, on a listener of its own.

`GAUGES` is the table of all there is; `docs/formats/metrics.md` is generated from it. Every value
is read when it is asked for, out of what the controller goes by. What cannot be read is not shown,
for a number nobody knows must not look like a good one: alerts ask for what is absent, too.

Labels come out of closed sets, as at the gateway: endpoints, logs and places of this site, codes of
ours. A listener that cannot be had is said once and tried again; the rounds go on without it.
"""

import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import HTTPServer

import msgspec
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, start_http_server
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sovereign import __version__, eventlog
from sovereign.controller.retain import Retaining
from sovereign.errors import SovereignError
from sovereign.incidents.duties import left_by_duty
from sovereign.incidents.ledger import Known, Ledger
from sovereign.outside import standings
from sovereign.policy import Policy
from sovereign.registry import Registry
from sovereign.residency import stale_on
from sovereign.rights.book import Book
from sovereign.rights.book import Known as People
from sovereign.rights.requests import LAW, left_by_kind
from sovereign.settings import Home, Round, standby_file

AGAIN_S = 60.0
WITHIN_DAYS = (0, 7, 30, 90)
Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Gauge:
    """One metric. `labels` are names in the table of labels of metrics.md."""

    name: str
    says: str
    labels: tuple[str, ...] = ()


BUILD = Gauge(
    "sovereign_controller_build_info",
    "Always 1; its labels say what runs.",
    ("version", "site", "policy", "profile"),
)
ROUND_AT = Gauge(
    "sovereign_controller_round_timestamp_seconds", "When the last round ended, in Unix time."
)
ROUND_S = Gauge("sovereign_controller_round_seconds", "How long the last round took.")
QUARANTINED = Gauge(
    "sovereign_controller_endpoints_quarantined", "Endpoints that are shut, by why.", ("reason",)
)
ENDPOINTS = Gauge("sovereign_controller_endpoints", "Endpoints in the registry.")
RETAINED_AT = Gauge(
    "sovereign_retention_run_timestamp_seconds",
    "When the last whole retention run was, in Unix time; not there before the first.",
)
OVERDUE = Gauge(
    "sovereign_retention_overdue_items",
    "What the last run found due and could not erase yet.",
)
DOUBTED = Gauge(
    "sovereign_retention_clock_doubted",
    "1 when the clock is not where the last retention run lets expect it, else 0.",
)
SEEN_AT = Gauge(
    "sovereign_log_seen_timestamp_seconds",
    "When enough others have last seen a log, in Unix time; not there while nobody is asked.",
    ("log", "witness"),
)
UNSEEN = Gauge(
    "sovereign_log_unseen",
    "1 for a log that others have not seen as lately as the policy asks, else 0.",
    ("log", "witness"),
)
BEHIND = Gauge(
    "sovereign_standby_behind_seconds",
    "For how long the oldest record has been on this machine alone; not there without a standby.",
)
POINT = Gauge(
    "sovereign_standby_recovery_point_seconds",
    "For how long a record may be on this machine alone, of the settings.",
)
SAID_AT = Gauge(
    "sovereign_standby_round_timestamp_seconds",
    "When the sender to the standby last said how it went, in Unix time.",
)
PLACE_ENDS = Gauge(
    "sovereign_place_facts_expiry_timestamp_seconds",
    "When the facts about a place that this site relies on are too old to be believed.",
    ("place",),
)
PLACES_STALE = Gauge(
    "sovereign_places_stale",
    "Places that this site relies on, whose facts are too old within so many days.",
    ("within_days",),
)
INCIDENTS = Gauge("sovereign_incidents_open", "Incidents that are not closed.", ("stage",))
INCIDENT_DUE = Gauge(
    "sovereign_incident_due_seconds",
    "Until a duty of an open incident runs out, of the one that does first; negative once late.",
    ("duty",),
)
REQUEST_DUE = Gauge(
    "sovereign_subject_request_due_seconds",
    "Until a person's request is late, of the open one that is so first; negative once late.",
    ("kind",),
)
GAUGES = (
    *(BUILD, ROUND_AT, ROUND_S, QUARANTINED, ENDPOINTS, RETAINED_AT, OVERDUE, DOUBTED),
    *(SEEN_AT, UNSEEN, BEHIND, POINT, SAID_AT, PLACE_ENDS, PLACES_STALE),
    *(INCIDENTS, INCIDENT_DUE, REQUEST_DUE),
)
Found = Iterator[tuple[Gauge, Labels, float]]


def relied_on(home: Home, policy: Policy) -> frozenset[str]:
    """Codes of the places this site relies on: where it stands, and what it may talk to.

    A dependency for which the policy names something instead is one it does not use.
    """
    chosen = home.settings
    codes = {chosen.place, *(each.place for each in chosen.endpoints)}
    if chosen.tracing.endpoint:
        codes.add(chosen.tracing.place)
    codes |= {each.place for each in policy.audit.witnesses.known}
    codes |= {each.place for each in policy.audit.timestamps.authorities}
    codes |= {each.place for each in policy.dependencies.values() if not each.instead}
    return frozenset(codes & policy.places.keys())


def stale_from(policy: Policy, code: str) -> datetime | None:
    """The first moment of the day on which a place's facts are too old; None as `stale_on`."""
    day = stale_on(policy, code)
    return None if day is None else datetime(day.year, day.month, day.day, tzinfo=UTC)


def of_places(home: Home, policy: Policy, now: datetime) -> Found:
    """When facts get too old, for each place and counted."""
    ends = {
        code: until
        for code in sorted(relied_on(home, policy))
        if (until := stale_from(policy, code)) is not None
    }
    for code, until in ends.items():
        yield PLACE_ENDS, (code,), until.timestamp()
    for days in WITHIN_DAYS:
        stale = sum(1 for until in ends.values() if until <= now + timedelta(days=days))
        yield PLACES_STALE, (str(days),), float(stale)


def of_registry(registry: Registry) -> Found:
    """What is shut, and why."""
    endpoints = registry.snapshot().endpoints
    yield ENDPOINTS, (), float(len(endpoints))
    for reason, count in sorted(Counter(e.quarantine for e in endpoints if e.quarantine).items()):
        yield QUARANTINED, (reason,), float(count)


def of_outside(home: Home, policy: Policy, now: datetime) -> Found:
    """How lately witnesses and authorities have seen each log, where the policy asks for any."""
    for each in standings(home, policy, now):
        for kind, verdict in (("witnesses", each.witnesses), ("timestamps", each.timestamps)):
            if verdict.at is not None:
                yield SEEN_AT, (each.origin, kind), verdict.at.timestamp()
            if verdict.at is not None or verdict.code:
                yield UNSEEN, (each.origin, kind), float(bool(verdict.code))


def of_standby(home: Home) -> Found:
    """What the sender said last."""
    if not home.settings.standby.url:
        return
    said = msgspec.json.decode(standby_file(home).read_bytes(), type=Round)
    yield BEHIND, (), float(said.behind_s)
    yield POINT, (), float(home.settings.standby.recovery_point_s)
    yield SAID_AT, (), said.at.timestamp()


def of_incidents(known: Known, policy: Policy, now: datetime) -> Found:
    """How many are open, and which duty of any runs out when."""
    still = [each for each in known.incidents.values() if each.is_open]
    for stage in ("suspected", "confirmed"):
        yield INCIDENTS, (stage,), float(sum(each.state == stage for each in still))
    for duty, left in left_by_duty(still, policy.law, policy.audit.incidents, now).items():
        yield INCIDENT_DUE, (duty,), left


def of_requests(known: People, policy: Policy, now: datetime) -> Found:
    """When the first request of each kind is late; nothing where the facts give it no time."""
    law = policy.law.get(LAW)
    if law is not None and law.term is not None:
        for kind, left in left_by_kind(known.requests.values(), law.term, now).items():
            yield REQUEST_DUE, (kind,), left


class Exposed(Collector):
    """What the listener answers with, and the listener."""

    def __init__(
        self, home: Home, policy: Policy, retaining: Retaining, clock: Callable[[], datetime]
    ) -> None:
        self._home = home
        self._policy = policy
        self._retaining = retaining
        self._clock = clock
        self._registry = Registry(home.registry)
        self._incidents = Ledger(home)
        self._people = Book(home)
        self._round: tuple[datetime, float] | None = None
        self._one_at_a_time = threading.Lock()
        self._server: HTTPServer | None = None
        self._tried_at = float("-inf")

    def note_round(self, ended: datetime, seconds: float) -> None:
        """A round is over. Listens by now, unless the address is taken or there is to be none."""
        self._round = (ended, seconds)
        listen = self._home.settings.controller.metrics_listen
        if listen and self._server is None and time.monotonic() - self._tried_at >= AGAIN_S:
            self._listen(listen)

    def _listen(self, listen: str) -> None:
        first = self._tried_at == float("-inf")
        self._tried_at = time.monotonic()
        host, _, port = listen.rpartition(":")
        registry = CollectorRegistry()
        for collector in (ProcessCollector, GCCollector):
            collector(registry=registry)
        registry.register(self)
        try:
            self._server, _ = start_http_server(int(port), host.strip("[]"), registry)
        except OSError as error:
            if first:
                reason = error.strerror or type(error).__name__
                eventlog.emit("metrics-address-taken", address=listen, reason=reason)

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def collect(self) -> Iterator[Metric]:
        """Everything that can be read now, in the order of the table."""
        with self._one_at_a_time:
            found = list(self._found())
        for each in GAUGES:
            values = [(labels, value) for gauge, labels, value in found if gauge is each]
            if values:
                family = GaugeMetricFamily(each.name, each.says, labels=each.labels)
                for labels, value in values:
                    family.add_metric(labels, value)
                yield family

    def _found(self) -> Found:
        now, home, policy = self._clock(), self._home, self._policy
        yield BUILD, (__version__, home.settings.site, policy.digest, policy.profile), 1.0
        if self._round is not None:
            yield ROUND_AT, (), self._round[0].timestamp()
            yield ROUND_S, (), self._round[1]
        if self._retaining.ran_at is not None:
            yield RETAINED_AT, (), self._retaining.ran_at.timestamp()
            yield DOUBTED, (), float(bool(self._retaining.doubt))
        if self._retaining.overdue is not None:
            yield OVERDUE, (), float(self._retaining.overdue)
        yield from of_places(home, policy, now)
        yield from _if_readable(lambda: of_registry(self._registry))
        yield from _if_readable(lambda: of_outside(home, policy, now))
        yield from _if_readable(lambda: of_standby(home))
        yield from _if_readable(lambda: of_incidents(self._incidents.look(), policy, now))
        yield from _if_readable(lambda: of_requests(self._people.look(), policy, now))


def _if_readable(read: Callable[[], Found]) -> Found:
    """All of it, or nothing when it cannot be read."""
    try:
        yield from list(read())
    except (SovereignError, OSError, sqlite3.Error, msgspec.MsgspecError) as error:
        eventlog.emit("metrics-unreadable", exception=type(error).__name__)
