"""A code that somebody meets at three in the morning has a page that says what to do."""

import re
from pathlib import Path

import pytest

from tests.docs import codes
from tests.docs.reading import DOCS, ROOT, block_lines, front_matter, headings

RUNBOOKS = sorted((DOCS / "runbooks").glob("*.md"))
HEADINGS = ["Symptom", "Check", "Fix", "Verify", "Evidence", "Why it happens"]
PERFORMED = re.compile(r"never|\d{4}-\d{2}-\d{2} on [a-z ]+, \d+ minutes?")


def test_every_code_has_a_runbook_and_every_runbook_a_code():
    """An error message ends in `more docs/runbooks/CODE.md`; that file must be there."""
    assert {path.stem for path in RUNBOOKS} == codes.with_a_runbook()


@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda page: page.stem)
def test_a_runbook_has_all_five_headings_in_order_and_the_reason_last(page: Path):
    """Whoever is under pressure knows where to look without reading."""
    found = headings(page)
    assert [text for level, text in found if level == 2] == HEADINGS
    assert [level for level, _ in found].count(1) == 1


@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda page: page.stem)
def test_a_runbook_says_who_owns_it_what_it_disturbs_and_when_it_was_performed(page: Path):
    """A page nobody performed is a guess, and it has to say so."""
    said = front_matter(page)
    assert list(said) == ["code", "severity", "owner", "interrupts", "last_performed"]
    assert said["code"] == page.stem
    assert said["severity"] in ("page", "ticket")
    assert said["owner"]
    assert said["interrupts"]
    assert PERFORMED.fullmatch(said["last_performed"]), said["last_performed"]


@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda page: page.stem)
def test_a_runbook_shows_at_least_one_command(page: Path):
    """A page without a command is an essay."""
    assert any(re.match(r"(\.venv/bin/|sudo )?[a-z]+ ", line) for line in block_lines(page))


def test_every_runbook_that_the_code_names_is_there():
    """Messages name pages, and even `Fix B` in them."""
    named = re.compile(r"docs/runbooks/([a-z-]+)\.md(?:, Fix ([A-Z]))?")
    for path in (ROOT / "sovereign").rglob("*.py"):
        for code, fix in named.findall(path.read_text()):
            text = (DOCS / "runbooks" / f"{code}.md").read_text()
            assert not fix or f"\n{fix}. " in text, f"{path.name} names Fix {fix} of {code}"
