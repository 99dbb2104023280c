"""Sixty-four callers on one event loop, each waiting for its record: as a gateway uses the log.

Two things are timed for each record: how long its caller waits for the acknowledgement, and how
long the event loop's thread is kept by the call itself, before it goes on to somebody else.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from bench.figures import CheckFailed
from bench.waiting import completion
from sovereign.audit.log import utcnow
from sovereign.audit.trail import Trail
from sovereign.settings import Home

CALLERS = 64
PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds of each record: waited for, and kept the loop's thread."""

    waited_s: list[float]
    kept_s: list[float]


def concurrent(home: Home, writer: str, each: int) -> Waits:
    """Let every caller append `each` records, one after the other.

    Raises:
        CheckFailed: not all of them were acknowledged at an index of their own.
    """
    with Trail.open(home.audit, home.keys, writer, home.settings.site, utcnow) as trail:
        waits, indexes = asyncio.run(asyncio.wait_for(_all(trail, each), PATIENCE_S))
    if len(set(indexes)) != CALLERS * each:
        raise CheckFailed(f"{len(set(indexes))} of {CALLERS * each} records were acknowledged")
    return waits


async def _all(trail: Trail, each: int) -> tuple[Waits, list[int]]:
    waits = Waits([], [])
    callers = [_caller(trail, number, each, waits) for number in range(CALLERS)]
    found = await asyncio.gather(*callers)
    return waits, [index for indexes in found for index in indexes]


async def _caller(trail: Trail, caller: int, each: int, waits: Waits) -> list[int]:
    indexes = []
    for number in range(each):
        began = time.perf_counter()
        recorded: Any = await _Timed(trail.arecord("completion", **completion(number)), waits)
        waits.waited_s.append(time.perf_counter() - began)
        indexes.append(recorded.index)
    return indexes


class _Timed:
    """Awaits a coroutine and notes how long its first step kept the thread."""

    def __init__(self, coroutine: Any, waits: Waits) -> None:
        self._steps = coroutine.__await__()
        self._waits = waits

    def __await__(self) -> Any:
        began = time.perf_counter()
        waiting = next(self._steps)
        self._waits.kept_s.append(time.perf_counter() - began)
        yield waiting
        return (yield from self._steps)
