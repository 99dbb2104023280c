"""Every place where a word of a client could have stayed, and reading each to its end.

A place that could not be read is said to be so: then nobody knows, and no drill passes. One that
is not there (no journal on this machine, no page of metrics) is said too.

Files are read as bytes. So the free pages of a database, its write-ahead log and the journals of
the audit logs are searched like anything else, whatever their programs would show of them.
"""

import errno
import os
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path

from sovereign import dated
from sovereign.drills import processes
from sovereign.drills.processes import SHARED, Process
from sovereign.drills.seek import PART_BYTES, Find, Seeker
from sovereign.observations.dumps import could_dump
from sovereign.settings import Home

GREAT_BYTES = 32 << 20
"""A file this large that has not changed since before the drill is not read: a canary of this
drill cannot be in it. Such are the weights of a model."""
EARLIER_S = 5.0
"""Clocks of file systems are coarse; what changed up to this long before counts as changed."""
UNREADABLE_SHOWN = 20
JOURNAL_SOCKET, JOURNAL_WITHIN_S = Path("/run/systemd/journal/socket"), 120.0
TEMPORARY = tuple(Path("/", name) for name in ("tmp", "var/tmp", SHARED))
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """A word of a client that stayed somewhere. What stands around it is never told."""

    sink: str
    where: str
    find: Find


@dataclass(slots=True)
class Looked:
    """What came of one sink. `absent` says why there is nothing to look at, "" when there is.

    `unreadable` names what could not be searched to its end; `unchanged` counts great files that
    were not read because they have not changed since before the drill.
    """

    sink: str
    items: int = 0
    bytes: int = 0
    unchanged: int = 0
    absent: str = ""
    unreadable: list[str] = field(default_factory=list)
    findings: set[Finding] = field(default_factory=set)

    def lacks(self, what: str, why: str) -> None:
        """Note something that could not be searched."""
        self.unreadable.append(f"{what}: {why}")


@dataclass(frozen=True, slots=True)
class Search:
    """One search: for which words, since when, with the folders of control files apart."""

    seeker: Seeker
    since: datetime
    say: Say = lambda _: None

    def changed(self, entry: os.stat_result) -> bool:
        """True when a file may have changed since the drill began; its owner cannot hide it."""
        return entry.st_ctime >= self.since.timestamp() - EARLIER_S

    def entry(self, looked: Looked, path: Path, shown: str) -> None:
        """Search what a folder holds: a file, or else its name and what a link leads to."""
        try:
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                self.file(looked, path, shown)
                return
            self.name(looked, shown)
            if stat.S_ISLNK(mode):
                self.name(looked, str(path.readlink()))
        except OSError:
            return  # it went away

    def file(self, looked: Looked, path: Path, shown: str) -> None:
        """Search one plain file and its name."""
        self.name(looked, shown)
        try:
            entry = path.stat()
            great = entry.st_size >= GREAT_BYTES and SHARED not in str(path)
            if great and not self.changed(entry):
                looked.unchanged += 1
                return
            with path.open("rb", buffering=0) as opened:
                self.parts(looked, shown, _written(opened))
        except FileNotFoundError:
            return  # it went away: a temporary file of a rename, a bundle that was sealed
        except OSError as error:
            looked.lacks(shown, error.strerror or type(error).__name__)

    def parts(self, looked: Looked, where: str, parts: Iterable[bytes]) -> None:
        """Search bytes as they come."""
        sought = self.seeker.seek(parts)
        looked.items += 1
        looked.bytes += sought.bytes
        looked.findings |= {Finding(looked.sink, where, find) for find in sought.finds}
        if sought.cut:
            looked.lacks(where, "more is packed in it than is unpacked here")

    def name(self, looked: Looked, shown: str) -> None:
        """Search a path, which is not told when a word is in it."""
        finds = self.seeker.name(shown)
        looked.findings |= {Finding(looked.sink, "the name of a file", find) for find in finds}


