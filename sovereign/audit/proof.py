"""Prove one record to somebody who has nothing else (C2SP tlog-proof, version 1).

A proof is a small text: the record itself (in the `extra` line), its index, the hashes that
tie it to a root, and the signed checkpoint over that root. Whoever holds the log's public
key can check it offline; the log, and this project, may be gone by then.

    c2sp.org/tlog-proof@v1
    extra BASE64            the record, canonical JSON
    index 17
    BASE64                  inclusion proof, leaf side first

    ORIGIN                  the checkpoint, a signed note
    ...
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass

from sovereign.audit import checkpoint, tiles
from sovereign.audit.merkle import (
    HASH_BYTES,
    TILE_HEIGHT,
    TILE_WIDTH,
    consistency_proof,
    fold,
    inclusion_proof,
    leaf_hash,
    root_from_inclusion,
)
from sovereign.audit.note import VerifierKey, from_base64
from sovereign.audit.scan import Read, read_or_full
from sovereign.errors import BadInput, TileDamaged, TileMissing

HEADER = "c2sp.org/tlog-proof@v1"
PROOF_MAX_BYTES = 262_144


@dataclass(frozen=True, slots=True)
class Proven:
    """What a good proof shows: this entry stands at this index of the log called `origin`."""

    origin: str
    index: int
    size: int
    entry: bytes


def prove(read: Read, vkey: VerifierKey, index: int) -> bytes:
    """Return the proof of entry `index` under the log's newest checkpoint.

    Raises:
        TileMissing: there is no checkpoint, or a part of the log is gone, such as erased entries.
        TileDamaged: what is there does not lead to the signed root. No proof is given.
        OutOfRange: the log has no such entry.
    """
    raw = read(tiles.CHECKPOINT)
    signed = checkpoint.read(raw, vkey) if raw else None
    if raw is None or signed is None:
        raise TileMissing(f"{vkey.name} has no checkpoint that its pinned key signed")
    hashes = inclusion_proof(_nodes(read, signed.size), index, signed.size)
    entry = _entry(read, vkey.name, index, signed.size)
    if root_from_inclusion(leaf_hash(entry), index, signed.size, hashes) != signed.root:
        raise TileDamaged(
            f"{vkey.name}#{index} is not what the log was signed over",
            next_step="sovereign audit verify",
        )
    lines = [HEADER, f"extra {_encoded(entry)}", f"index {index}", *map(_encoded, hashes), ""]
    return "\n".join(lines).encode() + b"\n" + raw


def consistency(read: Read, old: int, size: int) -> list[bytes]:
    """Return the hashes that show the log of `old` entries to be a prefix of that of `size`.

    Raises:
        OutOfRange: `old` is not between 1 and `size`.
        TileMissing, TileDamaged: a tile is gone or too short.
    """
    return consistency_proof(_nodes(read, size), old, size)


def check(proof: bytes, vkey: VerifierKey) -> Proven | None:
    """Return what the proof shows, None when it shows nothing under this key.

    Raises:
        BadInput: it is no proof at all, or one without its record.
    """
    index, entry, hashes, note = parse(proof)
    signed = checkpoint.read(note, vkey)
    if signed is None or signed.origin != vkey.name or index >= signed.size:
        return None
    if root_from_inclusion(leaf_hash(entry), index, signed.size, hashes) != signed.root:
        return None
    return Proven(signed.origin, index, signed.size, entry)


def parse(proof: bytes) -> tuple[int, bytes, list[bytes], bytes]:
    """Take a proof apart into index, record, hashes and signed checkpoint; nothing is checked.

    Raises:
        BadInput: it is no proof at all, or one without its record.
    """
    head, gap, note = proof.partition(b"\n\n")
    lines = head.decode(errors="replace").split("\n")
    try:
        if len(proof) > PROOF_MAX_BYTES or not gap or lines[0] != HEADER:
            raise ValueError
        entry = from_base64(lines[1].removeprefix("extra "))
        index = int(lines[2].removeprefix("index "))
        hashes = [from_base64(line) for line in lines[3:]]
    except (ValueError, IndexError):
        raise BadInput(
            "this is no proof of a record", accepted=f"a file that begins with {HEADER}"
        ) from None
    named = lines[1].startswith("extra ") and lines[2] == f"index {index}"
    if not named or index < 0 or any(len(each) != HASH_BYTES for each in hashes):
        raise BadInput("this proof is not well formed", accepted="docs/formats/log.md")
    return index, entry, hashes, note


def _nodes(read: Read, size: int) -> Callable[[int, int], bytes]:
    """Read the hash of a complete node out of the tile that holds it or its descendants."""
    loaded: dict[tuple[int, int], list[bytes]] = {}

    def tile(level: int, index: int) -> list[bytes]:
        if (level, index) not in loaded:
            path = tiles.tile_path(level, index, tiles.width_of(level, index, size))
            found = read_or_full(read, path)
            if found is None:
                raise TileMissing(f"the tile {path} is gone", next_step="sovereign audit verify")
            loaded[level, index] = tiles.split_hashes(found)
        return loaded[level, index]

    def node(height: int, index: int) -> bytes:
        level, above = divmod(height, TILE_HEIGHT)
        first = index << above
        hashes = tile(level, first // TILE_WIDTH)
        start = first % TILE_WIDTH
        part = hashes[start : start + (1 << above)]
        if len(part) < 1 << above:
            raise TileDamaged(f"the tile of level {level} that holds entry {first} is too short")
        return fold(part)

    return node


def _entry(read: Read, origin: str, index: int, size: int) -> bytes:
    number, offset = divmod(index, TILE_WIDTH)
    path = tiles.bundle_path(number, tiles.width_of(0, number, size))
    bundle = read_or_full(read, path)
    if bundle is None:
        raise TileMissing(
            f"{origin}#{index} is not there any more",
            found=f"no {path}",
            accepted="an entry that is not erased",
            next_step="sovereign audit verify, which says whether a receipt covers it",
        )
    try:
        entries = tiles.unpack(bundle)
    except ValueError as error:
        raise TileDamaged(f"{path}: {error}") from None
    if len(entries) <= offset:
        raise TileDamaged(f"{path} holds {len(entries)} entries, not {offset + 1}")
    return entries[offset]


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()
