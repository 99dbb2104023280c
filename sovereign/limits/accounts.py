"""What one holder has left of one limit: checked, reserved, settled.

What a call costs is known only at its end. So it reserves what it may cost, and is settled by what
it did; the two steps are one here for what is known at once. An account never says no by itself:
`wait_ns` says how long until there is enough, and its caller decides.

A time that goes back makes no window begin again: the newest that was seen stays the current one.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, cast

from sovereign.limits.rules import Rule
from sovereign.limits.windows import Every, window

ASK = -1
"""A wait that only shared state knows."""
UNREACHABLE = -2
"""Shared state does not answer, and the limit lets nobody through without it."""
SECOND_NS = 10**9


class Moment(NamedTuple):
    """A time twice: nanoseconds of a clock that never goes back, and seconds since 1970."""

    ns: int
    s: int


class Account(Protocol):
    """What the ledger asks of every kind of account. Costs are whole numbers, at least 0."""

    rule: Rule
    holder: str

    def wait_ns(self, now: Moment, cost: int) -> int:
        """Nanoseconds until `cost` can be taken, 0 for now, or one of the words above."""
        ...

    def reserve(self, now: Moment, cost: int) -> None:
        """Set `cost` aside; whoever does has asked for the wait before, in the same moment."""
        ...

    def settle(self, now: Moment, begun: Moment, reserved: int, actual: int) -> None:
        """Give back what was set aside at `begun` and take what was used."""
        ...

    def left(self, now: Moment) -> int:
        """What could be taken now."""
        ...

    def resets_s(self, now: Moment) -> int:
        """Whole seconds until nothing of it is used any more, as things stand."""
        ...


@dataclass(slots=True)
class RateAccount:
    """Counted every minute, by the generic cell rate algorithm."""

    rule: Rule
    holder: str
    tat: int = 0
    reserved: int = 0

    def wait_ns(self, now: Moment, cost: int) -> int:
        """See `Account`."""
        return self.rule.rate.wait_ns(self.tat, self.reserved, now.ns, cost)

    def reserve(self, now: Moment, cost: int) -> None:
        """See `Account`."""
        self.reserved += cost

    def settle(self, now: Moment, begun: Moment, reserved: int, actual: int) -> None:
        """See `Account`."""
        self.reserved -= reserved
        self.tat = self.rule.rate.charged(self.tat, now.ns, actual)

    def left(self, now: Moment) -> int:
        """See `Account`."""
        return self.rule.rate.left(self.tat, self.reserved, now.ns)

    def resets_s(self, now: Moment) -> int:
        """See `Account`."""
        return -(-self.rule.rate.full_in_ns(self.tat, self.reserved, now.ns) // SECOND_NS)


@dataclass(slots=True)
class WindowAccount:
    """Counted in a day or month of the calendar. `used` is what was used in the current one."""

    rule: Rule
    holder: str
    start: int = 0
    end: int = 0
    used: int = 0
    reserved: int = 0

    def at(self, now: Moment) -> None:
        """Begin the next window once the time has come; what runs then belongs to the last."""
        if now.s >= self.end:
            self.start, self.end = window(cast(Every, self.rule.every), now.s)
            self.used = self.reserved = 0

    def wait_ns(self, now: Moment, cost: int) -> int:
        """See `Account`."""
        self.at(now)
        if self.used + self.reserved + cost <= self.rule.at_most:
            return 0
        return max(1, self.end - now.s) * SECOND_NS

    def reserve(self, now: Moment, cost: int) -> None:
        """See `Account`."""
        self.reserved += cost

    def settle(self, now: Moment, begun: Moment, reserved: int, actual: int) -> None:
        """See `Account`. A call counts in the window in which it began."""
        self.at(now)
        if begun.s >= self.start:
            self.reserved -= reserved
            self.used += actual

    def left(self, now: Moment) -> int:
        """See `Account`."""
        self.at(now)
        return max(0, self.rule.at_most - self.used - self.reserved)

    def resets_s(self, now: Moment) -> int:
        """See `Account`."""
        self.at(now)
        return max(0, self.end - now.s)


@dataclass(slots=True)
class SeatsAccount:
    """Calls at a time: what is taken comes back when the call is over."""

    rule: Rule
    holder: str
    taken: int = 0

    def wait_ns(self, now: Moment, cost: int) -> int:
        """See `Account`. Nobody knows when a call will be over: a second is a guess."""
        return 0 if self.taken + cost <= self.rule.at_most else SECOND_NS

    def reserve(self, now: Moment, cost: int) -> None:
        """See `Account`."""
        self.taken += cost

    def settle(self, now: Moment, begun: Moment, reserved: int, actual: int) -> None:
        """See `Account`."""
        self.taken -= reserved

    def left(self, now: Moment) -> int:
        """See `Account`."""
        return max(0, self.rule.at_most - self.taken)

    def resets_s(self, now: Moment) -> int:
        """See `Account`."""
        return 1 if self.taken else 0
