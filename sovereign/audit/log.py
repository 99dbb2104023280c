"""One log and its one writer: append, acknowledge, publish, recover.

The life of a record, with what a crash leaves behind at each step:

 1. `append` checks it and puts its bytes into the queue.          nothing; nobody was told
 2. The writer thread takes everything that waits, as one group,
    hashes it into the tree and signs a checkpoint over it.        nothing; nobody was told
 3. It writes entries and checkpoint as one journal frame.         a torn frame, dropped and counted
 4. fdatasync. From here on the group is durable.                  the group is recovered
 5. It tells everybody who waits: ACKNOWLEDGED.                    the same
 6. Within a second it publishes bundles, tiles and checkpoint.    files a reader may see; recovery
                                                                   writes them again
 7. Once a bundle is full it settles, not more often than every
    ten seconds or 8 MiB: syncs what is published, removes the     the old journal and all that
    partial files of what is full, makes that durable too,         recovery from it reads
 8. and begins a new journal, by rename.                           either journal, whole

The disk is synced as soon as it is free, never on a timer: whoever comes while a group is on
its way makes up the next one. Opening a log runs steps 6 to 8 over what the journal holds, so
recovery is the normal path. When a write or a sync fails, the log stops: the group is told so,
and nothing is accepted until it is opened again, because after a failed sync nobody knows what
is on the disk.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from sovereign.audit import checkpoint, clockwise, journal, record, remembered
from sovereign.audit.checkpoint import Checkpoint
from sovereign.audit.disk import Disk
from sovereign.audit.merkle import TILE_WIDTH, Tree, leaf_hash
from sovereign.audit.note import SignerKey
from sovereign.audit.store import Store
from sovereign.audit.tiles import CHECKPOINT, bundle_path, pack, unpack
from sovereign.errors import (
    HistorySplit,
    LogMissing,
    LogUnwritable,
    RecordInvalid,
    TileDamaged,
)

GROUP_MAX = 4096
QUEUE_MAX = 65_536
PUBLISH_EVERY_S = 0.2
"""Publication follows acknowledgement within this, well inside the promised second."""
JOURNAL_MAX_BYTES = 8 * 1024 * 1024
SETTLE_AFTER = 50
"""Publications before a full bundle is reason to settle. A publication leaves a partial bundle
and tile, which go when it settles: a slow stream has those of one bundle at a time, 255 at most.
Settling is a dozen syncs that a record may have to wait for: so it is ten seconds apart."""
CLOSE_TIMEOUT_S = 60.0

Clock = Callable[[], datetime]
_News = TypeVar("_News")


def utcnow() -> datetime:
    """The clock of a log that is made outside any service."""
    return datetime.now(UTC)


class Waiter(Protocol):
    """Whoever waits for a record; called from the writer thread, once. What it raises is lost."""

    def acknowledged(self, index: int) -> Callable[[], None] | None:
        """The record is durable at this index.

        What it returns is called after the whole group was told, once for all that return the
        same: waking another thread for each record of a group costs more than writing it.
        """
        ...

    def failed(self, error: LogUnwritable) -> None:
        """The record is not acknowledged; whether it is on the disk is not known."""
        ...


class _Nobody:
    """Waits for what the log itself has to say."""

    def acknowledged(self, index: int) -> None:
        return None

    def failed(self, error: LogUnwritable) -> None:
        return None


_NOBODY = _Nobody()


def create(disk: Disk, key: SignerKey, clock: Clock) -> None:
    """Begin a log in an empty folder: an explicit act, never a side effect of opening.

    The first entry is `log-created`. A crash leaves a folder without a journal, which does
    not open, and in which `create` can be run again.

    Raises:
        HistorySplit: a log stands here and has lost its journal; it is left as it is.
        LogLocked, LogUnwritable: nothing that opens was left behind.
    """
    _lock(disk)
    try:
        _refuse_remains(disk, key)
        entry = record.encode("log-created", {"origin": key.name}, clock())
        tree = Tree()
        tree.append(leaf_hash(entry))
        store = Store(disk, key, 0)
        store.publish(tree, [entry], store.signed(tree, key.name))
        store.settle()
        _begin_journal(disk, tree)
    except OSError as error:
        raise LogUnwritable(f"the log could not be created: {error.strerror}") from error
    finally:
        disk.unlock()


def _lock(disk: Disk) -> None:
    try:
        disk.lock()
    except OSError as error:
        raise LogUnwritable(f"the log could not be locked: {error.strerror}") from error


def _refuse_remains(disk: Disk, key: SignerKey) -> None:
    """A crash in `create` leaves at most the first entry; anything more was a log."""
    raw = disk.read(CHECKPOINT)
    if raw is None and disk.read(journal.PATH) is None:
        return
    served = checkpoint.read(raw, key.verifier) if raw else None
    if disk.read(journal.PATH) is not None or served is None or served.size > 1:
        raise HistorySplit(
            f"something stands where the log {key.name} should begin",
            found="a journal" if disk.read(journal.PATH) is not None else "a checkpoint",
            next_step="keep the folder as it is and restore the log from a copy",
        )


def _begin_journal(disk: Disk, settled: Tree) -> int:
    """Put a fresh journal in place of the old one; a crash leaves one or the other, whole.

    Returns its length in bytes.
    """
    fresh, frame = journal.PATH + ".new", journal.base_frame(settled.size, settled.root())
    disk.write(fresh, frame)
    disk.sync(fresh)
    disk.rename(fresh, journal.PATH)
    disk.sync(".")
    return len(frame)


def _tell(hear: Callable[[_News], None], news: _News) -> None:
    """Tell a waiter; one that is gone, such as a cancelled future, is no reason to stop."""
    with suppress(Exception):
        hear(news)


def _acknowledge(first: int, waiters: list[Waiter]) -> None:
    """Tell a group of waiters, the first of which waits for entry `first`; then wake theirs."""
    wakes: dict[Callable[[], None], None] = {}
    for index, waiter in enumerate(waiters, first):
        with suppress(Exception):
            wake = waiter.acknowledged(index)
            if wake is not None:
                wakes[wake] = None
    for wake in wakes:
        with suppress(Exception):
            wake()


class Log:
    """An open log. Appending is safe from any thread; one thread of its own writes.

    `failure` says why the log stopped; None while it works. `bundle_began` is the time of the
    first entry of the unfinished bundle, None when the last bundle is full; `journal_began` is
    since when entries stand in the journal too, where no retention run would find them.
    """

    def __init__(
        self, disk: Disk, key: SignerKey, clock: Clock, past: Iterable[bytes] = ()
    ) -> None:
        """Open: take the lock, recover, and note in the log that a writer took it up again.

        `past` are checkpoints remembered outside the log; it must continue every one of them.

        Raises:
            LogMissing: there is no log here.
            LogLocked: another process writes it.
            LogUnwritable: the disk refused a read, a write or a sync.
            JournalDamaged, TileDamaged, TileMissing, HistorySplit: stop and look.
        """
        self._disk = disk
        self._key = key
        self._clock = clock
        self._past = tuple(past)
        self.failure: LogUnwritable | None = None
        self._queue: deque[tuple[bytes, Waiter]] = deque()
        self._latest: datetime | None = None  # the time of the newest record
        self._wake = threading.Condition()
        self._closing = False
        self._sealing = False
        self.bundle_began: datetime | None = None
        self.journal_began = clock()
        self._size = 0
        _lock(disk)
        try:
            self._recover()
        except OSError as error:
            disk.unlock()
            raise LogUnwritable(f"the log could not be opened: {error.strerror}") from error
        except BaseException:
            disk.unlock()
            raise
        self._thread = threading.Thread(target=self._write, name=f"log {key.name}", daemon=True)
        self._thread.start()

    @property
    def origin(self) -> str:
        """The log's name."""
        return self._key.name

    @property
    def size(self) -> int:
        """Entries acknowledged so far."""
        return self._size

    # --- recovery ---------------------------------------------------------------------------

    def _recover(self) -> None:
        raw = self._disk.read(journal.PATH)
        if raw is None:
            raise LogMissing(
                f"there is no log {self.origin} here", next_step="sovereign audit create, once"
            )
        found = journal.parse(raw)
        self._store = Store(self._disk, self._key, found.base)
        self._tree = self._store.load()
        if self._tree.root() != found.base_root:
            raise TileDamaged(f"the tiles of {self.origin} are not those that were settled")
        served = self._served()
        entries = self._replay(found, served)
        known, read = self._key.verifier, self._disk.read
        remembered.refuse_split(self._past, known, read, found.base, entries)
        if entries:
            self._store.publish(self._tree, entries, self._note())
        up_to_date = served is not None and served.size == found.base
        clean = up_to_date and not entries and not found.torn_bytes
        self._store.settle()
        self._store.sweep()
        self._journal_bytes = _begin_journal(self._disk, self._tree)
        self._file = self._disk.append_to(journal.PATH, self._journal_bytes)
        self._unpublished: list[bytes] = []
        self._publications = 0
        self._published_at = time.monotonic()
        if self._store.tail:
            self.bundle_began = record.time_of(self._store.tail[0])
        self._note_reopening(clean=clean, torn_bytes=found.torn_bytes)

    def _served(self) -> Checkpoint | None:
        """The checkpoint that stands there. It is never torn, so it must be ours."""
        raw = self._disk.read(CHECKPOINT)
        served = None if raw is None else checkpoint.read(raw, self._key.verifier)
        if raw is not None and (served is None or served.origin != self.origin):
            raise HistorySplit(f"the checkpoint of {self.origin} is not one that its key signed")
        return served

    def _replay(self, found: journal.Journal, served: Checkpoint | None) -> list[bytes]:
        """Take the journal's groups into the tree; each must be what was signed, and served.

        A checkpoint is served only after the group it covers was durable. So one that goes
        beyond the journal means that the journal has lost entries, by damage to its last frame
        or by an older copy in its place, and going on would fork the log.
        """
        entries: list[bytes] = []
        self._refuse_split(served)
        for group in found.groups:
            if group.first != self._tree.size:
                raise HistorySplit(f"the journal of {self.origin} skips from {self._tree.size}")
            self._tree.extend([leaf_hash(entry) for entry in group.entries])
            entries += group.entries
            self._refuse_split(checkpoint.read(group.note, self._key.verifier), covers=True)
            self._refuse_split(served)
        if served is not None and served.size > self._tree.size:
            raise HistorySplit(
                f"the log {self.origin} has lost entries that it had published",
                found=f"{self._tree.size} entries, and a checkpoint over {served.size}",
                next_step="keep the folder as it is and follow the runbook",
            )
        return entries

    def _refuse_split(self, signed: Checkpoint | None, *, covers: bool = False) -> None:
        """What was signed at the tree's size must be its root; `covers` says there is such."""
        applies = signed is not None and signed.size == self._tree.size
        if covers and not applies:
            raise HistorySplit(f"a group in the journal of {self.origin} is not covered")
        if applies and signed is not None and signed.root != self._tree.root():
            raise HistorySplit(f"the entries of {self.origin} are not those that it signed")

    def _note_reopening(self, *, clean: bool, torn_bytes: int) -> None:
        fields = {
            "size": self._tree.size,
            "ended": "cleanly" if clean else "in-a-crash",
            "torn_bytes": torn_bytes,
        }
        now = self._clock()
        self._latest = self._last_time()
        self._commit([*self._set_back(now), record.encode("log-reopened", fields, now)])

    def _last_time(self) -> datetime | None:
        """When the last entry was recorded; None when it is the first, is erased or unreadable."""
        tail = self._store.tail
        if self._tree.size == 1:
            return None
        with suppress(ValueError, RecordInvalid):
            if not tail:
                bundle = self._disk.read(bundle_path(self._tree.size // TILE_WIDTH - 1))
                tail = unpack(bundle) if bundle else []
            return record.time_of(tail[-1]) if tail else None
        return None

    # --- the writer's thread ----------------------------------------------------------------

    def append(self, kind: str, fields: Mapping[str, str | int], waiter: Waiter) -> None:
        """Put a record into the next group; `waiter` hears of it once it is acknowledged.

        Raises:
            RecordInvalid: it is not as the table says. Nothing was queued.
            LogUnwritable: the log has stopped, is closed, or its queue is full.
        """
        now = self._clock()
        entry = record.encode(kind, fields, now)
        with self._wake:
            if self.failure is not None:
                raise self.failure
            if self._closing or len(self._queue) >= QUEUE_MAX:
                raise LogUnwritable(
                    f"the log {self.origin} takes no more: "
                    + ("it is closed" if self._closing else f"{QUEUE_MAX} records wait")
                )
            self._queue.extend((note, _NOBODY) for note in self._set_back(now))
            self._queue.append((entry, waiter))
            self._wake.notify()

    def _set_back(self, now: datetime) -> list[bytes]:
        """What has to be said before a record of this time: that the clock was set back."""
        before = self._latest
        if before is None or not clockwise.went_back(before, now):
            self._latest = now if before is None else max(before, now)
            return []
        self._latest = now
        return [record.encode(clockwise.RECORD, {"was": record.written(before)}, now)]

    def _write(self) -> None:
        group: list[tuple[bytes, Waiter]] = []
        try:
            while True:
                group = self._take()
                if group:
                    first = self._tree.size
                    self._commit([entry for entry, _ in group])
                    _acknowledge(first, [waiter for _, waiter in group])
                    group = []
                if self._sealing:
                    self._fill()
                self._publish_when_due()
                if self._closing and not self._queue and not self._sealing:
                    self._finish()
                    return
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for ever
            self._stop(error, group)

    def seal(self) -> None:
        """Ask for the unfinished bundle to be filled up and the journal to be emptied.

        Afterwards nothing later shares a bundle with what is there now, and every entry is in
        its bundle alone, so that erasing the bundle erases it.
        """
        with self._wake:
            self._sealing = True
            self._wake.notify()

    def _fill(self) -> None:
        self._sealing = False
        lacking = -self._tree.size % TILE_WIDTH
        if lacking:
            now = max(self._clock(), self._latest or datetime.min.replace(tzinfo=UTC))
            self._commit([record.encode("filler", {}, now) for _ in range(lacking)])
        self._settle()

    def _take(self) -> list[tuple[bytes, Waiter]]:
        """Everything that waits, up to `GROUP_MAX`; empty when there is something else to do."""
        with self._wake:
            if not self._queue and not self._closing and not self._sealing:
                self._wake.wait(self._until_publication())
            count = min(len(self._queue), GROUP_MAX)
            return [self._queue.popleft() for _ in range(count)]

    def _until_publication(self) -> float | None:
        if not self._unpublished:
            return None
        return max(0.0, self._published_at + PUBLISH_EVERY_S - time.monotonic())

    def _commit(self, entries: list[bytes]) -> None:
        """Steps 2 to 4: one frame, one fdatasync, for the whole group."""
        first = self._tree.size
        self._tree.extend([leaf_hash(entry) for entry in entries])
        frame = journal.group_frame(first, pack(entries), self._note())
        self._file.write(frame)
        self._file.sync()
        self._size = self._tree.size
        self._journal_bytes += len(frame)
        self._unpublished += entries
        self._note_bundle(first, entries)

    def _note_bundle(self, first: int, entries: list[bytes]) -> None:
        """Keep the time at which the unfinished bundle began."""
        width = self._tree.size % TILE_WIDTH
        if width == 0:
            self.bundle_began = None
        elif self._tree.size - width >= first:
            self.bundle_began = record.time_of(entries[self._tree.size - width - first])

    def _note(self) -> bytes:
        return self._store.signed(self._tree, self.origin)

    def _publish_when_due(self) -> None:
        """Steps 6 and 7, when the time has come, the journal is long or partial files can go."""
        if self._journal_bytes > JOURNAL_MAX_BYTES:
            self._settle()
        elif self._unpublished and self._until_publication() == 0.0:
            self._publish()
            if self._publications >= SETTLE_AFTER and self._store.to_sweep:
                self._settle()

    def _publish(self) -> None:
        if self._unpublished:
            self._store.publish(self._tree, self._unpublished, self._note())
            self._unpublished = []
            self._publications += 1
        self._published_at = time.monotonic()

    def _settle(self) -> None:
        self._publish()
        self._store.settle()
        self._store.sweep()
        self._publications = 0
        self._journal_bytes = _begin_journal(self._disk, self._tree)
        self._file.close()
        self._file = self._disk.append_to(journal.PATH, self._journal_bytes)
        self.journal_began = self._clock()

    def _finish(self) -> None:
        self._settle()
        self._file.close()

    def _stop(self, error: Exception, group: list[tuple[bytes, Waiter]]) -> None:
        reason = LogUnwritable(
            f"the log {self.origin} stopped: "
            f"{getattr(error, 'strerror', None) or type(error).__name__}",
            next_step="mend the disk, then start the writer again; opening recovers the log",
        )
        with self._wake:
            self.failure = reason
            waiting = [*group, *self._queue]
            self._queue.clear()
        for _, waiter in waiting:
            _tell(waiter.failed, reason)
        with suppress(OSError):
            self._file.close()

    def close(self) -> None:
        """Let what waits be acknowledged, publish and settle, and let the next writer in.

        A disk that does not answer keeps the lock: two writers are worse than none.
        """
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            self.failure = LogUnwritable(f"the disk of {self.origin} does not answer")
            return
        self._disk.unlock()
