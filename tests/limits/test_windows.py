"""A day and a month end when the calendar says so, in UTC, and money is never rounded."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign.limits.money import PICO, Prices, euros, pico
from sovereign.limits.windows import Every, day_of, days_of, starts, window, written
from sovereign.policy.shapes import UsagePrice

TIMES = st.integers(86_400, 7_258_031_999).map(lambda at: datetime.fromtimestamp(at, UTC))


def second(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


@pytest.mark.parametrize(
    ("every", "now", "begins", "ends"),
    [
        ("day", "2028-02-28T23:59:59+00:00", "2028-02-28", "2028-02-29"),
        ("day", "2028-02-29T00:00:00+00:00", "2028-02-29", "2028-03-01"),
        ("day", "2027-02-28T12:00:00+00:00", "2027-02-28", "2027-03-01"),
        ("month", "2028-02-29T23:59:59+00:00", "2028-02-01", "2028-03-01"),
        ("month", "2027-01-31T23:59:59+00:00", "2027-01-01", "2027-02-01"),
        ("month", "2026-12-31T23:59:59+00:00", "2026-12-01", "2027-01-01"),
        ("month", "2100-02-28T00:00:00+00:00", "2100-02-01", "2100-03-01"),
        ("month", "2027-03-31T23:30:00-01:00", "2027-04-01", "2027-05-01"),
        ("day", "2027-03-28T02:30:00+02:00", "2027-03-28", "2027-03-29"),
    ],
)
def test_a_window_ends_where_the_calendar_says(
    every: Every, now: str, begins: str, ends: str
) -> None:
    """Leap days, ends of months and years, a century without one, and times of other zones."""
    found = window(every, second(now))
    assert found == (second(f"{begins}T00:00:00+00:00"), second(f"{ends}T00:00:00+00:00"))


@given(TIMES, st.sampled_from(["day", "month"]))
def test_windows_follow_each_other_without_a_gap_and_hold_their_seconds(
    now: datetime, every: Every
) -> None:
    """A second in two windows would be paid twice; one in none never."""
    at = int(now.timestamp())
    begins, ends = window(every, at)
    assert begins <= at < ends
    assert window(every, ends)[0] == ends
    assert window(every, begins) == (begins, ends)
    assert datetime.fromtimestamp(begins, UTC).date() == (
        now.date() if every == "day" else now.date().replace(day=1)
    )


@given(TIMES)
def test_the_day_of_a_second_is_that_of_its_date(now: datetime) -> None:
    """What was used is summed by day, and the log writes dates."""
    day = day_of(int(now.timestamp()))
    assert date.fromordinal(day) == now.date()
    assert written(starts(day)) == f"{now.date()}T00:00:00Z"
    first, following = days_of("month", day)
    assert first <= day < following
    assert following - first in (28, 29, 30, 31)


@given(st.integers(0, 10**9), st.integers(0, 999_999))
def test_euros_are_read_and_written_without_a_loss(whole: int, millionths: int) -> None:
    """A budget that loses a cent a day is found by the wrong people."""
    text = f"{whole}.{millionths:06}"
    assert pico(text) == whole * PICO + millionths * 10**6
    assert pico(euros(pico(text))) == pico(text)


def test_amounts_are_written_with_two_decimals_or_as_many_as_it_takes() -> None:
    """`0.1 EUR` looks like a typing error."""
    cases = {"25": "25.00", "0.1": "0.10", "0.000123": "0.000123"}
    assert [euros(pico(each)) for each in cases] == list(cases.values())
    assert euros(999_999) == "0.00"


def test_each_day_is_sold_at_its_own_price_and_the_first_one_holds_before_it() -> None:
    """A price that rises in the middle of a month must not change what was used before."""
    said = "price list"
    old = UsagePrice("any", "0.10", "0.20", date(2026, 11, 10), said)
    new = UsagePrice("any", "1.00", "2.00", date(2026, 11, 20), said)
    own = UsagePrice("m", "5", "5", date(2026, 1, 1), said)
    prices = Prices([new, own, old])
    at = {day: prices.on("x", date(2026, 11, day).toordinal()) for day in (1, 10, 19, 20, 30)}
    assert [price and price.of(1_000_000, 0) for price in at.values()] == [
        *[pico("0.10")] * 3,
        *[pico("1.00")] * 2,
    ]
    (special,) = [prices.on("m", date(2026, 11, 30).toordinal())]
    assert special is not None
    assert special.of(1, 1) == 2 * pico("5") // 10**6
    assert Prices([]).on("x", 1) is None


def test_a_day_is_as_long_as_a_day_whatever_the_summer_does() -> None:
    """UTC has no summer time; a window of 23 hours would be a bug."""
    begins, ends = window("day", second("2027-03-28T12:00:00+02:00"))
    assert timedelta(seconds=ends - begins) == timedelta(days=1)
