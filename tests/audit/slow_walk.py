"""The walk of a log as it was first written: one entry after the other, nothing at once.

It is the measure for `sovereign.audit.scan`, which is quick because it looks at whole bundles,
and at several of them in several processes. `test_scan.py` holds the two against each other.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sovereign.audit import checkpoint, record, tiles
from sovereign.audit.checkpoint import Checkpoint
from sovereign.audit.merkle import HASH_BYTES, TILE_WIDTH, Tree, leaf_hash
from sovereign.audit.note import VerifierKey
from sovereign.audit.scan import Read
from sovereign.audit.verify import EVERY_FINDING_MAX, READ_HERE
from sovereign.errors import RecordInvalid


@dataclass
class Walked:
    """What was seen; `told` are the indexes of records that verification reads itself."""

    origin: str
    findings: list[tuple[str, str]] = field(default_factory=list)
    present: list[tuple[int, int]] = field(default_factory=list)
    missing: list[tuple[int, int]] = field(default_factory=list)
    told: list[int] = field(default_factory=list)
    latest: datetime | None = None
    back: list[int] = field(default_factory=list)

    def find(self, code: str, where: str) -> None:
        if len(self.findings) < EVERY_FINDING_MAX:
            self.findings.append((code, where))


def walk(read: Read, vkey: VerifierKey, kept: list[bytes]) -> Walked:
    """Walk a log whose checkpoint is good."""
    seen = Walked(vkey.name)
    signed = checkpoint.read(read("checkpoint") or b"", vkey)
    assert signed is not None
    roots = _walk(seen, read, signed, _kept(seen, kept, signed, vkey))
    if roots.get(signed.size) != signed.root:
        seen.find("root-differs", "checkpoint")
    return seen


def _kept(
    seen: Walked, kept: list[bytes], signed: Checkpoint, vkey: VerifierKey
) -> list[Checkpoint]:
    usable = []
    for i, note in enumerate(kept):
        old = checkpoint.read(note, vkey)
        if old is None or old.origin != signed.origin:
            seen.find("kept-unusable", f"kept checkpoint {i + 1}")
        elif old.size > signed.size:
            seen.find("cut-short", f"{old.origin}: {signed.size} entries, {old.size} were signed")
        else:
            usable.append(old)
    return usable


def _walk(seen: Walked, read: Read, signed: Checkpoint, kept: list[Checkpoint]) -> dict[int, bytes]:
    tree, roots = Tree(), {}
    wanted = {signed.size, *(old.size for old in kept)}
    if 0 in wanted:
        roots[0] = tree.root()
    for index in range(-(-signed.size // TILE_WIDTH)):
        for leaf in _leaves(seen, read, index, signed.size):
            tree.append(leaf)
            if tree.size in wanted:
                roots[tree.size] = tree.root()
        finished, tree.finished = tree.finished, []
        for level, position, data in finished:
            _check_tile(seen, read, tiles.tile_path(level, position), data, level)
    for level, hashes in enumerate(tree.edge):
        if hashes:
            position = tree.size >> (8 * (level + 1))
            path = tiles.tile_path(level, position, len(hashes))
            _check_tile(seen, read, path, b"".join(hashes), level)
    for old in kept:
        if roots.get(old.size) != old.root:
            seen.find("history-split", f"{old.origin}: kept checkpoint of {old.size} entries")
    return roots


def _check_tile(seen: Walked, read: Read, path: str, expected: bytes, level: int) -> None:
    if level == 0:
        return
    found = _tile(read, path, len(expected))
    if found is None:
        seen.find("tile-missing", path)
    elif found != expected:
        seen.find("tile-differs", path)


def _tile(read: Read, path: str, length: int) -> bytes | None:
    found = read(path)
    if found is None:
        found = _read_or_full(read, path)
        return None if found is None else found[:length]
    return found


def _leaves(seen: Walked, read: Read, index: int, size: int) -> list[bytes]:
    width = tiles.width_of(0, index, size)
    first = index * TILE_WIDTH
    entries = _entries(seen, read, index, width)
    path = tiles.tile_path(0, index, width)
    tile = _tile(read, path, HASH_BYTES * width)
    stored = tiles.split_hashes(tile) if tile and len(tile) == HASH_BYTES * width else []
    if not stored:
        seen.find("tile-missing" if tile is None else "tile-differs", path)
    if entries is None:
        seen.missing.append((first, first + width - 1))
        return stored
    seen.present.append((first, first + width - 1))
    own = [leaf_hash(entry) for entry in entries]
    for i, (entry, leaf) in enumerate(zip(entries, own, strict=True)):
        if stored and leaf != stored[i]:
            seen.find("entry-differs", f"{seen.origin}#{first + i}")
        else:
            _read_record(seen, first + i, entry)
    for number in seen.back:
        seen.find("clock-set-back", f"{seen.origin}#{number}")
    seen.back = []
    return stored or own


def _entries(seen: Walked, read: Read, index: int, width: int) -> list[bytes] | None:
    path = tiles.bundle_path(index, width)
    bundle = _read_or_full(read, path)
    if bundle is None:
        return None
    try:
        entries = unpack(bundle)
    except ValueError:
        entries = []
    if len(entries) < width or (len(entries) > width and read(path) is not None):
        seen.find("bundle-damaged", path)
        return None
    return entries[:width]


def unpack(bundle: bytes) -> list[bytes]:
    """The entries of a bundle, as they were first taken apart."""
    entries, position = [], 0
    while position < len(bundle):
        start = position + 2
        position = start + int.from_bytes(bundle[position:start], "big")
        if start > len(bundle) or position > len(bundle):
            raise ValueError("the bundle ends in the middle of an entry")
        entries.append(bundle[start:position])
    return entries


def _read_or_full(read: Read, path: str) -> bytes | None:
    found = read(path)
    full, partial, _ = path.partition(".p/")
    return read(full) if found is None and partial else found


def _read_record(seen: Walked, index: int, entry: bytes) -> None:
    name = f"{seen.origin}#{index}"
    try:
        content = record.parse(entry)
    except RecordInvalid:
        seen.find("record-invalid", name)
        return
    kind, stream = str(content["type"]), seen.origin.rpartition("/")[2]
    if record.RECORD_TYPES[kind].stream not in ("any", stream):
        seen.find("record-invalid", name)
        return
    if kind in READ_HERE:
        seen.told.append(index)
    if index == 0:
        return
    at = datetime.fromisoformat(content["at"])
    if seen.latest is not None and seen.latest - at > timedelta(hours=1):
        if kind != "clock-set-back":
            seen.back.append(index)
        seen.latest = at
    seen.latest = at if seen.latest is None else max(seen.latest, at)
