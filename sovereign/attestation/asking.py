"""Ask an anchor to measure this host, and bring its report back.

The host answers each challenge as soon as it is read. What is lost is sent again after `wait_s`;
the time of that sample is longer then, which can only speak against being near. An anchor that does
not answer costs a bounded time and gives no report.
"""

import socket
import time
from collections.abc import Callable

from sovereign.attestation import packets
from sovereign.attestation.packets import Challenge, Reported
from sovereign.attestation.papers import Report, opened
from sovereign.audit.note import SignerKey, VerifierKey

TRIES = 3
"""So often something is sent again before an anchor is given up."""

Connect = Callable[[str, int], socket.socket]


def connected(address: str, port: int) -> socket.socket:
    """A socket that hears nobody but the anchor.

    Raises:
        OSError: there is no way there.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    line = socket.socket(family, socket.SOCK_DGRAM)
    try:
        line.connect((address, port))
    except OSError:
        line.close()
        raise
    return line


def ask(
    address: str,
    anchor: VerifierKey,
    nonce: bytes,
    key: SignerKey,
    wait_s: float,
    within_s: float,
    connect: Connect = connected,
) -> bytes | None:
    """The report of the anchor at `address:port`, as it signed it; None when none came in time."""
    host, _, port = address.rpartition(":")
    try:
        line = connect(host.strip("[]"), int(port))
    except OSError:
        return None
    with line:
        return _measured(line, anchor, nonce, key, wait_s, time.monotonic() + within_s)


def _measured(
    line: socket.socket,
    anchor: VerifierKey,
    nonce: bytes,
    key: SignerKey,
    wait_s: float,
    until: float,
) -> bytes | None:
    last, tries = packets.hello(anchor.name, nonce, key), TRIES
    _send(line, last)
    while tries and time.monotonic() < until:
        packet = _next(line, min(wait_s, max(0.001, until - time.monotonic())))
        if packet is None:
            tries -= 1
            _send(line, last)
        elif isinstance(packet, Challenge):
            last, tries = packets.answer(packet, nonce, key), TRIES
            _send(line, last)
        elif isinstance(packet, Reported) and opened(packet.note, anchor, Report) is not None:
            return packet.note
    return None


def _next(line: socket.socket, wait_s: float) -> packets.Packet | None:
    """The next datagram that is a packet; None after so long without any."""
    until = time.monotonic() + wait_s
    while (left := until - time.monotonic()) > 0:
        line.settimeout(left)
        try:
            packet = packets.read(line.recv(packets.DATAGRAM_MAX_BYTES + 1))
        except TimeoutError:
            return None
        except OSError:  # nobody listens there just now
            time.sleep(min(left, 0.05))
            continue
        if packet is not None:
            return packet
    return None


def _send(line: socket.socket, data: bytes) -> None:
    try:
        line.send(data)
    except OSError:
        return  # sent again after the wait
