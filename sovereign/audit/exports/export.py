"""Put logs into a folder that an auditor takes away, and that verifies where nothing is installed.

`docs/formats/export.md` has every file. A log in it is the log as its checkpoint signs it: all
hash tiles, and the bundles of the time that was asked for. The others are left out, which the
manifest says, so that the verifier can tell "not in this export" from "erased" and from "gone".
Bundles that hold receipts of erasures come along from any time: without them nobody could.

The folder is made beside its place, under another name. `Draft.finish` gives it its name, once
the proof that the manifest was recorded is in it; until then nothing was exported.

Exporting reads what is there and judges nothing: a damaged log is exported as it lies there, for
that is when an auditor is wanted most.
"""

import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from sovereign.audit import record, search, tiles
from sovereign.audit.erasures import Receipt
from sovereign.audit.exports import offline_verifier
from sovereign.audit.exports.export_readme import readme
from sovereign.audit.exports.schema import schema
from sovereign.audit.keys.rotation import HANDOVERS_MAX, path_of
from sovereign.audit.merkle import HASH_BYTES, TILE_WIDTH
from sovereign.audit.note import VerifierKey
from sovereign.audit.scan import read_or_full
from sovereign.audit.search import CLOCK_MARGIN, Source
from sovereign.audit.verify import eraser_of
from sovereign.errors import BadInput

VERSION, KIND = 1, "sovereign-export"
MANIFEST, PROOF, KEYS = "manifest.json", "manifest.proof", "keys.txt"
ERASED_WITHIN_S = 5.0
"""How long a retention run may take from published receipts to deletion."""
POLL_S = 0.1
_RECEIPT = b'"type":"erasure"'
_POLICY = re.compile(rb'"policy":"([0-9a-f]{64})"')


@dataclass(frozen=True, slots=True)
class Part:
    """One log of an export: what its `checkpoint` signs, and the bundles that are taken.

    `first` and `last` are numbers of bundles, the last not included. `kept` are checkpoints that
    were kept of it outside the log, those that witnesses signed among them; `stamped` are time
    stamps and what they are about, by file name.
    """

    source: Source
    vkey: VerifierKey
    root: bytes
    checkpoint: bytes
    kept: tuple[bytes, ...]
    first: int
    last: int
    stamped: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """The name of the log."""
        return self.source.origin

    @property
    def entries(self) -> range:
        """The entries that are taken."""
        end = min(self.last * TILE_WIDTH, self.source.size)
        return range(min(self.first * TILE_WIDTH, end), end)


@dataclass(frozen=True, slots=True)
class Asked:
    """What an export is about. An open end of the time is None."""

    site: str
    since: datetime | None
    until: datetime | None
    reason: str
    policy: str
    made_at: datetime


def bundles_of(source: Source, since: datetime | None, until: datetime | None) -> tuple[int, int]:
    """The bundles to take for a time, the last not included.

    Where the log goes on, the first of them begins before the time and the last one reaches its
    end, so that a verifier sees that nothing in between was left out. Both by more than a clock
    may have been set back.
    """
    first = 0
    if since is not None:
        first = max(0, search.last_begun_before(source, since - CLOCK_MARGIN))
    if until is None:
        return first, source.bundles
    until += CLOCK_MARGIN
    last = search.bundles_until(source, until)
    while last < source.bundles and not search.reaches(source, last - 1, until):
        last += 1
    return min(first, last), last


