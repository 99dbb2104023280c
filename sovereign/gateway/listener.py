"""The bounds below HTTP: how large a head may be, how long it may take, how long we listen on.

uvicorn leaves these open: a client may send headers without end, or a byte a minute, or go on
with a body whose refusal it has already been given. It also appends trailers to the headers
that were decided on, and does not tell a running answer that its client is gone when another
request was already waiting behind it. What is malformed, llhttp refuses (RFC 9112, strictly).
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

HEAD_MAX_BYTES = 32_768
"""Request line and headers together; what arrives with the last of it is not counted."""
HEAD_TIMEOUT_S = 10.0
LINGER_S = 10.0
"""How long the rest of a body is read and dropped once its request has been answered."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # narrower, as in uvicorn
        super().connection_made(transport)
        self._in_head = True
        self._heads = 0
        self._head_bytes = 0
        self._earlier: list[RequestResponseCycle] = []
        self._end: asyncio.TimerHandle | None = None
        self._end_after(HEAD_TIMEOUT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._go_on()
        for cycle in self._earlier:
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head and self._end is None:
            self._end_after(HEAD_TIMEOUT_S)
        began_in_head, heads = self._in_head, self._heads
        super().data_received(data)
        if began_in_head and self._in_head and self._heads == heads:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_MAX_BYTES:
                self._refuse_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # a trailer is dropped: nothing may be added to what was decided on
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._go_on()
        self._in_head = False
        self._heads += 1
        self._head_bytes = 0
        self._earlier = [c for c in self._earlier if not c.response_complete]
        if self.cycle is not None:
            self._earlier.append(self.cycle)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._go_on()
        self._in_head = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self._in_head:
            self._end_after(LINGER_S)

    def _refuse_head(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.send_400_response(f"A request head may have at most {HEAD_MAX_BYTES} bytes.")
        else:  # an answer is on its way: words of ours in the middle would be taken for its own
            self.transport.close()

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
