"""Read from the running machine what a policy makes claims about. Read-only, a fixed list.

What a template or a unit file says is not evidence; what the kernel says of the process
that listens on the engine's port is. On a managed host these facts are root's to see, so
the same function answers there from a one-shot unit over a socket (`sovereign serve
observe`), and the controller keeps no privilege. Only the variables asked for are read out
of an environment: the others may hold secrets.
"""

import ipaddress
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

LISTEN = "0A"
"""State of a listening socket in /proc/net/tcp (Linux proc_net_tcp documentation)."""

ANSWER_MAX_BYTES = 1_048_576
SOCKET_TIMEOUT_S = 10


class EngineProcess(msgspec.Struct, frozen=True):
    """What is known of the process behind an address. None means it could not be seen.

    `environment` holds only the names asked for; a name that is unset is absent.
    `listeners` are the addresses that the listening TCP sockets of the process, and of all that
    it started, are bound to.
    """

    pid: int | None = None
    environment: dict[str, str] | None = None
    listeners: tuple[str, ...] | None = None


def observe(address: str, names: Iterable[str], proc: Path = Path("/proc")) -> EngineProcess:
    """Look at the process that listens on `address`; never raises for what it may not see.

    When several sockets would be given a connection to `address`, each must have an owner that
    can be seen: what one cannot see might be the one that answers.
    """
    sockets = dict(_listening(proc))
    owners = [_owner(proc, inode) for inode in _answering(address, sockets)]
    seen = [pid for pid in owners if pid is not None]
    if not seen or len(seen) < len(owners):
        return EngineProcess()
    pid = min(seen)
    return EngineProcess(pid, _environment(proc, pid, set(names)), _listeners(proc, pid, sockets))


def ask(socket_path: str) -> EngineProcess:
    """Ask the observer of a managed host; anything but a whole answer is "could not be seen"."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(SOCKET_TIMEOUT_S)
            connection.connect(socket_path)
            parts = b""
            while len(parts) < ANSWER_MAX_BYTES and (part := connection.recv(65_536)):
                parts += part
        return msgspec.json.decode(parts, type=EngineProcess)
    except (OSError, msgspec.DecodeError):
        return EngineProcess()


def _listening(proc: Path) -> Iterator[tuple[str, str]]:
    """Inode and `address:port` of every listening TCP socket of this network namespace."""
    for name in ("net/tcp", "net/tcp6"):
        try:
            lines = (proc / name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == LISTEN:
                yield fields[9], _decoded(fields[1])


def _decoded(hexed: str) -> str:
    """`0100007F:1F90` is 127.0.0.1:8080: each 32-bit word is little-endian."""
    address, _, port = hexed.partition(":")
    words = [bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8)]
    found = ipaddress.ip_address(b"".join(words))
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return f"{mapped or found}:{int(port, 16)}"


def _answering(address: str, sockets: dict[str, str]) -> list[str]:
    """The sockets that a connection to `address` is given to: the exact ones before wildcards."""
    host, _, port = address.rpartition(":")
    asked = f"{ipaddress.ip_address(host.strip('[]'))}:{int(port)}"
    exact = [inode for inode, bound in sockets.items() if bound == asked]
    wild = (f"0.0.0.0:{int(port)}", f":::{int(port)}")
    return exact or [inode for inode, bound in sockets.items() if bound in wild]


def _owner(proc: Path, inode: str) -> int | None:
    """The process that holds a socket; the oldest one when it was inherited."""
    wanted = f"socket:[{inode}]"
    return min((pid for pid in _pids(proc) if wanted in _open_files(proc, pid)), default=None)


def _pids(proc: Path) -> Iterator[int]:
    for entry in proc.iterdir():
        if entry.name.isdigit():
            yield int(entry.name)


def _open_files(proc: Path, pid: int) -> set[str]:
    try:
        entries = [*(proc / str(pid) / "fd").iterdir()]
    except OSError:
        return set()  # another user's process, or it ended: it simply is not the one we can see
    found = set()
    for entry in entries:
        with suppress(OSError):  # it was closed meanwhile, which says nothing of the others
            found.add(str(entry.readlink()))
    return found


def _environment(proc: Path, pid: int, names: set[str]) -> dict[str, str] | None:
    try:
        raw = (proc / str(pid) / "environ").read_bytes()
    except OSError:
        return None
    pairs = (entry.partition(b"=") for entry in raw.split(b"\0") if entry)
    return {
        name.decode(): value.decode(errors="replace")
        for name, _, value in pairs
        if name.decode(errors="replace") in names
    }


def _listeners(proc: Path, pid: int, sockets: dict[str, str]) -> tuple[str, ...] | None:
    held = set().union(*(_open_files(proc, each) for each in _family(proc, pid)))
    found = {bound for inode, bound in sockets.items() if f"socket:[{inode}]" in held}
    return tuple(sorted(found)) or None


def _family(proc: Path, pid: int) -> set[int]:
    """A process and all that it started and that still run: an engine's workers are the engine."""
    parents = {each: _parent(proc, each) for each in _pids(proc)}
    family, grown = {pid}, 0
    while grown < len(family):
        grown = len(family)
        family |= {each for each, parent in parents.items() if parent in family}
    return family


def _parent(proc: Path, pid: int) -> int:
    """The parent of a process, 0 when it has ended; the name before it may hold anything."""
    try:
        return int((proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0
