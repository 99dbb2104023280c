"""Read from the running host what `judge.py` judges. Read-only, each for itself: what cannot be
read is None, and hinders nothing else.
"""

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path

from sovereign import host
from sovereign.observations import gpus
from sovereign.observations.dumps import could_dump
from sovereign.observations.gpus import Gpus
from sovereign.settings import Home

STA_UNSYNC, TIME_ERROR = 0x40, 5
"""adjtimex(2): nothing disciplines the clock."""
ENCRYPTED = "CRYPT-"
"""What the UUID of a device of dm-crypt begins with."""


@dataclass(frozen=True, slots=True)
class Clock:
    """What the kernel says of its clock; `error_us` is its own bound on how wrong it may be."""

    is_disciplined: bool
    error_us: int


@dataclass(frozen=True, slots=True)
class Swap:
    """Where memory may be written to. `is_safe`: encrypted, or memory itself; None: not known."""

    name: str
    is_safe: bool | None


@dataclass(frozen=True, slots=True)
class Host:
    """Everything. `used_percent` is of the disk of the audit logs, as df counts; `dumps` is why a
    core dump of the engine could be written, "" when it cannot."""

    used_percent: float | None
    clock: Clock | None
    swaps: tuple[Swap, ...] | None
    dumps: str | None
    gpus: Gpus


def look(home: Home) -> Host:
    """Look at this host once. Waits for the GPUs' driver, no longer than `gpus.WITHIN_S`."""
    return Host(
        used_percent(home.audit),
        clock(),
        swaps(),
        engine_dumps(home.settings.engine.listen),
        gpus.look(),
    )


def used_percent(folder: Path) -> float | None:
    """How full the file system of a folder is for those who are not root."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    used = found.f_blocks - found.f_bfree
    of = used + found.f_bavail
    return 100 * used / of if of else None


def clock() -> Clock | None:
    """Ask the kernel, changing nothing."""
    asked = _Timex()
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(asked))
    if state < 0:
        return None
    return Clock(state != TIME_ERROR and not asked.status & STA_UNSYNC, int(asked.maxerror))


class _Timex(ctypes.Structure):
    """struct timex up to what is read, and room for what the kernel writes behind it."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 32),
    )


def swaps(proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> tuple[Swap, ...] | None:
    """Every device and file that the kernel swaps to (/proc/swaps)."""
    try:
        lines = (proc / "swaps").read_text().splitlines()[1:]
    except OSError:
        return None
    return tuple(_swap(line.split(), sys) for line in lines)


def _swap(fields: list[str], sys: Path) -> Swap:
    name, sort = fields[0], fields[1]
    if sort != "partition":
        return Swap(name, None)
    block = sys / "class/block" / Path(name).name
    try:
        if Path(name).name.startswith("zram"):
            return Swap(name, (block / "backing_dev").read_text().strip() == "none")
        uuid = block / "dm/uuid"
        return Swap(name, uuid.exists() and uuid.read_text().startswith(ENCRYPTED))
    except OSError:
        return Swap(name, None)


def engine_dumps(listen: str) -> str | None:
    """Why a core dump of the process behind the engine's port could be written."""
    try:
        pid = host.observe(listen, []).pid
        return None if pid is None else could_dump(pid)
    except (OSError, ValueError, StopIteration):
        return None
