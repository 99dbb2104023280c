"""Whether weights may serve, as a truth table: the policy and what was acknowledged, in."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from sovereign import licence
from sovereign import policy as policies
from sovereign.errors import LicenceRefused, NaiveTime
from sovereign.licence import ELSEWHERE, PRODUCTION, Acknowledgement, Standing, decide
from sovereign.policy.shapes import Licence

POLICY = policies.load(Path(__file__).resolve().parents[2] / "policies", "eea")
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
DAY = timedelta(days=1)
OPEN, RETIRED = "smollm2-135m-instruct", "mixtral-8x7b-instruct-v0.1"
CODESTRAL, RESEARCH, MODIFIED = (
    "codestral-22b-v0.1",
    "mistral-large-instruct-2411",
    "mistral-medium-3.5-128b",
)
PURPOSES = {CODESTRAL: "testing", RESEARCH: "research", MODIFIED: "revenue-below-threshold"}


def given(model: str, environment: str = ELSEWHERE, **more: object) -> Acknowledgement:
    made = Acknowledgement(
        id="ack_000000000001",
        model=model,
        licence=POLICY.models[model].licence,
        environment=environment,
        approver="legal-counsel",
        purpose=PURPOSES[model],
        made_at=NOW - DAY,
        expires_at=NOW + DAY,
    )
    return replace(made, **more)


@pytest.mark.parametrize(
    ("model", "environment", "without", "with_one"),
    [
        (OPEN, PRODUCTION, "allow", None),
        (OPEN, ELSEWHERE, "allow", None),
        (RETIRED, PRODUCTION, "warn", None),
        (CODESTRAL, PRODUCTION, "refuse", "refuse"),
        (CODESTRAL, ELSEWHERE, "refuse", "warn"),
        (RESEARCH, PRODUCTION, "refuse", "refuse"),
        (RESEARCH, ELSEWHERE, "refuse", "warn"),
        (MODIFIED, PRODUCTION, "refuse", "allow"),
        (MODIFIED, ELSEWHERE, "refuse", "allow"),
    ],
)
def test_each_kind_of_terms_in_each_environment(
    model: str, environment: str, without: str, with_one: str | None
) -> None:
    """The four rows that decide whether a site breaks a licence by being deployed."""
    assert decide(POLICY, model, Standing(environment), NOW).verdict == without
    if with_one is not None:
        standing = Standing(environment, (given(model, environment),))
        answer = decide(POLICY, model, standing, NOW)
        if with_one == "refuse":
            assert answer.verdict == "refuse"
        else:
            assert answer.allowed
            assert answer.acknowledgement == "ack_000000000001"
            assert answer.until == NOW + DAY


def test_what_nobody_said_is_production_and_nothing_acknowledged() -> None:
    """The default must be the answer that breaks no licence."""
    assert Standing() == Standing(PRODUCTION, ())
    assert not decide(POLICY, CODESTRAL, Standing(), NOW).allowed
    odd = Standing("staging", (given(CODESTRAL, "staging"),))
    assert not decide(POLICY, CODESTRAL, odd, NOW).allowed


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"expires_at": NOW}, "ended"),
        ({"made_at": NOW + DAY / 24, "expires_at": NOW + DAY}, "begins"),
        ({"made_at": NOW - 400 * DAY, "expires_at": NOW + DAY}, "ended"),
        ({"revoked_at": NOW}, "revoked"),
        ({"environment": PRODUCTION}, "for production"),
        ({"approver": "anybody"}, "may not approve"),
        ({"purpose": "fun"}, "no purpose"),
        ({"licence": "Apache-2.0"}, "another licence"),
    ],
)
def test_an_acknowledgement_that_does_not_fit_counts_for_nothing_and_it_is_said_why(
    changed: dict[str, object], said: str
) -> None:
    """Each is a way in which yesterday's signature stops covering today's use."""
    standing = Standing(ELSEWHERE, (given(CODESTRAL, **changed),))
    answer = decide(POLICY, CODESTRAL, standing, NOW)
    assert (answer.verdict, answer.rule) == ("refuse", "licence-non-production")
    assert said in answer.found
    assert "sovereign licence acknowledge codestral-22b-v0.1" in answer.fix


def test_an_acknowledgement_holds_until_its_very_end_and_not_at_it() -> None:
    """The edge where yes becomes no."""
    standing = Standing(ELSEWHERE, (given(CODESTRAL, expires_at=NOW + DAY),))
    last = NOW + DAY - timedelta(microseconds=1)
    assert decide(POLICY, CODESTRAL, standing, last).allowed
    assert not decide(POLICY, CODESTRAL, standing, NOW + DAY).allowed


def test_one_of_another_model_covers_nothing_and_the_one_that_lasts_longest_counts() -> None:
    """Two models under one licence are two uses."""
    other = replace(given(RESEARCH), model="mistral-large-instruct-2407")
    assert not decide(POLICY, RESEARCH, Standing(ELSEWHERE, (other,)), NOW).allowed
    longer = replace(given(RESEARCH), id="ack_000000000002", expires_at=NOW + 9 * DAY)
    standing = Standing(ELSEWHERE, (longer, given(RESEARCH)))
    answer = decide(POLICY, RESEARCH, standing, NOW)
    assert (answer.acknowledgement, answer.until) == (longer.id, NOW + 9 * DAY)


def test_a_model_or_terms_that_nobody_described_are_refused() -> None:
    """Silence means no, also about licences."""
    assert decide(POLICY, "gpt-9", Standing(ELSEWHERE), NOW).rule == "licence-unknown"
    silent = replace(POLICY, licences={})
    answer = decide(silent, OPEN, Standing(ELSEWHERE), NOW)
    assert (answer.verdict, answer.rule) == ("refuse", "licence-unknown")


def test_a_policy_that_never_heard_of_production_is_strict_about_it() -> None:
    """A policy folder written before there was the word must not open anything."""
    assert licence.serves(Licence("research", "acknowledge", "Because."), PRODUCTION) == "no"
    assert licence.serves(Licence("open", "yes", "Because."), PRODUCTION) == "yes"
    assert licence.serves(None, ELSEWHERE) == "no"
    with pytest.raises(msgspec.ValidationError, match="freer"):
        msgspec.convert(
            {"terms": "open", "serve": "no", "because": "Why not.", "production": "yes"}, Licence
        )


def test_a_retired_model_is_named_with_its_replacement() -> None:
    """It may serve, and nobody mends its faults any more."""
    answer = decide(POLICY, RETIRED, Standing(), NOW)
    assert answer.allowed
    assert "was retired by its maker on 2025-03-30" in answer.warning
    assert POLICY.models[RETIRED].lifecycle.replacement in answer.warning


def test_a_refusal_carries_what_was_found_and_what_to_do() -> None:
    """An operator who reads only the error knows the next command."""
    with pytest.raises(LicenceRefused) as raised:
        licence.refuse(decide(POLICY, MODIFIED, Standing(), NOW), what="nothing was started")
    assert raised.value.rule == "licence-modified"
    assert raised.value.next_step.startswith("sovereign licence acknowledge")


def test_a_licence_is_not_judged_at_a_time_without_a_zone() -> None:
    """Two machines would disagree about the day it ends."""
    with pytest.raises(NaiveTime):
        decide(POLICY, OPEN, Standing(), NOW.replace(tzinfo=None))
