"""The exchange between a host and an anchor, over real sockets, and what others can do to it."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign.attestation import anchor, asking, packets
from sovereign.attestation.anchor import Measuring
from sovereign.attestation.packets import Challenge
from sovereign.attestation.papers import Report, opened
from sovereign.audit.note import SignerKey
from tests.attestation.making import ANCHOR_KEYS, HOST, NONCE, OTHER_HOST

KEY = ANCHOR_KEYS["frankfurt"]
RUN = bytes.fromhex(NONCE)
HERE = ("192.0.2.9", 5)
MS = 1_000_000


def now() -> datetime:
    return datetime.now(UTC)


class Ticks:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns


def begun(samples: int = 3) -> tuple[Measuring, Ticks]:
    ticks = Ticks()
    return Measuring(KEY, [HOST.verifier], samples, now, ticks), ticks


def exchanged(
    measuring: Measuring, ticks: Ticks, delays_ms: list[int], key: SignerKey = HOST
) -> Report | None:
    """A host that answers each challenge after so long."""
    back = measuring.received(packets.hello(KEY.name, RUN, key), HERE, ticks.ns)
    for delay in delays_ms:
        asked = packets.read(back or b"")
        if not isinstance(asked, Challenge):
            return None
        ticks.ns += delay * MS
        back = measuring.received(packets.answer(asked, RUN, key), HERE, ticks.ns)
    reported = packets.read(back or b"")
    assert isinstance(reported, packets.Reported)
    return opened(reported.note, KEY.verifier, Report)


def test_the_least_time_is_reported_with_all_that_binds_it() -> None:
    """The run, the host key and the number of answers: without one of them it says nothing."""
    measuring, ticks = begun()
    said = exchanged(measuring, ticks, [9, 4, 7])
    assert said is not None
    assert (said.least_us, said.middle_us, said.samples) == (4000, 7000, 3)
    assert (said.host_key, said.nonce) == (str(HOST.verifier), NONCE)


def test_a_stranger_is_not_measured() -> None:
    """An anchor is no service for everybody, and nobody's amplifier."""
    measuring, _ = begun()
    assert measuring.received(packets.hello(KEY.name, RUN, OTHER_HOST), HERE, 0) is None
    other = packets.hello("anchor.elsewhere.example", RUN, HOST)
    assert measuring.received(other, HERE, 0) is None  # it asked somebody else
    assert measuring.received(b"GET / HTTP/1.1\r\n\r\n", HERE, 0) is None


def test_what_an_anchor_sends_first_is_shorter_than_what_it_was_sent() -> None:
    """With a forged sender, it must not send more to a victim than the forger sent."""
    measuring, _ = begun()
    asked = packets.hello(KEY.name, RUN, HOST)
    assert len(measuring.received(asked, HERE, 0) or b"") < len(asked)


def test_a_box_nearby_cannot_answer_for_the_host() -> None:
    """It sees every challenge and has no key; what the host answered before is for another one."""
    measuring, ticks = begun()
    first = packets.read(measuring.received(packets.hello(KEY.name, RUN, HOST), HERE, 0) or b"")
    assert isinstance(first, Challenge)
    assert measuring.received(packets.answer(first, RUN, OTHER_HOST), HERE, 1) is None
    good = packets.answer(first, RUN, HOST)
    second = packets.read(measuring.received(good, HERE, 10 * MS) or b"")
    assert isinstance(second, Challenge)
    replayed = good[:-66] + second.number.to_bytes(2, "big") + good[-64:]
    assert measuring.received(replayed, HERE, 11 * MS) is None
    ticks.ns = 30 * MS
    assert measuring.received(packets.answer(second, RUN, HOST), ("192.0.2.10", 5), 31 * MS) is None


def test_a_signature_for_an_answer_is_none_for_a_hello() -> None:
    """Each signs under a word of its own."""
    asked = Challenge(b"s" * 8, 0, b"c" * 32)
    answer = packets.answer(asked, RUN, HOST)
    forged = packets.MAGIC + b"H" + HOST.verifier.id + RUN + answer[-64:]
    measuring, _ = begun()
    assert measuring.received(forged, HERE, 0) is None


