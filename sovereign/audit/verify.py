"""Verify a log from its files and a public key, trusting nothing of the writer's.

Two steps. `inspect` walks one log: every bundle against its tile, every tile against the
next level, the root against the signed checkpoint, the checkpoint against those an auditor
kept. `judge` then says what the gaps of a set of logs mean: a bundle that is gone is fine when
a receipt says so, and a finding when none does. Only the controller erases, so only receipts in
the `controller/evidence` of the log's own site count, and only while that log is itself sound:
a writer cannot excuse what it took out of its own log. Without that log a gap is an open
question, not a finding.

While a site runs, retention goes on beside verification. It writes receipts, waits until they
are published, and erases then; so the log with the receipts is inspected last.

The public key is an argument and never comes out of the log's folder. Only the pure
arithmetic of the format is shared with the writer (`merkle`, `tiles`, `note`, `checkpoint`
and the table in `record`); an import contract keeps it so.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from sovereign.audit import checkpoint, record, tiles
from sovereign.audit.checkpoint import Checkpoint
from sovereign.audit.merkle import HASH_BYTES, TILE_WIDTH, Tree, leaf_hash
from sovereign.audit.note import VerifierKey
from sovereign.errors import RecordInvalid

Read = Callable[[str], bytes | None]
"""Gives the file at a path below the log's folder, None when there is none."""

FINDINGS: dict[str, str] = {
    "log-gone": "A log that stood here is gone, or the key that was pinned for it is.",
    "checkpoint-missing": "The log has no checkpoint, or one that is no checkpoint.",
    "checkpoint-foreign": "The checkpoint is not signed by the pinned key, or is another log's.",
    "tile-missing": "A hash tile that the checkpoint covers is gone.",
    "tile-differs": "A hash tile is not the one that the entries or tiles below it lead to.",
    "bundle-missing": "Entries are gone, and no receipt says that they were erased.",
    "bundle-damaged": "A bundle cannot be taken apart into its entries.",
    "entry-differs": "An entry is not the one that was hashed into the log.",
    "record-invalid": "An entry is not a record as the table of records says.",
    "root-differs": "The tiles do not lead to the root that was signed.",
    "cut-short": "The log is shorter than a checkpoint that was kept of it.",
    "history-split": "The log and a checkpoint that was kept of it cannot both be true.",
    "kept-unusable": "A checkpoint that was given as kept is not one that the pinned key signed.",
    "erasure-incomplete": "A receipt says that entries are erased, and they are still there.",
}
"""Every finding there is, by its code; `docs/formats/findings.md` is compared with it."""

ERASER = "controller/evidence"
"""The one log of a site that holds receipts: only the controller erases."""
EVERY_FINDING_MAX = 100
"""Findings kept of one log; what is more is counted by nobody, for the log is unsound anyway."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it must be. `where` is a file, an entry or a checkpoint."""

    code: str
    where: str
    says: str

    def __str__(self) -> str:
        return f"{self.code} at {self.where}: {self.says}"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an `erasure` record says: entries `first` to `last` of `log` are erased."""

    log: str
    first: int
    last: int
    record: str

    @property
    def giver(self) -> str:
        """The origin of the log that the receipt stands in."""
        return self.record.rpartition("#")[0]


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of one log. It is sound when there are no findings and no open gaps.

    `erased` counts the entries that are gone with a receipt. `open_gaps` names entries that are
    gone while the log with the receipts was not given, or is not sound: nobody can say.
    """

    origin: str
    size: int
    root: bytes
    findings: tuple[Finding, ...]
    erased: int
    checkpoint: bytes = b""
    open_gaps: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        """True when nothing was found and nothing is open."""
        return not self.findings and not self.open_gaps


