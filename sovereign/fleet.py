"""Every audit log of a site as a set: where they are, whether they verify, what is in them.

The set is what the pinned keys say, not what a folder happens to hold: a log whose key is
pinned and that is gone is a finding, and a log that nobody pinned is not determined. Each
verification on the machine also remembers the newest checkpoint beside the pinned key, so
that a log cut short since then, or taken away together with its pinned key, is noticed here,
before an auditor comes with a copy of hers.
"""

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sovereign.audit import checkpoint, record, tiles
from sovereign.audit.merkle import TILE_WIDTH
from sovereign.audit.note import VerifierKey
from sovereign.audit.trail import KEPT_SUFFIX, PIN_SUFFIX, kept_path
from sovereign.audit.verify import (
    FINDINGS,
    Finding,
    Inspection,
    Report,
    eraser_of,
    inspect,
    judge_all,
    read_or_full,
)
from sovereign.errors import BadInput
from sovereign.settings import Home

NAME_MAX_CHARS = 256
ERASURE_WITHIN_S = 5.0
"""How long a retention run that goes on may take from receipts that are published to deletion."""
POLL_S = 0.25


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
    """What verification found.

    `determined` is False when no key is pinned, or entries are gone and the log that would
    excuse it is not there or not sound; `open_gaps` names those entries.
    """

    origin: str
    folder: Path
    size: int
    erased: int
    findings: tuple[Finding, ...]
    determined: bool = True
    open_gaps: tuple[str, ...] = ()

    @classmethod
    def of(cls, report: Report, folder: Path) -> "Result":
        """A report with the folder it is about."""
        return cls(
            report.origin,
            folder,
            report.size,
            report.erased,
            report.findings,
            not report.open_gaps,
            report.open_gaps,
        )


def members(home: Home) -> tuple[Member, ...]:
    """Every log that is there or should be, by writer and stream.

    Raises:
        BadInput: a pinned key is none.
    """
    pins = {path.stem: path for path in home.trust.glob(f"*{PIN_SUFFIX}")}
    kept = {path.stem for path in home.trust.glob(f"*{KEPT_SUFFIX}")}
    there = {
        f"{folder.parent.name}-{folder.name}": folder
        for folder in home.audit.glob("*/*")
        if folder.is_dir()
    }
    found = []
    for name in sorted(pins.keys() | there.keys() | kept):
        writer, _, stream = name.rpartition("-")
        vkey = _pinned(pins[name]) if name in pins else None
        folder = there.get(name, home.audit / writer / stream)
        found.append(Member(folder, writer, stream, vkey, kept_path(home.trust, writer, stream)))
    return tuple(found)


def _pinned(pin: Path) -> VerifierKey:
    try:
        return VerifierKey.parse(pin.read_text())
    except UnicodeDecodeError:
        raise BadInput(
            f"{pin} holds no verifier key", accepted="the one line that was pinned"
        ) from None


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
    there = [m for m in known if m.vkey is not None and m.folder.is_dir()]
    there.sort(key=lambda member: member.origin == eraser_of(member.origin))
    seen = [_inspected(member) for member in there]  # receipts last: retention may be running
    reports = _judged(seen)
    return tuple(_result(member, reports) for member in known)


def verify_folders(
    folders: list[Path], keys: list[VerifierKey], kept: list[bytes]
) -> tuple[Result, ...]:
    """Verify logs somebody handed over as a set, each under the given key of its own name.

    A log that claims a name no key was given for is not determined. A single log is verified
    under a single key whatever it claims: then a foreign name is a finding.

    Args:
        kept: checkpoints kept from earlier, of any of these logs.

    Raises:
        BadInput: a kept checkpoint is of a log whose key was not given.
    """
    only = keys[0] if len(keys) == len(folders) == 1 else None
    named = {key.name: key for key in keys}
    for note in kept:
        if only is None and _claimed(note) not in named:
            raise BadInput(f"a kept checkpoint is of {_claimed(note)!r}", accepted=", ".join(named))
    chosen = {
        folder: only or named.get(_claimed(reader(folder)(tiles.CHECKPOINT) or b""))
        for folder in folders
    }
    seen: dict[Path, Inspection] = {}
    for folder, key in chosen.items():
        if key is not None:
            notes = [note for note in kept if only is not None or _claimed(note) == key.name]
            seen[folder] = inspect(reader(folder), key, kept=notes)
    reports = judge_all(seen.values())
    return tuple(
        Result.of(reports[key.name], folder)
        if key is not None
        else Result(_claimed(reader(folder)(tiles.CHECKPOINT) or b""), folder, 0, 0, (), False)
        for folder, key in chosen.items()
    )


def _claimed(note: bytes) -> str:
    """The origin a checkpoint names, believed by nobody."""
    return note.partition(b"\n")[0].decode(errors="replace")[:NAME_MAX_CHARS]


def _judged(seen: list[Inspection]) -> dict[str, Report]:
    """Judge the set; an erasure that is just being carried out is given time to end."""
    deadline = time.monotonic() + ERASURE_WITHIN_S
    while True:
        reports = judge_all(seen)
        codes = {finding.code for report in reports.values() for finding in report.findings}
        if "erasure-incomplete" not in codes or time.monotonic() > deadline:
            return reports
        time.sleep(POLL_S)


def _result(member: Member, reports: dict[str, Report]) -> Result:
    report = reports.get(member.origin)
    if report is not None:
        if report.sound:
            _keep(member, report)
        return Result.of(report, member.folder)
    if member.vkey is None and not member.kept.exists():
        return Result(member.origin, member.folder, 0, 0, (), determined=False)
    gone = Finding("log-gone", str(member.folder), FINDINGS["log-gone"])
    return Result(member.origin, member.folder, 0, 0, (gone,))


def _inspected(member: Member) -> Inspection:
    assert member.vkey is not None
    kept = [member.kept.read_bytes()] if member.kept.exists() else []
    return inspect(reader(member.folder), member.vkey, kept=kept)


def _keep(member: Member, report: Report) -> None:
    """Remember a checkpoint that was found sound; an auditor without write access does not.

    Whole and durable, or not at all: a torn one would be a finding at the next verification.
    Never an older one than stands there: a slow verification may end after a quick one.
    """
    path = member.kept
    fresh = path.with_name(f"{path.name}.new")
    try:
        with path.with_name(".kept.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _kept_size(member) >= report.size:
                return
            with fresh.open("wb") as file:
                file.write(report.checkpoint)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise


def _kept_size(member: Member) -> int:
    raw = member.kept.read_bytes() if member.kept.exists() else b""
    known = checkpoint.read(raw, member.vkey) if raw and member.vkey else None
    return -1 if known is None else known.size


def statuses(home: Home) -> list[dict[str, Any]]:
    """What each log says of itself, quickly and without verifying it."""
    return [
        {
            "origin": member.origin,
            "dir": str(member.folder),
            "vkey": None if member.vkey is None else str(member.vkey),
            "size": size_of(member),
            "checkpoint": _served(member),
        }
        for member in members(home)
    ]


def _served(member: Member) -> str | None:
    """The signed checkpoint as it stands, for somebody to keep."""
    raw = reader(member.folder)(tiles.CHECKPOINT)
    return None if raw is None else raw.decode(errors="replace")


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
