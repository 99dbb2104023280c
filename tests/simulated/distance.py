"""Machines that are far apart, on one: network namespaces, and a relay that makes packets late.

A node is a program in a network namespace of its own, whose only way out is a TUN device. The relay
holds the other ends, reads each IPv4 packet, and writes it to the node it is for once its time has
come, as `delay_s` says for this packet. A kernel without netem needs no more than that.

    python -m tests.simulated.distance ADDRESS SOCKET [CLOUD ZONE]      make a node, from within
"""

import fcntl
import heapq
import os
import select
import shlex
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.simulated.metadata import cloud, serving

ROOT = Path(__file__).resolve().parents[2]
TUN = Path("/dev/net/tun")
DEVICE = "far0"
LINK_LOCAL = "169.254.169.254"
PACKETS_MAX = 10_000
"""On their way at the same time; what is more is lost, as on a real line."""
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_PACKET_MAX_BYTES = 2048
_UP_WITHIN_S = 60.0
_POLL_MS = 50

Delay = Callable[[str, str], float]
"""Seconds that one packet takes from one address to another."""


def missing() -> str:
    """What stands in the way of namespaces with TUN devices here; "" if nothing."""
    try:
        with TUN.open("r+b", buffering=0) as file:
            del file
        words = ["unshare", "--net", "ip", "link", "set", "lo", "up"]
        subprocess.run(words, check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no network namespace with a TUN device can be made here ({error})"
    return ""


class Network:
    """Nodes by address. `delay_s` may be changed while packets are on their way."""

    def __init__(self, delay_s: Delay) -> None:
        self.delay_s = delay_s
        self._ends: dict[str, int] = {}
        self._late: list[tuple[float, int, str, bytes]] = []
        self._count = 0
        self._poll = select.poll()
        self._lock = threading.Lock()

    @contextmanager
    def node(
        self, address: str, words: Sequence[str], *, metadata: tuple[str, str] | None = None
    ) -> Iterator[subprocess.Popen[str]]:
        """A program at an address, until the end of the block; `metadata`: its cloud and zone."""
        ours, theirs = socket.socketpair()
        inside = [sys.executable, "-m", "tests.simulated.distance", address, str(theirs.fileno())]
        script = f"{shlex.join([*inside, *(metadata or ())])} && exec {shlex.join(words)}"
        process = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", script],
            cwd=ROOT,
            pass_fds=[theirs.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with ours, theirs:
            theirs.close()
            ours.settimeout(_UP_WITHIN_S)
            (end,) = socket.recv_fds(ours, 1, 1)[1]
        self._join(address, end)
        try:
            yield process
        finally:
            self._leave(address)
            process.terminate()
            process.communicate(timeout=_UP_WITHIN_S)

    def _join(self, address: str, end: int) -> None:
        os.set_blocking(end, False)
        with self._lock:
            self._ends[address] = end
            self._poll.register(end, select.POLLIN)

    def _leave(self, address: str) -> None:
        with self._lock:
            end = self._ends.pop(address, None)
            if end is not None:
                self._poll.unregister(end)
                os.close(end)

    def relay(self, stop: threading.Event) -> None:
        """Pass packets on until told to stop."""
        while not stop.is_set():
            ready = self._poll.poll(self._wait_ms())
            with self._lock:
                for end, _ in ready:
                    self._take(end)
                self._deliver(time.monotonic())

    def _wait_ms(self) -> float:
        if not self._late:
            return _POLL_MS
        return min(_POLL_MS, max(0.0, (self._late[0][0] - time.monotonic()) * 1000))

    def _take(self, end: int) -> None:
        if end not in self._ends.values():
            return
        try:
            packet = os.read(end, _PACKET_MAX_BYTES)
        except OSError:  # its namespace ended
            return
        if packet[0] >> 4 != 4 or len(self._late) >= PACKETS_MAX:
            return
        source, target = (socket.inet_ntoa(packet[at : at + 4]) for at in (12, 16))
        due = time.monotonic() + self.delay_s(source, target)
        self._count += 1
        heapq.heappush(self._late, (due, self._count, target, packet))

    def _deliver(self, now: float) -> None:
        while self._late and self._late[0][0] <= now:
            _, _, target, packet = heapq.heappop(self._late)
            end = self._ends.get(target)
            if end is not None:
                try:
                    os.write(end, packet)
                except OSError:  # it is down, or its queue is full: lost
                    continue


@contextmanager
def network(delay_s: Delay) -> Iterator[Network]:
    """A network whose packets are passed on until the end of the block."""
    it, stop = Network(delay_s), threading.Event()
    thread = threading.Thread(target=it.relay, args=(stop,), daemon=True)
    thread.start()
    try:
        yield it
    finally:
        stop.set()
        thread.join(5)


# --- inside the namespace ------------------------------------------------------------------------


def _inside(address: str, to: int, metadata: Sequence[str]) -> None:
    """Make the device and hand its other end over, which keeps it."""
    end = os.open(TUN, os.O_RDWR)
    asked = struct.pack("16sH22x", DEVICE.encode(), _IFF_TUN | _IFF_NO_PI)
    fcntl.ioctl(end, _TUNSETIFF, asked)
    _ip("link", "set", "lo", "up")
    _ip("address", "add", f"{address}/24", "dev", DEVICE)
    _ip("link", "set", DEVICE, "up")
    if metadata:
        _ip("address", "add", f"{LINK_LOCAL}/32", "dev", "lo")
        _answer_beside(*metadata)
    with socket.socket(fileno=to) as line:
        socket.send_fds(line, [b"."], [end])
    os.close(end)


def _answer_beside(provider: str, zone: str) -> None:
    """A metadata service at its real address and port, for as long as the node's program lives."""
    ready, program = os.pipe(), Path(f"/proc/{os.getppid()}")
    if os.fork() == 0:
        silent = os.open(os.devnull, os.O_RDWR)
        for each in (0, 1, 2):  # whoever waits for the program's output waits for nobody else
            os.dup2(silent, each)
        with serving(cloud(provider, zone), LINK_LOCAL, port=80):
            os.write(ready[1], b".")
            while program.exists():
                time.sleep(0.1)
        os._exit(0)
    os.read(ready[0], 1)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=30)


def main() -> None:
    """Read the words above."""
    address, to, *metadata = sys.argv[1:]
    _inside(address, int(to), metadata)


if __name__ == "__main__":
    main()
