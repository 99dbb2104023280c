"""The bounds below HTTP: how large a head may be, how long it may take, how long we listen on.

uvicorn leaves these open: a client may send headers without end, or a byte a minute, or go on
with a body whose refusal it has already been given. It also appends trailers to the headers
that were decided on, and does not tell a running answer that its client is gone when another
request was already waiting behind it. What is malformed, llhttp refuses (RFC 9112, strictly); what
it does not look at is refused here: a request without exactly one host, an upgrade, an encoded
slash, HTTP/0.9, HTTP/1.0 for anything but looking. Whoever is refused costs no line in a log.

KNOWN: a connection counts once its TLS handshake is over, for which it has ten seconds (`loop.py`).
Until then it is not among `connections_max`. The way out is a bound in the firewall.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, ClassVar

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from sovereign.gateway.call import CERTIFICATE_EXTENSION, JSON
from sovereign.gateway.presence import HOOK, Leave
from sovereign.gateway.refusal import Denied, envelope, headers
from sovereign.gateway.tls import shown_by

HEAD_MAX_BYTES = 32_768
"""Request line and headers together; what arrives with the last of it is not counted. Also what
may come of a body that is no body: the extensions of one chunk, trailers."""
HEAD_TIMEOUT_S = 10.0
LINGER_S = 10.0
"""How long the rest of a body is read and dropped once its request has been answered."""
PIPELINED_MAX = 16
"""Requests that may wait in one connection behind the one that is being answered."""
REFUSED_MAX, REFUSED_S = 256, 1.0
"""Connections too many that are told so at a time, and how long each has to hear it."""
FULL = "too-many-requests"
Note = Callable[[str, str], None]
VERSIONS = frozenset(("1.0", "1.1"))
LOOKING = frozenset((b"GET", b"HEAD"))
FRAMING = frozenset((b"content-length", b"transfer-encoding"))
_QUIET = logging.getLogger("uvicorn.error.listener")
_QUIET.setLevel(logging.ERROR)


def _note_nothing(source: str, code: str, /) -> None:
    """For who does not count."""


class _Refusal(Exception):
    """Ends the parsing of what is refused for a reason of ours."""


class _Rest:
    """Gives one request's body to its connection, and nothing of what comes behind it."""

    def __init__(self, connection: "BoundedProtocol") -> None:
        self._connection: BoundedProtocol | None = connection

    def on_body(self, body: bytes) -> None:
        if self._connection is not None:
            self._connection.on_body(body)

    def on_message_complete(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.on_message_complete()


class _Client:
    """The presence of one request's client (`presence.py`)."""

    __slots__ = ("_leave", "cycle")

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self.cycle = cycle
        self._leave: Leave | None = None

    def watch(self, leave: Leave) -> bool:
        """A connection that is not read from does not say that it ended, so it is from now on."""
        self.cycle.flow.resume_reading()
        self._leave = leave
        return not self.cycle.disconnected

    def forget(self) -> None:
        self._leave = None

    def leaves(self) -> None:
        """Its connection has ended; a request that was answered has nobody left to tell."""
        if self.cycle.response_complete:
            return
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        if self._leave is not None:
            self._leave()


class BoundedProtocol(HttpToolsProtocol):
    """One connection. `connections_max` of them may be open at a time."""

    connections_max = 1024
    _note = staticmethod(_note_nothing)
    _refused: ClassVar[set["BoundedProtocol"]] = set()

    def __init_subclass__(cls) -> None:
        cls._refused = set()

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.logger = _QUIET
        self._pieces = 0
        self._barren_bytes = 0
        self._why = (400, "Invalid HTTP request received.")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # narrower, as in uvicorn
        super().connection_made(transport)
        self._certificate = shown_by(transport)
        self._in_head = True
        self._clients: list[_Client] = []  # of requests without a whole answer, and of the newest
        self._end: asyncio.TimerHandle | None = None
        self._end_after(HEAD_TIMEOUT_S)
        if len(self.connections) > self.connections_max:
            self._refuse_connection()

    def connection_lost(self, exc: Exception | None) -> None:
        self._go_on()
        self._refused.discard(self)
        for client in self._clients:
            client.leaves()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self in self._refused:
            return
        if self._in_head and self._end is None:
            self._end_after(HEAD_TIMEOUT_S)
        pieces = self._pieces
        self._unset_keepalive_if_required()
        self._feed(data)
        if self._pieces != pieces:
            self._barren_bytes = 0
            return
        self._barren_bytes += len(data)
        if self._barren_bytes > HEAD_MAX_BYTES:
            self._why = (400, f"A request head may have at most {HEAD_MAX_BYTES} bytes.")
            self.send_400_response("")

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._read_on(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("")

    def _read_on(self, rest: bytes) -> None:
        """No upgrade is made: what follows the head is its body, and the last on its connection.

        The parser would take the body for another request, which a proxy in front does not; and
        clients that only offer an upgrade (Java's, to h2c) have sent theirs.
        """
        self.cycle.keep_alive = False
        framing = [field for field in self.headers if field[0] in FRAMING]
        head = b"".join([b"%s: %s\r\n" % field for field in framing])
        self.parser = httptools.HttpRequestParser(_Rest(self))
        self._feed(b"POST / HTTP/1.1\r\nhost: x\r\n" + head + b"\r\n" + rest)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # a trailer is dropped: nothing may be added to what was decided on
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._refuse_what_is_not_looked_at()
        self._go_on()
        self._in_head = False
        self._pieces += 1
        super().on_headers_complete()
        self._has_come(self.cycle)
        raw = self.scope.get("raw_path") or b""
        if b"%2f" in raw.lower():
            self.scope["path"] = raw.decode("ascii")  # an encoded slash separates nothing

    def _has_come(self, cycle: RequestResponseCycle) -> None:
        """Leave in its scope what is known of its client: the gateway looks at it in its next step,
        if not later."""
        client = _Client(cycle)
        self._clients = [c for c in self._clients if not c.cycle.response_complete]
        self._clients.append(client)
        extensions: dict[str, dict[object, object]] = {HOOK: {"client": client}}
        if self._certificate is not None:
            extensions[CERTIFICATE_EXTENSION] = {"shown": self._certificate}
        self.scope["extensions"] = extensions

    def on_body(self, body: bytes) -> None:
        self._pieces += 1
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # only the head is over
        self._go_on()
        self._in_head = True
        self._pieces += 1
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._in_head:
            self._end_after(LINGER_S)

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def send_400_response(self, msg: str) -> None:
        """Say why and close, unless an answer is on its way: words of ours in the middle of it
        would be taken for its own."""
        if self._answers_something_else():
            self.transport.close()
            return
        status, words = self._why
        head = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\n" % len(words)
        body = b"connection: close\r\n\r\n" + words.encode("ascii")
        self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()

    def _answers_something_else(self) -> bool:
        """True while a request before the refused one waits for its answer, or has a part of it."""
        if any(not client.cycle.response_complete for client in self._clients[:-1]):
            return True
        cycle = self.cycle  # of the refused request only when its head was complete
        if cycle is None or cycle.response_complete:
            return False
        return self._in_head or cycle.response_started

    def _refuse_what_is_not_looked_at(self) -> None:
        """Refuse what llhttp lets through (RFC 9112 sections 2.5, 3.2 and 9.3.2).

        Raises:
            _Refusal: the parser passes it on as any other error of the request.
        """
        version = self.parser.get_http_version()
        if version not in VERSIONS:
            raise _Refusal
        if version == "1.0" and self.parser.get_method() not in LOOKING:
            self._why = (505, "A call is made with HTTP/1.1.")
            raise _Refusal
        hosts = sum([name == b"host" for name, _ in self.headers])
        if hosts > 1 or (not hosts and version == "1.1"):
            self._why = (400, "A request names one host.")
            raise _Refusal
        if len(self.pipeline) >= PIPELINED_MAX:
            raise _Refusal

    def _refuse_connection(self) -> None:
        """One too many: say so whatever it wants to ask, and be gone in a moment."""
        self.connections.discard(self)
        self._note(self.client[0] if self.client else "", FULL)
        if len(self._refused) >= REFUSED_MAX:
            self.transport.abort()
            return
        self._refused.add(self)
        self.transport.write(_EVERY_CONNECTION_IS_TAKEN)
        self._end_after(REFUSED_S)

    def _end_after(self, seconds: float) -> None:
        self._go_on()
        self._end = self.loop.call_later(seconds, self._close)

    def _go_on(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None

    def _close(self, *_: Any) -> None:
        self._end = None
        if not self.transport.is_closing():
            self.transport.close()


def bounded(connections_max: int, note: Note = _note_nothing) -> type[BoundedProtocol]:
    """The protocol of one listener, which has this many connections at most, and tells `note` of
    each that was one too many."""

    class Bounded(BoundedProtocol):
        """One connection of this listener."""

    Bounded.connections_max = connections_max
    Bounded._note = staticmethod(note)
    return Bounded


def _every_connection_is_taken() -> bytes:
    denied = Denied(FULL, "every connection is taken")
    body = envelope(denied, "mistral")
    fields = [*JSON, *headers(denied), (b"connection", b"close")]
    fields.append((b"content-length", b"%d" % len(body)))
    head = b"".join(b"%s: %s\r\n" % field for field in fields)
    return STATUS_LINE[denied.status] + head + b"\r\n" + body


_EVERY_CONNECTION_IS_TAKEN = _every_connection_is_taken()
