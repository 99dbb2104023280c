"""Gateways that share an allowance never use more of it together than one alone might."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sovereign.limits.accounts import (
    ASK,
    SECOND_NS,
    UNREACHABLE,
    Moment,
    RateAccount,
    WindowAccount,
)
from sovereign.limits.gcra import Rate
from sovereign.limits.leases import IDLE_S, Bought, Claimed, Link, claim, sell, shared
from sovereign.limits.rules import MINUTE_NS, Rule
from sovereign.policy.shapes import Limit

NOON = int(datetime(2026, 11, 25, 12, tzinfo=UTC).timestamp())
NOW = Moment(10**15, NOON)


def rule(counts: str, at_most: int, every: str, fails: str = "allow-local") -> Rule:
    said: dict[str, Any] = {"counts": counts, "every": every, "when_unreachable": fails}
    return Rule.of(Limit(id="l", per="tenant", at_most=at_most, because="a reason", **said))


def later(seconds: float) -> Moment:
    return Moment(NOW.ns + int(seconds * SECOND_NS), NOON + int(seconds))


def gateways(number: int, kind: Rule) -> list[Claimed]:
    made = [shared(Link(up=True), WindowAccount(kind, "acme")) for _ in range(number)]
    return [each for each in made if isinstance(each, Claimed)]


def ask(among: list[Claimed], one: Claimed, now: Moment, cost: int) -> None:
    """What the database does: nobody's claims but the others' count."""
    used, need, want = one.wish(now, cost)
    others = sum(each.claim for each in among if each is not one)
    one.receive(now, claim(one.rule.at_most, others, used, need, want), cost)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["call", "end", "ask", "crash"]), st.integers(0, 2), st.integers(1, 30)
    ),
    max_size=150,
)


@given(STEPS)
def test_claims_never_add_up_to_more_than_the_budget_whatever_happens(
    steps: list[tuple[str, int, int]],
) -> None:
    """Three gateways that call, end, ask and crash: what is used and set aside stays within it."""
    among = gateways(3, rule("tokens", 200, "day"))
    running: list[list[int]] = [[], [], []]
    for what, who, cost in steps:
        one, held = among[who], running[who]
        if what == "call":
            if one.wait_ns(NOW, cost) == ASK:
                ask(among, one, NOW, cost)
            if one.wait_ns(NOW, cost) == 0:
                one.reserve(NOW, cost)
                held.append(cost)
        elif what == "end" and held:
            much = held.pop()
            one.settle(NOW, NOW, much, min(much, cost))
        elif what == "ask":
            ask(among, one, NOW, 0)
        elif what == "crash":  # it comes back knowing what it used, and its claim is still there
            again = WindowAccount(one.rule, "acme", one.local.start, one.local.end, one.local.used)
            held.clear()
            among[who] = Claimed(again, Link(up=True), one.claim, one.start)
        assert sum(each.local.used + each.local.reserved for each in among) <= 200
        assert sum(max(each.claim, each.local.used) for each in among) <= 200


def test_all_of_a_budget_can_be_used_though_it_is_given_out_in_parts() -> None:
    """What is left in the hands of a gateway that has nothing to do goes back."""
    busy, idle = among = gateways(2, rule("requests", 100, "day"))
    ask(among, idle, NOW, 1)
    assert idle.claim > 1
    later_on = later(IDLE_S)
    assert idle.is_low(later_on), "it has something to give back"
    ask(among, idle, later_on, 0)
    assert idle.claim == 0
    for _ in range(100):
        if busy.wait_ns(later_on, 1):
            ask(among, busy, later_on, 1)
        assert busy.wait_ns(later_on, 1) == 0
        busy.reserve(later_on, 1)
        busy.settle(later_on, later_on, 1, 1)
    assert busy.wait_ns(later_on, 1) > 0


def test_a_budget_is_asked_for_once_for_many_calls() -> None:
    """A database that is asked for every call is in the way of every call."""
    (one,) = among = gateways(1, rule("requests", 10_000, "day"))
    asked = 0
    for _ in range(5000):
        if one.wait_ns(NOW, 1) == ASK:
            ask(among, one, NOW, 1)
            asked += 1
        one.reserve(NOW, 1)
        one.settle(NOW, NOW, 1, 1)
    assert asked <= 20


@given(
    st.integers(1, 500),
    st.lists(st.tuples(st.integers(0, MINUTE_NS), st.integers(0, 40), st.integers(0, 60))),
)
def test_what_is_sold_is_never_more_than_the_rate_admits(
    at_most: int, wishes: list[tuple[int, int, int]]
) -> None:
    """Whoever asks, in whatever portions."""
    rate, tat, now, sold = Rate(at_most, MINUTE_NS, at_most), 0, 0, 0
    for passed, need, more in wishes:
        now += passed
        found = sell(rate, tat, now, 0, min(need, at_most), min(need + more, at_most))
        assert (found.given == 0) or found.given >= min(need, at_most)
        assert bool(found.wait_ns) == (found.given < min(need, at_most))
        tat, sold = found.tat, sold + found.given
        assert sold * MINUTE_NS <= at_most * MINUTE_NS + now * at_most


def test_units_that_were_bought_and_not_used_are_gone_after_the_period() -> None:
    """Saved up, they would make a second burst."""
    one = Bought(RateAccount(rule("requests", 60, "minute"), "acme"), Link(up=True))
    one.receive(NOW, sell(one.rule.rate, 0, NOW.ns, *one.wish(NOW, 1)))
    assert one.wait_ns(NOW, 1) == 0
    assert one.wait_ns(later(61), 1) == ASK


def test_what_was_used_beyond_the_guess_is_owed_and_paid_first() -> None:
    """A long answer is charged to everybody's bucket, not only to this gateway's."""
    one = Bought(RateAccount(rule("tokens", 600, "minute"), "acme"), Link(up=True))
    one.receive(NOW, sell(one.rule.rate, 0, NOW.ns, *one.wish(NOW, 10)))
    one.reserve(NOW, 10)
    one.settle(NOW, NOW, 10, 400)
    owed, need, want = one.wish(NOW, 10)
    assert owed + 40 == 400, "forty were bought"
    found = sell(one.rule.rate, one.rule.rate.charged(0, NOW.ns, 40), NOW.ns, owed, need, want)
    assert one.rule.rate.used(found.tat, NOW.ns) == 400 + found.given
    one.receive(NOW, found)
    assert one.wish(NOW, 0)[0] == 0


def test_without_shared_state_a_limit_does_what_it_declares() -> None:
    """To go on alone, up to the same bound, or to let nobody through."""
    for fails, first in (("allow-local", 0), ("refuse", UNREACHABLE)):
        link = Link(up=False)
        for kind in (rule("requests", 2, "minute", fails), rule("requests", 2, "day", fails)):
            local: RateAccount | WindowAccount = (
                RateAccount(kind, "acme") if kind.every == "minute" else WindowAccount(kind, "acme")
            )
            one = shared(link, local)
            assert one.wait_ns(NOW, 1) == first
            if first == 0:
                for _ in range(2):
                    one.reserve(NOW, 1)
                    one.settle(NOW, NOW, 1, 1)
                assert one.wait_ns(NOW, 1) > 0
