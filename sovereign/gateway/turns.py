"""Let an engine answer as many conversations at a time as it can; the others wait here, in order.

An engine with a fixed number of slots makes whoever is one too many wait in a line of its own,
and the controller's one-token probe with them: a busy engine would look like a dead one, and be
quarantined for being used. So such an engine is started with one slot more than the gateway
gives away. An engine that batches (`turns` is None) is never made to wait for.

KNOWN: a call that asks for more choices (`n`) than there are turns takes them all and the
probe's slot too, so that the probe waits until it is answered.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sovereign.engines import ENGINES
from sovereign.registry import Endpoint


@dataclass(slots=True)
class _Line:
    free: asyncio.Semaphore
    door: asyncio.Lock = field(default_factory=asyncio.Lock)


class Turns:
    """The lines of all endpoints."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}

    @asynccontextmanager
    async def take(self, endpoint: Endpoint, wanted: int) -> AsyncIterator[None]:
        """Hold `wanted` turns, at most all there are, while the block runs.

        Only whoever stands at the door collects turns, so two calls never wait for each other.
        """
        limit = ENGINES[endpoint.engine].turns
        if limit is None:
            yield
            return
        line = self._lines.setdefault(endpoint.id, _Line(asyncio.Semaphore(limit)))
        taken = 0
        try:
            async with line.door:
                while taken < min(wanted, limit):
                    await line.free.acquire()
                    taken += 1
            yield
        finally:
            for _ in range(taken):
                line.free.release()
