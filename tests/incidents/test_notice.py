"""What people are told of a breach: in plain words, whole, and with nothing internal in it."""

from pathlib import Path

import msgspec
import pytest

from sovereign.errors import BadInput
from sovereign.incidents import verbs
from sovereign.incidents.draft import BLANK
from sovereign.incidents.notice import notice, officer
from sovereign.settings import OrganisationSettings
from tests.cli.conftest import Run, home, run, site
from tests.incidents.making import AI, BREACH, POLICY, SIGNIFICANT, incident, saying
from tests.incidents.test_command import opened

__all__ = ["home", "run", "site"]
RULES = POLICY.audit.incidents
WHO = OrganisationSettings("Example GmbH", "Example street 1", "none", "privacy@site.example")
HEADS = ("What happened", "Which data", "What could follow", "What we have done")


def test_it_has_everything_that_article_34_2_asks_for_and_a_blank_where_nothing_is_known() -> None:
    """A message that leaves one of them out is none."""
    found = notice(incident(), RULES, OrganisationSettings())
    for head in (*HEADS, "What you can do", "Whom you can ask"):
        assert f"## {head}\n\n- {BLANK} " in found.text
    assert found.text.count(f"{BLANK} ") == len(found.blanks) == 8


def test_what_is_known_stands_as_a_sentence_with_nothing_internal_beside_it() -> None:
    """It goes to whoever it happened to: no codes, records, counts, endpoints or reasons."""
    it = incident(about="e1", cause="telemetry")
    said = (
        ("nature", "confidentiality", None),
        ("subjects", "employees", 120),
        ("records", "prompts", 4711),
        ("consequence", "fraud", None),
        ("measure", "secret-replaced", None),
    )
    it = saying(it, *(verbs.fact(POLICY, it, *each) for each in said))
    text = notice(it, RULES, WHO).text
    for sentence in (
        "Somebody saw what they had no right to see.",
        "What was asked of a model.",
        "Somebody could lose money.",
        "Keys or tokens were replaced.",
        "From: Example GmbH",
        "privacy@site.example",
    ):
        assert sentence in text
    inside = (it.id, "#", "120", "4711", "e1", "telemetry", "secret-replaced", "suspected", "eea")
    body = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    assert [each for each in inside if each in body] == []


def test_a_word_that_the_policy_has_no_more_leaves_a_blank() -> None:
    """Better a blank than a code nobody can read, or nothing at all."""
    it = incident()
    it = saying(it, verbs.fact(POLICY, it, "nature", "integrity"))
    rules = msgspec.structs.replace(RULES, facts=())
    found = notice(it, rules, WHO)
    assert "what happened to the data, in plain words" in found.blanks
    assert "integrity" not in found.text


@pytest.mark.parametrize("kinds", [SIGNIFICANT, AI, f"{SIGNIFICANT},{AI}"])
def test_nobody_is_told_of_what_is_no_breach_of_personal_data(kinds: str) -> None:
    """Art. 34 is about breaches; the others have duties of their own."""
    with pytest.raises(BadInput, match="has nobody to be told"):
        notice(incident(kinds=kinds), RULES, WHO)
    assert notice(incident(kinds=f"{SIGNIFICANT},{BREACH}"), RULES, WHO)


@pytest.mark.parametrize(
    ("officer_said", "contact", "reached"),
    [
        ("privacy@site.example", "street 1", "privacy@site.example"),
        ("none", "street 1", "street 1"),
        ("", "street 1", "street 1"),
        ("none", "", ""),
    ],
)
def test_whom_people_can_ask_is_never_the_word_none(
    officer_said: str, contact: str, reached: str
) -> None:
    """Most small organisations have no officer, and somebody has to answer all the same."""
    assert officer(OrganisationSettings(contact=contact, officer=officer_said)) == reached


def test_it_is_written_as_a_page_and_ends_with_3_while_it_has_blanks(
    run: Run, site: Path, tmp_path: Path
) -> None:
    """Nobody sends a page with holes by mistake."""
    it, page = opened(run), tmp_path / "notice.md"
    made = run("incident", "report", it, "--people", "--out", str(page), "--json")
    assert (made.code, page.read_text()) == (3, made.json["markdown"])
    assert page.read_text().startswith("# About your data (GDPR Art. 34)")
    assert it not in page.read_text()
    told = ("--done", "gdpr-34-1", "--how", "letter", "--document", str(page))
    assert run("incident", "add", it, *told).code == 0