def _written(opened: FileIO) -> Iterator[bytes]:
    """What was ever written to a file, to its end: its holes (lseek(2)) are passed over."""
    at, number = 0, opened.fileno()
    while True:
        try:
            at = os.lseek(number, at, os.SEEK_DATA)
            end = os.lseek(number, at, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        while at < end:
            part = os.pread(number, min(PART_BYTES, end - at), at)
            if not part:
                return
            yield part
            at += len(part)


def folders(home: Home) -> list[Path]:
    """The folders and files of a site, without those that lie in another of them."""
    chosen = [home.root, home.audit, home.keys, home.trust, home.registry.parent]
    chosen += [home.keystore.parent, home.logs, home.models, home.run]
    found: list[Path] = []
    for path in sorted({path.resolve() for path in chosen}, key=lambda path: len(path.parts)):
        if not any(path.is_relative_to(known) for known in found):
            found.append(path)
    return found


def files(search: Search, home: Home) -> Looked:
    """Everything below the site's folders: logs, audit logs, databases, states, and their names."""
    looked = Looked("files")
    for root in folders(home):
        for path, shown in _walked(looked, root, home.root.resolve()):
            search.entry(looked, path, shown)
            if looked.items % 500 == 0 and path.is_file():
                search.say(f"{looked.items} files, {looked.bytes >> 20} MiB")
    return looked


def _walked(looked: Looked, root: Path, home: Path) -> Iterator[tuple[Path, str]]:
    """Everything below a folder, folders and links too: their names may say something."""

    def refused(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            looked.lacks(str(error.filename), error.strerror or type(error).__name__)

    for folder, folders_in, names in os.walk(root, onerror=refused):
        for name in sorted([*folders_in, *names]):
            path = Path(folder) / name
            yield path, str(path.relative_to(home) if path.is_relative_to(home) else path)


def output(home: Home, there: list[Process]) -> Looked:
    """Where the processes print to. The supervisor writes it below `logs`, which `files` reads.

    A day's log that is full takes no more, so that a leak would not be seen in it.
    """
    looked = Looked("process output")
    today = datetime.now(UTC)
    for process in there:
        try:
            sorts = processes.outputs(process.pid)
        except FileNotFoundError:
            continue
        except OSError as error:
            looked.lacks(f"{process.name} {process.pid}", error.strerror or "")
            continue
        looked.items += len(sorts)
        if "terminal" in sorts.values():
            looked.lacks(f"{process.name} {process.pid}", "it prints to a terminal")
        if "socket" in sorts.values() and not JOURNAL_SOCKET.exists():
            looked.lacks(f"{process.name} {process.pid}", "it prints to a socket nobody knows")
    for log in home.logs.glob("*.log") if home.logs.is_dir() else ():
        day = dated.day_of(log)
        if day and day.date() == today.date() and log.stat().st_size >= dated.DAY_MAX_BYTES:
            looked.lacks(log.name, "the day's log is full, and what is printed now is dropped")
    return looked


def shown_by_the_kernel(search: Search, there: list[Process], absent: list[str]) -> Looked:
    """Command lines, environments and names: what `ps` shows of a process to others."""
    looked = Looked("processes")
    looked.unreadable += [f"{name}: no process of it was seen" for name in absent]
    for process in there:
        for kind in processes.SHOWN:
            where = f"{kind} of {process.name}"
            try:
                data = Path(f"/proc/{process.pid}/{kind}").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            except OSError as error:
                looked.lacks(where, error.strerror or "")
                continue
            search.parts(looked, where, [data])
    return looked


def held_open(search: Search, home: Home, there: list[Process]) -> Looked:
    """Files that the processes hold open outside the site's folders, deleted ones among them."""
    looked, known = Looked("open files"), folders(home)
    seen: set[str] = set()
    for process in there:
        try:
            found = processes.open_files(process.pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
        except OSError as error:
            looked.lacks(f"{process.name} {process.pid}", error.strerror or "")
            continue
        for name, way in found.items():
            if name.startswith(f"/{SHARED}/"):
                continue
            inside = any(Path(name).is_relative_to(folder) for folder in known)
            if name not in seen and not (inside and not name.endswith(" (deleted)")):
                seen.add(name)
                search.file(looked, way, name)
    return looked


def temporary(search: Search, home: Home, there: list[Process]) -> Looked:
    """What changed in the temporary folders since the drill began, and is of the site's users; of
    shared memory, all that no process has any more."""
    looked = Looked("temporary files")
    owners = {processes.owner_of(process.pid) for process in there} | {os.geteuid()}
    known, shared = folders(home), processes.shared_memory()
    for root in _temporary_folders(there):
        for path, shown in _walked(looked, root, root.parent):
            entry = _entry(path)
            ours = any(path.is_relative_to(folder) for folder in known)
            if entry is None or ours or entry.st_uid not in owners:
                continue
            is_shared = str(root).endswith(f"/{SHARED}")
            if path.name in shared if is_shared else not search.changed(entry):
                continue
            search.entry(looked, path, shown)
    looked.unreadable = [each for each in looked.unreadable if "Permission denied" not in each]
    return looked


def _entry(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except OSError:
        return None


def _temporary_folders(there: list[Process]) -> list[Path]:
    """Those of this machine, and those that each process sees or was told of."""
    names = {*map(str, TEMPORARY), tempfile.gettempdir()}
    names |= {processes.environment_of(p.pid, "TMPDIR") for p in there} - {""}
    apart = {f"/proc/{p.pid}/root{name}" for p in there if _is_apart(p.pid) for name in TEMPORARY}
    found: dict[tuple[int, int], Path] = {}
    for path in map(Path, sorted(names | apart)):
        entry = _entry(path)
        if entry is not None and stat.S_ISDIR(entry.st_mode):
            found.setdefault((entry.st_dev, entry.st_ino), path)
    return list(found.values())


def _is_apart(pid: int) -> bool:
    """True for a process that sees other folders than we do, as a service with PrivateTmp does."""
    try:
        return Path(f"/proc/{pid}/ns/mnt").readlink() != Path("/proc/self/ns/mnt").readlink()
    except OSError:
        return False


def dumps(there: list[Process]) -> Looked:
    """Whether a core dump of any process could be written at all."""
    looked = Looked("core dumps")
    for process in there:
        try:
            why = could_dump(process.pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
        except (OSError, ValueError, StopIteration) as error:
            looked.lacks(f"{process.name} {process.pid}", type(error).__name__)
            continue
        looked.items += 1
        if why:
            find = Find("a core dump is possible", "memory", "a crash")
            looked.findings.add(Finding(looked.sink, f"{process.name}: {why}", find))
    return looked


def journal(search: Search, there: list[Process]) -> Looked:
    """The machine's journal since the drill began, with every field, as the journal unpacks it."""
    looked = Looked("journal")
    if not JOURNAL_SOCKET.exists():
        looked.absent = "this machine has no journal"
        return looked
    since = f"@{int(search.since.timestamp() - EARLIER_S)}"
    words = ["journalctl", "--all", "--output=export", "--no-pager", f"--since={since}"]
    try:
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as said:
            assert said.stdout is not None
            read = said.stdout.read
            search.parts(looked, "journalctl", iter(lambda: read(PART_BYTES), b""))
            code = said.wait(JOURNAL_WITHIN_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        looked.lacks("journalctl", type(error).__name__)
        return looked
    if code:
        looked.lacks("journalctl", f"it ended with {code}")
    if looked.bytes == 0 and any("socket" in _outputs(p).values() for p in there):
        looked.lacks("journalctl", "the services print to the journal, and nothing of it is seen")
    return looked


def _outputs(process: Process) -> dict[str, str]:
    try:
        return processes.outputs(process.pid)
    except OSError:
        return {}
