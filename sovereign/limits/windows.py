"""Days and months of the calendar, in UTC, as whole seconds since 1970.

A window is `[start, end)`. UTC has no summer time, so a day is 86,400 seconds; leap seconds do not
exist in POSIX time. A month ends where the next one begins, whatever its length.
"""

from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Literal

DAY_S = 86_400
Every = Literal["day", "month"]
_EPOCH = date(1970, 1, 1).toordinal()


def day_of(second: int) -> int:
    """The ordinal of the day, as `date.toordinal` counts."""
    return _EPOCH + second // DAY_S


def starts(day: int) -> int:
    """The first second of a day given by its ordinal."""
    return (day - _EPOCH) * DAY_S


@lru_cache(maxsize=64)
def days_of(every: Every, day: int) -> tuple[int, int]:
    """The first day of the window that `day` lies in, and the first of the next one."""
    if every == "day":
        return day, day + 1
    on = date.fromordinal(day)
    following = date(on.year + on.month // 12, on.month % 12 + 1, 1)
    return on.replace(day=1).toordinal(), following.toordinal()


def window(every: Every, second: int) -> tuple[int, int]:
    """The window a second lies in: its first second, and the first of the next one."""
    first, following = days_of(every, day_of(second))
    return starts(first), starts(following)


def written(second: int) -> str:
    """A second as people and records read it."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
