"""A draft says what is known, leaves a blank for what is not, and holds nobody's name."""

from typing import Any

from sovereign.incidents import verbs
from sovereign.incidents.case import Incident, applied
from sovereign.incidents.draft import BLANK, Draft, draft
from sovereign.incidents.duties import duties
from sovereign.settings import OrganisationSettings
from tests.incidents.making import (
    AI,
    BREACH,
    DAY,
    DPO,
    HOUR,
    NOW,
    POLICY,
    SIGNIFICANT,
    entry,
    incident,
    saying,
)


def made(it: Incident, now: Any = NOW) -> Draft:
    rules = POLICY.audit.incidents
    return draft(it, duties(it, POLICY.law, rules, now), rules, "local", now)


def test_an_incident_of_which_nothing_is_known_is_a_draft_of_blanks() -> None:
    """GDPR Art. 33(3)(a) to (d): each field is there, and shown to be empty."""
    found = made(incident())
    for head in ("33(3)(a)", "33(3)(b)", "33(3)(c)", "33(3)(d)"):
        assert head in found.text
    assert "how the data protection officer or another contact is reached" in found.blanks
    for asked in ("nature of the breach", "likely consequences", "measures taken or proposed"):
        assert asked in found.blanks
    assert found.text.count(f"{BLANK} ") == len(found.blanks)
    assert "Given in phases (Art. 33(4))" in found.text
    assert "not legal advice" in found.text


def test_what_is_said_fills_its_blank_and_names_the_record_that_says_it() -> None:
    """Whoever completes it can look each sentence up."""
    it = incident(roles="gdpr-controller")
    words = (
        ("nature", "confidentiality", None),
        ("subjects", "employees", 120),
        ("records", "prompts", None),
        ("consequence", "none-known", None),
        ("measure", "endpoint-shut", None),
    )
    before = made(it).blanks
    it = saying(it, *(verbs.fact(POLICY, it, *word) for word in words))
    found = made(it)
    assert "about 120: employees: People who work for the organisation." in found.text
    assert "(s/operator/evidence#3)" in found.text
    assert "about how many records (prompts)" in found.blanks
    assert len(found.blanks) < len(before)
    assert "Given in phases" not in found.text


def test_a_late_report_has_a_blank_for_the_reasons_of_the_delay() -> None:
    """GDPR Art. 33(1), last sentence."""
    assert "Reasons for the delay" not in made(incident()).text
    found = made(incident(), NOW + 73 * HOUR)
    assert "why gdpr-33-1 was not done in time" in found.blanks


def test_both_times_of_an_awareness_that_was_moved_are_in_the_draft() -> None:
    """An authority must not learn of the first from somebody else."""
    moved: dict[str, Any] = {"noticed_at": "2026-11-24T12:00:00.000000Z", "reason": "told-later"}
    it = applied(incident(NOW - 3 * DAY), entry("incident-noticed", **moved, approver=DPO))
    text = made(it).text
    assert "aware since: 2026-11-24 12:00:00 UTC" in text
    assert "earlier said: aware since 2026-11-22 12:00:00 UTC" in text
    assert f"told-later, answered for by {DPO}" in text


def test_what_other_laws_ask_for_is_there_when_the_incident_is_of_their_kind() -> None:
    """One event may be reported to three authorities."""
    alone, all_three = made(incident()), made(incident(NOW, f"{BREACH},{SIGNIFICANT},{AI}"))
    for law in ("2022/2555", "2024/1689"):
        assert f"Also asked by {'Directive' if '2555' in law else 'Regulation'}" in all_three.text
        assert f"(EU) {law} (" not in alone.text.partition("## Duties")[0]
    assert "indicators of compromise" in all_three.text


def test_a_target_of_ours_is_marked_as_none_of_the_law() -> None:
    """An authority reads this table too."""
    row = next(
        line for line in made(incident()).text.splitlines() if line.startswith("| gdpr-33-2")
    )
    assert "our target; the law: without undue delay" in row


def test_who_answers_is_taken_from_the_settings_and_is_no_blank_any_more() -> None:
    """GDPR Art. 33(3)(b): the one field that is known before anything happens."""
    who = OrganisationSettings("Example GmbH", "street 1", "none", "privacy@site.example")
    it, rules = incident(), POLICY.audit.incidents
    found = draft(it, duties(it, POLICY.law, rules, NOW), rules, "local", NOW, who)
    for line in ("- privacy@site.example", "- controller: Example GmbH, street 1"):
        assert line in found.text
    assert len(found.blanks) == len(made(it).blanks) - 3
