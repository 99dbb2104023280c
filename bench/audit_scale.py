"""How the audit log's reading scales, from a thousand entries to ten million.

One log grows; at each power of ten it is verified, by one process and by as many as there are
cores, proofs are made of records chosen at random, and its newest records are shown. Every figure
is of the same files. Tessera's `fsck`, where it is built, checks them too.

Every verification must find the log sound and every proof must hold, else there are no figures.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

from bench.audit_fsck import fsck, timed_fsck
from bench.audit_growing import Growing
from bench.figures import CheckFailed, Result, Target, milliseconds, ratios
from sovereign import fleet
from sovereign.audit import proof
from sovereign.audit.folder import Folder
from sovereign.audit.log import utcnow
from sovereign.audit.merkle import TILE_WIDTH
from sovereign.audit.note import SignerKey, VerifierKey

ORIGIN = "bench/gateway/event"
FIRST, QUICK, FULL = 1_000, 10_000, 10_000_000
"""Entries at which it is measured first, and last."""
PROOFS, TAILS = 300, 50
TAIL_RECORDS = 10
VERIFIED_WITHIN_S = 600.0


def run(folder: Path, *, quick: bool, entries: int | None = None) -> Result:
    """Measure in a folder of its own under `folder`.

    Args:
        entries: size of the greatest log; a power of ten. About 270 bytes of disk for each.
    """
    work = Path(tempfile.mkdtemp(prefix="work-scale-", dir=folder))
    try:
        return _measure(work, entries or (QUICK if quick else FULL))
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _measure(work: Path, most: int) -> Result:
    key = SignerKey.generate(ORIGIN)
    log = Growing(work / "log", key, utcnow)
    figures: dict[str, Mapping[str, float]] = {}
    pairs: dict[str, Mapping[str, float]] = {}
    built_s, size, proven = 0.0, FIRST, 0
    checker = fsck()
    while size <= most:
        began = time.perf_counter()
        log.grow(size)
        built_s += time.perf_counter() - began
        name = f"1e{len(str(size)) - 1}"
        if checker is not None:
            seconds = timed_fsck(checker, log.folder, key.verifier, work)
            figures[f"tessera {name}"] = {"verified_per_s": size / seconds}
        figures[name] = _of(log, key.verifier)
        proven += PROOFS
        if checker is not None:
            pairs[f"{name}/tessera"] = ratios(figures[name], figures[f"tessera {name}"])
        size *= 10
    last = next(reversed([each for each in figures if " " not in each]))
    notes = {} if checker is not None else {"tessera": "peer not built"}
    return Result(
        figures,
        pairs,
        _targets(last),
        {"entries": log.size, "proofs_checked": proven},
        {"built_s": round(built_s, 1), "processes": len(os.sched_getaffinity(0))},
        notes,
    )


def _targets(last: str) -> tuple[Target, ...]:
    return (
        Target(f"{last}.verified_per_s", "at least", 500_000),
        Target(f"{last}.proof_p50_ms", "at most", 5),
        Target(f"{last}.tail_p50_ms", "at most", 50),
        Target(f"{last}.reopening_ms", "at most", 1000),
    )


def _of(log: Growing, vkey: VerifierKey) -> dict[str, float]:
    alone_s, alone_kb = _verified(log, vkey, processes=1)
    spread_s, spread_kb = _verified(log, vkey, processes=2)
    proofs_s = _proofs(log, vkey)
    tails_s = [_timed(lambda: _tail(log)) for _ in range(TAILS)]
    return {
        "verified_per_s": log.size / spread_s,
        "verified_alone_per_s": log.size / alone_s,
        "memory_mb": max(alone_kb, spread_kb) / 1024,
        "proof_p50_ms": milliseconds(proofs_s, 0.50),
        "proof_p99_ms": milliseconds(proofs_s, 0.99),
        "tail_p50_ms": milliseconds(tails_s, 0.50),
        "reopening_ms": 1000 * _reopened(log),
        "bytes_per_record": _bytes(log) / (log.size // TILE_WIDTH * TILE_WIDTH),
    }


def _verified(log: Growing, vkey: VerifierKey, *, processes: int) -> tuple[float, float]:
    """Seconds, and the peak memory of the greatest process in KB.

    Raises:
        CheckFailed: the log is not sound, or it took too long.
    """
    command = [sys.executable, "-m", "bench.verifying", str(log.folder), str(vkey), str(processes)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=VERIFIED_WITHIN_S, check=False)
    except subprocess.TimeoutExpired:
        raise CheckFailed(f"verifying {log.size} entries took too long") from None
    said = done.stdout.split()
    if done.returncode != 0 or int(said[3]) != log.size:
        raise CheckFailed(f"the log of {log.size} entries does not verify: {done.stderr[-300:]!r}")
    return float(said[0]), max(float(said[1]), float(said[2]))


def _timed(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


def _proofs(log: Growing, vkey: VerifierKey) -> list[float]:
    """Seconds for each proof; every one of them is checked, outside the time."""
    read, taken = Folder(log.folder), []
    for number in range(PROOFS):
        index = int.from_bytes(sha256(b"%d" % number).digest(), "big") % log.size
        began = time.perf_counter()
        found = proof.prove(read, vkey, index)
        taken.append(time.perf_counter() - began)
        shown = proof.check(found, vkey)
        if shown is None or shown.index != index:
            raise CheckFailed(f"the proof of entry {index} shows nothing")
    return taken


def _tail(log: Growing) -> None:
    shown = list(_records(log, log.size - TAIL_RECORDS, log.size))
    if len(shown) != TAIL_RECORDS:
        raise CheckFailed(f"{len(shown)} of the newest {TAIL_RECORDS} records were shown")


def _reopened(log: Growing) -> float:
    """Seconds until it takes records again."""
    began = time.perf_counter()
    target = log.opened()
    seconds = time.perf_counter() - began
    size = target.size
    target.close()
    if size != log.size + 1:
        raise CheckFailed(f"a log of {log.size} entries opened with {size}")
    return seconds


def _records(log: Growing, start: int, end: int) -> list[tuple[int, object]]:
    member = fleet.Member(log.folder, "gateway", "event", log.vkey, log.folder / "none")
    return list(fleet.records(member, start, end))


def _bytes(log: Growing) -> int:
    """Bytes of the full bundles and tiles; partial ones are few and go."""
    tile = log.folder / "tile"
    full = [path for path in tile.rglob("*") if path.is_file() and ".p/" not in str(path)]
    return sum(path.stat().st_size for path in full)
