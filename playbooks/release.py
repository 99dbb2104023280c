"""Build what a host installs: one archive of wheels, each pinned by its hash.

A release is named by what is in it: the source of this checkout and the locked requirements. The
same content gives the same name, so a host that has it is left alone. Hosts ask no package index:
this machine fetches, checks the hashes, and carries the wheels over.
"""

import hashlib
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from playbooks import wheels

ROOT = Path(__file__).resolve().parents[1]
LOCKED = ("requirements/runtime.txt", "requirements/engine-llamacpp.txt")


def build(root: Path = ROOT) -> Path:
    """Return the archive `NAME.tar` of this checkout, made now if it is not in the cache.

    Raises:
        Unavailable: a wheel could not be fetched, or is not what the lock says.
    """
    locks = [root / name for name in LOCKED]
    return wheels.archive(name_of(root), lambda workshop: _content(root, locks, workshop))


def _content(root: Path, locks: list[Path], workshop: Path) -> wheels.Content:
    return wheels.Content(wheels.fetched(locks), locks, [_our_wheel(root, workshop)])


def name_of(root: Path) -> str:
    """The name of a release: a digest over every file that makes it up."""
    return _digest(root, _sources(root))


POLICY_TEXTS = (".yaml", ".cedar", ".cedarschema")
"""What a policy is read from. A schema for editors, or a page, is no part of it."""


def pack_policies(policies: Path, folder: Path) -> Path:
    """Return an archive of a policy folder, made in `folder` and named by what is in it."""
    found = (path for path in policies.rglob("*") if path.suffix in POLICY_TEXTS)
    files = sorted(path for path in found if path.is_file())
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
    wheels.pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(built), str(copy))
    return next(built.glob("sovereign-*.whl"))
