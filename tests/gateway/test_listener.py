"""The real HTTP server in front, spoken to in raw bytes by clients that mean no good."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from sovereign.gateway import listener
from sovereign.gateway.listener import HEAD_MAX_BYTES
from sovereign.gateway.server import listening
from tests.gateway.site import CHAT, Site, disks, site, until
from tests.simulated.engine import MODEL, Engine, Exchange, chunk, engine

BODY = b'{"model":"%s","messages":[{"role":"user","content":"x"}]}' % MODEL.encode()


class Served:
    """A gateway behind its own listener, on a free port."""

    def __init__(self, ours: Site, it: Engine, port: int, server: uvicorn.Server) -> None:
        self.ours = ours
        self.server = server
        self.engine = it
        self.port = port

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def said(self, data: bytes, within_s: float = 5) -> bytes:
        """Send these bytes and read whatever comes until the other side closes, or is silent for
        half a second after an answer."""
        reader, writer = await self.open()
        answer = b""
        with suppress(ConnectionError, TimeoutError):
            writer.write(data)
            async with asyncio.timeout(within_s):
                while part := await asyncio.wait_for(reader.read(65_536), 0.5 if answer else 5):
                    answer += part
        writer.close()
        return answer

    def post(self, *headers: bytes, path: bytes = CHAT.encode(), key: bool = True) -> bytes:
        """The head of a chat request, with these headers."""
        lines = [b"POST %s HTTP/1.1" % path, b"host: x", *headers]
        if key:
            lines.append(b"authorization: Bearer " + self.ours.secret.encode())
        return b"\r\n".join([*lines, b"", b""])


@asynccontextmanager
async def served(tmp_path: Path, **bounds: int) -> AsyncIterator[Served]:
    async with engine() as it, site(tmp_path, it.address, disks(), **bounds) as ours:
        config = listening(ours.gateway)
        config.lifespan = "off"  # the site runs it
        config.timeout_graceful_shutdown = 1
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            server = uvicorn.Server(config)
            running = asyncio.create_task(server.serve(sockets=[bound]))
            await until(lambda: server.started)
            try:
                yield Served(ours, it, bound.getsockname()[1], server)
            finally:
                server.should_exit = True
                await running


def statuses(answer: bytes) -> list[int]:
    """The status of every response in what came back."""
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


async def test_a_chat_through_the_real_server(tmp_path: Path) -> None:
    """What the tests of the application leave out: that it can be reached at all."""
    async with served(tmp_path) as it:
        length = b"content-length: %d" % len(BODY)
        answer = await it.said(it.post(length) + BODY)
        assert statuses(answer) == [200]
        assert b"x-sovereign-record: local/gateway/event#" in answer
        assert b"server:" not in answer.lower()


HIDDEN = b"GET /hidden HTTP/1.1\r\nhost: x\r\n\r\n"
SMUGGLED = {
    "length and chunks": ([b"content-length: 5", b"transfer-encoding: chunked"], b"0\r\n\r\n"),
    "two lengths": ([b"content-length: 0", b"content-length: 35"], b""),
    "two lengths in one": ([b"content-length: 0, 35"], b""),
    "a signed length": ([b"content-length: +0"], b""),
    "a negative length": ([b"content-length: -1"], b""),
    "a length in hex": ([b"content-length: 0x5"], b""),
    "space before the colon": ([b"content-length : 0"], b""),
    "a folded header": ([b"x: a\r\n content-length: 35", b"content-length: 0"], b""),
    "chunks, but last": ([b"transfer-encoding: chunked, identity"], b"0\r\n\r\n"),
    "chunks, disguised": ([b"transfer-encoding: xchunked", b"content-length: 0"], b""),
    "a chunk without a size": ([b"transfer-encoding: chunked"], b"\r\n\r\n"),
    "a chunk that overflows": ([b"transfer-encoding: chunked"], b"f" * 20 + b"\r\n"),
    "a NUL in a header": ([b"x: a\0b", b"content-length: 0"], b""),
    "a bare CR in a header": ([b"x: a\rcontent-length: 35", b"content-length: 0"], b""),
}


@pytest.mark.parametrize("how", SMUGGLED)
async def test_a_request_hidden_in_another_is_refused_with_it(tmp_path: Path, how: str) -> None:
    """A proxy in front and we must agree where a request ends (RFC 9112, section 6)."""
    headers, body = SMUGGLED[how]
    async with served(tmp_path) as it:
        answer = await it.said(it.post(*headers) + body + HIDDEN)
        assert statuses(answer) == [400]
        assert b"connection: close" in answer
        assert it.engine.asked == []
    assert [r for r in it.ours.records("security") if r["type"] == "refusals"] == []


async def test_a_trailer_adds_nothing_to_what_was_decided_on(tmp_path: Path) -> None:
    """A key that comes behind the body is no key."""
    async with served(tmp_path) as it:
        trailer = b"authorization: Bearer " + it.ours.secret.encode()
        body = b"%x\r\n%s\r\n0\r\n%s\r\n\r\n" % (len(BODY), BODY, trailer)
        answer = await it.said(it.post(b"transfer-encoding: chunked", key=False) + body)
        assert statuses(answer) == [401]


async def test_the_end_of_a_large_body_is_not_taken_for_a_head(tmp_path: Path) -> None:
    """A long prompt comes in pieces, and the last may be larger than any head may be."""
    last = BODY.replace(b'"x"', b'"%s"' % (b"x" * (HEAD_MAX_BYTES + 1)))
    async with served(tmp_path) as it:
        reader, writer = await it.open()
        writer.write(it.post(b"content-length: %d" % len(last)) + last[:1])
        await asyncio.sleep(0.2)  # so that the rest arrives by itself
        writer.write(last[1:])
        async with asyncio.timeout(5):
            assert statuses(await reader.read(65_536)) == [200]
        writer.close()


@pytest.mark.parametrize("what", ["one header", "many headers", "the path"])
async def test_a_head_is_refused_when_it_is_too_large(tmp_path: Path, what: str) -> None:
    """Nobody has to be known to send one, so it must cost nothing."""
    async with served(tmp_path) as it:
        for size, fits in ((HEAD_MAX_BYTES - 1024, True), (HEAD_MAX_BYTES + 100_000, False)):
            head = {
                "one header": it.post(b"x: " + b"a" * size),
                "many headers": it.post(*([b"x: " + b"a" * 124] * (size // 128))),
                "the path": it.post(path=b"/" + b"a" * size),
            }[what]
            answer = await in_pieces(it, head)
            if fits:
                assert statuses(answer)[0] in (400, 404)
                assert b"request head" not in answer
            else:
                assert b"A request head may have at most" in answer or answer == b""


async def in_pieces(it: Served, data: bytes) -> bytes:
    """Send slowly enough to be read in pieces; return what came back."""
    reader, writer = await it.open()
    answer = b""
    with suppress(ConnectionError):
        for at in range(0, len(data), 4096):
            writer.write(data[at : at + 4096])
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            answer = await reader.read(4096)
    writer.close()
    return answer


async def test_a_head_that_does_not_end_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte a minute on a thousand connections is the cheapest attack there is."""
    monkeypatch.setattr(listener, "HEAD_TIMEOUT_S", 0.3)
    async with served(tmp_path) as it:
        for first in (b"", b"GET /healthz HTT", b"\r\n", b"GET /healthz HTTP/1.1\r\nx: "):
            assert await closed_while_dripping(it, first, b"")
        whole = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
        assert await closed_while_dripping(it, whole + b"GET /he", b"a")