@dataclass(slots=True)
class Draft:
    """An export that has no name yet."""

    target: Path
    folder: Path
    asked: Asked
    parts: tuple[Part, ...]
    carried: dict[str, list[int]] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    manifest: str = ""
    patience_s: float = ERASED_WITHIN_S

    @classmethod
    def begin(cls, target: Path, asked: Asked, parts: Iterable[Part]) -> "Draft":
        """Make the folder beside `target`; what was left of a try that was cut short goes.

        KNOWN: two exports to one target at the same time spoil each other, and none gets the
        name; give them two targets.

        Raises:
            BadInput: something stands at `target`. Nothing was written.
        """
        if target.is_symlink() or (target.exists() and not target.is_dir()):
            raise BadInput(f"{target} is no folder", accepted="a new or an empty folder")
        if target.is_dir() and any(target.iterdir()):
            raise BadInput(f"{target} is not empty", accepted="a new or an empty folder")
        if not target.absolute().parent.is_dir():
            raise BadInput(f"there is no folder {target.absolute().parent} for {target.name}")
        folder = target.absolute().with_name(f".{target.name}.part")
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(mode=0o700)
        return cls(target.absolute(), folder, asked, tuple(parts))

    def write(self, policies: Mapping[str, bytes]) -> None:
        """Everything but the proof; the log that holds the receipts last, for erasing goes on.

        Args:
            policies: canonical texts by digest; those that no record here names are left out.
        """
        for part in sorted(self.parts, key=lambda p: p.origin == eraser_of(p.origin)):
            self._write_log(part)
        self._drop_erased()
        files = {f"policies/{name}.json": text for name, text in self._policies(policies)}
        files |= {
            "README.md": readme(self.asked.site, [part.origin for part in self.parts]).encode(),
            "verify.py": Path(offline_verifier.__file__).read_bytes(),
            "schema.json": msgspec.json.format(msgspec.json.encode(schema()), indent=1),
            KEYS: "".join(f"{key}\n" for key in sorted(str(p.vkey) for p in self.parts)).encode(),
        }
        for part in self.parts:
            for number, note in enumerate(part.kept, 1):
                files[f"kept/{part.origin}.{number}"] = note
            files |= {f"stamped/{part.origin}/{n}": each for n, each in part.stamped.items()}
        for path, content in files.items():
            self._put(path, content)
        said = self._manifest({p: sha256(content).hexdigest() for p, content in files.items()})
        self.manifest = sha256(said).hexdigest()
        self._put(MANIFEST, said)

    def finish(self, proof: bytes) -> None:
        """Add the proof that the manifest was recorded, make all durable, and give the name."""
        self._put(PROOF, proof)
        for path in sorted(self.folder.rglob("*"), reverse=True):
            _sync(path)
        _sync(self.folder)
        self.folder.replace(self.target)
        _sync(self.target.parent)

    def drop(self) -> None:
        """Leave nothing."""
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- one log ----------------------------------------------------------------------------

    def _write_log(self, part: Part) -> None:
        source, below = part.source, f"logs/{part.origin}"
        self._put(f"{below}/{tiles.CHECKPOINT}", part.checkpoint)
        for number in range(1, HANDOVERS_MAX + 1):
            handover = source.read(path_of(number))
            if handover is None:
                break
            self._put(f"{below}/{path_of(number)}", handover)
        for path, width in _tiles(source.size):
            tile = read_or_full(source.read, path)
            if tile is not None:
                self._put(f"{below}/{path}", tile[: HASH_BYTES * width])
        for number in self._bundles(part):
            path = tiles.bundle_path(number, tiles.width_of(0, number, source.size))
            bundle = _cut(source, path)
            if bundle is not None:
                self._put(f"{below}/{path}", bundle)
                self.named.update(found.decode() for found in _POLICY.findall(bundle))

    def _bundles(self, part: Part) -> Iterator[int]:
        """The bundles that are taken; of the log with the receipts, those that hold some too."""
        yield from range(part.first, part.last)
        if part.origin != eraser_of(part.origin):
            return
        for number in range(part.source.bundles):
            if not part.first <= number < part.last:
                width = tiles.width_of(0, number, part.source.size)
                bundle = read_or_full(part.source.read, tiles.bundle_path(number, width))
                if bundle is not None and _RECEIPT in bundle:
                    self.carried.setdefault(part.origin, []).append(number)
                    yield number

    def _drop_erased(self) -> None:
        """Take out what a retention run erased meanwhile: its receipt is in the export already."""
        deadline = time.monotonic() + self.patience_s
        for receipt in self._receipts():
            for part in self.parts:
                if part.origin == receipt.log:
                    self._drop_one(part, receipt, deadline)

    def _receipts(self) -> list[Receipt]:
        erasers = [part for part in self.parts if part.origin == eraser_of(part.origin)]
        return [r for part in erasers for r in search.receipts(self.written(part))]

    def _drop_one(self, part: Part, receipt: Receipt, deadline: float) -> None:
        first, last = receipt.first // TILE_WIDTH, -(-(receipt.last + 1) // TILE_WIDTH)
        for number in range(first, min(last, part.source.bundles)):
            path = tiles.bundle_path(number, tiles.width_of(0, number, part.source.size))
            own = self.folder / "logs" / part.origin / path
            while own.exists():
                if read_or_full(part.source.read, path) is None:
                    own.unlink()
                elif time.monotonic() > deadline:
                    break  # a receipt without its deletion, which the verifier will find
                else:
                    time.sleep(POLL_S)

    def written(self, part: Part) -> Source:
        """A log as it stands in the draft."""
        below = self.folder / "logs" / part.origin

        def read(path: str) -> bytes | None:
            try:
                return (below / path).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

        return Source(part.origin, part.source.size, read)

    # --- what is said about it --------------------------------------------------------------

    def _policies(self, policies: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
        return ((name, text) for name, text in sorted(policies.items()) if name in self.named)

    def _manifest(self, files: dict[str, str]) -> bytes:
        asked = self.asked
        here = {path[len("policies/") : -len(".json")] for path in files if path.startswith("pol")}
        said = {
            "kind": KIND,
            "version": VERSION,
            "site": asked.site,
            "made_at": record.written(asked.made_at),
            "from": record.written(asked.since) if asked.since else "",
            "to": record.written(asked.until) if asked.until else "",
            "reason": asked.reason,
            "policy": asked.policy,
            "policies_not_here": sorted(self.named - here),
            "logs": [self._said_of(part) for part in self.parts],
            "files": files,
        }
        return msgspec.json.encode(said, order="sorted")

    def _said_of(self, part: Part) -> dict[str, Any]:
        size = part.source.size
        return {
            "origin": part.origin,
            "size": size,
            "root": part.root.hex(),
            "first": part.entries.start,
            "count": len(part.entries),
            "carried": [
                [number * TILE_WIDTH, min((number + 1) * TILE_WIDTH, size) - 1]
                for number in self.carried.get(part.origin, ())
            ],
        }

    def _put(self, path: str, content: bytes) -> None:
        target = self.folder / path
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(content)


def _tiles(size: int) -> Iterator[tuple[str, int]]:
    """Every tile of a log of this size, with its width."""
    for level in range(tiles.levels(size)):
        for index in range(-(-(size >> 8 * level) // TILE_WIDTH)):
            width = tiles.width_of(level, index, size)
            yield tiles.tile_path(level, index, width), width


def _cut(source: Source, path: str) -> bytes | None:
    """A bundle as it was at the source's size; one that cannot be taken apart as it lies there."""
    found = source.read(path)
    full, partial, width = path.partition(".p/")
    if found is not None or not partial:
        return found
    found = source.read(full)
    try:
        return None if found is None else tiles.pack(tiles.unpack(found)[: int(width)])
    except ValueError:
        return found


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
