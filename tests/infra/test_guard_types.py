"""The guard's table of types, walked against the cloud's own SDK."""

import pytest

from infra.guard.types import PLACE_INPUTS, PLACED, PLACELESS, PROVIDER, UNPLACEABLE
from tests.infra import sdk

TYPES = sorted(sdk.sources())
NAMES_ONLY = {"hcloud:index/zoneRecord:ZoneRecord", "hcloud:index/zoneRrset:ZoneRrset"}
"""Their `zone` is a name of the domain name system, and no place."""


@pytest.mark.parametrize("kind", TYPES)
def test_every_resource_type_of_every_cloud_is_either_placed_or_listed_as_placeless(kind):
    """A type nobody thought about is where data would go unseen; each is in exactly one list."""
    lists = [kind in PLACED, kind in PLACELESS, kind in UNPLACEABLE]
    assert lists.count(True) == 1


@pytest.mark.parametrize("kind", TYPES)
def test_a_type_that_can_say_its_place_is_placed_by_it(kind):
    """A type with a zone, listed as placeless, would be a hole in the guard."""
    says = PLACE_INPUTS & set(sdk.inputs(kind))
    if says & {"zone", "region", "location"} and kind not in NAMES_ONLY:
        assert set(PLACED.get(kind, ())) & says, f"{kind} takes {says}"


@pytest.mark.parametrize("kind", sorted(kind for kind in PLACED if not kind.startswith(PROVIDER)))
def test_what_the_table_asks_for_is_an_input_of_the_type(kind):
    """A misspelt input is never given, so the type could never be planned."""
    assert set(PLACED[kind]) <= set(sdk.inputs(kind))


def test_the_table_names_no_type_that_the_sdk_does_not_have():
    """A name nobody uses is a type somebody meant to list under another name."""
    named = {kind for kind in (*PLACED, *PLACELESS, *UNPLACEABLE) if not kind.startswith("pulumi:")}
    assert named == set(TYPES)


def test_the_walk_sees_the_whole_sdk():
    """If the SDK's source changed its form, the walk would pass over nothing."""
    assert len(TYPES) > 100
    assert "scaleway:instance/server:Server" in TYPES
    assert "hcloud:index/server:Server" in TYPES


def test_old_spellings_of_types_are_in_no_list():
    """Two spellings of one thing are two chances to be wrong; the old one is unknown: refused."""
    assert len(sdk.old_spellings()) > 50
    assert not set(sdk.old_spellings()) & {*PLACED, *PLACELESS, *UNPLACEABLE}