async def test_the_rest_of_a_refused_body_is_not_read_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The 401 is out; whoever goes on sending is hung up on, and not at once, so that an honest
    client can read the answer."""
    monkeypatch.setattr(listener, "LINGER_S", 0.3)
    async with served(tmp_path) as it:
        head = it.post(b"transfer-encoding: chunked", key=False)
        assert await closed_while_dripping(it, head, b"1\r\na\r\n")


async def closed_while_dripping(it: Served, first: bytes, drop: bytes) -> bool:
    """True when the other side closes within 3 s although drops go on."""
    reader, writer = await it.open()
    with suppress(ConnectionError):
        writer.write(first)
        async with asyncio.timeout(5):
            for _ in range(60):
                with suppress(TimeoutError):
                    if not await asyncio.wait_for(reader.read(65_536), 0.05):
                        break
                writer.write(drop)
                await writer.drain()
            else:
                return False
    writer.close()
    return True


async def test_a_large_body_can_be_refused_and_the_connection_used_again(tmp_path: Path) -> None:
    """The bound on listening on must not break an honest client's next request."""
    async with served(tmp_path, body_max_bytes=1024) as it:
        big = b"x" * 300_000
        asked = it.post(b"content-length: %d" % len(big)) + big
        answer = await it.said(asked + b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert statuses(answer) == [413, 200]


async def endless(exchange: Exchange) -> None:
    await exchange.head(kind="text/event-stream")
    while not exchange.gone.is_set():
        await exchange.event(chunk("on "))
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("behind", [b"", HIDDEN], ids=["alone", "with another request behind it"])
@pytest.mark.parametrize("how", ["closed", "reset"])
async def test_a_client_that_goes_away_is_noticed_by_the_call_that_runs(
    tmp_path: Path, behind: bytes, how: str
) -> None:
    """Also when another request already waited in the pipe, which the server would tell instead."""
    async with served(tmp_path) as it:
        it.engine.script = endless
        body = BODY[:-1] + b',"stream":true}'
        reader, writer = await it.open()
        writer.write(it.post(b"content-length: %d" % len(body)) + body + behind)
        await it.engine.was_asked()
        await reader.read(1)
        if how == "closed":
            writer.close()
        else:
            writer.transport.abort()
        assert await it.engine.asked[0].hung_up()
        await until(lambda: bool(it.ours.kinds("completion")))
        (ending,) = it.ours.kinds("completion")
        assert ending["outcome"] == "client-gone"


async def test_a_client_that_goes_away_after_a_large_body_is_noticed(tmp_path: Path) -> None:
    """While a large body waits to be taken, nothing more is read: its end would not be heard."""
    async with served(tmp_path) as it:
        it.engine.script = endless
        body = BODY.replace(b'"x"', b'"' + b"x" * 1_000_000 + b'"')[:-1] + b',"stream":true}'
        _, writer = await it.open()
        writer.write(it.post(b"content-length: %d" % len(body)) + body)
        await it.engine.was_asked()
        writer.transport.abort()
        assert await it.engine.asked[0].hung_up()


async def test_a_client_that_is_gone_before_its_call_is_let_through_has_nothing_asked_for_it(
    tmp_path: Path,
) -> None:
    """It left while the decision was written: the engine never hears of it."""
    async with served(tmp_path) as it:
        record = it.ours.trail.arecord

        async def slowly(kind: str, **fields: Any) -> Any:
            recorded = await record(kind, **fields)
            if kind == "decision":
                writer.transport.abort()
                await asyncio.sleep(0.2)
            return recorded

        it.ours.trail.arecord = slowly  # type: ignore[method-assign]
        _, writer = await it.open()
        writer.write(it.post(b"content-length: %d" % len(BODY)) + BODY)
        await until(lambda: bool(it.ours.kinds("completion")))
        (ending,) = it.ours.kinds("completion")
        assert (ending["outcome"], ending["status"]) == ("client-gone", 499)
        assert it.engine.asked == []


async def test_a_server_that_is_stopped_accounts_for_the_answer_it_cuts(tmp_path: Path) -> None:
    """It drains first; what is still running then is cut, and its record says by whom."""
    async with served(tmp_path) as it:
        it.engine.script = endless
        body = BODY[:-1] + b',"stream":true}'
        reader, writer = await it.open()
        writer.write(it.post(b"content-length: %d" % len(body)) + body)
        await it.engine.was_asked()
        it.server.should_exit = True
        answer = await reader.read()
        writer.close()
        assert b"[DONE]" not in answer
        await until(lambda: bool(it.ours.kinds("completion")))
        (ending,) = it.ours.kinds("completion")
        assert (ending["outcome"], ending["status"]) == ("interrupted", 503)


async def test_two_requests_in_one_pipe_are_answered_in_their_order(tmp_path: Path) -> None:
    """Nothing of one gets into the other."""
    async with served(tmp_path) as it:
        asked = it.post(b"content-length: %d" % len(BODY)) + BODY
        answer = await it.said(asked + HIDDEN + asked)
        assert statuses(answer) == [200, 404, 200]


async def test_a_head_request_gets_no_body(tmp_path: Path) -> None:
    """Its status is a 405 like any other unknown method's."""
    async with served(tmp_path) as it:
        answer = await it.said(b"HEAD /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        assert statuses(answer) == [405]
        assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n", (400, 404)),
        (b"GET http://elsewhere/healthz HTTP/1.1\r\nhost: x\r\n\r\n", (200,)),
        (b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n", (400, 404)),
        (b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-odd: \xff\xfe\x80\r\n\r\n", (200,)),
        (b"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer \xff\xfe\r\n\r\n", (401,)),
        (b"GET /%ff%fe HTTP/1.1\r\nhost: x\r\n\r\n", (404,)),
        (b"GET /healthz HTTP/1.0\r\n\r\n", (200,)),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400,)),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", (400,)),
    ],
)
async def test_odd_requests_get_plain_answers(
    tmp_path: Path, head: bytes, status: tuple[int, ...]
) -> None:
    """Never a 500, never silence."""
    async with served(tmp_path) as it:
        assert statuses(await it.said(head))[0] in status


async def test_a_client_that_waits_for_continue_sends_no_body_before_it_is_known(
    tmp_path: Path,
) -> None:
    """100 is said only to who may go on."""
    async with served(tmp_path) as it:
        asked = (b"content-length: %d" % len(BODY), b"expect: 100-continue")
        assert statuses(await it.said(it.post(*asked, key=False))) == [401]
        assert statuses(await it.said(it.post(*asked) + BODY)) == [100, 200]


async def test_nothing_of_a_malformed_request_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What a client sends by mistake may be a letter to its doctor."""
    async with served(tmp_path) as it:
        for data in (b"CANARY CANARY\r\n\r\n", b"GET / CANARY\r\n\r\n", it.post(b"CANARY") + BODY):
            await it.said(data)
    said = capfd.readouterr()
    assert "CANARY" not in said.out + said.err
