"""The time series of a Prometheus on this host.

It erases whole blocks by its own flag `--storage.tsdb.retention.time`, so the flag of the process
that runs is judged beside the ages of the blocks. While it runs nothing is erased under its hands;
blocks of one that does not run any more are removed like any folder.

A block is a folder named by a ULID, and its `meta.json` says the times of what is in it.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec

from sovereign.sinks import safely
from sovereign.sinks.folders import Aged, Folders
from sovereign.sinks.safely import Entry

NAME, KEPT = "prometheus", "metrics"
DEFAULT_DAYS = 15
"""What Prometheus keeps when no flag says otherwise (its storage documentation)."""
META_MAX_BYTES = 1 << 20
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_FLAG = "storage.tsdb.retention.time"
_PATH = "storage.tsdb.path"
_DURATION = re.compile(r"([0-9]+)(ms|[smhdwy])")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    """Times of a block, in milliseconds."""

    min_time: int
    max_time: int


@dataclass(frozen=True, slots=True)
class Running:
    """A Prometheus that runs over a folder. `keeps_days` is None where only size bounds it."""

    pid: int
    keeps_days: float | None


def sink(
    root: Path,
    absent: str = "",
    proc: Path = Path("/proc"),
    *,
    name: str = NAME,
    kept: str = KEPT,
) -> Folders:
    """The blocks below a folder of time series."""
    return Folders(
        name,
        kept,
        root,
        judge=_block,
        absent=absent,
        kept_from=partial(_kept_from, root, proc),
        wrong=partial(_wrong, root, proc),
    )


def _block(root: Path, entry: Entry) -> Aged | None:
    """The times in a block.

    Raises:
        OSError: its `meta.json` cannot be read, so nobody knows how old it is.
    """
    if not entry.is_folder:
        return None
    if entry.path in ("wal", "chunks_head"):  # goes with the blocks, or lies there for ever
        newest = max((each.found.st_mtime for each in safely.walked(root, entry.path)), default=0)
        when = datetime.fromtimestamp(newest or entry.found.st_mtime, UTC)
        return Aged(when, when)
    if not _ULID.fullmatch(entry.path):
        return None
    with safely.opened(root, entry.path) as folder:
        raw = safely.beginning(folder, "meta.json", META_MAX_BYTES)
    try:
        said = msgspec.json.decode(raw, type=_Meta)
    except msgspec.MsgspecError:
        raise OSError("a block does not say of when it is") from None
    return Aged(_at(said.min_time), _at(said.max_time))


def _at(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _kept_from(root: Path, proc: Path) -> str:
    """Why nothing may be erased now: a Prometheus runs here. Debian's takes no lock by default.

    KNOWN: one that takes no lock, as a user whose processes this one may not see, is not noticed;
    it loses whole blocks that are past their time, and nothing else.
    """
    if any(running(root, proc)) or _is_locked(root):
        return "Prometheus runs, and erases by its own flag --storage.tsdb.retention.time"
    return ""


def _is_locked(root: Path) -> bool:
    try:
        with safely.opened(root) as folder:
            lock = os.open("lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


def _wrong(root: Path, proc: Path, max_days: int | None) -> tuple[str, ...]:
    """What the flags of the processes over this folder let it keep."""
    return tuple(_faults(root, proc, max_days)) if max_days is not None else ()


def _faults(root: Path, proc: Path, max_days: int) -> Iterator[str]:
    for each in running(root, proc):
        if each.keeps_days is None:
            yield f"--{_FLAG} is 0: process {each.pid} keeps until its disk space is used up"
        elif each.keeps_days > max_days:
            yield f"--{_FLAG} is {each.keeps_days:g} days; the class allows {max_days}"


def running(root: Path, proc: Path) -> Iterator[Running]:
    """Each Prometheus that was started over this folder, as far as this user may see."""
    for entry in proc.iterdir() if proc.is_dir() else ():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                at = Path(flag(words, _PATH) or "data/")
                where = at if at.is_absolute() else (entry / "cwd").readlink() / at
            except OSError:
                continue
            if Path(words[0]).name == "prometheus" and where.resolve() == root.resolve():
                yield Running(int(entry.name), days_of(flag(words, _FLAG)))


def flag(words: list[str], name: str) -> str:
    """The value of a flag, `--name=value` or `--name value`, with one dash or two."""
    for at, word in enumerate(words):
        bare = word.lstrip("-") if word.startswith("-") else ""
        if bare.startswith(f"{name}="):
            return bare.partition("=")[2]
        if bare == name and at + 1 < len(words):
            return words[at + 1]
    return ""


def days_of(duration: str) -> float | None:
    """A duration as Prometheus reads it, in days; None for 0, which is no bound by time."""
    if not duration:
        return DEFAULT_DAYS
    parts = _DURATION.findall(duration)
    total = sum(int(count) * _SECONDS[unit] for count, unit in parts) / 86_400
    return total or None
