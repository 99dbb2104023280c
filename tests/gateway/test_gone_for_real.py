"""Clients that leave real engines, and real engines that leave their clients.

What an engine does is read from its own metrics: how many answers it works at, and how many tokens
it has generated so far.
"""

import asyncio
import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sovereign.engines import ENGINES, LaunchSpec
from sovereign.engines.llamacpp import packaged_model
from tests.engines.running import Running, free_port, running
from tests.gateway.conftest import LONG
from tests.gateway.reachable import reachable
from tests.gateway.site import CHAT, Site, site, until
from tests.gateway.tiny import at
from tests.simulated.engine import MODEL

STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
LLAMACPP = ("llamacpp:requests_processing", "llamacpp:tokens_predicted_total")
COMPLETIONS = "/v1/completions"
WITHIN_S = 20
"""For a machine under load; how quick it is on a quiet one is a measurement, not a test."""


@dataclass
class Watched:
    """A real engine and the names of what it says of itself."""

    engine: Running
    at_work: str
    generated: str

    def _value(self, name: str) -> float:
        connection = HTTPConnection(self.engine.spec.host, self.engine.spec.port, timeout=WITHIN_S)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        values = re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, values))

    async def works(self) -> float:
        """Answers it works at."""
        return await asyncio.to_thread(self._value, self.at_work)

    async def tokens(self) -> float:
        """Tokens it has generated since its start; llama.cpp counts an answer when it is over."""
        return await asyncio.to_thread(self._value, self.generated)

    async def until_works(self, count: int) -> float:
        """Wait until it works at so many; the seconds it took."""
        began = time.monotonic()
        while await self.works() != count:
            assert time.monotonic() < began + WITHIN_S, f"it does not work at {count}"
            await asyncio.sleep(0.02)
        return time.monotonic() - began


def smol(folder: Path) -> LaunchSpec:
    """The default engine with a model that has much to say."""
    return LaunchSpec(
        found=ENGINES["llamacpp"].find(),
        model=packaged_model(),
        served_name=MODEL,
        host="127.0.0.1",
        port=free_port(),
        context=LONG,
        state_dir=folder,
    )


@pytest.fixture(scope="module", params=["llamacpp", pytest.param("vllm", marks=pytest.mark.engine)])
def watched(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "llamacpp":
        with running(ENGINES["llamacpp"], smol(folder), ready_within_s=60) as it:
            yield Watched(it, *LLAMACPP)
        return
    it = request.getfixturevalue("long_vllm")
    yield Watched(it, "vllm:num_requests_running", "vllm:generation_tokens_total")


def long(model: str, stream: bool) -> bytes:
    """A question with an answer of a thousand tokens and more."""
    words = [{"role": "user", "content": "Count from one to one thousand, in words."}]
    body = {"model": model, "messages": words, "max_tokens": 1500, "stream": stream}
    return msgspec.json.encode({**body, "temperature": 0})


def endless(*, stream: bool) -> bytes:
    """A text that has no end of its own."""
    body = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 1900, "ignore_eos": True}
    return msgspec.json.encode({**body, "stream": stream})


def head(ours: Site, body: bytes, path: str = CHAT) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "host: x",
        f"authorization: Bearer {ours.secret}",
        f"content-length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def opened(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = url.removeprefix("http://").partition(":")
    return await asyncio.open_connection(host, int(port))


@STREAMED
async def test_a_client_that_leaves_stops_the_engine_and_is_counted(
    tmp_path: Path, watched: Watched, stream: bool
) -> None:
    """Nobody pays for words that nobody will read, and the log says that they were begun."""
    async with site(tmp_path) as ours, reachable(ours) as url:
        await at(ours, watched.engine)
        await watched.until_works(0)
        before = await watched.tokens()
        reader, writer = await opened(url)
        writer.write(head(ours, long(watched.engine.spec.served_name, stream)))
        await watched.until_works(1)
        if stream:
            for _ in range(4):
                await reader.readuntil(b"\n\n")
        writer.transport.abort()
        await watched.until_works(0)
        assert await watched.tokens() - before < 1500
        after = await watched.tokens()
        await asyncio.sleep(0.3)
        assert await watched.tokens() == after, "it goes on"
        await until(lambda: bool(ours.kinds("completion")), WITHIN_S)
        (ending,) = ours.kinds("completion")
        assert (ending["outcome"], ending["status"]) == ("client-gone", 499)
        assert (ending["tokens_out"] > 0) is stream


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An engine that a test may hurt."""
    folder = tmp_path_factory.mktemp("own")
    with running(ENGINES["llamacpp"], smol(folder), ready_within_s=60) as it:
        yield it


@pytest.mark.parametrize("beside", [0, 1], ids=["alone", "beside another's stream"])
async def test_a_client_that_leaves_in_the_middle_of_a_whole_answer_stops_the_engine(
    tmp_path: Path, own: Running, beside: int
) -> None:
    """Asked for it whole, llama.cpp goes on to its end: half a minute of a processor for nobody."""
    watched = Watched(own, *LLAMACPP)
    async with site(tmp_path) as ours, reachable(ours) as url:
        await at(ours, own)
        _, other = await opened(url)
        if beside:
            other.write(head(ours, endless(stream=True), COMPLETIONS))
            await watched.until_works(1)
        _, writer = await opened(url)
        writer.write(head(ours, endless(stream=False), COMPLETIONS))
        await watched.until_works(1 + beside)
        await asyncio.sleep(1.2)  # it has read the prompt, and writes
        assert await watched.works() == 1 + beside
        writer.transport.abort()
        await watched.until_works(beside)
        other.transport.abort()
        await watched.until_works(0)


async def rest_of(reader: asyncio.StreamReader) -> dict[str, Any]:
    """The last event of a stream that is read to its end."""
    async with asyncio.timeout(WITHIN_S):
        data = await reader.readuntil(b"0\r\n\r\n")
    last = data.rpartition(b"data: ")[2].partition(b"\n\n")[0]
    event: dict[str, Any] = msgspec.json.decode(last)
    return event


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGSTOP, "engine-timed-out"), (signal.SIGKILL, "engine-failed")],
    ids=["stopped", "killed"],
)
async def test_an_engine_that_is_stopped_or_killed_in_its_answer_ends_it_honestly(
    tmp_path: Path, own: Running, number: signal.Signals, code: str
) -> None:
    """The last chunk finishes with `error`; a piece is never taken for the whole."""
    async with site(tmp_path, engine_idle_timeout_s=1) as ours, reachable(ours) as url:
        await at(ours, own)
        reader, writer = await opened(url)
        writer.write(head(ours, long(MODEL, stream=True)))
        for _ in range(4):
            await reader.readuntil(b"\n\n")
        own.process.send_signal(number)
        try:
            last = await rest_of(reader)
        finally:
            if number == signal.SIGSTOP:
                os.kill(own.process.pid, signal.SIGCONT)
        assert last["choices"][0]["finish_reason"] == "error"
        assert last["error"]["code"] == code
        (ending,) = ours.kinds("completion")
        assert ending["outcome"] == code
        assert ending["tokens_out"] > 0
        writer.close()
