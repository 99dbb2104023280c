"""A disk in memory that can stop at any operation and says what might be left of it.

It models what POSIX promises and no more. Every write goes to the page cache. `sync` of a file
makes its content durable, `sync` of a folder makes that folder's names durable; until then
either may be there after a crash or not, each for itself, and content may be cut off or hold
zeros where data should be. Names of folders are names in the folder above.

Three ways to disturb it:

  * `stop_at`: operation N does not return; neither does any after it. What it changed may or
    may not be there: `survivors` lists states in which the disk may be found afterwards.
  * `fail_at`: operations answer with an error, once (a failed sync) or for good (a full disk).
    After a failed sync the data is taken for written: a later sync of the same content makes
    nothing durable, as Linux does it.
  * `lies`: operations of these names answer "done" and make nothing durable. This is how a
    test shows that it would notice if a sync were taken out of the code.
"""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from sovereign.errors import LogLocked, LogMissing

MIXED_SURVIVORS = 4
"""States in which each file and folder fares differently, beside the regular ones."""


class Stopped(OSError):
    """The machine is off. An OSError, so that code under test ends in its own way."""

    def __init__(self) -> None:
        super().__init__(errno.EIO, "the machine stopped")


@dataclass
class _File:
    """Content as programs see it, and as the platter has it.

    `clean`: the kernel takes it for written. `rewritten`: it was cut to nothing and filled again
    since it was durable, so that any part may be missing, even if the bytes are the same.
    """

    cached: bytes = b""
    durable: bytes = b""
    clean: bool = False
    rewritten: bool = False


@dataclass
class _State:
    """Names point to files; folders are a set. Both as seen and as durable."""

    names: dict[str, _File] = field(default_factory=dict)
    folders: set[str] = field(default_factory=lambda: {"."})
    durable_names: dict[str, _File] = field(default_factory=dict)
    durable_folders: set[str] = field(default_factory=lambda: {"."})


@dataclass(frozen=True)
class Fault:
    """Answer `number` at the next `times` operations (None: all) from `at` on, named `only`…"""

    at: int
    number: int
    times: int | None = 1
    only: str = ""


class SimulatedDisk:
    """Implements `sovereign.audit.disk.Disk`. `operations` counts what changes or syncs."""

    def __init__(
        self,
        files: dict[str, bytes] | None = None,
        *,
        stop_at: int | None = None,
        fail_at: Fault | None = None,
        lies: frozenset[str] = frozenset(),
    ) -> None:
        self.operations = 0
        self.history: list[str] = []
        self.served: list[bytes] = []
        self.stopped = False
        self._stop_at = stop_at
        self._fault = fail_at
        self._struck = 0
        self._lies = lies
        self._locked = False
        self._state = _State()
        for path, content in (files or {}).items():
            self._put_durable(path, content)

    def _put_durable(self, path: str, content: bytes) -> None:
        file = _File(content, content)
        for folder in _folders_above(path):
            self._state.folders.add(folder)
            self._state.durable_folders.add(folder)
        self._state.names[path] = self._state.durable_names[path] = file

    # --- Disk -------------------------------------------------------------------------------

    def read(self, path: str) -> bytes | None:
        self._refuse_if_stopped()
        file = self._state.names.get(path)
        return None if file is None else file.cached

    def write(self, path: str, data: bytes) -> None:
        name = f"write {path}"
        self._begin(name)
        self._state.folders.update(_folders_above(path))
        file = self._state.names.setdefault(path, _File())
        file.cached, file.clean, file.rewritten = data, False, True
        self._end()

    def append_to(self, path: str, keep: int) -> "SimulatedAppendFile":
        self._begin(f"open {path}")
        if path not in self._state.names:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        file = self._state.names[path]
        if len(file.cached) != keep:
            file.cached, file.clean = file.cached[:keep], False
        self._end()
        return SimulatedAppendFile(self, file, path)

    def sync(self, path: str) -> None:
        self._sync_operation(f"sync {path}", self._state.names.get(path), path)

    def rename(self, old: str, new: str) -> None:
        self._begin(f"rename {old} {new}")
        self._state.names[new] = self._state.names.pop(old)
        if new == "checkpoint":
            self.served.append(self._state.names[new].cached)
        self._end()

    def remove(self, path: str) -> None:
        gone = [name for name in self._state.names if name == path or name.startswith(path + "/")]
        if not gone and path not in self._state.folders:
            self._refuse_if_stopped()
            return
        self._begin(f"remove {path}")
        for name in gone:
            del self._state.names[name]
        self._state.folders.discard(path)
        self._end()

    def lock(self) -> None:
        self._refuse_if_stopped()
        if "." not in self._state.folders:
            raise LogMissing("there is no folder")
        if self._locked:
            raise LogLocked("somebody else writes here")
        self._locked = True

    def unlock(self) -> None:
        self._locked = False

    def fail(self, fault: Fault) -> None:
        """From now on, fail as told."""
        self._fault, self._struck = fault, 0

    # --- operations -------------------------------------------------------------------------

    def _refuse_if_stopped(self) -> None:
        if self.stopped:
            raise Stopped

    def _begin(self, name: str) -> None:
        """Count an operation; raises the error that is due at it."""
        self._refuse_if_stopped()
        self.history.append(name)
        fault = self._fault
        if fault is None or self.operations < fault.at or not name.startswith(fault.only):
            return
        if fault.times is None or self._struck < fault.times:
            self._struck += 1
            self.operations += 1
            raise OSError(fault.number, os.strerror(fault.number))

    def _end(self) -> None:
        """The operation has changed the cache. The machine may stop before it returns."""
        stops = self.operations == self._stop_at
        self.operations += 1
        if stops:
            self.stopped = True
            raise Stopped

    def _sync_operation(self, name: str, file: _File | None, path: str) -> None:
        try:
            self._begin(name)
        except OSError:
            if file is not None:
                file.clean = True
            raise
        self._end()  # a machine that stops here has made nothing durable, or, as `kept`, all
        if any(name.startswith(lie) for lie in self._lies):
            return
        if file is not None:
            if not file.clean:
                file.durable, file.clean, file.rewritten = file.cached, True, False
        elif path in self._state.folders:
            self._sync_folder(path)
        else:
            raise FileNotFoundError(errno.ENOENT, "no such file or folder", path)

    def _sync_folder(self, folder: str) -> None:
        state = self._state
        state.durable_names = {
            **{name: file for name, file in state.durable_names.items() if _above(name) != folder},
            **{name: file for name, file in state.names.items() if _above(name) == folder},
        }
        state.durable_folders = {
            *(each for each in state.durable_folders if each == "." or _above(each) != folder),
            *(each for each in state.folders if each != "." and _above(each) == folder),
        }

    # --- after a crash ----------------------------------------------------------------------

    def mended(self) -> "SimulatedDisk":
        """The same disk, cache and all, for the next process: nothing failed but a program."""
        again = SimulatedDisk()
        again._state = self._state
        again.served = self.served
        return again

    def copied(
        self, *, stop_at: int | None = None, lies: frozenset[str] = frozenset()
    ) -> "SimulatedDisk":
        """A disk of its own with the same files, all durable, to be disturbed anew."""
        return SimulatedDisk(files_of(self), stop_at=stop_at, lies=lies)

    def survivors(self) -> Iterator[tuple[str, "SimulatedDisk"]]:
        """States in which the disk may be after the machine stopped, each with a name."""
        seen: set[tuple[tuple[str, bytes], ...]] = set()
        for name, files in self._left():
            key = tuple(sorted(files.items()))
            if key not in seen:
                seen.add(key)
                yield name, SimulatedDisk(files)

    def _left(self) -> Iterator[tuple[str, dict[str, bytes]]]:
        old, new = self._durable(), self._cached()
        yield "lost", _contents(old, "durable")
        yield "kept", _contents(new, "cached")
        yield "names-kept", _contents(new, "durable")
        yield "names-lost", _contents(old, "cached")
        for cut in ("empty", "half", "all-but-one", "zeros"):
            yield f"torn-{cut}", {path: _torn(file, cut) for path, file in new.items()}
        for seed in range(MIXED_SURVIVORS):
            yield f"mixed-{seed}", self._mixed(old, new, Random(seed))  # noqa: S311 - not a secret

    def _durable(self) -> dict[str, _File]:
        state = self._state
        return {
            name: file
            for name, file in state.durable_names.items()
            if all(folder in state.durable_folders for folder in _folders_above(name))
        }

    def _cached(self) -> dict[str, _File]:
        return dict(self._state.names)

    def _mixed(
        self, old: dict[str, _File], new: dict[str, _File], chance: Random
    ) -> dict[str, bytes]:
        left = {}
        for path in sorted(old.keys() | new.keys()):
            choices = [names[path] for names in (old, new) if path in names]
            unsettled = len(choices) < 2 and chance.random() < 0.5
            if not unsettled:
                how = chance.choice(("lost", "kept", "empty", "half", "all-but-one", "zeros"))
                left[path] = _torn(chance.choice(choices), how)
        return left


