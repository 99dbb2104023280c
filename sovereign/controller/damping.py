"""How often an endpoint must look well in a row before it is opened again. Pure.

Shutting is never damped: one bad look is enough. Opening is, for an endpoint that is shut again
and again: the first few times one good look opens it, then two in a row, four, eight, up to a
ceiling, so that even the worst is opened in the end. What counts are the times at which it was
shut, and these stand in the log: a controller that begins anew asks for no less than the one
before. Good looks it counts itself, from none, which errs on the shut side.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

TOLERATED = 3
"""So often an endpoint may be shut within `WINDOW` and opened at the first good look."""
WINDOW = timedelta(minutes=30)
LOOKS_MAX = 24
"""The ceiling: two minutes of good looks, with a round every five seconds."""
REMEMBERED_MAX = TOLERATED + LOOKS_MAX.bit_length()
"""So many times are enough to know what is asked for; older ones are forgotten."""


@dataclass(frozen=True, slots=True)
class Looks:
    """Good looks in a row so far, and how many it takes."""

    good: int
    needed: int

    @property
    def is_enough_with_one_more(self) -> bool:
        """Whether a good look now opens it."""
        return self.good + 1 >= self.needed


NONE = Looks(0, 1)


def needed(shut_at: Iterable[datetime], now: datetime) -> int:
    """Good looks in a row that open an endpoint which was shut at these times: 1 to `LOOKS_MAX`."""
    lately = sum(1 for at in shut_at if now - WINDOW < at)
    doublings = min(max(0, lately - TOLERATED), LOOKS_MAX.bit_length())
    return int(min(LOOKS_MAX, 2**doublings))


def shut(before: tuple[datetime, ...], at: datetime) -> tuple[datetime, ...]:
    """The times an endpoint was shut, with one more; no more are kept than count."""
    return (*before, at)[-REMEMBERED_MAX:]


def looked(good: Mapping[str, int], well: Iterable[str], all_seen: Iterable[str]) -> dict[str, int]:
    """Good looks in a row after a round: one more for each that is well, none for the others."""
    is_well = frozenset(well)
    return {name: good.get(name, 0) + 1 if name in is_well else 0 for name in all_seen}
