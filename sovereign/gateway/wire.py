"""One HTTP/1.1 connection to an engine, and one exchange at a time over it (RFC 9112).

llhttp reads what comes (through httptools, as for the clients' side); what goes out is one write
of bytes that were made elsewhere. A connection is used again only when its answer was read to its
end, nothing came after it, and the engine said that it stays. Whoever leaves an answer before its
end hangs up, so that the engine stops working for nobody; whoever has all that was wanted of it
(the end marker of a stream comes before the end of the exchange) lets it `run_out`.

An answer whose end is the end of its connection is refused: nobody could tell it from one that was
broken off (RFC 9112, section 8).
"""

import asyncio
from collections.abc import Callable
from typing import Literal, cast

import httptools

HEAD_MAX_BYTES = 65_536
"""Words on the way, status line and headers together; what arrives with the last of it is not
counted. Also what may come between two pieces of a body: extensions of chunks, trailers.
It bounds what an answer says when nothing more is wanted of it, too."""
HELD_MAX_BYTES = 262_144
"""What may wait to be read before the engine is made to wait."""
TWICE = b"twice"
"""Stands for a content type that was given more than once: nobody knows which one was meant."""
Ending = Literal["open", "done", "broken"]


class WireBroken(Exception):
    """No (more) answer will come. `began` is true when its head had come, or something that is no
    answer or has no end: somebody is there, and does not do as it should."""

    def __init__(self, *, began: bool) -> None:
        super().__init__()
        self.began = began


class Wire(asyncio.Protocol):
    """A connection. `ask`, then `head`, then `piece` to the end, and again once `is_reusable`."""

    __slots__ = (
        "_barren_bytes",
        "_began",
        "_ending",
        "_held_bytes",
        "_keeps",
        "_loop",
        "_parser",
        "_parts",
        "_paused",
        "_ran_out",
        "_transport",
        "_waiter",
        "content_type",
        "free_since",
        "status",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._ending: Ending = "done"
        self._keeps = False
        self._ran_out: Callable[[], None] | None = None
        self.free_since = 0.0

    def ask(self, request: bytes) -> None:
        """Send a whole request. The exchange begins."""
        assert self._transport is not None
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._held_bytes = self._barren_bytes = 0
        self._began = self._keeps = self._paused = False
        self._ending = "open"
        self.status, self.content_type = 0, b""
        self._transport.write(request)

    async def head(self) -> int:
        """Wait for the answer's status.

        Raises:
            WireBroken: none will come.
        """
        while not self.status:
            await self._more()
        return self.status

    async def piece(self) -> bytes:
        """All of the answer's body that came meanwhile; nothing once it is over.

        Raises:
            WireBroken: its end will not come.
        """
        while not self._parts:
            if self._ending == "done":
                return b""
            await self._more()
        return self._take()

    @property
    def waits(self) -> bool:
        """True when the next piece is not here yet."""
        return not self._parts and self._ending == "open"

    @property
    def is_reusable(self) -> bool:
        """True between two exchanges of a connection that stays."""
        return self._keeps and self._ending == "done" and not self._parts

    def run_out(self, ended: Callable[[], None]) -> None:
        """Read on to the end of an answer of which nothing more is wanted, and forget it. `ended`
        is called once, when it is `is_reusable` or when it is not going to be."""
        if self._parts:
            self._take()
        if self._ending == "open":
            self._ran_out = ended
        else:
            ended()

    def cut(self) -> None:
        """End the connection at once; whoever waits for it hears that it is broken."""
        self._end()
        if self._transport is not None:
            self._transport.abort()

    def _take(self) -> bytes:
        parts = self._parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._held_bytes = 0
        if self._paused:
            self._paused = False
            assert self._transport is not None
            self._transport.resume_reading()
        return data

    async def _more(self) -> None:
        if self._ending == "broken":
            raise WireBroken(began=self._began)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _spoil(self) -> None:
        """What comes is no answer, or more than one may be."""
        self._began = True
        self.cut()

    def _end(self) -> None:
        self._keeps = False
        if self._ending == "open":
            self._ending = "broken"
            self._wake()
            self._is_over()

    def _is_over(self) -> None:
        if self._ran_out is not None:
            ended, self._ran_out = self._ran_out, None
            ended()

    # --- what asyncio says ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by its methods alone

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def eof_received(self) -> None:
        self._end()

    def data_received(self, data: bytes) -> None:
        if self._ending != "open":  # nothing was asked: it could pass for the next answer
            self.cut()
            return
        self._barren_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._spoil()
            return
        if self._barren_bytes > HEAD_MAX_BYTES:
            self._spoil()
        elif self._held_bytes > HELD_MAX_BYTES and not self._paused:
            self._paused = True
            assert self._transport is not None
            self._transport.pause_reading()

    # --- what llhttp says -------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._ending != "open":
            raise ValueError  # a second answer to one request; the parser passes it on as its error

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) == 12 and not self.status and name.lower() == b"content-type":
            self.content_type = TWICE if self.content_type else value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:
            self._began = True
            self.status = status
            self._wake()

    def on_body(self, body: bytes) -> None:
        if self._ran_out is not None:
            return
        self._barren_bytes = 0
        self._held_bytes += len(body)
        self._parts.append(body)
        self._wake()

    def on_message_complete(self) -> None:
        if not self.status:  # a word on the way (RFC 9110, section 15.2)
            self.content_type = b""
            return
        self._keeps = self._ending == "open" and self._parser.should_keep_alive()
        self._ending = "done"
        self._wake()
        self._is_over()
