"""Seats at endpoints: counted as calls come and go, and never at one that was refused."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign.gateway.choose import Choice, Group, choose, judge
from sovereign.gateway.replicas.seats import Replicas, Seat
from sovereign.keystore import Key
from sovereign.registry import Endpoint
from sovereign.settings import BalanceSettings
from tests.gateway.site import EEA
from tests.gateway.test_choose import endpoint, key
from tests.simulated.engine import MODEL

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
SECRET = b"s" * 32
KEY = key()


class Clock:
    """A clock that stands until it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def at(i: int, **more: object) -> Endpoint:
    return endpoint(id=f"e{i}", address=f"127.0.0.1:{9000 + i}", **more)


def these(clock: Clock, **more: int) -> Replicas:
    return Replicas(EEA, BalanceSettings(**more), clock)


def asked(
    seat: Seat,
    endpoints: tuple[Endpoint, ...],
    text: str = "x",
    now: datetime = NOW,
    who: Key = KEY,
) -> Choice:
    body = {"messages": [{"role": "user", "content": text}]}
    return seat.choose(who, MODEL, endpoints, now, secret=SECRET, body=body)


def where(replicas: Replicas, endpoints: tuple[Endpoint, ...], text: str = "x") -> str:
    """The endpoint a call was given, which is over at once."""
    seat = replicas.seat()
    found = asked(seat, endpoints, text).endpoint
    seat.leave("answered")
    assert found is not None
    return found.id


ALL = tuple(at(i) for i in range(4))
STATES = st.fixed_dictionaries(
    {
        "place": st.sampled_from(["this-host", "aws:eu-central-1", "scaleway:fr-par-2", "x:y"]),
        "quarantine": st.sampled_from(["", "", "telemetry-on", "engine-unhealthy"]),
        "attested_at": st.integers(-3, 1).map(lambda s: NOW + s * SECOND),
        "expires_at": st.integers(-1, 4).map(lambda s: NOW + s * SECOND),
        "models": st.sampled_from([(MODEL,), (MODEL,), ("tiny-mixtral",)]),
    }
)


@given(
    st.lists(STATES, max_size=6),
    st.lists(st.integers(-5, 6).map(lambda s: NOW + s * SECOND) | st.just(NOW + DAY), min_size=1),
    st.text(max_size=3),
)
def test_an_endpoint_that_is_refused_is_never_given_whatever_is_remembered(
    states: list[dict[str, object]], times: list[datetime], text: str
) -> None:
    """What was judged a moment ago must be what would be judged now, to the edge."""
    endpoints = tuple(at(i, **state) for i, state in enumerate(states))
    replicas = these(Clock())
    for now in times:
        seat = replicas.seat()
        given_ = asked(seat, endpoints, text, now)
        seat.leave("answered")
        alone = choose(EEA, KEY, MODEL, endpoints, now)
        assert (given_.code, given_.asked_at) == (alone.code, now)
        if not given_.code:
            assert given_.endpoint is not None
            assert not choose(EEA, KEY, MODEL, (given_.endpoint,), now).code


@given(st.lists(STATES, max_size=6), st.integers(-5, 6), st.integers(-5, 6))
def test_a_group_says_for_how_long_it_is_true(
    states: list[dict[str, object]], first: int, second: int
) -> None:
    """Between its edges nothing that it was judged by changes."""
    endpoints = tuple(at(i, **state) for i, state in enumerate(states))
    now, later = NOW + first * SECOND, NOW + second * SECOND
    group = judge(EEA, "personal", MODEL, endpoints, now)
    assert group.holds(now)
    if group.holds(later):
        assert said(judge(EEA, "personal", MODEL, endpoints, later)) == said(group)


def said(group: Group) -> list[tuple[Endpoint | None, str, str]]:
    return [(choice.endpoint, choice.code, choice.rule) for choice in group.choices]


def test_a_group_ends_with_the_day_on_which_it_was_judged() -> None:
    """A place that was checked 365 days ago is unknown tomorrow."""
    forever = at(0, expires_at=NOW + 30 * DAY)
    group = judge(EEA, "personal", MODEL, (forever,), NOW)
    midnight = datetime(2026, 11, 25, tzinfo=UTC)
    assert (group.since, group.until) == (NOW - SECOND, midnight)
    assert group.holds(midnight - timedelta(microseconds=1))
    assert not group.holds(midnight)


def test_calls_that_begin_alike_meet_and_others_are_spread() -> None:
    """That is what makes an engine's cache hit."""
    replicas = these(Clock())
    assert len({where(replicas, ALL, "the same") for _ in range(20)}) == 1
    assert {where(replicas, ALL, f"another {i}") for i in range(60)} == {e.id for e in ALL}


def test_a_call_that_runs_counts_until_it_is_left_and_once() -> None:
    """A seat that is never left would shut an engine out for ever."""
    replicas = these(Clock())
    seats = [replicas.seat() for _ in range(3)]
    for seat in seats:
        asked(seat, ALL)
    assert sum(replicas.outstanding().values()) == 3
    for seat in [*seats, *seats]:
        seat.leave("answered")
    assert set(replicas.outstanding().values()) == {0}


