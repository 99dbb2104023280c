"""What two policies say differently is told by entry, whatever the files look like."""

import shutil
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign.policy import loader
from sovereign.policy.digest import _canonical, _sorted
from sovereign.policy.semantic import Difference, differences
from tests.policy.conftest import SHIPPED

RESIDENCY = "rules/residency.yaml"


def said(root: Path) -> bytes:
    return loader.load_with_text(root)[1]


@pytest.fixture(scope="module")
def shipped() -> bytes:
    return said(SHIPPED)


@pytest.mark.parametrize(
    ("file", "old", "new", "found"),
    [
        (RESIDENCY, '"AT", "BE"', '"BE", "AT"', []),
        ("rules/data.yaml", "version: 1", "# a remark\nversion: 1", []),
        (RESIDENCY, '"AT", ', "", [("removed", "groups.eea[AT]")]),
        (
            "rules/retention.yaml",
            "max_days: 365",
            "max_days: 300",
            [("changed", "classes[event].max_days")],
        ),
        (
            "access/rules.cedar",
            "principal.models.isEmpty() || ",
            "",
            [("changed", "rules[keys-use-the-models-they-are-bound-to]")],
        ),
        ("access/rules.cedar", "when {", "when\n  {", []),
    ],
)
def test_a_difference_is_an_entry_and_a_word_of_it_never_a_line(
    tmp_path: Path, shipped: bytes, file: str, old: str, new: str, found: list[tuple[str, str]]
) -> None:
    """A sorted list or a remark must not hide among a hundred lines the one word that matters."""
    copy = Path(shutil.copytree(SHIPPED, tmp_path / "policies"))
    text = (copy / file).read_text()
    assert old in text
    (copy / file).write_text(text.replace(old, new, 1))
    assert [(d.verb, d.where) for d in differences(shipped, said(copy))] == found


def test_an_entry_that_is_new_is_one_difference_with_all_it_says(
    tmp_path: Path, shipped: bytes
) -> None:
    """A reader wants the new zone, not its five words one by one."""
    copy = Path(shutil.copytree(SHIPPED, tmp_path / "policies"))
    path = copy / "rules/licences.yaml"
    path.write_text(path.read_text().partition("  - terms: research")[0])
    models = copy / "facts/models.yaml"
    found = differences(said(SHIPPED), said(copy)) if models.exists() else ()
    assert {(d.file, d.verb, d.where) for d in found} == {
        ("rules/licences.yaml", "removed", "licences[research]"),
        ("rules/licences.yaml", "removed", "licences[non-production]"),
    }
    assert found[0].before["serve"] == "acknowledge"


def test_another_profile_is_a_difference_of_its_own(shipped: bytes) -> None:
    """The same files under another profile are another policy."""
    other = loader.load_with_text(SHIPPED, "immune")[1]
    assert differences(shipped, other) == (Difference("profile", "", "eea", "immune"),)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "x", "y"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(VALUES, VALUES)
def test_nothing_differs_exactly_when_both_have_one_canonical_form(
    one: object, two: object
) -> None:
    """A difference that is overlooked is a change that nobody answered for."""
    same = _canonical(_sorted(one)) == _canonical(_sorted(two))
    texts = [
        msgspec.json.encode({"files": {"f": _sorted({"v": v})}, "profile": "x"}) for v in (one, two)
    ]
    assert (differences(*texts) == ()) is same
