"""What times of answers say: what light forbids, what is not plausible, and what is shown."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign.attestation.globe import FLATTENED, Disk, Point, distance_km
from sovereign.attestation.papers import Finding
from sovereign.attestation.roundtrip import (
    Measured,
    contradictions,
    judge,
    plausible_ms,
    reach_km,
)
from sovereign.policy.shapes import RoundTrips
from tests.attestation.making import CITIES, trips

FRANKFURT = Disk(CITIES["frankfurt"], 50)
RULES = trips()
BETTER = {"contradicts": 0, "unknown": 1, "consistent": 1, "proves": 2}


def took(
    city: str, least_ms: float, samples: int = 20, organisation: str | None = None
) -> Measured:
    said = f"Exchange of {city}" if organisation is None else organisation
    return Measured(city, said, Disk(CITIES[city], 5), samples, int(least_ms * 1000))


def said(*measured: Measured, rules: RoundTrips = RULES, claim: Disk | None = FRANKFURT) -> Finding:
    return judge(claim, measured, rules)


def kinds(*measured: Measured, rules: RoundTrips = RULES) -> list[str]:
    return [each.kind for each in contradictions(FRANKFURT, measured, rules)]


def test_an_answer_in_three_milliseconds_comes_from_at_most_three_hundred_kilometres() -> None:
    """The one number everything rests on: c times two thirds, there and back."""
    assert reach_km(3000, "fibre") == pytest.approx(299.79, abs=0.01)
    assert reach_km(1000, "fibre") == pytest.approx(99.93, abs=0.01)
    assert reach_km(1000, "vacuum") == pytest.approx(149.90, abs=0.01)


def test_a_host_beside_its_anchor_is_shown_to_be_where_it_says() -> None:
    """The yes: nothing farther than the policy allows fits its times."""
    found = said(took("frankfurt", 1.2), took("paris", 9), took("warsaw", 16))
    assert (found.signal, found.verdict) == ("round-trip", "proves")


def test_a_frankfurt_host_that_is_ninety_milliseconds_away_is_caught() -> None:
    """The no: it says Frankfurt and answers from the other side of an ocean."""
    assert kinds(took("frankfurt", 90)) == ["too-far"]
    found = said(took("frankfurt", 90))
    assert found.verdict == "contradicts"
    assert "90.0 ms" in found.reason


def test_jitter_alone_is_not_caught() -> None:
    """Its least answer is what counts, however bad the others were."""
    assert said(took("frankfurt", 3.5), took("paris", 14)).verdict == "proves"


@pytest.mark.parametrize(("samples", "verdict"), [(9, "consistent"), (10, "contradicts")])
def test_too_few_slow_answers_say_nothing(samples: int, verdict: str) -> None:
    """One long answer is anybody's; the policy says how many it takes."""
    assert said(took("frankfurt", 90, samples)).verdict == verdict


@pytest.mark.parametrize("over_ms", [-0.01, 0.01])
def test_the_longest_plausible_time_is_the_edge(over_ms: float) -> None:
    """Exactly so long is still plausible."""
    apart = distance_km(CITIES["frankfurt"], CITIES["paris"]) * FLATTENED + 55.02
    edge = plausible_ms(apart, RULES)
    assert bool(kinds(took("paris", edge + over_ms))) is (over_ms > 0)


def test_a_short_time_to_a_far_anchor_is_against_the_claim_whatever_the_others_say() -> None:
    """A host that answers New York in 2 ms is not in Frankfurt."""
    near = (took("frankfurt", 1.2), took("paris", 9))
    assert kinds(*near, took("new-york", 2)) == ["too-near", "nowhere"]
    assert said(*near, took("new-york", 2, samples=1)).verdict == "contradicts"


@pytest.mark.parametrize(("least_ms", "near"), [(4.0, True), (4.6, False)])
def test_how_short_is_too_short_follows_from_the_distance(least_ms: float, near: bool) -> None:
    """Paris is 479 km away; what is not known exactly is granted to the host."""
    assert ("too-near" in kinds(took("paris", least_ms))) is near


def test_an_anchor_that_lies_about_a_time_is_noticed_and_named() -> None:
    """Sydney says half a millisecond: no place on earth fits, and its name is in the reason."""
    found = said(took("frankfurt", 1.2), took("sydney", 0.5))
    assert found.verdict == "contradicts"
    assert "sydney" in found.reason
    assert "no place on earth" in found.reason


