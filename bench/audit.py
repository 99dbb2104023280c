"""The audit log beside the raw limit of the same disk, and beside Tessera's checker when built.

    ours     append one record and wait, alone and among 64 callers; append in groups; verify;
             prove; reopen after a kill; start the command line
    disk     the same bytes, written and synced by themselves; the same entries, hashed and written
    tessera  its independent `fsck` over the very log that ours wrote and verified

Single appends of ours and of the bare disk take turns in blocks, so that both meet the same disk.
Afterwards the log verifies, every proof that was timed is checked, and what was acknowledged before
the kill is there after it; else there are no figures.
"""

import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from bench.audit_concurrent import CALLERS, concurrent
from bench.audit_fsck import fsck, timed_fsck
from bench.figures import CheckFailed, Result, Target, milliseconds, ratios
from bench.processes import said, started
from bench.starting import starts
from bench.unfinished import STREAM, WRITER, folder_of, opened
from bench.waiting import Counting, completion
from sovereign import fleet, settings
from sovereign.audit import journal, proof, record, tiles, trail, verify
from sovereign.audit.checkpoint import Checkpoint
from sovereign.audit.log import GROUP_MAX, JOURNAL_MAX_BYTES, QUEUE_MAX, Log, utcnow
from sovereign.audit.merkle import TILE_WIDTH
from sovereign.audit.note import SignerKey, VerifierKey
from sovereign.settings import Home, Settings