@dataclass(slots=True)
class Inspection:
    """One log as it lies there, before its gaps are judged."""

    vkey: VerifierKey
    read: Read
    checkpoint: bytes = b""
    signed: Checkpoint | None = None
    findings: list[Finding] = field(default_factory=list)
    present: list[tuple[int, int]] = field(default_factory=list)
    missing: list[tuple[int, int]] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)

    def find(self, code: str, where: str) -> None:
        """Keep a finding, within the bound."""
        if len(self.findings) < EVERY_FINDING_MAX:
            self.findings.append(Finding(code, where, FINDINGS[code]))


def verify(
    read: Read,
    vkey: VerifierKey,
    *,
    kept: Iterable[bytes] = (),
    receipts: Iterable[Receipt] | None = None,
) -> Report:
    """Verify one log by itself.

    Args:
        kept: checkpoints of this log that the auditor kept from earlier.
        receipts: out of the log `eraser_of` names, after it was found sound; None when it was
            not given. Receipts of any other log do not count.
    """
    return judge(inspect(read, vkey, kept=kept), receipts)


def eraser_of(origin: str) -> str:
    """The origin of the one log whose receipts count for the log called `origin`; "" for none."""
    site, slash, _ = origin.rpartition("/")[0].rpartition("/")
    return f"{site}/{ERASER}" if slash else ""


def judge_all(inspections: Iterable[Inspection]) -> dict[str, Report]:
    """Judge logs that were inspected as a set; the reports by origin."""
    seen = {each.vkey.name: each for each in inspections}
    reports: dict[str, Report] = {}
    for origin in sorted(seen, key=lambda name: name != eraser_of(name)):
        eraser = eraser_of(origin)
        giver = reports.get(eraser)
        receipts = seen[eraser].receipts if giver is not None and giver.sound else None
        reports[origin] = judge(seen[origin], receipts)
    return reports


def inspect(read: Read, vkey: VerifierKey, *, kept: Iterable[bytes] = ()) -> Inspection:
    """Walk a log; what is gone is listed, not judged."""
    seen = Inspection(vkey, read)
    raw = read(tiles.CHECKPOINT)
    if raw is None:
        seen.find("checkpoint-missing", tiles.CHECKPOINT)
        return seen
    signed = checkpoint.read(raw, vkey)
    if signed is None or signed.origin != vkey.name:
        seen.find("checkpoint-foreign", tiles.CHECKPOINT)
        return seen
    seen.checkpoint, seen.signed = raw, signed
    roots = _walk(seen, read, signed, _kept(seen, kept, signed))
    if roots.get(signed.size) != signed.root:
        seen.find("root-differs", tiles.CHECKPOINT)
    return seen


def judge(seen: Inspection, receipts: Iterable[Receipt] | None = None) -> Report:
    """Say what the gaps of one inspected log mean; `receipts` as `verify` takes them."""
    origin, eraser = seen.vkey.name, eraser_of(seen.vkey.name)
    given = seen.receipts if receipts is None and origin == eraser else receipts
    covered = _Ranges(r for r in given or () if r.log == origin and r.giver == eraser)
    found, gaps, erased = list(seen.findings), [], 0
    for first, last in seen.missing:
        where = f"{origin}#{first} to #{last}"
        if covered.holds(first, last):
            erased += last - first + 1
        elif given is None:
            gaps.append(where)
        else:
            found.append(Finding("bundle-missing", where, FINDINGS["bundle-missing"]))
    for first, last in seen.present:
        if not covered.holds(first, last):
            continue
        if _is_there(seen, first, last):
            code, where = "erasure-incomplete", f"{origin}#{first} to #{last}"
            found.append(Finding(code, where, FINDINGS[code]))
        else:  # it went since it was inspected
            erased += last - first + 1
    signed = seen.signed or Checkpoint(origin, 0, b"")
    kept = tuple(found[:EVERY_FINDING_MAX])
    return Report(origin, signed.size, signed.root, kept, erased, seen.checkpoint, tuple(gaps))


