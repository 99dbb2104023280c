"""Signed notes with Ed25519 keys (C2SP signed-note, version 1).

A note is a text that ends in a newline, an empty line, and one line per signature:
`— NAME BASE64`, where the bytes are four of key id and 64 of signature over the text. A
verifier key is `NAME+ID+BASE64`: ID is the key id in eight hex digits, the bytes are 0x01
(Ed25519) and the public key. The key id is the first four bytes of
SHA-256(NAME 0x0A 0x01 PUBLIC_KEY).
"""

import base64
import binascii
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sovereign.errors import BadInput

ED25519 = b"\x01"
PRIVATE_PREFIX = "PRIVATE+KEY+"
NOTE_MAX_BYTES = 65_536
SIGNATURES_MAX = 100
_SIGNATURE = "— "


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A name and the public key that signs under it."""

    name: str
    public: bytes

    @property
    def id(self) -> bytes:
        """Four bytes that tell keys of one name apart."""
        return sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{to_base64(ED25519 + self.public)}"

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        """Read `NAME+ID+BASE64`.

        Raises:
            BadInput: not of that form, not Ed25519, or the id is not the key's.
        """
        parts = text.strip().split("+", 2)
        try:
            name, blob = parts[0], from_base64(parts[2])
        except (IndexError, ValueError):
            raise _no_key(text) from None
        key = cls(name, blob[1:])
        good = can_name(name) and blob[:1] == ED25519 and len(blob) == 33
        if not good or key.id.hex() != parts[1]:
            raise _no_key(text)
        return key


@dataclass(frozen=True, slots=True)
class SignerKey:
    """A name and the private key that signs under it. Never printed."""

    name: str
    private: Ed25519PrivateKey

    @classmethod
    def generate(cls, name: str) -> "SignerKey":
        """Make a new key for `name`, which may hold no space, plus sign or newline."""
        if not can_name(name):
            raise BadInput(f"{name!r} cannot name a key", accepted="no spaces, no plus signs")
        return cls(name, Ed25519PrivateKey.generate())

    @property
    def verifier(self) -> VerifierKey:
        """The public half."""
        return VerifierKey(self.name, self.private.public_key().public_bytes_raw())

    def dump(self) -> str:
        """The secret as text, in the form Go's note package uses."""
        blob = to_base64(ED25519 + self.private.private_bytes_raw())
        return f"{PRIVATE_PREFIX}{self.name}+{self.verifier.id.hex()}+{blob}\n"

    @classmethod
    def parse(cls, text: str) -> "SignerKey":
        """Read what `dump` wrote.

        Raises:
            BadInput: it is no such text. The text is not repeated in the message.
        """
        parts = text.strip().removeprefix(PRIVATE_PREFIX).split("+", 2)
        try:
            blob = from_base64(parts[2])
            key = cls(parts[0], Ed25519PrivateKey.from_private_bytes(blob[1:]))
        except (IndexError, ValueError):
            raise BadInput("this file holds no signing key of a log") from None
        if blob[:1] != ED25519 or key.verifier.id.hex() != parts[1]:
            raise BadInput("this file holds no signing key of a log")
        return key


def sign(text: str, key: SignerKey) -> bytes:
    """Return the note: `text`, which must end in a newline, with one signature."""
    signature = key.private.sign(text.encode())
    return (text + "\n").encode() + signature_line(key.name, key.verifier.id + signature)


def signature_line(name: str, blob: bytes) -> bytes:
    """One signature as a note shows it: `blob` is key id and signature."""
    return f"{_SIGNATURE}{name} {to_base64(blob)}\n".encode()


def open_note(note: bytes, key: VerifierKey) -> str | None:
    """Return the note's text when `key` has signed it, else None. Other signatures do not count."""
    try:
        text, signatures = parts(note)
    except ValueError:
        return None
    public = Ed25519PublicKey.from_public_bytes(key.public)
    for name, blob in signatures:
        if name != key.name or blob[:4] != key.id:
            continue
        try:
            public.verify(blob[4:], text.encode())
        except InvalidSignature:
            return None  # a signature under our own name and id must be good
        return text
    return None


def parts(note: bytes) -> tuple[str, list[tuple[str, bytes]]]:
    """The text, and name and bytes of every signature; none of them is checked.

    Raises:
        ValueError: it is no note.
    """
    if len(note) > NOTE_MAX_BYTES:
        raise ValueError("note too large")
    decoded = note.decode()
    if any(character < " " and character != "\n" for character in decoded):
        raise ValueError("a control character")
    text, gap, tail = decoded.rpartition("\n\n")
    if not gap or not tail.endswith("\n"):
        raise ValueError("no signatures")
    lines = tail.removesuffix("\n").split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise ValueError("too many signatures")
    signatures = []
    for line in lines:
        name, space, blob = line.removeprefix(_SIGNATURE).partition(" ")
        if not line.startswith(_SIGNATURE) or not space or not can_name(name):
            raise ValueError("not a signature line")
        signatures.append((name, from_base64(blob)))
    return text + "\n", signatures


def can_name(name: str) -> bool:
    """Whether a key may be called so."""
    return bool(name) and not any(c.isspace() or c == "+" for c in name)


def to_base64(data: bytes) -> str:
    """Bytes as base64, in its one form."""
    return base64.b64encode(data).decode()


def from_base64(text: str) -> bytes:
    """Bytes of their one base64 form, so that a text cannot be changed and stay good.

    Raises:
        ValueError: not base64, or not as an encoder writes it.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
    if to_base64(data) != text:
        raise ValueError("not base64 in its one form")
    return data


def _no_key(text: str) -> BadInput:
    return BadInput(
        "this is no verifier key",
        found=repr(text[:80]),
        accepted="NAME+8 hex digits+BASE64, Ed25519",
    )
