"""A gateway behind its own listener, in a thread, for clients that block: `web` gives its address.

The site is the one of `site.py`, with a real log; only its engine is the test's to bring.
"""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from sovereign.gateway.server import listening
from tests.gateway.site import Site, site, until

UP_WITHIN_S = 30


@dataclass
class Web:
    """Where it listens, the key to it, and the site behind it."""

    url: str
    key: str
    site: Site


@contextmanager
def web(root: Path, address: str, *, aliases: Any = (), **endpoint: Any) -> Iterator[Web]:
    """Serve until the block ends; `endpoint` is what the registry says of the engine there."""
    up, over = threading.Event(), threading.Event()
    told: list[Web | BaseException] = []

    async def serve() -> None:
        async with site(root, address, aliases=aliases) as ours:
            ours.endpoint(address, **endpoint)
            await ours.seen()
            config = listening(ours.gateway)
            config.lifespan = "off"  # the site runs it
            config.timeout_graceful_shutdown = 1
            with socket.socket() as bound:
                bound.bind(("127.0.0.1", 0))
                server = uvicorn.Server(config)
                running = asyncio.create_task(server.serve(sockets=[bound]))
                await until(lambda: server.started)
                port = bound.getsockname()[1]
                told.append(Web(f"http://127.0.0.1:{port}", ours.secret, ours))
                up.set()
                await asyncio.to_thread(over.wait)
                server.should_exit = True
                await running

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            told.append(error)
            up.set()
            raise

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert up.wait(UP_WITHIN_S), f"not up within {UP_WITHIN_S} s"
        found = told[0]
        assert isinstance(found, Web), found
        yield found
    finally:
        over.set()
        thread.join(UP_WITHIN_S)
