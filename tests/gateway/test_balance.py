"""Picking among replicas: pure, held to its promises by counting and by chance."""

import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sovereign.gateway.replicas import affinity
from sovereign.gateway.replicas.balance import Bounds, Replica, pick, seed

BOUNDS = Bounds()
NOW = 1000.0
KEYS = st.integers(0, 2**64 - 1)
LOADS = st.lists(st.integers(0, 50), min_size=2, max_size=12)


def replicas(*outstanding: int) -> list[Replica]:
    return [Replica(seed(f"e{i}"), outstanding=n) for i, n in enumerate(outstanding)]


def names(found: list[Replica], key: int) -> int:
    """The seed of the one that is picked: what a replica is called, wherever it stands."""
    return found[pick(found, key, NOW, BOUNDS)].seed


@given(KEYS, LOADS, st.sampled_from([1.0, 1.25, 2.0]))
def test_no_replica_gets_more_than_its_share_times_the_load(
    key: int, loads: list[int], load: float
) -> None:
    """One long conversation of everybody's must not pile up on one engine while others idle."""
    found = replicas(*loads)
    at = pick(found, key, NOW, replace(BOUNDS, load=load))
    assert loads[at] + 1 <= math.ceil(load * (sum(loads) + 1) / len(loads))


@given(KEYS, st.integers(2, 12), st.integers(0, 11))
def test_taking_a_replica_away_moves_only_its_own_keys(key: int, count: int, gone: int) -> None:
    """Every key that moves finds a cold cache: an engine that leaves must cost its share, once."""
    found = replicas(*[0] * count)
    before = names(found, key)
    left = [replica for i, replica in enumerate(found) if i != gone % count]
    if found[gone % count].seed != before:
        assert names(left, key) == before


@given(KEYS, st.permutations(range(5)))
def test_the_order_of_the_registry_does_not_matter(key: int, order: list[int]) -> None:
    """Two gateways that list the same endpoints differently send a conversation to one place."""
    found = replicas(0, 0, 0, 0, 0)
    assert names([found[i] for i in order], key) == names(found, key)


@pytest.mark.parametrize("count", [2, 3, 5, 16])
def test_keys_are_spread_evenly(count: int) -> None:
    """Within 15 % of the mean, over ten thousand keys and names that differ in one character."""
    found = replicas(*[0] * count)
    keys = [seed(f"conversation {i}") for i in range(10_000)]
    counted = Counter(pick(found, key, NOW, BOUNDS) for key in keys)
    mean = len(keys) / count
    assert len(counted) == count
    assert all(abs(n - mean) < 0.15 * mean for n in counted.values())


@given(KEYS)
def test_what_does_not_fit_goes_to_the_same_second_one(key: int) -> None:
    """A beginning that is too popular for one engine is cached by two, not by all."""
    found = replicas(0, 0, 0, 0)
    first = pick(found, key, NOW, BOUNDS)
    rest = [replica for i, replica in enumerate(found) if i != first]
    second = names(rest, key)
    found[first].outstanding = 5
    assert names(found, key) == second


@given(LOADS)
def test_without_a_key_the_least_busy_is_picked(loads: list[int]) -> None:
    """An embedding has no beginning that could come back."""
    assert loads[pick(replicas(*loads), None, NOW, BOUNDS)] == min(loads)


@pytest.mark.parametrize(("age_s", "expected"), [(0, 0.1), (3, 0.1), (15, 0.5), (30, 1), (99, 1)])
def test_a_new_replica_starts_with_a_tenth_and_grows(age_s: float, expected: float) -> None:
    """An engine that just loaded its model would drown in its full share of cold prompts."""
    new = Replica(1, usable_since=NOW - age_s)
    assert new.weight(NOW, 30.0) == pytest.approx(expected)


def test_slow_start_can_be_switched_off() -> None:
    """Zero seconds: the full share at once, and no division by it."""
    assert Replica(1, usable_since=NOW).weight(NOW, 0.0) == 1.0


