"""Verify an export of audit logs, with Python's standard library and `cryptography` alone.

    python3 verify.py --pin SHA256_OF_KEYS_TXT        the keys, as you were told of them
    python3 verify.py --vkey KEY --vkey KEY …         or the keys themselves
    python3 verify.py --checkpoint FILE …             and what you kept from an earlier time

Ends with 0 (everything is as it was signed), 1 (a finding), 2 (asked wrongly) or 3 (it could not
be determined). It imports nothing of the program that wrote the logs: it follows RFC 6962,
C2SP tlog-tiles, tlog-checkpoint, tlog-proof and signed-note, and the page `docs/formats/export.md`
of the project, which has all that is needed to write another one.

The keys that lie in an export prove nothing by themselves: whoever forges an export can put keys
of their own into it. Without `--pin` or `--vkey` a good export ends with 3.

Every file is read whole, once, no further than it may be long, and never through a link. No more
than one bundle of one log is held at a time. It runs on Python 3.9 and later.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    sys.stderr.write("key-missing: this needs the Python package `cryptography` (38 or later)\n")
    raise SystemExit(3) from None

SOUND, FINDING, ASKED_WRONGLY, UNDETERMINED = 0, 1, 2, 3
FINDINGS = {
    "manifest-damaged": "The manifest is none, or says what cannot be.",
    "manifest-unproven": "No record in the operator's log names this manifest.",
    "file-missing": "A file that the manifest names is not there.",
    "file-differs": "A file is not the one that the manifest names.",
    "keys-foreign": "The keys are not those that were pinned.",
    "range-short": "The records do not reach from one end of the asked time to the other.",
    "log-gone": "A log that the manifest names is not there.",
    "checkpoint-missing": "The log has no checkpoint, or one that is no checkpoint.",
    "checkpoint-foreign": "The checkpoint is not signed by the pinned key, or is another log's.",
    "key-retired": "A key signed this after it had been replaced.",
    "handover-missing": "A record says that the log's key was replaced, and no handover shows it.",
    "handover-damaged": "A handover from one key to the next does not hold.",
    "tile-missing": "A hash tile that the checkpoint covers is gone.",
    "tile-differs": "A hash tile is not the one that the entries or tiles below it lead to.",
    "bundle-missing": "Entries are gone, and no receipt says that they were erased.",
    "bundle-damaged": "A bundle cannot be taken apart into its entries.",
    "entry-differs": "An entry is not the one that was hashed into the log.",
    "record-invalid": "An entry is not a record as the schema says.",
    "clock-set-back": "A record is older than one before it, and no record says why.",
    "root-differs": "The tiles do not lead to the root that was signed.",
    "cut-short": "The log is shorter than a checkpoint that was kept of it.",
    "history-split": "The log and a checkpoint that was kept of it cannot both be true.",
    "kept-unusable": "A checkpoint that was given as kept is not one that the pinned key signed.",
    "erasure-incomplete": "A receipt says that entries are erased, and they are still there.",
    "receipt-differs": "A receipt does not fit the log or itself.",
    "erasure-early": "Entries were erased before their class allows it.",
    "erased-under-hold": "Held copies were erased while their hold was in force.",
}
"""Every finding there is, by its code. Where the project's own verifier has one, it is the same."""

OF_RULES = ("erasure-early", "erased-under-hold", "clock-set-back")
"""Findings that say a rule was broken, while every byte is what was signed."""
CLOCK_SLACK_S = 3600

FINDINGS_MAX = 100
NOTE_MAX, TILE_MAX, BUNDLE_MAX, PROOF_MAX = 65_536, 8_192, 256 * 65_537, 262_144
SMALL_MAX, MANIFEST_MAX = 16 * 1024 * 1024, 64 * 1024 * 1024
SIGNATURES_MAX, HANDOVERS_MAX, SIZE_MAX = 100, 1_000, 2**53 - 1
ERASER, OPERATOR, PLACER = "controller/evidence", "operator/security", "operator/evidence"
DAY_S = 86_400
SLACK_S = DAY_S
"""How far the times of neighbouring entries may disagree before it is a finding."""
_PATH = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._/-]{0,255}")
_ORIGIN = re.compile(r"[a-z0-9][a-z0-9.-]{0,200}/[a-z]+/[a-z]+")
_SALT = re.compile(r"[0-9a-f]{32}")
_HEX = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{6}Z"
)
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


# --- RFC 6962 hashing and signed notes ------------------------------------------------------


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class Peaks:
    """The complete subtrees of a growing tree, widest first: how many leaves, and the root."""

    def __init__(self, peaks: list[tuple[int, bytes]] | None = None) -> None:
        self.peaks = list(peaks or [])

    def add(self, width: int, root: bytes) -> None:
        while self.peaks and self.peaks[-1][0] == width:
            root = node_hash(self.peaks.pop()[1], root)
            width *= 2
        self.peaks.append((width, root))

    def root(self) -> bytes:
        if not self.peaks:
            return hashlib.sha256(b"").digest()
        root = self.peaks[-1][1]
        for _, left in reversed(self.peaks[:-1]):
            root = node_hash(left, root)
        return root


def root_of(hashes: list[bytes]) -> bytes:
    tree = Peaks()
    for each in hashes:
        tree.add(1, each)
    return tree.root()


