"""A choice is written down with what it beat and how we would notice that it was wrong."""

import re
from pathlib import Path

import pytest

from tests.docs.reading import DOCS, ROOT, headings, table

DECISIONS = sorted((DOCS / "decisions").glob("[0-9]*.md"))
PARTS = [
    "Status:",
    "Question:",
    "Options:",
    "Decision:",
    "What gets worse:",
    "How we would notice we were wrong:",
]


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_has_all_six_parts_in_order_and_its_number_in_its_title(page: Path):
    """The losing options and the price are what a later reader needs most."""
    text = page.read_text()
    places = [text.find(f"\n{part}") for part in PARTS]
    assert -1 not in places, [part for part, at in zip(PARTS, places, strict=True) if at < 0]
    assert places == sorted(places)
    assert headings(page)[0][1].startswith(f"{page.name[:4]}. ")
    assert text.partition("Options:")[2].partition("\nDecision:")[0].count("(") >= 2


def test_decisions_have_numbers_of_their_own():
    """`decision 0021` in a comment must mean one page."""
    numbers = [page.name[:4] for page in DECISIONS]
    assert len(numbers) == len(set(numbers))


def test_every_decision_that_code_or_policy_names_is_there():
    """`decided: docs/decisions/…` is a promise to a lawyer."""
    folders = ["sovereign", "policies", "infra", "playbooks", "bench", "requirements"]
    files = [p for f in folders for p in (ROOT / f).rglob("*") if p.suffix in _TEXT]
    for file in files:
        text = file.read_text()
        for name in re.findall(r"docs/decisions/(\d{4}-[a-z0-9-]+\.md)", text):
            assert (DOCS / "decisions" / name).exists(), f"{file.name} names {name}"
        for number in re.findall(r"[Dd]ecision (\d{4})\b", text):
            assert any(d.name.startswith(number) for d in DECISIONS), f"{file.name}: {number}"


_TEXT = {".py", ".yaml", ".yml", ".in", ".txt", ".md", ".j2", ".sh"}


def test_every_direct_dependency_has_a_reason_and_a_licence_and_no_reason_is_left_over():
    """What we rely on is a choice like any other."""
    wanted = {name for path in (ROOT / "requirements").glob("*.in") for name in _named(path)}
    rows = [row for text in _tables() for row in table(DEPENDENCIES, text)]
    assert {row[0] for row in rows} == wanted
    assert len(rows) == len(wanted), "a dependency stands twice"
    assert all(len(row) == 3 and row[1] and row[2] for row in rows)


DEPENDENCIES = DOCS / "decisions/0002-dependencies.md"


def _tables() -> list[str]:
    return [f"## {text}" for level, text in headings(DEPENDENCIES) if level == 2]


def _named(path: Path) -> set[str]:
    lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    return {re.split(r"[=<>~!;\[ ]", line)[0] for line in lines if line and line[0] != "-"}
