"""The loop the gateway runs in: uvloop's, which gives a TLS handshake as long as a request's head.

uvicorn does not hand on a bound for the handshake, and a loop allows a minute by itself.
"""

from collections.abc import Callable
from typing import Any

import uvloop

HANDSHAKE_TIMEOUT_S = 10.0


class BoundedLoop(uvloop.Loop):
    """An event loop."""

    async def create_server(
        self, protocol_factory: Callable[..., Any], *args: Any, **options: Any
    ) -> Any:
        """As `asyncio.loop.create_server`, with a bound for the handshake where there is one."""
        if options.get("ssl"):
            options.setdefault("ssl_handshake_timeout", HANDSHAKE_TIMEOUT_S)
        return await super().create_server(protocol_factory, *args, **options)
