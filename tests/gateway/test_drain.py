"""A gateway that is told to stop: what runs is finished, what comes is refused, and it ends."""

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest

from sovereign.settings import Home
from tests.gateway.process import Running, command, gateway, prepared
from tests.gateway.site import site, until
from tests.simulated.engine import Exchange, chunk, engine

ENDS_WITHIN_S = 30
"""A bound for a machine under load; what is promised of time is compared with `drain_s`."""


def paced(free: asyncio.Event, pieces: int = 5) -> object:
    """A script that streams a piece, and goes on when it is told to: llama.cpp is asked for
    streams alone."""

    async def script(exchange: Exchange) -> None:
        await exchange.head(kind="text/event-stream")
        await exchange.event(chunk("on "))
        await free.wait()
        for _ in range(pieces):
            await exchange.event(chunk("on "))
        await exchange.event(chunk("", "stop"))
        await exchange.event(b"[DONE]")

    return script


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Everything up to the end of the connection."""
    async with asyncio.timeout(ENDS_WITHIN_S):
        return await reader.read(-1)


async def refuses(it: Running) -> None:
    """Wait until new connections are refused."""
    for _ in range(ENDS_WITHIN_S * 20):
        if not await it.status("/healthz"):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it still lets clients in")


async def test_answers_that_run_are_finished_and_nobody_new_is_let_in(tmp_path: Path) -> None:
    """An update of the gateway is not an outage of the people who use it."""
    free = asyncio.Event()
    async with engine(paced(free)) as mock, gateway(tmp_path, {"e0": mock.address}) as it:  # type: ignore[arg-type]
        opened = [await it.open() for _ in range(3)]
        for (_, writer), stream in zip(opened, (True, True, False), strict=True):
            writer.write(it.chat(stream))
        await mock.was_asked(2)  # as many as have a turn; the third waits for one of them
        it.process.send_signal(signal.SIGTERM)
        await refuses(it)
        assert it.process.returncode is None
        free.set()
        answers = [await rest(reader) for reader, _ in opened]
        assert [answer.count(b" 200 ") for answer in answers] == [1, 1, 1]
        assert [answer.count(b"[DONE]") for answer in answers] == [1, 1, 0]
        assert b'"content":"on on on on on on "' in answers[2]
        assert await it.ended(ENDS_WITHIN_S) == 0
        endings = it.records("event", "completion")
        assert [e["outcome"] for e in endings] == ["answered"] * 3
        assert it.records("security", "writer-stopped")
        assert '"event":"gateway-log-closed"' in it.said


async def test_what_idles_or_never_finishes_asking_does_not_hold_it_up(tmp_path: Path) -> None:
    """A browser that was left open must not decide when the gateway restarts."""
    async with engine() as mock, gateway(tmp_path, {"e0": mock.address}, drain_s=15) as it:
        idle, idle_writer = await it.open()
        idle_writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
        await idle.readuntil(b"}")
        halves = [await it.open() for _ in range(2)]
        halves[1][1].write(b"POST /v1/chat/completions HT")
        await asyncio.sleep(0.2)
        loop = asyncio.get_running_loop()
        began = loop.time()
        it.process.send_signal(signal.SIGTERM)
        assert await it.ended(ENDS_WITHIN_S) == 0
        assert loop.time() - began < 14, "it waited for them"


@pytest.mark.parametrize("reads", [True, False], ids=["who reads", "who does not read"])
async def test_an_answer_that_does_not_end_is_cut_when_time_is_up_and_says_so(
    tmp_path: Path, reads: bool
) -> None:
    """The bound holds for a stream without end, and for a client that never takes what is there."""

    async def endless(exchange: Exchange) -> None:
        await exchange.head(kind="text/event-stream")
        while not exchange.gone.is_set():
            await exchange.event(chunk("on " * (1 if reads else 10_000)))
            await asyncio.sleep(0.01)

    async with (
        engine(endless) as mock,
        gateway(tmp_path, {"e0": mock.address}, drain_s=1, answer_max_bytes=2**30) as it,
    ):
        reader, writer = await it.open()
        writer.write(it.chat())
        await mock.was_asked()
        told = asyncio.create_task(rest(reader)) if reads else None
        if not reads:
            reader._transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(0.5)
        it.process.send_signal(signal.SIGTERM)
        assert await it.ended(ENDS_WITHIN_S) == 0
        (ending,) = it.records("event", "completion")
        assert (ending["outcome"], ending["status"]) == ("interrupted", 503)
        assert ending["tokens_out"] > 0
        assert await mock.asked[0].hung_up()
        if told is not None:
            assert b"[DONE]" not in await told
        writer.close()


async def test_it_says_that_it_is_not_ready_from_the_moment_it_is_told(tmp_path: Path) -> None:
    """A load balancer must not send one more call to it."""
    async with engine() as mock, gateway(tmp_path, {"e0": mock.address}) as it:
        assert await it.status("/readyz") == 200
        it.process.send_signal(signal.SIGTERM)
        found = [await it.status("/readyz") for _ in range(20)]
        first = next(i for i, status in enumerate(found) if status != 200)
        assert first <= 1, "the signal itself may come a moment later"
        assert set(found[first:]) <= {0, 503}
        assert await it.ended(ENDS_WITHIN_S) == 0


async def test_not_ready_names_the_reason(tmp_path: Path) -> None:
    """It answers calls that come all the same, so the word is not that something is broken."""
    async with engine() as mock, site(tmp_path, mock.address) as ours:
        ours.gateway.drains = True
        ready = await ours.ask("GET", "/readyz")
        assert (ready.status, ready.json["lacking"]) == (503, ["drained"])
        assert (await ours.chat()).status == 200
        assert (await ours.ask("GET", "/healthz")).status == 200


async def test_a_gateway_that_is_killed_leaves_what_ran_without_an_ending(tmp_path: Path) -> None:
    """The other way to end: nothing is made up afterwards."""
    free = asyncio.Event()
    async with engine(paced(free)) as mock, gateway(tmp_path, {"e0": mock.address}) as it:  # type: ignore[arg-type]
        reader, writer = await it.open()
        writer.write(it.chat())
        await mock.was_asked()
        await reader.readuntil(b"on ")
        it.process.kill()
        assert await it.ended(ENDS_WITHIN_S) == -signal.SIGKILL
        assert [r["type"] for r in it.journal("event")][-1] == "decision"
        await until(mock.asked[0].gone.is_set)
        writer.close()


_HANDED = 'exec 3<&"$1"; shift; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"'


async def handed(home: Home, listener: socket.socket) -> asyncio.subprocess.Process:
    """A gateway that is given its listener, as systemd gives one (sd_listen_fds(3))."""
    number = listener.fileno()
    return await asyncio.create_subprocess_exec(
        *("bash", "-c", _HANDED, "bash", str(number), *command(home, drain_s=5)),
        env={**os.environ, "HOME": str(home.root)},
        pass_fds=(number,),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_who_comes_between_two_gateways_waits_and_is_answered(tmp_path: Path) -> None:
    """On a host systemd holds the door, so that an update is no outage at all."""
    async with engine() as mock:
        home, secret = prepared(tmp_path, {"e0": mock.address})
        port = int(home.settings.gateway.listen.rpartition(":")[2])
        with socket.create_server(("127.0.0.1", port)) as listener:
            first = Running(home, await handed(home, listener), secret)
            assert await first.status("/healthz") == 200  # asked before it ran, as well
            first.process.send_signal(signal.SIGTERM)
            await first.ended(ENDS_WITHIN_S)
            reader, writer = await first.open()
            writer.write(first.chat(stream=False))
            second = await handed(home, listener)
            try:
                head = await asyncio.wait_for(reader.readuntil(b"\r\n"), ENDS_WITHIN_S)
                assert b" 200 " in head
            finally:
                second.kill()
                await second.communicate()
        writer.close()


async def test_a_listener_at_another_address_is_not_taken(tmp_path: Path) -> None:
    """A gateway at an address that the settings do not name would be one that nobody decided on."""
    async with engine() as mock:
        home, _ = prepared(tmp_path, {"e0": mock.address})
        with socket.create_server(("127.0.0.1", 0)) as listener:
            process = await handed(home, listener)
            _, said = await asyncio.wait_for(process.communicate(), ENDS_WITHIN_S)
        assert process.returncode == 3, said
        assert b"the service manager listens at" in said
