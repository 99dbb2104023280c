"""The project speaks of itself alone: no page knows the machine it was written on."""

import re
from pathlib import Path

import pytest

from tests.docs.reading import name_of, pages

FORBIDDEN = {
    "a path of the machine it was written on": re.compile(r"(?<![\w.])/(work|root|home/\w+)/"),
    "a folder beside the project": re.compile(r"\.\./shared"),
    "a scratch path": re.compile(r"(?<![\w.])/tmp/"),
    "a number of an issue": re.compile(r"(?<![\w&])#\d+\b"),
    "a real key": re.compile(r"sov_[A-Za-z0-9_-]{20,}"),
    "a private key": re.compile(r"PRIVATE\+KEY\+\w"),
}


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_a_page_holds_no_path_of_a_machine_and_no_secret(page: Path):
    """Output is pasted into pages; what must not come along is listed here."""
    for line in page.read_text().splitlines():
        for what, pattern in FORBIDDEN.items():
            assert not pattern.search(line), f"{name_of(page)} holds {what}: {line}"


def test_the_list_of_forbidden_words_finds_what_it_is_for():
    """A pattern that never matches protects nobody."""
    examples = {
        "a path of the machine it was written on": "written to /" + "root/x",
        "a folder beside the project": "see .." + "/shared/x",
        "a scratch path": "cat /" + "tmp/x",
        "a number of an issue": "as #" + "12 says",
        "a real key": "sov_" + "a" * 43,
        "a private key": "PRIVATE+KEY+" + "local",
    }
    assert examples.keys() == FORBIDDEN.keys()
    assert all(FORBIDDEN[what].search(text) for what, text in examples.items())
