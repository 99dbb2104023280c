"""A call takes from every limit that covers it or from none, and is charged what it used."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign.limits.accounts import SECOND_NS, Moment
from sovereign.limits.ledger import Caller, Hold, Lacking, Ledger
from sovereign.limits.money import Prices, pico
from sovereign.limits.rules import Rule
from sovereign.limits.tally import Row, Tally, Used
from sovereign.policy.shapes import Limit, UsagePrice

NOON = int(datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp())
NOW = Moment(10**15, NOON)
LAST_DAY = int(datetime(2028, 2, 29, 23, 59, 59, tzinfo=UTC).timestamp())
PRICES = Prices([UsagePrice("any", "1.00", "2.00", date(2026, 1, 1), "list")])
ME = Caller("acme", "key_a", "m")
ONE = Used(1, 0, 0)


def limit(name: str, counts: Any, per: Any, at_most: int | str, every: Any = None) -> Limit:
    return Limit(name, counts, per, at_most, "allow-local", "a reason", every)


def ledger(*limits: Limit, tally: Tally | None = None) -> Ledger:
    return Ledger(map(Rule.of, limits), PRICES, tally or Tally())


def take(book: Ledger, who: Caller, now: Moment = NOW, prompt: int = 10, answer: int = 0) -> Hold:
    found = attempt(book, who, now, prompt, answer)
    assert isinstance(found, Hold), found
    return found


def refused(
    book: Ledger, who: Caller, now: Moment = NOW, prompt: int = 10, answer: int = 0
) -> Lacking:
    found = attempt(book, who, now, prompt, answer)
    assert isinstance(found, Lacking)
    return found


def attempt(book: Ledger, who: Caller, now: Moment, prompt: int, answer: int) -> Hold | Lacking:
    return book.take(book.plan(who, now), now, book.expected(who, now, prompt, answer))


def later(seconds: int, since: Moment = NOW) -> Moment:
    return Moment(since.ns + seconds * SECOND_NS, since.s + seconds)


@pytest.mark.parametrize(
    ("per", "other", "shares"),
    [
        ("key", Caller("acme", "key_b", "m"), False),
        ("key", Caller("else", "key_a", "m"), False),  # one key of an identity provider
        ("tenant", Caller("acme", "key_b", "n"), True),
        ("tenant", Caller("else", "key_c", "m"), False),
        ("model", Caller("else", "key_c", "m"), True),
        ("model", Caller("acme", "key_a", "n"), False),
        ("site", Caller("else", "key_c", "n"), True),
    ],
)
def test_each_holder_has_an_allowance_of_its_own(per: str, other: Caller, shares: bool) -> None:
    """One tenant's use must never be another's refusal, unless the limit says so."""
    book = ledger(limit("one", "requests", per, 1, "minute"))
    take(book, ME)
    found = attempt(book, other, NOW, 1, 0)
    assert isinstance(found, Lacking) is shares


def test_a_refusal_takes_nothing_from_the_limits_that_had_enough() -> None:
    """Else whoever is refused by one limit would use up all others by knocking."""
    many = limit("many", "requests", "tenant", 3, "minute")
    book = ledger(many, limit("one", "requests", "key", 1, "minute"))
    take(book, ME)
    for _ in range(5):
        assert refused(book, ME).account.rule.id == "one"
    take(book, ME._replace(key="key_b"))
    take(book, ME._replace(key="key_c"))
    assert refused(book, ME._replace(key="key_d")).account.rule.id == "many"


def test_of_several_refusals_the_one_that_lasts_longest_is_told() -> None:
    """A client that comes back after the shorter one would be refused again."""
    day, minute = (
        limit("day", "requests", "key", 1, "day"),
        limit("min", "requests", "key", 1, "minute"),
    )
    book = ledger(minute, day)
    hold = take(book, ME)
    book.settle(hold, NOW, ONE, ONE)
    lacking = refused(book, ME)
    assert lacking.account.rule.id == "day"
    assert lacking.wait_ns == 12 * 3600 * SECOND_NS


def test_tokens_are_reserved_by_the_prompt_and_settled_by_the_engines_count() -> None:
    """A guess keeps the flood out; only the count is charged."""
    book = ledger(limit("tokens", "tokens", "key", 600, "minute"))
    hold = take(book, ME, prompt=500)
    assert refused(book, ME, prompt=200).wait_ns > 0
    book.settle(hold, NOW, Used(1, 100, 50), ONE)
    (account, _), *_ = book.plan(ME, NOW).accounts
    assert account.left(NOW) == 450
    assert account.left(later(15)) == 600


def test_calls_at_a_time_come_back_when_they_end_and_only_once() -> None:
    """Settling twice would let one call too many in for ever."""
    book = ledger(limit("two", "concurrent", "key", 2))
    first, _second = take(book, ME), take(book, ME)
    assert refused(book, ME).account.rule.counts == "concurrent"
    for _ in range(3):
        book.settle(first, NOW, ONE, ONE)
    take(book, ME)
    refused(book, ME)


def test_a_budget_sets_aside_what_the_answer_may_cost_and_takes_what_it_did() -> None:
    """One euro: prompt and the most the answer may have must fit, or the call does not begin."""
    book = ledger(limit("euro", "spend", "tenant", "1.00", "month"))
    hold = take(book, ME, prompt=200_000, answer=300_000)
    assert refused(book, ME, prompt=200_001).account.left(NOW) == pico("0.20")
    book.settle(hold, NOW, Used(1, 100_000, 100_000), Used(1, 100_000, 100_000))
    take(book, ME, prompt=700_000)
    assert refused(book, ME, prompt=1).wait_ns == (5 * 86_400 + 12 * 3600) * SECOND_NS


def test_a_call_that_could_never_fit_is_told_so() -> None:
    """To wait for the next month would not help it."""
    book = ledger(limit("euro", "spend", "tenant", "1.00", "month"))
    assert refused(book, ME, prompt=1_000_001).never
    take(book, ME, prompt=600_000)
    assert not refused(book, ME, prompt=500_000).never


def test_the_last_second_of_a_leap_day_belongs_to_its_month_and_the_next_one_begins_anew() -> None:
    """Budgets end with the calendar: 29 February is not March."""
    book, end = ledger(limit("n", "requests", "key", 1, "month")), Moment(10**15, LAST_DAY)
    book.settle(take(book, ME, end), end, ONE, ONE)
    assert refused(book, ME, end).wait_ns == SECOND_NS
    take(book, ME, later(1, end))


def test_a_call_counts_in_the_window_in_which_it_began() -> None:
    """The log says when it was decided; memory must say the same."""
    book, end = ledger(limit("n", "tokens", "key", 100, "day")), Moment(10**15, LAST_DAY)
    hold = take(book, ME, end, prompt=60)
    take(book, ME, later(1, end), prompt=90)
    book.settle(hold, later(2, end), Used(1, 60, 40), Used(1, 60, 40))
    (account, _), *_ = book.plan(ME, later(2, end)).accounts
    assert account.left(later(2, end)) == 10
    assert {row.day for row in book.tally.rows} == {date(2028, 2, 29).toordinal()}


def test_a_clock_that_goes_back_begins_no_window_again() -> None:
    """Else a wrong clock would be a second budget."""
    book, end = ledger(limit("n", "requests", "key", 1, "month")), Moment(10**15, LAST_DAY)
    after = later(1, end)
    book.settle(take(book, ME, after), after, ONE, ONE)
    refused(book, ME, end)
    refused(book, ME, after)


def test_what_was_used_before_a_start_counts_against_the_limits_of_now() -> None:
    """A budget that a restart resets is none; a limit that is new counts from the first."""
    tally = Tally()
    day = date(2026, 11, 3).toordinal()
    tally.add(Row(day, "acme", "key_a", "m"), Used(5, 100_000, 50_000))
    tally.add(Row(day, "acme", "key_b", "n"), Used(7, 1, 1))
    tally.add(Row(day, "else", "key_c", "m"), Used(9, 10**9, 10**9))
    tally.add(Row(date(2026, 11, 25).toordinal(), "acme", "key_a", "m"), Used(1, 10, 0))
    book = ledger(
        limit("spend", "spend", "tenant", "10.00", "month"),
        limit("asked", "requests", "key", 100, "month"),
        limit("today", "tokens", "key", 100, "day"),
        tally=tally,
    )
    left = {a.rule.id: a.left(NOW) for a, _ in book.plan(ME, NOW).accounts}
    cost = 100_000 * pico("1") // 10**6 + 50_000 * pico("2") // 10**6
    more = 11 * pico("1") // 10**6 + pico("2") // 10**6
    assert left == {"spend": pico("10") - cost - more, "asked": 94, "today": 90}


AMOUNTS = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 400), st.integers(0, 90)), max_size=40
)


@given(AMOUNTS)
def test_a_budget_is_never_overdrawn_by_more_than_calls_turned_out_to_cost_beyond_the_guess(
    calls: list[tuple[int, int, int]],
) -> None:
    """Reserve, settle, refuse: in any order, what is used and set aside stays within the budget."""
    book, running = ledger(limit("n", "tokens", "tenant", 1000, "day")), []
    used = beyond = 0
    for prompt, actual, turn in calls:
        found = attempt(book, ME, NOW, prompt, 0)
        if isinstance(found, Hold):
            running.append((found, prompt, actual))
        if running and turn % 3 == 0:
            hold, guessed, actual_ = running.pop(turn % len(running))
            book.settle(hold, NOW, Used(1, actual_, 0), Used(1, actual_, 0))
            used += actual_
            beyond += max(0, actual_ - guessed)
        assert used + sum(guessed for _, guessed, _ in running) <= 1000 + beyond
    (account, _), *_ = book.plan(ME, NOW).accounts
    for hold, _, _ in running:
        book.settle(hold, NOW, Used(), None)
    assert account.left(NOW) == max(0, 1000 - used)
