"""A writer's logs, one a stream, behind one verb: `record`.

A writer is a process with a name: a gateway, the controller, the operator's command line.
Its records go to `event`, `security` or `evidence` as the table in `record.py` says, each a
log of its own under `AUDIT/WRITER/STREAM`, so that each can be erased on its own time. A
record's name is `ORIGIN#INDEX`, with `SITE/WRITER/STREAM` for the origin.

Private keys lie outside the logs, readable by their writer alone. The public half is pinned
in a folder that no verifier takes from a log: it is written last, so a pinned key means that
the log once stood there.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from sovereign.audit import journal, log, remembered
from sovereign.audit.disk import RealDisk
from sovereign.audit.keys import custody, handover
from sovereign.audit.log import Clock, Log
from sovereign.audit.note import SignerKey
from sovereign.audit.record import RECORD_TYPES, STREAMS
from sovereign.audit.remembered import Places, Remembering
from sovereign.errors import LogKeyUnusable, LogLocked, LogMissing, LogUnwritable, RecordInvalid

if TYPE_CHECKING:
    import asyncio

WRITERS = ("gateway", "controller", "operator")
"""The processes of a site that keep logs; `operator` is the command line and the plan guard."""
KEY_SUFFIX, PIN_SUFFIX, KEPT_SUFFIX = ".key", ".vkey", remembered.SUFFIX
LOCK_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Recorded:
    """An acknowledged record. `name` is `ORIGIN#INDEX`."""

    name: str
    index: int


def origin_of(site: str, writer: str, stream: str) -> str:
    """The name of a log, which heads its checkpoints."""
    return f"{site}/{writer}/{stream}"


def create(audit: Path, keys: Path, trust: Path, writer: str, site: str) -> bool:
    """Make the logs of a writer that are not there yet; False when all were.

    The order is key, log, pin. A crash leaves a key without a log, or a log without a pin;
    running it again goes on from there with the same key.

    Raises:
        LogMissing: a log that was pinned is gone. It is not made anew, for that would hide it.
        HistorySplit: the folder holds a log that lost its journal.
    """
    made = [_create_one(audit, keys, trust, writer, site, stream) for stream in STREAMS]
    return any(made)


def _create_one(audit: Path, keys: Path, trust: Path, writer: str, site: str, stream: str) -> bool:
    folder, pin = audit / writer / stream, pin_path(trust, writer, stream)
    kept = kept_path(trust, writer, stream)
    origin = origin_of(site, writer, stream)
    stands = (folder / journal.PATH).exists()
    if stands and pin.exists():
        return False
    if pin.exists() or kept.exists():
        there, gone = (pin, folder) if pin.exists() else (kept, pin)
        raise LogMissing(
            f"the log {origin} was here, and a part of it is gone",
            found=f"{there} is there, {gone} is not",
            accepted="the log, or its pinned key, restored from a copy",
            next_step="docs/runbooks/log-missing.md",
        )
    key = _key(keys, writer, stream, origin)
    if not stands:
        _make_folder(folder)
        log.create(RealDisk(folder), key, log.utcnow)
    _write_new(pin, f"{key.verifier}\n", 0o644)
    return True


def pin_path(trust: Path, writer: str, stream: str) -> Path:
    """Where a log's public key is pinned."""
    return trust / f"{writer}-{stream}{PIN_SUFFIX}"


def kept_path(trust: Path, writer: str, stream: str) -> Path:
    """Where the newest checkpoint that verified on this machine is remembered."""
    return trust / f"{writer}-{stream}{KEPT_SUFFIX}"


def expect(audit: Path, writer: str, site: str) -> None:
    """Return when a writer's logs are there; they are not opened.

    Raises:
        LogMissing: one was never made, or is gone. Nothing was made in its place.
    """
    for stream in STREAMS:
        _expect_one(audit / writer / stream, writer, origin_of(site, writer, stream))


def _expect_one(folder: Path, writer: str, origin: str) -> None:
    if not folder.is_dir():
        raise LogMissing(
            f"there is no log {origin} here",
            found=f"no {folder}",
            next_step=f"sovereign audit create --writer {writer}",
        )


