"""An anchor: measure how long a host takes to answer, and sign what came of it.

UDP, not the time of a TCP connection: whatever stands in front of a host may complete a TCP
handshake for it, and a lost packet is repeated by the kernel, where nobody sees it. A datagram is
answered by whoever holds the host's key or by nobody.

The clock of a challenge starts before it is sent and stops after the answer is read, so that what
this machine does in between makes a time longer and never shorter. Only known hosts are measured;
everything is bounded. An anchor keeps nothing.
"""

import secrets
import socket
import statistics
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from sovereign.attestation import packets
from sovereign.attestation.packets import Answer, Challenge, Hello
from sovereign.attestation.papers import Report, sealed
from sovereign.audit.note import SignerKey, VerifierKey

SESSIONS_MAX = 1024
SESSION_LASTS_S = 60
CHALLENGES_MAX = 1000
"""In one session: whoever loses more packets than that is not measured."""
POLL_S = 0.2
_MICROSECOND_NS = 1000
_SECOND_NS = 1_000_000_000

Source = tuple[object, ...]
Ticking = Callable[[], int]


@dataclass(slots=True)
class _Session:
    """A host that is being measured. `open` is the challenge it has not answered yet."""

    host: VerifierKey
    nonce: bytes
    source: Source
    began_ns: int
    open: Challenge | None = None
    sent_ns: int = 0
    drawn: int = 0
    times_us: list[int] = field(default_factory=list)
    report: bytes = b""


class Measuring:
    """What an anchor does with each datagram. Touches no socket.

    Args:
        key: signs the reports; its name is the anchor's.
        hosts: the keys of those that are measured.
        samples: how often each is asked.
        clock: the time that a report is dated with.
        ticking: nanoseconds of a clock that nobody can set.
    """

    def __init__(
        self,
        key: SignerKey,
        hosts: Iterable[VerifierKey],
        samples: int,
        clock: Callable[[], datetime],
        ticking: Ticking = time.monotonic_ns,
    ) -> None:
        self._key = key
        self._hosts = {host.id: host for host in hosts}
        self._samples = samples
        self._clock = clock
        self._ticking = ticking
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()

    def received(self, data: bytes, source: Source, at_ns: int) -> bytes | None:
        """What to send back to `source`, at once; None: nothing. `at_ns` is when it was read."""
        packet = packets.read(data)
        if isinstance(packet, Hello):
            return self._begin(packet, source, at_ns)
        if isinstance(packet, Answer):
            return self._go_on(packet, source, at_ns)
        return None

    def _begin(self, said: Hello, source: Source, at_ns: int) -> bytes | None:
        host = self._hosts.get(said.key_id)
        if host is None or not packets.is_hello_of(said, self._key.name, host):
            return None
        self._forget(at_ns)
        name = secrets.token_bytes(packets.SESSION_BYTES)
        self._sessions[name] = _Session(host, said.nonce, source, at_ns)
        return self._ask(name, self._sessions[name])

    def _forget(self, at_ns: int) -> None:
        """Sessions that ended, and the oldest where there are too many."""
        while self._sessions:
            oldest = next(iter(self._sessions.values()))
            late = at_ns - oldest.began_ns > SESSION_LASTS_S * _SECOND_NS
            if not late and len(self._sessions) < SESSIONS_MAX:
                return
            self._sessions.popitem(last=False)

    def _ask(self, name: bytes, session: _Session) -> bytes | None:
        """Draw a new challenge; one that was drawn before and not answered counts no more."""
        if session.drawn >= CHALLENGES_MAX:
            return None
        session.drawn += 1
        drawn = secrets.token_bytes(packets.CHALLENGE_BYTES)
        session.open = Challenge(name, len(session.times_us), drawn)
        session.sent_ns = self._ticking()
        return packets.challenge(name, session.open.number, drawn)

    def _go_on(self, said: Answer, source: Source, at_ns: int) -> bytes | None:
        session = self._sessions.get(said.session)
        if session is None or session.source != source:
            return None
        if said.number < len(session.times_us):  # what we sent after it was lost
            return session.report or self._ask(said.session, session)
        asked = session.open
        if asked is None or not packets.is_answer_of(said, asked, session.nonce, session.host):
            return None
        session.open = None
        session.times_us.append(max(0, at_ns - session.sent_ns) // _MICROSECOND_NS)
        if len(session.times_us) < self._samples:
            return self._ask(said.session, session)
        session.report = packets.report(self._reported(session))
        return session.report

    def _reported(self, session: _Session) -> bytes:
        times = session.times_us
        paper = Report(
            anchor=self._key.name,
            host_key=str(session.host),
            nonce=session.nonce.hex(),
            at=self._clock(),
            samples=len(times),
            least_us=min(times),
            middle_us=int(statistics.median(times)),
        )
        return sealed(paper, self._key)


def serve(measuring: Measuring, listening: socket.socket, stopped: Callable[[], bool]) -> None:
    """Answer datagrams until `stopped`, which is asked several times a second."""
    listening.settimeout(POLL_S)
    while not stopped():
        try:
            data, source = listening.recvfrom(packets.DATAGRAM_MAX_BYTES + 1)
        except TimeoutError:
            continue
        except OSError:  # an ICMP error of somebody we answered is about them
            continue
        at_ns = time.monotonic_ns()
        back = measuring.received(data, source, at_ns)
        if back is not None:
            _send(listening, back, source)


def _send(listening: socket.socket, data: bytes, source: Source) -> None:
    try:
        listening.sendto(data, source)
    except OSError:
        return  # it asks again, or not


def bound(address: str, port: int) -> socket.socket:
    """A socket that datagrams to this address come to.

    Raises:
        OSError: it cannot be had.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_DGRAM)
    try:
        listening.bind((address, port))
    except OSError:
        listening.close()
        raise
    return listening
