"""The machine a figure was measured on, and how busy it was just before.

A figure without its machine means nothing, and a figure from a busy machine means little:
`busy_before` is the share of all cores that somebody else used in the half second before.
"""

import os
import platform
import subprocess
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import sovereign

PACKAGES = ("aiohttp", "cryptography", "httptools", "msgspec", "uvicorn", "uvloop")
"""Whose version moves the figures."""
BUSY_WINDOW_S = 0.5
_UNREAL = ("tmpfs", "ramfs", "zram")


@dataclass(frozen=True, slots=True)
class Machine:
    """Processor, system and the disk under the folder that was written to.

    `disk_is_memory` says that fdatasync cost nothing, so durable figures mean nothing.
    """

    cpu: str
    cores: int
    memory_mb: int
    kernel: str
    python: str
    disk: str
    filesystem: str
    disk_is_memory: bool
    load_1_minute: float
    busy_before: float
    sovereign: str
    packages: dict[str, str]


def look(folder: Path) -> Machine:
    """Describe this machine and the disk that `folder` is on; takes half a second."""
    device, filesystem = _mount(folder.resolve())
    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        memory_mb=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        kernel=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        disk=device,
        filesystem=filesystem,
        disk_is_memory=filesystem in _UNREAL,
        load_1_minute=round(os.getloadavg()[0], 2),
        busy_before=round(_busy(), 2),
        sovereign=sovereign.__version__,
        packages={name: metadata.version(name) for name in PACKAGES},
    )


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _mount(folder: Path) -> tuple[str, str]:
    """Device and kind of the file system with the longest mount point above `folder`."""
    found = (Path("/"), "unknown", "unknown")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        device, point, filesystem = line.split()[:3]
        if folder.is_relative_to(point) and len(point) >= len(str(found[0])):
            found = (Path(point), device, filesystem)
    return found[1], found[2] if found[2] != "unknown" else _kind(folder)


def _kind(folder: Path) -> str:
    """What the kernel says of a file system that no mount point names, as inside a chroot."""
    words = ["stat", "--file-system", "--format=%T", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=10)
    return done.stdout.strip() or "unknown"


def _busy() -> float:
    busy_at_first, all_at_first = _ticks()
    time.sleep(BUSY_WINDOW_S)
    busy, everything = _ticks()
    return (busy - busy_at_first) / max(1, everything - all_at_first)


def _ticks() -> tuple[int, int]:
    """Busy and all ticks of all cores since the machine started (proc(5), /proc/stat)."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)
