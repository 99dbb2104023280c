"""The datagrams between a host and an anchor, and what is signed in them. Pure.

    host    HELLO      key id, nonce of the run, signature         "measure me"
    anchor  CHALLENGE  session, number, 32 random bytes            its clock starts
    host    ANSWER     session, number, signature                  its clock stops
    …                  once for each sample
    anchor  REPORT     a signed note                               what it came to

The host begins, so it needs no open port. HELLO is signed, and longer than the CHALLENGE it causes:
an anchor cannot be used to flood somebody else. Every signature is over a word of its own, so that
none can be used for another; an ANSWER signs what the anchor has just drawn, which nobody could
have signed before.
"""

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sovereign.audit.note import SignerKey, VerifierKey

MAGIC = b"SVA1"
DATAGRAM_MAX_BYTES = 1232
"""What crosses every network whole: 1280 bytes of IPv6 less its and UDP's header."""
NONCE_BYTES, SESSION_BYTES, CHALLENGE_BYTES, SIGNATURE_BYTES, KEY_ID_BYTES = 32, 8, 32, 64, 4
_HELLO, _CHALLENGE, _ANSWER, _REPORT = b"H", b"C", b"A", b"R"
_SIGNS_HELLO = b"sovereign-place-hello v1\n"
_SIGNS_ANSWER = b"sovereign-place-answer v1\n"


@dataclass(frozen=True, slots=True)
class Hello:
    """A host asks to be measured; `key_id` says under which key."""

    key_id: bytes
    nonce: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Challenge:
    """What the anchor has just drawn, the `number`th time in this session."""

    session: bytes
    number: int
    drawn: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """A challenge, signed by the host."""

    session: bytes
    number: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class Reported:
    """The anchor's signed note."""

    note: bytes


Packet = Hello | Challenge | Answer | Reported


def hello(anchor: str, nonce: bytes, key: SignerKey) -> bytes:
    """Ask the anchor whose key has this name to measure the holder of `key`."""
    signature = key.private.sign(_SIGNS_HELLO + anchor.encode() + b"\n" + nonce)
    return MAGIC + _HELLO + key.verifier.id + nonce + signature


def challenge(session: bytes, number: int, drawn: bytes) -> bytes:
    """What an anchor sends."""
    return MAGIC + _CHALLENGE + session + number.to_bytes(2, "big") + drawn


def answer(asked: Challenge, nonce: bytes, key: SignerKey) -> bytes:
    """What the holder of `key` says to a challenge in a run with this nonce."""
    signature = key.private.sign(_answered(asked, nonce))
    return MAGIC + _ANSWER + asked.session + asked.number.to_bytes(2, "big") + signature


def report(note: bytes) -> bytes:
    """What an anchor sends at the end."""
    return MAGIC + _REPORT + note


def read(data: bytes) -> Packet | None:
    """The packet that a datagram is; None when it is none, whatever it may be."""
    kind, body = data[len(MAGIC) : len(MAGIC) + 1], data[len(MAGIC) + 1 :]
    if not data.startswith(MAGIC) or len(data) > DATAGRAM_MAX_BYTES:
        return None
    if kind == _REPORT and body:
        return Reported(body)
    if kind == _HELLO and len(body) == KEY_ID_BYTES + NONCE_BYTES + SIGNATURE_BYTES:
        nonce_ends = KEY_ID_BYTES + NONCE_BYTES
        return Hello(body[:KEY_ID_BYTES], body[KEY_ID_BYTES:nonce_ends], body[nonce_ends:])
    head = SESSION_BYTES + 2
    session, number = body[:SESSION_BYTES], int.from_bytes(body[SESSION_BYTES:head], "big")
    if kind == _CHALLENGE and len(body) == head + CHALLENGE_BYTES:
        return Challenge(session, number, body[head:])
    if kind == _ANSWER and len(body) == head + SIGNATURE_BYTES:
        return Answer(session, number, body[head:])
    return None


def is_hello_of(said: Hello, anchor: str, key: VerifierKey) -> bool:
    """Whether this key asks this anchor."""
    signed = _SIGNS_HELLO + anchor.encode() + b"\n" + said.nonce
    return _is_signed(key, said.signature, signed)


def is_answer_of(said: Answer, asked: Challenge, nonce: bytes, key: VerifierKey) -> bool:
    """Whether this key answered exactly this challenge."""
    same = (said.session, said.number) == (asked.session, asked.number)
    return same and _is_signed(key, said.signature, _answered(asked, nonce))


def _answered(asked: Challenge, nonce: bytes) -> bytes:
    return _SIGNS_ANSWER + asked.session + asked.number.to_bytes(2, "big") + asked.drawn + nonce


def _is_signed(key: VerifierKey, signature: bytes, text: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(signature, text)
    except InvalidSignature:
        return False
    return True
