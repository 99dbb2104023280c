"""What one round changes, as a truth table: what was seen and what stands, in; steps, out."""

from dataclasses import replace
from datetime import timedelta
from itertools import permutations

import pytest

from sovereign.controller.observe import Seen
from sovereign.controller.plan import Plan, plan
from sovereign.engines import ENGINES, Probe
from sovereign.host import EngineProcess
from sovereign.registry import Snapshot
from tests.controller.seen import (
    ANSWERS,
    ENVIRONMENT,
    NOW,
    POLICY,
    SILENT,
    VALID,
    WELL,
    attested,
    showing,
    sight,
    wanted,
)

SECOND = timedelta(seconds=1)
EMPTY = showing()


def verbs(made: Plan) -> list[str]:
    return [step.verb for step in made.steps]


def planned(seen: Seen, snapshot: Snapshot = EMPTY) -> Plan:
    return plan(POLICY, (seen,), snapshot, NOW)


def test_an_endpoint_that_is_well_and_unknown_is_attested_for_exactly_the_time_of_the_policy() -> (
    None
):
    """Nothing may answer before somebody vouches for it, and never longer than the policy says."""
    (step,) = planned(sight()).steps
    assert (step.number, step.verb, step.signal) == (1, "attest", "loopback-listener")
    assert (step.endpoint.attested_at, step.endpoint.expires_at) == (NOW, NOW + VALID)
    assert (step.decision.allowed, step.decision.rule) == (True, "nothing-leaves-this-host")


@pytest.mark.parametrize(
    ("age", "verb"),
    [
        (timedelta(0), []),
        (VALID / 2, []),  # exactly half: the rest is not less than half
        (VALID / 2 + SECOND, ["attest"]),
        (VALID - SECOND, ["attest"]),
        (VALID, ["attest"]),  # ended
    ],
)
def test_an_attestation_is_renewed_in_the_second_half_of_its_life_and_not_before(
    age: timedelta, verb: list[str]
) -> None:
    """A record each round would bury the log; one at the last moment would refuse people."""
    assert verbs(planned(sight(), showing(attested(NOW - age)))) == verb


@pytest.mark.parametrize(
    "more",
    [
        {"address": "127.0.0.1:9"},
        {"place": "own:lab"},
        {"models": ("another",)},
    ],
)
def test_a_fresh_attestation_of_something_else_is_renewed_at_once(more: dict[str, object]) -> None:
    """After a change of settings the registry must not go on vouching for what was."""
    assert verbs(planned(sight(), showing(attested(NOW, **more)))) == ["attest"]


@pytest.mark.parametrize(
    ("seen", "code"),
    [
        (sight(SILENT, EngineProcess()), "engine-unhealthy"),
        (sight(SILENT), "engine-unhealthy"),
        (sight(Probe(False, 9, "wrong-model", "other")), "engine-unhealthy"),
        (sight(process=EngineProcess()), "environment-unknown"),
        (sight(process=EngineProcess(77, None, WELL.listeners)), "environment-unknown"),
        (sight(process=EngineProcess(77, ENVIRONMENT, None)), "environment-unknown"),
        (sight(SILENT, EngineProcess(77, None, None)), "environment-unknown"),
        (sight(process=EngineProcess(77, {}, WELL.listeners)), "telemetry-on"),
        (
            sight(process=EngineProcess(77, {**ENVIRONMENT, "HF_TOKEN": "x"}, WELL.listeners)),
            "telemetry-on",
        ),
        (sight(process=EngineProcess(77, ENVIRONMENT, ("0.0.0.0:8081",))), "residency-refused"),
        (sight(process=EngineProcess(77, ENVIRONMENT, (":::8081",))), "residency-refused"),
        (
            sight(process=EngineProcess(77, ENVIRONMENT, ("127.0.0.1:8081", "10.1.2.3:9"))),
            "residency-refused",
        ),
        (sight(asked_for=wanted("aws:eu-central-1")), "residency-refused"),
        (sight(asked_for=wanted("nowhere:at-all")), "residency-refused"),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_each_fault_is_one_quarantine_with_its_own_code(seen: Seen, code: str, known: bool) -> None:
    """Whether it was well before or never seen: what is not known to be right is shut."""
    before = showing(attested(NOW)) if known else EMPTY
    (step,) = planned(seen, before).steps
    assert (step.verb, step.endpoint.quarantine) == ("quarantine", code)
    assert step.endpoint.reason


@pytest.mark.parametrize("rule", ENGINES["llamacpp"].required_environment(), ids=lambda r: r.name)
def test_every_single_variable_that_is_not_as_demanded_quarantines(rule: object) -> None:
    """One switch left on is enough for a conversation to leave."""
    name, must_be = rule.name, rule.must_be  # type: ignore[attr-defined]  # an EnvRule
    wrong = {**ENVIRONMENT, name: "secret-value"}
    (step,) = planned(sight(process=replace_environment(wrong))).steps
    assert step.endpoint.quarantine == "telemetry-on"
    assert name in step.endpoint.reason
    assert "secret-value" not in step.endpoint.reason
    if must_be is not None:
        unset = {key: value for key, value in ENVIRONMENT.items() if key != name}
        assert verbs(planned(sight(process=replace_environment(unset)))) == ["quarantine"]


def replace_environment(environment: dict[str, str]) -> EngineProcess:
    return EngineProcess(WELL.pid, environment, WELL.listeners)


def test_a_plan_never_repeats_what_already_stands() -> None:
    """An engine that is down for a night must not write a record every five seconds."""
    first = planned(sight(SILENT), showing(attested(NOW)))
    assert planned(sight(SILENT), showing(first.steps[0].endpoint)).steps == ()


@pytest.mark.parametrize(
    "other", [sight(process=EngineProcess()), sight(Probe(False, 1, "timed-out", ""))]
)
def test_another_reason_is_another_quarantine(other: Seen) -> None:
    """The registry and the log say why it is shut now, not why it was shut first."""
    first = planned(sight(SILENT), showing(attested(NOW)))
    assert verbs(planned(other, showing(first.steps[0].endpoint))) == ["quarantine"]


def test_a_quarantine_that_the_log_was_not_told_of_is_planned_again() -> None:
    """Refusing came first; the record is made up for as soon as the log can be written."""
    (step,) = planned(sight(SILENT), showing(attested(NOW))).steps
    unrecorded = attested(
        NOW, quarantine=step.endpoint.quarantine, reason=step.endpoint.reason, recorded=False
    )
    assert verbs(planned(sight(SILENT), showing(unrecorded))) == ["quarantine"]


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("engine-unhealthy", ["attest", "release"]),
        ("residency-refused", ["attest", "release"]),
        ("not-attested", ["attest"]),  # the first time is no release: nothing was shut
    ],
)
def test_what_is_well_again_is_attested_and_released(before: str, expected: list[str]) -> None:
    """An auditor sees both: that it was shut, and since when it is open again."""
    made = planned(sight(), showing(attested(NOW, quarantine=before, reason="r")))
    assert verbs(made) == expected
    assert [step.number for step in made.steps] == list(range(1, len(expected) + 1))
    assert {step.endpoint.quarantine for step in made.steps} == {""}