def root_by_proof(leaf: bytes, index: int, size: int, siblings: list[bytes]) -> bytes | None:
    """The root that an inclusion proof leads to (RFC 9162, 2.1.3.2); None for a wrong shape."""
    last, root = size - 1, leaf
    for sibling in siblings:
        if last == 0:
            return None
        if index % 2 or index == last:
            root = node_hash(sibling, root)
            while index and not index % 2:
                index, last = index // 2, last // 2
        else:
            root = node_hash(root, sibling)
        index, last = index // 2, last // 2
    return root if last == 0 else None


def decoded(text: str) -> bytes:
    """Base64 in its one form.

    Raises:
        ValueError: it is not that.
    """
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError("not base64 in its one form")
    return data


@dataclass(frozen=True)
class Key:
    """A verifier key: the name it signs under, and 32 bytes of Ed25519."""

    name: str
    public: bytes

    @property
    def id(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n\x01" + self.public).digest()[:4]

    def __str__(self) -> str:
        blob = base64.b64encode(b"\x01" + self.public).decode()
        return f"{self.name}+{self.id.hex()}+{blob}"


def key_of(text: str) -> Key:
    """Read `NAME+ID+BASE64`.

    Raises:
        ValueError: it is no such key.
    """
    name, identity, blob = text.strip().split("+", 2)
    raw = decoded(blob)
    key = Key(name, raw[1:])
    if not _ORIGIN.fullmatch(name) or raw[:1] != b"\x01" or len(raw) != 33:
        raise ValueError("no Ed25519 verifier key of a log")
    if key.id.hex() != identity:
        raise ValueError("the id is not the key's")
    return key


@dataclass(frozen=True)
class Signed:
    """A checkpoint that a key has signed."""

    origin: str
    size: int
    root: bytes


def open_checkpoint(note: bytes, key: Key) -> Signed | None:
    """The checkpoint in a note, when `key` signed it; None for anything else."""
    try:
        return _opened(note, key)
    except (ValueError, InvalidSignature):
        return None


def _opened(note: bytes, key: Key) -> Signed | None:
    text, signatures = parts(note)
    own = [blob for name, blob in signatures if name == key.name and blob[:4] == key.id]
    if not own:
        return None
    Ed25519PublicKey.from_public_bytes(key.public).verify(own[0][4:], text.encode())
    return _checkpoint(text)


def parts(note: bytes) -> tuple[str, list[tuple[str, bytes]]]:
    """The text of a note, and name and bytes of every signature; none of them is checked.

    Raises:
        ValueError: it is no note.
    """
    text, gap, tail = note.decode().rpartition("\n\n")
    text += "\n"
    lines = tail[:-1].split("\n")
    good = len(note) <= NOTE_MAX and gap and tail.endswith("\n") and len(lines) <= SIGNATURES_MAX
    if not good or any(c < " " and c != "\n" for c in text + tail):
        raise ValueError("no note")
    signatures = []
    for line in lines:
        dash, name, blob = line.split(" ", 2)
        if dash != "\u2014" or not name or "+" in name or any(c.isspace() for c in name):
            raise ValueError("no signature line")
        signatures.append((name, decoded(blob)))
    return text, signatures


@dataclass(frozen=True)
class Witness:
    """The key of somebody who signs how long logs are: C2SP tlog-cosignature, Ed25519."""

    name: str
    public: bytes

    @property
    def id(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n\x04" + self.public).digest()[:4]

    def signed(self, note: bytes) -> tuple[int, int] | None:
        """How many entries it signed for in this note, and when (seconds since 1970)."""
        try:
            text, signatures = parts(note)
            tree = _checkpoint(text)
        except ValueError:
            return None
        for name, blob in signatures:
            if name != self.name or blob[:4] != self.id or len(blob) != 76 or tree is None:
                continue
            at = int.from_bytes(blob[4:12], "big")
            said = f"cosignature/v1\ntime {at}\n{text}".encode()
            try:
                Ed25519PublicKey.from_public_bytes(self.public).verify(blob[12:], said)
            except InvalidSignature:
                return None
            return tree.size, at
        return None


def witness_of(text: str) -> Witness:
    """Read a witness' `NAME+ID+BASE64`.

    Raises:
        ValueError: it is no such key.
    """
    name, identity, blob = text.strip().split("+", 2)
    raw = decoded(blob)
    witness = Witness(name, raw[1:])
    if raw[:1] != b"\x04" or len(raw) != 33 or witness.id.hex() != identity:
        raise ValueError("no Ed25519 key for cosignatures")
    return witness


def _checkpoint(text: str) -> Signed | None:
    lines = text.split("\n")
    if len(lines) < 4 or not _SIZE.fullmatch(lines[1]):
        return None
    root = base64.b64decode(lines[2], validate=True)
    return Signed(lines[0], int(lines[1]), root) if len(root) == 32 else None


@dataclass(frozen=True)
class Proof:
    """A tlog-proof taken apart; nothing in it is checked yet."""

    index: int
    entry: bytes
    siblings: list[bytes]
    note: bytes

    def holds_in(self, signed: Signed) -> bool:
        leaf = leaf_hash(self.entry)
        inside = self.index < signed.size
        return inside and root_by_proof(leaf, self.index, signed.size, self.siblings) == signed.root


def proof_of(raw: bytes) -> Proof:
    """Read a tlog-proof (version 1) that carries its entry in the `extra` line.

    Raises:
        ValueError: it is none.
    """
    head, gap, note = raw.partition(b"\n\n")
    lines = head.decode().split("\n")
    good = gap and len(lines) > 2 and lines[0] == "c2sp.org/tlog-proof@v1"
    if not good or not lines[1].startswith("extra ") or not lines[2].startswith("index "):
        raise ValueError("no proof of a record")
    if not _SIZE.fullmatch(lines[2][6:]):
        raise ValueError("no index")
    siblings = [decoded(line) for line in lines[3:]]
    if any(len(each) != 32 for each in siblings):
        raise ValueError("a hash of the wrong length")
    return Proof(int(lines[2][6:]), decoded(lines[1][6:]), siblings, note)


# --- files and JSON that nobody vouches for --------------------------------------------------


def read_file(folder: Path, path: str, longest: int) -> bytes | None:
    """A plain file below `folder`; None when there is none.

    A link, a pipe, a device or a file that is too long reads as empty, which no file here is.
    """
    at = folder
    for name in path.split("/"):
        at = at / name
        try:
            found = at.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if stat.S_ISLNK(found.st_mode):
            return b""
    if stat.S_ISDIR(found.st_mode):
        return None
    if not stat.S_ISREG(found.st_mode) or found.st_size > longest:
        return b""
    with os.fdopen(os.open(at, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        content = file.read(longest + 1)
    return content if len(content) <= longest else b""


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_no_doubles)
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def json_of(content: bytes) -> Any:
    """JSON without doubled keys, or a ValueError."""
    try:
        return _DECODER.decode(content.decode())
    except RecursionError:
        raise ValueError("nested too deeply") from None


def canonical(value: Any) -> bytes:
    """RFC 8785 for what records hold: strings and whole numbers."""
    return _ENCODER.encode(value).encode()


def is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= SIZE_MAX


def is_time(value: object) -> bool:
    return isinstance(value, str) and bool(_TIME.fullmatch(value)) and _is_date(value[:10])


@lru_cache(maxsize=1024)
def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def is_name(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 256


def is_reason(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 1024


def is_salt(value: object) -> bool:
    return isinstance(value, str) and bool(_SALT.fullmatch(value))


def is_version(value: object) -> bool:
    return type(value) is int and value == 1


_KINDS: dict[str, Callable[[object], bool]] = {
    "integer": is_count,
    "time": is_time,
    "name": is_name,
    "reason": is_reason,
    "salt": is_salt,
    "version": is_version,
    "type": is_name,
}


class Schema:
    """The types of records there are: `schema.json`, a JSON Schema of a simple form."""

    def __init__(self, content: Any) -> None:
        self.types = {each["properties"]["type"]["const"]: each for each in content["oneOf"]}
        self._required = {name: set(each["required"]) for name, each in self.types.items()}
        self._fields = {
            name: {field: _KINDS[_kind(shape)] for field, shape in each["properties"].items()}
            for name, each in self.types.items()
        }

    def fits(self, record: Any, stream: str) -> bool:
        """Whether it is a record of a type that may stand in this stream."""
        name = record.get("type") if isinstance(record, dict) else None
        if not isinstance(name, str) or name not in self.types:
            return False
        fields = self._fields[name]
        if self.types[name]["x-stream"] not in ("any", stream):
            return False
        if not self._required[name] <= record.keys() <= fields.keys():
            return False
        return all(fields[each](value) for each, value in record.items())


def _kind(shape: dict[str, Any]) -> str:
    return str(shape.get("$ref", "#/$defs/type")).rpartition("/")[2]


# --- one log -------------------------------------------------------------------------------


@dataclass
class Log:
    """What the manifest says of a log, and what was found. `folder` is that of the export.

    `erased` and `left_out` are numbers of entries.
    """

    origin: str
    size: int
    root: str
    first: int
    count: int
    carried: list[tuple[int, int]]
    folder: Path
    key: Key | None = None
    findings: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    open_gaps: list[str] = field(default_factory=list)
    present: list[tuple[int, int]] = field(default_factory=list)
    gaps: list[tuple[int, int]] = field(default_factory=list)
    receipts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    rotations: list[tuple[int, str]] = field(default_factory=list)
    holds: list[dict[str, Any]] = field(default_factory=list)
    roots: dict[int, bytes] = field(default_factory=dict)
    times: dict[int, tuple[str, str]] = field(default_factory=dict)
    latest: str = ""
    erased: int = 0
    left_out: int = 0

    def find(self, code: str, where: str) -> None:
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append((code, where))

    def read(self, path: str, longest: int) -> bytes | None:
        return read_file(self.folder, f"logs/{self.origin}/{path}", longest)

    @property
    def is_there(self) -> bool:
        """Whether its folder is one, and no link to another."""
        at = self.folder / "logs" / self.origin
        steps = [at, *list(at.parents)[:3]]
        return at.is_dir() and not any(step.is_symlink() for step in steps)

    @property
    def is_intact(self) -> bool:
        """Whether every byte is what was signed, though a rule may have been broken."""
        broken = [code for code, _ in self.findings if code not in OF_RULES]
        looked_at = len(self.findings) < FINDINGS_MAX  # else the walk may have ended early
        return looked_at and self.key is not None and not broken and not self.open_gaps

    def is_here(self, first: int) -> bool:
        """Whether the bundle that begins with this entry is in the export, as the manifest says."""
        inside = self.first <= first < self.first + self.count
        return inside or any(start <= first <= end for start, end in self.carried)


def numbered(number: int) -> str:
    parts = [f"{number % 1000:03d}"]
    while number >= 1000:
        number //= 1000
        parts.append(f"x{number % 1000:03d}")
    return "/".join(reversed(parts))


def path_of(kind: str, number: int, width: int) -> str:
    path = f"tile/{kind}/{numbered(number)}"
    return path if width == 256 else f"{path}.p/{width}"


def handovers(log: Log, given: Key) -> tuple[list[Key], list[tuple[Signed, bytes]]]:
    """The keys of a log from its first to its newest, and the checkpoints that handed it over."""
    keys: list[Key] = []
    overs: list[tuple[Signed, bytes]] = []
    for number in range(1, HANDOVERS_MAX + 1):
        raw = log.read(f"handover/{number}", PROOF_MAX)
        if raw is None:
            break
        found = _handover(raw, given.name)
        follows = found is not None and (
            not keys
            or (found[0] == keys[-1] and found[1] not in keys and found[2] >= overs[-1][0].size)
        )
        if found is None or not follows:
            log.find("handover-damaged", f"handover/{number}")
            break
        keys += [found[1]] if keys else [found[0], found[1]]
        overs.append((found[3], found[4]))
    return (keys, overs) if given in keys else ([given], [])


def _handover(raw: bytes, origin: str) -> tuple[Key, Key, int, Signed, bytes] | None:
    try:
        proof = proof_of(raw)
        said = json_of(proof.entry)
        old, new = key_of(said["old"]), key_of(said["new"])
        rotated = said["type"] == "key-rotated"
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    over = open_checkpoint(proof.note, old)
    if over is None or open_checkpoint(proof.note, new) != over or not rotated or old == new:
        return None
    if {over.origin, old.name, new.name} != {origin} or not proof.holds_in(over):
        return None
    return old, new, proof.index, over, proof.note


def inspect(log: Log, schema: Schema, kept: list[bytes]) -> None:
    """Walk one log; gaps are listed, not judged."""
    assert log.key is not None
    if not log.is_there:
        log.find("log-gone", log.origin)
        return
    raw = log.read("checkpoint", NOTE_MAX)
    if raw is None:
        log.find("checkpoint-missing", "checkpoint")
        return
    keys, overs = handovers(log, log.key)
    signed = open_checkpoint(raw, keys[-1])
    if signed is None or signed.origin != log.origin:
        retired = any(open_checkpoint(raw, key) for key in keys[:-1])
        log.find("key-retired" if retired else "checkpoint-foreign", "checkpoint")
        return
    if overs:
        log.notes.append(f"its key was replaced {len(overs)} times; the newest is {keys[-1]}")
    if (signed.size, signed.root.hex()) != (log.size, log.root):
        log.find("manifest-damaged", f"{log.origin}: the checkpoint is of {signed.size} entries")
    log.size = signed.size
    usable = _kept(log, keys, overs, kept, signed)
    _walk(log, schema, {signed.size, *(old.size for old in usable)})
    if len(log.findings) < FINDINGS_MAX:
        for old in usable:
            if log.roots.get(old.size) != old.root:
                log.find("history-split", f"kept checkpoint of {old.size} entries")
        if log.roots.get(signed.size) != signed.root:
            log.find("root-differs", "checkpoint")
        unshown = {str(key) for key in keys} - {str(key) for key in (keys[1:] if overs else [])}
        for index, new in log.rotations:
            if new in unshown:
                log.find("handover-missing", f"{log.origin}#{index}")


def _kept(
    log: Log,
    keys: list[Key],
    overs: list[tuple[Signed, bytes]],
    kept: list[bytes],
    signed: Signed,
) -> list[Signed]:
    """The kept checkpoints that can be compared: each signed by a key within its term."""
    usable = []
    for note in [*kept, *(note for _, note in overs)]:
        old = None
        for position, key in enumerate(keys):
            found = open_checkpoint(note, key)
            in_term = position >= len(overs) or (found and found.size <= overs[position][0].size)
            if found is not None and found.origin == log.origin and in_term:
                old = found
                break
        if old is None:
            log.find("kept-unusable", "a kept checkpoint")
        elif old.size > signed.size:
            log.find("cut-short", f"{signed.size} entries, {old.size} were signed")
        else:
            usable.append(old)
    return usable


def _walk(log: Log, schema: Schema, wanted: set[int]) -> None:
    """Every bundle against its tile, and every tile against the next level."""
    tree = Peaks()
    above: list[list[bytes]] = []
    if 0 in wanted:
        log.roots[0] = tree.root()
    for number in range(-(-log.size // 256)):
        if len(log.findings) >= FINDINGS_MAX:
            return
        width = min(256, log.size - 256 * number)
        leaves = _leaves(log, schema, number, width)
        for size in [each for each in wanted if 0 < each - 256 * number <= len(leaves)]:
            part = Peaks(tree.peaks)
            for leaf in leaves[: size - 256 * number]:
                part.add(1, leaf)
            log.roots[size] = part.root()
        if len(leaves) == 256:
            whole = root_of(leaves)
            tree.add(256, whole)
            _rise(log, above, number, whole)
    for level, hashes in enumerate(above, 1):
        if hashes:
            _compare(log, path_of(str(level), log.size >> 8 * (level + 1), len(hashes)), hashes)


def _rise(log: Log, above: list[list[bytes]], number: int, root: bytes) -> None:
    """Take the root of bundle `number` into the levels above; `above[0]` is level 1."""
    for level in range(1, 9):
        if len(above) < level:
            above.append([])
        hashes = above[level - 1]
        hashes.append(root)
        if len(hashes) < 256:
            return
        _compare(log, path_of(str(level), number >> 8 * level, 256), hashes)
        root, above[level - 1] = root_of(hashes), []


def _compare(log: Log, path: str, hashes: list[bytes]) -> None:
    found = log.read(path, TILE_MAX)
    if found is None:
        log.find("tile-missing", path)
    elif found != b"".join(hashes):
        log.find("tile-differs", path)


def _leaves(log: Log, schema: Schema, number: int, width: int) -> list[bytes]:
    """The leaf hashes of a bundle as its tile has them; its entries are compared with them."""
    first = 256 * number
    path = path_of("0", number, width)
    tile = log.read(path, TILE_MAX)
    whole = tile is not None and len(tile) == 32 * width
    if not whole:
        log.find("tile-missing" if tile is None else "tile-differs", path)
    stored = [tile[at : at + 32] for at in range(0, 32 * width, 32)] if tile and whole else []
    entries = _entries(log, number, width)
    if entries is None:
        return stored
    log.present.append((first, first + width - 1))
    own = [leaf_hash(entry) for entry in entries]
    for offset, entry in enumerate(entries):
        if stored and own[offset] != stored[offset]:
            log.find("entry-differs", f"{log.origin}#{first + offset}")
        else:
            _read_record(log, schema, first + offset, entry)
    return stored or own


def _entries(log: Log, number: int, width: int) -> list[bytes] | None:
    path, first = path_of("entries", number, width), 256 * number
    bundle = log.read(path, BUNDLE_MAX)
    if bundle is None and log.is_here(first):
        log.gaps.append((first, first + width - 1))
    elif bundle is None:
        log.left_out += width
    if bundle is None:
        return None
    entries: list[bytes] = []
    at = 0
    while at + 2 <= len(bundle) and len(entries) <= width:
        end = at + 2 + int.from_bytes(bundle[at : at + 2], "big")
        entries.append(bundle[at + 2 : end])
        at = end
    if at != len(bundle) or len(entries) != width:
        log.find("bundle-damaged", path)
        return None
    return entries


def _read_record(log: Log, schema: Schema, index: int, entry: bytes) -> None:
    name = f"{log.origin}#{index}"
    try:
        record = json_of(entry)
        good = canonical(record) == entry and schema.fits(record, log.origin.rpartition("/")[2])
    except (ValueError, RecursionError):
        good = False
    if not good:
        log.find("record-invalid", name)
        return
    began, _ = log.times.get(index // 256, (record["at"], ""))
    log.times[index // 256] = (began, record["at"])
    if index:
        _compare_time(log, name, record)
    if record["type"] == "erasure":
        log.receipts.append((name, record))
    elif record["type"] == "key-rotated":
        log.rotations.append((index, record["new"]))
    elif record["type"] in ("hold-placed", "hold-released"):
        log.holds.append(record)


def _compare_time(log: Log, name: str, record: dict[str, Any]) -> None:
    """From the second record on time goes back only where a record says so."""
    at, latest = record["at"], log.latest
    back = at < latest and _seconds(latest) - _seconds(at) > CLOCK_SLACK_S
    if back and record["type"] != "clock-set-back":
        log.find("clock-set-back", name)
    log.latest = at if back else max(at, latest)


# --- the logs as a set -----------------------------------------------------------------------


def judge(
    log: Log, receipts: list[tuple[str, dict[str, Any]]] | None, times: tuple[str, str]
) -> None:
    """Say what the gaps of a log mean; `receipts` is None when nobody can tell."""
    as_signed = not log.findings
    about = [(name, said) for name, said in receipts or [] if said["log"] == log.origin]
    covered = _joined([(said["first"], said["last"]) for _, said in about])
    for first, last in log.gaps:
        if any(start <= first and last <= end for start, end in covered):
            log.erased += last - first + 1
        elif receipts is None:
            log.open_gaps.append(f"{log.origin}#{first} to #{last}")
        else:
            log.find("bundle-missing", f"{log.origin}#{first} to #{last}")
    for first, last in log.present:
        if any(start <= first and last <= end for start, end in covered):
            log.find("erasure-incomplete", f"{log.origin}#{first} to #{last}")
    if as_signed:  # else its tiles and times would be anybody's
        for name, said in about:
            _judge_receipt(log, name, said)
        for name in _out_of_order(log, about):
            log.find("receipt-differs", name)
        _judge_range(log, *times)


def _judge_receipt(log: Log, name: str, said: dict[str, Any]) -> None:
    """A receipt of form 2 says enough to be held against the log and against itself."""
    if said.get("form", 1) == 1:
        return
    if not _is_whole(said) or not _fits(log, said):
        log.find("receipt-differs", name)
        return
    youngest_s = said.get("youngest_s", _age_s(said["to"], said["at"]))
    oldest_s = said.get("oldest_s", _age_s(said["from"], said["at"]))
    forced = "max_days" in said and oldest_s >= said["max_days"] * DAY_S
    if youngest_s < said["min_days"] * DAY_S and not forced:
        log.find("erasure-early", name)


def _is_whole(said: dict[str, Any]) -> bool:
    asked = ("class", "count", "from", "to", "policy", "min_days", "interval_hours")
    return said.get("form", 1) == 2 and all(each in said for each in asked)


def _fits(log: Log, said: dict[str, Any]) -> bool:
    """Whether a receipt agrees with itself, and with the log that it is about."""
    carried = said["rule"] == "receipt-carried-over"
    timely = said["from"] <= said["to"] and (carried or said["to"] <= said["at"])
    counted = said["count"] == said["last"] - said["first"] + 1
    within = said["last"] < said.get("size", 0) <= log.size
    if not timely or not counted or not within or said["class"] != log.origin.rpartition("/")[2]:
        return False
    root = root_at(log, said["size"])
    return root is None or root.hex() == said.get("root", "")


def root_at(log: Log, size: int) -> bytes | None:
    """The root over the first `size` entries, out of the tiles; None when one of them is gone."""
    tree = Peaks()
    for level in range(8, -1, -1):
        number, width = divmod(size >> 8 * level, 256)
        if not width:
            continue
        there = min(256, (log.size >> 8 * level) - 256 * number)
        tile = log.read(path_of(str(level), number, there), TILE_MAX)
        if tile is None or len(tile) < 32 * width:
            return None
        for at in range(0, 32 * width, 32):
            tree.add(256**level, tile[at : at + 32])
    return tree.root()


def _out_of_order(log: Log, about: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """Receipts that call a range older than what stands before it, or newer than what follows."""
    whole = [(said["first"], said["last"], name, said) for name, said in about if _is_whole(said)]
    ended = sorted(whole, key=lambda each: each[1])
    found, floor, passed = [], 0.0, 0
    for first, last, name, said in sorted(whole, key=lambda each: each[:2]):
        while passed < len(ended) and ended[passed][1] < first:
            floor = max(floor, _seconds(ended[passed][3]["to"]))
            passed += 1
        before = log.times.get(first // 256 - 1, ("", ""))[1] if first % 256 == 0 else ""
        after = log.times.get((last + 1) // 256, ("", ""))[0] if (last + 1) % 256 == 0 else ""
        earliest = max(floor, _seconds(before)) if before else floor
        old = _seconds(said["to"]) < earliest - SLACK_S
        if old or (after and _seconds(said["from"]) > _seconds(after) + SLACK_S):
            found.append(name)
    return found


def _erased_under_hold(log: Log, holds: list[dict[str, Any]]) -> list[str]:
    """Receipts for copies of a hold that are older than its end: its release or its expiry."""
    ends: dict[str, float] = {}
    for said in holds:
        end = _seconds(said["expires_at"] if said["type"] == "hold-placed" else said["at"])
        ends[said["hold"]] = min(end, ends.get(said["hold"], end))
    placed = {said["hold"] for said in holds if said["type"] == "hold-placed"}
    return [
        name
        for name, said in log.receipts
        if said["log"] == "hold"
        and said.get("item") in placed
        and _seconds(said["at"]) < ends[said["item"]]
    ]


def _age_s(then: str, now: str) -> float:
    return _seconds(now) - _seconds(then)


def _seconds(text: str) -> float:
    """A time as records hold it, as seconds since the year 1."""
    hour, minute, second = int(text[11:13]), int(text[14:16]), int(text[17:19])
    whole = date.fromisoformat(text[:10]).toordinal() * DAY_S
    return whole + 3600 * hour + 60 * minute + second + int(text[20:26]) / 1_000_000


def _judge_range(log: Log, since: str, until: str) -> None:
    """The bundles at both ends show that nothing between them was left out of the asked time."""
    if not log.count:
        return
    end = log.first + log.count
    begun = log.times.get(log.first // 256)
    ended = log.times.get((end - 1) // 256)
    late = bool(log.first) and begun is not None and (not since or begun[0] >= since)
    early = end < log.size and ended is not None and (not until or ended[1] < until)
    if late or early:
        log.find("range-short", f"{log.origin}#{log.first} to #{end - 1}")


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined


# --- the export ------------------------------------------------------------------------------


@dataclass
class Export:
    """A whole export. `unknown` says why there is no verdict, although nothing was found."""

    folder: Path
    logs: list[Log] = field(default_factory=list)
    findings: list[tuple[str, str]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    said: dict[str, Any] = field(default_factory=dict)
    pin: str = ""

    @property
    def exit_code(self) -> int:
        if self.findings or any(log.findings for log in self.logs):
            return FINDING
        open_gaps = any(log.open_gaps or log.key is None for log in self.logs)
        return UNDETERMINED if self.unknown or open_gaps or not self.logs else SOUND


def verify(
    folder: Path,
    pin: str,
    vkeys: list[Key],
    kept: list[bytes],
    witnesses: Iterable[Witness] = (),
) -> Export:
    """Verify an export; `kept` are checkpoints that the auditor kept from an earlier time.

    Raises:
        OSError: something is there and cannot be read, so nothing can be said.
    """
    export = Export(folder)
    raw = read_file(folder, "manifest.json", MANIFEST_MAX)
    if raw is None:
        export.unknown.append("there is no manifest.json: this is no export, or a part of one")
        return export
    try:
        export.said = _manifest(raw)
    except (ValueError, KeyError, TypeError, AttributeError):
        export.findings.append(("manifest-damaged", "manifest.json"))
        return export
    files = _files(export)
    keys = _keys(export, files.get("keys.txt", b""), pin, vkeys)
    schema = _schema(export, files)
    if schema is None:
        return export
    notes = [*kept, *(files[path] for path in sorted(files) if path.startswith("kept/"))]
    export.logs = _logs(folder, export.said, keys)
    _prove_manifest(export, raw, keys)
    strange = {_claims(note) for note in notes} - {log.origin for log in export.logs}
    export.unknown += [f"a kept checkpoint is of no log here: {each[:80]!r}" for each in strange]
    for log in export.logs:
        if log.key is not None:
            about = [note for note in notes if _claims(note) == log.origin]
            inspect(log, schema, about)
            _witnessed(log, about, witnesses)
    _judge_all(export)
    return export


def _witnessed(log: Log, notes: list[bytes], witnesses: Iterable[Witness]) -> None:
    """Say what each witness signed of a log; the notes are its kept checkpoints."""
    own = log.read("checkpoint", NOTE_MAX) or b""
    for witness in witnesses:
        said = [each for each in map(witness.signed, [*notes, own]) if each is not None]
        if said:
            size, at = max(said)
            when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(min(at, 2**37)))
            log.notes.append(f"{witness.name} signed for {size} entries on {when} UTC")
        else:
            log.notes.append(f"{witness.name} signed nothing of it")


def fingerprint(folder: Path) -> str:
    """What `sha256sum keys.txt` prints: to be told to an auditor on another way."""
    return hashlib.sha256(read_file(folder, "keys.txt", SMALL_MAX) or b"").hexdigest()


def _manifest(raw: bytes) -> dict[str, Any]:
    """The manifest, or a ValueError, KeyError, TypeError or AttributeError."""
    said = json_of(raw)
    times = said["from"], said["to"]
    good = said["kind"] == "sovereign-export" and said["version"] == 1 and bool(said["site"])
    if not good or canonical(said) != raw or not all(not each or is_time(each) for each in times):
        raise ValueError("no manifest of this version")
    for path, digest in said["files"].items():
        if not _PATH.fullmatch(path) or not _HEX.fullmatch(digest):
            raise ValueError("a file that cannot be")
    origins = [log["origin"] for log in said["logs"]]
    if len(set(origins)) != len(origins) or not origins:
        raise ValueError("a log stands twice, or there is none")
    for log in said["logs"]:
        numbers = [log["size"], log["first"], log["count"], *chain(*log["carried"])]
        if not _HEX.fullmatch(log["root"]):
            raise ValueError("a root that cannot be")
        if not _ORIGIN.fullmatch(log["origin"]) or not all(map(is_count, numbers)):
            raise ValueError("a log that cannot be")
        if log["first"] + log["count"] > log["size"] or any(len(p) != 2 for p in log["carried"]):
            raise ValueError("more records than there are")
    return dict(said)


def _files(export: Export) -> dict[str, bytes]:
    """Every file that the manifest names, compared with what it says."""
    found = {}
    for path, digest in export.said["files"].items():
        content = read_file(export.folder, path, SMALL_MAX)
        if content is None:
            export.findings.append(("file-missing", path))
        elif hashlib.sha256(content).hexdigest() != digest:
            export.findings.append(("file-differs", path))
        elif path.startswith("policies/") and path != f"policies/{digest}.json":
            export.findings.append(("file-differs", path))  # a policy is called by its digest
        else:
            found[path] = content
    return found


def _keys(export: Export, raw: bytes, pin: str, vkeys: list[Key]) -> dict[str, Key]:
    """The keys to verify under: the given ones, else those in the export when they are pinned."""
    export.pin = fingerprint(export.folder)
    try:
        here = {key.name: key for key in map(key_of, raw.decode().splitlines())}
    except ValueError:
        here = {}
    if vkeys:
        export.unknown += [
            f"no key was given for {log['origin']}"
            for log in export.said["logs"]
            if log["origin"] not in {key.name for key in vkeys}
        ]
        return {key.name: key for key in vkeys}
    if pin and pin != export.pin:
        export.findings.append(("keys-foreign", f"keys.txt is {export.pin}"))
    if not pin:
        export.unknown.append(
            "these keys came with the export, and nobody vouched for them: give --pin or --vkey"
        )
    export.unknown += [
        f"there is no key for {log['origin']}"
        for log in export.said["logs"]
        if log["origin"] not in here
    ]
    return here


def _schema(export: Export, files: dict[str, bytes]) -> Schema | None:
    try:
        return Schema(json_of(files["schema.json"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        if not export.findings:
            export.findings.append(("file-missing", "schema.json"))
        return None


def _logs(folder: Path, said: dict[str, Any], keys: dict[str, Key]) -> list[Log]:
    return [
        Log(
            origin=each["origin"],
            size=each["size"],
            root=str(each["root"]),
            first=each["first"],
            count=each["count"],
            carried=[(first, last) for first, last in each["carried"]],
            folder=folder,
            key=keys.get(each["origin"]),
        )
        for each in said["logs"]
    ]


def _prove_manifest(export: Export, manifest: bytes, keys: dict[str, Key]) -> None:
    """The record in the operator's log that names this manifest, proved under its pinned key."""
    origin = f"{export.said['site']}/{OPERATOR}"
    key = keys.get(origin)
    if key is None:
        export.unknown.append(f"no key for {origin}, so nothing vouches for the manifest")
        return
    log = Log(origin, 0, "", 0, 0, [], export.folder)
    newest = handovers(log, key)[0][-1]
    try:
        proof = proof_of(read_file(export.folder, "manifest.proof", PROOF_MAX) or b"")
        said = json_of(proof.entry)
        named = said["type"] == "log-exported" and said["manifest"]
    except (ValueError, KeyError, TypeError):
        export.findings.append(("manifest-unproven", "manifest.proof"))
        return
    signed = open_checkpoint(proof.note, newest)
    holds = signed is not None and signed.origin == origin and proof.holds_in(signed)
    if not holds or named != hashlib.sha256(manifest).hexdigest():
        export.findings.append(("manifest-unproven", "manifest.proof"))


def _claims(note: bytes) -> str:
    """The origin that a checkpoint names, believed by nobody."""
    return note.partition(b"\n")[0].decode(errors="replace")


def _judge_all(export: Export) -> None:
    """Receipts count when they stand in the one log that may hold them, and it is sound."""
    times = export.said["from"], export.said["to"]
    erasers = {log.origin: log for log in export.logs if log.origin.endswith("/" + ERASER)}
    holds = {log.origin: log.holds for log in export.logs if log.origin.endswith("/" + PLACER)}
    for log in erasers.values():
        judge(log, log.receipts, times)
        site = log.origin[: -len(ERASER)]
        for name in _erased_under_hold(log, holds.get(site + PLACER, [])):
            log.find("erased-under-hold", name)
    for log in export.logs:
        if log.origin in erasers:
            continue
        site = log.origin.rsplit("/", 2)[0]
        giver = erasers.get(f"{site}/{ERASER}")
        intact = giver is not None and giver.is_intact
        judge(log, giver.receipts if giver is not None and intact else None, times)


# --- what is said ----------------------------------------------------------------------------


def told(export: Export) -> dict[str, Any]:
    """The verdict as one JSON document."""
    states = {SOUND: "sound", FINDING: "finding", UNDETERMINED: "not determined"}
    return {
        "state": states[export.exit_code],
        "keys": export.pin,
        "from": export.said.get("from", ""),
        "to": export.said.get("to", ""),
        "findings": [_finding(*each) for each in export.findings],
        "unknown": export.unknown,
        "logs": [
            {
                "origin": log.origin,
                "size": log.size,
                "here": sum(last - first + 1 for first, last in log.present),
                "erased": log.erased,
                "not_in_this_export": log.left_out,
                "findings": [_finding(*each) for each in log.findings],
                "open_gaps": log.open_gaps,
                "notes": log.notes,
            }
            for log in export.logs
        ],
    }


def _finding(code: str, where: str) -> dict[str, str]:
    return {"code": code, "where": where, "says": FINDINGS[code]}


def lines(said: dict[str, Any]) -> list[str]:
    """The same for a person."""
    shown = []
    for log in said["logs"]:
        counts = (
            f"{log['here']} of {log['size']} records here, {log['erased']} erased with a receipt"
        )
        shown.append(f"{log['origin']}: {counts}, {log['not_in_this_export']} not in this export")
        shown += [f"  {note}" for note in log["notes"]]
        shown += [f"  {gap} are gone, and nobody here can say why" for gap in log["open_gaps"]]
        shown += [f"  {f['code']} at {f['where']}: {f['says']}" for f in log["findings"]]
    shown += [f"{f['code']} at {f['where']}: {f['says']}" for f in said["findings"]]
    shown += [f"not determined: {each}" for each in said["unknown"]]
    shown.append(f"keys.txt: sha256 {said['keys']}")
    return [*shown, said["state"]]


def main(arguments: list[str]) -> int:
    """Read the arguments, verify, print; the exit code."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    here = Path(__file__).resolve().parent
    parser.add_argument("folder", nargs="?", type=Path, default=here, help="the export")
    parser.add_argument("--pin", default="", help="SHA-256 of keys.txt, as you were told it")
    parser.add_argument("--vkey", action="append", default=[], help="a key, or a file of keys")
    parser.add_argument("--checkpoint", action="append", default=[], type=Path, help="kept earlier")
    parser.add_argument("--witness", action="append", default=[], help="key of a witness")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    try:
        vkeys = [key for text in given.vkey for key in keys_of(text)]
        kept = [path.read_bytes() for path in given.checkpoint]
        witnesses = [witness_of(text) for text in given.witness]
    except (OSError, ValueError):
        sys.stderr.write("bad-input: a key is none, or a file cannot be read\n")
        return ASKED_WRONGLY
    try:
        export = verify(
            given.folder, given.pin.removeprefix("sha256:").lower(), vkeys, kept, witnesses
        )
    except (OSError, MemoryError, RecursionError) as error:
        sys.stderr.write(f"not determined: {type(error).__name__}\n")
        return UNDETERMINED
    said = told(export)
    shown = json.dumps(said, indent=2) if given.json else "\n".join(lines(said))
    sys.stdout.write(shown.encode("ascii", "backslashreplace").decode() + "\n")
    return export.exit_code


def keys_of(text: str) -> list[Key]:
    """A key, or those in a file, one a line.

    Raises:
        OSError, ValueError: it is neither.
    """
    path = Path(text)
    is_file = len(text) < 4096 and path.is_file()
    return [key_of(line) for line in (path.read_text() if is_file else text).splitlines() if line]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
