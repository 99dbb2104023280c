"""Tenants share a busy engine by their weights, and a flood makes its own tenant wait."""

from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sovereign.limits.fair import BATCH_EVERY, Line, Waiter
from tests.limits.floods import Sender, Served, percentile, run

MOVES_AT_MOST = 1.2
"""What one tenant's flood may do to the 99th percentile of another's waits."""
CROWD = tuple(Sender(f"tenant-{number}", 0.5) for number in range(8))
"""Eight tenants that together ask for half of the eight turns there are."""


def served(line: Line, number: int) -> str:
    """The tenants of the next calls, one after the other on an engine of one turn."""
    found = []
    for _ in range(number):
        waiter = line.call()
        if waiter is None:
            break
        found.append(waiter.tenant)
        line.done(waiter)
    return "".join(found)


def p99(told: dict[str, Served], what: str) -> float:
    """Of the crowd's calls, what one in a hundred exceeded: `waits` or `answers`."""
    return percentile(0.99, chain.from_iterable(getattr(told[s.tenant], what) for s in CROWD))


def test_a_flood_does_not_move_the_p99_of_other_tenants_waits_by_a_fifth() -> None:
    """The engine is busy with a tenant that sends as much as there is room for; then the same
    tenant sends ten times that. Whoever shares the engine with it must hardly notice."""
    busy = run([*CROWD, Sender("greedy", 4.0)], turns=8, seconds=2000)
    flood = run([*CROWD, Sender("greedy", 40.0)], turns=8, seconds=2000)
    assert p99(busy, "waits") > 1, "it was busy before"
    assert p99(flood, "waits") <= p99(busy, "waits") * MOVES_AT_MOST
    assert percentile(0.5, flood["greedy"].waits) > 50 * percentile(0.5, busy["greedy"].waits)


def test_a_flood_into_an_engine_with_room_does_not_move_the_p99_of_others_answers_by_a_fifth() -> (
    None
):
    """Nothing that runs is interrupted, so there is a free turn to wait for that was there before;
    what a client sees, the time until its answer is there, hardly changes all the same."""
    calm = run(CROWD, turns=8, seconds=2000)
    flood = run([*CROWD, Sender("greedy", 40.0)], turns=8, seconds=2000)
    assert p99(flood, "answers") <= p99(calm, "answers") * MOVES_AT_MOST


def test_in_the_order_of_coming_the_same_flood_moves_everybody() -> None:
    """The proof must be able to fail: where all stand as one tenant, all wait behind the flood."""
    as_one = [replace(each, stands_as="all") for each in (*CROWD, Sender("greedy", 40.0))]
    assert p99(run(as_one, turns=8, seconds=200), "waits") > 100


def test_tenants_that_always_wait_share_by_their_weights() -> None:
    """Three to one is what the policy says, and what the engine does."""
    shares = run([Sender("three", 40.0, weight=3), Sender("one", 40.0)], turns=4, seconds=2000)
    assert shares["three"].served_s / shares["one"].served_s == pytest.approx(3, rel=0.05)


def test_a_tenant_that_was_away_has_saved_nothing_up() -> None:
    """Else a night of silence would buy a morning of the whole engine."""
    line = Line(1, 100)
    for _ in range(10):
        line.join(Waiter("a", 1))
    assert served(line, 5) == "aaaaa"
    for _ in range(5):
        line.join(Waiter("b", 1))
    assert served(line, 10) == "bababababa"


def test_batch_waits_for_interactive_but_not_for_ever() -> None:
    """Work of the night must come to an end even if the day never does."""
    line = Line(1, 100)
    for _ in range(30):
        line.join(Waiter("i", 1))
        line.join(Waiter("b", 1, batch=True))
    first = served(line, 2 * BATCH_EVERY)
    assert first == ("i" * (BATCH_EVERY - 1) + "b") * 2


def test_batch_takes_all_that_nobody_else_wants() -> None:
    """A turn that is kept free for nobody is wasted."""
    line = Line(1, 100)
    for _ in range(9):
        line.join(Waiter("b", 1, batch=True))
    assert served(line, 9) == "b" * 9