def test_what_was_lost_is_asked_again_and_only_makes_a_time_longer() -> None:
    """A lost challenge is drawn anew; a lost answer is sent again, and the clock has run on."""
    measuring, ticks = begun(2)
    first = packets.read(measuring.received(packets.hello(KEY.name, RUN, HOST), HERE, 0) or b"")
    assert isinstance(first, Challenge)
    answer = packets.answer(first, RUN, HOST)
    lost = packets.read(measuring.received(answer, HERE, 5 * MS) or b"")
    ticks.ns = 100 * MS
    anew = packets.read(measuring.received(answer, HERE, 100 * MS) or b"")
    assert isinstance(lost, Challenge)
    assert isinstance(anew, Challenge)
    assert (lost.number, lost.drawn == anew.drawn) == (anew.number, False)
    assert measuring.received(packets.answer(lost, RUN, HOST), HERE, 101 * MS) is None
    note = measuring.received(packets.answer(anew, RUN, HOST), HERE, 107 * MS)
    again = measuring.received(packets.answer(anew, RUN, HOST), HERE, 900 * MS)
    assert note == again
    said = opened((note or b"")[5:], KEY.verifier, Report)
    assert said is not None
    assert (said.least_us, said.samples) == (5000, 2)


def test_sessions_and_challenges_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A known host that goes mad costs the anchor a bounded memory."""
    monkeypatch.setattr(anchor, "SESSIONS_MAX", 3)
    monkeypatch.setattr(anchor, "CHALLENGES_MAX", 4)
    measuring, _ = begun()
    hello = packets.hello(KEY.name, RUN, HOST)
    asked = [packets.read(measuring.received(hello, HERE, 0) or b"") for _ in range(5)]
    oldest, newest = asked[0], asked[-1]
    assert isinstance(oldest, Challenge)
    assert isinstance(newest, Challenge)
    assert measuring.received(packets.answer(oldest, RUN, HOST), HERE, 1) is None
    answer = packets.answer(newest, RUN, HOST)
    replies = [measuring.received(answer, HERE, 1) for _ in range(6)]
    assert [reply is not None for reply in replies] == [True, True, True, False, False, False]


@given(st.binary(max_size=300))
def test_no_datagram_is_too_strange_to_read(data: bytes) -> None:
    """Anybody can send anything to an open port."""
    for given_ in (data, packets.MAGIC + data):
        packets.read(given_)
        measuring, _ = begun()
        assert measuring.received(given_, HERE, 0) is None


# --- over sockets --------------------------------------------------------------------------------


@contextmanager
def anchored(samples: int = 5) -> Iterator[int]:
    """A real anchor at a port of loopback."""
    stop = threading.Event()
    measuring = Measuring(KEY, [HOST.verifier], samples, now)
    with anchor.bound("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        arguments = (measuring, listening, stop.is_set)
        thread = threading.Thread(target=anchor.serve, args=arguments, daemon=True)
        thread.start()
        try:
            yield port
        finally:
            stop.set()
            thread.join(5)


def ask(
    port: int, key: SignerKey = HOST, connect: asking.Connect = asking.connected
) -> bytes | None:
    return asking.ask(f"127.0.0.1:{port}", KEY.verifier, RUN, key, 0.3, 10, connect)


def test_a_host_brings_back_a_report_over_the_network() -> None:
    """The real thing, with the kernel's sockets in between."""
    with anchored() as port:
        note = ask(port)
    said = opened(note or b"", KEY.verifier, Report)
    assert said is not None
    assert (said.samples, said.nonce) == (5, NONCE)


def test_an_anchor_that_does_not_answer_costs_a_bounded_time() -> None:
    """One that is down must not hold a run; none that listens, none that answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        assert asking.ask(f"127.0.0.1:{port}", KEY.verifier, RUN, HOST, 0.05, 5) is None
    assert asking.ask(f"127.0.0.1:{port}", KEY.verifier, RUN, HOST, 0.05, 5) is None
    assert asking.ask("256.0.0.1:7411", KEY.verifier, RUN, HOST, 0.05, 5) is None


def test_packets_that_are_lost_do_not_lose_the_report() -> None:
    """Every third datagram of the host goes nowhere."""
    with anchored() as port:
        note = ask(port, connect=_losing(3))
    assert opened(note or b"", KEY.verifier, Report) is not None


def test_a_stranger_gets_no_report_over_the_network() -> None:
    """Silence, and the bound of it."""
    with anchored() as port:
        address = f"127.0.0.1:{port}"
        assert asking.ask(address, KEY.verifier, RUN, OTHER_HOST, 0.05, 5) is None


def _losing(every: int) -> Callable[[str, int], socket.socket]:
    class Losing(socket.socket):
        sent = 0

        def send(self, *data: object) -> int:
            Losing.sent += 1
            return 0 if Losing.sent % every == 0 else super().send(*data)

    def connect(address: str, port: int) -> socket.socket:
        line = Losing(socket.AF_INET, socket.SOCK_DGRAM)
        line.connect((address, port))
        return line

    return connect
