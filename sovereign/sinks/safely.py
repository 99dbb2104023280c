"""Erase below one folder, and never anything else.

Every step goes through descriptors of folders that were opened without following a link: a path
that leads out of the root cannot be named, a link is erased as a link, another file system below
the root is left alone. What is erased is what was listed: device, inode and time of change are
compared right before, and one that differs is refused.

A folder is given another name first, in one step, so that a run that is killed leaves either the
item or something that is called half erased (`REMAINS`), which `settle` ends.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sovereign.sinks.model import CHANGED, NotErased

REMAINS = ".erasing."
DEPTH_MAX = 32
"""Folders below one another; what is deeper is nothing of ours, and is refused."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
Mark = tuple[int, ...]


def mark_of(entry: os.stat_result) -> Mark:
    """What tells a file or folder from another that is put in its place."""
    changed = 0 if stat.S_ISDIR(entry.st_mode) else entry.st_mtime_ns
    return entry.st_dev, entry.st_ino, stat.S_IFMT(entry.st_mode), changed


@dataclass(frozen=True, slots=True)
class Entry:
    """Something in a folder: its path below the root, and what it is."""

    path: str
    found: os.stat_result

    @property
    def mark(self) -> Mark:
        return mark_of(self.found)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.found.st_mode)

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.found.st_mode)


@contextmanager
def opened(root: Path, inside: str = "") -> Iterator[int]:
    """A descriptor of a folder below the root, reached without following any link.

    Raises:
        OSError: it is not there, is a link, or may not be entered.
        NotErased: the path leads out of the root.
    """
    descriptor = os.open(root, _FOLDER)
    try:
        for part in _parts(inside):
            below = os.open(part, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def _parts(inside: str) -> tuple[str, ...]:
    path = PurePosixPath(inside)
    if path.is_absolute() or ".." in path.parts or "\0" in inside:
        raise NotErased("its path leads out of the sink")
    return path.parts


def listed(root: Path, inside: str = "") -> Iterator[Entry]:
    """What stands in one folder, links as links; what goes away meanwhile is left out.

    Raises:
        OSError: the folder cannot be read.
    """
    prefix = f"{inside}/" if inside else ""
    with opened(root, inside) as folder, os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                yield Entry(prefix + entry.name, entry.stat(follow_symlinks=False))


def walked(root: Path, inside: str = "", depth: int = DEPTH_MAX) -> Iterator[Entry]:
    """Everything below a folder that is none, on its own file system; links are not followed.

    Raises:
        OSError: a folder cannot be read, or folders are deeper than `depth`.
    """
    if depth == 0:
        raise OSError(f"folders are more than {DEPTH_MAX} deep")
    device = _device(root, inside)
    for entry in listed(root, inside):
        if not entry.is_folder:
            yield entry
        elif entry.found.st_dev == device:
            yield from walked(root, entry.path, depth - 1)


def _device(root: Path, inside: str) -> int:
    with opened(root, inside) as folder:
        return os.fstat(folder).st_dev


def refusal(root: Path, path: str) -> str:
    """Why something could not be erased, as far as can be told without trying; "" if nothing is."""
    above, _, _ = path.rpartition("/")
    try:
        with opened(root, above) as folder:
            if os.access(".", os.W_OK | os.X_OK, dir_fd=folder, effective_ids=True):
                return ""
            readonly = os.fstatvfs(folder).f_flag & os.ST_RDONLY
            return "the file system is read-only" if readonly else "this user may not erase there"
    except FileNotFoundError:
        return ""
    except OSError as error:
        return error.strerror or type(error).__name__
    except NotErased as error:
        return str(error)


def erase(root: Path, path: str, mark: Mark) -> None:
    """Erase a file, link or folder; what is gone already is fine. Durable after `sync`.

    Raises:
        NotErased: it is not what had this mark.
        OSError: the disk said no.
    """
    above, _, name = path.rpartition("/")
    if not name or name in (".", ".."):
        raise NotErased("its path leads out of the sink")
    try:
        with opened(root, above) as folder:
            _erase_in(folder, name, mark)
    except FileNotFoundError:
        return


def remove(root: Path, path: str) -> None:
    """Remove what stands there now, a file or a folder, under its own name; gone already is fine.

    For what nobody else puts there, and where something that is half gone goes with the next run.
    Durable once its folder is synced.

    Raises:
        NotErased: its path leads out of the root, or another file system stands in it.
        OSError: the disk said no.
    """
    above, _, name = path.rpartition("/")
    with suppress(FileNotFoundError), opened(root, above) as folder:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            _erase_folder(folder, name, found.st_dev, DEPTH_MAX)
        else:
            os.unlink(name, dir_fd=folder)


def _erase_in(folder: int, name: str, mark: Mark) -> None:
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if mark_of(found) != mark:
        raise NotErased(CHANGED)
    if stat.S_ISDIR(found.st_mode):
        gone = f"{REMAINS}{found.st_ino}"
        os.rename(name, gone, src_dir_fd=folder, dst_dir_fd=folder)
        moved = os.stat(gone, dir_fd=folder, follow_symlinks=False)
        if mark_of(moved) != mark:  # swapped between the two: give it its name back
            os.rename(gone, name, src_dir_fd=folder, dst_dir_fd=folder)
            raise NotErased(CHANGED)
        os.fsync(folder)
        _erase_folder(folder, gone, found.st_dev, DEPTH_MAX)
    else:
        os.unlink(name, dir_fd=folder)


def sync(root: Path, inside: str) -> None:
    """Make what was erased in one folder durable; a folder that is gone is fine.

    Raises:
        OSError: the disk said no.
    """
    with suppress(FileNotFoundError), opened(root, inside) as folder:
        os.fsync(folder)


def _erase_folder(above: int, name: str, device: int, depth: int) -> None:
    """Remove a folder with all that is in it, as far as it is on this device."""
    if depth == 0:
        raise NotErased(f"folders are more than {DEPTH_MAX} deep")
    folder = os.open(name, _FOLDER, dir_fd=above)
    try:
        if os.fstat(folder).st_dev != device:
            raise NotErased("another file system stands in it")
        with os.scandir(folder) as entries:
            inside = [(each.name, each.is_dir(follow_symlinks=False)) for each in entries]
        for each, is_folder in inside:
            if is_folder:
                _erase_folder(folder, each, device, depth - 1)
            else:
                os.unlink(each, dir_fd=folder)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=above)


def settle(root: Path, inside: str = "") -> None:
    """Remove what a killed run had given its last name, in this folder; absent is fine.

    Raises:
        OSError: the disk said no.
    """
    try:
        left = [entry for entry in listed(root, inside) if _is_remains(entry)]
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in left:
        erase(root, entry.path, entry.mark)
    if left:
        sync(root, inside)


def _is_remains(entry: Entry) -> bool:
    name = entry.path.rpartition("/")[2]
    return entry.is_folder and name == f"{REMAINS}{entry.found.st_ino}"


def beginning(folder: int, name: str, count: int) -> bytes:
    """The first bytes of a plain file in an open folder; fewer where it is shorter.

    Raises:
        OSError: it is not there, is a link, or may not be read.
    """
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        return os.read(file, count)
    finally:
        os.close(file)
