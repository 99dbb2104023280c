"""Fetch wheels by hash, and pack them into the archive that a host installs from.

Fetched once for each state of the locks, packed once for each name, both kept in the cache. What
is packed is named by what is in it, so a name never means two things.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sovereign.engines.installed import cache_folder
from sovereign.errors import Unavailable

DEBIAN_PYTHON = "3.11"
"""The Python of Debian 12, which is what a host runs whatever this machine runs."""
DEBIAN_GLIBC_MINOR = 36
PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in range(DEBIAN_GLIBC_MINOR, 4, -1)),
    *(f"manylinux{year}_x86_64" for year in ("2014", "2010", "1")),
)
"""What runs on Debian 12 (glibc 2.36)."""
FETCH_TAKES_AT_MOST_S = 1800
KEPT_ARCHIVES = 4
"""The newest ones; a host does not need the archive of what it already runs."""
FIXED_TIME = 315_532_800
"""1980-01-01, the oldest time a zip can hold: a wheel's hash must not depend on the clock."""


@dataclass(frozen=True, slots=True)
class Content:
    """What goes into an archive: the wheels the locks name, and wheels made here."""

    folder: Path
    locks: list[Path]
    made: list[Path]


def archive(name: str, content: Callable[[Path], Content]) -> Path:
    """Return the archive `NAME.tar`, made now if it is not in the cache.

    Args:
        content: gathers what goes in; it may make wheels in the folder it is given.

    Raises:
        Unavailable: a wheel could not be fetched, or is not what the lock says.
    """
    place = cache_folder(os.environ) / "releases" / f"{name}.tar"
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.is_file():
            with tempfile.TemporaryDirectory() as workshop:
                _pack(content(Path(workshop)), Path(workshop), place)
            _forget_old(place.parent)
    return place


def _pack(content: Content, workshop: Path, place: Path) -> None:
    requirements = workshop / "requirements.txt"
    pins = "".join(lock.read_text() for lock in content.locks)
    requirements.write_text("\n".join([pins, *map(pinned, content.made), ""]))
    unfinished = place.with_suffix(".unfinished")
    with tarfile.open(unfinished, "w") as packed:
        packed.add(requirements, "requirements.txt")
        for wheel in sorted([*content.folder.glob("*.whl"), *content.made]):
            packed.add(wheel, f"wheels/{wheel.name}")
    unfinished.rename(place)


def _forget_old(folder: Path) -> None:
    newest_first = sorted(folder.glob("*.tar"), key=lambda path: -path.stat().st_mtime)
    for old in newest_first[KEPT_ARCHIVES:]:
        old.unlink()


def pinned(wheel: Path) -> str:
    """The line of a requirements file that accepts this wheel and no other."""
    name, version = wheel.name.split("-")[:2]
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"


def fetched(locks: list[Path]) -> Path:
    """The folder of wheels that the locks name, fetched once for each state of the locks.

    Raises:
        Unavailable: a wheel could not be fetched, or is not what its lock says.
    """
    digest = hashlib.sha256(b"".join(lock.read_bytes() for lock in locks)).hexdigest()[:16]
    place = cache_folder(os.environ) / f"wheels-{digest}"
    if not place.is_dir():
        unfinished = place.with_name(f".{place.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        for lock in locks:
            _fetch(lock, unfinished)
        unfinished.rename(place)
    return place


def _fetch(lock: Path, folder: Path) -> None:
    platforms = (word for name in PLATFORMS for word in ("--platform", name))
    pip(
        *("download", "--require-hashes", "--no-deps", "--only-binary=:all:"),
        *("--python-version", DEBIAN_PYTHON, "--implementation", "cp", *platforms),
        *("--dest", str(folder), "--requirement", str(lock)),
    )


def pip(*words: str) -> None:
    """Run pip.

    Raises:
        Unavailable: it failed; what it said last is in the message.
    """
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=FETCH_TAKES_AT_MOST_S,
        env={**os.environ, "SOURCE_DATE_EPOCH": str(FIXED_TIME)},
    )
    if done.returncode != 0:
        raise Unavailable(
            f"pip {words[0]} failed", found=_last(done.stderr.splitlines()), next_step="make setup"
        )


def _last(lines: Iterable[str]) -> str:
    return "; ".join([line.strip() for line in lines if line.strip()][-3:])
