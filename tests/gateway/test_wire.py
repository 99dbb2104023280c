"""A connection to an engine, byte by byte: however it is cut into pieces, and whatever comes.

h11 reads the same bytes beside it: what we take for an answer is what another implementation
takes for one.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign.gateway.wire import HEAD_MAX_BYTES, HELD_MAX_BYTES, Wire, WireBroken

PIECE = 4096


class Line(asyncio.Transport):
    """A connection without a network; it says what was done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.is_cut = self.is_paused = False

    def write(self, data: Any) -> None:
        self.sent += bytes(data)

    def abort(self) -> None:
        self.is_cut = True

    def pause_reading(self) -> None:
        assert not self.is_paused
        self.is_paused = True

    def resume_reading(self) -> None:
        assert self.is_paused
        self.is_paused = False


@dataclass(frozen=True)
class Heard:
    """What became of one exchange. `began` only counts for a broken one."""

    how: Literal["whole", "broken"]
    status: int
    body: bytes
    began: bool
    reusable: bool
    taken: int


async def heard(pieces: Iterable[bytes]) -> Heard:
    """Let these pieces come, and then the end of the connection, while somebody reads."""
    wire, line, taken = Wire(asyncio.get_running_loop()), Line(), 0
    wire.connection_made(line)
    wire.ask(b"POST / HTTP/1.1\r\n\r\n")
    reading = asyncio.ensure_future(_read(wire))
    await asyncio.sleep(0)
    for piece in pieces:
        if line.is_cut:
            break
        assert not line.is_paused, "somebody reads"
        taken += len(piece)
        wire.data_received(piece)
        await asyncio.sleep(0)
    reusable = wire.is_reusable
    assert not (reusable and line.is_cut)
    wire.eof_received()
    wire.connection_lost(None)
    assert not wire.is_reusable
    how, status, body, began = await asyncio.wait_for(reading, 5)
    return Heard(how, status, body, began, reusable, taken)


async def _read(wire: Wire) -> tuple[Literal["whole", "broken"], int, bytes, bool]:
    status, body = 0, b""
    try:
        status = await wire.head()
        while piece := await wire.piece():
            body += piece
    except WireBroken as broken:
        return "broken", status, body, broken.began
    return "whole", status, body, True


