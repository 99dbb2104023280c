"""Connections to an engine: when they are kept, when not, and what is sent over them.

The engine is a real server on loopback that keeps its connections open, as engines do.
"""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sovereign.engines import Upstream
from sovereign.gateway import upstream as module
from sovereign.gateway.refusal import Denied
from sovereign.gateway.upstream import NotSent, Upstreams
from tests.engines.running import free_port
from tests.gateway.site import until
from tests.needs import need

WISH = Upstream("/v1/chat/completions", {"a": "ü"}, ())
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
YES = OK + b"content-length: 2\r\n\r\n{}"
HEAD = OK + b"content-length: 1000000\r\n\r\n"
HAS_IPV6 = Path("/proc/net/if_inet6").exists()
Say = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Engine:
    """A server that answers every request over a connection. `asked` holds what came, for each
    connection; `ended` are the connections that the other side hung up on."""

    say: Say
    address: str = ""
    asked: list[list[bytes]] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    ended: set[int] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(self.asked)
        self.asked.append([])
        self.writers.append(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.rpartition(b"content-length: ")[2])
                self.asked[number].append(head + await reader.readexactly(length))
                await self.say(writer)
        self.ended.add(number)
        writer.close()

    @property
    def times(self) -> list[int]:
        """How often it was asked over each of its connections."""
        return [len(each) for each in self.asked]

    async def hung_up_on(self, number: int) -> bool:
        """Wait until the connection is ended from the other side."""
        await until(lambda: number in self.ended)
        return True


def saying(*words: bytes) -> Say:
    """Says these, one a request, and the last of them for ever."""
    left = list(words)

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(left.pop(0) if len(left) > 1 else left[0])

    return say


@asynccontextmanager
async def both(say: Say) -> AsyncIterator[tuple[Engine, Upstreams]]:
    """An engine, and our connections to it."""
    it = Engine(say)
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0)
    it.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    ours = Upstreams(idle_timeout_s=5)
    try:
        yield it, ours
    finally:
        await ours.close()
        server.close()
        for writer in it.writers:
            writer.transport.abort()


async def asked(ours: Upstreams, address: str) -> bytes:
    async with asyncio.timeout(10), ours.post(address, WISH) as answer:
        return await answer.read(1000)


async def test_the_engine_sees_this_and_nothing_else() -> None:
    """No header of a client's can be among them, and none that says who we are."""
    async with both(saying(YES)) as (it, ours):
        assert await asked(ours, it.address) == b"{}"
        ((raw,),) = it.asked
        head, _, body = raw.partition(b"\r\n\r\n")
        assert head.decode().split("\r\n") == [
            "POST /v1/chat/completions HTTP/1.1",
            f"host: {it.address}",
            "accept: */*",
            "accept-encoding: identity",
            "user-agent: sovereign",
            "content-type: application/json",
            "content-length: 10",
        ]
        assert body == '{"a":"ü"}'.encode()


async def test_a_connection_whose_answer_was_read_is_used_again() -> None:
    """A new one for each call costs more than the call."""
    async with both(saying(YES)) as (it, ours):
        for _ in range(5):
            await asked(ours, it.address)
        assert it.times == [5]


