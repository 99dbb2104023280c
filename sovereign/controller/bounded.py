"""Look at several things at a time, and wait for none of them longer than a bound.

A look that does not come back (a disk that hangs, a process that the kernel holds) keeps its
thread, which nobody can end, and nothing else: the others are looked at all the same, and what is
late is not looked at again before it has come back, so that threads do not pile up. What it says
then is thrown away; it is about another time.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from sovereign.errors import SovereignError

T = TypeVar("T")


class Bounded(Generic[T]):
    """Remembers what is late from one round to the next. For one caller at a time.

    Args:
        within_s: how long one look may take.
        together: how many run in the same moment, those that are late not counted.
    """

    def __init__(self, within_s: float, together: int) -> None:
        self._within_s = within_s
        self._together = together
        self._late: dict[str, threading.Thread] = {}

    @property
    def late(self) -> frozenset[str]:
        """What has not come back yet."""
        self._late = {name: each for name, each in self._late.items() if each.is_alive()}
        return frozenset(self._late)

    def run(self, looks: Mapping[str, Callable[[], T]]) -> dict[str, T]:
        """What came back in time, by name; what is late, or could not look, is not there.

        Returns within `within_s` for each `together` of them, whatever they do.
        """
        late = self.late
        waiting = deque(name for name in looks if name not in late)
        running: dict[str, tuple[threading.Thread, float]] = {}
        back: SimpleQueue[tuple[str, T | None]] = SimpleQueue()
        found: dict[str, T] = {}
        while waiting or running:
            while waiting and len(running) < self._together:
                name = waiting.popleft()
                running[name] = self._started(name, looks[name], back)
            soonest = min(deadline for _, deadline in running.values())
            try:
                name, value = back.get(timeout=max(0.0, soonest - time.monotonic()))
            except Empty:
                self._give_up(running)
                continue
            if running.pop(name, None) is not None and value is not None:
                found[name] = value
        return found

    def _started(
        self, name: str, look: Callable[[], T], back: "SimpleQueue[tuple[str, T | None]]"
    ) -> tuple[threading.Thread, float]:
        def run() -> None:
            value = None
            try:
                value = look()
            except (SovereignError, OSError, ValueError):
                pass  # it could not look: that is what its absence says
            finally:
                back.put((name, value))

        thread = threading.Thread(target=run, name="look", daemon=True)
        thread.start()
        return thread, time.monotonic() + self._within_s

    def _give_up(self, running: dict[str, tuple[threading.Thread, float]]) -> None:
        now = time.monotonic()
        for name in [name for name, (_, deadline) in running.items() if deadline <= now]:
            self._late[name] = running.pop(name)[0]
