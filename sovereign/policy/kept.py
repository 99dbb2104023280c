"""Keep every version of a site's policy by its digest, and say which one is in force.

A version is a folder that is never changed once it has its name. Which one is in force is one
symbolic link beside them, and putting another in force is one rename of it: whoever looks, at any
moment and after any crash, finds the old version or the new one, whole.

    VERSIONS/DIGEST/         the files of a version
    VERSIONS/DIGEST.before   the version that was in force when this one was put in force
    VERSIONS/texts/DIGEST    what it says in canonical form, for whoever reads old records
    VERSIONS/in-force        the link (or wherever `policies` in the settings says)

Steps of a change, and what a crash leaves behind each: `stage` (a folder nobody reads), `keep`
(one more version), the record (which says what was about to happen), `put_in_force` (the new one).
"""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sovereign.errors import BadInput, PolicyUnreadable, StateUnreadable

FOLDER, LINK, TEXTS, LOCK = "policy-versions", "in-force", "texts", ".lock"
STAGED = ".staged-"
FILES_MAX = 2000
FILE_MAX_BYTES = 4 * 1024 * 1024
_DIGEST = re.compile(r"[0-9a-f]{64}")


def chosen(setting: str, root: Path) -> Path | None:
    """The policy folder of a site: what its settings name, else the version in force; None for
    the one that is shipped.

    A link is followed here, once, so that whoever reads the folder's files reads one version.
    """
    named = Path(setting) if setting else root / FOLDER / LINK
    if not setting and not named.is_symlink():
        return None
    return named.resolve()


def known_texts(setting: str, root: Path) -> dict[str, bytes]:
    """What every policy that was ever in force here says, by digest; as far as it was kept."""
    own = Versions(root / FOLDER, root / FOLDER / LINK).texts()
    linked = setting and Path(setting).is_symlink()
    return {**own, **Versions.of(setting, root).texts()} if linked else own


def remember(root: Path, digest: str, text: bytes) -> None:
    """Keep what a policy says that is no version of its own: one with other exceptions."""
    folder = root / FOLDER / TEXTS
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    written(folder / digest, text)


@dataclass(frozen=True, slots=True)
class Versions:
    """The folder with every version, and the link to the one in force."""

    folder: Path
    link: Path

    @classmethod
    def of(cls, setting: str, root: Path) -> "Versions":
        """Where a site keeps its versions.

        Raises:
            BadInput: the settings name a folder that is edited in place, so nothing can be swapped.
        """
        if not setting:
            return cls(root / FOLDER, root / FOLDER / LINK)
        link = Path(setting)
        if not link.is_symlink():
            raise BadInput(
                f"{link} is a folder that is edited in place: a change of it cannot be undone",
                found=f"policies: {setting}",
                accepted="a link to a version, or no such setting",
                next_step="take `policies` out of sovereign.yaml, then: "
                f"sovereign policy apply {link}",
            )
        return cls(link.resolve().parent, link)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Change versions alone; what an earlier change left half-done is cleared away.

        Raises:
            StateUnreadable: another change is going on.
        """
        self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        with (self.folder / LOCK).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise StateUnreadable(
                    "the policy is being changed by somebody else", next_step="wait, and try again"
                ) from error
            for left in self.folder.glob(f"{STAGED}*"):
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
            yield

    def in_force(self) -> str:
        """The name of the version in force, "" when the shipped policy is."""
        return self.link.readlink().name if self.link.is_symlink() else ""

    def stage(self, source: Path) -> Path:
        """Copy a policy folder to where nobody reads it; the copy is what is judged and kept.

        Raises:
            PolicyUnreadable: it holds what is no plain file, or too much.
        """
        staged = self.folder / f"{STAGED}{os.getpid()}"
        found = [path for path in sorted(source.rglob("*")) if not _is_hidden(path, source)]
        if not source.is_dir() or len(found) > FILES_MAX:
            raise PolicyUnreadable(
                f"{source}: {len(found)} files", accepted=f"a folder of at most {FILES_MAX}"
            )
        staged.mkdir(mode=0o755)
        for path in found:
            _copy(path, staged / path.relative_to(source))
        for folder in (staged, *(path for path in staged.rglob("*") if path.is_dir())):
            _sync(folder)
        return staged

    def keep(self, staged: Path, digest: str, text: bytes) -> None:
        """Give a staged folder its name; one that is kept already is left as it is."""
        (self.folder / TEXTS).mkdir(mode=0o755, exist_ok=True)
        written(self.folder / TEXTS / digest, text)
        if (self.folder / digest).is_dir():
            shutil.rmtree(staged)
        else:
            staged.rename(self.folder / digest)
        _sync(self.folder)

    def put_in_force(self, name: str, before: str = "") -> None:
        """From here on the version of this name is the policy of the site.

        Args:
            before: the version it replaces, to be noted; "" when it is put back in force. The note
                is written first, and a crash after it leaves the old version in force.
        """
        if before:
            written(self.folder / f"{name}.before", before.encode())
        fresh = self.link.with_name(f".{self.link.name}.new")
        fresh.unlink(missing_ok=True)
        beside = self.link.parent == self.folder
        fresh.symlink_to(name if beside else self.folder / name)
        fresh.rename(self.link)
        _sync(self.link.parent)

    def before(self, name: str) -> str:
        """The version that `name` replaced, "" when nothing is known of it."""
        path = self.folder / f"{name}.before"
        found = path.read_text() if path.is_file() else ""
        return found if found and (self.folder / found).is_dir() else ""

    def names(self) -> tuple[str, ...]:
        """Every version kept, by digest."""
        found = (path for path in self.folder.glob("*") if path.is_dir())
        return tuple(sorted(path.name for path in found if _DIGEST.fullmatch(path.name)))

    def texts(self) -> dict[str, bytes]:
        """What every version kept says, in canonical form, by its digest."""
        found = sorted((self.folder / TEXTS).glob("*"))
        return {path.name: path.read_bytes() for path in found if _DIGEST.fullmatch(path.name)}


def _is_hidden(path: Path, source: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(source).parts)


def _copy(path: Path, to: Path) -> None:
    if path.is_symlink() or not (path.is_dir() or path.is_file()):
        raise PolicyUnreadable(f"{path}: neither a file nor a folder", accepted="plain files")
    if path.is_dir():
        to.mkdir(mode=0o755)
        return
    if path.stat().st_size > FILE_MAX_BYTES:
        raise PolicyUnreadable(f"{path}: more than {FILE_MAX_BYTES} bytes")
    written(to, path.read_bytes())


def written(path: Path, content: bytes) -> None:
    """Durable under its name once this returns; never half of it under its name."""
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.chmod(0o644)
    fresh.rename(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
