"""Tell a tracing target how long what took, and nothing of what was said (OTLP over HTTP).

A call is one server span with the children `decide`, `audit` and the request to the engine. They
are made when it is over, out of its course, so a target that is slow or gone costs a call nothing:
what finds no room in the queue, or no way out within `EXPORT_S`, is lost and counted.

A target sees metadata of every call, so it is a place like any other: `refuse_elsewhere` asks the
residency rules before anything listens. Of what a client sends only the two ids of `traceparent`
(W3C Trace Context) are taken; its flags, `tracestate` and `baggage` are not read. Nothing is sent
to the engine. The environment and its proxies have no say in where spans go.
"""

import asyncio
import re
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from time import perf_counter
from urllib.parse import urlsplit

import requests
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.util.types import Attributes

from sovereign import __version__
from sovereign.errors import ResidencyRefused
from sovereign.gateway.call import Call
from sovereign.gateway.records import FINISHES
from sovereign.gateway.seen.course import ANSWERED, Course
from sovereign.gateway.seen.families import OPERATIONS
from sovereign.policy import THIS_HOST, Policy
from sovereign.residency import Question, decide
from sovereign.settings import TracingSettings

DATA = "operational"
"""The class of what a span says: who asked what is not in it, but when and how much is."""
QUEUE_MAX, BATCH_MAX, SPANS_OF_A_CALL = 2_048, 512, 4
EVERY_S, EXPORT_S, STOP_S = 1.0, 5.0, 3.0
_PARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_PORTS = {"http": 80, "https": 443}


def refuse_elsewhere(policy: Policy, chosen: TracingSettings, now: datetime) -> None:
    """The target may see, keep and be sent operational data, or no gateway starts.

    Raises:
        ResidencyRefused: the rules do not let operational data be there. Nothing was sent.
    """
    parts = urlsplit(chosen.endpoint)
    here = chosen.place == THIS_HOST
    listener = f"{parts.netloc if parts.port else f'{parts.netloc}:{_PORTS[parts.scheme]}'}"
    for verb in ("process", "store") if here else ("process", "store", "send"):
        asked = Question(chosen.place, DATA, verb, now, listener if here else "")
        answer = decide(policy, asked)
        if not answer.allowed:
            raise ResidencyRefused(
                f"tracing.endpoint would {verb} {DATA} data at {chosen.place}",
                rule=answer.rule,
                because=answer.because,
                found=answer.found,
                accepted="a target whose place the rules allow, or none (tracing.endpoint: '')",
                next_step=f"sovereign decide --place {chosen.place} --class {DATA} --verb {verb}",
            )


class Counted(SpanExporter):
    """The exporter, and what became of what it was given."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self.sent = 0
        self.lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; whether it arrived is counted."""
        result = self._inner.export(spans)
        if result is SpanExportResult.SUCCESS:
            self.sent += len(spans)
        else:
            self.lost += len(spans)
        return result

    def shutdown(self) -> None:
        """Give up what is on its way."""
        self._inner.shutdown()


def exporter(chosen: TracingSettings) -> OTLPSpanExporter:
    """The way out: no proxy, no redirect, no credential that the environment would bring."""
    session = requests.Session()
    session.trust_env = False
    session.hooks["response"].append(_refuse_redirect)
    return OTLPSpanExporter(
        endpoint=chosen.endpoint,
        certificate_file=chosen.tls_ca or None,
        timeout=EXPORT_S,
        compression=Compression.Gzip,
        session=session,
    )


def _refuse_redirect(response: requests.Response, *_: object, **__: object) -> None:
    """A redirect is not followed, and is no success either, as the exporter would count it."""
    if 300 <= response.status_code < 400:
        raise requests.TooManyRedirects("a tracing target does not redirect")


