"""A gateway of the tests behind its real HTTP server, for clients that speak through a socket."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn

from sovereign.gateway.server import listening
from tests.gateway.site import Site, until


@asynccontextmanager
async def reachable(ours: Site) -> AsyncIterator[str]:
    """Serve on a free port of loopback, in the loop of the test; give its address as a URL."""
    config = listening(ours.gateway)
    config.lifespan = "off"  # the site runs it
    config.timeout_graceful_shutdown = 1
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve(sockets=[bound]))
        await until(lambda: server.started)
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            server.should_exit = True
            await running
