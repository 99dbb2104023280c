"""Names and packing of tiles and bundles, as Tessera names them and tlog-tiles describes them."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign.audit import tiles

PEERS = json.loads((Path(__file__).parents[1] / "vectors/peers.json").read_text())


@pytest.mark.parametrize("known", PEERS["paths"], ids=lambda known: str(known["tile"]))
def test_tessera_gives_every_tile_and_bundle_the_same_name(known: dict[str, object]) -> None:
    """Other people's tools look for files by these names and by no others."""
    level, index = int(str(known["level"])), int(str(known["index"]))
    width = int(str(known["width"])) or 256
    assert tiles.tile_path(level, index, width) == known["tile"]
    assert tiles.bundle_path(index, width) == known["bundle"]


def test_the_example_of_the_specification_comes_out() -> None:
    """tlog-tiles: a log of 70,000 has 273 full tiles and 112 hashes more, then 1 and 17, then 1."""
    size = 70_000
    assert tiles.levels(size) == 3
    assert [tiles.width_of(0, i, size) for i in (0, 272, 273, 274)] == [256, 256, 112, 0]
    assert [tiles.width_of(1, i, size) for i in (0, 1, 2)] == [256, 17, 0]
    assert [tiles.width_of(2, i, size) for i in (0, 1)] == [1, 0]
    assert tiles.width_of(3, 0, size) == 0
    assert tiles.tile_path(0, 273, 112) == "tile/0/273.p/112"


@pytest.mark.parametrize(
    ("size", "levels"), [(0, 0), (1, 1), (255, 1), (256, 2), (65_535, 2), (65_536, 3)]
)
def test_a_level_begins_when_the_one_below_has_a_full_tile(size: int, levels: int) -> None:
    """At 256 entries there is a tile of level 1 with one hash in it, not one entry later."""
    assert tiles.levels(size) == levels


@given(st.lists(st.binary(max_size=40), max_size=256))
def test_a_bundle_gives_back_what_was_packed(entries: list[bytes]) -> None:
    """Empty entries too: the length says so."""
    assert tiles.unpack(tiles.pack(entries)) == entries


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=9), st.data())
def test_a_bundle_that_is_cut_anywhere_is_refused_or_shorter(
    entries: list[bytes], data: st.DataObject
) -> None:
    """Half an entry must never be taken for a short one."""
    packed = tiles.pack(entries)
    cut = data.draw(st.integers(0, len(packed) - 1))
    ends = [len(tiles.pack(entries[:i])) for i in range(len(entries) + 1)]
    if cut in ends:
        assert tiles.unpack(packed[:cut]) == entries[: ends.index(cut)]
    else:
        with pytest.raises(ValueError, match="middle of an entry"):
            tiles.unpack(packed[:cut])


def test_the_longest_entry_fits_its_two_bytes_and_one_more_does_not() -> None:
    """The format's own bound: 65,535 bytes."""
    longest = b"x" * tiles.ENTRY_MAX_BYTES
    assert tiles.unpack(tiles.pack([longest])) == [longest]
    with pytest.raises(OverflowError):
        tiles.pack([longest + b"x"])
