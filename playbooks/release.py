"""Build what a host installs: one archive of wheels, each pinned by its hash.

A release is named by what is in it: the source of this checkout and the locked requirements. The
same content gives the same name, so a host that has it is left alone. Hosts ask no package index:
this machine fetches, checks the hashes, and carries the wheels over.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from sovereign.engines.installed import cache_folder
from sovereign.errors import Unavailable

ROOT = Path(__file__).resolve().parents[1]
LOCKED = ("requirements/runtime.txt", "requirements/engine-llamacpp.txt")
DEBIAN_PYTHON = "3.11"
"""The Python of Debian 12, which is what a host runs whatever this machine runs."""
PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in (34, 31, 28, 27, 24, 17, 12, 5)),
    *(f"manylinux{year}_x86_64" for year in ("2014", "2010", "1")),
)
"""What runs on Debian 12 (glibc 2.36); 2_34 is the newest tag below that in use."""
FETCH_TAKES_AT_MOST_S = 1800
KEPT_ARCHIVES = 3
"""The newest ones; a host does not need the archive of what it already runs."""
_FIXED_TIME = 315_532_800
"""1980-01-01, the oldest time a zip can hold: a wheel's hash must not depend on the clock."""


def build(root: Path = ROOT) -> Path:
    """Return the archive `NAME.tar` of this checkout, made now if it is not in the cache.

    Raises:
        Unavailable: a wheel could not be fetched, or is not what the lock says.
    """
    place = cache_folder(os.environ) / "releases" / f"{name_of(root)}.tar"
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.is_file():
            _pack(root, _wheels(root), place)
            _forget_old(place.parent)
    return place


def _forget_old(folder: Path) -> None:
    newest_first = sorted(folder.glob("*.tar"), key=lambda path: -path.stat().st_mtime)
    for archive in newest_first[KEPT_ARCHIVES:]:
        archive.unlink()


def name_of(root: Path) -> str:
    """The name of a release: a digest over every file that makes it up."""
    return _digest(root, _sources(root))


def pack_policies(policies: Path, folder: Path) -> Path:
    """Return an archive of a policy folder, made in `folder` and named by what is in it."""
    files = sorted(path for path in policies.rglob("*.yaml") if path.is_file())
    place = folder / f"{_digest(policies, files)}.tar"
    with tarfile.open(place, "w") as archive:
        for path in files:
            archive.add(path, str(path.relative_to(policies)), filter=_as_roots)
    return place


def _as_roots(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    entry.mode = 0o644
    return entry


def _digest(root: Path, files: Iterable[Path]) -> str:
    """16 hex digits of a SHA-256 over files, their names below `root` included."""
    total = hashlib.sha256()
    for path in files:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(root)} {content}\n".encode())
    return total.hexdigest()[:16]


def _sources(root: Path) -> Iterator[Path]:
    yield from (root / name for name in (*LOCKED, "pyproject.toml"))
    yield from sorted((root / "sovereign").rglob("*.py"))


def _wheels(root: Path) -> Path:
    """The folder of wheels that the locks name, fetched once for each state of the locks."""
    locks = [root / name for name in LOCKED]
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
    _pip(
        *("download", "--require-hashes", "--no-deps", "--only-binary=:all:"),
        *("--python-version", DEBIAN_PYTHON, "--implementation", "cp", *platforms),
        *("--dest", str(folder), "--requirement", str(lock)),
    )


def _pack(root: Path, wheels: Path, place: Path) -> None:
    with tempfile.TemporaryDirectory() as workshop:
        ours = _our_wheel(root, Path(workshop))
        pins = "".join((root / name).read_text() for name in LOCKED)
        requirements = Path(workshop) / "requirements.txt"
        requirements.write_text(f"{pins}\n{_pinned(ours)}\n")
        unfinished = place.with_suffix(".unfinished")
        with tarfile.open(unfinished, "w") as archive:
            archive.add(requirements, "requirements.txt")
            for wheel in sorted([*wheels.glob("*.whl"), ours]):
                archive.add(wheel, f"wheels/{wheel.name}")
        unfinished.rename(place)


def _our_wheel(root: Path, workshop: Path) -> Path:
    """Build the package out of a copy, so that the checkout stays as it is."""
    copy = workshop / "source"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, copy)
    shutil.copytree(
        root / "sovereign", copy / "sovereign", ignore=shutil.ignore_patterns("__pycache__")
    )
    built = workshop / "built"
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(built), str(copy))
    return next(built.glob("sovereign-*.whl"))


def _pinned(wheel: Path) -> str:
    version = wheel.name.split("-")[1]
    return f"sovereign=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"


def _pip(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=FETCH_TAKES_AT_MOST_S,
        env={**os.environ, "SOURCE_DATE_EPOCH": str(_FIXED_TIME)},
    )
    if done.returncode != 0:
        raise Unavailable(
            f"pip {words[0]} failed", found=_last(done.stderr.splitlines()), next_step="make setup"
        )


def _last(lines: Iterable[str]) -> str:
    return "; ".join([line.strip() for line in lines if line.strip()][-3:])
