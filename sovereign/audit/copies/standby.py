"""Hold copies of logs on a second machine: files and proofs, and nothing that could sign.

The standby is sent entries, not files. It hashes them into a tree of its own and takes a
checkpoint only when its own root is the one that was signed, so a fork or a rollback is refused
by arithmetic, and what it holds is always a log that verifies. It has the public keys, given by
hand, and no other.

The life of a round, with what a crash leaves behind at each step:

 1. Entries come; full bundles and tiles are written as they    files beyond the checkpoint,
    come.                                                       which no reader looks at
 2. The note comes. Its signature, its size and its root must   the same; the next round
    be right, or everything since the last note is forgotten.   writes them again
 3. The partial bundle and tiles of its size are written;       the same
    everything new is synced.
 4. The checkpoint is put in place, by rename, and synced.      either checkpoint, whole
    ACKNOWLEDGED.
 5. The partial files of the checkpoint before it go, and what  files that the next round or
    a receipt in it says is erased.                             start removes

Erasing: a receipt in a site's `controller/evidence` erases here what it erased there, whole
bundles alone, hashes never. The receipts are read again at each start, so none is missed.
"""

import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sovereign.audit import record, tiles
from sovereign.audit.checkpoint import Checkpoint
from sovereign.audit.copies.standby_wire import ENTRIES, HANDOVER, HASHES, NOTE, Part, parse
from sovereign.audit.disk import Disk, RealDisk
from sovereign.audit.erasures import Receipt, receipt_of
from sovereign.audit.keys import rotation
from sovereign.audit.merkle import HASH_BYTES, TILE_HEIGHT, TILE_WIDTH, Tree, leaf_hash
from sovereign.audit.note import VerifierKey
from sovereign.audit.scan import read_or_full
from sovereign.audit.writers import register_of
from sovereign.errors import (
    BadInput,
    HistorySplit,
    RecordInvalid,
    TileDamaged,
    TileMissing,
    UnknownName,
)

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
_SCRATCH = "part.new"
_RECEIPT = b'"type":"erasure"'
READABLE = re.compile(
    r"checkpoint|handover/[1-9]\d{0,3}"
    r"|tile/(?:entries|\d{1,2})(?:/x\d{3}){0,5}/\d{3}(?:\.p/\d{1,3})?"
)
"""What of a log is given out again; a path with anything else is no file of a log."""


class Behind(Exception):
    """The sender goes on from another place than where this copy ends. Nothing was taken."""


@dataclass(frozen=True, slots=True)
class Held:
    """How far a copy goes: its newest checkpoint, and what came after it without one."""

    origin: str
    note: bytes
    size: int
    pending: int


