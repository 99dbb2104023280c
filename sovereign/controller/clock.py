"""Whether the clock may be believed before something is erased for good.

A clock that is behind erases nothing too early: less is due. One that is ahead would. Inside a
process a counter that nobody can set shows a jump (`retain.py`); a process that starts has only
what was written before it, and what the kernel says of its clock. What counts is the last whole run
of the retention rules: that is a time that was believed. What else stands in the logs may have been
written by the same wrong clock a minute ago.

Who knows better is a person: `sovereign retention run --clock-is-right` writes so into the
operator's log. It counts for the time it was said at, and for no other.
"""

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sovereign import fleet
from sovereign.audit.erasures import when
from sovereign.audit.merkle import TILE_WIDTH
from sovereign.settings import Home

UNHEARD_MAX = timedelta(days=1)
"""So long no run was whole: a machine was off, or its clock is ahead."""
VOUCHED_MAX = timedelta(days=31)
"""Longer than this is not believed at once, though the kernel calls its clock synchronised."""
BEHIND_MAX = timedelta(hours=1)
"""More than any correction of a clock."""
ASKED_WITHIN = timedelta(days=1)
"""What was asked counts for so long, by the clock of whoever is asked."""
LOOKED_BACK = 256 * TILE_WIDTH
"""Records that are looked through for the last run; there are two runs a day."""
RUN, ASKED, RIGHT = "retention-run", "retention-asked", "right"
_TIME_ERROR = 5
"""`adjtimex(2)`: the clock is not synchronised."""
_TIMEX_BYTES = 1024
"""More than any `struct timex`; all zero asks for nothing to be set."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """What speaks against the clock, in our own words. `stops` says that nothing is erased."""

    why: str
    stops: bool


NONE = Doubt("", stops=False)


def doubt(now: datetime, last: datetime | None, *, synchronised: bool | None) -> Doubt:
    """Whether anything may be erased at `now`. Pure.

    Args:
        last: the newest time that was believed; None when there was none: a site that begins.
        synchronised: what the kernel says; None where it says nothing, which is no yes.
    """
    if last is None or -BEHIND_MAX <= now - last <= UNHEARD_MAX:
        return NONE
    if now < last:
        return Doubt("the clock is behind the last run: less is due than should be", stops=False)
    if now - last > VOUCHED_MAX:
        return Doubt("the clock is more than a month after the last run", stops=True)
    if synchronised:
        return NONE
    return Doubt("the clock is days after the last run, and not synchronised", stops=True)


def synchronised() -> bool | None:
    """What the kernel says of its clock; None where it cannot be asked."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else bool(state != _TIME_ERROR)


def last_run(home: Home) -> datetime | None:
    """When the last whole run was; None and raises as `newest_run`."""
    index, found = newest_run(home)
    return None if index < 0 else when(found["at"])


def newest_run(home: Home) -> tuple[int, dict[str, Any]]:
    """The record of the last whole run, and its index: -1 when there is none where one looks.

    Raises:
        TileDamaged, RecordInvalid: the controller's log cannot be read.
    """
    runs = (each for each in _backwards(home, "controller") if each[1]["type"] == RUN)
    return next(runs, (-1, {}))


def _backwards(home: Home, writer: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The newest records of a writer's evidence, the last one first, at most `LOOKED_BACK`."""
    for member in fleet.members(home):
        if (member.writer, member.stream) == (writer, "evidence"):
            end = fleet.size_of(member) or 0
            stop = max(0, end - LOOKED_BACK)
            while end > stop:
                start = max(stop, (end - 1) // TILE_WIDTH * TILE_WIDTH)
                yield from reversed(list(fleet.records(member, start, end)))
                end = start


@dataclass(frozen=True, slots=True)
class Asked:
    """That somebody asked for a run. `right_at` is the time they vouched for, if they did."""

    at: datetime
    right_at: datetime | None


class Asking:
    """Looks into the operator's log for who asks, and at each record once."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._read_to: int | None = None

    def newest(self, now: datetime) -> Asked | None:
        """What was asked since the last look, if it still counts at `now`.

        Raises:
            TileDamaged, RecordInvalid: the operator's log cannot be read.
        """
        found = [m for m in fleet.members(self._home) if m.writer == "operator"]
        for member in (m for m in found if m.stream == "evidence"):
            size = fleet.size_of(member) or 0
            first = max(0, size - TILE_WIDTH) if self._read_to is None else self._read_to
            self._read_to = size
            asked = [r for _, r in fleet.records(member, first, size) if r["type"] == ASKED]
            for said in reversed(asked):
                at = when(said["at"])
                if abs(now - at) <= ASKED_WITHIN:
                    return Asked(at, at if said["clock"] == RIGHT else None)
        return None
