"""The bare pass-through that ours is measured beside: `python -m bench.bare UPSTREAM`.

The same server (uvicorn, uvloop, httptools) and the same client (aiohttp) as the gateway,
with nothing between: no key, no policy, no record, no look at what passes.
"""

import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import aiohttp
import uvicorn

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
PASSED = ("content-type", "content-length")


class Bare:
    """Passes every request on to one address, and the answer back as it arrives."""

    def __init__(self, upstream: str) -> None:
        self._base = f"http://{upstream}"
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await self._pass(scope["path"], receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=256), cookie_jar=aiohttp.DummyCookieJar()
        )
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._session.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _pass(self, path: str, receive: Receive, send: Send) -> None:
        assert self._session is not None
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        kind = {"content-type": "application/json"}
        async with self._session.post(self._base + path, data=body, headers=kind) as answer:
            headers = [
                (name.encode(), answer.headers[name].encode())
                for name in PASSED
                if name in answer.headers
            ]
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            async for data in answer.content.iter_any():
                await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def main() -> None:
    """Listen on a free port of loopback, say which, and serve until ended."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(
        Bare(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
