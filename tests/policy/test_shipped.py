"""What the shipped policy must hold whatever else changes in it: complete, cited, consistent."""

import hashlib
import importlib.metadata
import importlib.util
import re
from datetime import UTC, datetime

import pytest

from sovereign.evidence.checks import CHECKS
from sovereign.policy import Policy
from sovereign.residency import Question, decide
from sovereign.supervisor.engine import packaged
from tests.needs import need
from tests.policy.conftest import SHIPPED

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ISO = re.compile(r"[A-Z]{2}")


def verdicts(policy: Policy, dependency: str) -> set[bool]:
    """What is decided about every class and verb of a dependency."""
    entry = policy.dependencies[dependency]
    return {
        decide(policy, Question(entry.place, data, verb, NOW)).allowed
        for data in entry.data
        for verb in entry.verbs
    }


def test_at_least_ten_clouds_have_a_place_where_personal_data_may_be(eea: Policy) -> None:
    """A table of two clouds would refuse by ignorance."""
    allowed = {
        place.provider
        for place in eea.places.values()
        if decide(eea, Question(place.code, "personal", "process", NOW)).allowed
    }
    clouds = allowed - {"ptb", "netnod"}  # time services are places too
    assert len(clouds) >= 10, clouds


@pytest.mark.parametrize(
    "provider", ["aws", "aws-eusc", "azure", "gcp", "exoscale", "ibm", "oracle"]
)
def test_a_well_known_operator_under_other_law_is_refused_by_the_rule(
    eea: Policy, provider: str
) -> None:
    """An auditor is told why, not that we have never heard of it."""
    places = [place for place in eea.places.values() if place.provider == provider]
    assert any(place.country in ("DE", "FR", "AT") for place in places)
    for place in places:
        answer = decide(eea, Question(place.code, "personal", "process", NOW))
        assert (answer.allowed, answer.rule) == (False, "personal-data-stays-in-eea"), place.code


def test_every_place_says_who_runs_it_and_how_we_know(eea: Policy) -> None:
    """A row without a source is an opinion."""
    for place in eea.places.values():
        assert place.source.startswith("https://"), place.code
        assert all(ISO.fullmatch(code) for code in (place.country, place.under)), place.code
        assert place.entity, place.code
        assert place.checked_on <= NOW.date(), place.code


def test_every_class_of_data_is_granted_somewhere_under_every_profile(
    eea: Policy, immune: Policy, adequate: Policy
) -> None:
    """A class forgotten in one profile would stop a site when the profile is chosen."""
    for policy in (eea, immune, adequate):
        for data in policy.data:
            verbs = ("store", "process", "send")
            asked = [Question("scaleway:fr-par-2", data, verb, NOW) for verb in verbs]
            assert any(decide(policy, question).allowed for question in asked), data


def test_every_profile_asks_that_places_are_known_and_fresh(
    eea: Policy, immune: Policy, adequate: Policy
) -> None:
    """Conditions that one profile forgot would hold nowhere under it."""
    for policy in (eea, immune, adequate):
        conditions = {rule.kind: rule for rule in policy.residency}
        assert conditions["known"].data == conditions["fresh"].data == policy.data.keys()
        assert (
            conditions["known"].verbs == conditions["fresh"].verbs == {"store", "process", "send"}
        )
        assert conditions["fresh"].max_age_days == 365
        assert conditions["this-host"].id == "nothing-leaves-this-host"


def test_every_dependency_is_allowed_or_says_what_to_do_instead(eea: Policy) -> None:
    """A default of somebody else's that the rules refuse must not leave the operator alone."""
    for name, entry in eea.dependencies.items():
        allowed = verdicts(eea, name) == {True}
        assert allowed is (entry.instead == ""), name


@pytest.mark.parametrize(
    "name",
    ["pulumi-cloud-state", "vllm-usage-stats", "ollama-cloud", "hugging-face-hub", "time-pool"],
)
def test_defaults_that_leave_the_eea_are_refused_under_every_profile(
    eea: Policy, immune: Policy, adequate: Policy, name: str
) -> None:
    """These are on unless somebody turns them off; each has been seen to leak."""
    for policy in (eea, immune, adequate):
        assert verdicts(policy, name) == {False}


def test_every_control_names_a_check_and_every_check_has_its_control(eea: Policy) -> None:
    """A question nobody answers, or an answer nobody asked for, is a hole in the report."""
    assert sorted(control.check for control in eea.controls.values()) == sorted(CHECKS)
    assert all(control.articles for control in eea.controls.values())
    assert len({control.ref for control in eea.controls.values()}) == len(eea.controls)


def test_every_stream_and_sink_has_its_retention_class(eea: Policy) -> None:
    """Silence would erase the log at once."""
    streams = {"event", "security", "evidence"}
    others = {
        "content",
        "process-log",
        "limits",
        "temporary",
        "metrics",
        "trace",
        "backup",
        "export",
    }
    assert eea.retention.keys() == streams | others
    assert all(kept.source and kept.because for kept in eea.retention.values())


def test_an_attestation_outlasts_one_missed_round_and_not_many(eea: Policy) -> None:
    """Too short and a hiccup refuses everybody; too long and a dead controller allows them."""
    assert eea.audit.attestation_valid_s == 30
    assert eea.audit.publish_within_s == 1


def test_every_licence_term_of_a_model_is_judged(eea: Policy) -> None:
    """Weights under terms nobody looked at may not serve by accident."""
    assert eea.licences.keys() == {"open", "modified", "research", "non-production"}
    assert eea.licences["open"].serve == "yes"
    assert all(eea.licences[t].serve != "yes" for t in eea.licences.keys() - {"open"})


def test_the_packaged_model_is_the_file_the_facts_pin(eea: Policy) -> None:
    """The digest in the facts was computed, not copied."""
    package = eea.models["smollm2-135m-instruct"].sources.package
    assert package is not None
    present = importlib.util.find_spec(package.name.replace("-", "_"))
    need(present, f"{package.name} is not installed", "make setup")
    assert importlib.metadata.version(package.name) == package.version
    weights = packaged(eea.models["smollm2-135m-instruct"])
    with weights.open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == package.sha256


def test_weights_that_may_not_serve_in_production_are_marked(eea: Policy) -> None:
    """A licence is read before the model is chosen, not after."""
    terms = {name: model.licence_terms for name, model in eea.models.items()}
    marked = {name for name, term in terms.items() if term != "open"}
    assert marked == {
        "codestral-22b-v0.1",
        "devstral-2-123b-instruct-2512",
        "ministral-8b-instruct-2410",
        "mistral-large-instruct-2407",
        "mistral-large-instruct-2411",
        "mistral-medium-3.5-128b",
        "mistral-small-instruct-2409",
        "pixtral-large-instruct-2411",
    }


def test_the_readme_names_every_file(eea: Policy) -> None:
    """A lawyer opens the README first; a file it does not name is not read."""
    text = (SHIPPED / "README.md").read_text()
    for folder in ("facts", "rules"):
        for path in sorted((SHIPPED / folder).glob("*.yaml")):
            assert f"[{folder}/{path.name}]({folder}/{path.name})" in text
    for profile in (SHIPPED / "profiles").glob("*.yaml"):
        assert f"`{profile.stem}`" in text
