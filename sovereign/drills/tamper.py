"""`drill tamper`: spoil a copy of the audit logs in every way an adversary would, and verify it.

The logs are copied into a folder of the drill's own; nothing of the site is touched. First the
copy as it is must verify: that is the control. Then it is spoiled in one way after the other,
and each must be a finding. What only somebody with the log's own key can do (write a shorter or
another history and sign it) is done to a log that the drill makes with a key of its own.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sovereign import fleet
from sovereign.audit import tiles, trail
from sovereign.audit.copies.restore import Copy, fetch
from sovereign.audit.merkle import TILE_WIDTH
from sovereign.audit.note import SignerKey, VerifierKey, sign
from sovereign.audit.trail import Trail
from sovereign.audit.verify import eraser_of
from sovereign.drills.note import noted
from sovereign.drills.result import Result, recorded
from sovereign.errors import HistorySplit, TileDamaged, TileMissing
from sovereign.policy import Policy
from sovereign.registry import utcnow
from sovereign.settings import Home

NAME = "tamper"
COPIED_MAX_BYTES = 256 << 20
"""Logs up to this size together are copied, the smallest first; the others are named."""
OWN_CUT, OWN_RECORDS, OTHER_RECORDS = 7, 12, 40
Spoil = Callable[[Path], None]


@dataclass(frozen=True, slots=True)
class Copied:
    """A log in the drill's own folder, and the key it must verify under."""

    origin: str
    folder: Path
    vkey: VerifierKey


Register = Copied | None
"""The copy of the log with the receipts; what is gone without one is missing only beside it."""


def plan(home: Home, _: Policy) -> dict[str, Any]:
    """What a drill would do; nothing is done."""
    taken, left = _chosen(home)
    return {
        "drill": NAME,
        "logs": [member.origin for member in taken],
        "too large to copy": [member.origin for member in left],
        "ways": [*WAYS, *OWN_WAYS],
    }


def drill(home: Home, policy: Policy, say: Callable[[str], None]) -> Result:
    """Spoil copies of the logs and verify each.

    Raises:
        NotDeployed, DrillRunning: nothing was done.
        OSError: a log could not be copied. What was made is removed.
    """
    with noted(home, NAME, policy.digest) as note:
        result = Result(NAME, utcnow())
        folder = note.folder(NAME)
        taken, left = _chosen(home)
        copies = [_copied(member, folder) for member in taken]
        register = next((c for c in copies if c.origin == eraser_of(c.origin)), None)
        rows = []
        for copied in copies:
            say(f"{copied.origin}: {len(WAYS)} ways")
            rows += _each_way(result, copied, register, folder)
        say(f"a log of the drill's own: {len(OWN_WAYS)} ways")
        rows += _own_ways(result, folder)
        if not taken:
            result.unknown.append("no log could be copied")
        result.facts = {"ways": rows, "too large to copy": [member.origin for member in left]}
        return recorded(home, policy.digest, result)


def _chosen(home: Home) -> tuple[list[fleet.Member], list[fleet.Member]]:
    """The logs that are copied, and those that would be too large."""
    sized = [
        (sum(p.stat().st_size for p in m.folder.rglob("*") if p.is_file()), m)
        for m in fleet.members(home)
        if m.vkey is not None and fleet.size_of(m)
    ]
    sized.sort(key=lambda each: each[0])
    taken: list[fleet.Member] = []
    left: list[fleet.Member] = []
    total = 0
    for size, member in sized:
        total += size
        (taken if total <= COPIED_MAX_BYTES else left).append(member)
    return taken, left


def _copied(member: fleet.Member, folder: Path) -> Copied:
    """Copy what the checkpoint covers and no more: what is beyond it may be spoiled unnoticed."""
    assert member.vkey is not None
    target = folder / "copies" / member.writer / member.stream
    fetch(Copy(member.vkey, fleet.reader(member.folder)), target)
    return Copied(member.origin, target, member.vkey)


def _each_way(
    result: Result, log: Copied, register: Register, folder: Path
) -> list[dict[str, str]]:
    sound = _codes(log.folder, log.vkey, [], register)
    result.cases += 1
    if sound:
        result.findings.append(f"{log.origin}: the copy itself does not verify: {', '.join(sound)}")
        return [{"log": log.origin, "way": "as it is", "found": ", ".join(sound)}]
    rows = [{"log": log.origin, "way": "as it is", "found": "nothing, as it should be"}]
    for name, spoil in WAYS.items():
        spoiled = folder / "spoiled"
        shutil.copytree(log.folder, spoiled)
        try:
            spoil(spoiled)
            kept = (log.folder / tiles.CHECKPOINT).read_bytes()
            codes = _codes(spoiled, log.vkey, [kept], register)
        finally:
            shutil.rmtree(spoiled)
        rows.append(_judged(result, log.origin, name, codes))
    return rows


def _judged(result: Result, origin: str, way: str, codes: Sequence[str]) -> dict[str, str]:
    result.cases += 1
    if not codes:
        result.findings.append(f"{origin}: not noticed: {way}")
    return {"log": origin, "way": way, "found": ", ".join(codes) or "NOTHING"}


