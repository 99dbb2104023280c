"""The write-ahead journal: what is acknowledged but not yet durable anywhere else.

One file. It begins with a *base* frame, which names the size up to which tiles and bundles
are durable and the root they must lead to, and goes on with *group* frames: the entries of
one group commit and the signed checkpoint that covers them. One group is on its way at a
time, so after a crash only the last frame can be torn; anything else that does not add up
is damage. `docs/formats/journal.md` shows every byte.

    frame    = kind (4 bytes) | length of payload (4, big-endian) | payload | SHA-256 of all before
    base     = "SVJb": size (8) | root (32)
    group    = "SVJg": index of the first entry (8) | length of bundle (4) | bundle | note
"""

from dataclasses import dataclass
from hashlib import sha256

from sovereign.audit import tiles
from sovereign.audit.merkle import HASH_BYTES
from sovereign.errors import JournalDamaged

PATH = "journal"
BASE, GROUP = b"SVJb", b"SVJg"
_HEAD, _SUM = 8, 32


@dataclass(frozen=True, slots=True)
class Group:
    """The entries of one commit, the index of the first, and the checkpoint that covers them."""

    first: int
    entries: tuple[bytes, ...]
    note: bytes


@dataclass(frozen=True, slots=True)
class Journal:
    """What a journal file says. `torn_bytes` are behind the last good frame and mean nothing."""

    base: int
    base_root: bytes
    groups: tuple[Group, ...]
    good_bytes: int
    torn_bytes: int


def base_frame(size: int, root: bytes) -> bytes:
    """The frame a journal begins with."""
    return _frame(BASE, size.to_bytes(8, "big") + root)


def group_frame(first: int, bundle: bytes, note: bytes) -> bytes:
    """The frame of one group."""
    head = first.to_bytes(8, "big") + len(bundle).to_bytes(4, "big")
    return _frame(GROUP, head + bundle + note)


def _frame(kind: bytes, payload: bytes) -> bytes:
    framed = kind + len(payload).to_bytes(4, "big") + payload
    return framed + sha256(framed).digest()


def parse(data: bytes) -> Journal:
    """Read a journal file.

    Raises:
        JournalDamaged: it does not begin with a base, a frame that is not the last is bad, or a
            whole frame holds no group.
    """
    kind, payload, position = _next(data, 0)
    if kind != BASE or len(payload) != 8 + HASH_BYTES:
        raise JournalDamaged("the journal does not begin as one", next_step="restore the log")
    base, root, groups = int.from_bytes(payload[:8], "big"), payload[8:], []
    while position < len(data):
        kind, payload, end = _next(data, position)
        if kind != GROUP:
            _refuse_if_followed(data, position)
            break
        groups.append(_group(payload))
        position = end
    return Journal(base, root, tuple(groups), position, len(data) - position)


def _next(data: bytes, position: int) -> tuple[bytes, bytes, int]:
    """Kind, payload and end of the frame at `position`; an empty kind when it is not whole."""
    head = data[position : position + _HEAD]
    end = position + _HEAD + int.from_bytes(head[4:], "big")
    framed, found = data[position:end], data[end : end + _SUM]
    if len(head) < _HEAD or head[:4] not in (BASE, GROUP) or sha256(framed).digest() != found:
        return b"", b"", position
    return head[:4], framed[_HEAD:], end + _SUM


def _refuse_if_followed(data: bytes, position: int) -> None:
    """What is no group, with a group behind it, was not torn by a crash."""
    at = data.find(GROUP, position + 1)
    while at != -1:
        if _next(data, at)[0]:
            raise JournalDamaged(
                f"the journal is damaged at byte {position}, before its last frame",
                next_step="keep the folder as it is and follow the runbook",
            )
        at = data.find(GROUP, at + 1)


def _group(payload: bytes) -> Group:
    first, length = int.from_bytes(payload[:8], "big"), int.from_bytes(payload[8:12], "big")
    bundle, note = payload[12 : 12 + length], payload[12 + length :]
    try:
        if len(payload) < 12 or len(bundle) < length:
            raise ValueError("the group ends in the middle of its bundle")
        return Group(first, tuple(tiles.unpack(bundle)), note)
    except ValueError as error:
        raise JournalDamaged(
            f"a group in the journal is none: {error}", next_step="restore the log"
        ) from None
