"""Cosignatures: somebody's word that a log only grew, and when (C2SP tlog-cosignature, v1).

A cosignature is one more signature line of a checkpoint, whose bytes are a time in eight bytes
(POSIX seconds, big-endian) and a signature. What is signed says the time too, so neither can be
moved to another checkpoint or another moment. Two kinds, told apart by the type byte of the key:

  * 0x04, Ed25519: over `cosignature/v1`, `time T` and the whole text of the checkpoint.
  * 0x06, ML-DSA-44 (FIPS 204): over a structure of the cosigner's name, the time, the log's
    origin, the range 0 to SIZE and the root.

The key id covers the type byte, so a key that signs notes (0x01) is never one that cosigns.
This module is pure. Who may cosign, and whether that is enough, is `witnessed.py`; under which
conditions a witness does is `witness.py`.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from sovereign.audit import checkpoint, note
from sovereign.audit.checkpoint import Checkpoint
from sovereign.errors import BadInput

ED25519, ML_DSA_44 = 0x04, 0x06
ALGORITHMS = {"ed25519": ED25519, "ml-dsa-44": ML_DSA_44}
TIME_MAX = 2**63 - 1
NAME_MAX_BYTES = 255
"""A cosigner's name and a log's origin stand behind their length in one byte."""
_PUBLIC_BYTES = {ED25519: 32, ML_DSA_44: 1312}
_SIGNATURE_BYTES = {ED25519: 64, ML_DSA_44: 2420}
_LABEL = b"subtree/v1\n\0"


@dataclass(frozen=True, slots=True)
class CosignerKey:
    """A name and the public key that cosigns under it. `algorithm` is the type byte."""

    name: str
    algorithm: int
    public: bytes

    @property
    def id(self) -> bytes:
        """Four bytes that tell keys of one name apart, and this kind of key from every other."""
        return sha256(self.name.encode() + b"\n" + self._blob).digest()[:4]

    @property
    def _blob(self) -> bytes:
        return bytes([self.algorithm]) + self.public

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{note.to_base64(self._blob)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `NAME+ID+BASE64`.

        Raises:
            BadInput: not of that form, no key that cosigns, or the id is not the key's.
        """
        parts = text.strip().split("+", 2)
        try:
            blob = note.from_base64(parts[2])
            key = cls(parts[0], blob[0], blob[1:])
        except (IndexError, ValueError):
            raise _no_key(text) from None
        good = can_cosign(key.name) and len(key.public) == _PUBLIC_BYTES.get(key.algorithm)
        if not good or key.id.hex() != parts[1]:
            raise _no_key(text)
        return key


