"""One controller at a time looks after a site, and one that lost its turn can act no more.

Three things together, on one host:

* The kernel keeps a lock (flock(2)) for as long as the holder lives, stopped or not. Whoever finds
  it free is the only one. When the holder is killed, the kernel gives it up.
* The holder says in the locked file who it is, and counts on while it runs. Whoever finds the lock
  taken watches that count for one term of its own clock that no sleep of the machine moves: while
  it grows, the newcomer is refused; when it stands still, the holder is ended for good before
  anybody else acts. So one that is stopped never wakes into a site that has gone on.
* Each turn has a number, given out by the registry and checked by it in the transaction of every
  write. Where locks do not meet, as after a folder was put back from a copy under a running
  controller, the one with the older number writes nothing.

It does not guard a state folder that two hosts share over a network, and neither do the locks of
the logs: a site's state is on one host.
"""

import fcntl
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from sovereign import eventlog
from sovereign.errors import LeaseHeld
from sovereign.registry import Registry

TERM_S = 20.0
"""A holder that does not count on for so long is ended; a round takes less, a busy disk too."""
BEATS_A_TERM = 8
ENDS_WITHIN_S = 10.0
"""A killed process is gone by then, unless the kernel itself waits for a disk."""
POLL_S = 0.05
_WIDTH = 256
"""Bytes of the file: it is written in one call and never changes its length."""


class Holder(msgspec.Struct, frozen=True):
    """Who holds a lease. `started` is field 22 of /proc/PID/stat: a pid is used again, both are
    not, within one `boot`. `beat` grows while the holder runs."""

    number: int
    pid: int
    started: int
    boot: str
    beat: int


class Lease:
    """A turn that is held. `number` goes into every write of the registry."""

    def __init__(self, fd: int, number: int) -> None:
        self.number = number
        self._fd = fd
        self._beat = 0

    def beat(self) -> None:
        """Say that this process runs."""
        self._beat += 1
        pid = os.getpid()
        said = Holder(self.number, pid, _started(pid) or 0, _boot(), self._beat)
        os.pwrite(self._fd, msgspec.json.encode(said).ljust(_WIDTH), 0)


def path_of(registry: Path) -> Path:
    """The file of the lease, beside the registry it guards."""
    return registry.with_suffix(".lease")


@contextmanager
def held(
    path: Path,
    registry: Registry,
    term_s: float = TERM_S,
    end: Callable[[Holder], bool] | None = None,
) -> Iterator[Lease]:
    """Hold the lease while this block runs, counting on in a thread.

    Args:
        end: ends a holder that stands still; False when that is not to be done or cannot be.

    Raises:
        LeaseHeld: another controller runs, or cannot be ended. Nothing was done.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    stop = threading.Event()
    try:
        if not _locked(fd):
            _displace(fd, term_s, end or _end)
        lease = Lease(fd, registry.take_lease())
        lease.beat()
        beating = threading.Thread(
            target=_beat_until, args=(lease, stop, term_s / BEATS_A_TERM), daemon=True, name="lease"
        )
        beating.start()
        try:
            yield lease
        finally:
            stop.set()
            beating.join(term_s)
    finally:
        os.close(fd)


def _beat_until(lease: Lease, stop: threading.Event, every_s: float) -> None:
    while not stop.wait(every_s):
        with suppress(OSError):  # a full disk changes no file of this length; anything else passes
            lease.beat()


def holder_in(path: Path) -> Holder | None:
    """Who wrote itself into a lease last, alive or not; None when nobody did, or half."""
    try:
        return msgspec.json.decode(path.read_bytes().rstrip(), type=Holder)
    except (OSError, msgspec.MsgspecError):
        return None


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _displace(fd: int, term_s: float, end: Callable[[Holder], bool]) -> None:
    """Return with the lock, once its holder has ended or was ended.

    Raises:
        LeaseHeld: it runs, says nothing that tells who it is, or did not end.
    """
    first = _written(fd)
    deadline = time.monotonic() + term_s
    while time.monotonic() < deadline:
        time.sleep(min(POLL_S, term_s / BEATS_A_TERM))
        if _locked(fd):
            return
        if _written(fd) != first:
            raise _refused(_written(fd), "runs")
    if first is None or not end(first):
        raise _refused(first, "holds the lock, and cannot be told to be the one that wrote so")
    deadline = time.monotonic() + ENDS_WITHIN_S
    while time.monotonic() < deadline:
        if _locked(fd):
            eventlog.emit("lease-taken-over", pid=first.pid)
            return
        time.sleep(POLL_S)
    raise _refused(first, "was killed and has not ended")


def _written(fd: int) -> Holder | None:
    try:
        return msgspec.json.decode(os.pread(fd, _WIDTH, 0).rstrip(), type=Holder)
    except msgspec.MsgspecError:
        return None


def _refused(holder: Holder | None, state: str) -> LeaseHeld:
    who = "a process" if holder is None else f"process {holder.pid}, lease {holder.number},"
    return LeaseHeld(
        "this site has a controller already",
        found=f"{who} {state}",
        accepted="one controller a site",
        next_step="sovereign status",
    )


def _end(holder: Holder) -> bool:
    """Kill a holder that stands still; False when that process is another one by now.

    By a descriptor of the process (pidfd_open(2)): what is killed is what was looked at.
    """
    if holder.boot != _boot() or holder.pid in (0, 1, os.getpid()):
        return False
    try:
        process = os.pidfd_open(holder.pid)
    except OSError:
        return False
    try:
        if _started(holder.pid) != holder.started:
            return False
        signal.pidfd_send_signal(process, signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(process)
    return True


def _started(pid: int) -> int | None:
    """When a process began, in ticks since the machine did; None when it cannot be seen."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _boot() -> str:
    """This run of the machine; "" where that is hidden, which equals only itself."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
