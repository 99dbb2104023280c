"""Roots and proofs: as published, as Go computes them, and for every size and index."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sovereign.audit.merkle import (
    EMPTY_ROOT,
    Tree,
    consistency_proof,
    fold,
    inclusion_proof,
    is_consistent,
    leaf_hash,
    node_hash,
    root_from_inclusion,
    subtree_root,
)
from sovereign.errors import OutOfRange
from tests.audit.scenario import root_of

PEERS = json.loads((Path(__file__).parents[1] / "vectors/peers.json").read_text())

# The answers Certificate Transparency has published since 2013, in RFC 6962's hashing.
CT_ENTRIES = [
    bytes.fromhex(each)
    for each in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
CT_ROOTS = {
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    4: "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    6: "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}
CT_INCLUSION = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CT_CONSISTENCY = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
    (6, 7): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
}


class Nodes:
    """Every complete node over some leaves, as proofs want them; counts what is read."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.rows, self.reads = [leaves], 0
        while len(self.rows[-1]) > 1:
            row = self.rows[-1]
            self.rows.append([node_hash(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)])

    def __call__(self, height: int, index: int) -> bytes:
        self.reads += 1
        return self.rows[height][index]


def nodes(entries: list[bytes]) -> Nodes:
    return Nodes([leaf_hash(entry) for entry in entries])


def root(entries: list[bytes]) -> bytes:
    tree = Tree()
    for entry in entries:
        tree.append(leaf_hash(entry))
    return tree.root()


CT_NODES = nodes(CT_ENTRIES)
PEER_NODES = nodes([b"entry %d" % i for i in range(70_000)])


@pytest.mark.parametrize(("size", "expected"), CT_ROOTS.items())
def test_the_published_roots_of_certificate_transparency_come_out(size: int, expected: str) -> None:
    """A hash that is only right by our own lights proves nothing to anybody else."""
    assert root(CT_ENTRIES[:size]).hex() == expected
    assert subtree_root(CT_NODES, 0, size).hex() == expected


def test_the_root_of_nothing_is_the_hash_of_nothing() -> None:
    """RFC 6962, 2.1; the edge at which a tree begins."""
    assert Tree().root() == EMPTY_ROOT
    assert EMPTY_ROOT.hex().startswith("e3b0c44298fc1c14")


@pytest.mark.parametrize(("at", "expected"), CT_INCLUSION.items())
def test_the_published_inclusion_proofs_come_out(at: tuple[int, int], expected: list[str]) -> None:
    """An auditor's own tool must accept what we hand out."""
    assert [each.hex() for each in inclusion_proof(CT_NODES, *at)] == expected


@pytest.mark.parametrize(("at", "expected"), CT_CONSISTENCY.items())
def test_the_published_consistency_proofs_come_out(
    at: tuple[int, int], expected: list[str]
) -> None:
    """The same for proofs that nothing was rewritten."""
    assert [each.hex() for each in consistency_proof(CT_NODES, *at)] == expected


def test_go_computes_the_same_roots_and_proofs_up_to_seventy_thousand_entries() -> None:
    """The checksum database of Go has run on this arithmetic since 2019."""
    assert PEERS["roots"].keys() >= {"1", "255", "256", "257", "65536", "65537"}
    for size, expected in PEERS["roots"].items():
        assert subtree_root(PEER_NODES, 0, int(size)).hex() == expected
    for each in PEERS["inclusion"]:
        proof = inclusion_proof(PEER_NODES, each["index"], each["size"])
        assert [h.hex() for h in proof] == each["proof"]
    for each in PEERS["consistency"]:
        proof = consistency_proof(PEER_NODES, each["old"], each["size"])
        assert [h.hex() for h in proof] == each["proof"]


def test_the_growing_tree_knows_gos_roots_across_every_level() -> None:
    """65,536 entries fill a tile of level 1: all the writer keeps is the edge."""
    tree, found = Tree(), {}
    for i, leaf in enumerate(PEER_NODES.rows[0]):
        tree.append(leaf)
        if str(i + 1) in PEERS["roots"]:
            found[str(i + 1)] = tree.root().hex()
    assert found == PEERS["roots"]
    tiles = [(level, index) for level, index, _ in tree.finished]
    assert sorted(tiles) == [(0, i) for i in range(273)] + [(1, 0)]
    assert [len(edge) for edge in tree.edge] == [112, 17, 1], "the example of tlog-tiles"
    assert tree.finished[-1][2][:32] == PEER_NODES.rows[0][272 * 256]


