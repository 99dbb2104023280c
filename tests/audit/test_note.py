"""Signed notes and checkpoints: as Go writes them, and nothing that Go would not read."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign.audit import checkpoint
from sovereign.audit.checkpoint import Checkpoint
from sovereign.audit.note import NOTE_MAX_BYTES, SignerKey, VerifierKey, open_note, sign
from sovereign.errors import BadInput
from tests.audit.scenario import KEY

PEERS = json.loads((Path(__file__).parents[1] / "vectors/peers.json").read_text())
NEUMANN = VerifierKey.parse(PEERS["verifier_key"])
NOTE, TEXT = PEERS["note"].encode(), PEERS["text"]
ROOT = bytes(range(32))
CHECKPOINT = Checkpoint("test.example/gateway/event", 17, ROOT)


def test_a_note_signed_by_go_opens_and_ours_is_byte_for_byte_the_same() -> None:
    """The example of Go's own documentation; Ed25519 signatures have one form."""
    signer = SignerKey.parse(PEERS["signer_key"])
    assert open_note(NOTE, NEUMANN) == TEXT
    assert sign(TEXT, signer) == NOTE
    assert str(signer.verifier) == PEERS["verifier_key"]
    assert signer.dump() == PEERS["signer_key"] + "\n"


def test_a_note_with_any_bit_changed_does_not_open() -> None:
    """Not even where base64 has bits to spare: one note, one form."""
    for at in range(len(NOTE)):
        for bit in range(8):
            spoiled = NOTE[:at] + bytes([NOTE[at] ^ 1 << bit]) + NOTE[at + 1 :]
            assert open_note(spoiled, NEUMANN) is None, f"byte {at}, bit {bit}"


@given(st.binary(max_size=300))
def test_whatever_lies_in_the_file_opening_it_only_says_no(junk: bytes) -> None:
    """A verifier that crashes on a bad file has not found it."""
    assert open_note(junk, NEUMANN) is None
    assert open_note(junk + NOTE[-120:], NEUMANN) is None
    assert checkpoint.read(junk, NEUMANN) is None


def test_signatures_of_others_are_ignored_and_a_bad_one_of_ours_is_not() -> None:
    """Witnesses add lines to a checkpoint; they must not make or break it."""
    witness = SignerKey.generate("witness.example")
    line = sign(TEXT, witness).decode().rpartition("\n\n")[2].encode()
    assert open_note(NOTE + line, NEUMANN) == TEXT
    assert open_note(NOTE + line, witness.verifier) == TEXT
    assert open_note(sign(TEXT, witness), NEUMANN) is None

    namesake = VerifierKey(NEUMANN.name, witness.verifier.public)
    assert open_note(NOTE, namesake) is None, "the same name, another key"
    body, _, signature = NOTE.decode().rpartition("\n\n")
    other_text = f"{body} indeed\n\n{signature}".encode()
    assert open_note(other_text, NEUMANN) is None


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\n\n",
        TEXT.encode(),
        NOTE.removesuffix(b"\n"),
        NOTE.replace("— ".encode(), b"- "),
        NOTE + b"and a line that is no signature\n",
        NOTE + "— witness.example !!!!\n".encode(),
        NOTE + "— two words AAAAAAAA\n".encode(),
        NOTE.replace(b"cryptography", b"crypto\tgraphy"),
        NOTE + "— witness.example AAAAAAAA\n".encode() * 100,
        b"x" * NOTE_MAX_BYTES + NOTE,
        b"\xff" + NOTE,
    ],
)
def test_what_is_no_note_does_not_open(note: bytes) -> None:
    """Each of these is refused by Go's package too, or is beyond a named bound."""
    assert open_note(note, NEUMANN) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PeterNeumann",
        "PeterNeumann+c74f20a3",
        "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",  # another id
        "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f 20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+AhpcAQcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",  # another type
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10",
        PEERS["signer_key"],
    ],
)
def test_what_is_no_verifier_key_is_refused(text: str) -> None:
    """A key that is read wrongly makes every log look forged, or none."""
    with pytest.raises(BadInput):
        VerifierKey.parse(text)


def test_keys_survive_writing_and_reading_and_secrets_stay_out_of_messages() -> None:
    """A log's key is on disk once; nothing may print it, not even an error about it."""
    key = SignerKey.generate("test.example/a")
    assert SignerKey.parse(key.dump()).verifier == key.verifier
    assert VerifierKey.parse(f"{key.verifier}\n") == key.verifier
    secret = key.dump().strip().rpartition("+")[2]
    spoiled = key.dump().replace("test.example/a", "test.example/b")
    with pytest.raises(BadInput) as refused:
        SignerKey.parse(spoiled)
    assert secret not in "".join(refused.value.lines())
    assert secret not in repr(key)
    for name in ("", "two words", "a+b", "a\nb", "a\u2003b"):
        with pytest.raises(BadInput):
            SignerKey.generate(name)


def test_a_checkpoint_is_three_lines_and_a_signature() -> None:
    """The worked example of docs/formats/log.md; the format is C2SP tlog-checkpoint."""
    note = CHECKPOINT.signed(KEY)
    lines = note.decode().split("\n")
    root = base64.b64encode(ROOT).decode()
    assert lines[:4] == ["test.example/gateway/event", "17", root, ""]
    assert lines[4].startswith("— test.example/gateway/event ")
    assert lines[5:] == [""]
    assert checkpoint.read(note, KEY.verifier) == CHECKPOINT


@pytest.mark.parametrize(
    ("text", "accepted"),
    [
        ("o\n0\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", True),
        ("o\n17\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\nan extension\n", True),
        ("o\n017\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", False),
        ("o\n+17\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", False),
        ("o\n-1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", False),
        ("o\n\u0661\u0667\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", False),
        ("o\n1" + "0" * 19 + "\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", False),
        ("\n17\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", False),
        ("o\n17\nAAAA\n", False),
        ("o\n17\nnot base64\n", False),
        ("o\n17\n", False),
    ],
)
def test_a_signed_text_that_is_no_checkpoint_is_none(text: str, accepted: bool) -> None:
    """A signature says who wrote it, not that it makes sense."""
    assert (checkpoint.read(sign(text, KEY), KEY.verifier) is not None) is accepted
