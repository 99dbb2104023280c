"""An engine made of a script: a real HTTP server on loopback that says what a test tells it to.

It exists for what a real engine does only when it pleases: break off in the middle, say nonsense,
stay silent. It speaks through a real socket in the event loop of the test, so the gateway's own
client, its time limits and its hanging up are the real ones. Everything it was asked is kept, with
headers, so that a test can say what never reached it.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

MODEL = "smollm2-135m-instruct"
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
_REASONS = {200: "OK", 302: "Found", 400: "Bad Request", 401: "Unauthorized", 500: "Error"}


@dataclass
class Exchange:
    """One request, and the way to answer it as well or as badly as the script likes.

    `gone` is set once the gateway has hung up.
    """

    path: str
    headers: dict[str, str]
    raw: bytes
    writer: asyncio.StreamWriter
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def body(self) -> dict[str, Any]:
        """What was sent, parsed."""
        parsed: dict[str, Any] = json.loads(self.raw)
        return parsed

    async def head(self, status: int = 200, kind: str = "application/json", **more: str) -> None:
        """Status line and headers; the body goes on until the connection closes."""
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Whatever')}", f"content-type: {kind}"]
        lines += [f"{name}: {value}" for name, value in more.items()]
        await self.say("\r\n".join([*lines, "connection: close", "", ""]).encode())

    async def say(self, data: bytes) -> None:
        """Bytes, at once. Whoever hung up does not hear them."""
        with suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def answer(self, content: object, status: int = 200) -> None:
        """A whole JSON answer."""
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        await self.head(status, **{"content-length": str(len(raw))})
        await self.say(raw)

    async def event(self, content: object) -> None:
        """One event of a stream."""
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        await self.say(b"data: " + raw + b"\n\n")

    async def hung_up(self, within_s: float = 5) -> bool:
        """Wait for the gateway to hang up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self.gone.wait()
        return self.gone.is_set()

    def cut(self) -> None:
        """Break the connection off without a goodbye."""
        self.writer.transport.abort()


Script = Callable[[Exchange], Awaitable[None]]


class Engine:
    """The running server. `script` may be changed between requests; `asked` only grows."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[Exchange] = []
        self.address = ""
        self._serving: set[asyncio.Task[None]] = set()
        self._arrived = asyncio.Condition()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request; every answer ends with the connection."""
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            exchange = await _read(reader, writer)
            async with self._arrived:
                self.asked.append(exchange)
                self._arrived.notify_all()
            watch = asyncio.create_task(_watch(reader, exchange))
            await self.script(exchange)
            watch.cancel()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the other side of a test that is over, or that is about this
        finally:
            self._serving.discard(task)
            writer.close()

    async def was_asked(self, times: int = 1, within_s: float = 10) -> None:
        """Wait until this many requests have come in."""
        async with asyncio.timeout(within_s), self._arrived:
            await self._arrived.wait_for(lambda: len(self.asked) >= times)

    async def close(self) -> None:
        """End every script that still runs."""
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Exchange:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    raw = await reader.readexactly(int(headers.get("content-length", "0")))
    return Exchange(first.split(" ")[1], headers, raw, writer)


async def _watch(reader: asyncio.StreamReader, exchange: Exchange) -> None:
    with suppress(ConnectionError):
        await reader.read()
    exchange.gone.set()


@asynccontextmanager
async def engine(script: Script | None = None) -> AsyncIterator[Engine]:
    """Serve on a free port of loopback until the block ends; by default it answers well."""
    it = Engine(script or answering())
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0)
    it.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield it
    finally:
        server.close()
        await it.close()


def completion(text: str, **more: object) -> dict[str, object]:
    """A whole answer in OpenAI's shape, which all our engines speak."""
    message = {"role": "assistant", "content": text}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": USAGE,
        **more,
    }


def chunk(text: str, finish: str | None = None, **more: object) -> dict[str, object]:
    """One chunk of a streamed answer."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}],
        **more,
    }


def answering(text: str = "Paris.") -> Script:
    """A script that answers well: whole, or streamed in three chunks and one of usage."""

    async def script(exchange: Exchange) -> None:
        if not exchange.body.get("stream"):
            await exchange.answer(completion(text))
            return
        await exchange.head(kind="text/event-stream")
        await exchange.event(chunk(text[:2]))
        await exchange.event(chunk(text[2:]))
        await exchange.event(chunk("", "stop"))
        await exchange.event({**chunk(""), "choices": [], "usage": USAGE})
        await exchange.event(b"[DONE]")

    return script


def saying(content: object, status: int = 200) -> Script:
    """A script that gives one answer to everything, good or bad."""

    async def script(exchange: Exchange) -> None:
        await exchange.answer(content, status)

    return script