@dataclass(frozen=True, slots=True)
class CosignerSecret:
    """A name and the private key that cosigns under it. Never printed."""

    name: str
    private: Ed25519PrivateKey | MLDSA44PrivateKey

    @classmethod
    def generate(cls, name: str, algorithm: int = ED25519) -> Self:
        """Make a new key for `name`, which may hold no space, plus sign or newline."""
        if not can_cosign(name):
            raise BadInput(
                f"{name!r} cannot name a witness",
                accepted=f"no spaces, no plus signs, at most {NAME_MAX_BYTES} bytes",
            )
        if algorithm == ML_DSA_44:
            return cls(name, MLDSA44PrivateKey.generate())
        return cls(name, Ed25519PrivateKey.generate())

    @property
    def verifier(self) -> CosignerKey:
        """The public half."""
        algorithm = ED25519 if isinstance(self.private, Ed25519PrivateKey) else ML_DSA_44
        return CosignerKey(self.name, algorithm, self.private.public_key().public_bytes_raw())

    def dump(self) -> str:
        """The secret as text, in the form the Go formats module uses."""
        key = self.verifier
        blob = note.to_base64(bytes([key.algorithm]) + self.private.private_bytes_raw())
        return f"{note.PRIVATE_PREFIX}{self.name}+{key.id.hex()}+{blob}\n"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `dump` wrote.

        Raises:
            BadInput: it is no such text. The text is not repeated in the message.
        """
        parts = text.strip().removeprefix(note.PRIVATE_PREFIX).split("+", 2)
        try:
            blob = note.from_base64(parts[2])
            key = cls(parts[0], _private(blob[0], blob[1:]))
        except (IndexError, ValueError):
            raise BadInput("this file holds no key of a witness") from None
        if key.verifier.id.hex() != parts[1] or not can_cosign(key.name):
            raise BadInput("this file holds no key of a witness")
        return key


@dataclass(frozen=True, slots=True)
class Cosigned:
    """At `at` (POSIX seconds), the largest tree the cosigner had seen of the log was this one."""

    checkpoint: Checkpoint
    at: int


def cosign(text: str, key: CosignerSecret, at: int) -> bytes:
    """Return the signature line over the checkpoint `text`, with its newline.

    Args:
        text: a checkpoint without its signatures, ending in a newline.
        at: POSIX seconds, from 1: a cosignature of a whole log always says when.

    Raises:
        BadInput: `text` is no checkpoint, or `at` no time. Nothing was signed.
    """
    tree = checkpoint.parse(text)
    if tree is None or not 0 < at <= TIME_MAX or not can_cosign(tree.origin, origin=True):
        raise BadInput("only a checkpoint can be cosigned, and only at a time after 1970")
    public = key.verifier
    signature = key.private.sign(_message(public, text, tree, at))
    return note.signature_line(key.name, public.id + at.to_bytes(8, "big") + signature)


def read(signed: bytes, key: CosignerKey) -> Cosigned | None:
    """Return what `key` has said about this checkpoint; None when it has said nothing.

    A line under the key's name and id that does not verify makes the whole note worthless, as
    the specification asks. Of several good ones the newest counts.
    """
    try:
        text, signatures = note.parts(signed)
    except ValueError:
        return None
    tree = checkpoint.parse(text)
    if tree is None:
        return None
    times = [
        _time_of(key, text, tree, blob[4:])
        for name, blob in signatures
        if name == key.name and blob[:4] == key.id
    ]
    good = [at for at in times if at is not None]
    return Cosigned(tree, max(good)) if good and len(good) == len(times) else None


def can_cosign(name: str, *, origin: bool = False) -> bool:
    """Whether it can name a cosigner: it can name a key, and its length fits in a byte.

    An origin may hold spaces; only its length matters.
    """
    return (origin or note.can_name(name)) and 0 < len(name.encode()) <= NAME_MAX_BYTES


def _time_of(key: CosignerKey, text: str, tree: Checkpoint, timed: bytes) -> int | None:
    at, signature = int.from_bytes(timed[:8], "big"), timed[8:]
    if len(signature) != _SIGNATURE_BYTES[key.algorithm] or not 0 < at <= TIME_MAX:
        return None
    if not can_cosign(tree.origin, origin=True):
        return None
    message = _message(key, text, tree, at)
    try:
        if key.algorithm == ED25519:
            Ed25519PublicKey.from_public_bytes(key.public).verify(signature, message)
        else:
            MLDSA44PublicKey.from_public_bytes(key.public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return None
    return at


def _message(key: CosignerKey, text: str, tree: Checkpoint, at: int) -> bytes:
    if key.algorithm == ED25519:
        return f"cosignature/v1\ntime {at}\n{text}".encode()
    name, origin = key.name.encode(), tree.origin.encode()
    return b"".join(
        (
            _LABEL,
            len(name).to_bytes(1, "big") + name,
            at.to_bytes(8, "big"),
            len(origin).to_bytes(1, "big") + origin,
            (0).to_bytes(8, "big"),
            tree.size.to_bytes(8, "big"),
            tree.root,
        )
    )


def _private(algorithm: int, seed: bytes) -> Ed25519PrivateKey | MLDSA44PrivateKey:
    if algorithm == ED25519:
        return Ed25519PrivateKey.from_private_bytes(seed)
    if algorithm == ML_DSA_44:
        return MLDSA44PrivateKey.from_seed_bytes(seed)
    raise ValueError("no algorithm of a cosigner")


def _no_key(text: str) -> BadInput:
    return BadInput(
        "this is no verifier key of a witness",
        found=repr(text[:80]),
        accepted="NAME+8 hex digits+BASE64 of type 0x04 (Ed25519) or 0x06 (ML-DSA-44)",
    )
