"""One allowance for several gateways, without asking for each call.

A gateway asks shared state for a part of the allowance and spends it by itself:

  * of what comes back evenly it buys some units at a time, charged when bought (`Bought`); what is
    not used within the period is gone;
  * of a budget it claims an amount, its own use included (`Claimed`). The sum of all claims never
    exceeds the budget. A claim is made again out of what this gateway itself has used, so shared
    state that was lost, or a gateway that crashed, leaves no wrong sum behind.

While shared state cannot be asked (`Link.up` is false) an account falls back on what this gateway
counts alone, or refuses, as the limit says. That local count goes on all the time.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from sovereign.limits.accounts import (
    ASK,
    SECOND_NS,
    UNREACHABLE,
    Account,
    Moment,
    RateAccount,
    WindowAccount,
)
from sovereign.limits.gcra import Rate
from sovereign.limits.rules import Rule

PARTS = 20
"""A gateway takes about a twentieth at a time: of a burst, or of what a budget has left."""
ASKED_AGAIN_NS = SECOND_NS
"""How long a no of shared state is believed: others may give back what they did not use."""
IDLE_S = 10
"""A claim that nobody used for so long goes down to what was used."""


@dataclass(slots=True)
class Link:
    """Whether shared state answers."""

    up: bool = False


class Sold(NamedTuple):
    """The answer to a wish for units: the new state, what was given, how long to wait for more."""

    tat: int
    given: int
    wait_ns: int


def sell(rate: Rate, tat: int, now_ns: int, owed: int, need: int, want: int) -> Sold:
    """Charge what is owed, then give `want` units, or what is there if that is `need` at least.

    Never more than the rate admits, but for `owed`, which was used already.
    """
    if owed:
        tat = rate.charged(tat, now_ns, owed)
    for units in dict.fromkeys((want, max(need, min(want, rate.left(tat, 0, now_ns))), need)):
        if rate.wait_ns(tat, 0, now_ns, units) == 0:
            return Sold(rate.charged(tat, now_ns, units), units, 0)
    return Sold(tat, 0, rate.wait_ns(tat, 0, now_ns, need))


def claim(at_most: int, others: int, used: int, need: int, want: int) -> int:
    """What a gateway may claim of a budget: `used`, and up to `want` more, if there is that much.

    Never less than what it has used, and beyond that never more than others leave.
    """
    free = at_most - others - used
    if free < need:
        return used
    return used + max(need, min(want, free // 2))


@dataclass(slots=True)
class Bought:
    """A `RateAccount` that is bought from shared state."""

    local: RateAccount
    link: Link
    stock: int = 0
    reserved: int = 0
    until_ns: int = 0
    told_no_until_ns: int = 0
    wait_told_ns: int = 0
    rule: Rule = field(init=False)
    holder: str = field(init=False)

    def __post_init__(self) -> None:
        self.rule, self.holder = self.local.rule, self.local.holder

    def wait_ns(self, now: Moment, cost: int) -> int:
        """See `Account`."""
        if not self.link.up:
            return UNREACHABLE if self.rule.refuses else self.local.wait_ns(now, cost)
        self._expire(now)
        if self.stock - self.reserved >= min(cost, self.rule.burst):
            return 0
        return self.wait_told_ns if now.ns < self.told_no_until_ns else ASK

    def reserve(self, now: Moment, cost: int) -> None:
        """See `Account`."""
        self.reserved += cost
        self.local.reserve(now, cost)

    def settle(self, now: Moment, begun: Moment, reserved: int, actual: int) -> None:
        """See `Account`."""
        self.reserved -= reserved
        self.stock -= actual
        self.local.settle(now, begun, reserved, actual)

    def left(self, now: Moment) -> int:
        """What this gateway alone would have left: nobody is asked for a header."""
        return self.local.left(now)

    def resets_s(self, now: Moment) -> int:
        """See `left`."""
        return self.local.resets_s(now)

    def wish(self, now: Moment, cost: int) -> tuple[int, int, int]:
        """What is owed, what is needed for a call of `cost`, and what would be good to have."""
        self._expire(now)
        need = min(cost, self.rule.burst) + self.reserved - max(0, self.stock)
        part = max(1, self.rule.burst // PARTS)
        return (
            max(0, -self.stock),
            max(0, min(need, self.rule.burst)),
            max(0, min(need + part, self.rule.burst)),
        )

    def is_low(self, now: Moment) -> bool:
        """Whether to ask before a call has to wait for it."""
        self._expire(now)
        return self.stock - self.reserved < max(1, self.rule.burst // PARTS) // 2

    def receive(self, now: Moment, sold: Sold) -> None:
        """Take what shared state gave."""
        self.stock = max(0, self.stock) + sold.given
        self.until_ns = now.ns + self.rule.rate.period_ns
        if sold.wait_ns:
            self.told_no_until_ns = now.ns + min(sold.wait_ns, ASKED_AGAIN_NS)
            self.wait_told_ns = sold.wait_ns

    def lose(self) -> None:
        """Shared state is back after it was away: what was used meanwhile has come back there."""
        self.stock = self.told_no_until_ns = 0

    def _expire(self, now: Moment) -> None:
        if now.ns >= self.until_ns and self.stock > self.reserved:
            self.stock = self.reserved


@dataclass(slots=True)
class Claimed:
    """A `WindowAccount` of which a part is claimed in shared state."""

    local: WindowAccount
    link: Link
    claim: int = 0
    start: int = 0
    busy_s: int = 0
    told_no_until_ns: int = 0
    rule: Rule = field(init=False)
    holder: str = field(init=False)

    def __post_init__(self) -> None:
        self.rule, self.holder = self.local.rule, self.local.holder

    def wait_ns(self, now: Moment, cost: int) -> int:
        """See `Account`."""
        if not self.link.up:
            return UNREACHABLE if self.rule.refuses else self.local.wait_ns(now, cost)
        wait = self.local.wait_ns(now, cost)
        if wait:
            return wait
        self._turn()
        if self.local.used + self.local.reserved + cost <= self.claim:
            return 0
        if now.ns < self.told_no_until_ns:
            return max(1, self.local.end - now.s) * SECOND_NS
        return ASK

    def reserve(self, now: Moment, cost: int) -> None:
        """See `Account`."""
        self.busy_s = now.s
        self.local.reserve(now, cost)

    def settle(self, now: Moment, begun: Moment, reserved: int, actual: int) -> None:
        """See `Account`."""
        self.local.settle(now, begun, reserved, actual)

    def left(self, now: Moment) -> int:
        """What this gateway alone would have left: nobody is asked for a header."""
        return self.local.left(now)

    def resets_s(self, now: Moment) -> int:
        """See `Account`."""
        return self.local.resets_s(now)

    def wish(self, now: Moment, cost: int) -> tuple[int, int, int]:
        """What is in use, what a call of `cost` needs beside it, and what would be good to have."""
        self.local.at(now)
        self._turn()
        in_use = self.local.used + self.local.reserved
        idle = now.s - self.busy_s >= IDLE_S
        part = 0 if idle and not cost else max(1, self.rule.at_most // PARTS)
        return in_use, cost, max(cost, part)

    def is_low(self, now: Moment) -> bool:
        """Whether to say something: there is little left, or too much for nobody."""
        self.local.at(now)
        self._turn()
        spare = self.claim - self.local.used - self.local.reserved
        if now.s - self.busy_s >= IDLE_S:
            return spare != 0
        part = max(1, self.rule.at_most // PARTS)
        return spare < part // 2 and self.claim < self.rule.at_most

    def receive(self, now: Moment, claimed: int, cost: int) -> None:
        """Take what shared state let this gateway claim, a call of `cost` included or not."""
        self.claim = claimed
        if claimed < self.local.used + self.local.reserved + cost:
            self.told_no_until_ns = now.ns + ASKED_AGAIN_NS

    def lose(self) -> None:
        """Shared state is back after it was away: what is claimed has to be claimed again."""
        self.claim = self.told_no_until_ns = 0

    def _turn(self) -> None:
        if self.start != self.local.start:
            self.start, self.claim, self.told_no_until_ns = self.local.start, 0, 0


Shared = Bought | Claimed


def shared(link: Link, account: Account) -> Account:
    """The same account, shared; one that counts calls at a time stays each gateway's own."""
    if isinstance(account, RateAccount):
        return Bought(account, link)
    return Claimed(account, link) if isinstance(account, WindowAccount) else account
