"""Send chats over keep-alive connections and write down when what came back.

A client of our own, on bare protocols: what it costs is small, the same for everybody that is
measured, and bounded in time and in connections. It goes to loopback only.
"""

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from bench.figures import CheckFailed

FINISH_WITHIN_S = 10.0
"""How long after its time is up a phase may wait for what is still under way."""
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_STAMP = re.compile(rb'"content":"t=(\d+)"')
_OK = b"HTTP/1.1 200"
_END_OF_BODY = b"\r\n0\r\n\r\n"


@dataclass(slots=True)
class Answers:
    """What came back. `heads` are the raw heads of all answers, for whoever must account for them.

    Times are in seconds. `first_s` and `transit_s` are of streams: from sending the request to
    the first chunk, and from a chunk's leaving the engine to its arrival here.
    """

    whole_s: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    transit_s: list[float] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    elapsed_s: float = 0.0

    @property
    def per_s(self) -> float:
        """Answers a second while the phase ran."""
        return len(self.heads) / self.elapsed_s

    def add(self, more: "Answers") -> None:
        """Take the answers of a further phase into these."""
        self.whole_s += more.whole_s
        self.first_s += more.first_s
        self.transit_s += more.transit_s
        self.heads += more.heads
        self.elapsed_s += more.elapsed_s


def request(port: int, body: bytes, headers: dict[str, str]) -> bytes:
    """The bytes of one chat request to a server on loopback."""
    head = {
        "host": f"127.0.0.1:{port}",
        "content-type": "application/json",
        "content-length": str(len(body)),
        **headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"POST /v1/chat/completions HTTP/1.1\r\n{lines}\r\n".encode() + body


class _Connection(asyncio.Protocol):
    """One connection. `done` is set once it has nothing more to ask, or to the fault it met."""

    def __init__(self, asked: bytes, answers: Answers) -> None:
        self._asked = asked
        self._answers = answers
        self._seen = b""
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is of a class of its own
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("the connection was closed before the answer was whole")

    def _ask(self) -> None:
        assert self._transport is not None
        self._seen = b""
        self._sent_at = time.perf_counter()
        self._transport.write(self._asked)

    def _leave(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
        assert self._transport is not None
        self._transport.close()

    def _fail(self, why: str) -> None:
        if not self.done.done():
            self.done.set_exception(CheckFailed(why))

    def abandon(self) -> None:
        """Close at once; what is still under way is nobody's any more."""
        self.done.cancel()
        if self._transport is not None:
            self._transport.abort()


class _Asking(_Connection):
    """Asks for whole answers, one after another, until its time is up."""

    def __init__(self, asked: bytes, answers: Answers, until: float) -> None:
        super().__init__(asked, answers)
        self._until = until

    def data_received(self, data: bytes) -> None:
        seen = self._seen = self._seen + data if self._seen else data
        end = seen.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(seen, 0, end)
        if length is None or not seen.startswith(_OK):
            self._fail(f"not an answer to count: {seen[:300]!r}")
            return
        if len(seen) < end + 4 + int(length[1]):
            return
        now = time.perf_counter()
        self._answers.whole_s.append(now - self._sent_at)
        self._answers.heads.append(seen[:end])
        if now < self._until:
            self._ask()
        else:
            self._leave()


class _Listening(_Connection):
    """Asks for one stream and notes the arrival of every chunk."""

    _noted = 0

    def data_received(self, data: bytes) -> None:
        now_ns = time.perf_counter_ns()
        fresh = not self._seen
        self._seen += data
        if fresh and not data.startswith(_OK):
            self._fail(f"not a stream to count: {data[:300]!r}")
            return
        last = 0
        for stamp in _STAMP.finditer(self._seen, self._noted):
            self._answers.transit_s.append((now_ns - int(stamp[1])) / 1e9)
            last = stamp.end()
        if last and not self._noted:
            self._answers.first_s.append(now_ns / 1e9 - self._sent_at)
        self._noted = last or self._noted
        if self._seen.endswith(_END_OF_BODY):
            self._answers.heads.append(self._seen.partition(b"\r\n\r\n")[0])
            if b"data: [DONE]" not in self._seen:
                self._fail("a stream ended without its end marker")
            self._leave()


async def ask(port: int, asked: bytes, *, connections: int, seconds: float) -> Answers:
    """Keep `connections` busy with whole answers for `seconds`.

    Raises:
        CheckFailed: an answer was none, or did not come in time.
    """
    until = time.perf_counter() + seconds
    return await _run(port, lambda answers: _Asking(asked, answers, until), connections, seconds)


async def listen(port: int, asked: bytes, *, connections: int, seconds: float) -> Answers:
    """Open as many streams at once and hear each to its end, expected after `seconds`.

    Raises:
        CheckFailed: a stream broke off, or did not end in time.
    """
    return await _run(port, lambda answers: _Listening(asked, answers), connections, seconds)


async def _run(
    port: int, make: Callable[[Answers], _Connection], connections: int, seconds: float
) -> Answers:
    loop = asyncio.get_running_loop()
    answers = Answers()
    began = time.perf_counter()
    opened: list[_Connection] = []
    try:
        async with asyncio.timeout(seconds + FINISH_WITHIN_S):
            for _ in range(connections):
                _, one = await loop.create_connection(lambda: make(answers), "127.0.0.1", port)
                opened.append(one)
            await asyncio.gather(*(one.done for one in opened))
    except TimeoutError:
        raise CheckFailed(f"answers still missing {FINISH_WITHIN_S:g} s after the end") from None
    finally:
        for one in opened:
            one.abandon()
    answers.elapsed_s = time.perf_counter() - began
    return answers
