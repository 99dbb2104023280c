"""Whether the client of a request is still there, for whoever must stop working when it is not.

Our listener says so in a hook that costs two assignments a request (`HOOK` in the ASGI scope); any
other ASGI server by `receive`, in a task of its own for each request.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

HOOK = "sovereign.presence"
"""Where the listener leaves it in the extensions of the ASGI scope."""
Leave = Callable[[], object]


class Presence(Protocol):
    """One request's client. One at a time may want to know."""

    def watch(self, leave: Leave) -> bool:
        """From now on `leave` is called, once, when the client goes. False: it is gone already."""
        ...

    def forget(self) -> None:
        """Nobody wants to know any more."""
        ...


class Received:
    """Asks an ASGI server whose request was read to its end."""

    __slots__ = ("_receive", "_task")

    def __init__(self, receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> None:
        self._receive = receive
        self._task: asyncio.Task[None] | None = None

    def watch(self, leave: Leave) -> bool:
        """As `Presence` says; one that is gone already is noticed in the next step of the loop."""
        self._task = asyncio.ensure_future(self._look(leave))
        return True

    async def _look(self, leave: Leave) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        leave()

    def forget(self) -> None:
        if self._task is not None:
            self._task.cancel()