async def test_two_calls_at_a_time_never_share_one() -> None:
    """An answer would go to the wrong client."""
    gate = asyncio.Event()

    async def say(writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        writer.write(YES)

    async with both(say) as (it, ours):
        calls = [asyncio.ensure_future(asked(ours, it.address)) for _ in range(3)]
        await until(lambda: it.times == [1, 1, 1])
        gate.set()
        assert await asyncio.gather(*calls) == [b"{}"] * 3
        assert it.times == [1, 1, 1]


@pytest.mark.parametrize("leave", ["unread", "half read", "an error in the block", "cancelled"])
async def test_whoever_leaves_an_answer_before_its_end_hangs_up(leave: str) -> None:
    """The engine stops working for nobody, and the next call hears nothing of this answer."""
    async with both(saying(HEAD + b"{" * 10, YES)) as (it, ours):

        async def left() -> None:
            async with ours.post(it.address, WISH) as answer:
                if leave == "half read":
                    assert await answer.piece()
                if leave == "an error in the block":
                    raise KeyError
                if leave == "cancelled":
                    await answer.read(10_000_000)

        call = asyncio.ensure_future(left())
        if leave == "cancelled":
            await until(lambda: it.times == [1])
            call.cancel()
        with suppress(KeyError, asyncio.CancelledError):
            await call
        assert await it.hung_up_on(0)
        assert await asked(ours, it.address) == b"{}"
        assert it.times == [1, 1]


async def test_a_call_that_is_cancelled_before_an_answer_hangs_up() -> None:
    """Most clients that leave do so while the prompt is read."""

    async def silent(writer: asyncio.StreamWriter) -> None:
        return None

    async with both(silent) as (it, ours):
        call = asyncio.ensure_future(asked(ours, it.address))
        await until(lambda: it.times == [1])
        call.cancel()
        assert await it.hung_up_on(0)


@pytest.mark.parametrize(
    "said",
    [
        OK + b"connection: close\r\ncontent-length: 2\r\n\r\n{}",
        YES + YES,
        YES + b"x",
        b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
    ],
    ids=["told to", "a second answer", "a byte more", "HTTP/1.0"],
)
async def test_a_connection_that_is_not_surely_free_is_not_used_again(said: bytes) -> None:
    """What is left in it could pass for the next answer."""
    async with both(saying(said, YES)) as (it, ours):
        assert await asked(ours, it.address) == b"{}"
        assert await asked(ours, it.address) == b"{}"
        assert it.times == [1, 1]


MARKER = b"data: [DONE]\n\n"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
STREAM_TO_ITS_MARKER = STREAM + b"e\r\n" + MARKER + b"\r\n"


async def told(ours: Upstreams, address: str) -> None:
    """Read a stream up to its marker, and want no more of it."""
    async with asyncio.timeout(10), ours.post(address, WISH) as answer:
        assert await answer.piece() == MARKER
        answer.told = True


@pytest.mark.parametrize("end", [b"0\r\n\r\n", b"2\r\n\n\n\r\n0\r\n\r\n"], ids=["end", "and more"])
async def test_a_stream_that_was_told_gives_its_connection_back_when_its_end_comes(
    end: bytes,
) -> None:
    """Engines send the end marker first and the end of the exchange in another packet: a new
    connection for each streamed answer costs more than waiting for it, and nobody waits."""

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_TO_ITS_MARKER)
        await asyncio.sleep(0.02)
        writer.write(end)

    async with both(say) as (it, ours):
        for _ in range(3):
            await told(ours, it.address)
            await asyncio.sleep(0.05)
        assert it.times == [3]


