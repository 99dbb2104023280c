"""A proof of one record stands by itself, and no spoiled one stands."""

from contextlib import suppress
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign.audit import proof, tiles
from sovereign.audit.note import SignerKey
from sovereign.errors import BadInput, OutOfRange, TileDamaged, TileMissing
from tests.audit.loglab import entries, files
from tests.audit.scenario import KEY, ORIGIN, entry


@cache
def sound(size: int) -> dict[str, bytes]:
    return files(entries(size))


def prove(there: dict[str, bytes], index: int) -> bytes:
    return proof.prove(there.get, KEY.verifier, index)


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 600, 65_536 + 300])
def test_every_record_can_be_proven_to_somebody_who_has_only_the_key(size: int) -> None:
    """A customer with a ticket number gets one file, and needs nobody's word for it."""
    for index in {0, size // 2, size - 1, min(256, size - 1)}:
        found = proof.check(prove(sound(size), index), KEY.verifier)
        assert found == proof.Proven(ORIGIN, index, size, entry(index))


def test_what_is_erased_can_not_be_proven_and_its_neighbours_can() -> None:
    """Hash tiles stay; that is what they are kept for."""
    there = {path: data for path, data in sound(600).items() if path != "tile/entries/001"}
    with pytest.raises(TileMissing):
        prove(there, 300)
    for index in (255, 512, 599):
        assert proof.check(prove(there, index), KEY.verifier) is not None


def test_nothing_false_is_ever_proven() -> None:
    """If the log is damaged the answer is an error, not a proof that fails elsewhere."""
    edited = tiles.pack([entry(7), *entries(256)[1:]])
    with pytest.raises(TileDamaged):
        prove({**sound(256), "tile/entries/000": edited}, 0)
    for path in ("tile/0/001", "tile/1/000.p/2", "tile/entries/001"):
        with pytest.raises(TileDamaged):
            prove({**sound(600), path: sound(600)[path][:-40]}, 300)
    with pytest.raises(TileMissing):
        prove({}, 0)
    for index in (-1, 3):
        with pytest.raises(OutOfRange):
            prove(sound(3), index)


def test_a_proof_with_any_bit_changed_proves_nothing() -> None:
    """Neither another record, nor another index, nor another log, nor the same in other words."""
    good = prove(sound(3), 1)
    for at in range(len(good)):
        for bit in range(8):
            bad = good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :]
            with suppress(BadInput):
                assert proof.check(bad, KEY.verifier) is None, f"byte {at}, bit {bit}"


@given(st.binary(max_size=300))
def test_whatever_lies_in_the_file_checking_it_says_so(junk: bytes) -> None:
    """Proofs come by mail, from anybody."""
    header = proof.HEADER.encode()
    for text in (junk, header + b"\n" + junk, header + b"\nextra " + junk + b"\n\nx"):
        with pytest.raises(BadInput):
            proof.check(text, KEY.verifier)


def test_a_proof_under_another_key_or_for_another_log_shows_nothing() -> None:
    """The checkpoint inside is only as good as the key one already had."""
    good = prove(sound(3), 1)
    assert proof.check(good, SignerKey.generate(ORIGIN).verifier) is None
    assert proof.check(good, SignerKey("elsewhere.example", KEY.private).verifier) is None
