"""A mock engine, fast and dull: `python -m bench.upstream` prints its port and answers chats.

It says what an engine says (an OpenAI chat completion of about 1 KB, or a stream of 50 chunks
20 ms apart, closed by finish reason, usage and end marker) and thinks about nothing, so that
what is measured is what stands in front of it. Each streamed chunk carries the moment it left,
in nanoseconds of the clock that all processes of a machine share.
"""

import asyncio
import contextlib
import time
from typing import cast

import uvloop

CHUNKS = 50
CHUNK_EVERY_S = 0.02
MODEL = "mock"
_TEXT = "The records of a gateway say who asked, why and where, and never what. " * 10
_COMPLETION = (
    '{"id":"chatcmpl-6f1d2c0b9e8a4d57","object":"chat.completion","created":1790000000,'
    f'"model":"{MODEL}","choices":[{{"index":0,"message":{{"role":"assistant",'
    f'"content":"{_TEXT}"}},"logprobs":null,"finish_reason":"stop"}}],'
    '"usage":{"prompt_tokens":212,"completion_tokens":164,"total_tokens":376}}'
).encode()
_WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(_COMPLETION),
    _COMPLETION,
)
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_EVENT = (
    b'data: {"id":"chatcmpl-6f1d2c0b9e8a4d57","object":"chat.completion.chunk",'
    b'"created":1790000000,"model":"mock","choices":[{"index":0,"delta":{%b},'
    b'"logprobs":null,"finish_reason":%b}]}\n\n'
)
_USAGE = (
    b'data: {"id":"chatcmpl-6f1d2c0b9e8a4d57","object":"chat.completion.chunk",'
    b'"created":1790000000,"model":"mock","choices":[],'
    b'"usage":{"prompt_tokens":212,"completion_tokens":50,"total_tokens":262}}\n\n'
)
_ENDING = (_EVENT % (b"", b'"stop"'), _USAGE, b"data: [DONE]\n\n")


def framed(data: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Connection(asyncio.Protocol):
    """One keep-alive connection; one request at a time, as our callers send them."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is of a class of its own

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        end = data.find(b"\r\n\r\n") + 4
        if end < 4 or len(data) < end + _length(data[:end]):
            self._rest = data
            return
        self._rest = b""
        assert self._transport is not None
        if b'"stream":true' in data:
            self._transport.write(_STREAM_HEAD)
            self._tick(0, asyncio.get_running_loop().time())
        else:
            self._transport.write(_WHOLE)

    def _tick(self, number: int, began: float) -> None:
        """Send a chunk and come back for the next; the times do not drift."""
        if self._transport is None:
            return
        if number == CHUNKS:
            self._transport.write(b"".join(map(framed, _ENDING)) + b"0\r\n\r\n")
            return
        stamp = b'"content":"t=%d"' % time.perf_counter_ns()
        self._transport.write(framed(_EVENT % (stamp, b"null")))
        later = began + (number + 1) * CHUNK_EVERY_S
        asyncio.get_running_loop().call_at(later, self._tick, number + 1, began)


def _length(head: bytes) -> int:
    _, found, after = head.lower().partition(b"content-length:")
    return int(after.split(b"\r\n", 1)[0]) if found else 0


async def serve() -> None:
    """Listen on a free port of loopback, say which, and serve until ended."""
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve())
