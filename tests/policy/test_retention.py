"""What must be gone by when: the yes, the no, and the day it turns."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign.errors import NaiveTime
from sovereign.policy import Policy
from sovereign.retention import NO_RULE, Item, due

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def item(
    age_days: float, kept: str = "event", span_hours: float = 0.0, *, held: bool = False
) -> Item:
    oldest = NOW - timedelta(days=age_days)
    return Item("log", "1", kept, oldest, oldest + timedelta(hours=span_hours), held)


def test_nothing_outlives_its_maximum_and_nothing_goes_before_its_minimum(eea: Policy) -> None:
    """Event records: at least six months, at most a year (rules/retention.yaml)."""
    kept = eea.retention["event"]
    assert kept.max_days != "unlimited"
    assert (kept.min_days, kept.max_days) == (184, 365)
    early = kept.max_days - kept.interval_hours / 24
    assert due(eea, [item(kept.min_days)], NOW) == ()
    assert due(eea, [item(early - 0.01)], NOW) == ()
    assert [e.rule for e in due(eea, [item(early)], NOW)] == ["event"]
    assert [e.rule for e in due(eea, [item(kept.max_days + 400)], NOW)] == ["event"]


def test_a_held_item_is_never_listed(eea: Policy) -> None:
    """A court's hold outweighs our clock."""
    assert due(eea, [item(10_000, held=True)], NOW) == ()


def test_an_item_without_a_rule_is_due_at_once(eea: Policy) -> None:
    """Silence in the policy means we may not keep it."""
    assert [e.rule for e in due(eea, [item(0, kept="nobody-decided")], NOW)] == [NO_RULE]


def test_content_is_due_the_moment_it_exists(eea: Policy) -> None:
    """Prompts and completions are not kept at all."""
    assert len(due(eea, [item(0, kept="content")], NOW)) == 1


def test_evidence_is_kept_without_end(eea: Policy) -> None:
    """A decision of its own, written with its reason."""
    assert eea.retention["evidence"].min_days > 4 * 365
    assert eea.retention["evidence"].max_days == "unlimited"
    assert due(eea, [item(10_000, kept="evidence")], NOW) == ()


def test_a_time_without_a_zone_decides_nothing(eea: Policy) -> None:
    """An hour's doubt can be a day's breach."""
    with pytest.raises(NaiveTime):
        due(eea, [item(1)], NOW.replace(tzinfo=None))


@given(st.lists(st.floats(0, 2000), max_size=20), st.randoms())
def test_the_order_of_items_never_matters_and_the_oldest_comes_first(
    eea: Policy, ages: list[float], chance: random.Random
) -> None:
    """A run that is cut short has erased what was most overdue."""
    items = [replace(item(age), id=str(i)) for i, age in enumerate(ages)]
    shuffled = items.copy()
    chance.shuffle(shuffled)
    first = due(eea, items, NOW)
    assert first == due(eea, shuffled, NOW)
    assert [e.item.oldest for e in first] == sorted(e.item.oldest for e in first)


@given(st.floats(0, 2000), st.floats(0, 24), st.floats(0, 400))
def test_what_is_due_stays_due(eea: Policy, age: float, span: float, later: float) -> None:
    """A run that was missed catches up; time never makes an erasure undue."""
    aged = item(age, span_hours=span)
    if due(eea, [aged], NOW):
        assert due(eea, [aged], NOW + timedelta(days=later))


@given(st.floats(0, 24), st.floats(0, 24), st.sampled_from(["event", "security", "process-log"]))
def test_a_run_every_interval_keeps_both_bounds(
    eea: Policy, span: float, offset: float, kept_as: str
) -> None:
    """Whenever a bundle was filled and the run comes, it goes after its minimum, before its end."""
    kept = eea.retention[kept_as]
    assert kept.max_days != "unlimited"
    bundle = item(0, kept_as, span)
    run = bundle.newest + timedelta(hours=offset)
    while not due(eea, [bundle], run):
        run += timedelta(hours=kept.interval_hours)
    assert run >= bundle.newest + timedelta(days=kept.min_days)
    assert run <= bundle.oldest + timedelta(days=kept.max_days)