def _key(keys: Path, writer: str, stream: str, origin: str) -> SignerKey:
    path = keys / f"{writer}-{stream}{KEY_SUFFIX}"
    if not path.exists():
        _write_new(path, SignerKey.generate(origin).dump(), 0o600)
    return custody.load(path, origin)


def _make_folder(folder: Path) -> None:
    """Make a folder, and those above it, of which a crash cannot take the names back."""
    lacking = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in {folder.parent, *(made.parent for made in lacking)}:
        RealDisk(each).sync(".")


def _write_new(path: Path, text: str, mode: int) -> None:
    """Make a file whole and durable, or leave none: a torn key would be a lost log."""
    _make_folder(path.parent)
    fresh = path.with_name(path.name + ".new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.write(fd, text.encode())
        os.fsync(fd)
    finally:
        os.close(fd)
    fresh.replace(path)
    RealDisk(path.parent).sync(".")


class _Later:
    """Completes a future when the writer's thread says so."""

    __slots__ = ("_future", "_origin")

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._future: Future[Recorded] = Future()

    def acknowledged(self, index: int) -> None:
        self._future.set_result(Recorded(f"{self._origin}#{index}", index))

    def failed(self, error: LogUnwritable) -> None:
        self._future.set_exception(error)

    @property
    def future(self) -> Future[Recorded]:
        return self._future


class _Inbox:
    """What the writer's thread has to say to one event loop, said once for each group."""

    def __init__(self, loop: "asyncio.AbstractEventLoop") -> None:
        self.loop = loop
        self._come: deque[tuple[_Awaited, Recorded | None, LogUnwritable | None]] = deque()

    def put(
        self, waiter: "_Awaited", recorded: Recorded | None, error: LogUnwritable | None
    ) -> None:
        self._come.append((waiter, recorded, error))

    def wake(self) -> None:
        """Have the loop take out what has come; from any thread."""
        self.loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        while self._come:
            waiter, recorded, error = self._come.popleft()
            waiter.settle(recorded, error)


class _Awaited:
    """The same for a coroutine, which may have been cancelled in the meantime."""

    __slots__ = ("_inbox", "_origin", "future")

    def __init__(self, origin: str, inbox: _Inbox) -> None:
        self._origin = origin
        self._inbox = inbox
        self.future: asyncio.Future[Recorded] = inbox.loop.create_future()

    def acknowledged(self, index: int) -> Callable[[], None]:
        self._inbox.put(self, Recorded(f"{self._origin}#{index}", index), None)
        return self._inbox.wake

    def failed(self, error: LogUnwritable) -> None:
        self._inbox.put(self, None, error)
        self._inbox.wake()

    def settle(self, recorded: Recorded | None, error: LogUnwritable | None) -> None:
        if self.future.done():
            return
        if recorded is not None:
            self.future.set_result(recorded)
        elif error is not None:
            self.future.set_exception(error)


class Trail:
    """The open logs of one writer. Closing it lets the next writer in."""

    def __init__(
        self, logs: Mapping[str, Log], clock: Clock, memory: Remembering | None = None
    ) -> None:
        self._logs = logs
        self._clock = clock
        self._memory = memory
        self._inbox: _Inbox | None = None

    @classmethod
    def open(
        cls,
        audit: Path,
        keys: Path,
        writer: str,
        site: str,
        clock: Clock,
        wait_s: float = 0.0,
        trust: Path | None = None,
        streams: tuple[str, ...] = STREAMS,
    ) -> Self:
        """Open every log of a writer, or those of `streams`, recovering what a crash left.

        `wait_s` bounds how long each log is waited for while another process writes it. Only
        commands wait, for each other; a process that serves finds out at once. `trust` is
        where newest checkpoints are remembered, which each log must continue.

        Raises:
            LogMissing, LogLocked, LogUnwritable, Broken: as `Log` says; nothing stays open.
        """
        opened: dict[str, Log] = {}
        places: list[Places] = []
        try:
            for stream in streams:
                one = partial(_open_one, audit, keys, trust, writer, site, stream, clock)
                opened[stream], where = _once_free(one, wait_s)
                places.append(where)
        except BaseException:
            for each in opened.values():
                each.close()
            raise
        return cls(opened, clock, Remembering(places))

    @property
    def failure(self) -> LogUnwritable | None:
        """Why one of the logs has stopped; None while all work."""
        return next((each.failure for each in self._logs.values() if each.failure), None)

    def record(self, kind: str, **fields: str | int) -> Future[Recorded]:
        """Queue a record; its future is done once it is acknowledged, or failed.

        Raises:
            RecordInvalid: it is not as the table says. Nothing was queued.
            LogUnwritable: the log takes no more.
        """
        target = self._target(kind)
        waiter = _Later(target.origin)
        target.append(kind, fields, waiter)
        return waiter.future

    async def arecord(self, kind: str, **fields: str | int) -> Recorded:
        """Record and wait until it is acknowledged.

        Raises:
            RecordInvalid, LogUnwritable: as `record`.
        """
        return await self.later(kind, **fields)

    def later(self, kind: str, **fields: str | int) -> "asyncio.Future[Recorded]":
        """As `record`, for the running loop: the record is on its way, whoever awaits it or not.

        Raises:
            RecordInvalid, LogUnwritable: as `record`.
        """
        target = self._target(kind)
        waiter = _Awaited(target.origin, self._inbox_here())
        target.append(kind, fields, waiter)
        return waiter.future

    def _inbox_here(self) -> _Inbox:
        """That of the running loop; a process has one loop at a time."""
        import asyncio  # only where there is a loop: commands have none

        loop = asyncio.get_running_loop()
        if self._inbox is None or self._inbox.loop is not loop:
            self._inbox = _Inbox(loop)
        return self._inbox

    def _target(self, kind: str) -> Log:
        found = RECORD_TYPES.get(kind)
        if found is None or found.stream not in self._logs:
            raise RecordInvalid(f"{kind!r} is no record a writer makes")
        return self._logs[found.stream]

    def seal_older(self, spans: Mapping[str, timedelta]) -> None:
        """Seal the logs whose bundle, or journal, has been open for their stream's span.

        A bundle is erased whole, so a quiet stream must not keep one open for a year.
        """
        now = self._clock()
        for stream, target in self._logs.items():
            began = min(target.bundle_began or now, target.journal_began)
            if now - began >= spans.get(stream, timedelta.max):
                target.seal()

    def note_restored(self, sizes: Mapping[str, int], source: str) -> None:
        """Say in each log, by stream, that it was put back, and how far its copy went.

        Raises:
            LogUnwritable: it could not be said.
        """
        for stream, size in sizes.items():
            waiter = _Later(self._logs[stream].origin)
            self._logs[stream].append("log-restored", {"size": size, "source": source}, waiter)
            waiter.future.result(remembered.STOP_S)

    def close(self) -> None:
        """Acknowledge what waits, publish, settle, and let the next writer in."""
        for each in self._logs.values():
            each.close()
        if self._memory is not None:
            self._memory.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _once_free(open_log: Callable[[], tuple[Log, Places]], wait_s: float) -> tuple[Log, Places]:
    until = time.monotonic() + wait_s
    while True:
        try:
            return open_log()
        except LogLocked:
            if time.monotonic() >= until:
                raise
        time.sleep(LOCK_POLL_S)


def _open_one(
    audit: Path, keys: Path, trust: Path | None, writer: str, site: str, stream: str, clock: Clock
) -> tuple[Log, Places]:
    folder, path = audit / writer / stream, keys / f"{writer}-{stream}{KEY_SUFFIX}"
    origin = origin_of(site, writer, stream)
    _expect_one(folder, writer, origin)
    if not path.exists():
        raise LogKeyUnusable(
            f"the key that signs {origin} is not here",
            found=f"no {path}",
            accepted="its private key, put back; without it the log can only be verified",
            next_step="docs/runbooks/log-key-unusable.md",
        )
    key = handover.signer(folder, path, origin)
    places = Places.of(folder, key.verifier, trust)
    return Log(RealDisk(folder), key, clock, places.notes()), places
