"""The few things a log asks of a disk, and the real disk that does them.

Kept small so that a simulated disk (`tests/simulated/disk.py`) can do them too, and stop at
any of them. Two of them make things durable: `AppendFile.sync` (fdatasync) and `sync` (a
file or a folder). A write without one of these may be gone after a crash. After a failed
sync nothing is known about what is on the disk, so the caller must stop, not try again.
"""

import fcntl
import os
from pathlib import Path
from typing import Protocol

from sovereign.errors import LogLocked, LogMissing


class AppendFile(Protocol):
    """A file that is only added to."""

    def write(self, data: bytes) -> None:
        """Add bytes at the end; they may be lost until `sync` returns."""
        ...

    def sync(self) -> None:
        """Return once everything written is durable."""
        ...

    def close(self) -> None:
        """Give the file back, once or more often; this makes nothing durable."""
        ...


class Disk(Protocol):
    """Paths are relative to the log's folder and use `/`."""

    def read(self, path: str) -> bytes | None:
        """The whole file, None when there is none."""
        ...

    def write(self, path: str, data: bytes) -> None:
        """Make or replace a file, and the folders above it; not durable, not atomic."""
        ...

    def append_to(self, path: str, keep: int) -> AppendFile:
        """Open an existing file to add to it after its first `keep` bytes."""
        ...

    def sync(self, path: str) -> None:
        """Make a file's content, or a folder's list of names, durable."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Put `old` in the place of `new`, in one step; durable once the folder is synced."""
        ...

    def remove(self, path: str) -> None:
        """Take a file, or a folder and the files in it, away if it is there; not durable."""
        ...

    def lock(self) -> None:
        """Be this log's only writer until `unlock`.

        Raises:
            LogLocked: somebody else is.
            LogMissing: there is no such folder.
        """
        ...

    def unlock(self) -> None:
        """Let another writer in."""
        ...


class _RealAppendFile:
    def __init__(self, path: Path, keep: int) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        os.ftruncate(self._fd, keep)
        os.lseek(self._fd, 0, os.SEEK_END)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class RealDisk:
    """The folder `root`. Files are readable by the group, so that others can verify."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock_fd: int | None = None

    def read(self, path: str) -> bytes | None:
        try:
            return (self.root / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, path: str, data: bytes) -> None:
        target = self.root / path
        try:
            target.write_bytes(data)
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)

    def append_to(self, path: str, keep: int) -> AppendFile:
        return _RealAppendFile(self.root / path, keep)

    def sync(self, path: str) -> None:
        fd = os.open(self.root / path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, old: str, new: str) -> None:
        (self.root / old).replace(self.root / new)

    def remove(self, path: str) -> None:
        target = self.root / path
        if not target.is_dir():
            target.unlink(missing_ok=True)
            return
        for each in target.iterdir():
            each.unlink(missing_ok=True)
        target.rmdir()

    def lock(self) -> None:
        try:
            fd = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except FileNotFoundError:
            raise LogMissing(
                f"there is no folder {self.root}", next_step="sovereign audit create, once"
            ) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise LogLocked(
                f"another process is writing the log in {self.root}",
                next_step="stop it, or use another log; two writers never share one",
            ) from None
        self._lock_fd = fd

    def unlock(self) -> None:
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None