class SimulatedAppendFile:
    """Implements `sovereign.audit.disk.AppendFile`."""

    def __init__(self, disk: SimulatedDisk, file: _File, path: str) -> None:
        self._disk = disk
        self._file = file
        self._path = path

    def write(self, data: bytes) -> None:
        try:
            self._disk._begin(f"append {self._path}")
        except OSError as error:
            if error.errno == errno.ENOSPC:  # a full disk takes what still fits
                self._add(data[: len(data) // 2])
            raise
        self._add(data)
        self._disk._end()

    def _add(self, data: bytes) -> None:
        self._file.cached, self._file.clean = self._file.cached + data, False

    def sync(self) -> None:
        self._disk._sync_operation(f"fdatasync {self._path}", self._file, self._path)

    def close(self) -> None:
        return


def _above(path: str) -> str:
    return path.rpartition("/")[0] or "."


def _folders_above(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: i + 1]) for i in range(len(parts))]


def _contents(files: dict[str, _File], which: str) -> dict[str, bytes]:
    return {path: getattr(file, which) for path, file in files.items()}


def _torn(file: _File, how: str) -> bytes:
    """The content when only part of what was not synced has reached the platter."""
    old, new = file.durable, file.cached
    if how == "kept" or (new == old and not file.rewritten):
        return new
    if how == "lost":
        return old
    same = len(old) if new.startswith(old) and not file.rewritten else 0
    changed = new[same:]
    left = {
        "empty": b"",
        "half": changed[: len(changed) // 2],
        "all-but-one": changed[:-1],
        "zeros": bytes(len(changed)),
    }[how]
    return new[:same] + left


def damaged(disk: SimulatedDisk, path: str, content: bytes | None) -> SimulatedDisk:
    """A copy of a disk at rest, with one file replaced, or gone when `content` is None."""
    files = {name: file.cached for name, file in disk._state.names.items()}
    if content is None:
        del files[path]
    else:
        files[path] = content
    return SimulatedDisk(files)


def files_of(disk: SimulatedDisk) -> dict[str, bytes]:
    """Every file as programs see it now."""
    return {name: file.cached for name, file in disk._state.names.items()}