class Tracing:
    """Makes spans of calls that are over; from the event loop alone."""

    def __init__(self, chosen: TracingSettings, site: str) -> None:
        self._counted = Counted(exporter(chosen))
        self._handed = self._dropped = 0
        sampled = TraceIdRatioBased(chosen.sampled_percent / 100)
        sampler = ParentBased(
            sampled, remote_parent_sampled=sampled, remote_parent_not_sampled=sampled
        )
        about = {
            "service.name": "sovereign-gateway",
            "service.namespace": site,
            "service.version": __version__,
        }
        self._provider = TracerProvider(
            sampler=sampler, resource=Resource(about), shutdown_on_exit=False
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                self._counted,
                max_queue_size=QUEUE_MAX + SPANS_OF_A_CALL,
                schedule_delay_millis=EVERY_S * 1000,
                max_export_batch_size=BATCH_MAX,
            )
        )
        self._tracer = self._provider.get_tracer("sovereign.gateway", __version__)

    @property
    def spans(self) -> tuple[int, int]:
        """How many spans were sent, and how many were lost for want of room or of a way out."""
        return self._counted.sent, self._counted.lost + self._dropped

    @property
    def waiting(self) -> int:
        """How many spans wait to leave, or are on their way; at most `QUEUE_MAX` and one call's."""
        return self._handed - self._counted.sent - self._counted.lost

    def end(self, call: Call) -> None:
        """Make the spans of a call that is over."""
        course = call.course
        if self.waiting >= QUEUE_MAX:
            self._dropped += 1 + sum(map(bool, (course.decided, course.recorded, course.asked)))
            return
        clock = _Clock()
        route = call.route or "none"
        span = self._tracer.start_span(
            f"{_method(call.method)} {route}",
            context=_parent(call.header(b"traceparent")),
            kind=SpanKind.SERVER,
            attributes=_of_call(call, route),
            start_time=clock.at(course.came),
        )
        if span.is_recording():
            if course.status >= 500 or (course.code not in (ANSWERED, "") and not course.status):
                span.set_status(Status(StatusCode.ERROR))
            self._handed += 1
            self._children(trace.set_span_in_context(span), course, clock)
        span.end(clock.now_ns)

    def _children(self, within: Context, course: Course, clock: "_Clock") -> None:
        if not course.decided:
            return
        decided = {"sovereign.rule": course.rule, "gen_ai.request.model": course.model}
        self._child("decide", within, clock, course.came, course.decided, decided)
        if course.recorded:
            record: Attributes = {"sovereign.record": course.record}
            self._child("audit", within, clock, course.decided, course.recorded, record)
        if course.asked:
            name = f"{OPERATIONS.get(course.kind, course.kind)} {course.model}"
            until = course.ending or perf_counter()
            about = {**_gen_ai(course), "sovereign.place": course.place}
            self._child(name, within, clock, course.asked, until, about, kind=SpanKind.CLIENT)

    def _child(
        self,
        name: str,
        within: Context,
        clock: "_Clock",
        start: float,
        end: float,
        attributes: Attributes,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> None:
        span = self._tracer.start_span(
            name, context=within, kind=kind, attributes=attributes, start_time=clock.at(start)
        )
        self._handed += 1
        span.end(clock.at(end))

    async def stop(self) -> None:
        """Send what waits, for at most `STOP_S`; a target that does not answer holds nobody up."""
        ending = threading.Thread(target=self._provider.shutdown, name="tracing", daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, STOP_S)


class _Clock:
    """Turns moments of `perf_counter` into Unix nanoseconds."""

    def __init__(self) -> None:
        self.now_ns = time.time_ns()
        self._now = perf_counter()

    def at(self, moment: float) -> int:
        return self.now_ns - round((self._now - moment) * 1e9)


def _parent(given: str | None) -> Context | None:
    """The context of a client's span: its two ids, and nothing else it says.

    Whether it is sampled is ours to choose, so the flag that is passed on is always the same.
    """
    match = _PARENT.fullmatch(given or "")
    if match is None:
        return None
    found = trace.SpanContext(
        trace_id=int(match[1], 16),
        span_id=int(match[2], 16),
        is_remote=True,
        trace_flags=trace.TraceFlags(trace.TraceFlags.SAMPLED),
    )
    if not found.is_valid:
        return None
    return trace.set_span_in_context(trace.NonRecordingSpan(found))


def _method(given: str) -> str:
    """A method is the client's to write: one that HTTP does not know becomes `_OTHER`."""
    return given if given in _METHODS else "_OTHER"


_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"))


def _of_call(call: Call, route: str) -> Attributes:
    course = call.course
    about: dict[str, str | int] = {
        "http.request.method": _method(call.method),
        "http.route": route,
        "sovereign.dialect": call.dialect,
        "sovereign.outcome": course.code,
    }
    if course.status:
        about["http.response.status_code"] = course.status
    if course.code != ANSWERED:
        about["error.type"] = course.code
    if course.record:
        about["sovereign.record"] = course.record
    return {**about, **(_gen_ai(course) if course.asked else {})}


def _gen_ai(course: Course) -> dict[str, str | int | Sequence[str]]:
    about: dict[str, str | int | Sequence[str]] = {
        "gen_ai.operation.name": OPERATIONS.get(course.kind, course.kind),
        "gen_ai.provider.name": course.engine,
        "gen_ai.request.model": course.model,
        "gen_ai.request.stream": course.streams,
        "sovereign.endpoint": course.endpoint,
    }
    if course.code == ANSWERED:
        about["gen_ai.usage.input_tokens"] = course.tokens_in
        about["gen_ai.usage.output_tokens"] = course.tokens_out
    if isinstance(course.finish, str) and course.finish in FINISHES:
        about["gen_ai.response.finish_reasons"] = (course.finish,)
    return about
