"""The register of processing follows the live state, and says what nobody knows (GDPR Art. 30)."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sovereign.dependencies import judge, of_site
from sovereign.evidence.register import UNKNOWN, Activity, Bound, Live, Register, register
from sovereign.evidence.verdict import State, Verdict
from sovereign.keystore import Key, Tenant
from sovereign.policy import Policy
from sovereign.settings import (
    DependencySettings,
    Home,
    OrganisationSettings,
    ProcessingSettings,
    Settings,
)
from tests.controller.seen import POLICY

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
PLACE = "scaleway:fr-par-2"
SAID = tuple(
    DependencySettings(id=kind, kind=kind, place="none")
    for kind in ("backup", "dns", "key-custody", "time")
)
KNOWN = Settings(
    place=PLACE,
    dependencies=SAID,
    organisation=OrganisationSettings(
        "Example GmbH", "Example street 1", "none", "dpo@site.example"
    ),
    processing=(ProcessingSettings(tenant="hr", subjects=("applicants",)),),
)


def key(**changed: Any) -> Key:
    said = {
        "id": "key_1",
        "tenant": "hr",
        "purpose": "cv-screening",
        "basis": "legitimate-interests",
        "data": "personal",
        "subject": "header",
        "created_at": NOW - timedelta(days=1),
    }
    return Key(**{**said, **changed})


def live(settings: Settings = KNOWN, *keys: Key, policy: Policy = POLICY, **changed: Any) -> Live:
    controls = tuple((each, Verdict(State.PASS, "found")) for each in policy.controls.values())
    found = Live(
        now=NOW,
        site=settings.site,
        organisation=settings.organisation,
        processing=settings.processing,
        tenants=(Tenant("hr"),),
        bound=tuple(Bound.of(each, NOW) for each in keys or (key(),)),
        judged=judge(policy, of_site(Home(Path("/x"), settings), policy), NOW),
        verdicts=controls,
    )
    return replace(found, **changed)


def made(settings: Settings = KNOWN, *keys: Key, policy: Policy = POLICY, **more: Any) -> Register:
    return register(policy, live(settings, *keys, policy=policy, **more))


def only(found: Register) -> Activity:
    (activity,) = found.activities
    return activity


def with_settings(**changed: Any) -> Settings:
    return msgspec.structs.replace(KNOWN, **changed)


def test_a_site_that_said_everything_has_a_register_without_blanks() -> None:
    """Every letter of Art. 30(1), each out of the state that it is true of."""
    found = made()
    assert found.unknown == ()
    entry = only(found)
    assert (entry.tenant, entry.purpose, entry.role, entry.article) == (
        *("hr", "cv-screening"),
        *("controller", "30(1)"),
    )
    assert (entry.bases, entry.data) == (("legitimate-interests",), ("personal",))
    assert (entry.subjects, entry.models) == (("applicants",), ("all",))
    assert found.organisation["name"] == "Example GmbH"
    assert {each.id for each in found.recipients} == {"gateway", "audit-logs", "local-llamacpp"}
    assert {(each.country, each.transfer) for each in found.recipients} == {("FR", "")}
    assert {each.id: each.max_days for each in found.limits}["event"] == 365
    assert {each.id: each.max_days for each in found.limits}["evidence"] is None
    assert len(found.measures) == len(POLICY.controls)


def test_a_site_that_said_nothing_shows_everything_that_is_not_known() -> None:
    """A blank that looks like an answer is the worst a register can have."""
    found = made(Settings())
    assert set(found.organisation.values()) == {UNKNOWN}
    entry = only(found)
    assert (entry.role, entry.subjects, entry.controller) == (UNKNOWN, (UNKNOWN,), UNKNOWN)
    assert {each.country for each in found.recipients} == {UNKNOWN}
    for lacking in (
        "organisation: name",
        "hr, cv-screening: our role",
        "hr, cv-screening: categories of people",
        "gateway: where it is",
        "backup: where it is",
    ):
        assert lacking in found.unknown


def test_without_a_key_there_is_no_processing() -> None:
    """Nobody can call, so nothing is processed."""
    assert made(KNOWN, key(revoked_at=NOW)).activities == ()
    assert made(KNOWN, key(expires_at=NOW)).activities == ()
    assert only(made(KNOWN, key(expires_at=NOW + timedelta(seconds=1))))


BACKUP = DependencySettings(id="vault", kind="backup", place="ovh:GRA")


def keeping(**days: int) -> Policy:
    changed = {
        name: msgspec.structs.replace(POLICY.retention[name], max_days=most)
        for name, most in days.items()
    }
    return replace(POLICY, retention={**POLICY.retention, **changed})


FLIPS: dict[str, tuple[Callable[[], Register], Callable[[Register], Any]]] = {
    "a key's purpose": (
        lambda: made(KNOWN, key(purpose="payroll")),
        lambda found: only(found).purpose,
    ),
    "a key's basis": (lambda: made(KNOWN, key(basis="consent")), lambda found: only(found).bases),
    "a key's data": (
        lambda: made(KNOWN, key(data="special-category")),
        lambda found: only(found).data,
    ),
    "a key's models": (lambda: made(KNOWN, key(models=("m",))), lambda found: only(found).models),
    "how its people are named": (
        lambda: made(KNOWN, key(subject="user")),
        lambda found: only(found).named_by,
    ),
    "one more key": (
        lambda: made(KNOWN, key(), key(id="key_2", basis="contract")),
        lambda found: only(found).bases,
    ),
    "a tenant that is suspended": (
        lambda: made(tenants=(Tenant("hr", suspended_at=NOW),)),
        lambda found: only(found).state,
    ),
    "who the people are": (
        lambda: made(with_settings(processing=(ProcessingSettings("hr", subjects=("staff",)),))),
        lambda found: only(found).subjects,
    ),
    "our role": (
        lambda: made(with_settings(processing=(ProcessingSettings("hr", role="processor"),))),
        lambda found: only(found).article,
    ),
    "where the site is": (
        lambda: made(with_settings(place="hetzner:fsn1")),
        lambda found: {each.country for each in found.recipients},
    ),
    "a dependency": (
        lambda: made(with_settings(dependencies=(*SAID, BACKUP))),
        lambda found: {each.id for each in found.recipients},
    ),
    "a retention rule": (
        lambda: made(policy=keeping(event=300)),
        lambda found: {each.id: each.max_days for each in found.limits},
    ),
    "a control that fails": (
        lambda: made(
            verdicts=tuple((each, Verdict(State.FAIL, "no")) for each in POLICY.controls.values())
        ),
        lambda found: {each.state for each in found.measures},
    ),
}


@pytest.mark.parametrize("flipped", FLIPS)
def test_what_changes_in_the_live_state_changes_in_the_entry(flipped: str) -> None:
    """A register that is kept by hand is right on the day it is written."""
    after, shown = FLIPS[flipped]
    assert shown(after()) != shown(made())


def test_a_processor_s_entry_names_the_controller_or_says_that_it_does_not_know() -> None:
    """Art. 30(2)(a)."""
    nameless = made(with_settings(processing=(ProcessingSettings("hr", role="processor"),)))
    assert {
        "hr, cv-screening: the controller",
        "hr, cv-screening: how the controller is reached",
    } <= (set(nameless.unknown))
    said = ProcessingSettings("hr", role="processor", controller="Kunde AG", contact="somewhere")
    found = made(with_settings(processing=(said,)))
    assert (only(found).controller, only(found).controller_contact) == ("Kunde AG", "somewhere")
    assert found.unknown == ()


def test_what_is_said_of_a_purpose_counts_before_what_is_said_of_its_tenant() -> None:
    """The narrower word is the later thought."""
    said = (
        ProcessingSettings("hr", subjects=("employees",)),
        ProcessingSettings("hr", purpose="cv-screening", subjects=("applicants",)),
    )
    assert only(made(with_settings(processing=said))).subjects == ("applicants",)
    other = made(with_settings(processing=said), key(purpose="payroll"))
    assert only(other).subjects == ("employees",)


@pytest.mark.parametrize(
    ("place", "transfer"),
    [
        ("scaleway:fr-par", ""),
        ("exoscale:ch-gva-2", "none: refused by "),
        ("exoscale:at-vie-1", "none: refused by "),  # in Austria, under Swiss law
        ("aws:us-east-1", "none: refused by "),
        ("nowhere:at-all", "none: refused by "),
    ],
)
def test_a_recipient_outside_the_eea_says_what_its_transfer_rests_on(
    place: str, transfer: str
) -> None:
    """Art. 30(1)(e); a place that the rules refuse has nothing to rest on."""
    vault = DependencySettings(id="vault", kind="other", place=place)
    found = made(with_settings(dependencies=(*SAID, vault)))
    (recipient,) = (each for each in found.recipients if each.id == "vault")
    assert recipient.transfer.startswith(transfer)
    assert bool(recipient.transfer) is bool(transfer)


def test_a_country_that_a_rule_was_widened_to_is_still_outside() -> None:
    """A site that allows itself Switzerland does not move it into the EEA."""
    wider = tuple(
        replace(rule, countries=rule.countries | {"CH"}, under=rule.under | {"CH"})
        for rule in POLICY.residency
    )
    policy = replace(POLICY, residency=wider)
    vault = DependencySettings(id="vault", kind="other", place="exoscale:ch-gva-2")
    found = made(with_settings(dependencies=(*SAID, vault)), policy=policy)
    (recipient,) = (each for each in found.recipients if each.id == "vault")
    assert recipient.verdict == "allow"
    assert recipient.transfer.startswith("adequacy: ")


def test_a_control_that_nobody_can_answer_is_unknown_in_the_register_too() -> None:
    """Unknown is no measure."""
    (first, *_) = POLICY.controls.values()
    for state, known in ((State.UNKNOWN, False), (State.MANUAL_PENDING, False), (State.FAIL, True)):
        found = made(verdicts=((first, Verdict(state, "f")),))
        assert (f"{first.ref}: measure" in found.unknown) is not known


def test_a_word_that_only_a_token_says_is_not_known_here() -> None:
    """The provider chooses it, call by call."""
    token = Bound("sso/staff", UNKNOWN, "chat", "contract", UNKNOWN, "oidc-sub", ())
    found = made(bound=(token,))
    assert {"unknown, chat: tenant", "unknown, chat: class of data"} <= set(found.unknown)