BLOCK = 100
"""Single appends in a row, before the bare disk has its turn."""
_SEED = 20261124


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of each. Single appends come in blocks of `BLOCK`; `batch` waits at a time."""

    blocks: int
    grouped: int
    proofs: int
    reopenings: int
    each: int  # of `CALLERS` at once
    starts: int
    batch: int = QUEUE_MAX // 4


FULL = Plan(blocks=30, grouped=500_000, proofs=2_000, reopenings=5, each=300, starts=15)
QUICK = Plan(blocks=4, grouped=20_000, proofs=200, reopenings=1, each=10, starts=2)

TARGETS = (
    Target("ours.append_p50_ms", "at most", 0.4),
    Target("ours.append_p99_ms", "at most", 1),
    Target("ours.concurrent_p50_syncs", "at most", 6),
    Target("ours.concurrent_p99_ms", "at most", 2),
    Target("ours.kept_p99_us", "at most", 50),
    Target("ours.grouped_per_s", "at least", 60_000),
    Target("ours.verified_per_s", "at least", 500_000),
    Target("ours.proof_p50_ms", "at most", 5),
    Target("ours.reopening_max_ms", "at most", 1000),
    Target("ours.version_p50_ms", "at most", 150),
    Target("ours.verify_p50_ms", "at most", 150),
)


def run(folder: Path, *, quick: bool) -> Result:
    """Measure in a folder of its own under `folder`, which names the disk."""
    work = Path(tempfile.mkdtemp(prefix="work-audit-", dir=folder))
    try:
        return _measure(work, QUICK if quick else FULL)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _measure(work: Path, plan: Plan) -> Result:
    home = _prepare(work / "home")
    single_s, synced_s = _singles(home, work / "raw", plan)
    waits = concurrent(home, WRITER, plan.each)
    grouped_per_s = _grouped(home, plan)
    entries, size = _entries(home, plan), _size(home)
    verified_per_s = size / _timed_verification(home)
    proofs_s = _proofs(home, plan)
    reopened_s, journal_bytes = _reopenings(work, plan)
    started_s = starts(work, plan.starts)
    sync_ms = milliseconds(synced_s, 0.50)
    ours = {
        "append_p50_ms": milliseconds(single_s, 0.50),
        "append_p99_ms": milliseconds(single_s, 0.99),
        "concurrent_p50_ms": milliseconds(waits.waited_s, 0.50),
        "concurrent_p99_ms": milliseconds(waits.waited_s, 0.99),
        "concurrent_p50_syncs": milliseconds(waits.waited_s, 0.50) / sync_ms,
        "kept_p50_us": milliseconds(waits.kept_s, 0.50) * 1000,
        "kept_p99_us": milliseconds(waits.kept_s, 0.99) * 1000,
        "grouped_per_s": grouped_per_s,
        "verified_per_s": verified_per_s,
        "proof_p50_ms": milliseconds(proofs_s, 0.50),
        "proof_p99_ms": milliseconds(proofs_s, 0.99),
        "reopening_p50_ms": milliseconds(reopened_s, 0.50),
        "reopening_max_ms": milliseconds(reopened_s, 1),
        "version_p50_ms": milliseconds(started_s["version"], 0.50),
        "verify_p50_ms": milliseconds(started_s["verify"], 0.50),
        "bytes_per_record": _bytes_per_record(home),
    }
    disk = {
        "append_p50_ms": milliseconds(synced_s, 0.50),
        "append_p99_ms": milliseconds(synced_s, 0.99),
        "grouped_per_s": _hashed_and_written(entries, work / "plain"),
        "verified_per_s": _hashed(entries),
    }
    figures: dict[str, Mapping[str, float]] = {"ours": ours, "disk": disk}
    pairs: dict[str, Mapping[str, float]] = {"ours/disk": ratios(ours, disk)}
    notes = {"proofs": f"out of a log of {size} entries, in process; `scale` has ten million"}
    checker = fsck()
    if checker is None:
        notes["tessera"] = "peer not built"
    else:
        figures["tessera"] = {
            "verified_per_s": size / timed_fsck(checker, folder_of(home), _vkey(home), work)
        }
        pairs["ours/tessera"] = ratios(ours, figures["tessera"])
    return Result(
        figures, pairs, TARGETS, _checks(plan, size), _settings(plan, journal_bytes), notes
    )


def _bytes_per_record(home: Home) -> float:
    """Bytes on disk of full bundles and tiles for each record in them."""
    tile = folder_of(home) / "tile"
    full = [path for path in tile.rglob("*") if path.is_file() and ".p/" not in str(path)]
    records = _size(home) // TILE_WIDTH * TILE_WIDTH
    return sum(path.stat().st_size for path in full) / records


def _prepare(root: Path) -> Home:
    root.mkdir(mode=0o700, parents=True)
    (root / settings.FILE_NAME).write_text(settings.render(Settings(site="bench")))
    home = settings.load(root)
    trail.create(home.audit, home.keys, home.trust, WRITER, home.settings.site)
    return home


def _vkey(home: Home) -> VerifierKey:
    return VerifierKey.parse(trail.pin_path(home.trust, WRITER, STREAM).read_text())


def _size(home: Home) -> int:
    member = next(m for m in fleet.members(home) if m.folder == folder_of(home))
    return fleet.size_of(member) or 0


def _singles(home: Home, raw: Path, plan: Plan) -> tuple[list[float], list[float]]:
    """Seconds of single appends, and of writing and syncing a frame of the same length."""
    log = opened(home)
    frame = _frame()
    single_s: list[float] = []
    synced_s: list[float] = []
    fd = os.open(raw, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        for _ in range(plan.blocks):
            single_s += [_append_one(log, number) for number in range(BLOCK)]
            synced_s += [_sync_one(fd, frame) for _ in range(BLOCK)]
    finally:
        os.close(fd)
        log.close()
    return single_s, synced_s


def _frame() -> bytes:
    """What the journal takes for one record: the entry, and a signed checkpoint over it."""
    entry = record.encode("completion", completion(1), utcnow())
    origin = f"bench/{WRITER}/{STREAM}"
    note = Checkpoint(origin, 1000, sha256(entry).digest()).signed(SignerKey.generate(origin))
    return journal.group_frame(1000, tiles.pack([entry]), note)


def _append_one(log: Log, number: int) -> float:
    heard = Counting(1)
    began = time.perf_counter()
    log.append("completion", completion(number), heard)
    heard.wait()
    return time.perf_counter() - began


def _sync_one(fd: int, frame: bytes) -> float:
    began = time.perf_counter()
    os.write(fd, frame)
    os.fdatasync(fd)
    return time.perf_counter() - began


def _grouped(home: Home, plan: Plan) -> float:
    """Durable appends a second, from the first append to the last acknowledgement."""
    log = opened(home)
    try:
        began = time.perf_counter()
        before: Counting | None = None
        for start in range(0, plan.grouped, plan.batch):
            numbers = range(start, min(plan.grouped, start + plan.batch))
            heard = Counting(len(numbers))
            for number in numbers:
                log.append("completion", completion(number), heard)
            if before is not None:
                before.wait()
            before = heard
        if before is not None:
            before.wait()
        return plan.grouped / (time.perf_counter() - began)
    finally:
        log.close()


def _entries(home: Home, plan: Plan) -> list[bytes]:
    """The entries of the log's full bundles, to hash and write them without a log."""
    read = fleet.reader(folder_of(home))
    found: list[bytes] = []
    for index in range(_size(home) // TILE_WIDTH):
        found += tiles.unpack(read(tiles.bundle_path(index)) or b"")
        if len(found) >= plan.grouped:
            break
    return found


def _timed_verification(home: Home) -> float:
    began = time.perf_counter()
    report = verify.verify(fleet.reader(folder_of(home)), _vkey(home))
    seconds = time.perf_counter() - began
    if not report.sound or report.size != _size(home):
        raise CheckFailed(f"the log that was written does not verify: {report.findings}")
    return seconds


def _proofs(home: Home, plan: Plan) -> list[float]:
    """Seconds for each proof; every one of them is checked, outside the time."""
    read, vkey, size = fleet.reader(folder_of(home)), _vkey(home), _size(home)
    chosen = random.Random(_SEED)  # noqa: S311 - which entries are proven is no secret
    taken = []
    for _ in range(plan.proofs):
        index = chosen.randrange(size)
        began = time.perf_counter()
        found = proof.prove(read, vkey, index)
        taken.append(time.perf_counter() - began)
        shown = proof.check(found, vkey)
        if shown is None or shown.index != index:
            raise CheckFailed(f"the proof of entry {index} shows nothing")
    return taken


def _reopenings(work: Path, plan: Plan) -> tuple[list[float], int]:
    """Seconds to open a log whose writer was killed with a full journal, and that journal's size.

    Raises:
        CheckFailed: something that was acknowledged before the kill is not there, or the log did
            not notice the crash.
    """
    taken, journal_bytes = [], 0
    for number in range(plan.reopenings):
        home = _prepare(work / f"killed-{number}")
        acknowledged, journal_bytes = _killed(home, work / "killed.log")
        began = time.perf_counter()
        log = opened(home)
        taken.append(time.perf_counter() - began)
        size = log.size
        log.close()
        member = next(m for m in fleet.members(home) if m.folder == folder_of(home))
        _, last = next(fleet.records(member, size - 1, size))
        if size <= acknowledged or last.get("ended") != "in-a-crash":
            raise CheckFailed(f"{acknowledged} were acknowledged, {size} are there: {last}")
        _timed_verification(home)
    return taken, journal_bytes


def _killed(home: Home, output: Path) -> tuple[int, int]:
    """Let a writer fill its journal and kill it; return what it had acknowledged, and the size."""
    command = [sys.executable, "-m", "bench.unfinished", str(home.root), str(JOURNAL_MAX_BYTES)]
    core = min(os.sched_getaffinity(0))
    with started(command, core=core, output=output) as writer:
        acknowledged, journal_bytes = said(writer, within_s=60).split()
        writer.kill()
        writer.wait()
    return int(acknowledged), int(journal_bytes)


def _hashed_and_written(entries: list[bytes], path: Path) -> float:
    """Entries a second when each is hashed, and each group of them written and synced."""
    began = time.perf_counter()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for start in range(0, len(entries), GROUP_MAX):
            group = entries[start : start + GROUP_MAX]
            for entry in group:
                sha256(b"\x00" + entry).digest()
            os.write(fd, tiles.pack(group))
            os.fdatasync(fd)
    finally:
        os.close(fd)
    return len(entries) / (time.perf_counter() - began)


def _hashed(entries: list[bytes]) -> float:
    """Entries a second when each is hashed and nothing else happens."""
    began = time.perf_counter()
    for entry in entries:
        sha256(b"\x00" + entry).digest()
    return len(entries) / (time.perf_counter() - began)


def _checks(plan: Plan, size: int) -> dict[str, int]:
    return {
        "entries_verified": size,
        "proofs_checked": plan.proofs,
        "kills_without_loss": plan.reopenings,
    }


def _settings(plan: Plan, journal_bytes: int) -> dict[str, float]:
    return {
        "single_appends": plan.blocks * BLOCK,
        "grouped_appends": plan.grouped,
        "callers": CALLERS,
        "concurrent_appends": CALLERS * plan.each,
        "group_max": GROUP_MAX,
        "frame_bytes": len(_frame()),
        "journal_bytes_at_the_kill": journal_bytes,
    }
