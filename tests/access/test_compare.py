"""What a change of the rules makes possible is computed for everybody, and said as exactly that."""

from dataclasses import replace
from pathlib import Path

import pytest

from sovereign.access import compare
from sovereign.access.compare import Change, Spot, changes, imagined
from sovereign.errors import BadInput
from sovereign.policy import Policy
from sovereign.policy.spoken import ACTIONS
from tests.access.rules import MODEL, OTHER, SOMEBODY, with_rules

HERE = (Spot("local-vllm", "vllm", models=(MODEL, OTHER)),)
PERMIT = 'permit (principal in Role::"tester", action == Action::"chat", resource in Model::"{}");'
FORBID = 'forbid (principal in Tenant::"acme", action == Action::"fim", resource);'


def said(found: tuple[Change, ...]) -> set[tuple[str, str, str, bool]]:
    return {(each.principal.id, each.action, each.model, each.widens) for each in found}


@pytest.fixture
def plain(tmp_path: Path) -> Policy:
    return with_rules(tmp_path, name="plain")


def test_a_permit_for_a_role_makes_exactly_that_possible(tmp_path: Path, plain: Policy) -> None:
    """Who may do what from tomorrow on is the question of whoever has to sign."""
    bound = replace(SOMEBODY, id="bound", models=(OTHER,), roles=("tester",))
    other = replace(SOMEBODY, id="other", models=(OTHER,))
    new = with_rules(tmp_path, PERMIT.format(MODEL))
    assert said(changes(plain, new, (bound, other), HERE)) == {("bound", "chat", MODEL, True)}
    assert said(changes(new, plain, (bound, other), HERE)) == {("bound", "chat", MODEL, False)}


def test_a_forbid_makes_exactly_that_impossible(tmp_path: Path, plain: Policy) -> None:
    """A rule that shuts out more than it says would be met by its victims first."""
    outside = replace(SOMEBODY, id="outside", tenant="beta")
    found = changes(plain, with_rules(tmp_path, FORBID), (SOMEBODY, outside), HERE)
    assert said(found) == {("key_1", "fim", MODEL, False), ("key_1", "fim", OTHER, False)}
    assert {each.after.rule for each in found} == {"own-0"}


def test_rules_in_other_words_that_answer_the_same_change_nothing(
    tmp_path: Path, plain: Policy
) -> None:
    """Only answers count; a rule that is rewritten widens nothing by being new."""
    double = (
        "permit (principal, action, resource) when { principal.models.contains(resource.model) };"
    )
    assert changes(plain, with_rules(tmp_path, double), (SOMEBODY,), HERE) == ()


def test_a_role_or_tenant_that_no_key_has_yet_is_asked_about_too(
    tmp_path: Path, plain: Policy
) -> None:
    """Otherwise a door could be opened today for a key that is made tomorrow."""
    shut = 'forbid (principal in Tenant::"gamma", action, resource);'
    old = with_rules(tmp_path, shut, name="old")
    who = imagined(old, plain)
    assert [each.tenant for each in who] == ["gamma"]
    found = changes(old, plain, who, HERE)
    assert {each.action for each in found} == set(ACTIONS)
    assert all(each.widens for each in found)


def test_a_model_that_only_one_policy_knows_is_refused_by_the_other(
    tmp_path: Path, plain: Policy
) -> None:
    """A new row in the table of models is a new thing that can be used."""
    less = replace(plain, models={k: v for k, v in plain.models.items() if k != OTHER})
    found = changes(less, plain, (SOMEBODY,), HERE)
    assert {(each.model, each.widens) for each in found} == {(OTHER, True)}


def test_too_many_questions_are_refused_and_not_answered_in_part(
    tmp_path: Path, plain: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`nothing becomes possible` must never mean `nobody looked`."""
    monkeypatch.setattr(compare, "QUESTIONS_MAX", 9)
    with pytest.raises(BadInput, match="too many to compare"):
        changes(plain, with_rules(tmp_path, FORBID), (SOMEBODY,), HERE)
