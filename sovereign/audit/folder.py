"""Read the files of a log out of a folder that nobody vouches for.

Whoever hands a log over chooses what lies in its folder: links out of it, pipes on which a
reader waits for ever, devices, files of any length. A `Folder` reads plain files that are below
it and no longer than they can be, and nothing else. In the place of a file whatever is none
reads as empty, and since no file of a log is, verification finds it under that file's name: as
`tile-differs`, `bundle-damaged` or `checkpoint-foreign`.

The folder itself may be named through links; it was the operator who named it.
"""

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from sovereign.audit.merkle import HASH_BYTES, TILE_WIDTH
from sovereign.audit.tiles import CHECKPOINT, ENTRY_MAX_BYTES

CHECKPOINT_MAX_BYTES = 65_536
HANDOVER_MAX_BYTES = 262_144
TILE_MAX_BYTES = TILE_WIDTH * HASH_BYTES
BUNDLE_MAX_BYTES = TILE_WIDTH * (2 + ENTRY_MAX_BYTES)
OTHER_MAX_BYTES = 512 * 1024 * 1024
"""The writer's journal, which no verifier reads: 4,096 entries of the greatest length, twice."""
STRANGE = b""
"""What stands in a file's place and is no file of a log."""

_PASS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_MORE_BYTES = 65_536
"""Read at a time of a file that is longer than it was a moment ago; a great buffer costs."""


@dataclass(frozen=True, slots=True)
class Folder:
    """The files below `root`, by their paths: a `verify.Read` that other processes can have too."""

    root: Path

    def __call__(self, path: str) -> bytes | None:
        """A whole file, `STRANGE` for what is none, None when there is nothing.

        Raises:
            OSError: it is there and cannot be read, so nothing can be said about it.
        """
        names = path.split("/")
        if not all(name.strip(".") for name in names):
            return None  # no file of a log is called so
        try:
            folder = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            for name in names[:-1]:
                inner = _entered(folder, name)
                if isinstance(inner, bytes | None):
                    return inner
                os.close(folder)
                folder = inner
            return _content(folder, names[-1], longest(path))
        finally:
            os.close(folder)


def longest(path: str) -> int:
    """How many bytes the file at a path can have."""
    if path.startswith("tile/entries/"):
        return BUNDLE_MAX_BYTES
    if path.startswith("tile/"):
        return TILE_MAX_BYTES
    if path.startswith("handover/"):
        return HANDOVER_MAX_BYTES
    return CHECKPOINT_MAX_BYTES if path == CHECKPOINT else OTHER_MAX_BYTES


def _entered(folder: int, name: str) -> int | bytes | None:
    """A folder in a folder; what `Folder` returns when there is none."""
    try:
        return os.open(name, _PASS, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        return STRANGE if stat.S_ISLNK(found.st_mode) else None


def _content(folder: int, name: str, longest: int) -> bytes | None:
    """Looked at before it is opened, for opening some devices does something."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            return None
        if not stat.S_ISREG(found.st_mode) or found.st_size > longest:
            return STRANGE
        file = os.open(name, _READ, dir_fd=folder)
    except FileNotFoundError:
        return None
    try:
        return _read(file, found.st_size, longest)
    finally:
        os.close(file)


def _read(file: int, size: int, longest: int) -> bytes:
    """A file that was `size` long a moment ago. A plain one gives less only at its end."""
    content = os.read(file, size + 1)
    if len(content) <= size:
        return content
    while len(content) <= longest:
        more = os.read(file, _MORE_BYTES)
        if not more:
            return content
        content += more
    return STRANGE