def h11_hears(raw: bytes) -> tuple[int, bytes] | None:
    """The answer as h11 reads it; None when there is none, or none with an end of its own."""
    peer = h11.Connection(h11.CLIENT)
    peer.send(h11.Request(method="POST", target="/", headers=[("host", "x")]))
    peer.send(h11.EndOfMessage())
    status, body = 0, b""
    try:
        peer.receive_data(raw)
        while not isinstance(event := peer.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                return None
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif not isinstance(event, h11.InformationalResponse):
                return None
    except h11.RemoteProtocolError:
        return None
    return status, body


def cut_at(raw: bytes, places: Iterable[int]) -> list[bytes]:
    edges = sorted({0, len(raw), *(p % (len(raw) + 1) for p in places)})
    return [raw[a:b] for a, b in pairwise(edges)]


# --- what is an answer --------------------------------------------------------------------------

BODIES = st.binary(max_size=200) | st.sampled_from([b"", b"\r\n", b"0\r\n\r\n", b"HTTP/1.1 200 OK"])
NAMES = st.sampled_from(["content-type", "Content-Type", "x", "date", "keep-alive"])
VALUES = st.sampled_from(["application/json", "", "a, b", "timeout=5", "0", "chunked"])
PLACES = st.lists(st.integers(0, 2_000), max_size=30)
WORDS = st.sampled_from(
    [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\n"]
)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """An answer as RFC 9112 allows it, by its length or in chunks."""
    body = draw(BODIES)
    status = draw(st.sampled_from([200, 201, 302, 400, 404, 500, 503, 599]))
    lines = [f"HTTP/1.1 {status} {draw(st.sampled_from(['OK', '', 'Not Found']))}"]
    lines += [f"{n}: {v}" for n, v in draw(st.lists(st.tuples(NAMES, VALUES), max_size=4))]
    before = b"".join(draw(st.lists(WORDS, max_size=3)))
    if draw(st.booleans()):
        head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
        return before + head.encode() + body
    head = "\r\n".join([*lines, "transfer-encoding: Chunked", "", ""])
    pieces = [piece for piece in cut_at(body, draw(PLACES)) if piece]
    more = draw(st.sampled_from([b"", b";a=b", b';a="b"']))
    chunks = b"".join(b"%X%s\r\n%s\r\n" % (len(p), more, p) for p in pieces)
    return (
        before
        + head.encode()
        + chunks
        + b"0\r\n"
        + draw(st.sampled_from([b"", b"x: y\r\n"]))
        + b"\r\n"
    )


@given(raw=answers(), places=PLACES)
def test_an_answer_is_the_same_however_it_is_cut_and_as_another_implementation_reads_it(
    raw: bytes, places: list[int]
) -> None:
    """A network cuts where it likes, and in the middle of every word."""
    found = asyncio.run(heard(cut_at(raw, places)))
    assert (found.how, found.reusable) == ("whole", True)
    assert (found.status, found.body) == h11_hears(raw)


@given(raw=answers(), places=PLACES, at=st.integers(0, 2_000))
def test_an_answer_that_is_cut_short_is_never_a_whole_one(
    raw: bytes, places: list[int], at: int
) -> None:
    """Half an answer that passes for one is the worst that a dying engine can do."""
    short = raw[: at % len(raw)]
    found = asyncio.run(heard(cut_at(short, places)))
    assert (found.how, found.reusable) == ("broken", False)


@given(raw=answers(), more=st.binary(min_size=1, max_size=50) | answers(), places=PLACES)
def test_what_comes_behind_an_answer_is_nobodys_and_ends_the_connection(
    raw: bytes, more: bytes, places: list[int]
) -> None:
    """It would be read as the answer to the next call: another client's."""
    found = asyncio.run(heard(cut_at(raw + more, places)))
    if more.strip(b"\r\n"):  # an empty line between two messages is allowed for
        assert not found.reusable
    assert (found.how, found.status, found.body) == ("whole", *(h11_hears(raw) or ()))


TOKENS = [
    *(b"\r\n", b"\n", b"\r", b"\0", b" ", b":", b"0", b"-1", b"+5", b"ffffffffffffffffff", b"\xff"),
    *(b"content-length: 3\r\n", b"transfer-encoding: chunked\r\n", b"transfer-encoding: x\r\n"),
    *(b"connection: close\r\n", b"upgrade: h2c\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.0 "),
]
EDITS = st.lists(
    st.tuples(
        st.integers(0, 2_000), st.integers(0, 8), st.sampled_from(TOKENS) | st.binary(max_size=4)
    ),
    min_size=1,
    max_size=4,
)


@given(raw=answers(), edits=EDITS, places=PLACES)
def test_a_damaged_answer_is_read_as_others_read_it_or_refused(
    raw: bytes, edits: list[tuple[int, int, bytes]], places: list[int]
) -> None:
    """Nothing raises, nothing hangs, and where it is cut makes no difference to what is heard."""
    for place, length, put in edits:
        at = place % (len(raw) + 1)
        raw = raw[:at] + put + raw[at + length :]
    whole, parts = asyncio.run(heard([raw])), asyncio.run(heard(cut_at(raw, places)))
    assert (whole.how, whole.status, whole.body) == (parts.how, parts.status, parts.body)
    assert whole.reusable == parts.reusable
    others = h11_hears(raw)
    if whole.how == "whole" and others is not None:
        assert (whole.status, whole.body) == others


@given(pieces=st.lists(st.binary(min_size=1, max_size=40) | st.sampled_from(TOKENS), max_size=20))
def test_noise_is_never_an_answer(pieces: list[bytes]) -> None:
    """Whatever listens on an engine's port."""
    found = asyncio.run(heard(pieces))
    assert not found.reusable or found.how == "whole"
    if found.how == "whole":
        assert (found.status, found.body) == h11_hears(b"".join(pieces))


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKS = b"transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("raw", "how", "reusable"),
    [
        (OK + b"content-length: 2\r\n\r\nhi", "whole", True),
        (OK + b"connection: close\r\ncontent-length: 2\r\n\r\nhi", "whole", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi", "whole", False),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "whole", True),
        (OK + b"\r\nhi", "broken", False),  # its end would be the connection's
        (OK + b"content-length: 2\r\n" + CHUNKS, "broken", False),
        (OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\nhi!", "broken", False),
        (OK + b"transfer-encoding: gzip\r\n\r\nhi", "broken", False),
        (OK + b"content-length: 2\r\n\r\nhi" + OK + b"content-length: 0\r\n\r\n", "whole", False),
        (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nhi", "broken", False),
    ],
)  # fmt: skip
async def test_an_answer_has_an_end_of_its_own_and_its_connection_a_word_for_what_is_next(
    raw: bytes, how: str, reusable: bool
) -> None:
    """The exact edge between what is kept for the next call and what is hung up on."""
    found = await heard([raw])
    assert (found.how, found.reusable) == (how, reusable)


@pytest.mark.parametrize(
    ("raw", "began"),
    [
        (b"", False),
        (b"HTTP/1.1 100 Continue\r\n\r\n", False),
        (b"HTTP/1.1 200 O", False),
        (OK + b"content-length: 2\r\n\r\n", True),
        (b"SSH-2.0-x\r\n", True),
    ],
)
async def test_an_engine_that_is_not_there_is_told_from_one_that_says_nonsense(
    raw: bytes, began: bool
) -> None:
    """The first is asked again in a moment; the second needs somebody to look."""
    found = await heard([raw])
    assert (found.how, found.began) == ("broken", began)


async def test_two_content_types_are_none() -> None:
    """Of two nobody knows which one was meant."""
    wire, line = Wire(asyncio.get_running_loop()), Line()
    wire.connection_made(line)
    for head, found in (
        (b"content-type: a/b\r\n", b"a/b"),
        (b"content-type: a/b\r\nContent-Type: a/b\r\n", b"twice"),
        (b"", b""),
    ):
        wire.ask(b"x")
        wire.data_received(b"HTTP/1.1 103 Early\r\ncontent-type: x/y\r\n\r\n")
        wire.data_received(OK + head + b"transfer-encoding: chunked\r\n\r\n")
        assert wire.content_type == found
        wire.data_received(b"0\r\ncontent-type: x/y\r\n\r\n")
        assert wire.content_type == found
        assert wire.is_reusable
    assert line.sent == b"xxx"


# --- how much of it -----------------------------------------------------------------------------

CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
ENDLESS = {
    "a status line": (b"HTTP/1.1 200 ", b"O" * PIECE),
    "a header": (OK + b"x: ", b"y" * PIECE),
    "the name of a header": (OK, b"y" * PIECE),
    "headers": (OK, b"x: y\r\n" * (PIECE // 6)),
    "words on the way": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * (PIECE // 25)),
    "extensions of a chunk": (CHUNKED + b"1;", b"x" * PIECE),
    "zeros before the size of a chunk": (CHUNKED, b"0" * PIECE),
    "trailers": (CHUNKED + b"1\r\nx\r\n0\r\n", b"x: y\r\n" * (PIECE // 6)),
    "empty lines before an answer": (b"", b"\r\n" * (PIECE // 2)),
}


@pytest.mark.parametrize("case", ENDLESS)
async def test_what_is_no_body_has_a_bound(case: str) -> None:
    """Memory is ours, and so is the time in which other calls wait."""
    begin, more = ENDLESS[case]
    found = await heard([begin, *[more] * (4 * HEAD_MAX_BYTES // len(more))])
    assert (found.how, found.began) == ("broken", True)
    assert found.taken <= HEAD_MAX_BYTES + len(begin) + PIECE


async def test_a_head_below_the_bound_passes_and_what_is_a_body_never_counts() -> None:
    """Long answers in small pieces are what engines send all day."""
    size = 4 * HEAD_MAX_BYTES
    head = OK + b"x: " + b"y" * (HEAD_MAX_BYTES - 200) + b"\r\ncontent-length: %d\r\n\r\n" % size
    found = await heard([head, *[b"z" * 64] * (size // 64)])
    assert (found.how, found.reusable, len(found.body)) == ("whole", True, size)


async def test_an_engine_that_is_faster_than_its_client_is_made_to_wait() -> None:
    """What is not read yet is bounded; TCP tells the engine."""
    wire, line, said = Wire(asyncio.get_running_loop()), Line(), 0
    wire.connection_made(line)
    wire.ask(b"x")
    wire.data_received(OK + b"content-length: %d\r\n\r\n" % (8 * HELD_MAX_BYTES))
    while said < 8 * HELD_MAX_BYTES:
        while not line.is_paused and said < 8 * HELD_MAX_BYTES:
            wire.data_received(b"z" * PIECE)
            said += PIECE
        piece = await wire.piece()
        assert len(piece) <= HELD_MAX_BYTES + PIECE
        assert not line.is_paused
    assert await wire.piece() == b""
    assert wire.is_reusable


async def test_whoever_waits_hears_that_it_was_cut() -> None:
    """A time limit cuts; nobody may be left waiting for what cannot come."""
    wire, line = Wire(asyncio.get_running_loop()), Line()
    wire.connection_made(line)
    wire.ask(b"x")
    waiting = asyncio.ensure_future(wire.head())
    await asyncio.sleep(0)
    wire.cut()
    with pytest.raises(WireBroken) as broken:
        await asyncio.wait_for(waiting, 5)
    assert not broken.value.began
    assert line.is_cut


@pytest.mark.parametrize("said", [b"\r\n", OK + b"content-length: 0\r\n\r\n"])
async def test_what_is_said_unasked_ends_the_connection(said: bytes) -> None:
    """It could pass for the answer to what is asked next."""
    wire, line = Wire(asyncio.get_running_loop()), Line()
    wire.connection_made(line)
    wire.ask(b"x")
    wire.data_received(OK + b"content-length: 0\r\n\r\n")
    assert wire.is_reusable
    wire.data_received(said)
    assert line.is_cut
    assert not wire.is_reusable
