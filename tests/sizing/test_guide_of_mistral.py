"""The page on Mistral: its tables beside the file of facts, its commands as a reader has them."""

import re
import shlex
from typing import Any

import pytest
import yaml

from docs import generate, mistral
from tests.cli.conftest import Run, home, run
from tests.docs.reading import DOCS, ROOT, block_lines, table

__all__ = ["home", "run"]  # fixtures of another folder, used here

PAGE = DOCS / "guide/mistral.md"
FACTS = yaml.safe_load((ROOT / "policies/facts/models.yaml").read_text())
ENTRIES: dict[str, Any] = {each["id"]: each for each in FACTS["models"] + FACTS["hosted"]}
REFUSING = {"sovereign decide --place mistral:api"}
ASKED = [line for line in block_lines(PAGE) if line.startswith("sovereign ")]


def rows(heading: str, column: int) -> list[tuple[dict[str, Any], list[str]]]:
    """The rows of a table, each with the entry of the facts that one of its cells names."""
    found = [(re.search(r"`(.+?)`", row[column]), row) for row in table(PAGE, heading)]
    return [(ENTRIES[match[1]], row) for match, row in found if match]


def test_the_page_is_as_it_was_made() -> None:
    """A fact that changes changes the page, or the build says so."""
    assert mistral.page() == PAGE.read_text()
    assert (DOCS / "guide/mixtral-8x7b.svg").read_text() == mistral.drawing()
    assert {"docs/guide/mistral.md", "docs/guide/mixtral-8x7b.svg"} <= generate.pages().keys()


def test_every_part_has_its_place_on_the_page() -> None:
    """A mark that was mistyped would leave a table as it was, for ever."""
    marks = re.findall(r"^<!-- begin (\S+): ", PAGE.read_text(), re.MULTILINE)
    assert marks == [*mistral.PARTS]
    assert PAGE.read_text().count("<!-- end -->") == len(marks)


def test_the_line_up_is_that_of_the_facts() -> None:
    """Read by another way than the one that made it: contexts, licences and ends."""
    shown = rows("## The line-up", 2)
    assert len(shown) == 8
    for entry, (*_, parameters, context, licence, served) in shown:
        assert context.rstrip(" ?") == f"{entry['context'] // 1024}k"
        assert licence == entry.get("licence", "not published")
        until = entry.get("lifecycle", {}).get("retired_on")
        assert served.startswith(f"until {until}" if until else "no end announced")
        assert parameters.startswith(str(entry.get("parameters_total_b", "?")))


def test_prices_are_those_of_the_facts() -> None:
    """Somebody decides by them whether to rent machines."""
    shown = rows("## Prices", 0)
    assert [entry["id"] for entry, _ in shown][-1] == "mixtral-8x7b-instruct-v0.1"
    for entry, (_, _, usd, eur, regional, read_on) in shown[:-1]:
        price = entry["price"]
        assert usd == f"{price['input_usd']} / {price['output_usd']}"
        assert eur == f"{price['input_eur']} / {price['output_eur']}"
        dearer = [float(price[f"{way}_eur"]) * 1.1 for way in ("input", "output")]
        assert [float(each) for each in regional.split(" / ")] == pytest.approx(dearer, rel=1e-3)
        assert read_on == str(price["read_on"])


@pytest.mark.parametrize("line", ASKED)
def test_every_command_of_the_page_answers(line: str, run: Run) -> None:
    """As it stands; where the page says that the answer is no, it is no."""
    assert run(*shlex.split(line)[1:]).code == (1 if line in REFUSING else 0)
