"""A policy either holds together or is not loaded, and the reader is told on which line."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sovereign import policy as policies
from sovereign.errors import PolicyUnreadable
from sovereign.policy import Policy, shapes

Spoil = Callable[[str], str]


def spoil(root: Path, name: str, change: Spoil) -> None:
    path = root / name
    text = path.read_text()
    changed = change(text)
    assert changed != text, f"nothing in {name} was spoiled"
    path.write_text(changed)


def line_of(path: Path, text: str) -> int:
    """The number, from 1, of the only line that holds a text."""
    found = [i for i, line in enumerate(path.read_text().splitlines(), 1) if text in line]
    assert len(found) == 1
    return found[0]


def test_norway_is_a_country(copy: Path) -> None:
    """A bare NO is the boolean false in YAML; it must never quietly drop Norway."""
    spoil(copy, "rules/residency.yaml", lambda text: text.replace('"NO"', "NO", 1))
    with pytest.raises(PolicyUnreadable) as refusal:
        policies.load(copy)
    line = line_of(copy / "rules/residency.yaml", ", NO,")
    where = rf"residency\.yaml:{line}: groups\.eea\[\d+\] is the bare word NO$"
    assert re.search(where, refusal.value.message)
    assert '"NO"' in refusal.value.accepted


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("rules/residency.yaml", lambda t: t + "\nsurprise: 1\n", r":{last}: .*`surprise`"),
        ("rules/residency.yaml", lambda t: t.replace("rules:", "rules: [", 1), r"not YAML"),
        ("rules/retention.yaml", lambda t: t.replace("version: 1", "version: 2"), r"version"),
        ("facts/models.yaml", lambda t: t.replace("context: ", "context: x", 1), r"context"),
        (
            "facts/places.yaml",
            lambda t: t.replace("version: 1", "version: 1\nversion: 1"),
            "second",
        ),
        (
            "facts/places.yaml",
            lambda t: t.replace("zone: GRA9,", "zone: GRA11,"),
            r"ovh:GRA11 stands",
        ),
        ("facts/places.yaml", lambda t: t.replace('country: "FR"', 'country: "fr"', 1), r"country"),
        ("facts/models.yaml", lambda t: t.replace("codestral-2405", "tiny-mixtral"), r"two models"),
        (
            "rules/data.yaml",
            lambda t: t.replace("id: weights", "id: public"),
            r"'public' stands twice",
        ),
        (
            "rules/data.yaml",
            lambda t: t.replace("id: weights", "id: gewichte"),
            r"data class weights",
        ),
        ("rules/residency.yaml", lambda t: t.replace("[eea, ", "[eae, ", 1), r"'eae', neither"),
        ("profiles/eea.yaml", lambda t: t.replace("personal-data-stays-in-eea", "x-y-z"), r"x-y-z"),
    ],
)
def test_a_file_that_says_nonsense_is_refused_with_its_name(
    copy: Path, name: str, change: Spoil, says: str
) -> None:
    """An operator at three in the morning needs the file and the line, not a traceback."""
    spoil(copy, name, change)
    last = len((copy / name).read_text().splitlines())
    with pytest.raises(PolicyUnreadable, match=says.replace("{last}", str(last))) as refusal:
        policies.load(copy)
    assert Path(name).stem in refusal.value.message


@pytest.mark.parametrize("name", sorted(shapes.FILES))
def test_no_file_may_be_missing(copy: Path, name: str) -> None:
    """A policy with a hole is not a policy; an absent file must not mean no rules."""
    (copy / name).unlink()
    with pytest.raises(PolicyUnreadable, match=f"{Path(name).name}: cannot be read"):
        policies.load(copy)


@pytest.mark.parametrize("folder", sorted(shapes.FOLDERS))
def test_no_folder_may_be_empty(copy: Path, folder: str) -> None:
    """A report without questions would pass."""
    for path in (copy / folder).glob("*.yaml"):
        path.unlink()
    with pytest.raises(PolicyUnreadable, match=f"{folder}: no file here"):
        policies.load(copy, "eea")


def test_a_profile_nobody_wrote_is_refused_with_those_there_are(copy: Path) -> None:
    """A typo in a setting must not fall back to anything."""
    with pytest.raises(PolicyUnreadable, match="no profile 'eae'") as refusal:
        policies.load(copy, "eae")
    assert refusal.value.accepted == "adequate, eea, immune"


def test_a_retention_maximum_that_leaves_no_room_after_the_minimum_is_refused(copy: Path) -> None:
    """Otherwise a run could only break one bound or the other."""
    spoil(copy, "rules/retention.yaml", lambda t: t.replace("max_days: 365", "max_days: 185", 1))
    with pytest.raises(PolicyUnreadable, match="cannot be kept"):
        policies.load(copy)


def test_the_digest_ignores_comments_and_order_and_nothing_else(copy: Path, eea: Policy) -> None:
    """Two machines with the same policy name it the same; one changed word renames it."""
    spoil(copy, "rules/licences.yaml", lambda t: "# a remark\n" + t)
    spoil(copy, "rules/residency.yaml", lambda t: t.replace('"AT", "BE"', '"BE", "AT"', 1))
    assert policies.load(copy, "eea").digest == eea.digest
    spoil(copy, "rules/residency.yaml", lambda t: t.replace('"BE", "AT"', '"BE"', 1))
    assert policies.load(copy, "eea").digest != eea.digest


def test_the_digest_keeps_the_order_of_owners(copy: Path, eea: Policy) -> None:
    """Who owns whom is what the order says; everywhere else order says nothing."""
    nearest, next_up = "{entity: Iliad SA,", "{entity: Iliad Holding SAS,"

    def swap(text: str) -> str:
        return text.replace(nearest, "@").replace(next_up, nearest).replace("@", next_up)

    spoil(copy, "facts/places.yaml", swap)
    assert policies.load(copy, "eea").digest != eea.digest


def test_every_profile_has_a_digest_of_its_own() -> None:
    """A record made under `immune` must not look as if made under `eea`."""
    digests = {policies.load(profile=name).digest for name in ("eea", "immune", "adequate")}
    assert len(digests) == 3


def test_places_of_ones_own_join_the_table_and_the_digest(tmp_path: Path, eea: Policy) -> None:
    """A declared machine room is a fact like any other, dated and named."""
    own = tmp_path / "own-places.yaml"
    own.write_text(
        "version: 1\nproviders:\n  - id: own\n    entity: Example GmbH\n    seat: 'DE'\n"
        "    under: 'DE'\n    source: declared\n    checked_on: '2026-11-01'\n"
        "    zones: [{zone: cellar, region: cellar, country: 'DE'}]\n"
    )
    policy = policies.load(own_places=own)
    assert policy.places["own:cellar"].country == "DE"
    assert policy.digest != eea.digest