def _is_there(seen: Inspection, first: int, last: int) -> bool:
    path = tiles.bundle_path(first // TILE_WIDTH, last - first + 1)
    return read_or_full(seen.read, path) is not None


def _kept(seen: Inspection, kept: Iterable[bytes], signed: Checkpoint) -> list[Checkpoint]:
    """The usable ones of the kept checkpoints; one beyond the log's end is a finding already."""
    usable = []
    for i, note in enumerate(kept):
        old = checkpoint.read(note, seen.vkey)
        if old is None or old.origin != signed.origin:
            seen.find("kept-unusable", f"kept checkpoint {i + 1}")
        elif old.size > signed.size:
            seen.find("cut-short", f"{old.origin}: {signed.size} entries, {old.size} were signed")
        else:
            usable.append(old)
    return usable


def _walk(
    seen: Inspection, read: Read, signed: Checkpoint, kept: list[Checkpoint]
) -> dict[int, bytes]:
    """Check every file below the checkpoint; return the roots at its size and the kept ones."""
    tree, roots = Tree(), {}
    wanted = {signed.size, *(old.size for old in kept)}
    if 0 in wanted:
        roots[0] = tree.root()
    for index in range(-(-signed.size // TILE_WIDTH)):
        for leaf in _leaves(seen, read, index, signed.size):
            tree.append(leaf)
            if tree.size in wanted:
                roots[tree.size] = tree.root()
        for level, position, data in _finished(tree):
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


def _finished(tree: Tree) -> list[tuple[int, int, bytes]]:
    finished, tree.finished = tree.finished, []
    return finished


def _check_tile(seen: Inspection, read: Read, path: str, expected: bytes, level: int) -> None:
    """Level 0 was compared entry by entry already; the levels above are computed here."""
    if level == 0:
        return
    found = _tile(read, path, len(expected))
    if found is None:
        seen.find("tile-missing", path)
    elif found != expected:
        seen.find("tile-differs", path)


def _tile(read: Read, path: str, length: int) -> bytes | None:
    """A tile as it lies there; of a full one in a partial one's place, the part that counts."""
    found = read(path)
    if found is None:
        found = read_or_full(read, path)
        return None if found is None else found[:length]
    return found


def _leaves(seen: Inspection, read: Read, index: int, size: int) -> list[bytes]:
    """The leaf hashes of one bundle, as its tile has them; the bundle is checked against it."""
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
            seen.find("entry-differs", f"{seen.vkey.name}#{first + i}")
        else:
            _read_record(seen, first + i, entry)
    return stored or own


def _entries(seen: Inspection, read: Read, index: int, width: int) -> list[bytes] | None:
    path = tiles.bundle_path(index, width)
    bundle = read_or_full(read, path)
    if bundle is None:
        return None
    try:
        entries = tiles.unpack(bundle)
    except ValueError:
        entries = []
    if len(entries) < width or (len(entries) > width and read(path) is not None):
        seen.find("bundle-damaged", path)
        return None
    return entries[:width]


def read_or_full(read: Read, path: str) -> bytes | None:
    """A file by its name, or the full one that has since taken a partial one's place."""
    found = read(path)
    full, partial, _ = path.partition(".p/")
    return read(full) if found is None and partial else found


def _read_record(seen: Inspection, index: int, entry: bytes) -> None:
    name = f"{seen.vkey.name}#{index}"
    try:
        content = record.parse(entry)
    except RecordInvalid:
        seen.find("record-invalid", name)
        return
    kind, stream = str(content["type"]), seen.vkey.name.rpartition("/")[2]
    if record.RECORD_TYPES[kind].stream not in ("any", stream):
        seen.find("record-invalid", name)
    elif kind == "erasure":
        seen.receipts.append(Receipt(content["log"], content["first"], content["last"], name))


class _Ranges:
    """Which entries the receipts for one log name."""

    def __init__(self, receipts: Iterable[Receipt]) -> None:
        merged: list[tuple[int, int]] = []
        for first, last in sorted((r.first, r.last) for r in receipts):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
            else:
                merged.append((first, last))
        self._ranges = merged

    def holds(self, first: int, last: int) -> bool:
        """True when every entry from `first` to `last` is named."""
        return any(start <= first and last <= end for start, end in self._ranges)
