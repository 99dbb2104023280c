"""Every audit log of a site as a set: where they are, whether they verify, what is in them.

The set is what the pinned keys say, not what a folder happens to hold: a log whose key is
pinned and that is gone is a finding, and a log that nobody pinned is not determined. Each
verification on the machine also remembers the newest checkpoint beside the pinned key, so
that a log cut short since then is noticed here, before an auditor comes with a copy of hers.
"""

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sovereign.audit import checkpoint, record, tiles
from sovereign.audit.merkle import TILE_WIDTH
from sovereign.audit.note import VerifierKey
from sovereign.audit.trail import PIN_SUFFIX
from sovereign.audit.verify import FINDINGS, Finding, Inspection, inspect, judge, read_or_full
from sovereign.settings import Home

KEPT_SUFFIX = ".checkpoint"


@dataclass(frozen=True, slots=True)
class Member:
    """One log of the site. `vkey` is None when no key is pinned for it."""

    folder: Path
    writer: str
    stream: str
    vkey: VerifierKey | None
    kept: Path

    @property
    def origin(self) -> str:
        """Its name, as its pinned key says."""
        return f"{self.writer}/{self.stream}" if self.vkey is None else self.vkey.name


@dataclass(frozen=True, slots=True)
class Result:
    """What verification found. `determined` is False when no key is pinned."""

    origin: str
    folder: Path
    size: int
    erased: int
    findings: tuple[Finding, ...]
    determined: bool = True


def members(home: Home) -> tuple[Member, ...]:
    """Every log that is there or should be, by writer and stream."""
    pins = {path.stem: path for path in home.trust.glob(f"*{PIN_SUFFIX}")}
    there = {
        f"{folder.parent.name}-{folder.name}": folder
        for folder in home.audit.glob("*/*")
        if folder.is_dir()
    }
    found = []
    for name in sorted(pins.keys() | there.keys()):
        writer, _, stream = name.rpartition("-")
        vkey = VerifierKey.parse(pins[name].read_text()) if name in pins else None
        folder = there.get(name, home.audit / writer / stream)
        found.append(Member(folder, writer, stream, vkey, home.trust / f"{name}{KEPT_SUFFIX}"))
    return tuple(found)


def reader(folder: Path) -> Callable[[str], bytes | None]:
    """Read files below a folder; None for what is not there."""

    def read(path: str) -> bytes | None:
        try:
            return (folder / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    return read


def verify(home: Home) -> tuple[Result, ...]:
    """Verify every log against its pinned key, the remembered checkpoints and all receipts.

    Raises:
        OSError: something could not be read, so nothing can be said.
    """
    known = members(home)
    seen = {m.origin: _inspected(m) for m in known if m.vkey is not None and m.folder.is_dir()}
    receipts = [receipt for each in seen.values() if not each.findings for receipt in each.receipts]
    results = []
    for member in known:
        if member.vkey is None:
            results.append(Result(member.origin, member.folder, 0, 0, (), determined=False))
        elif member.origin not in seen:
            gone = Finding("log-gone", str(member.folder), FINDINGS["log-gone"])
            results.append(Result(member.origin, member.folder, 0, 0, (gone,)))
        else:
            report = judge(seen[member.origin], receipts)
            if report.sound:
                _keep(member.kept, report.checkpoint)
            results.append(
                Result(report.origin, member.folder, report.size, report.erased, report.findings)
            )
    return tuple(results)


def _inspected(member: Member) -> Inspection:
    assert member.vkey is not None
    kept = [member.kept.read_bytes()] if member.kept.exists() else []
    return inspect(reader(member.folder), member.vkey, kept=kept)


def _keep(path: Path, note: bytes) -> None:
    """Remember a checkpoint that was found sound; an auditor without write access does not.

    Whole and durable, or not at all: a torn one would be a finding at the next verification.
    """
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with fresh.open("wb") as file:
            file.write(note)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise


def statuses(home: Home) -> list[dict[str, Any]]:
    """What each log says of itself, quickly and without verifying it."""
    return [
        {
            "origin": member.origin,
            "dir": str(member.folder),
            "vkey": None if member.vkey is None else str(member.vkey),
            "size": size_of(member),
        }
        for member in members(home)
    ]


def size_of(member: Member) -> int | None:
    """Entries published so far; None when there is no checkpoint that the pinned key signed."""
    raw = reader(member.folder)(tiles.CHECKPOINT)
    signed = checkpoint.read(raw, member.vkey) if raw and member.vkey else None
    return None if signed is None else signed.size


def records(member: Member, start: int, end: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Index and fields of the records from `start` up to `end`; erased ones are left out."""
    read, size = reader(member.folder), size_of(member) or 0
    for number in range(start // TILE_WIDTH, -(-min(end, size) // TILE_WIDTH)):
        path = tiles.bundle_path(number, tiles.width_of(0, number, size))
        bundle = read_or_full(read, path)
        for offset, entry in enumerate(tiles.unpack(bundle) if bundle else ()):
            index = number * TILE_WIDTH + offset
            if start <= index < min(end, size):
                yield index, record.parse(entry)
