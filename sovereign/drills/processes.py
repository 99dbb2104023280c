"""The processes of a site, and what the machine shows of them to others.

Read-only, out of /proc. What cannot be read is said, never taken for empty.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sovereign import host
from sovereign.settings import Home
from sovereign.supervisor import control
from sovereign.supervisor.watch import CHILDREN

SHOWN = ("cmdline", "environ", "comm")
"""What /proc shows of a process that could hold a word of a client."""
STREAMS = {1: "standard output", 2: "standard error"}

SHARED = "dev/shm"
"""Memory that processes share by name: vLLM's hand each other their calls through it. While they
run it is their memory, which no drill searches. What outlives them is searched like any file, but
its times do not say when it was written."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process of the site: engine, gateway, controller, supervisor, or what one started."""

    name: str
    pid: int


def of_site(home: Home, proc: Path = Path("/proc")) -> list[Process]:
    """Every process of the site that runs: those of the supervisor, or else the services'.

    A managed host has no supervisor of ours; there a service is known by its command.
    """
    known = control.state(home)
    if known is not None:
        roots = {"supervisor": known.pid}
        roots |= {c.name: c.pid for c in known.children if c.state == "running"}
    else:
        roots = dict(_services(proc, str(home.root)))
        roots |= _listening("engine", home.settings.engine.listen, proc)
    for each in home.settings.endpoints:
        roots |= _listening(f"engine {each.id}", each.address, proc)
    parents = {pid: _parent(proc, pid) for pid in _pids(proc)}
    named = {pid: name for name, pid in roots.items()}
    nearest = {pid: pid if pid in named else _above(pid, parents, set(named)) for pid in parents}
    return [Process(named[root], pid) for pid, root in nearest.items() if root]


def _listening(name: str, address: str, proc: Path) -> dict[str, int]:
    """The process that listens there, when it is one of this machine."""
    pid = host.observe(address, [], proc).pid
    return {} if pid is None else {name: pid}


def missing(found: list[Process]) -> list[str]:
    """The services of which no process was seen."""
    there = {process.name for process in found}
    return [name for name in CHILDREN if name not in there]


def _services(proc: Path, root: str) -> Iterator[tuple[str, int]]:
    """Processes that serve this home: `… serve NAME --home ROOT`."""
    for pid in _pids(proc):
        try:
            words = (proc / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        at = words.index("serve") + 1 if "serve" in words else len(words)
        if words[at : at + 1] and words[at] in CHILDREN and root in words:
            yield words[at], pid


def _pids(proc: Path) -> list[int]:
    return sorted(int(entry.name) for entry in proc.iterdir() if entry.name.isdigit())


def _parent(proc: Path, pid: int) -> int:
    try:
        return int((proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _above(pid: int, parents: dict[int, int], roots: set[int]) -> int:
    """The process of the site that one was started by, 0 for a stranger."""
    seen = set()
    while pid in parents and pid not in seen:
        seen.add(pid)
        pid = parents[pid]
        if pid in roots:
            return pid
    return 0


def environment_of(pid: int, name: str, proc: Path = Path("/proc")) -> str:
    """A variable of a process, "" when it is unset or cannot be read."""
    try:
        raw = (proc / str(pid) / "environ").read_bytes()
    except OSError:
        return ""
    pairs = (entry.partition(b"=") for entry in raw.split(b"\0"))
    return next((os.fsdecode(value) for key, _, value in pairs if key == name.encode()), "")


def owner_of(pid: int, proc: Path = Path("/proc")) -> int:
    """The user a process runs as, -1 once it has ended."""
    try:
        return (proc / str(pid)).stat().st_uid
    except OSError:
        return -1


def open_files(pid: int, proc: Path = Path("/proc")) -> dict[str, Path]:
    """The plain files that a process holds open, deleted ones too: their names, and a way in.

    Raises:
        OSError: it may not be seen.
    """
    found = {}
    for entry in (proc / str(pid) / "fd").iterdir():
        try:
            if stat.S_ISREG(entry.stat().st_mode):
                found[str(entry.readlink())] = entry
        except FileNotFoundError:
            continue  # closed in the meantime
    return found


def shared_memory(proc: Path = Path("/proc")) -> set[str]:
    """Names of the memory (shm_overview(7)) that any process shares with others, as far as they may
    be seen: another user's has another owner."""
    found: set[str] = set()
    for pid in _pids(proc):
        try:
            names = list(open_files(pid, proc))
            names += (proc / str(pid) / "maps").read_text(errors="replace").split()
        except OSError:
            continue
        found |= {name.rpartition("/")[2] for name in names if name.startswith(f"/{SHARED}/")}
    return found


def outputs(pid: int, proc: Path = Path("/proc")) -> dict[str, str]:
    """Where a process prints to: `file`, `pipe`, `socket`, `nowhere` or `terminal`, by stream.

    Raises:
        OSError: it may not be seen.
    """
    return {name: _sort(proc / str(pid) / "fd" / str(fd)) for fd, name in STREAMS.items()}


def _sort(entry: Path) -> str:
    try:
        target = str(entry.readlink())
    except FileNotFoundError:
        return "nowhere"
    for start, sort in (("/dev/null", "nowhere"), ("pipe:", "pipe"), ("socket:", "socket")):
        if target.startswith(start):
            return sort
    return "terminal" if target.startswith("/dev/") else "file"