class Replica:
    """One log's copy. One caller at a time: `Standby` sees to that."""

    def __init__(self, disk: Disk, vkey: VerifierKey) -> None:
        """Take up what is held.

        Raises:
            TileDamaged, TileMissing, HistorySplit: what is held is not what was acknowledged.
        """
        self._disk = disk
        self.vkey = vkey
        self._load()

    def _load(self) -> None:
        history, raw = rotation.follow(self._disk.read, self.vkey)
        # A crash may leave a handover whose checkpoint did not follow: the one before holds.
        signed = history.read(raw) or history.read_kept(raw) if raw else None
        if raw is not None and signed is None:
            raise HistorySplit(f"the copy of {self.vkey.name} has a checkpoint it did not sign")
        self.note = raw or b""
        self.held = signed or Checkpoint(self.vkey.name, 0, Tree().root())
        edge = [self._edge(level) for level in range(tiles.levels(self.held.size))]
        self._tree = Tree(self.held.size, edge or [[]])
        if self._tree.root() != self.held.root:
            raise TileDamaged(f"the copy of {self.vkey.name} does not lead to its checkpoint")
        self._tail = self._unfinished()
        self._whole = True
        self._unsynced: set[str] = set()
        self._handovers: dict[str, bytes] = {}

    def _edge(self, level: int) -> list[bytes]:
        index, width = divmod(self.held.size >> (TILE_HEIGHT * level), TILE_WIDTH)
        if not width:
            return []
        path = tiles.tile_path(level, index, width)
        tile = self._disk.read(path)
        if tile is None or len(tile) != width * HASH_BYTES:
            raise TileMissing(f"the copy of {self.vkey.name} has lost {path}")
        return tiles.split_hashes(tile)

    def _unfinished(self) -> list[bytes]:
        index, width = divmod(self.held.size, TILE_WIDTH)
        raw = self._disk.read(tiles.bundle_path(index, width)) if width else b""
        entries = tiles.unpack(raw or b"")
        if [leaf_hash(entry) for entry in entries] != self._tree.edge[0]:
            raise TileDamaged(f"the copy of {self.vkey.name} has lost its newest entries")
        return entries

    @property
    def state(self) -> Held:
        """How far this copy goes."""
        return Held(self.vkey.name, self.note, self.held.size, self._tree.size)

    def read(self, path: str) -> bytes | None:
        """A file of the copy."""
        return self._disk.read(path)

    def take(self, part: Part) -> None:
        """Step 1.

        Raises:
            Behind: it does not begin where this copy ends.
            BadInput: hashes that leave a bundle half there, or a handover out of any order.
        """
        if part.kind == HANDOVER:
            path, content = rotation.path_of(part.number), part.items[0]
            if self._disk.read(path) != content:
                self._handovers[path] = content
            return
        if part.number != self._tree.size:
            raise Behind(f"{self.vkey.name} goes on at {self._tree.size}, not at {part.number}")
        if part.kind == HASHES:
            if (part.number + len(part.items)) % TILE_WIDTH:
                raise BadInput("an erased bundle is erased whole")
            self._whole = False
        for item in part.items:
            self._add(item, known=part.kind == ENTRIES)

    def _add(self, item: bytes, *, known: bool) -> None:
        if known:
            self._tail.append(item)
        self._tree.append(leaf_hash(item) if known else item)
        if self._tree.size % TILE_WIDTH == 0:
            if self._whole:
                full = tiles.bundle_path(self._tree.size // TILE_WIDTH - 1)
                self._put(full, tiles.pack(self._tail))
            self._tail, self._whole = [], True
        finished, self._tree.finished = self._tree.finished, []
        for level, index, tile in finished:
            self._put(tiles.tile_path(level, index), tile)

    def _put(self, path: str, data: bytes) -> None:
        """Whole under its name, in place of what a round that was given up left there."""
        self._disk.write(_SCRATCH, data)
        self._disk.sync(_SCRATCH)
        folder = path.rpartition("/")[0]
        if self._disk.read(path) is None and folder:
            self._disk.write(path, b"")  # makes the folders above it
        self._disk.rename(_SCRATCH, path)
        self._unsynced.update(_folders_of(path))

    def commit(self, note: bytes) -> bool:
        """Steps 2 to 5; True when the copy has grown.

        Raises:
            HistorySplit: the checkpoint is not one over what was sent, or goes back. What was
                sent since the last checkpoint is forgotten.
            OSError: it is not acknowledged, and forgotten too.
        """
        try:
            signed = self._checked(note)
            if signed.size == self.held.size:
                return False
            self._publish(note)
        except BaseException:
            self._load()
            raise
        old, self.held, self.note = self.held.size, signed, note
        self._sweep(old)
        return True

    def _checked(self, note: bytes) -> Checkpoint:
        for path, content in self._handovers.items():
            if self._disk.read(path) not in (None, content):
                raise HistorySplit(f"{self.vkey.name} has another {path} already")
        history = rotation.history(
            lambda path: self._handovers.get(path) or self._disk.read(path), self.vkey
        )
        signed = history.read(note)
        known = {rotation.path_of(n) for n in range(1, len(history.handovers) + 1)}
        if signed is None or history.damaged or not self._handovers.keys() <= known:
            raise HistorySplit(f"this checkpoint of {self.vkey.name} is not signed by its key")
        if signed.size < self.held.size:
            raise HistorySplit(
                f"{self.vkey.name} goes back",
                found=f"a checkpoint over {signed.size} entries; {self.held.size} are held",
            )
        if (signed.size, signed.root) != (self._tree.size, self._tree.root()):
            raise HistorySplit(
                f"what was sent of {self.vkey.name} is not what was signed",
                found=f"{self._tree.size} entries, and a checkpoint over {signed.size}",
            )
        return signed

    def _publish(self, note: bytes) -> None:
        index, width = divmod(self._tree.size, TILE_WIDTH)
        if width:
            self._put(tiles.bundle_path(index, width), tiles.pack(self._tail))
        for level, hashes in enumerate(self._tree.edge):
            if hashes:
                index = self._tree.size >> (TILE_HEIGHT * (level + 1))
                self._put(tiles.tile_path(level, index, len(hashes)), b"".join(hashes))
        for path, content in self._handovers.items():
            self._put(path, content)
        self._handovers = {}
        for folder in sorted(self._unsynced, reverse=True):
            self._disk.sync(folder)
        self._unsynced.clear()
        self._put(tiles.CHECKPOINT, note)
        self._disk.sync(".")
        self._unsynced.clear()

    def _sweep(self, old: int) -> None:
        """Step 5; a partial file that stays costs room and nothing else."""
        with suppress(OSError):
            now = _partials(self.held.size)
            in_use = {path.rpartition("/")[0] for path in now}
            for path in _partials(old) - now:
                folder = path.rpartition("/")[0]
                self._disk.remove(path if folder in in_use else folder)

    def erase(self, first: int, last: int) -> int:
        """Remove the whole bundles from entry `first` to `last`; return how many were there."""
        gone = 0
        end = min(last + 1, self.held.size) // TILE_WIDTH
        for index in range(-(-first // TILE_WIDTH), end):
            path = tiles.bundle_path(index)
            if self._disk.read(path) is not None:
                self._disk.remove(f"{path}.p")
                self._disk.remove(path)
                self._disk.sync(_folders_of(path)[0])
                gone += 1
        return gone

    def receipts(self, since: int) -> Iterator[Receipt]:
        """The receipts of erasure in this log from entry `since` on."""
        for number in range(since // TILE_WIDTH, -(-self.held.size // TILE_WIDTH)):
            width = tiles.width_of(0, number, self.held.size)
            raw = read_or_full(self._disk.read, tiles.bundle_path(number, width))
            for offset, entry in enumerate(tiles.unpack(raw or b"")):
                if _RECEIPT in entry and (content := _record(entry))["type"] == "erasure":
                    name = f"{self.vkey.name}#{number * TILE_WIDTH + offset}"
                    yield receipt_of(content, name)


def _record(entry: bytes) -> dict[str, Any]:
    try:
        return record.parse(entry)
    except RecordInvalid:
        return {"type": ""}


def _folders_of(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[:i]) for i in range(len(parts), 0, -1)] + ["."]


def _partials(size: int) -> set[str]:
    index, width = divmod(size, TILE_WIDTH)
    found = {tiles.bundle_path(index, width)} if width else set()
    for level in range(tiles.levels(size)):
        index, width = divmod(size >> (TILE_HEIGHT * level), TILE_WIDTH)
        if width:
            found.add(tiles.tile_path(level, index, width))
    return found


class Standby:
    """The copies of every log whose key was given, below one folder. Safe from any thread."""

    def __init__(self, root: Path, keys: Iterable[VerifierKey]) -> None:
        """Take up what is held, and erase what receipts say is erased.

        Raises:
            BadInput: a key's name is no `SITE/WRITER/STREAM`.
            LogLocked: another process holds this folder.
            TileDamaged, TileMissing, HistorySplit: a copy is not what was acknowledged.
        """
        self.root = root
        root.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._lock_on = RealDisk(root)
        self._lock_on.lock()
        self._locks: dict[str, threading.Lock] = {}
        self._replicas: dict[str, Replica] = {}
        try:
            for vkey in keys:
                folder = folder_of(root, vkey.name)
                folder.mkdir(mode=0o750, parents=True, exist_ok=True)
                self._replicas[vkey.name] = Replica(RealDisk(folder), vkey)
                self._locks[vkey.name] = threading.Lock()
            self._receipts: dict[str, set[tuple[int, int]]] = {}
            self._known = threading.Lock()
            for origin in self._replicas:
                self._obey(origin, 0)
        except BaseException:
            self._lock_on.unlock()
            raise

    @property
    def origins(self) -> tuple[str, ...]:
        """The logs whose keys were given."""
        return tuple(self._replicas)

    def held(self) -> tuple[Held, ...]:
        """How far each copy goes."""
        return tuple(replica.state for replica in self._replicas.values())

    def read(self, origin: str, path: str) -> bytes | None:
        """A file of a copy; None for what is none.

        Raises:
            UnknownName: no key was given for such a log.
        """
        return self._of(origin).read(path) if READABLE.fullmatch(path) else None

    def take(self, origin: str, body: bytes) -> Held:
        """Take what was sent; with a note at the end, acknowledge it once it is durable.

        Raises:
            UnknownName: no key was given for such a log.
            Behind: it does not go on where this copy ends; ask how far it goes.
            BadInput: it is damaged. Nothing was acknowledged.
            HistorySplit: it is another history than the one held. Nothing was taken.
            OSError: the disk said no. Nothing was acknowledged.
        """
        replica = self._of(origin)
        with self._locks[origin]:
            before = replica.held.size
            for part in parse(body):
                if part.kind != NOTE:
                    replica.take(part)
                elif replica.commit(part.items[0]):
                    self._obey(origin, before)
            return replica.state

    def _of(self, origin: str) -> Replica:
        if origin not in self._replicas:
            raise UnknownName(
                f"no key was given for {origin!r}", accepted=", ".join(self._replicas)
            )
        return self._replicas[origin]

    def _obey(self, origin: str, since: int) -> None:
        """Erase what the site's receipts name: of all logs for new ones, else of this log.

        Whoever calls holds the lock of `origin`. Only whoever holds that of a register takes
        another one besides, so nobody waits in a circle.
        """
        if register_of(origin) == origin:
            for receipt in self._replicas[origin].receipts(since):
                span = (receipt.first, receipt.last)
                with self._known:
                    self._receipts.setdefault(receipt.log, set()).add(span)
                if register_of(receipt.log) == origin and receipt.log in self._replicas:
                    with nullcontext() if receipt.log == origin else self._locks[receipt.log]:
                        self._replicas[receipt.log].erase(*span)
        with self._known:
            mine = tuple(self._receipts.get(origin, ()))
        for first, last in mine:
            if last >= since:
                self._replicas[origin].erase(max(first, since - since % TILE_WIDTH), last)

    def close(self) -> None:
        """Let another process in."""
        self._lock_on.unlock()


def folder_of(root: Path, origin: str) -> Path:
    """Where a log's copy lies below a standby's folder.

    Raises:
        BadInput: the origin is no `SITE/WRITER/STREAM`.
    """
    names = origin.split("/")
    if len(names) != 3 or not all(_NAME.fullmatch(name) for name in names):
        raise BadInput(f"{origin!r} is no log of a site", accepted="SITE/WRITER/STREAM")
    return root.joinpath(*names)
