"""The generic cell rate algorithm does what a slow and obvious bucket does, and nothing more."""

from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign.limits.gcra import Rate

MINUTE_NS = 60 * 10**9


@dataclass
class Bucket:
    """A bucket that empties drop by drop, in exact fractions, as anybody would write it."""

    rate: Rate
    level: Fraction = Fraction(0)
    at: int = 0

    def wait_until(self, now: int) -> None:
        gone = Fraction(now - self.at) * self.rate.at_most / self.rate.period_ns
        self.level = max(Fraction(0), self.level - gone)
        self.at = now

    def has_room_for(self, cost: int, reserved: int) -> bool:
        return self.level + reserved + min(cost, self.rate.burst) <= self.rate.burst


@st.composite
def rates(draw: st.DrawFn) -> Rate:
    at_most = draw(st.integers(1, 1000))
    return Rate(at_most, draw(st.integers(1, 10_000)), draw(st.integers(1, 2 * at_most)))


STEPS = st.lists(
    st.tuples(st.integers(0, 5000), st.integers(0, 50), st.integers(0, 80)), max_size=60
)
"""How long since the step before, what a call reserves, what it turns out to cost."""


@given(rates(), STEPS)
def test_it_agrees_with_a_slow_bucket_on_every_call(
    rate: Rate, steps: list[tuple[int, int, int]]
) -> None:
    """Fast arithmetic that is wrong by one lets a tenant through for ever, or never again."""
    slow, tat, now = Bucket(rate), 0, 0
    for passed, reserves, costs in steps:
        now += passed
        slow.wait_until(now)
        admitted = rate.wait_ns(tat, 0, now, reserves) == 0
        assert admitted == slow.has_room_for(reserves, 0)
        if admitted:
            tat = rate.charged(tat, now, costs)
            slow.level += costs
        assert rate.used(tat, now) == -(-slow.level.numerator // slow.level.denominator)


@given(rates(), st.integers(0, 500), st.integers(0, 500), st.integers(0, 500))
def test_the_wait_it_names_is_enough_and_one_nanosecond_less_is_not(
    rate: Rate, used: int, reserved: int, cost: int
) -> None:
    """`Retry-After` that is too short makes a client knock twice; too long wastes its time."""
    reserved = min(reserved, max(0, rate.burst - min(cost, rate.burst)))
    tat = rate.charged(0, 1000, used)
    wait = rate.wait_ns(tat, reserved, 1000, cost)
    assert rate.wait_ns(tat, reserved, 1000 + wait, cost) == 0
    if wait:
        assert rate.wait_ns(tat, reserved, 1000 + wait - 1, cost) > 0


@given(rates(), STEPS)
def test_in_any_time_no_more_comes_through_than_the_burst_and_what_came_back(
    rate: Rate, steps: list[tuple[int, int, int]]
) -> None:
    """The promise of a limit, whatever the pattern of calls."""
    tat, now, through = 0, 0, []
    for passed, asked, _ in steps:
        now += passed
        cost = min(asked, rate.burst)
        if rate.wait_ns(tat, 0, now, cost) == 0:
            tat = rate.charged(tat, now, cost)
            through.append((now, cost))
    for first, (since, _) in enumerate(through):
        for last in range(first, len(through)):
            much = sum(cost for _, cost in through[first : last + 1])
            came_back = Fraction((through[last][0] - since) * rate.at_most, rate.period_ns)
            assert much <= rate.burst + came_back


@pytest.mark.parametrize(("calls", "wait_s"), [(59, 0), (60, 1), (61, 2)])
def test_sixty_a_minute_are_sixty_at_once_and_then_one_a_second(calls: int, wait_s: int) -> None:
    """The case everybody checks by hand."""
    rate, tat = Rate(60, MINUTE_NS, 60), 0
    for _ in range(calls):
        tat = rate.charged(tat, 0, 1)
    assert rate.wait_ns(tat, 0, 0, 1) == wait_s * 10**9


def test_a_call_larger_than_the_burst_goes_through_a_full_bucket_and_leaves_a_debt() -> None:
    """A long document must not be refused for ever, and must not come for free either."""
    rate = Rate(60, MINUTE_NS, 10)
    assert rate.wait_ns(0, 0, 0, 100) == 0
    tat = rate.charged(0, 0, 100)
    assert rate.wait_ns(tat, 0, 0, 1) == 91 * 10**9
    assert rate.wait_ns(rate.charged(0, 0, 1), 0, 0, 100) == 10**9


def test_what_is_reserved_does_not_come_back_by_itself() -> None:
    """A call that runs for an hour still may cost what was set aside for it."""
    rate = Rate(60, MINUTE_NS, 10)
    assert rate.wait_ns(0, 10, 0, 1) > 0
    assert rate.wait_ns(0, 10, 3600 * 10**9, 1) > 0
    assert rate.left(0, 4, 0) == 6


def test_the_largest_limit_there_may_be_is_counted_exactly() -> None:
    """A rounding error would grow for as long as a gateway runs."""
    rate, now = Rate(10**12, MINUTE_NS, 10**12), 10**18
    tat = rate.charged(0, now, 10**12 - 1)
    assert rate.left(tat, 0, now) == 1
    assert rate.full_in_ns(tat, 0, now) == MINUTE_NS
