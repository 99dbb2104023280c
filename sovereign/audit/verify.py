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

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from sovereign.audit import clockwise, erasures, record, tiles, writers
from sovereign.audit.checkpoint import Checkpoint
from sovereign.audit.erasures import HoldEvent, Receipt, Rules
from sovereign.audit.folder import Folder
from sovereign.audit.keys import rotation
from sovereign.audit.keys.rotation import History
from sovereign.audit.merkle import TILE_WIDTH, Tree, fold
from sovereign.audit.note import VerifierKey
from sovereign.audit.scan import Read, Sight, Task, leaves, read_or_full, read_tile, scan
from sovereign.audit.witnesses import witnessed
from sovereign.audit.workers import WORTH_IT, cores, scan_folder

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
    **clockwise.FINDINGS,
    **erasures.FINDINGS,
    **rotation.FINDINGS,
    **writers.FINDINGS,
    **witnessed.FINDINGS,
}
"""Every finding there is, by its code; `docs/formats/findings.md` is compared with it."""

ERASER = "controller/evidence"
"""The one log of a site that holds receipts: only the controller erases."""
PLACER = "operator/evidence"
"""The one log of a site that holds are placed and released in: the command line's."""
EVERY_FINDING_MAX = 100
"""Findings kept of one log; nobody looks for more, for the log is unsound anyway."""
READ_HERE = ("erasure", "hold-placed", "hold-released", rotation.RECORD, *writers.REGISTERED)
"""Types of records that verification itself reads: `_read_record` gets each of them, in order."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it must be. `where` is a file, an entry or a checkpoint."""

    code: str
    where: str
    says: str

    def __str__(self) -> str:
        return f"{self.code} at {self.where}: {self.says}"


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of one log. It is sound when there are no findings and no open gaps.

    `erased` counts the entries that are gone with a receipt. `open_gaps` names entries that are
    gone while the log with the receipts was not given, or is not sound: nobody can say. `notes`
    tell what is no fault, such as a key that was replaced. `withheld`: entries were there and were
    not given, so that hashes and signatures were checked and records were not.
    """

    origin: str
    size: int
    root: bytes
    findings: tuple[Finding, ...]
    erased: int
    checkpoint: bytes = b""
    open_gaps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    withheld: bool = False

    @property
    def sound(self) -> bool:
        """True when nothing was found and nothing is open."""
        return not self.findings and not self.open_gaps

    @property
    def intact(self) -> bool:
        """True when every byte is what was signed, though a rule may have been broken."""
        beside = erasures.OF_RULES | clockwise.FINDINGS.keys()
        looked_at = len(self.findings) < EVERY_FINDING_MAX  # else the walk may have ended early
        return looked_at and not self.open_gaps and all(f.code in beside for f in self.findings)


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
    holds: list[HoldEvent] = field(default_factory=list)
    history: History | None = None
    withheld: bool = False
    rotations: list[tuple[int, str]] = field(default_factory=list)
    registered: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    times: clockwise.Times = field(default_factory=clockwise.Times)

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
    rules: Rules | None = None,
) -> Report:
    """Verify one log by itself.

    Args:
        kept: checkpoints of this log that the auditor kept from earlier.
        receipts: out of the log `eraser_of` names, after it was found sound; None when it was
            not given. Receipts of any other log do not count.
        rules: the policy and the time to judge lateness by; None for no judgement of it.
    """
    return judge(inspect(read, vkey, kept=kept), receipts, rules)


def eraser_of(origin: str) -> str:
    """The origin of the one log whose receipts count for the log called `origin`; "" for none."""
    site, slash, _ = origin.rpartition("/")[0].rpartition("/")
    return f"{site}/{ERASER}" if slash else ""


def placer_of(origin: str) -> str:
    """The origin of the one log whose holds count for the log called `origin`; "" for none."""
    eraser = eraser_of(origin)
    return eraser.removesuffix(ERASER) + PLACER if eraser else ""


def judge_all(inspections: Iterable[Inspection], rules: Rules | None = None) -> dict[str, Report]:
    """Judge logs that were inspected as a set; the reports by origin."""
    seen = {each.vkey.name: each for each in inspections}
    reports: dict[str, Report] = {}
    for origin in sorted(seen, key=lambda name: name != eraser_of(name)):
        eraser = eraser_of(origin)
        giver = reports.get(eraser)
        receipts = seen[eraser].receipts if giver is not None and giver.intact else None
        holds = seen[placer].holds if (placer := placer_of(origin)) in seen else ()
        reports[origin] = judge(seen[origin], receipts, rules, holds)
    return reports


def inspect(read: Read, vkey: VerifierKey, *, kept: Iterable[bytes] = ()) -> Inspection:
    """Walk a log; what is gone is listed, not judged."""
    seen = Inspection(vkey, read)
    seen.history, raw = rotation.follow(read, vkey)
    if seen.history.damaged:
        seen.find("handover-damaged", seen.history.damaged)
    if raw is None:
        seen.find("checkpoint-missing", tiles.CHECKPOINT)
        return seen
    signed = seen.history.read(raw)
    if signed is None:
        retired = seen.history.is_retired(raw)
        seen.find("key-retired" if retired else "checkpoint-foreign", tiles.CHECKPOINT)
        return seen
    seen.checkpoint, seen.signed = raw, signed
    roots = _walk(seen, read, signed, _kept(seen, seen.history, kept, signed))
    if roots.get(signed.size) != signed.root:
        seen.find("root-differs", tiles.CHECKPOINT)
    seen.withheld = bool(getattr(read, "withheld", False))  # as `fetch.Remote` says
    for where in seen.history.lacks(seen.rotations):
        seen.find("handover-missing", where)
    return seen


def judge(
    seen: Inspection,
    receipts: Iterable[Receipt] | None = None,
    rules: Rules | None = None,
    holds: Iterable[HoldEvent] = (),
) -> Report:
    """Say what the gaps of one inspected log mean; `receipts` and `rules` as `verify` takes them.

    Args:
        holds: out of the log `placer_of` names; they say which copies may not be erased yet.
    """
    origin, eraser = seen.vkey.name, eraser_of(seen.vkey.name)
    given = seen.receipts if receipts is None and origin == eraser else receipts
    counting = [r for r in given or () if r.log == origin and r.giver == eraser]
    covered = _Ranges(counting)
    found, gaps, erased = list(seen.findings), [], 0
    for first, last in _joined(seen.missing) if seen.withheld else seen.missing:
        where = f"{origin}#{first} to #{last}"
        if covered.holds(first, last):
            erased += last - first + 1
        elif given is None or seen.withheld:
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
    left = [each for each in seen.present if not covered.holds(*each)]
    for code, where in _by_the_rules(seen, counting, left, rules, holds):
        found.append(Finding(code, where, FINDINGS[code]))
    kept = tuple(found[:EVERY_FINDING_MAX])
    notes = seen.history.says() if seen.history else ()
    return Report(
        origin,
        signed.size,
        signed.root,
        kept,
        erased,
        seen.checkpoint,
        tuple(gaps),
        notes,
        seen.withheld,
    )


def _by_the_rules(
    seen: Inspection,
    receipts: list[Receipt],
    left: list[tuple[int, int]],
    rules: Rules | None,
    holds: Iterable[HoldEvent],
) -> Iterable[erasures.Found]:
    """What is wrong with the receipts about a log, with what is left, and with ended holds.

    A log that is not what was signed is not asked: its tiles and times would be anybody's.
    """
    if seen.findings or seen.signed is None or seen.withheld:
        return
    origin, size = seen.vkey.name, seen.signed.size
    asked = erasures.Asked(seen.read, size, seen.present)
    yield from erasures.judged(origin, size, receipts, asked.root_at, asked.time_of, rules)
    if rules is not None:
        late = erasures.overdue(origin.rpartition("/")[2], left, asked.time_of, rules)
        if late is not None:
            yield "erasure-overdue", f"{origin}#{late[0]} to #{late[1]}"
    if origin == eraser_of(origin):
        yield from erasures.erased_under_hold(seen.receipts, holds)


def _is_there(seen: Inspection, first: int, last: int) -> bool:
    path = tiles.bundle_path(first // TILE_WIDTH, last - first + 1)
    return read_or_full(seen.read, path) is not None


def _kept(
    seen: Inspection, history: History, kept: Iterable[bytes], signed: Checkpoint
) -> list[Checkpoint]:
    """The usable ones of the kept checkpoints; one beyond the log's end is a finding already.

    Those that handed the log over to another key are kept by the log itself.
    """
    usable = []
    for i, note in enumerate([*kept, *(each.note for each in history.handovers)]):
        old = history.read_kept(note)
        if old is None:
            retired = history.is_retired(note)
            seen.find("key-retired" if retired else "kept-unusable", f"kept checkpoint {i + 1}")
        elif old.size > signed.size:
            seen.find("cut-short", f"{old.origin}: {signed.size} entries, {old.size} were signed")
        else:
            usable.append(old)
    return usable


def _walk(
    seen: Inspection, read: Read, signed: Checkpoint, kept: list[Checkpoint]
) -> dict[int, bytes]:
    """Check every file below the checkpoint; return the roots at its size and the kept ones.

    It ends early once as many findings are kept as ever are: a checkpoint may claim more entries
    than anybody could look for.
    """
    tree, roots = Tree(), {}
    wanted = {signed.size, *(old.size for old in kept)}
    if 0 in wanted:
        roots[0] = tree.root()
    with closing(_sights(read, Task(seen.vkey.name, signed.size, READ_HERE))) as sights:
        for sight in sights:
            _note(seen, sight, signed.size)
            for size in _grow(tree, read, sight, signed.size, wanted):
                roots[size] = tree.root()
            for level, position, data in _finished(tree):
                _check_tile(seen, read, tiles.tile_path(level, position), data, level)
            if len(seen.findings) >= EVERY_FINDING_MAX:
                return roots
    for level, hashes in enumerate(tree.edge):
        if hashes:
            position = tree.size >> (8 * (level + 1))
            path = tiles.tile_path(level, position, len(hashes))
            _check_tile(seen, read, path, b"".join(hashes), level)
    for old in kept:
        if roots.get(old.size) != old.root:
            seen.find("history-split", f"{old.origin}: kept checkpoint of {old.size} entries")
    return roots


def _sights(read: Read, task: Task) -> Generator[Sight, None, None]:
    """Every bundle, in order: a long log in a folder is looked at by several processes."""
    if isinstance(read, Folder) and task.bundles >= WORTH_IT:
        return scan_folder(read, task, processes=cores())
    return scan(read, task, 0, task.bundles)


def _note(seen: Inspection, sight: Sight, size: int) -> None:
    """Take over what was seen of one bundle."""
    first = sight.index * TILE_WIDTH
    entries = (first, min(first + TILE_WIDTH, size) - 1)
    (seen.present if sight.there else seen.missing).append(entries)
    for fault in sight.faults:
        seen.find(fault.code, fault.where)
    for told in sight.told:
        _read_record(seen, told.index, told.entry)
    for index in seen.times.steps_back(sight.times):
        seen.find(clockwise.RECORD, f"{seen.vkey.name}#{index}")


def _grow(tree: Tree, read: Read, sight: Sight, size: int, wanted: set[int]) -> Iterator[int]:
    """Add the hashes of a bundle to the tree; give back each size that is wanted on the way."""
    if not sight.node:
        return
    width = tiles.width_of(0, sight.index, size)
    inside = any(tree.size < each < tree.size + width for each in wanted)
    if width == TILE_WIDTH and not inside:
        tree.append_tile(sight.node)
        if tree.size in wanted:
            yield tree.size
        return
    hashes = (
        tiles.split_hashes(sight.node) if width < TILE_WIDTH else leaves(read, sight.index, size)
    )
    if width == TILE_WIDTH and (len(hashes) < width or fold(hashes) != sight.node):
        return  # another tile than a moment ago: the root will differ
    for leaf in hashes:
        tree.append(leaf)
        if tree.size in wanted:
            yield tree.size


def _finished(tree: Tree) -> list[tuple[int, int, bytes]]:
    finished, tree.finished = tree.finished, []
    return finished


def _check_tile(seen: Inspection, read: Read, path: str, expected: bytes, level: int) -> None:
    """Level 0 was compared entry by entry already; the levels above are computed here."""
    if level == 0:
        return
    found = read_tile(read, path, len(expected))
    if found is None:
        seen.find("tile-missing", path)
    elif found != expected:
        seen.find("tile-differs", path)


def _read_record(seen: Inspection, index: int, entry: bytes) -> None:
    """A sound record of one of the types in `READ_HERE`."""
    name, content = f"{seen.vkey.name}#{index}", record.parse(entry)
    if content["type"] == "erasure":
        seen.receipts.append(erasures.receipt_of(content, name))
    elif content["type"] == rotation.RECORD:
        seen.rotations.append((index, str(content["new"])))
    elif content["type"] in writers.REGISTERED:
        seen.registered.append((index, content))
    elif content["type"] in ("hold-placed", "hold-released"):
        seen.holds.append(erasures.hold_event_of(content, name))


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Neighbouring ranges of entries as one."""
    joined: list[tuple[int, int]] = []
    for first, last in ranges:
        follows = bool(joined) and joined[-1][1] + 1 == first
        joined.append((joined.pop()[0] if follows else first, last))
    return joined


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