def test_our_own_anchor_speaks_against_a_place_and_never_for_it() -> None:
    """What our own machines say is our own word."""
    assert said(took("frankfurt", 1.2, organisation="")).verdict == "consistent"
    assert said(took("frankfurt", 90, organisation="")).verdict == "contradicts"
    mixed = said(took("frankfurt", 1.2, organisation=""), took("warsaw", 16))
    assert mixed.verdict == "consistent"  # the only outside one leaves too much open


def test_a_policy_can_ask_for_several_organisations() -> None:
    """One anchor that lies together with the host is not enough then."""
    two = trips(organisations=2)
    assert said(took("frankfurt", 1.2), rules=two).verdict == "consistent"
    assert said(took("frankfurt", 1.2), took("paris", 9), rules=two).verdict == "proves"
    same = took("paris", 9, organisation="Exchange of frankfurt")
    assert said(took("frankfurt", 1.2), same, rules=two).verdict == "consistent"


def test_what_cannot_be_judged_is_unknown() -> None:
    """Unknown is never a pass."""
    assert said().verdict == "unknown"
    assert said(took("frankfurt", 1), claim=None).verdict == "unknown"
    assert said(took("frankfurt", 1), rules=RoundTrips()).verdict == "unknown"


def test_a_link_at_the_speed_of_vacuum_reaches_half_as_far_again() -> None:
    """Microwave is faster than fibre; a policy that has to think of it can say so."""
    assert "too-near" in kinds(took("paris", 4))
    assert kinds(took("paris", 4), rules=trips(medium="vacuum")) == []


LATITUDES = st.floats(-89, 89, allow_nan=False)
POINTS = st.builds(Point, LATITUDES, st.floats(-180, 180, allow_nan=False))
TIMES = st.lists(
    st.tuples(st.sampled_from(sorted(CITIES)), st.floats(0, 400), st.integers(1, 40)), max_size=6
)


def measured(times: Sequence[tuple[str, float, int]]) -> tuple[Measured, ...]:
    return tuple(took(city, least_ms, samples) for city, least_ms, samples in times)


@given(POINTS, st.lists(st.tuples(st.sampled_from(sorted(CITIES)), st.floats(0, 300)), max_size=6))
def test_delay_alone_never_makes_a_contradiction_by_physics(
    true: Point, delays: list[tuple[str, float]]
) -> None:
    """Whatever the network adds, an honest host is not accused of being faster than light."""
    honest = [
        took(city, 2 * distance_km(true, CITIES[city]) / (299.792458 * 2 / 3) + delay + 0.001)
        for city, delay in delays
    ]
    found = contradictions(Disk(true, 1), honest, RULES)
    assert {each.kind for each in found} <= {"too-far"}


@given(TIMES, st.sampled_from(sorted(CITIES)), st.floats(0, 400), st.integers(1, 40))
def test_a_measurement_that_contradicts_is_never_made_good_by_others(
    times: list[tuple[str, float, int]], city: str, least_ms: float, samples: int
) -> None:
    """Neither those that were there nor those that come after."""
    bad = took(city, least_ms, samples)
    if said(bad).verdict == "contradicts":
        assert said(*measured(times), bad).verdict == "contradicts"
        assert said(bad, *measured(times)).verdict == "contradicts"


@given(TIMES, TIMES)
def test_once_contradicted_further_measurements_change_nothing(
    times: list[tuple[str, float, int]], more: list[tuple[str, float, int]]
) -> None:
    """Nobody measures themselves out of a contradiction."""
    before = said(*measured(times))
    if before.verdict == "contradicts":
        assert said(*measured(times), *measured(more)).verdict == "contradicts"


@given(TIMES.filter(bool), st.floats(0, 200))
def test_adding_delay_to_every_answer_never_makes_a_place_better_shown(
    times: list[tuple[str, float, int]], delay: float
) -> None:
    """All that a host can do to a time is make it longer, and that must not pay."""
    slow = [(city, least_ms + delay, samples) for city, least_ms, samples in times]
    before, after = said(*measured(times)), said(*measured(slow))
    if before.verdict != "contradicts":
        assert BETTER[after.verdict] <= BETTER[before.verdict]
    assert not (after.verdict == "proves" and before.verdict == "consistent")
