"""Where bytes of weights come from, as `fetch.py` sees it; and the nearest, a folder of ours.

Others stand beside it: `bundle.py` (a file that is carried), `mirror.py` (a web server, a
bucket), `hub.py` (a repository at a pinned commit) and `registry.py` (an OCI registry); which of
them is meant says `choosing.py`. Whoever hands the bytes over is believed for nothing.

What stops in between is an `OSError` or an `HTTPException`: `fetch.py` goes on from where it was.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sovereign.engines import digest
from sovereign.errors import WeightsUnfetched
from sovereign.weights.manifest import MANIFEST_MAX_BYTES, SUFFIX

CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that is being read: `start` is where its bytes begin, which may be before what was
    asked for. `size` is the whole file's; None when nobody says."""

    start: int
    size: int | None
    chunks: Iterator[bytes]


class Source(Protocol):
    """Somewhere with a set of weights in it."""

    @property
    def label(self) -> str:
        """What a record says of it."""

    @property
    def place(self) -> str:
        """The code of the place it is at."""

    def manifest(self) -> bytes:
        """The bytes of the set's manifest, as they are there."""

    def size(self, name: str) -> int | None:
        """How long a file is said to be; None when nobody says."""

    def open(self, name: str, start: int) -> Opened:
        """The bytes of a file from `start` on."""


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A folder of this machine: a disk that was carried here. Its manifest lies beside it, or is
    worked out."""

    path: Path
    place: str
    label: str = "folder"

    def manifest(self) -> bytes:
        """The file beside it, else the hashes of what is in it.

        Raises:
            BadInput: there is no such folder, or nothing in it.
        """
        beside = self.path.with_name(f"{self.path.name}{SUFFIX}")
        if beside.is_file():
            with beside.open("rb") as file:
                return file.read(MANIFEST_MAX_BYTES + 1)
        return digest.manifest(self.path).encode()

    def size(self, name: str) -> int | None:
        """As the file system says."""
        return self._file(name).stat().st_size

    def open(self, name: str, start: int) -> Opened:
        """Read it in pieces."""
        path = self._file(name)
        return Opened(start, path.stat().st_size, _pieces(path, start))

    def _file(self, name: str) -> Path:
        path = self.path / name
        if not path.is_file():
            raise WeightsUnfetched(f"{name[:80]} is not in the folder", found=str(self.path))
        return path


def _pieces(path: Path, start: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while piece := file.read(CHUNK_BYTES):
            yield piece