def _codes(
    folder: Path, vkey: VerifierKey, kept: list[bytes], register: Register = None
) -> list[str]:
    """The codes of what verification finds. What it stops at is one as well."""
    try:
        results = fleet.verify_folders([folder], [vkey], kept)
        if (
            any(each.open_gaps for each in results)
            and register is not None
            and register.vkey != vkey
        ):
            both, keys = [folder, register.folder], [vkey, register.vkey]
            results = fleet.verify_folders(both, keys, kept, part=True)
    except (HistorySplit, TileDamaged, TileMissing) as error:
        return [error.code]
    return sorted({finding.code for each in results for finding in each.findings})


# --- ways to spoil a copy, without its key -----------------------------------------------------


def _last_bundle(folder: Path) -> Path:
    """The bundle at the right edge, which is never erased."""
    there = [path for path in (folder / "tile/entries").rglob("*") if path.is_file()]
    return max(there, key=_position)


def _position(bundle: Path) -> tuple[int, int]:
    inside = bundle.as_posix().rpartition("tile/entries/")[2]
    number, _, width = inside.partition(".p/")
    return int(number.replace("x", "").replace("/", "")), int(width or TILE_WIDTH)


def _repacked(change: Callable[[list[bytes]], list[bytes]]) -> Spoil:
    def spoil(folder: Path) -> None:
        bundle = _last_bundle(folder)
        bundle.write_bytes(tiles.pack(change(tiles.unpack(bundle.read_bytes()))))

    return spoil


def _edited(entries: list[bytes]) -> list[bytes]:
    """Another character in the salt of the last record: still a record, and another one."""
    last = bytearray(entries[-1])
    at = last.index(b'"salt":"') + 8
    last[at] = ord("0") if last[at] != ord("0") else ord("1")
    return [*entries[:-1], bytes(last)]


def _another_hash(folder: Path) -> None:
    tile = max(path for path in (folder / "tile/0").rglob("*") if path.is_file())
    data = tile.read_bytes()
    tile.write_bytes(bytes([data[0] ^ 1]) + data[1:])


def _another_root(folder: Path) -> None:
    """The third line of a checkpoint is the root (C2SP tlog-checkpoint)."""
    origin, size, root, *rest = (folder / tiles.CHECKPOINT).read_bytes().split(b"\n")
    other = (b"B" if root[:1] == b"A" else b"A") + root[1:]
    (folder / tiles.CHECKPOINT).write_bytes(b"\n".join([origin, size, other, *rest]))


def _torn(folder: Path) -> None:
    bundle = _last_bundle(folder)
    bundle.write_bytes(bundle.read_bytes()[:-7])


def _without_tiles(folder: Path) -> None:
    shutil.rmtree(folder / "tile/0")


def _signed_by_another(folder: Path) -> None:
    note = (folder / tiles.CHECKPOINT).read_bytes()
    text = note.partition(b"\n\n")[0].decode() + "\n"
    forger = SignerKey.generate(text.partition("\n")[0])
    (folder / tiles.CHECKPOINT).write_bytes(sign(text, forger))


WAYS: dict[str, Spoil] = {
    "a record is edited": _repacked(_edited),
    "a record is deleted": _repacked(lambda entries: entries[:-1]),
    "a record is there twice": _repacked(lambda entries: [*entries[:-1], entries[-1], entries[-1]]),
    "a record is put in that says nothing": _repacked(lambda e: [*e[:-1], b"{}"]),
    "the newest records are gone": lambda folder: _last_bundle(folder).unlink(),
    "the last record is torn": _torn,
    "a hash is changed": _another_hash,
    "the hashes are gone": _without_tiles,
    "the checkpoint is gone": lambda folder: (folder / tiles.CHECKPOINT).unlink(),
    "the checkpoint is changed": _another_root,
    "the checkpoint is signed by somebody else": _signed_by_another,
}


# --- ways that need the key: to a log of the drill's own ----------------------------------------


def _own_log(root: Path, keys: Path, count: int) -> Path:
    """A log under the drill's own key, with so many records of its own."""
    audit, trust = root / "audit", root / "trust"
    trail.create(audit, keys, trust, "operator", "drill")
    with Trail.open(audit, keys, "operator", "drill", utcnow, streams=("evidence",)) as log:
        for number in range(count):
            log.record("deployment", step="drill", outcome=f"record {number}").result()
    return audit / "operator" / "evidence"


def _own_ways(result: Result, folder: Path) -> list[dict[str, str]]:
    keys, whole = folder / "own-keys", folder / "own"
    log = _own_log(whole, keys, OWN_CUT)
    short = folder / "own-short"
    shutil.copytree(log, short)
    with Trail.open(
        whole / "audit", keys, "operator", "drill", utcnow, streams=("evidence",)
    ) as more:
        for number in range(OWN_RECORDS - OWN_CUT):
            more.record("deployment", step="drill", outcome=f"more {number}").result()
    other = _own_log(folder / "own-other", keys, OTHER_RECORDS)
    vkey = VerifierKey.parse(trail.pin_path(whole / "trust", "operator", "evidence").read_text())
    kept = [(log / tiles.CHECKPOINT).read_bytes()]
    rows = []
    sound = _codes(log, vkey, kept)
    result.cases += 1
    if sound:
        result.findings.append(f"the drill's own log does not verify: {', '.join(sound)}")
    for way, place in zip(OWN_WAYS, (short, other), strict=True):
        rows.append(_judged(result, "the drill's own", way, _codes(place, vkey, kept)))
    return rows


OWN_WAYS = (
    "an older whole log, rightly signed, is put in its place",
    "another history is written and rightly signed",
)
