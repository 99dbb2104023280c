"""Notice that somebody who was speaking has fallen silent, at the price of two assignments a word.

One timer for a whole answer: it is set anew only when it goes off and finds that there was
something in the meantime.
"""

import asyncio
from collections.abc import Callable


class Silence:
    """Calls `cut` once, when a wait has lasted `limit_s`. `over` says that it did.

    It begins waiting at once; `heard` ends a wait and `waits` begins the next one, so that time
    spent on what was heard (a client that reads slowly) is nobody's silence.
    """

    __slots__ = ("_cut", "_limit_s", "_loop", "_since", "_timer", "over")

    def __init__(self, limit_s: float, cut: Callable[[], object]) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit_s = limit_s
        self._cut = cut
        self._since: float | None = None
        self._timer = self._loop.call_later(limit_s, self._look)
        self.over = False
        self.waits()

    def waits(self) -> None:
        """From now on somebody waits."""
        self._since = self._loop.time()

    def heard(self) -> None:
        """The wait is over."""
        self._since = None

    def end(self) -> None:
        """Nobody waits any more."""
        self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        due = (now if self._since is None else self._since) + self._limit_s
        if due > now:
            self._timer = self._loop.call_at(due, self._look)
            return
        self.over = True
        self._cut()
