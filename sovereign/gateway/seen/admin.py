"""The admin listener: one page, `/metrics`, on an address of its own and never among the routes.

It listens on loopback, or on a private network at a declared place (`settings.py` refuses what is
neither). A gateway that cannot be looked at is still needed: where the address is taken it serves
all the same, says so once and tries again, and whoever scrapes sees that nothing answers.
"""

import asyncio
import socket

import uvicorn
from uvicorn.server import ServerState

from sovereign import eventlog
from sovereign.gateway.call import Headers, Message, Receive, Send
from sovereign.gateway.listener import BoundedProtocol
from sovereign.gateway.seen.exposition import CONTENT_TYPE, Exposition

PATH = "/metrics"
CONNECTIONS_MAX = 16
KEEP_ALIVE_S = 75
"""Longer than the minute between two scrapes that Prometheus makes by default."""
AGAIN_S = 10.0
_TEXT: Headers = [(b"content-type", b"text/plain; charset=utf-8")]


class Page:
    """The application behind the listener."""

    def __init__(self, exposition: Exposition) -> None:
        self._exposition = exposition
        self._one_at_a_time = asyncio.Lock()

    async def __call__(self, scope: Message, _: Receive, send: Send) -> None:
        """Answer one request; whatever is not HTTP is not answered."""
        if scope["type"] != "http":
            return
        status, headers, body = 404, _TEXT, b"not found\n"
        if scope["path"] == PATH and scope["method"] in ("GET", "HEAD"):
            status, headers, body = (
                200,
                [(b"content-type", CONTENT_TYPE.encode())],
                await self._page(),
            )
        elif scope["path"] == PATH:
            status, headers, body = 405, [*_TEXT, (b"allow", b"GET, HEAD")], b"GET and HEAD only\n"
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
        shown = b"" if scope["method"] == "HEAD" else body
        await send({"type": "http.response.body", "body": shown})

    async def _page(self) -> bytes:
        async with self._one_at_a_time:
            taken = self._exposition.take()
            return await asyncio.to_thread(self._exposition.render, taken)


class Admin:
    """Listens in the event loop of the gateway, from `start` to `stop`."""

    def __init__(self, listen: str, exposition: Exposition) -> None:
        self._listen = listen
        self._exposition = exposition
        self._state = ServerState()
        self._task: asyncio.Task[None] | None = None
        self._server: asyncio.Server | None = None

    def start(self) -> None:
        """Begin to listen, now or as soon as the address is free."""
        self._task = asyncio.create_task(self._open())

    async def _open(self) -> None:
        said = False
        while self._server is None:
            try:
                bound = bind(self._listen)
            except OSError as error:
                if not said:
                    reason = error.strerror or type(error).__name__
                    eventlog.emit("admin-address-taken", address=self._listen, reason=reason)
                said = True
                await asyncio.sleep(AGAIN_S)
                continue
            self._server = await self._serve(bound)
        eventlog.emit("admin-listening", listen=self._listen)

    async def _serve(self, bound: socket.socket) -> asyncio.Server:
        config = uvicorn.Config(
            Page(self._exposition),
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        config.load()

        def connected() -> BoundedProtocol:
            return BoundedProtocol(config=config, server_state=self._state, app_state={})

        return await asyncio.get_running_loop().create_server(connected, sock=bound)

    async def stop(self) -> None:
        """Stop listening, and close what is open."""
        if self._task is not None:
            self._task.cancel()
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._state.connections):
            connection.shutdown()


def bind(address: str) -> socket.socket:
    """A socket that listens there.

    Raises:
        OSError: another program does, or this machine cannot.
    """
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host.strip("[]"), int(port)), family=family)
