"""A policy either holds together or is not loaded, and the reader is told on which line."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sovereign import policy as policies
from sovereign.errors import PolicyUnreadable
from sovereign.policy import Policy

Spoil = Callable[[str], str]


def spoil(root: Path, name: str, change: Spoil) -> None:
    path = root / name
    text = path.read_text()
    changed = change(text)
    assert changed != text, f"nothing in {name} was spoiled"
    path.write_text(changed)


def test_norway_is_a_country(copy: Path) -> None:
    """A bare NO is the boolean false in YAML; it must never quietly drop Norway."""
    spoil(copy, "rules/residency.yaml", lambda text: text.replace('"NO"', "NO", 1))
    with pytest.raises(PolicyUnreadable) as refusal:
        policies.load(copy)
    assert re.search(r"residency\.yaml:\d+: groups.*is the bare word NO", refusal.value.message)
    assert '"NO"' in refusal.value.accepted


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("rules/residency.yaml", lambda t: t + "\nsurprise: 1\n", r":1: .*surprise"),
        ("rules/residency.yaml", lambda t: t.replace("rules:", "rules: [", 1), r"not YAML"),
        ("rules/retention.yaml", lambda t: t.replace("version: 1", "version: 2"), r"version"),
        ("facts/models.yaml", lambda t: t.replace("context: ", "context: x", 1), r"context"),
        ("facts/places.yaml", lambda t: t.replace("version: 1", "version: 1\nversion: 1"), r"second"),
        ("profiles/eea.yaml", lambda t: t.replace("personal-data-stays-in-eea", "x-y-z"), r"x-y-z"),
    ],
)
def test_a_file_that_says_nonsense_is_refused_with_its_name(
    copy: Path, name: str, change: Spoil, says: str
) -> None:
    """An operator at three in the morning needs the file and the line, not a traceback."""
    spoil(copy, name, change)
    with pytest.raises(PolicyUnreadable, match=says) as refusal:
        policies.load(copy)
    assert Path(name).name in refusal.value.message or "profiles" in refusal.value.message


def test_a_retention_maximum_that_leaves_no_room_after_the_minimum_is_refused(copy: Path) -> None:
    """Otherwise a run could only break one bound or the other."""
    spoil(copy, "rules/retention.yaml", lambda t: t.replace("max_days: 365", "max_days: 185", 1))
    with pytest.raises(PolicyUnreadable, match="cannot be kept"):
        policies.load(copy)


def test_the_digest_ignores_comments_and_order_and_nothing_else(copy: Path, eea: Policy) -> None:
    """Two machines with the same policy name it the same; one changed word renames it."""
    path = copy / "rules/licences.yaml"
    path.write_text("# a remark\n" + path.read_text())
    countries = copy / "rules/residency.yaml"
    spoil(copy, "rules/residency.yaml", lambda t: t.replace('"AT", "BE"', '"BE", "AT"', 1))
    assert policies.load(copy, "eea").digest == eea.digest
    countries.write_text(countries.read_text().replace('"BE", "AT"', '"BE"', 1))
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


def test_at_least_ten_clouds_have_a_place_in_the_eea(eea: Policy) -> None:
    """A table of two clouds would refuse by ignorance."""
    clouds = {p.provider for p in eea.places.values() if p.country == p.under == "DE" or p.gpus}
    assert len({p.provider for p in eea.places.values()}) >= 10, clouds