def test_whoever_needs_all_turns_gets_them_whoever_comes_meanwhile() -> None:
    """A call with many choices would starve if smaller ones kept slipping past it."""
    line = Line(2, 100)
    one = Waiter("a", 1)
    line.join(one)
    assert line.call() is one
    big = Waiter("b", 2)
    line.join(big)
    assert line.call() is None
    late = Waiter("c", 1)
    line.join(late)
    assert line.call() is None, "one turn is free, and it is the big one's"
    line.done(one)
    assert line.call() is big
    assert line.call() is None
    line.done(big)
    assert line.call() is late


def test_who_is_next_is_decided_when_a_turn_is_free_and_no_sooner() -> None:
    """Else whoever came first to an empty line would go before those it has to let pass."""
    line, running = Line(1, 100), Waiter("a", 1)
    line.join(running)
    assert line.call() is running
    night, day = Waiter("n", 1, batch=True), Waiter("d", 1)
    line.join(night)
    assert line.call() is None
    line.join(day)
    assert line.call() is None
    line.done(running)
    assert line.call() is day


def test_a_chosen_call_that_leaves_lets_the_next_one_through() -> None:
    """Somebody who hangs up at the door must not lock it."""
    line = Line(2, 100)
    one, big, late = Waiter("a", 1), Waiter("b", 2), Waiter("c", 1)
    for waiter in (one, big, late):
        line.join(waiter)
    assert line.call() is one
    assert line.call() is None
    line.leave(big)
    assert line.call() is late


def test_a_full_line_sends_the_flood_away_and_not_who_comes_last() -> None:
    """A bound that is filled by one tenant would shut out all others."""
    line = Line(1, 4)
    flood = [Waiter("f", 1) for _ in range(4)]
    assert [line.join(waiter) for waiter in flood] == [None] * 4
    more = Waiter("f", 1)
    assert line.join(more) is more
    assert line.join(Waiter("o", 1)) is flood[-1]
    assert line.waiting == 4
    assert line.join(Waiter("p", 1)) is flood[-2]
    second = Waiter("o", 1)
    assert line.join(second) is second, "two of four are as many as the flood has left"


def test_a_tenant_with_more_weight_may_have_more_waiting() -> None:
    """Twice the share is twice the room."""
    line = Line(1, 6)
    heavy = [Waiter("h", 1, weight=2) for _ in range(4)]
    light = [Waiter("l", 1) for _ in range(2)]
    for waiter in (*heavy, *light):
        assert line.join(waiter) is None
    third = Waiter("l", 1)
    assert line.join(third) is third
    assert line.join(Waiter("x", 1)) in (heavy[-1], light[-1])


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("come"), st.sampled_from("abc"), st.integers(1, 3), st.booleans()),
        st.tuples(st.just("leave"), st.integers(0, 20)),
        st.tuples(st.just("end"), st.integers(0, 20)),
    ),
    max_size=120,
)


@given(STEPS)
@settings(max_examples=200)
def test_no_turn_is_ever_lost_doubled_or_left_free_for_nobody(steps: list[tuple[Any, ...]]) -> None:
    """Whatever comes, goes and hangs up: turns in use and turns free are always all there are, and
    a line in which somebody fits is never left standing."""
    line, waiting, running = Line(3, 10), [], []
    for what, *rest in steps:
        if what == "come":
            name, turns, batch = rest
            comer = Waiter(name, turns, batch=batch)
            gone = line.join(comer)
            if gone is not comer:
                waiting.append(comer)
            if gone is not None and gone is not comer:
                waiting.remove(gone)
        elif what == "leave" and waiting:
            line.leave(waiting.pop(rest[0] % len(waiting)))
        elif what == "end" and running:
            line.done(running.pop(rest[0] % len(running)))
        while (called := line.call()) is not None:
            waiting.remove(called)
            running.append(called)
        assert line.free + sum(waiter.turns for waiter in running) == 3
        assert line.waiting == len(waiting) <= 10
        assert not waiting or line.free < 3
    for waiter in running:
        line.done(waiter)
    while (called := line.call()) is not None:
        waiting.remove(called)
        line.done(called)
    assert not waiting
