"""A writer that serves gives signs of life, so that its silence means something.

One record in `security` at the start and every `ALIVE_EVERY_S`, and one at the end. That is a
hundred a day: cheap, bounded, and enough for `writers.py` to tell a writer that was down from
one whose records are gone.
"""

import threading
from concurrent.futures import TimeoutError as Late
from contextlib import suppress
from types import TracebackType
from typing import Self

from sovereign.audit import record
from sovereign.audit.log import Clock
from sovereign.audit.trail import Trail
from sovereign.audit.writers import ALIVE_EVERY_S
from sovereign.errors import LogUnwritable

LAST_WORD_S = 5.0


class Alive:
    """Use it as `with Alive(trail, clock):` around the time in which a process serves.

    A log that takes no record is met by whoever serves; it ends nothing here.
    """

    def __init__(self, trail: Trail, clock: Clock, every_s: float = ALIVE_EVERY_S) -> None:
        self._trail = trail
        self._since = record.written(clock())
        self._every_s = every_s
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="alive", daemon=True)

    def _run(self) -> None:
        while True:
            with suppress(LogUnwritable):
                self._trail.record("writer-alive", since=self._since, every_s=ALIVE_EVERY_S)
            if self._ending.wait(self._every_s):
                return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.set()
        self._thread.join(LAST_WORD_S)
        with suppress(LogUnwritable, Late):
            self._trail.record("writer-stopped", since=self._since).result(LAST_WORD_S)
