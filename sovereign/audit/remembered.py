"""The newest checkpoint this machine remembers of a log, kept outside the log.

A log that is put back from an older copy is whole, signed and consistent; nothing in it says
that it went on once already. A writer that took it up again would sign a second history. So
what was signed last is remembered in another folder, and opening compares: the log must hold
every remembered checkpoint as a prefix.

It is remembered when a log is closed and every `EVERY_S` while it is open, by a thread that
reads the published `checkpoint` as any reader would: never on the path of an append. What was
published is durable in the journal at least, so recovery after a crash always reaches it.

Where: `trust/WRITER-STREAM.checkpoint`, beside the pinned key; where the writer may not write
there, as on a managed host, `AUDIT/WRITER/STREAM.checkpoint`, beside the log's folder. What a
standby or a witness has acknowledged may lie in `trust/` too, under the suffixes in `OTHERS`.
All that is there counts. A note that the log's key did not sign says nothing here;
`sovereign audit verify` finds it.

It cannot help when the whole machine is put back, memory and all: the standby and the
witnesses are for that (`standby.py`).
"""

import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sovereign.audit import checkpoint, tiles
from sovereign.audit.checkpoint import Checkpoint
from sovereign.audit.keys import rotation
from sovereign.audit.merkle import TILE_HEIGHT, TILE_WIDTH, Tree, leaf_hash
from sovereign.audit.note import VerifierKey
from sovereign.errors import HistorySplit, TileMissing

SUFFIX = ".checkpoint"
OTHERS = (".standby", ".witnessed")
"""Suffixes of what somebody else acknowledged, as `trust/gateway-event.standby`."""
EVERY_S = 10.0
STOP_S = 10.0
NOT_OURS_TO_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS)

Read = Callable[[str], bytes | None]


@dataclass(frozen=True, slots=True)
class Places:
    """Where a log lies, and where its newest checkpoint is remembered; the first that can be."""

    folder: Path
    vkey: VerifierKey
    own: tuple[Path, ...]
    others: tuple[Path, ...] = ()

    @classmethod
    def of(cls, folder: Path, vkey: VerifierKey, trust: Path | None) -> "Places":
        """The places for the log in AUDIT/WRITER/STREAM."""
        beside = folder.with_name(folder.name + SUFFIX)
        if trust is None:
            return cls(folder, vkey, (beside,))
        stem = f"{folder.parent.name}-{folder.name}"
        others = tuple(trust / f"{stem}{suffix}" for suffix in OTHERS)
        return cls(folder, vkey, (trust / f"{stem}{SUFFIX}", beside), others)

    def notes(self) -> list[bytes]:
        """Everything that is remembered of this log."""
        return [note for path in (*self.own, *self.others) if (note := _read(path))]

    def remember(self) -> bool:
        """Keep the published checkpoint, if it is newer than what is kept; True when it was.

        Raises:
            OSError: it could be kept nowhere.
        """
        note = _read(self.folder / tiles.CHECKPOINT)
        if checkpoint.read(note, self.vkey) is None:
            return False
        for path in self.own[:-1]:
            try:
                return keep(path, note, self.vkey)
            except OSError as error:
                if error.errno not in NOT_OURS_TO_WRITE:
                    raise
        return keep(self.own[-1], note, self.vkey)


def keep(path: Path, note: bytes, vkey: VerifierKey) -> bool:
    """Put a checkpoint in place of an older one: whole and durable, or not at all.

    Never in place of a newer one: who verifies slowly may end after who verified quickly. A
    torn file would be a finding at the next verification.

    Returns:
        False when what stands there is as new.

    Raises:
        OSError: it is not kept; what stood there still stands.
    """
    with path.with_name(".kept.lock").open("a") as lock:
        with suppress(PermissionError):  # whoever made it lets the other writers of its group in
            os.fchmod(lock.fileno(), 0o660)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if size_in(_read(path), vkey) >= size_in(note, vkey):
            return False
        fresh = path.with_name(f"{path.name}.new")
        with fresh.open("wb") as file:
            file.write(note)
            file.flush()
            os.fchmod(file.fileno(), 0o644)  # every writer of the site compares with it
            os.fsync(file.fileno())
        fresh.replace(path)
    return True


def size_in(note: bytes, vkey: VerifierKey) -> int:
    """Entries that a checkpoint covers; -1 when it is none, or this key did not sign it."""
    known = checkpoint.read(note, vkey) if note else None
    return -1 if known is None else known.size


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return b""


def refuse_split(
    notes: Iterable[bytes], vkey: VerifierKey, read: Read, base: int, entries: Sequence[bytes]
) -> None:
    """Refuse a log that is not a continuation of everything remembered of it.

    Args:
        read: gives the files of the log's folder.
        base: entries that are settled in tiles.
        entries: those after them, out of the journal.

    Raises:
        HistorySplit: the log is older than, or other than, what was remembered.
        TileMissing: a hash that is needed to compare is gone.
    """
    keys = rotation.history(read, vkey)
    past = [known for note in notes if (known := keys.read_kept(note)) is not None]
    for known in past:
        if known.size > base + len(entries):
            raise _split(
                f"the log {vkey.name} is older than this machine remembers",
                f"{base + len(entries)} entries, and a remembered checkpoint over {known.size}",
            )
        if root_at(read, known, base, entries) != known.root:
            raise _split(
                f"the log {vkey.name} is not the one that this machine remembers",
                f"another root over its first {known.size} entries",
            )


def _split(message: str, found: str) -> HistorySplit:
    return HistorySplit(
        message,
        found=found,
        accepted="the folder that the remembered checkpoint belongs to",
        next_step="docs/runbooks/history-split.md, Fix D",
    )


def root_at(read: Read, known: Checkpoint, base: int, entries: Sequence[bytes]) -> bytes:
    """The root over the log's first entries, as many as a checkpoint names."""
    start = min(known.size, base)
    edge = [_edge(read, level, start, base) for level in range(tiles.levels(start))]
    tree = Tree(start, edge or [[]])
    for entry in entries[: known.size - start]:
        tree.append(leaf_hash(entry))
    return tree.root()


def _edge(read: Read, level: int, size: int, base: int) -> list[bytes]:
    """The unfinished tile of a level at `size`; what has grown since begins the same."""
    index, width = divmod(size >> (TILE_HEIGHT * level), TILE_WIDTH)
    if not width:
        return []
    for wide in (width, TILE_WIDTH, tiles.width_of(level, index, base)):
        tile = read(tiles.tile_path(level, index, wide)) if wide >= width else None
        if tile is not None:
            return tiles.split_hashes(tile)[:width]
    raise TileMissing(
        f"{tiles.tile_path(level, index)} was published and is gone", next_step="restore the log"
    )


class Remembering:
    """A thread that remembers the checkpoints of open logs; `stop` does so a last time."""

    def __init__(self, logs: Iterable[Places], every_s: float = EVERY_S) -> None:
        self._logs = tuple(logs)
        self._every_s = every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="remembering", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            self.remember()

    def remember(self) -> None:
        """Remember every log now. A disk that says no is met by whoever appends, not here."""
        for places in self._logs:
            with suppress(OSError):
                places.remember()

    def stop(self) -> None:
        """Remember what stands there after the logs were closed, and end."""
        self._stopping.set()
        self._thread.join(STOP_S)
        self.remember()
