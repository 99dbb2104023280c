"""A policy that allows more is found out in every file, and one that allows less never is."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from shutil import copytree

import msgspec
import pytest

from sovereign import policy as policies
from sovereign.evidence.loosening import loosenings
from sovereign.policy import Policy
from tests.attestation.site import anchored
from tests.policy.conftest import SHIPPED

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
CHECKED = "checked_on: 2026-11-22"
WITNESSES = "witnesses:\n  quorum: 0\n  max_age_s: 3600"
Edits = Callable[..., Policy]


@pytest.fixture(scope="module")
def shipped() -> Policy:
    return policies.load(SHIPPED)


@pytest.fixture
def edited(tmp_path: Path) -> Edits:
    """The shipped policy with words of one file in place of others."""

    def edited(file: str, *pairs: tuple[str, str]) -> Policy:
        copy = Path(copytree(SHIPPED, tmp_path / "policies"))
        text = (copy / file).read_text()
        for old, new in pairs:
            assert old in text, old
            text = text.replace(old, new, 1)
        (copy / file).write_text(text)
        return policies.load(copy)

    return edited


def ways(old: Policy, new: Policy) -> set[str]:
    return {each.what for each in loosenings(old, new, NOW)}


def test_the_same_policy_allows_no_more_than_itself(shipped: Policy) -> None:
    """Otherwise every change would need a signature, and signatures would mean nothing."""
    assert loosenings(shipped, shipped, NOW) == ()


@pytest.mark.parametrize(
    ("file", "pair", "there", "back"),
    [
        (
            "rules/retention.yaml",
            ("max_days: 365", "max_days: 500"),
            {"retention of event"},
            set(),
        ),
        ("facts/law.yaml", ("hours: 72", "hours: 96"), {"clock gdpr-33-1"}, set()),
        ("facts/law.yaml", ("days: 15", "months: 1"), {"clock aia-73-2"}, {"clock aia-73-2"}),
        (
            "facts/law.yaml",
            ("      harms: [death]\n", "      harms: [death, health]\n"),
            {"clock aia-73-4"},
            {"clock aia-73-4"},
        ),
        (
            "facts/law.yaml",
            (
                "        - id: risk-unlikely",
                "        - {id: too-busy, because: No.}\n        - id: risk-unlikely",
            ),
            {"clock gdpr-33-1"},
            set(),
        ),
        (
            "rules/retention.yaml",
            ("min_days: 184", "min_days: 100"),
            {"retention of event"},
            set(),
        ),
        (
            "rules/audit.yaml",
            ("attestation_valid_s: 30", "attestation_valid_s: 60"),
            {"attestation_valid_s"},
            set(),
        ),
        (
            "rules/audit.yaml",
            (WITNESSES, WITNESSES.replace("3600", "7200")),
            {"witnesses.max_age_s"},
            set(),
        ),
        (
            "rules/audit.yaml",
            (
                "    - id: billing",
                "    - id: curiosity\n      because: Why not.\n    - id: billing",
            ),
            {"reading.reasons"},
            set(),
        ),
        (
            "rules/retention.yaml",
            (
                "approvers: [data-protection-officer, ",
                "approvers: [anybody, data-protection-officer, ",
            ),
            {"holds.approvers"},
            set(),
        ),
        (
            "rules/licences.yaml",
            ("terms: research\n    serve: acknowledge", 'terms: research\n    serve: "yes"'),
            {"weights under research terms may serve"},
            set(),
        ),
        (
            "rules/licences.yaml",
            (
                'production: "no"\n    purposes: [research]',
                "production: acknowledge\n    purposes: [research]",
            ),
            {"weights under research terms may serve in production"},
            set(),
        ),
        (
            "rules/licences.yaml",
            ("purposes: [research]", "purposes: [research, sales]"),
            {"research terms may be accepted"},
            set(),
        ),
        (
            "rules/licences.yaml",
            ("max_days: 365", "max_days: 400"),
            {"acknowledging.max_days"},
            set(),
        ),
        (
            "rules/licences.yaml",
            ("approvers: [legal-counsel,", "approvers: [anybody, legal-counsel,"),
            {"acknowledging.approvers"},
            set(),
        ),
        (
            "rules/attestation.yaml",
            ("profile: immune\n    vouchers: 2", "profile: immune\n    vouchers: 1"),
            {"vouchers under immune"},
            set(),
        ),
        (
            "rules/attestation.yaml",
            ("must: [host-key]", "must: []"),
            {"signals that must be under immune"},
            set(),
        ),
        (
            "rules/attestation.yaml",
            ("valid_s: 43200", "valid_s: 86400"),
            {"attestation valid_s"},
            set(),
        ),
        (
            "rules/attestation.yaml",
            ("slack_ms: 8", "slack_ms: 80"),
            {"round trips slack_ms"},
            set(),
        ),
        (
            "rules/attestation.yaml",
            ("vouched_by: operator", "vouched_by: attester"),
            {"voucher of statement"},
            {"voucher of statement"},
        ),
        (
            "rules/attestation.yaml",
            ("organisations: 1", "organisations: 2"),
            set(),
            {"round trips organisations"},
        ),
        (
            "rules/data.yaml",
            ("id: personal\n    personal: true", "id: personal\n    personal: false"),
            {"class personal"},
            set(),
        ),
        (
            "facts/models.yaml",
            ("licence_terms: research", "licence_terms: open"),
            None,
            None,
        ),
    ],
)
def test_what_is_looser_is_found_and_the_way_back_is_free(
    shipped: Policy,
    edited: Edits,
    file: str,
    pair: tuple[str, str],
    there: set[str] | None,
    back: set[str] | None,
) -> None:
    """For each kind of bound: the yes, and the same change the other way round."""
    new = edited(file, pair)
    if there is None or back is None:
        assert any(each.startswith("terms of ") for each in ways(shipped, new))
        return
    assert ways(shipped, new) == there
    assert ways(new, shipped) == back


def test_a_country_that_is_let_in_opens_every_place_there_and_no_other(
    shipped: Policy, edited: Edits
) -> None:
    """One code in a list of thirty decides about dozens of data centres."""
    new = edited("rules/residency.yaml", ('"AT", ', '"AT", "CH", '))
    found = {w for w in ways(shipped, new) if " from " not in w}
    assert "exoscale:at-vie-1" in found
    for code in found - {"this-host"}:
        place = new.places[code]
        assert "CH" in (place.country, place.under)
    assert ways(new, shipped) == set()


def test_facts_that_may_grow_older_are_found_on_the_day_they_would_have_expired(
    shipped: Policy, edited: Edits
) -> None:
    """Today nothing differs: every row is fresh under both. A year from now everything does."""
    new = edited("rules/residency.yaml", ("max_age_days: 365", "max_age_days: 3650"))
    found = loosenings(shipped, new, NOW)
    assert found
    assert all(" from 2027-" in each.what for each in found)


def test_a_rule_of_the_profile_that_is_taken_out_is_found(shipped: Policy, edited: Edits) -> None:
    """The shortest edit of all: one line less."""
    new = edited("profiles/eea.yaml", ("  - place-facts-are-fresh\n", ""))
    assert ways(shipped, new)


def test_a_stranger_profile_is_judged_by_what_it_answers(shipped: Policy) -> None:
    """`immune` is stricter than `eea` about places, `adequate` is not."""
    immune, adequate = (policies.load(SHIPPED, name) for name in ("immune", "adequate"))
    assert ways(shipped, immune) == set()
    assert ways(immune, shipped) != set()
    assert ways(shipped, adequate) != set()


@pytest.mark.parametrize(
    ("rule", "looser"),
    [
        ('permit (principal in Tenant::"x", action, resource);', True),
        ('forbid (principal in Tenant::"x", action, resource);', False),
    ],
)
def test_an_access_rule_that_permits_is_looser_and_one_that_forbids_is_when_it_goes(
    shipped: Policy, edited: Edits, rule: str, looser: bool
) -> None:
    """Also for tenants and keys that nobody has yet, which no list of answers can show."""
    head = '@id("own") @because("A reason.") @source("test")\n'
    new = edited("access/rules.cedar", ('@id("weights-', f'{head}{rule}\n@id("weights-'))
    assert ("access rule own" in ways(shipped, new)) is looser
    assert ("access rule own" in ways(new, shipped)) is not looser


def test_another_reason_for_the_same_access_rule_is_no_loosening(
    shipped: Policy, edited: Edits
) -> None:
    """Words for a reader allow nothing."""
    new = edited("access/rules.cedar", ("A key that is bound to models", "A key bound to models"))
    assert ways(shipped, new) == set()


def test_a_place_that_is_moved_on_the_globe_is_a_question(shipped: Policy, edited: Edits) -> None:
    """Who moves the point moves what light can say about it."""
    moved = edited("facts/locations.yaml", ('latitude: "50.99"', 'latitude: "40.99"'))
    assert ways(shipped, moved) == {f"location of ovh:{zone}" for zone in ("GRA", "GRA9", "GRA11")}


def test_an_anchor_that_comes_or_goes_is_a_question(shipped: Policy) -> None:
    """A new one can vouch, and one that is gone contradicts nobody any more."""
    more = anchored(shipped, "frankfurt")
    assert ways(shipped, more) == {"anchor frankfurt"}
    assert "anchor frankfurt" in ways(more, shipped)


def test_a_duty_that_is_gone_or_begins_later_is_found(shipped: Policy) -> None:
    """Whoever takes a clock out of the facts has nothing that rings any more."""
    law = shipped.law["gdpr-33-1"]
    gone = {name: each for name, each in shipped.law.items() if name != law.id}
    silent = {**shipped.law, law.id: msgspec.structs.replace(law, clock=None)}
    later = {**shipped.law, law.id: msgspec.structs.replace(law, applies_from=date(2030, 1, 1))}
    for changed in (gone, silent, later):
        assert ways(shipped, replace(shipped, law=changed)) == {"clock gdpr-33-1"}
        assert ways(replace(shipped, law=changed), shipped) == set()