@settings(deadline=None, max_examples=150)
@given(st.lists(st.binary(max_size=8), min_size=1, max_size=600))
def test_a_growing_tree_and_the_definition_agree(entries: list[bytes]) -> None:
    """`Tree` and the proofs work from the edge and from tiles; the RFC's text is the measure."""
    assert root(entries) == root_of(entries) == subtree_root(nodes(entries), 0, len(entries))


sizes = st.integers(min_value=1, max_value=800)


@settings(deadline=None, max_examples=300)
@given(st.data(), sizes)
def test_every_inclusion_proof_holds_and_no_spoiled_one_does(
    data: st.DataObject, size: int
) -> None:
    """A proof that also fits another entry, index or size is no proof."""
    index = data.draw(st.integers(0, size - 1))
    read = Nodes(PEER_NODES.rows[0][:size])
    signed, leaf = subtree_root(read, 0, size), read.rows[0][index]
    read.reads = 0
    proof = inclusion_proof(read, index, size)
    assert read.reads <= 2 * max(1, (size - 1).bit_length())
    assert root_from_inclusion(leaf, index, size, proof) == signed

    assert root_from_inclusion(leaf_hash(b"another"), index, size, proof) != signed
    other = data.draw(st.integers(0, size - 1).filter(lambda i: i != index)) if size > 1 else size
    assert root_from_inclusion(leaf, other, size, proof) != signed
    assert root_from_inclusion(leaf, index, size, [*proof, leaf]) is None
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        bit = bytes([proof[at][0] ^ 1]) + proof[at][1:]
        assert (
            root_from_inclusion(leaf, index, size, [*proof[:at], bit, *proof[at + 1 :]]) != signed
        )
        assert root_from_inclusion(leaf, index, size, proof[:-1]) != signed


@settings(deadline=None, max_examples=300)
@given(st.data(), sizes)
def test_every_old_checkpoint_is_a_prefix_and_no_spoiled_proof_says_so(
    data: st.DataObject, size: int
) -> None:
    """This is what shows a client that nothing it has seen was rewritten."""
    old = data.draw(st.integers(1, size))
    read = Nodes(PEER_NODES.rows[0][:size])
    before, now = subtree_root(read, 0, old), subtree_root(read, 0, size)
    proof = consistency_proof(read, old, size)
    assert is_consistent(old, size, before, now, proof)

    wrong = leaf_hash(b"another")
    assert not is_consistent(old, size, wrong, now, proof)
    assert not is_consistent(old, size, before, wrong, proof)
    assert not is_consistent(old, size, before, now, [*proof, wrong])
    for at in range(len(proof)):
        assert not is_consistent(old, size, before, now, [*proof[:at], wrong, *proof[at + 1 :]])
        assert not is_consistent(old, size, before, now, proof[:at] + proof[at + 1 :])


def test_what_lies_outside_the_tree_is_refused_before_anything_is_read() -> None:
    """Off by one is how proofs of other people's entries are made."""

    def read(height: int, index: int) -> bytes:
        raise AssertionError(f"read {height}, {index}")

    for index, size in ((1, 1), (-1, 4), (0, 0), (8, 8)):
        with pytest.raises(OutOfRange):
            inclusion_proof(read, index, size)
        assert root_from_inclusion(EMPTY_ROOT, index, size, []) is None
    for old, size in ((0, 4), (5, 4), (-1, 1)):
        with pytest.raises(OutOfRange):
            consistency_proof(read, old, size)
        assert not is_consistent(old, size, EMPTY_ROOT, EMPTY_ROOT, [])


def test_an_entry_can_never_pass_for_a_node() -> None:
    """Without the two first bytes, an entry of 64 bytes could stand in for a whole subtree."""
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert leaf_hash(left + right) != node_hash(left, right) == fold([left, right])