@pytest.mark.parametrize("then", ["nothing", "too much", "an end like none", "hangs up"])
async def test_a_stream_that_was_told_and_does_not_end_is_hung_up(
    then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that goes on after the marker works for nobody."""
    monkeypatch.setattr(module, "KEPT_IDLE_S", 0.2)

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_TO_ITS_MARKER)
        await asyncio.sleep(0.02)
        if then == "too much":
            for _ in range(20):
                writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        elif then == "an end like none":
            writer.write(b"zz\r\n")
        elif then == "hangs up":
            writer.transport.abort()

    async with both(say) as (it, ours):
        await told(ours, it.address)
        assert await it.hung_up_on(0)
        await told(ours, it.address)
        assert it.times == [1, 1]


async def test_a_connection_that_an_engine_ends_by_habit_is_not_used_again() -> None:
    """llama.cpp says that it stays and hangs up a moment later, after each stream: for that moment
    it looks free, and what is sent then is lost."""

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_TO_ITS_MARKER + b"0\r\n\r\n")

    async with both(say) as (it, ours):
        for _ in range(2):
            async with ours.post(it.address, WISH, stays=False) as answer:
                assert await answer.piece() == MARKER
                answer.told = True
        assert it.times == [1, 1]


async def test_closing_hangs_up_on_those_that_have_not_come_to_their_end() -> None:
    """A gateway that ends leaves no engine with open connections."""
    async with both(saying(STREAM_TO_ITS_MARKER)) as (it, ours):
        await told(ours, it.address)
        await ours.close()
        assert await it.hung_up_on(0)


async def test_one_that_was_closed_while_this_process_stood_still_costs_no_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A machine that was paused, or busy for seconds, hears only later what happened meanwhile."""
    monkeypatch.setattr(module, "LOOKED_AT_AFTER_S", 0.05)
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(10)
    hangs_up = threading.Event()

    def serve() -> None:
        for _ in range(2):
            with server.accept()[0] as connection:
                connection.recv(65_536)
                connection.sendall(YES)
                hangs_up.wait(10)

    thread = threading.Thread(target=serve)
    thread.start()
    ours = Upstreams(idle_timeout_s=5)
    address = f"127.0.0.1:{server.getsockname()[1]}"
    assert await asked(ours, address) == b"{}"
    hangs_up.set()
    time.sleep(0.3)  # noqa: ASYNC251 - nothing is read meanwhile, and that is the point
    assert await asked(ours, address) == b"{}"
    await ours.close()
    await asyncio.to_thread(thread.join)
    server.close()


@pytest.mark.parametrize("how", ["closed", "reset", "spoke"])
async def test_one_that_died_while_it_was_free_costs_no_call(how: str) -> None:
    """The call goes over another one, and is sent once: not a byte of it had gone out."""
    async with both(saying(YES)) as (it, ours):
        await asked(ours, it.address)
        if how == "closed":
            it.writers[0].close()
        elif how == "reset":
            it.writers[0].transport.abort()
        else:
            it.writers[0].write(YES)
            await it.hung_up_on(0)
        await asyncio.sleep(0.05)
        assert await asked(ours, it.address) == b"{}"
        assert it.times == [1, 1]


async def test_one_that_dies_with_a_call_is_not_tried_again() -> None:
    """The engine may have begun: it is the gateway that decides whether another is asked."""

    async def once(writer: asyncio.StreamWriter) -> None:
        if sum(it.times) == 1:
            writer.write(YES)
        else:
            writer.transport.abort()

    async with both(once) as (it, ours):
        await asked(ours, it.address)
        with pytest.raises(Denied, match="engine-unhealthy") as denied:
            await asked(ours, it.address)
        assert not isinstance(denied.value, NotSent)
        assert it.times == [2]


async def test_one_that_was_free_for_too_long_is_hung_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines close theirs after five seconds: what is sent at that moment is lost."""
    monkeypatch.setattr(module, "KEPT_IDLE_S", 0.2)
    async with both(saying(YES)) as (it, ours):
        await asked(ours, it.address)
        assert await it.hung_up_on(0)
        await asked(ours, it.address)
        assert it.times == [1, 1]
        assert await it.hung_up_on(1)


async def test_one_that_is_too_old_is_not_taken_even_when_nobody_swept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A loop that was busy for seconds sweeps late."""
    async with both(saying(YES)) as (it, ours):
        await asked(ours, it.address)
        monkeypatch.setattr(module, "KEPT_IDLE_S", 0)
        await asked(ours, it.address)
        assert it.times == [1, 1]


async def test_closing_hangs_up_those_that_nobody_uses() -> None:
    """A gateway that ends leaves no engine with open connections."""
    async with both(saying(YES)) as (it, ours):
        await asked(ours, it.address)
        await ours.close()
        assert await it.hung_up_on(0)


async def test_where_nobody_takes_a_connection_nothing_was_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Then, and only then, another engine may be asked the same."""
    monkeypatch.setattr(module, "CONNECT_TIMEOUT_S", 0.3)
    ours = Upstreams(idle_timeout_s=5)
    with pytest.raises(NotSent):
        await asked(ours, f"127.0.0.1:{free_port()}")
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        address = deaf.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:  # they fill its queue; it never accepts
            each.setblocking(False)
            each.connect_ex(address)
        with pytest.raises(NotSent):
            await asked(ours, f"127.0.0.1:{address[1]}")
        for each in waiting:
            each.close()
    await ours.close()


async def test_an_answer_is_read_up_to_its_bound_and_then_left() -> None:
    """Memory is the bound, not the engine's patience."""

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"content-length: 100000000\r\n\r\n")
        for _ in range(1000):
            writer.write(b"x" * 65_536)
            await writer.drain()

    async with both(say) as (it, ours):
        with pytest.raises(Denied, match="answer-too-large"):
            await asked(ours, it.address)
        assert await it.hung_up_on(0)


async def test_an_engine_at_an_ipv6_address_is_reached() -> None:
    """A private network may have nothing else."""
    need(HAS_IPV6, "the machine has no IPv6", "enable it on loopback")
    it = Engine(saying(YES))
    server = await asyncio.start_server(it.serve, "::1", 0)
    ours = Upstreams(idle_timeout_s=5)
    address = f"[::1]:{server.sockets[0].getsockname()[1]}"
    assert await asked(ours, address) == b"{}"
    assert f"host: {address}\r\n".encode() in it.asked[0][0]
    await ours.close()
    server.close()
