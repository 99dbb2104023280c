"""Many engines in one process: `python -m bench.endpoints COUNT SOCKET` prints their ports.

Each answers a one-token chat at once, on a port of its own. On the socket stands what an observer
of their hosts would say of any of them: an engine with every switch as it should be.
"""

import asyncio
import resource
import sys
from pathlib import Path
from typing import Literal

import msgspec

from sovereign.engines import ENGINES
from sovereign.host import EngineProcess

ENGINE: Literal["llamacpp"] = "llamacpp"
MODEL = "smollm2-135m-instruct"
WAITING_MAX = 256
_CHOICE = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
_BODY = msgspec.json.encode(
    {"id": "1", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [_CHOICE]}
)
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(_BODY) + _BODY
_OBSERVED = msgspec.json.encode(
    EngineProcess(
        77,
        {
            rule.name: rule.must_be
            for rule in ENGINES[ENGINE].required_environment()
            if rule.must_be is not None
        },
        ("127.0.0.1:8080",),
    )
)


async def _chat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.partition(b":")[2])
        for line in head.lower().split(b"\r\n")
        if line.startswith(b"content-length:")
    )
    await reader.readexactly(length)
    await _say(writer, _ANSWER)


async def _observe(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _say(writer, _OBSERVED)


async def _say(writer: asyncio.StreamWriter, what: bytes) -> None:
    writer.write(what)
    await writer.drain()
    writer.close()


async def serve(count: int, socket: Path) -> None:
    """Listen, say where, and answer until the process is ended."""
    await asyncio.start_unix_server(_observe, str(socket), backlog=WAITING_MAX)
    ports = []
    for _ in range(count):
        server = await asyncio.start_server(_chat, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
    print(*ports, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
