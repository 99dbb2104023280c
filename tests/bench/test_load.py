"""The load generator must count answers, and nothing that only looks like one."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from bench import load
from bench.figures import CheckFailed
from bench.load import Answers

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nx-n: 1\r\n\r\n{}"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Send = Callable[[int, bytes], Awaitable[Answers]]


def outcome(*pieces: bytes, streamed: bool = False) -> Answers:
    """Ask a server that answers every request with these pieces, each sent by itself."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"{}"):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.002)
                if not pieces:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def both() -> Answers:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            asked = load.request(port, b"{}", {})
            if streamed:
                return await load.listen(port, asked, connections=2, seconds=1)
            return await load.ask(port, asked, connections=2, seconds=0.05)

    return asyncio.run(both())


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def test_whole_answers_are_counted_with_their_heads_and_times() -> None:
    """Also when head and body arrive in pieces, as they do from a busy server."""
    answers = outcome(WHOLE[:20], WHOLE[20:-1], WHOLE[-1:])
    assert len(answers.whole_s) == len(answers.heads) >= 2
    assert all(head.endswith(b"x-n: 1") for head in answers.heads)
    assert all(0.004 <= seconds < 5 for seconds in answers.whole_s)


@pytest.mark.parametrize(
    "piece",
    [
        b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n\r\n{}",
    ],
)
def test_an_answer_that_is_none_fails_the_run(piece: bytes) -> None:
    """Refusals are quick; counted as answers they would make a fine figure."""
    with pytest.raises(CheckFailed, match="not an answer to count"):
        outcome(piece)


def test_a_connection_that_closes_early_fails_the_run() -> None:
    """An answer that never came must not simply be missing from the count."""
    with pytest.raises(CheckFailed, match="closed before"):
        outcome()


def test_a_stream_is_timed_by_the_stamps_in_its_chunks() -> None:
    """Chunks may be cut anywhere on their way, and several may arrive at once."""
    stamps = [
        chunk(b'data: {"delta":{"content":"t=%d"}}\n\n' % time.perf_counter_ns()) for _ in range(3)
    ]
    body = b"".join(stamps) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    answers = outcome(STREAM_HEAD, body[:40], body[40:90], body[90:], streamed=True)
    assert len(answers.transit_s) == 6
    assert len(answers.first_s) == len(answers.heads) == 2
    assert all(0 < seconds < 5 for seconds in answers.transit_s + answers.first_s)


def test_a_stream_without_its_end_marker_fails_the_run() -> None:
    """A gateway whose log stopped ends a stream without it; that is not a whole answer."""
    body = chunk(b'data: {"delta":{"content":"t=1"}}\n\n') + b"0\r\n\r\n"
    with pytest.raises(CheckFailed, match="end marker"):
        outcome(STREAM_HEAD, body, streamed=True)
