"""Let an engine answer as many conversations at a time as it can; the others wait here.

An engine with a fixed number of slots makes whoever is one too many wait in a line of its own,
and the controller's one-token probe with them: a busy engine would look like a dead one, and be
quarantined for being used. So such an engine is started with one slot more than the gateway
gives away. An engine that batches (`turns` is None) is waited for only when the site bounds how
many calls it is given at a time.

Who is next is decided in `sovereign/limits/fair.py`: tenants share by their weights, a key that
may wait (`batch`) waits longer. This module makes calls wait: each in a future of its own, so that
a client that hangs up leaves the line at once. Every wait ends: after `wait_max_s` seconds, or when
the line is full of others, the call is told to come back.

KNOWN: a call that asks for more choices (`n`) than there are turns takes them all and the
probe's slot too, so that the probe waits until it is answered.
"""

import asyncio
from collections.abc import Iterable
from time import monotonic
from types import TracebackType

from sovereign.engines import ENGINES
from sovereign.gateway.refusal import Denied
from sovereign.keystore import Key
from sovereign.limits.fair import Line, Waiter
from sovereign.policy.shapes import Share
from sovereign.registry import Endpoint

BATCH = "batch"
WAITING_MAX, WAIT_MAX_S = 128, 60
COME_BACK_MAX_S = 60
_RECENT = 0.1
"""How much the newest call counts in the mean of how long calls hold their turns."""


class _Door:
    """One endpoint's line, and who waits in it."""

    def __init__(self, turns: int, waiting_max: int) -> None:
        self.line = Line(turns, waiting_max)
        self.held_s = 1.0
        self._calls: dict[Waiter, asyncio.Future[None]] = {}

    async def enter(self, waiter: Waiter, wait_max_s: float) -> None:
        """Return once it is this one's turn; being cancelled leaves the line.

        Raises:
            Denied: the line is full of others, or the wait was too long.
        """
        gone = self.line.join(waiter)
        if gone is waiter:
            raise self._too_many()
        if gone is not None:
            self._calls.pop(gone).set_exception(self._too_many())
        mine = self._calls[waiter] = asyncio.get_running_loop().create_future()
        self._serve()
        if mine.done():
            return
        try:
            async with asyncio.timeout(wait_max_s):
                await mine
        except BaseException as error:
            self._left(waiter, mine)
            if isinstance(error, TimeoutError):
                raise self._too_many() from None
            raise

    def leave(self, waiter: Waiter, held_s: float) -> None:
        """Give the turns back, and let the next ones in."""
        self.held_s += (held_s - self.held_s) * _RECENT
        self.line.done(waiter)
        self._serve()

    def _serve(self) -> None:
        while (waiter := self.line.call()) is not None:
            self._calls.pop(waiter).set_result(None)

    def _left(self, waiter: Waiter, mine: asyncio.Future[None]) -> None:
        """Whoever goes while waiting leaves the line, or the turns that were just given."""
        if self._calls.pop(waiter, None) is not None:
            self.line.leave(waiter)
        elif mine.done() and not mine.cancelled() and mine.exception() is None:
            self.line.done(waiter)
        self._serve()

    def _too_many(self) -> Denied:
        """Come back when those who wait now have been served, as far as one can tell."""
        ahead_s = self.held_s * (self.line.waiting + 1) / self.line.turns
        seconds = max(1, min(COME_BACK_MAX_S, round(ahead_s)))
        said = "the engine is busy, and as many calls wait for it as may wait"
        return Denied("too-many-requests", said, retry_after_s=seconds)


class Turns:
    """The lines of all endpoints."""

    def __init__(
        self,
        shares: Iterable[Share] = (),
        *,
        waiting_max: int = WAITING_MAX,
        wait_max_s: float = WAIT_MAX_S,
        batching_max: int | None = None,
    ) -> None:
        """
        Args:
            shares: weights of tenants; every other has 1.
            waiting_max: calls that may wait for one endpoint.
            wait_max_s: how long each may.
            batching_max: calls at a time for an engine that batches; None: as many as come.
        """
        self._weights = {share.tenant: share.weight for share in shares}
        self._waiting_max = waiting_max
        self._wait_max_s = wait_max_s
        self._batching_max = batching_max
        self._doors: dict[str, _Door] = {}

    def take(self, endpoint: Endpoint, wanted: int, key: Key | None = None) -> "_Turn":
        """Hold `wanted` turns, at most all there are, while the block runs.

        Raises:
            Denied: too many wait, or it took too long; the call never was the engine's.
        """
        turns = ENGINES[endpoint.engine].turns or self._batching_max
        if turns is None:
            return _Turn()
        door = self._doors.get(endpoint.id)
        if door is None:
            door = self._doors[endpoint.id] = _Door(turns, self._waiting_max)
        return _Turn(door, self._waiter(key, min(wanted, turns)), self._wait_max_s)

    def _waiter(self, key: Key | None, turns: int) -> Waiter:
        if key is None:
            return Waiter("", turns)
        weight = self._weights.get(key.tenant, 1)
        return Waiter(key.tenant, turns, weight, key.priority == BATCH)


class _Turn:
    """A call's turns at a door, which it waits for; at none it goes in at once."""

    __slots__ = ("_door", "_since", "_wait_max_s", "_waiter")

    def __init__(
        self, door: _Door | None = None, waiter: Waiter | None = None, wait_max_s: float = 0.0
    ) -> None:
        self._door = door
        self._waiter = waiter
        self._wait_max_s = wait_max_s

    async def __aenter__(self) -> None:
        if self._door is not None and self._waiter is not None:
            await self._door.enter(self._waiter, self._wait_max_s)
            self._since = monotonic()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._door is not None and self._waiter is not None:
            self._door.leave(self._waiter, monotonic() - self._since)
