"""A set in one file, to be carried where no network leads: written here, read there.

    MODEL.sha256        the manifest
    MODEL/FILE          each file, in the order of the manifest

It is a plain tar archive without times, owners or compression, so the same set gives the same
bytes. It is never unpacked: only files that the manifest names are read, at where they stand.
"""

import io
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sovereign.errors import BadInput, WeightsUnfetched, WeightsUnsafe
from sovereign.weights import store
from sovereign.weights.manifest import FILES_MAX, MANIFEST_MAX_BYTES, SUFFIX
from sovereign.weights.sources import CHUNK_BYTES, Opened
from sovereign.weights.store import Stored

ENDING = ".tar"
_HEADERS_MAX_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Stretch:
    """Where a file stands in the archive."""

    start: int
    size: int


@dataclass(frozen=True, slots=True)
class BundleSource:
    """The set in an archive that was carried here."""

    path: Path
    place: str
    pinned: Stretch
    files: dict[str, Stretch]
    label: str = "bundle"

    def manifest(self) -> bytes:
        """The first file of the archive."""
        return b"".join(_stretch(self.path, self.pinned, 0))

    def size(self, name: str) -> int | None:
        """As the archive says."""
        return self._find(name).size

    def open(self, name: str, start: int) -> Opened:
        """Read it in pieces, at where it stands."""
        found = self._find(name)
        return Opened(start, found.size, _stretch(self.path, found, start))

    def _find(self, name: str) -> Stretch:
        if name not in self.files:
            raise WeightsUnfetched(f"{name[:80]} is not in the bundle", found=str(self.path))
        return self.files[name]


def read(path: Path, place: str) -> BundleSource:
    """Look at what stands in an archive, and where; nothing is unpacked.

    Raises:
        WeightsUnsafe: it is no bundle of ours: something in it is no file, or is there twice.
    """
    try:
        with _Careful(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            found = dict(_members(archive))
    except (tarfile.TarError, EOFError, UnicodeError, OverflowError) as error:
        raise _no_bundle(type(error).__name__) from None
    tops = [name for name in found if "/" not in name]
    folder = tops[0].removesuffix(SUFFIX) if len(tops) == 1 else ""
    if not folder or not tops[0].endswith(SUFFIX) or found[tops[0]].size > MANIFEST_MAX_BYTES:
        raise _no_bundle("no manifest, or more than one")
    pinned = found.pop(tops[0])
    if any(not name.startswith(f"{folder}/") for name in found):
        raise _no_bundle("a file beside the set")
    files = {name.removeprefix(f"{folder}/"): where for name, where in found.items()}
    return BundleSource(path, place, pinned, files)


def write(each: Stored, target: Path, told: Callable[[str, int, int | None], None]) -> None:
    """Write a stored set, which is verified first, to `target`: an archive, or else a folder.

    Raises:
        BadInput: something is there already.
        WeightsDiffer: the set is not what was published. Nothing was written.
        WeightsUnfetched: there is no room. Nothing was written.
    """
    if target.exists():
        raise BadInput(f"{target} is there already", accepted="a name that is free")
    whole = store.verify(each)
    raw = "".join(f"{entry.sha256}  {entry.name}\n" for entry in whole.entries).encode()
    free = shutil.disk_usage(target.parent).free
    if each.bytes + len(raw) > free:
        raise WeightsUnfetched(
            "there is no room for the bundle; nothing was written",
            found=f"{free} bytes free",
            accepted=f"{each.bytes + len(raw)} bytes",
        )
    part = target.with_name(f".{target.name}.part")
    names = [entry.name for entry in whole.entries]
    if target.name.endswith(ENDING):
        _archive(each, names, raw, part, told)
    else:
        _folder(each, names, raw, part, told)
    part.rename(target)


def _archive(
    each: Stored,
    names: list[str],
    raw: bytes,
    part: Path,
    told: Callable[[str, int, int | None], None],
) -> None:
    with tarfile.open(part, "w:", format=tarfile.GNU_FORMAT) as archive:
        _add(archive, f"{each.model}{SUFFIX}", len(raw), io.BytesIO(raw))
        for name in names:
            size = (each.path / name).stat().st_size
            with (each.path / name).open("rb") as file:
                _add(archive, f"{each.model}/{name}", size, file)
            told(name, size, size)


def _add(archive: tarfile.TarFile, name: str, size: int, file: BinaryIO) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    archive.addfile(member, file)


def _folder(
    each: Stored,
    names: list[str],
    raw: bytes,
    part: Path,
    told: Callable[[str, int, int | None], None],
) -> None:
    for name in names:
        copy = part / each.model / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(each.path / name, copy)
        told(name, copy.stat().st_size, copy.stat().st_size)
    (part / f"{each.model}{SUFFIX}").write_bytes(raw)


class _Careful(io.FileIO):
    """A file of which no header makes anybody read more than a little at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _HEADERS_MAX_BYTES:
            raise tarfile.ReadError("a header that is too long")
        return super().read(size)


def _members(archive: tarfile.TarFile) -> Iterator[tuple[str, Stretch]]:
    seen = set[str]()
    for count, member in enumerate(archive):
        if not member.isreg() or member.issparse():
            raise _no_bundle("something that is no file")
        if member.name in seen or count > FILES_MAX:
            raise _no_bundle("a file twice, or too many")
        seen.add(member.name)
        yield member.name, Stretch(member.offset_data, member.size)


def _stretch(path: Path, where: Stretch, start: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(where.start + start)
        left = max(0, where.size - start)
        while left and (piece := file.read(min(CHUNK_BYTES, left))):
            left -= len(piece)
            yield piece


def _no_bundle(found: str) -> WeightsUnsafe:
    return WeightsUnsafe(
        "that is no bundle of weights; nothing was read from it",
        found=found,
        accepted="what sovereign weights bundle wrote",
    )