def test_a_new_replica_gets_its_share_by_weight_in_numbers() -> None:
    """Of a hundred calls that stay, a replica of weight one tenth among three holds few."""
    found = replicas(0, 0, 0)
    found[2].usable_since = NOW
    for i in range(100):
        found[pick(found, seed(str(i)), NOW, BOUNDS)].came()
    assert found[2].outstanding <= math.ceil(1.25 * 100 * 0.1 / 2.1)
    assert found[2].outstanding > 0


def fail(replica: Replica, times: int, at: float = NOW) -> None:
    for _ in range(times):
        replica.failed(at, BOUNDS)


@pytest.mark.parametrize(("failures", "open_"), [(0, True), (2, True), (3, False)])
def test_it_rests_after_so_many_failures_in_a_row_and_not_before(
    failures: int, open_: bool
) -> None:
    """One lost connection is chance; three are an engine that is not there."""
    one = Replica(1)
    fail(one, failures)
    assert one.is_open(NOW) is open_


def test_a_success_between_makes_failures_start_anew() -> None:
    """In a row means in a row."""
    one = Replica(1)
    fail(one, 2)
    one.worked(NOW)
    fail(one, 2)
    assert one.is_open(NOW)


def test_each_rest_is_twice_the_one_before_up_to_a_bound() -> None:
    """A dead engine is asked about once a minute, one that restarts is back within a second."""
    one, at, rests = Replica(1), NOW, []
    fail(one, BOUNDS.eject_after, at)
    for _ in range(40):
        rests.append(one.back_at - at)
        at = one.back_at
        one.failed(at, BOUNDS)
    assert rests[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert set(rests[8:]) == {60}


def test_calls_that_were_under_way_do_not_make_a_rest_longer() -> None:
    """A hundred calls that fail together are one failure of the engine."""
    one = Replica(1)
    fail(one, 100)
    assert (one.back_at, one.ejections) == (NOW + 1, 1)


def test_after_a_rest_one_call_tries_and_the_others_stay_away_until_it_worked() -> None:
    """A thundering herd would kill an engine that just came back."""
    one = Replica(1)
    fail(one, 3)
    assert not one.is_open(NOW + 0.999)
    assert one.is_open(NOW + 1)
    assert one.came()
    assert not one.is_open(NOW + 1)
    one.worked(NOW + 1.5)
    assert one.is_open(NOW + 1.5)
    assert one.weight(NOW + 1.5, 30) == 0.1


def test_a_try_that_tells_nothing_leaves_room_for_the_next() -> None:
    """A client that hangs up must not keep an engine out of use."""
    one = Replica(1)
    fail(one, 3)
    tries = one.came()
    one.left(tried=tries)
    assert one.is_open(NOW + 1)


@given(KEYS, st.sets(st.integers(0, 4), max_size=4))
def test_a_resting_replica_is_never_picked_while_another_is_open(
    key: int, resting: set[int]
) -> None:
    """Every call sent there is a call refused, or a second later."""
    found = replicas(0, 0, 0, 0, 0)
    for i in resting:
        fail(found[i], 3)
    assert pick(found, key, NOW, BOUNDS) not in resting
    assert pick(found, None, NOW, BOUNDS) not in resting


def test_when_all_rest_the_one_that_is_due_first_is_asked_all_the_same() -> None:
    """A site with one engine behaves as if nothing of this existed."""
    found = replicas(0, 0)
    fail(found[0], 3, NOW + 1)
    fail(found[1], 3, NOW)
    assert pick(found, 1, NOW + 1, BOUNDS) == 1
    assert pick(found[:1], 1, NOW + 1, BOUNDS) == 0


class Life(RuleBasedStateMachine):
    """Calls come, work, fail and leave in any order; the books stay right."""

    def __init__(self) -> None:
        super().__init__()
        self.found = replicas(0, 0, 0)
        self.now = NOW
        self.held: list[tuple[Replica, bool]] = []

    @rule(key=st.none() | KEYS)
    def come(self, key: int | None) -> None:
        open_ = [replica for replica in self.found if replica.is_open(self.now)]
        one = self.found[pick(self.found, key, self.now, BOUNDS)]
        assert one in open_ or not open_
        self.held.append((one, one.came()))

    @rule(how=st.sampled_from(["works", "fails", "leaves"]), which=st.integers(0, 99))
    def end(self, how: str, which: int) -> None:
        if not self.held:
            return
        one, tries = self.held.pop(which % len(self.held))
        if how == "works":
            one.worked(self.now)
        one.left(tried=tries)
        if how == "fails":
            one.failed(self.now, BOUNDS)

    @rule(seconds=st.sampled_from([0.1, 1.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def what_runs_is_what_is_counted(self) -> None:
        for one in self.found:
            assert one.outstanding == sum(replica is one for replica, _ in self.held)

    @invariant()
    def every_rest_ends(self) -> None:
        assert all(one.back_at <= self.now + BOUNDS.eject_max_s for one in self.found)

    @invariant()
    def an_idle_replica_can_be_tried_once_it_rested(self) -> None:
        later = self.now + BOUNDS.eject_max_s
        assert all(one.is_open(later) for one in self.found if not one.outstanding)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)


# --- what the beginning of a conversation is ----------------------------------------------------

SECRET = b"s" * 32


def told(*texts: object) -> dict[str, object]:
    """Instructions, a question, an answer, a question …"""
    roles = ("system", "user", "assistant", "user", "assistant")
    return {"messages": [{"role": r, "content": t} for r, t in zip(roles, texts, strict=False)]}


def test_a_conversation_that_goes_on_keeps_its_key() -> None:
    """The next turn finds the cache that the last one left."""
    begun, later = told("be brief", "hello"), told("be brief", "hello", "hi", "and now?")
    assert affinity.key(SECRET, "m", begun) == affinity.key(SECRET, "m", later)


@pytest.mark.parametrize(
    "other",
    [
        (b"t" * 32, "m", told("be brief", "hello")),
        (SECRET, "n", told("be brief", "hello")),
        (SECRET, "m", told("be brief", "hell")),
        (SECRET, "m", told("be long", "hello")),
        (SECRET, "m", told("be briefhello")),
        (SECRET, "m", {"prompt": "be brief"}),
    ],
    ids=["tenant", "model", "second text", "first text", "border between texts", "prompt"],
)
def test_what_is_different_has_another_key(
    other: tuple[bytes, str, dict[str, object]],
) -> None:
    """Above all the tenant: equal questions of two of them must not be seen to be equal."""
    assert affinity.key(*other) != affinity.key(SECRET, "m", told("be brief", "hello"))


def test_the_first_answer_does_not_change_the_key() -> None:
    """Without instructions the first turn is one message, the second is three."""
    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
    first, second = {"messages": turns[:1]}, {"messages": [*turns, {"role": "user"}]}
    assert affinity.key(SECRET, "m", first) == affinity.key(SECRET, "m", second)


def test_only_so_much_of_a_text_is_looked_at() -> None:
    """The edge, to the character."""
    begin = "x" * affinity.CHARS_MAX
    assert affinity.key(SECRET, "m", told(begin + "a")) == affinity.key(SECRET, "m", told(begin))
    assert affinity.key(SECRET, "m", told(begin[1:])) != affinity.key(SECRET, "m", told(begin))


def test_parts_count_by_their_first_text() -> None:
    """A picture comes as parts, and is megabytes long."""
    parts = [{"type": "image_url", "image_url": "data:"}, {"type": "text", "text": "what is it?"}]
    assert affinity.key(SECRET, "m", told(parts)) == affinity.key(SECRET, "m", told("what is it?"))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"input": "x"},
        {"messages": []},
        {"messages": None},
        {"prompt": ""},
        {"prompt": [1]},
        told(None, []),
        {"messages": ["x", 7, None]},
        told([7, {"text": 7}]),
    ],
)
def test_what_has_no_beginning_has_no_key(body: dict[str, object]) -> None:
    """And nothing a client may send makes finding that out fail."""
    assert affinity.key(SECRET, "m", body) is None


def test_characters_that_cannot_be_written_are_no_error() -> None:
    """Half of a pair is not text, and still is a beginning."""
    assert affinity.key(SECRET, "m", {"prompt": "\ud800"}) is not None
