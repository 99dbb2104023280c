"""Decisions computed again from what the logs hold of them, and nothing else."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sovereign.audit import record
from sovereign.audit import trail as trails
from sovereign.audit.trail import Trail
from sovereign.controller.act import act
from sovereign.controller.observe import Seen
from sovereign.controller.plan import PERSONAL, plan
from sovereign.fleet import members, records
from sovereign.host import EngineProcess
from sovereign.policy import Policy
from sovereign.registry import Registry
from sovereign.residency import Decision, Question, decide
from sovereign.settings import Home, Settings
from tests.controller.seen import ENVIRONMENT, NOW, POLICY, sight, wanted
from tests.gateway.site import EEA, site
from tests.simulated.engine import engine

STRICTER = replace(POLICY, residency=(), digest="another")
POLICIES: Mapping[str, Policy] = {each.digest: each for each in (EEA, POLICY, STRICTER)}
SOME_YEARS = timedelta(days=3 * 365)


def asked_again(found: Mapping[str, Any]) -> Decision:
    """Ask what a record says was asked, of the policy whose digest it names."""
    asked_at = datetime.strptime(found["asked_at"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    data, verb = found.get("data", PERSONAL), found.get("verb", "process")
    question = Question(found["place"], data, verb, asked_at, found.get("listener", ""))
    return decide(POLICIES[found["policy"]], question)


def later(found: Mapping[str, Any]) -> dict[str, Any]:
    """The same record, had the question been asked some years later."""
    asked_at = datetime.strptime(found["asked_at"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    return {**found, "asked_at": record.written(asked_at + SOME_YEARS)}


@pytest.mark.parametrize(
    ("place", "address", "verdict"),
    [
        ("this-host", None, "allow"),
        ("this-host", "10.0.0.1:8081", "refuse"),
        ("scaleway:fr-par-2", None, "allow"),
        ("aws:eu-central-1", None, "refuse"),
        ("nowhere:at-all", None, "refuse"),
    ],
)
def test_a_gateways_decision_is_computed_again_from_its_record(
    tmp_path: Path, place: str, address: str | None, verdict: str
) -> None:
    """In a year somebody asks whether that call was rightly answered; the log must be enough."""
    home, real = asyncio.run(asked_once(tmp_path, place, address))
    (found,) = [f for f in read(home, "event") if f["type"] == "decision"]
    again = asked_again(found)
    assert (found["verdict"], found["rule"]) == (again.verdict, again.rule)
    assert found["verdict"] == verdict
    assert found["listener"] == (address or real)


@pytest.mark.parametrize(
    ("seen", "kind", "verdict"),
    [
        (sight(), "attestation", "allow"),
        (sight(asked_for=wanted("scaleway:fr-par-2")), "attestation", "allow"),
        (sight(asked_for=wanted("aws:eu-central-1")), "quarantine", "refuse"),
        (
            sight(process=EngineProcess(77, ENVIRONMENT, ("127.0.0.1:8081", "10.1.2.3:9"))),
            "quarantine",
            "refuse",
        ),
    ],
)
def test_what_the_controller_decided_of_a_place_is_computed_again_from_its_record(
    tmp_path: Path, seen: Seen, kind: str, verdict: str
) -> None:
    """The address is the one really listened on, which no other record holds."""
    (found,) = controlled(tmp_path, seen, POLICY)
    again = asked_again(found)
    assert found["type"] == kind
    assert (found.get("verdict", "refuse"), found["rule"]) == (again.verdict, again.rule)
    assert again.verdict == verdict
    assert asked_again({**found, "policy": "another"}).verdict == "refuse"


def test_the_time_of_the_question_is_what_its_freshness_hangs_on(tmp_path: Path) -> None:
    """Without `asked_at` an attestation of today would look wrong in some years, or the reverse."""
    (found,) = controlled(tmp_path, sight(asked_for=wanted("scaleway:fr-par-2")), POLICY)
    assert found["asked_at"] == record.written(NOW)
    assert asked_again(found).verdict == "allow"
    assert asked_again(later(found)).verdict == "refuse"


async def asked_once(root: Path, place: str, address: str | None) -> tuple[Home, str]:
    """One chat at a site whose engine is said to be there; its home and the real address."""
    async with engine() as it, site(root, it.address) as ours:
        ours.endpoint(address or it.address, place=place)
        await ours.seen()
        await ours.chat()
        return ours.home, it.address


def controlled(root: Path, seen: Seen, policy: Policy) -> list[dict[str, Any]]:
    """What one round at `NOW` leaves in a controller's log, whose clock is a little ahead."""
    home = Home(root, Settings())
    trails.create(home.audit, home.keys, home.trust, "controller", "local")
    clock = NOW + timedelta(milliseconds=7)
    with Trail.open(home.audit, home.keys, "controller", "local", lambda: clock) as trail:
        registry = Registry(home.registry, writable=True)
        assert act(plan(policy, (seen,), registry.snapshot(), NOW), registry, trail)
    return [f for f in read(home, "evidence") if not f["type"].startswith("log-")]


def read(home: Home, stream: str) -> list[dict[str, Any]]:
    """The records of a closed log of this home, as they are published."""
    (member,) = [m for m in members(home) if m.stream == stream]
    return [fields for _, fields in records(member, 0, 10_000)]
