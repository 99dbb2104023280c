"""What a drill must undo, written down before it is done, so that a killed drill is undone too.

One drill at a time: it holds a lock as long as it lives. A note without a lock held is what a
killed drill left; the next drill, or `sovereign drill undo`, undoes it first. Undoing twice does
no harm, and the note goes last.

The note lies beside the keys' file, since a key is the first thing a drill makes, and what holds
keys outlives a restart of the machine.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import msgspec

from sovereign.audit.disk import RealDisk
from sovereign.audit.trail import Trail
from sovereign.drills import cut
from sovereign.drills.result import Result, recorded
from sovereign.errors import DrillRunning, NotDeployed, UnknownName
from sovereign.keystore import Keystore
from sovereign.registry import utcnow
from sovereign.settings import Home
from sovereign.supervisor.deployment import operator_trail


class Note(msgspec.Struct):
    """What there is to undo: keys to revoke, folders to remove, a cut from the network to lift."""

    drill: str
    started_at: datetime
    pid: int
    policy: str
    keys: list[str] = []
    folders: list[str] = []
    cut: bool = False


class Standing(msgspec.Struct, frozen=True):
    """How it stands with drills here: `running`, `left` by a killed one, or `none`."""

    state: str
    drill: str = ""
    started_at: datetime | None = None


def folder(home: Home) -> Path:
    """Where drills of this site keep their note and their own files."""
    return home.keystore.parent / "drills"


def standing(home: Home) -> Standing:
    """Look, without undoing anything."""
    left = _read(home)
    if left is None:
        return Standing("none")
    return Standing("running" if _is_held(home) else "left", left.drill, left.started_at)


class Noted:
    """The note of the drill that runs now. Each entry is durable before what it undoes is done."""

    def __init__(self, home: Home, drill: str, policy: str) -> None:
        self.home = home
        self.note = Note(drill, utcnow(), os.getpid(), policy)
        _write(home, self.note)

    def key(self, key_id: str) -> None:
        """A key of this id is about to be made."""
        self.note.keys.append(key_id)
        _write(self.home, self.note)

    def cut(self) -> None:
        """This host is about to be cut off; the kernel ends that by itself, and leaves a table."""
        self.note.cut = True
        _write(self.home, self.note)

    def folder(self, name: str) -> Path:
        """An empty folder of the drill's own, made now and removed at the end."""
        path = folder(self.home) / name
        self.note.folders.append(str(path))
        _write(self.home, self.note)
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700)
        return path


@contextmanager
def noted(home: Home, drill: str, policy: str) -> Iterator[Noted]:
    """Hold the lock, undo what a killed drill left, and undo this one's at the end.

    Args:
        policy: digest of the policy it runs under.

    Raises:
        NotDeployed: there is no site here.
        DrillRunning: another drill runs. Nothing was done.
    """
    if not home.audit.exists():
        raise NotDeployed(f"there is no site under {home.root}", next_step="make deploy")
    with _locked(home):
        _undo_left(home)
        mine = Noted(home, drill, policy)
        try:
            yield mine
        finally:
            _undo(home)


def undo_left(home: Home) -> Note | None:
    """Undo what a killed drill left, if there is anything; return its note.

    Raises:
        DrillRunning: it has not ended. Nothing was undone.
    """
    if not folder(home).exists():
        return None
    with _locked(home):
        return _undo_left(home)


def _undo_left(home: Home) -> Note | None:
    left = _undo(home)
    if left is not None:  # whoever killed it left no record of it; it showed nothing
        killed = Result(left.drill, left.started_at, unknown=["it was killed half-way"])
        recorded(home, left.policy, killed)
    return left


def _undo(home: Home) -> Note | None:
    """Undo what the note says, with a record for each key; the caller holds the lock."""
    left = _read(home)
    if left is None:
        return None
    for path in map(Path, left.folders):
        if path.parent == folder(home):
            shutil.rmtree(path, ignore_errors=True)
    if left.cut:
        cut.lift()
    if left.keys:
        with operator_trail(home) as log:
            _revoke(home, left.keys, log)
    _note(home).unlink(missing_ok=True)
    RealDisk(folder(home)).sync(".")
    return left


def _revoke(home: Home, ids: list[str], log: Trail) -> None:
    store = Keystore(home.keystore)
    for key_id in ids:
        with suppress(UnknownName):  # it was noted, and never made
            key = store.revoke(key_id, utcnow())
            named = {"key": key.id, "tenant": key.tenant, "purpose": key.purpose}
            log.record("key-revoked", **named, by="operator").result()


def _note(home: Home) -> Path:
    return folder(home) / "note.json"


def _read(home: Home) -> Note | None:
    try:
        return msgspec.json.decode(_note(home).read_bytes(), type=Note)
    except FileNotFoundError:
        return None


def _write(home: Home, note: Note) -> None:
    fresh = _note(home).with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(note))
    disk = RealDisk(folder(home))
    disk.sync(fresh.name)
    disk.rename(fresh.name, _note(home).name)
    disk.sync(".")


@contextmanager
def _locked(home: Home) -> Iterator[None]:
    folder(home).mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder(home) / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            running = _read(home)
            raise DrillRunning(
                f"the drill {running.drill if running else '?'} runs on this site",
                found=f"process {running.pid}" if running else "its lock is held",
                next_step="sovereign drill status; wait for its end",
            ) from None
        yield


def _is_held(home: Home) -> bool:
    try:
        with _locked(home):
            return False
    except DrillRunning:
        return True
