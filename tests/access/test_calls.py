"""The access rules on the path of a call: refused with the rule's id, recorded, and kept."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sovereign.access import Decision
from sovereign.gateway.choose import judge
from sovereign.gateway.entitle import Entitling, principal
from sovereign.gateway.kinds.table import KINDS
from sovereign.keystore import Key
from sovereign.policy import Policy
from sovereign.policy.spoken import ACTIONS
from sovereign.registry import Endpoint, utcnow
from tests.access.rules import MODEL, with_rules
from tests.gateway import site as sites
from tests.gateway.site import OPENAI, site
from tests.simulated.engine import engine

NO_TESTS = (
    'forbid (principal, action == Action::"chat", resource) when { principal.purpose == "tests" };'
)
NOT_SEEN = 'forbid (principal in Tenant::"acme", action == Action::"list", resource);'
NOT_AT_TWO = 'forbid (principal, action, resource in Endpoint::"two");'


def key(**more: Any) -> Key:
    bound: dict[str, Any] = {
        "id": "key_1",
        "tenant": "acme",
        "purpose": "tests",
        "basis": "contract",
        "data": "personal",
        "subject": "none",
        "created_at": utcnow(),
    }
    return Key(**(bound | more))


def endpoint(name: str) -> Endpoint:
    now = utcnow()
    return Endpoint(
        id=name,
        engine="vllm",
        address="127.0.0.1:9",
        models=(MODEL,),
        place="this-host",
        attested_at=now - timedelta(seconds=1),
        expires_at=now + timedelta(hours=1),
        quarantine="",
        reason="",
    )


@pytest.fixture
def under(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have the gateways of this test serve under a policy with these rules."""

    def under(*rules: str) -> Policy:
        policy = with_rules(tmp_path, *rules)
        monkeypatch.setattr(sites, "EEA", policy)
        monkeypatch.setattr("sovereign.settings.Home.policies", tmp_path / "policies")
        return policy

    return under


@pytest.mark.parametrize("headers", [{}, OPENAI], ids=["mistral", "openai"])
async def test_a_refused_call_is_a_403_that_names_the_rule_and_its_record(
    tmp_path: Path, under: Any, headers: dict[str, str]
) -> None:
    """Whoever is refused can say to the operator which rule, and an auditor finds the same."""
    policy = under(NO_TESTS)
    async with engine() as it, site(tmp_path / "home", it.address) as ours:
        reply = await ours.chat(headers=headers)
        assert (reply.status, reply.error["code"]) == (403, "access-refused")
        assert (reply.error["rule"], reply.error["message"]) == ("own-0", "Because of 0.")
        assert reply.error["record"] == reply.headers["x-sovereign-record"]
        (decision,) = ours.kinds("decision")
        said = (decision["verdict"], decision["rule"], decision["policy"])
        assert said == ("refuse", "own-0", policy.digest)
        assert decision["endpoint"] == "local-llamacpp"
        assert it.asked == []


async def test_a_call_that_is_let_through_is_recorded_under_its_residency_rule(
    tmp_path: Path, under: Any
) -> None:
    """The access rules take away; what allows data to be somewhere is still residency."""
    under(NO_TESTS.replace('"tests"', '"other"'))
    async with engine() as it, site(tmp_path / "home", it.address) as ours:
        assert (await ours.chat()).status == 200
        (decision,) = ours.kinds("decision")
        assert (decision["verdict"], decision["rule"]) == ("allow", "nothing-leaves-this-host")


async def test_a_model_that_may_not_be_listed_is_not_shown_but_may_be_used(
    tmp_path: Path, under: Any
) -> None:
    """`list` is an action of its own, asked of every model for the key that lists."""
    under(NOT_SEEN)
    async with engine() as it, site(tmp_path / "home", it.address) as ours:
        other = ours.key(tenant="other")
        await ours.seen()
        asked = {"authorization": f"Bearer {ours.secret}"}
        assert (await ours.ask("GET", "/v1/models", asked)).json["data"] == []
        seen = await ours.ask("GET", "/v1/models", {"authorization": f"Bearer {other}"})
        assert [card["id"] for card in seen.json["data"]] == [MODEL]
        assert (await ours.chat()).status == 200


def test_where_one_of_two_endpoints_is_forbidden_the_other_answers(tmp_path: Path) -> None:
    """A rule about an endpoint takes that one away and refuses nobody as long as one is left."""
    policy = with_rules(tmp_path, NOT_AT_TWO)
    group = judge(policy, "personal", MODEL, (endpoint("two"), endpoint("one")), utcnow())
    entitling = Entitling(policy)
    left = entitling.narrow(key(), "chat", group)
    assert [c.endpoint and c.endpoint.id for c in left.choices] == ["one"]
    assert left.may_answer
    only = judge(policy, "personal", MODEL, (endpoint("two"),), utcnow())
    (refusal,) = entitling.narrow(key(), "chat", only).choices
    assert (refusal.code, refusal.rule) == ("access-refused", "own-0")
    assert refusal.endpoint is not None


def test_a_group_that_nothing_is_taken_from_stays_the_same_group(tmp_path: Path) -> None:
    """What remembers groups by what they are must not see a new one at every call."""
    policy = with_rules(tmp_path)
    group = judge(policy, "personal", MODEL, (endpoint("one"),), utcnow())
    assert Entitling(policy).narrow(key(), "chat", group) is group


def test_a_question_is_evaluated_once_until_anything_about_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept answers are what makes this free on the path of a call; a stale one would be a hole."""
    policy = with_rules(tmp_path)
    entitling = Entitling(policy)
    evaluated: list[Any] = []
    real = entitling._access.decide

    def counting(*asked: Any) -> Decision:
        evaluated.append(asked)
        return real(*asked)

    monkeypatch.setattr(entitling._access, "decide", counting)
    for _ in range(3):
        entitling.ask(key(), "chat", MODEL, endpoint("one"))
    assert len(evaluated) == 1
    changed: list[dict[str, Any]] = [
        {"tenant": "x"},
        {"purpose": "x"},
        {"basis": "consent"},
        {"data": "public"},
        {"models": (MODEL,)},
        {"roles": ("x",)},
        {"id": "key_2"},
    ]
    for more in changed:
        entitling.ask(key(**more), "chat", MODEL, endpoint("one"))
    entitling.ask(key(), "fim", MODEL, endpoint("one"))
    entitling.ask(key(), "chat", "tiny-mixtral", endpoint("one"))
    entitling.ask(key(), "chat", MODEL, endpoint("two"))
    moved = endpoint("one")
    entitling.ask(key(), "chat", MODEL, Endpoint(**{**_fields(moved), "place": "ovh:GRA11"}))
    assert len(evaluated) == 1 + len(changed) + 4


def _fields(it: Endpoint) -> dict[str, Any]:
    return {name: getattr(it, name) for name in it.__struct_fields__}


def test_every_attribute_of_a_key_that_rules_see_is_part_of_what_is_remembered() -> None:
    """A new attribute of a principal that is not in the question would give answers of another."""
    seen = principal(key(models=(MODEL,), roles=("r",)))
    assert replace(seen) == seen
    assert set(seen.__slots__) == {
        *("id", "tenant", "purpose", "basis", "data", "models", "roles", "kind")
    }


def test_every_kind_of_call_is_an_action_that_rules_can_speak_of() -> None:
    """A kind that the rules do not know is refused; so a new one must be told to them."""
    assert {kind.name for kind in KINDS} | {"list"} == set(ACTIONS)
