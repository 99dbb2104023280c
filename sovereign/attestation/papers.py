"""The documents of an attestation: what each says, who signs it, and how it is opened.

Each is a signed note (C2SP signed-note, Ed25519) of two lines: a heading that names the kind of
document and its form, so that a signature under one is worth nothing under another, and one line
of JSON. A document that does not open under the expected key, or says anything its form does not
know, is none.

| document | signed by |
|---|---|
| `Report` | an anchor: how long the answers of a host took |
| `Evidence` | a host: what it saw, in answer to one challenge |
| `Statement` | who answers for it: this host key stands at this place, until then |
| `Attestation` | the controller: what all that came to |
"""

import base64
import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from sovereign.audit.note import SignerKey, VerifierKey, open_note, parts, sign
from sovereign.policy.shapes import AttestationFile

Time = Annotated[datetime, Meta(tz=True)]
Word = Annotated[str, Meta(max_length=256)]
Sentence = Annotated[str, Meta(max_length=1024)]
NONCE_BYTES = 32
Nonce = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Micros = Annotated[int, Meta(ge=0, le=60_000_000)]
Signal = Literal["host-key", "metadata", "statement", "round-trip"]
Verdict = Literal["proves", "consistent", "contradicts", "unknown"]
REPORTS_MAX = 32
_ENCODER = msgspec.json.Encoder(order="sorted")


class Paper(Struct, frozen=True, forbid_unknown_fields=True):
    """What a document says."""


class Report(Paper, frozen=True):
    """Least and middle time from a challenge of the anchor to its answer, of so many answers.

    `host_key` is the verifier key that signed every one of them, `nonce` what the run was asked
    with, `at` the anchor's own clock.
    """

    anchor: Word
    host_key: Word
    nonce: Nonce
    at: Time
    samples: Annotated[int, Meta(ge=1, le=200)]
    least_us: Micros
    middle_us: Micros


class Reading(Paper, frozen=True):
    """What a provider's metadata service said: `zone` or `region` as it spells them.

    `fault` says why nothing was learned; then the others are "".
    """

    provider: Word
    zone: Word = ""
    region: Word = ""
    fault: Sentence = ""


class Evidence(Paper, frozen=True):
    """A host's answer to the challenge `nonce`. `reports` are notes, word for word."""

    host: Word
    nonce: Nonce
    at: Time
    reading: Reading | None = None
    reports: Annotated[tuple[str, ...], Meta(max_length=REPORTS_MAX)] = ()


class Statement(Paper, frozen=True, rename={"from_": "from"}):
    """Somebody answers for it that the host with this key stands at this place."""

    host: Word
    host_key: Word
    place: Word
    from_: Time
    until: Time
    because: Sentence = ""


class Claim(Paper, frozen=True):
    """Where a host is said to be. Degrees are quoted; "" where the point is not known."""

    host: Word
    place: Word
    provider: Word = ""
    zone: Word = ""
    region: Word = ""
    latitude: Word = ""
    longitude: Word = ""
    radius_km: int = 0


class Finding(Paper, frozen=True):
    """What one signal says about the place, and why."""

    signal: Signal
    verdict: Verdict
    reason: Sentence
    vouched_by: Word = ""


class Attestation(Paper, frozen=True):
    """What a run came to, with all it was made of, so that it can be judged again elsewhere.

    `rules` are those of the policy `policy`, `evidence` and `statements` the notes as they came,
    `attesters` the keys that were pinned. `host_key` is "" where none was.
    """

    site: Word
    claim: Claim
    profile: Word
    policy: Word
    rules: AttestationFile
    host_key: Word
    attesters: tuple[Word, ...]
    nonce: Nonce
    at: Time
    expires_at: Time
    verdict: Verdict
    suffices: bool
    vouchers: tuple[Word, ...]
    findings: tuple[Finding, ...]
    evidence: str = ""
    statements: tuple[str, ...] = ()


HEADINGS: dict[type[Paper], str] = {
    Report: "sovereign-place-report v1",
    Evidence: "sovereign-place-evidence v1",
    Statement: "sovereign-place-statement v1",
    Attestation: "sovereign-place-attestation v1",
}
P = TypeVar("P", bound=Paper)


def sealed(paper: Paper, key: SignerKey) -> bytes:
    """The document as a note signed with `key`."""
    return sign(f"{HEADINGS[type(paper)]}\n{_ENCODER.encode(paper).decode()}\n", key)


def opened(note: bytes, key: VerifierKey, shape: type[P]) -> P | None:
    """What a document says when `key` signed it and it is of this kind; else None."""
    text = open_note(note, key)
    if text is None:
        return None
    heading, _, body = text.partition("\n")
    if heading != HEADINGS[shape]:
        return None
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


def opened_by_any(
    note: bytes, keys: Iterable[VerifierKey], shape: type[P]
) -> tuple[VerifierKey, P] | None:
    """As `opened`, under the first of several keys that signed it, and which that was."""
    for key in keys:
        paper = opened(note, key, shape)
        if paper is not None:
            return key, paper
    return None


def signers(note: bytes) -> tuple[str, ...]:
    """The names under a note; whether they signed it is not looked at."""
    try:
        return tuple(name for name, _ in parts(note)[1])
    except ValueError:
        return ()


def fingerprint(key: VerifierKey) -> str:
    """The key as `ssh-keygen -l` shows an Ed25519 host key: SHA256 of its ssh form, in base64."""
    kind = b"ssh-ed25519"
    blob = len(kind).to_bytes(4, "big") + kind + len(key.public).to_bytes(4, "big") + key.public
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
