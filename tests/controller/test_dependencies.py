"""What a site's requests touch, where that is, and what follows when one may not be there."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from sovereign import dependencies
from sovereign.controller.plan import plan
from sovereign.dependencies import ASKED, SEES, Dependency, judge, of_site
from sovereign.policy import Policy
from sovereign.settings import (
    DependencySettings,
    EndpointSettings,
    GatewaySettings,
    Home,
    Settings,
    StandbySettings,
    TracingSettings,
)
from tests.controller.seen import NOW, POLICY, attested, showing, sight

HERE = "scaleway:fr-par-2"
FRANKFURT = "aws:eu-central-1"


def home(tmp_path: Path, **chosen: Any) -> Home:
    return Home(tmp_path, Settings(**{"place": HERE} | chosen))


def verdicts(where: Home, policy: Policy = POLICY, now: datetime = NOW) -> dict[str, str]:
    judged = judge(policy, of_site(where, policy), now)
    return {each.dependency.id: each.verdict for each in judged}


def test_what_the_settings_name_is_found_and_what_nobody_said_is_unknown(tmp_path: Path) -> None:
    """An auditor asks for all of it; what no setting tells must not be missing from the answer."""
    found = verdicts(home(tmp_path))
    assert {"gateway", "audit-logs", "local-llamacpp"} == {
        name for name, verdict in found.items() if verdict == "allow"
    }
    assert {name for name, verdict in found.items() if verdict == "unknown"} == ASKED


@pytest.mark.parametrize(
    ("chosen", "name"),
    [
        ({"standby": StandbySettings(url="https://10.0.0.9:1", place=FRANKFURT)}, "standby"),
        ({"standby": StandbySettings(url="https://10.0.0.9:1")}, "standby"),  # nobody said where
        (
            {"tracing": TracingSettings(endpoint="https://10.0.0.9:1/v1", place=FRANKFURT)},
            "tracing",
        ),
        ({"tracing": TracingSettings(endpoint="https://localhost:1/v1")}, "tracing"),  # a name
        (
            {
                "endpoints": (
                    EndpointSettings("far", "vllm", "m", "10.0.0.9:1", place="azure:uksouth"),
                )
            },
            "far",
        ),
        (
            {"dependencies": (DependencySettings("tapes", "backup", "made-up:nowhere"),)},
            "tapes",
        ),
        ({"dependencies": (DependencySettings("time-pool", "time"),)}, "time-pool"),
    ],
)
def test_one_that_may_not_be_where_it_is_is_refused_by_name(
    tmp_path: Path, chosen: dict[str, object], name: str
) -> None:
    """Each of these once was how data left a site whose engine stood where it should."""
    found = verdicts(home(tmp_path, **chosen))
    assert [each for each, verdict in found.items() if verdict == "refuse"] == [name]


@pytest.mark.parametrize(
    "chosen",
    [
        {"standby": StandbySettings(url="https://10.0.0.9:1", place="hetzner:fsn1")},
        {"tracing": TracingSettings(endpoint="http://127.0.0.1:4318/v1")},  # stays on this host
        {"gateway": GatewaySettings(limits_database="postgresql://10.0.0.9/limits")},
        {"dependencies": (DependencySettings("tapes", "backup", "none"),)},
        {"dependencies": (DependencySettings("time-ptb", "time"),)},  # as the policy describes it
        {"dependencies": (DependencySettings("pypi", "mirror", "psf:package-index"),)},  # public
    ],
)
def test_one_that_may_be_where_it_is_is_let_be(tmp_path: Path, chosen: dict[str, object]) -> None:
    """A list that refuses what is in order would be turned off."""
    assert "refuse" not in verdicts(home(tmp_path, **chosen)).values()


def test_a_machine_nobody_declared_may_keep_to_itself_and_nothing_else(tmp_path: Path) -> None:
    """`this-host` is loopback: what it sends elsewhere is at no place that anybody knows."""
    assert "refuse" not in verdicts(home(tmp_path, place="this-host")).values()
    away = home(
        tmp_path,
        place="this-host",
        gateway=GatewaySettings(limits_database="postgresql://10.0.0.9/limits"),
    )
    assert verdicts(away)["limits"] == "refuse"


def test_an_issuers_file_that_cannot_be_read_is_a_provider_whose_place_nobody_knows(
    tmp_path: Path,
) -> None:
    """Unknown is refused; it must not be skipped because a file is broken."""
    where = home(tmp_path, gateway=GatewaySettings(issuers="issuers.yaml"))
    assert verdicts(where)["issuers"] == "refuse"
    (tmp_path / "issuers.yaml").write_text(
        "version: 1\nissuers:\n"
        f"  - {{id: corp, place: 'scaleway:fr-par-2', keys: 'https://id.example/jwks'}}\n"
        f"  - {{id: far, place: '{FRANKFURT}', keys: 'https://id.example/jwks'}}\n"
    )
    found = verdicts(where)
    assert (found["issuer-corp"], found["issuer-far"]) == ("allow", "refuse")


def test_facts_that_grew_too_old_refuse_it_on_the_day_that_was_foretold(tmp_path: Path) -> None:
    """A place nobody looked up for a year is unknown, for a backup as for an engine."""
    tapes = (DependencySettings("tapes", "backup", "hetzner:fsn1"),)
    where, checked = home(tmp_path, dependencies=tapes), POLICY.places["hetzner:fsn1"].checked_on
    midnight = NOW.replace(hour=0).replace(year=checked.year, month=checked.month, day=checked.day)
    assert verdicts(where, now=midnight + timedelta(days=365))["tapes"] == "allow"
    assert verdicts(where, now=midnight + timedelta(days=366))["tapes"] == "refuse"


def refused(*places: str, data: tuple[str, ...] = ("personal",)) -> tuple[dependencies.Judged, ...]:
    made = [
        Dependency(f"d{number}", "backup", place, data, ("send",), "", "a test")
        for number, place in enumerate(places)
    ]
    return judge(POLICY, made, NOW)


def test_a_refused_one_that_sees_data_about_people_shuts_every_endpoint_and_says_which() -> None:
    """Answering would send people's data where they may not be."""
    (step,) = plan(POLICY, (sight(),), showing(), NOW, refused(FRANKFURT)).steps
    assert (step.verb, step.endpoint.quarantine) == ("quarantine", "dependency-refused")
    assert step.endpoint.reason.startswith("d0 (backup): personal-data-stays-in-eea: aws:")
    assert step.rule == ""  # the endpoint's own place is not what shut it


