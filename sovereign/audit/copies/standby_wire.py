"""What is sent to a standby: parts of a log in frames, each with its own check sum. Pure.

    frame     = kind (4 bytes) | length of payload (4, big-endian) | payload | SHA-256 of all before
    entries   = "SVSe": index of the first (8) | bundle: each entry behind its length in two bytes
    hashes    = "SVSh": index of the first (8) | 32 bytes of leaf hash for each
    handover  = "SVSk": number (8) | the handover file of that number
    note      = "SVSn": the signed checkpoint over everything up to here

`docs/formats/standby.md` shows every byte. TLS keeps the line; the sum is for what happens
between a disk and a socket.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from sovereign.audit import tiles
from sovereign.audit.merkle import HASH_BYTES
from sovereign.errors import BadInput

ENTRIES, HASHES, HANDOVER, NOTE = b"SVSe", b"SVSh", b"SVSk", b"SVSn"
BODY_MAX_BYTES = 33_554_432
"""Largest body. A bundle of the longest entries is half of it."""
CHUNK_BYTES = 2_097_152
"""A sender ends a body at the first bundle that takes it beyond this."""
_HEAD, _SUM, _INDEX = 8, 32, 8


@dataclass(frozen=True, slots=True)
class Part:
    """One frame. `number` is the index of the first entry or the handover; unused for a note."""

    kind: bytes
    number: int
    items: tuple[bytes, ...]


def entries(first: int, content: list[bytes]) -> bytes:
    """A frame of entries, at least one."""
    return _frame(ENTRIES, first.to_bytes(_INDEX, "big") + tiles.pack(content))


def hashes(first: int, leaves: list[bytes]) -> bytes:
    """A frame for entries that are erased: their leaf hashes."""
    return _frame(HASHES, first.to_bytes(_INDEX, "big") + b"".join(leaves))


def handover(number: int, content: bytes) -> bytes:
    """A frame that says how the log's key was replaced."""
    return _frame(HANDOVER, number.to_bytes(_INDEX, "big") + content)


def note(signed: bytes) -> bytes:
    """The frame that ends a round."""
    return _frame(NOTE, signed)


def _frame(kind: bytes, payload: bytes) -> bytes:
    framed = kind + len(payload).to_bytes(4, "big") + payload
    return framed + sha256(framed).digest()


def parse(body: bytes) -> Iterator[Part]:
    """The parts of a body, in order.

    Raises:
        BadInput: it does not end with a frame, or a frame is not as it must be.
    """
    position = 0
    while position < len(body):
        head = body[position : position + _HEAD]
        end = position + _HEAD + int.from_bytes(head[4:], "big")
        framed, told = body[position:end], body[end : end + _SUM]
        if len(head) < _HEAD or sha256(framed).digest() != told:
            raise _damaged(position)
        yield _part(head[:4], framed[_HEAD:], position)
        position = end + _SUM


def _part(kind: bytes, payload: bytes, position: int) -> Part:
    if kind == NOTE:
        return Part(kind, 0, (payload,))
    number, rest = int.from_bytes(payload[:_INDEX], "big"), payload[_INDEX:]
    if kind == HANDOVER and rest:
        return Part(kind, number, (rest,))
    if kind == HASHES and rest and not len(rest) % HASH_BYTES:
        return Part(kind, number, tuple(tiles.split_hashes(rest)))
    if kind == ENTRIES and rest:
        try:
            return Part(kind, number, tuple(tiles.unpack(rest)))
        except ValueError:
            raise _damaged(position) from None
    raise _damaged(position)


def _damaged(position: int) -> BadInput:
    return BadInput(f"what was sent is damaged at byte {position}", accepted="whole frames")
