"""Choosing an endpoint: pure, one refusal in a fixed order, and never a second best."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign.gateway.choose import UNKNOWN, choose
from sovereign.keystore import Key
from sovereign.registry import Endpoint
from tests.gateway.site import EEA
from tests.simulated.engine import MODEL

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def key(**more: object) -> Key:
    bound = {"id": "key_1", "tenant": "t", "purpose": "p", "basis": "contract", "subject": "none"}
    return Key(**({"data": "personal", "created_at": NOW, **bound} | more))  # type: ignore[arg-type]


def endpoint(**more: object) -> Endpoint:
    said = {
        "id": "e1",
        "engine": "llamacpp",
        "address": "127.0.0.1:8081",
        "models": (MODEL,),
        "place": "this-host",
        "attested_at": NOW - SECOND,
        "expires_at": NOW + SECOND,
        "quarantine": "",
        "reason": "",
    }
    return Endpoint(**(said | more))  # type: ignore[arg-type]


def verdict(*endpoints: Endpoint, name: str = MODEL, bound: Key | None = None) -> str:
    return choose(EEA, bound or key(), name, endpoints, NOW).code


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({}, ""),
        ({"expires_at": NOW}, "attestation-expired"),
        ({"expires_at": NOW + timedelta(microseconds=1)}, ""),
        ({"attested_at": NOW}, ""),
        ({"attested_at": NOW + timedelta(microseconds=1)}, "attestation-expired"),
        ({"attested_at": None}, "attestation-expired"),
        ({"expires_at": None}, "attestation-expired"),
        ({"quarantine": "telemetry-on"}, "endpoint-quarantined"),
        ({"quarantine": "not-attested"}, "endpoint-quarantined"),
        ({"quarantine": "engine-unhealthy"}, "engine-unhealthy"),
        ({"address": "192.0.2.1:8081"}, "residency-refused"),
        ({"address": "engine.example:8081"}, "residency-refused"),
        ({"place": "aws:eu-central-1"}, "residency-refused"),
        ({"place": "exoscale:at-vie-1"}, "residency-refused"),
        ({"place": "nowhere:at-all"}, "residency-refused"),
        ({"place": ""}, "residency-refused"),
        ({"place": "scaleway:fr-par-2", "address": "10.0.0.7:8000"}, ""),
        ({"models": ("tiny-mixtral",)}, "model-unknown"),
    ],
)
def test_an_endpoint_answers_only_while_everything_about_it_is_as_it_must_be(
    more: dict[str, object], code: str
) -> None:
    """Each reason alone is enough, and each is named; the edges are to the microsecond."""
    assert verdict(endpoint(**more)) == code


def test_with_no_endpoint_there_is_none() -> None:
    """An empty registry refuses everything."""
    assert verdict() == "model-unknown"


@pytest.mark.parametrize("name", ["", "gpt-9", MODEL.upper(), MODEL + " ", "x" * 10_000])
def test_a_name_that_is_in_no_table_is_recorded_as_unknown(name: str) -> None:
    """Whatever a client writes there, the record holds one fixed word."""
    choice = choose(EEA, key(), name, (endpoint(),), NOW)
    assert (choice.code, choice.model) == ("model-unknown", UNKNOWN)
    assert name not in choice.rule or not name


def test_a_key_bound_to_models_gets_no_other() -> None:
    """And what it is bound to is asked before anything about endpoints is told."""
    assert verdict(endpoint(), bound=key(models=("tiny-mixtral",))) == "model-not-bound"
    assert verdict(endpoint(), bound=key(models=(MODEL, "tiny-mixtral"))) == ""


def test_a_second_endpoint_is_used_when_the_first_may_not_be() -> None:
    """Both were attested; that is no fallback to a place nobody vouched for."""
    good = endpoint(id="e2")
    for bad in (endpoint(quarantine="telemetry-on"), endpoint(place="aws:eu-central-1")):
        for order in ((bad, good), (good, bad)):
            choice = choose(EEA, key(), MODEL, order, NOW)
            assert (choice.code, choice.endpoint) == ("", good)


def test_of_several_refusals_one_that_may_pass_by_itself_is_told_first() -> None:
    """A client told 503 comes back; told 403 it would give up although an engine only restarts."""
    sick, wrong = endpoint(quarantine="engine-unhealthy"), endpoint(quarantine="telemetry-on")
    assert verdict(wrong, sick) == verdict(sick, wrong) == "engine-unhealthy"


PLACES = st.sampled_from([*sorted(EEA.places), "this-host", "nowhere:at-all", ""])


@given(
    PLACES,
    st.sampled_from(["127.0.0.1:1", "10.0.0.1:1", "[::1]:1", "localhost:1", ""]),
    st.sampled_from(["", "telemetry-on", "engine-unhealthy"]),
    st.integers(-3, 3),
)
def test_nothing_is_chosen_that_the_policy_refuses_or_nobody_vouches_for(
    place: str, address: str, quarantine: str, left_s: int
) -> None:
    """The gateway may refuse more than `decide`, never allow more."""
    from sovereign.residency import Question, decide

    it = endpoint(
        place=place, address=address, quarantine=quarantine, expires_at=NOW + left_s * SECOND
    )
    choice = choose(EEA, key(), MODEL, (it,), NOW)
    if not choice.code:
        assert decide(EEA, Question(place, "personal", "process", NOW, address)).allowed
        assert not quarantine
        assert left_s > 0