def test_when_it_is_gone_the_endpoint_is_released() -> None:
    """A quarantine ends with its reason, not with a restart."""
    shut = attested(NOW, quarantine="dependency-refused", reason="d0 (backup): …")
    verbs = [s.verb for s in plan(POLICY, (sight(),), showing(shut), NOW, refused(HERE)).steps]
    assert verbs == ["attest", "release"]


@pytest.mark.parametrize(
    "judged",
    [
        refused(FRANKFURT, data=("public",)),  # nothing about people goes there
        refused("none"),
        judge(
            POLICY, [Dependency("e", "engine", FRANKFURT, ("personal",), ("send",), "", "")], NOW
        ),
        judge(POLICY, [Dependency("dns", "dns", "", ("operational",), ("send",), "", "")], NOW),
    ],
)
def test_what_sees_nobody_or_was_not_said_shuts_nothing(
    judged: tuple[dependencies.Judged, ...],
) -> None:
    """A refused engine shuts itself; the first deployment on a laptop has to answer."""
    (step,) = plan(POLICY, (sight(),), showing(), NOW, judged).steps
    assert step.verb == "attest"


def test_the_order_of_dependencies_changes_no_verdict() -> None:
    """Order never matters to a decision."""
    for places in permutations((FRANKFURT, HERE, "azure:uksouth")):
        (step,) = plan(POLICY, (sight(),), showing(), NOW, refused(*places)).steps
        assert step.endpoint.quarantine == "dependency-refused"


def test_a_class_that_no_policy_knows_counts_as_data_about_people() -> None:
    """In doubt it is personal: a typing error must not open anything."""
    (step,) = plan(POLICY, (sight(),), showing(), NOW, refused(HERE, data=("persnal",))).steps
    assert step.endpoint.quarantine == "dependency-refused"


@pytest.mark.parametrize("kind", sorted(SEES))
def test_every_kind_sees_classes_and_verbs_that_the_policy_has(kind: str) -> None:
    """A class without a rule would be refused everywhere, or worse, never be asked about."""
    data, verbs = SEES[kind]
    assert set(data) <= set(POLICY.data)
    assert set(verbs) <= {"store", "process", "send"}
    (judged,) = judge(POLICY, [Dependency(kind, kind, HERE, data, verbs, "", "")], NOW)
    assert judged.verdict == "allow"


def test_a_dependency_is_a_value(tmp_path: Path) -> None:
    """Two looks at one site are equal, so a round that sees no change changes nothing."""
    assert of_site(home(tmp_path), POLICY) == of_site(home(tmp_path), POLICY)
    (first, *_) = of_site(home(tmp_path), POLICY)
    assert replace(first, place="") != first