@pytest.mark.parametrize(
    ("seen", "before", "rules"),
    [
        (sight(), None, ["nothing-leaves-this-host"]),
        (sight(SILENT), None, [""]),
        (sight(asked_for=wanted("nowhere:at-all")), None, ["place-is-known"]),
        (sight(), "residency-refused", ["nothing-leaves-this-host", "nothing-leaves-this-host"]),
        (sight(), "engine-unhealthy", ["nothing-leaves-this-host", ""]),
    ],
)
def test_a_step_names_the_residency_rule_only_where_that_caused_it(
    seen: Seen, before: str | None, rules: list[str]
) -> None:
    """An engine that is down is nobody's policy; a record must not blame a rule for it."""
    shown = EMPTY if before is None else showing(attested(NOW, quarantine=before, reason="r"))
    assert [step.rule for step in planned(seen, shown).steps] == rules


def test_a_declared_place_is_the_operators_statement() -> None:
    """The signal says how the place is known: here by somebody's word alone."""
    (step,) = planned(sight(asked_for=wanted("scaleway:fr-par-2"))).steps
    assert (step.verb, step.signal) == ("attest", "operator-statement")
    assert step.decision.rule == "personal-data-stays-in-eea"


def test_at_a_declared_place_an_engine_may_listen_beyond_loopback() -> None:
    """The rule of this-host binds this-host only; ports are another control's question."""
    process = EngineProcess(77, ENVIRONMENT, ("10.0.0.5:8081",))
    seen = sight(process=process, asked_for=wanted("scaleway:fr-par-2", address="10.0.0.5:8081"))
    assert verbs(planned(seen)) == ["attest"]


def test_the_order_in_which_endpoints_are_seen_changes_the_numbers_only() -> None:
    """Steps are independent of each other, so nobody can win by being observed first."""
    sights = [
        sight(asked_for=wanted(name="a")),
        sight(SILENT, asked_for=wanted(name="b")),
        sight(process=EngineProcess(), asked_for=wanted(name="c")),
    ]
    made = {
        frozenset((s.verb, s.endpoint.id, s.endpoint.quarantine) for s in one.steps)
        for order in permutations(sights)
        for one in [plan(POLICY, order, EMPTY, NOW)]
    }
    assert len(made) == 1


def test_a_plan_names_the_generation_it_was_made_on() -> None:
    """That number is what makes a stale plan refusable."""
    assert planned(sight(), showing(generation=41)).generation == 41


def test_the_same_observations_give_the_same_plan() -> None:
    """Planning is pure: it can be computed again in court."""
    assert planned(sight()) == planned(replace(sight()))
    assert sight().probe is ANSWERS
