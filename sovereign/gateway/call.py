"""One HTTP exchange as ASGI hands it over: headers in, bounded body in, bytes out.

Knows nothing of models or policies. A client that hangs up is noticed while we wait for
anything else (`while_client_stays`), so that an engine stops working for nobody.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sovereign.engines.contract import Dialect
from sovereign.gateway.presence import HOOK, Presence, Received
from sovereign.gateway.refusal import Denied
from sovereign.gateway.seen.course import Course
from sovereign.keystore.certificate import ClientCertificate

if TYPE_CHECKING:
    from sovereign.gateway.limiting.limit import Taken

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
JSON: Headers = [(b"content-type", b"application/json")]
NO_LABELS: Headers = []
LENGTH_MAX_DIGITS = 18
CERTIFICATE_EXTENSION = "sovereign.certificate"
"""Where the listener leaves what it read of the client's certificate in the ASGI scope."""
SSE: Headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]


class ClientGone(Exception):
    """The client hung up. Nobody is there to answer."""


class Call:
    """A request and the way to answer it.

    `answered` turns true with the first byte out, `finished` with the last. `record` names the
    decision about it, once there is one. `route` is the route of its path as the gateway writes
    it, never the client's words, and "" for a path that is none; `item` is what the client wrote
    for the route's variable. `certificate` is what a verified TLS client showed; `token_subject`
    the data subject a verified token names, "" before that and without one. `presence` says when
    the client hangs up. `hold` is what the call has taken of limits, and `labels` the headers that
    every answer to it has, errors too. `dialect` is `openai` for OpenAI's own clients, on OpenAI's
    own routes, and for whoever turns out to speak it; else `mistral`.
    """

    __slots__ = (
        "_headers",
        "_receive",
        "_send",
        "answered",
        "certificate",
        "course",
        "dialect",
        "finished",
        "hold",
        "item",
        "labels",
        "method",
        "path",
        "presence",
        "record",
        "route",
        "source",
        "token_subject",
    )

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        client = scope.get("client")
        self.source: str = client[0] if client else ""
        self._headers: dict[bytes, bytes | None] = {}
        for name, value in scope["headers"]:
            self._headers[name] = None if name in self._headers else value
        agent = self._headers.get(b"user-agent") or b""
        openais = b"x-stainless-lang" in self._headers or agent.startswith(b"OpenAI/")
        self.dialect: Dialect = "openai" if openais else "mistral"
        self._receive = receive
        self._send = send
        self.course = Course()
        self.answered = False
        self.finished = False
        self.record = ""
        self.route = ""
        self.item = ""
        extensions = scope.get("extensions")
        found = extensions.get(CERTIFICATE_EXTENSION) if extensions else None
        self.certificate: ClientCertificate | None = found["shown"] if found else None
        hook = extensions.get(HOOK) if extensions else None
        self.presence: Presence = hook["client"] if hook else Received(receive)
        self.token_subject = ""
        self.hold: Taken | None = None
        self.labels: Headers = NO_LABELS

    def header(self, name: bytes) -> str | None:
        """A request header by its lower-case name; None if it is missing, or given twice.

        Of two values nobody knows which one was meant, or which one a proxy looked at.
        """
        value = self._headers.get(name)
        return None if value is None else value.decode("latin-1")

    def has_twice(self, name: bytes) -> bool:
        """True for a request header that was given more than once."""
        return name in self._headers and self._headers[name] is None

    async def body(self, *, max_bytes: int, timeout_s: float) -> bytes:
        """Read the whole body, refusing it as soon as it is known to be too large. One that is
        compressed is not unpacked, and not read (RFC 9110, section 15.5.16)."""
        if b"content-encoding" in self._headers and self.header(b"content-encoding") != "identity":
            said = "a request body is sent as it is, without a content-encoding"
            raise Denied("body-unreadable", said, status=415)
        length = self._headers.get(b"content-length") or b"0"
        if length.isdigit() and (len(length) > LENGTH_MAX_DIGITS or int(length) > max_bytes):
            raise _too_large(max_bytes)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._read(max_bytes)
        except TimeoutError:
            raise Denied("body-too-slow", f"the body did not arrive within {timeout_s} s") from None

    async def _read(self, max_bytes: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            part = message.get("body", b"")
            size += len(part)
            if size > max_bytes:
                raise _too_large(max_bytes)
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)

    async def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Send the status line and headers."""
        self.answered = True
        self.course.status = status
        await self._send(
            {"type": "http.response.start", "status": status, "headers": [*headers, *self.labels]}
        )

    async def write(self, data: bytes, *, more: bool) -> None:
        """Send a part of the body; the last part says `more=False`."""
        self.finished = not more
        self.course.first = self.course.first or perf_counter()
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def respond(self, status: int, body: bytes, headers: Headers) -> None:
        """Send a whole answer."""
        await self.start(status, [*headers, (b"content-length", str(len(body)).encode())])
        await self.write(body, more=False)

    def while_client_stays(self) -> "Staying":
        """Run the block; when the client hangs up, interrupt it with `ClientGone`."""
        return Staying(self)


class Staying:
    """A block that ends with its client."""

    __slots__ = ("_call", "_gone", "_victim")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._gone = False

    def __enter__(self) -> None:
        self._victim = asyncio.current_task()
        if not self._call.presence.watch(self._leave):
            raise ClientGone

    def _leave(self) -> None:
        if not self._call.finished and self._victim is not None:
            self._gone = True  # a server says so after the last byte, too
            self._victim.cancel()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._call.presence.forget()
        if self._gone and isinstance(error, asyncio.CancelledError) and self._victim is not None:
            self._victim.uncancel()
            raise ClientGone from None


def _too_large(max_bytes: int) -> Denied:
    return Denied("body-too-large", f"a request body may have at most {max_bytes} bytes")
