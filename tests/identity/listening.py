"""A site behind a real socket, for clients that are programs of their own."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn

from sovereign.gateway.server import listening
from sovereign.gateway.tls import Certificate
from tests.gateway.site import Site, until


@asynccontextmanager
async def port_of(site: Site, certificate: Certificate | None = None) -> AsyncIterator[int]:
    """The port a served site is reached at, over TLS when it has a certificate."""
    config = listening(site.gateway, certificate)
    config.lifespan = "off"  # the site runs it
    config.timeout_graceful_shutdown = 1
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve(sockets=[bound]))
        await until(lambda: server.started)
        try:
            yield bound.getsockname()[1]
        finally:
            server.should_exit = True
            await running