def test_a_seat_is_given_back_when_the_call_is_refused_after_all() -> None:
    """An access rule, or a log that cannot be written, comes after the choice."""
    replicas = these(Clock())
    with suppress(LookupError), replicas.seat() as seat:
        asked(seat, ALL)
        assert sum(replicas.outstanding().values()) == 1
        raise LookupError
    assert sum(replicas.outstanding().values()) == 0


def test_two_calls_of_the_same_moment_see_each_other() -> None:
    """Four calls that begin alike fill their share of the first engine, and then the next."""
    replicas = these(Clock(), load_percent=100)
    found = [asked(replicas.seat(), ALL).endpoint for _ in range(8)]
    assert sorted(replicas.outstanding().values()) == [2, 2, 2, 2]
    assert None not in found


def test_an_endpoint_that_failed_three_times_is_left_alone_and_comes_back() -> None:
    """Passive health: nobody waits for the controller's next round."""
    clock = Clock()
    replicas = these(clock)
    home = where(replicas, ALL)
    for _ in range(3):
        seat = replicas.seat()
        asked(seat, ALL)
        seat.leave("engine-unhealthy")
    assert replicas.resting() == (home,)
    assert where(replicas, ALL) != home
    clock.now += 1
    seat = replicas.seat()
    back = asked(seat, ALL).endpoint
    assert back is not None
    assert back.id == home
    assert where(replicas, ALL) != home, "one call tries, the others do not"
    seat.answers()
    assert replicas.resting() == ()
    seat.leave("answered")


@pytest.mark.parametrize(
    ("outcome", "rests"),
    [
        ("engine-unhealthy", True),
        ("engine-timed-out", True),
        ("engine-failed", False),
        ("engine-refused", False),
        ("client-gone", False),
        ("answer-too-large", False),
        ("interrupted", False),
        ("answered", False),
    ],
)
def test_only_an_engine_that_was_not_there_or_fell_silent_rests(outcome: str, rests: bool) -> None:
    """A request that makes an engine fail is one caller's; it must not take it from the others."""
    replicas = these(Clock(), eject_after=1)
    seat = replicas.seat()
    asked(seat, ALL)
    seat.leave(outcome)
    assert bool(replicas.resting()) is rests


def test_an_endpoint_that_comes_later_starts_slowly_and_those_there_at_the_start_do_not() -> None:
    """At the gateway's own start no engine is colder than another."""
    clock = Clock()
    replicas = these(clock)
    for _ in range(40):
        asked(replicas.seat(), ALL[:2])
    for i in range(40):
        asked(replicas.seat(), ALL[:3], f"call {i}")
    assert 0 < replicas.outstanding()["e2"] <= 6
    assert min(replicas.outstanding()["e0"], replicas.outstanding()["e1"]) > 30


def test_one_that_was_quarantined_starts_slowly_too() -> None:
    """It is a restarted engine more often than not."""
    clock = Clock()
    replicas = these(clock)
    sick = (*ALL[:2], at(2, quarantine="engine-unhealthy"))
    asked(replicas.seat(), sick)
    for i in range(40):
        asked(replicas.seat(), ALL[:3], f"call {i}")
    assert replicas.outstanding()["e2"] <= 4


def test_endpoints_that_are_gone_are_forgotten_once_nothing_runs_there() -> None:
    """A fleet that comes and goes for a year must not fill memory."""
    replicas = these(Clock())
    seat = replicas.seat()
    asked(seat, ALL[:1])
    asked(replicas.seat(), ALL[1:2])
    assert "e0" in replicas.outstanding()
    seat.leave("answered")
    asked(replicas.seat(), ALL[2:3])
    assert set(replicas.outstanding()) == {"e1", "e2"}


def test_a_second_try_is_somewhere_else_and_they_end() -> None:
    """Each endpoint once, and no more than was allowed."""
    replicas = these(Clock(), retries_max=2)
    seat, tried = replicas.seat(), []
    while True:
        found = asked(seat, ALL).endpoint
        assert found is not None
        tried.append(found.id)
        if not seat.another_may():
            break
        seat.leave("engine-unhealthy")
        seat = replicas.seat(seat.tried, 7)
        assert seat.after == 7
    assert len(tried) == len(set(tried)) == 3


@pytest.mark.parametrize(
    ("endpoints", "retries_max"), [(ALL[:1], 2), ((), 2), (ALL, 0)], ids=["one", "none", "off"]
)
def test_where_there_is_no_other_there_is_no_second_try(
    endpoints: tuple[Endpoint, ...], retries_max: int
) -> None:
    """And none at one that may not answer."""
    replicas = these(Clock(), retries_max=retries_max)
    seat = replicas.seat()
    asked(seat, endpoints)
    assert not seat.another_may()


def test_one_that_may_not_answer_is_no_other() -> None:
    """Never to a place that is not allowed, however often the allowed one fails."""
    endpoints = (at(0), at(1, place="aws:eu-central-1"), at(2, quarantine="telemetry-on"))
    replicas = these(Clock())
    seat = replicas.seat()
    assert asked(seat, endpoints).endpoint == endpoints[0]
    assert not seat.another_may()
    again = replicas.seat(seat.tried)
    assert asked(again, endpoints).endpoint == endpoints[0]
