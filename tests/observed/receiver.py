"""Receivers that are real servers: of spans over OTLP/HTTP, of a webhook, of mail over SMTP."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class Heard:
    """One request as it came: path, headers, and the body, unpacked if it was packed."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """An HTTP server on loopback that keeps what it is sent and answers with `status`."""

    url: str = ""
    status: int = 200
    answer: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    heard: list[Heard] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)

    def wait(self, requests: int = 1, within_s: float = 30) -> list[Heard]:
        """Return once this many requests have come."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.heard) >= requests, within_s)
            return list(self.heard)


@contextmanager
def receiving(receiver: Receiver | None = None) -> Iterator[Receiver]:
    """Serve on a free port until the block ends."""
    it = receiver or Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length", "0")))
            packed = self.headers.get("content-encoding") == "gzip"
            body = gzip.decompress(raw) if packed else raw
            headers = {name.lower(): value for name, value in self.headers.items()}
            with it.arrived:
                it.heard.append(Heard(self.path, headers, body))
                it.arrived.notify_all()
            self.send_response(it.status)
            for name, value in it.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(it.answer)))
            self.end_headers()
            self.wfile.write(it.answer)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    it.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield it
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def otlp() -> Receiver:
    """A receiver that answers as the OTLP specification wants."""
    good = ExportTraceServiceResponse().SerializeToString()
    return Receiver(answer=good, headers={"content-type": "application/x-protobuf"})


def spans(heard: list[Heard]) -> list[Span]:
    """Every span in what was sent."""
    return [
        span
        for each in heard
        for resource in ExportTraceServiceRequest.FromString(each.body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def attributes(span: Span) -> dict[str, object]:
    """A span's attributes as plain values."""
    found: dict[str, object] = {}
    for each in span.attributes:
        kind = each.value.WhichOneof("value")
        held = getattr(each.value, kind)
        found[each.key] = (
            tuple(v.string_value for v in held.values) if kind == "array_value" else held
        )
    return found
