"""What the access rules answer: silence means no, a forbid wins, and what breaks is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cedarpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sovereign import policy as policies
from sovereign.access import Access, differing, served
from sovereign.policy.cedar import AccessRule, AccessRules
from sovereign.policy.spoken import ACTIONS, Principal
from tests.access.rules import HERE, MODEL, OTHER, SOMEBODY, with_rules
from tests.policy.conftest import SHIPPED

ANYBODY = "permit (principal, action, resource);"


@pytest.mark.parametrize(
    ("bound", "allowed", "rule"),
    [
        ((), True, "keys-use-the-models-they-are-bound-to"),
        ((MODEL,), True, "keys-use-the-models-they-are-bound-to"),
        ((OTHER,), False, "access-default-deny"),
        ((OTHER, MODEL), True, "keys-use-the-models-they-are-bound-to"),
    ],
)
@pytest.mark.parametrize("action", ACTIONS)
def test_the_shipped_rules_let_a_key_use_what_it_is_bound_to_and_nothing_else(
    action: str, bound: tuple[str, ...], allowed: bool, rule: str
) -> None:
    """The rules shipped mean what a binding has always meant, for every kind of call."""
    answer = Access(policies.load(SHIPPED)).decide(replace(SOMEBODY, models=bound), action, HERE)
    assert (answer.allowed, answer.rule) == (allowed, rule)


@pytest.mark.parametrize(
    ("serve", "allowed"), [("yes", True), ("acknowledge", True), ("no", False)]
)
def test_weights_that_the_licences_table_says_no_to_do_not_serve(serve: str, allowed: bool) -> None:
    """rules/licences.yaml was a table to be read; now what it says `no` to is refused."""
    answer = Access(policies.load(SHIPPED)).decide(SOMEBODY, "chat", replace(HERE, serve=serve))
    assert answer.allowed is allowed
    assert answer.rules == (
        ("keys-use-the-models-they-are-bound-to",)
        if allowed
        else ("weights-that-may-not-serve-do-not",)
    )


def test_a_rule_that_forbids_wins_over_any_number_that_permit(tmp_path: Path) -> None:
    """Whoever writes `forbid` must be able to rely on it, whatever else is written."""
    forbid = 'forbid (principal in Tenant::"acme", action, resource);'
    policy = with_rules(tmp_path, ANYBODY, forbid, ANYBODY)
    answer = Access(policy).decide(SOMEBODY, "chat", HERE)
    assert (answer.allowed, answer.rule, answer.because) == (False, "own-1", "Because of 1.")
    assert Access(policy).decide(replace(SOMEBODY, tenant="other"), "chat", HERE).allowed


def test_of_several_rules_the_first_by_id_is_told_and_all_are_named(tmp_path: Path) -> None:
    """The same question gets the same answer on every machine, in whatever order files are read."""
    answer = Access(with_rules(tmp_path, ANYBODY, ANYBODY)).decide(SOMEBODY, "chat", HERE)
    assert answer.rule == "keys-use-the-models-they-are-bound-to"
    assert answer.rules == ("keys-use-the-models-they-are-bound-to", "own-0", "own-1")


@pytest.mark.parametrize(
    ("rule", "who", "allowed"),
    [
        ('permit (principal in Role::"tester", action, resource);', {"roles": ("tester",)}, True),
        ('permit (principal in Role::"tester", action, resource);', {"roles": ("other",)}, False),
        ('permit (principal == Key::"key_1", action, resource);', {}, True),
        ('permit (principal == Key::"key_1", action, resource);', {"kind": "Token"}, False),
        ("permit (principal is Token, action, resource);", {"kind": "Token"}, True),
        ('permit (principal, action == Action::"fim", resource);', {}, False),
        ('permit (principal, action, resource in Model::"tiny-mixtral");', {}, False),
        ('permit (principal, action, resource in Endpoint::"local-vllm");', {}, True),
        ('permit (principal, action, resource in Place::"this-host");', {}, True),
        ('permit (principal, action, resource) when { principal.purpose == "x" };', {}, False),
        (
            'permit (principal, action, resource) when { resource.country == Country::"DE" };',
            {},
            False,
        ),
        (
            "permit (principal, action, resource)"
            ' when { resource.capabilities.contains(Capability::"chat") };',
            {},
            True,
        ),
    ],
)
def test_a_rule_may_speak_of_everything_that_is_stated(
    tmp_path: Path, rule: str, who: dict[str, Any], allowed: bool
) -> None:
    """Every attribute of the schema is really filled in, or a rule about it would be dead."""
    policy = with_rules(tmp_path, rule, shipped=False)
    asked = replace(SOMEBODY, **who)
    assert Access(policy).decide(asked, "chat", HERE).allowed is allowed


def test_without_a_rule_that_permits_nothing_is_allowed(tmp_path: Path) -> None:
    """Silence means no, here as everywhere."""
    policy = with_rules(
        tmp_path, 'forbid (principal in Tenant::"x", action, resource);', shipped=False
    )
    answer = Access(policy).decide(SOMEBODY, "chat", HERE)
    assert (answer.allowed, answer.rule, answer.rules) == (False, "access-default-deny", ())


def broken(*texts: str) -> AccessRules:
    """Rules that the loader would never let through: they stand for what nobody thought of."""
    made = [AccessRule(f"rule-{n}", "permit", "b", "s", text) for n, text in enumerate(texts)]
    return AccessRules(tuple(made))


def test_a_rule_that_cannot_be_evaluated_refuses_everything() -> None:
    """Cedar leaves such a rule out; if it was the one that forbids, that would let people in."""
    overflow = "forbid (principal, action, resource) when { 9223372036854775807 + 1 > 0 };"
    policy = replace(policies.load(SHIPPED), access=broken(ANYBODY, overflow))
    assert cedarpy.is_authorized(
        {"principal": 'Key::"a"', "action": 'Action::"chat"', "resource": 'Served::"b"'},
        policy.access.text,
        "[]",
    ).allowed
    answer = Access(policy).decide(SOMEBODY, "chat", HERE)
    assert (answer.allowed, answer.rule) == (False, "access-not-evaluated")


@pytest.mark.parametrize("action", ["", "delete", "Chat", 'chat"; '])
def test_what_the_rules_do_not_know_is_refused(action: str) -> None:
    """A new kind of call must not be let through by a rule that was written before it."""
    answer = Access(policies.load(SHIPPED)).decide(SOMEBODY, action, HERE)
    assert (answer.allowed, answer.rule) == (False, "access-not-evaluated")


NAMES = st.text(max_size=12)


@given(
    who=st.builds(
        Principal,
        id=NAMES,
        tenant=NAMES,
        purpose=NAMES,
        basis=st.sampled_from(["contract", "consent"]),
        data=NAMES,
        models=st.lists(NAMES, max_size=3).map(tuple),
        roles=st.lists(NAMES, max_size=3).map(tuple),
    )
)
@settings(max_examples=60, deadline=None)
def test_whatever_a_key_is_called_it_gets_an_answer_and_only_what_it_is_bound_to(
    who: Principal,
) -> None:
    """Names of tenants and purposes are free text; none may break out of the question."""
    answer = SHIPPED_ACCESS.decide(who, "chat", HERE)
    assert answer.allowed is (not who.models or MODEL in who.models)


SHIPPED_ACCESS = Access(policies.load(SHIPPED))


def test_the_facts_of_a_model_and_a_place_come_from_the_tables() -> None:
    """Nobody states in two places what the terms of a model are or where a place is."""
    policy = policies.load(SHIPPED)
    what = served(policy, MODEL, "e", "vllm", "ovh:GRA11")
    assert (what.terms, what.serve, what.country, what.under) == ("open", "yes", "FR", "FR")
    nowhere = served(policy, MODEL, "e", "vllm", "nowhere:x")
    assert (nowhere.country, nowhere.under) == ("unknown", "unknown")


def test_the_shipped_cases_are_answered_as_they_say() -> None:
    """The table is what an operator reads to know what the rules mean."""
    policy = policies.load(SHIPPED)
    assert len(policy.access.cases) >= 5
    assert list(differing(policy)) == []


def test_a_rule_that_changes_an_answer_is_noticed_by_the_cases(tmp_path: Path) -> None:
    """The table must be able to fail."""
    found = list(differing(with_rules(tmp_path, ANYBODY)))
    assert {(each.case.expect, each.found.rule) for each in found} == {("refuse", "own-0")}
    assert len(found) == len(ACTIONS) + 1


def test_explaining_names_also_the_rule_that_did_not_win(tmp_path: Path) -> None:
    """Whoever is refused wants to know that a rule would have let them in, too."""
    policy = with_rules(tmp_path, 'forbid (principal in Tenant::"acme", action, resource);')
    found = Access(policy).applying(SOMEBODY, "chat", HERE)
    assert [(rule.id, rule.effect) for rule in found] == [
        ("keys-use-the-models-they-are-bound-to", "permit"),
        ("own-0", "forbid"),
    ]
