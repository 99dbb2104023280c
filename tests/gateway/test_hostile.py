"""Clients that mean no good, in raw bytes, against the gateway's own process.

Each line of a table says exactly what comes back. After every one the gateway answers an honest
client, and nothing of what was sent stands in a log.
"""

import gzip
import json
import os
import select
import signal
import socket
import struct
import subprocess
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from sovereign import fleet
from sovereign.audit import journal, record
from sovereign.gateway import server
from sovereign.gateway.listener import HEAD_MAX_BYTES, PIPELINED_MAX
from sovereign.settings import Home
from tests.gateway.process import command, prepared
from tests.simulated.engine import MODEL, completion

CANARY = "zirkonfalter-7731"
ANSWERS_WITHIN_S = 20
CONNECTIONS_MAX = 40
WORDS = {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}
CHAT = json.dumps(WORDS).encode()
ALIVE = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"


class _Mock(BaseHTTPRequestHandler):
    """An engine; what it was asked is kept."""

    def __init__(self, asked: list[bytes], *more: Any) -> None:
        self._asked = asked
        super().__init__(*more)

    def do_POST(self) -> None:
        self._asked.append(self.rfile.read(int(self.headers["content-length"])))
        raw = json.dumps(completion("Paris.")).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        with suppress(ConnectionError):  # the gateway hung up, because its client did
            self.end_headers()
            self.wfile.write(raw)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Standing:
    """A gateway that runs for all the tests here."""

    def __init__(self, home: Home, secret: str, process: "subprocess.Popen[bytes]") -> None:
        self.home = home
        self.secret = secret.encode()
        self.process = process
        self.asked: list[bytes] = []
        self.port = int(home.settings.gateway.listen.rpartition(":")[2])

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=ANSWERS_WITHIN_S)

    def head(self, *headers: bytes, first: bytes = b"POST /v1/chat/completions HTTP/1.1") -> bytes:
        """The head of a chat request, with these headers beside host and key."""
        own = (b"host: x", b"authorization: Bearer " + self.secret)
        return b"\r\n".join([first, *own, *headers, b"", b""])

    def whole(self, body: bytes, *headers: bytes) -> bytes:
        """A chat request with this body."""
        return self.head(b"content-length: %d" % len(body), *headers) + body

    def said(self, data: bytes) -> bytes:
        """What comes back on a connection of its own, until it closes or falls silent."""
        with closing(self.connect()) as connection:
            with suppress(ConnectionError):
                connection.sendall(data)
            return heard(connection)

    def is_well(self) -> bool:
        return statuses(self.said(self.whole(CHAT, b"connection: close"))) == [200]

    def logged(self) -> str:
        """Everything this gateway wrote anywhere: its log, and what it said."""
        events = self.home.audit / "gateway"
        raw = [(events / stream / journal.PATH).read_bytes() for stream in ("event", "security")]
        told = [
            record.parse(entry)
            for each in raw
            for group in journal.parse(each).groups
            for entry in group.entries
        ]
        return str(told) + (self.home.root / "said").read_text()


def heard(connection: socket.socket, quiet_s: float = 0.25) -> bytes:
    """Everything up to the end, or until nothing came for a moment after something had."""
    answer = b""
    with suppress(TimeoutError, ConnectionError):
        while part := connection.recv(65_536):
            answer += part
            connection.settimeout(quiet_s)
    return answer


def statuses(answer: bytes) -> list[int]:
    """The status of every response in what came back."""
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


@contextmanager
def standing(root: Path, **bounds: int) -> Iterator[Standing]:
    asked: list[bytes] = []
    engine = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Mock, asked))
    thread = Thread(target=engine.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    home, secret = prepared(root, {"e0": f"127.0.0.1:{engine.server_address[1]}"}, **bounds)
    with (root / "said").open("wb") as said:
        process = subprocess.Popen(
            command(home, 1),
            env={**os.environ, "HOME": str(root)},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
    it = Standing(home, secret, process)
    it.asked = asked
    try:
        until_well(it)
        yield it
    finally:
        process.kill()
        process.wait()
        engine.shutdown()
        engine.server_close()


def until_well(it: Standing, within_s: float = 60) -> None:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        assert it.process.poll() is None, (it.home.root / "said").read_text()
        with suppress(OSError):
            if it.is_well():
                return
        time.sleep(0.1)
    raise AssertionError("it does not answer")


@pytest.fixture(scope="module")
def it(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    with standing(
        tmp_path_factory.mktemp("gateway"), connections_max=CONNECTIONS_MAX, body_timeout_s=2
    ) as running:
        yield running


# --- where a request ends ------------------------------------------------------------------------

HIDDEN = b"GET /hidden HTTP/1.1\r\nhost: x\r\n\r\n"
CHUNKED, LENGTH = b"transfer-encoding: chunked", b"content-length: %d" % len(CHAT)
IN_CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(CHAT), CHAT)
SMUGGLED: dict[str, tuple[list[bytes], bytes, list[int]]] = {
    "a length and chunks": ([LENGTH, CHUNKED], IN_CHUNKS, [400]),
    "chunks and a length": ([CHUNKED, LENGTH], IN_CHUNKS, [400]),
    "two lengths": ([LENGTH, b"content-length: 5"], CHAT, [400]),
    "the same length twice": ([LENGTH, LENGTH], CHAT, [400]),
    "lengths in a list": ([b"content-length: 5, 5"], b"xxxxx", [400]),
    "a length with a sign": ([b"content-length: +5"], b"xxxxx", [400]),
    "a length of many digits": ([b"content-length: " + b"9" * 40], b"", [400]),
    "chunks twice": ([CHUNKED, CHUNKED], IN_CHUNKS, [400]),
    "chunks before something else": ([b"transfer-encoding: chunked, gzip"], IN_CHUNKS, [400]),
    "chunks in disguise": ([b"transfer-encoding: xchunked"], IN_CHUNKS, [400]),
    "chunks behind a tab": ([b"transfer-encoding:\tchunked"], IN_CHUNKS, [200, 404]),
    "chunks in another case": ([b"Transfer-ENCODING: cHuNkEd"], IN_CHUNKS, [200, 404]),
    "an underscore for a dash": ([b"content_length: 5", LENGTH], CHAT, [200, 404]),
    "a space before the colon": ([b"content-length : 5"], b"xxxxx", [400]),
    "a header that goes on": ([b"x: a", b" content-length: 5", LENGTH], CHAT, [400]),
    "a header without a name": ([b": a", LENGTH], CHAT, [400]),
    "a header without a colon": ([b"content-length", LENGTH], CHAT, [400]),
    "an extension of a chunk": (
        [CHUNKED],
        b"%x;a=b;c\r\n%s\r\n0\r\n\r\n" % (len(CHAT), CHAT),
        [200, 404],
    ),
    "a chunk that is longer than it says": ([CHUNKED], b"3\r\n%s\r\n0\r\n\r\n" % CHAT, [400]),
    "a chunk of a negative size": ([CHUNKED], b"-1\r\n\r\n", [400]),
    "a chunk of too large a size": ([CHUNKED], b"f" * 17 + b"\r\n", [400]),
    "a chunk that ends with a bare LF": ([CHUNKED], IN_CHUNKS.replace(b"\r\n", b"\n"), [400]),
    "a trailer": ([CHUNKED], IN_CHUNKS[:-2] + b"x: y\r\n\r\n", [200, 404]),
    "two hosts": ([b"host: y", LENGTH], CHAT, [400]),
}


@pytest.mark.parametrize("how", SMUGGLED)
def test_gateway_and_proxy_agree_where_a_request_ends_or_it_is_refused(
    it: Standing, how: str
) -> None:
    """What hides behind a request must never be answered as somebody else's (RFC 9112, 6 and 11.2);
    where it is plainly a second request, it is answered as one."""
    headers, body, expected = SMUGGLED[how]
    before = len(it.asked)
    answer = it.said(it.head(*headers) + body + HIDDEN)
    assert statuses(answer) == expected
    if expected == [400]:
        assert b"connection: close" in answer
        assert len(it.asked) == before
    assert it.is_well()


BARE = {
    "a bare LF in the head": b"GET /healthz HTTP/1.1\nhost: x\n\n",
    "a bare LF behind a header": b"GET /healthz HTTP/1.1\r\nhost: x\nx: y\r\n\r\n",
    "a bare CR behind a header": b"GET /healthz HTTP/1.1\r\nhost: x\rx: y\r\n\r\n",
    "a NUL": b"GET /healthz HTTP/1.1\r\nhost: x\r\nx: \0\r\n\r\n",
    "a tab": b"GET\t/healthz\tHTTP/1.1\r\nhost: x\r\n\r\n",
    "no version": b"GET /healthz\r\n\r\n",
    "a version of the last century": b"GET /healthz HTTP/0.9\r\nhost: x\r\n\r\n",
    "a version there is not": b"GET /healthz HTTP/1.9\r\nhost: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a method there is not": b"FETCH /healthz HTTP/1.1\r\nhost: x\r\n\r\n",
    "a method in small letters": b"get /healthz HTTP/1.1\r\nhost: x\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "noise": bytes(range(256)) * 4,
}


@pytest.mark.parametrize("how", BARE)
def test_what_is_no_request_of_this_century_is_400_and_the_end_of_the_connection(
    it: Standing, how: str
) -> None:
    """Lenience is how two parsers come to disagree."""
    answer = it.said(BARE[how] + ALIVE)
    assert statuses(answer) == [400]
    assert b"connection: close" in answer


def test_http_1_0_may_look_and_not_ask(it: Standing) -> None:
    """An old load balancer checks health with it; a stream has no form in it."""
    assert statuses(it.said(b"GET /healthz HTTP/1.0\r\n\r\n" + ALIVE)) == [200]
    old = it.whole(CHAT).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    answer = it.said(old + ALIVE)
    assert statuses(answer) == [505]
    assert b"HTTP/1.1" in answer.partition(b"\r\n\r\n")[2]


def test_nothing_that_follows_a_last_request_is_answered(it: Standing) -> None:
    """`connection: close` is the end, whatever was sent behind it."""
    last = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    assert statuses(it.said(last + ALIVE + ALIVE)) == [200]


def test_as_many_requests_may_wait_in_a_pipe_as_the_bound_says(it: Standing) -> None:
    """In order, and one too many ends it: ten thousand in one packet would each cost memory."""
    asked = it.whole(CHAT)
    assert statuses(it.said(asked + ALIVE * PIPELINED_MAX)) == [200] * (PIPELINED_MAX + 1)
    assert len(statuses(it.said(asked + ALIVE * (PIPELINED_MAX + 1)))) <= 1
    assert len(statuses(it.said(asked + ALIVE * 5000))) <= 1
    assert it.is_well()


def test_garbage_behind_a_request_that_runs_is_not_answered_into_its_answer(
    it: Standing,
) -> None:
    """Words of ours in the middle of an answer would be taken for its own."""
    answer = it.said(it.whole(CHAT) + b"\x00\x01garbage\r\n\r\n")
    assert statuses(answer) in ([], [200])
    assert it.is_well()


# --- targets, upgrades, expectations -------------------------------------------------------------

TARGETS = [
    (b"/healthz", 200),
    (b"/healthz?x=%2f..", 200),
    (b" /healthz", 200),
    (b"http://elsewhere.example/healthz", 200),
    (b"/%68ealthz", 200),
    (b"/./healthz", 404),
    (b"/v1/../healthz", 404),
    (b"/v1/%2e%2e/healthz", 404),
    (b"/v1%2fmodels", 404),
    (b"/v1%2Fmodels", 404),
    (b"//healthz", 404),
    (b"/healthz/", 404),
    (b"/healthz%00", 404),
    (b"/healthz%0d%0ax:y", 404),
    (b"/healthz;a=b", 404),
    (b"/HEALTHZ", 404),
    (b"/%", 404),
    (b"/%ff%fe", 404),
    (b"/healthz#x", 200),
    (b"*", 404),
    (b"healthz", 400),
    (b"x:y", 400),
]


@pytest.mark.parametrize(("target", "status"), TARGETS)
def test_a_target_is_a_route_or_it_is_nothing(it: Standing, target: bytes, status: int) -> None:
    """No normalising: what a proxy in front compares is what is compared here (RFC 3986, 6.2)."""
    answer = it.said(b"GET " + target + b" HTTP/1.1\r\nhost: x\r\n\r\n")
    assert statuses(answer)[0] == status
    assert it.is_well()


@pytest.mark.parametrize(
    "upgrade",
    [
        b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13",
        b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__",
        b"connection: upgrade\r\nupgrade: TLS/1.0",
    ],
    ids=["websocket", "h2c", "tls"],
)
def test_an_upgrade_is_not_made_and_its_connection_ends(it: Standing, upgrade: bytes) -> None:
    """What comes behind it would be in the other protocol, past every rule of this one."""
    answer = it.said(b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + upgrade + b"\r\n\r\n" + HIDDEN)
    assert statuses(answer) == [200]
    assert b"connection: close" in answer
    assert statuses(it.said(it.whole(CHAT, upgrade) + HIDDEN)) == [200]
    chunks = it.head(b"transfer-encoding: chunked", upgrade) + IN_CHUNKS
    assert statuses(it.said(chunks + HIDDEN)) == [200]


def test_a_body_behind_an_upgrade_is_not_taken_for_a_request(it: Standing) -> None:
    """It comes in a packet of its own, and looks like one; a proxy in front sees a body."""
    upgrade = b"connection: upgrade\r\nupgrade: h2c"
    with closing(it.connect()) as connection:
        connection.sendall(it.head(b"content-length: %d" % len(HIDDEN), upgrade))
        time.sleep(0.2)
        connection.sendall(HIDDEN)
        answer = heard(connection)
    assert statuses(answer) == [400]
    assert b"body-unreadable" in answer
    assert b"connection: close" in answer


def test_connect_and_trace_are_no_methods_here(it: Standing) -> None:
    """A gateway is no proxy for others, and repeats no headers."""
    assert statuses(it.said(b"CONNECT x:443 HTTP/1.1\r\nhost: x\r\n\r\n"))[0] in (400, 404)
    answer = it.said(b"TRACE /healthz HTTP/1.1\r\nhost: x\r\nx: " + CANARY.encode() + b"\r\n\r\n")
    assert statuses(answer) == [405]
    assert CANARY.encode() not in answer


def test_continue_is_said_only_to_who_may_go_on(it: Standing) -> None:
    """A body that will be refused need not be sent."""
    expects = (LENGTH, b"expect: 100-continue")
    nobody = it.head(*expects).replace(it.secret, b"sov_nobody")
    assert statuses(it.said(nobody)) == [401]
    assert statuses(it.said(it.head(*expects) + CHAT)) == [100, 200]
    assert statuses(it.said(it.head(LENGTH, b"expect: 200-ok") + CHAT)) == [200]


# --- bodies --------------------------------------------------------------------------------------


def with_field(name: str, value: str) -> bytes:
    """The chat with one more field, its value in the client's own letters."""
    return CHAT[:-1] + f',"{name}":{value}}}'.encode()


BODIES: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 400, "body-unreadable"),
    "not text": (CHAT.replace(b'"x"', b'"\xff"'), 400, "body-unreadable"),
    "UTF-16": (json.dumps(WORDS).encode("utf-16"), 400, "body-unreadable"),
    "a byte order mark": (b"\xef\xbb\xbf" + CHAT, 400, "body-unreadable"),
    "half a pair": (CHAT.replace(b'"x"', rb'"\ud800"'), 400, "body-unreadable"),
    "two documents": (CHAT + CHAT, 400, "body-unreadable"),
    "a list": (b"[" + CHAT + b"]", 400, "body-unreadable"),
    "deep": (b"[" * 200_000, 400, "body-unreadable"),
    "deep and whole": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400, "body-unreadable"),
    "deep where it is passed on": (
        with_field("metadata", '{"a":' * 100 + "1" + "}" * 100),
        400,
        "body-unreadable",
    ),
    "no number": (with_field("temperature", "NaN"), 400, "body-unreadable"),
    "an endless number": (with_field("temperature", "1e999"), 400, "body-unreadable"),
    "a number of many digits": (with_field("max_tokens", "9" * 5000), 400, "body-unreadable"),
    "a number of no use": (with_field("max_tokens", "1e2"), 422, "field-invalid"),
    "a form": (b"model=x&messages=y", 400, "body-unreadable"),
    "XML": (b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]>", 400, "body-unreadable"),
    "a prototype": (with_field("__proto__", '{"admin":true}'), 422, "field-unknown"),
}


@pytest.mark.parametrize("what", BODIES)
def test_a_body_that_means_nothing_is_refused_and_costs_the_engine_nothing(
    it: Standing, what: str
) -> None:
    """Never a 500, and never a word of it in the answer of another."""
    body, status, code = BODIES[what]
    before = len(it.asked)
    answer = it.said(it.whole(body))
    assert statuses(answer) == [status]
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == code
    assert len(it.asked) == before


def test_a_large_whole_number_is_passed_on_or_refused_and_breaks_nothing(it: Standing) -> None:
    """2**70 fits no machine word; it is the engine's to judge."""
    answer = it.said(it.whole(with_field("random_seed", str(2**70))))
    assert statuses(answer)[0] in (200, 400, 422)


def test_of_a_name_that_comes_twice_the_engine_sees_what_was_checked(it: Standing) -> None:
    """Two parsers, two opinions: ours decides once and writes it anew."""
    twice = b'{"model":"nobody/else",' + CHAT[1:-1] + b',"stream":true,"stream":false}'
    assert statuses(it.said(it.whole(twice))) == [200]
    assert it.asked[-1].count(b'"model"') == 1
    assert MODEL.encode() in it.asked[-1]
    assert b"nobody" not in it.asked[-1]


ENCODED = {
    "gzip": (gzip.compress(CHAT), b"gzip"),
    "deflate": (zlib.compress(CHAT), b"deflate"),
    "br": (CHAT, b"br"),
    "two": (gzip.compress(gzip.compress(CHAT)), b"gzip, gzip"),
    "a bomb": (gzip.compress(b"0" * 50_000_000), b"gzip"),
    "said, not done": (CHAT, b"gzip"),
}


@pytest.mark.parametrize("how", ENCODED)
def test_a_compressed_body_is_refused_by_its_name_before_it_is_read(it: Standing, how: str) -> None:
    """A kilobyte can be a gigabyte; nothing here unpacks anything (RFC 9110, 15.5.16)."""
    body, name = ENCODED[how]
    answer = it.said(it.whole(body, b"content-encoding: " + name))
    assert statuses(answer) == [415]
    assert b"\r\naccept-encoding: identity\r\n" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "body-unreadable"


def test_a_body_said_to_be_as_it_is_is_served(it: Standing) -> None:
    """The edge: `identity` is no encoding."""
    assert statuses(it.said(it.whole(CHAT, b"content-encoding: identity"))) == [200]


# --- time and memory -----------------------------------------------------------------------------


def closed_within(connection: socket.socket, within_s: float, drop: bytes, every_s: float) -> bool:
    """True when the other side closes although drops go on."""
    until = time.monotonic() + within_s
    connection.settimeout(every_s)
    while time.monotonic() < until:
        try:
            if not connection.recv(65_536):
                return True
        except TimeoutError:
            pass
        except ConnectionError:
            return True
        with suppress(ConnectionError):
            connection.sendall(drop)
    return False


def test_a_head_or_a_body_that_drips_is_not_waited_for(it: Standing) -> None:
    """A byte now and then holds a connection, never for longer than a head or a body may take."""
    dripping = [
        (b"GET /healthz HTTP/1.1\r\n", b"x: y\r\n"),
        (it.head(b"content-length: 4000"), b"x"),
        (it.head(b"transfer-encoding: chunked"), b"1\r\nx\r\n"),
    ]

    def closed(first: bytes, drop: bytes) -> bool:
        with closing(it.connect()) as connection:
            connection.sendall(first)
            return closed_within(connection, 40, drop, 0.2)

    with ThreadPoolExecutor() as pool:
        assert list(pool.map(closed, *zip(*dripping, strict=True))) == [True] * 3
    assert it.is_well()


GROWING = {
    "a header": (b"x: ", b"a" * 8192),
    "headers": (b"", b"x: y\r\n" * 1000),
    "extensions of a chunk": (b"transfer-encoding: chunked\r\n\r\n1", b";a=" + b"b" * 8192),
    "a trailer": (b"transfer-encoding: chunked\r\n\r\n0\r\nx: ", b"a" * 8192),
    "trailers": (b"transfer-encoding: chunked\r\n\r\n0\r\n", b"x: y\r\n" * 1000),
}


@pytest.mark.parametrize("what", GROWING)
def test_what_is_no_body_may_not_grow(it: Standing, what: str) -> None:
    """Nobody has to be known to send it, so it must not be kept."""
    begin, more = GROWING[what]
    sent = 0
    first = it.head(b"x: y", b"").replace(b"\r\n\r\n", b"\r\n")  # a head that goes on
    with closing(it.connect()) as connection:
        connection.sendall(first + begin)
        with suppress(ConnectionError, TimeoutError):
            connection.settimeout(5)
            for _ in range(4000):
                connection.sendall(more)
                sent += len(more)
                time.sleep(0.001)
    assert sent < 4000 * len(more)
    assert it.is_well()


def test_a_head_may_be_as_large_as_the_bound(it: Standing) -> None:
    """The yes beside the no."""
    head = b"GET /healthz HTTP/1.1\r\nhost: x\r\nx: " + b"a" * (HEAD_MAX_BYTES - 2048) + b"\r\n\r\n"
    assert statuses(it.said(head)) == [200]


def test_connections_up_to_the_bound_and_the_next_is_told_to_come_back(it: Standing) -> None:
    """An honest answer at once is better than a connection that hangs; and room that is left is
    room again."""
    held = [it.connect() for _ in range(CONNECTIONS_MAX)]
    try:
        held[-1].sendall(ALIVE)
        assert statuses(heard(held[-1])) == [200]
        for _ in range(3):
            answer = it.said(it.whole(CHAT))
            assert statuses(answer) == [429]
            assert b"\r\nretry-after: 1\r\n" in answer
            assert b"\r\nconnection: close\r\n" in answer
            body = json.loads(answer.partition(b"\r\n\r\n")[2])
            assert (body["object"], body["code"]) == ("error", "too-many-requests")
    finally:
        for connection in held:
            connection.close()
    until_well(it, within_s=10)


def test_connections_that_are_reset_leave_no_trace(it: Standing) -> None:
    """Hundreds that come and go at once must not count against the bound."""
    for _ in range(CONNECTIONS_MAX * 5):
        connection = it.connect()
        connection.sendall(b"GET /healthz HT")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    until_well(it, within_s=10)


def test_a_client_that_takes_nothing_is_cut_off_by_the_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its answer is long over for us; what waits for it would stay in memory for ever."""
    monkeypatch.setattr(server, "UNREAD_MAX_S", 1)
    with server._listen("127.0.0.1:0") as listener:
        client = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
        with client, ours:
            ours.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    ours.send(b"x" * 65_536)
            over = select.poll()
            over.register(ours, 0)  # errors and hang-ups alone
            assert over.poll(30_000), "it would wait for ever"


def test_nothing_that_was_sent_stands_in_a_log(it: Standing) -> None:
    """What a client sends by mistake may be a letter to its doctor."""
    odd = CANARY.encode()
    for data in (
        odd + b"\r\n\r\n",
        b"GET /" + odd + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: " + odd + b"\r\nhost: x\r\n\r\n",
        it.whole(b"{" + odd),
        it.whole(with_field(CANARY, "1")),
        it.whole(CHAT, b"content-encoding: " + odd),
        it.head(b"content-length: " + odd),
    ):
        it.said(data)
    assert it.is_well()
    assert CANARY not in it.logged()


def test_who_is_refused_by_the_parser_costs_no_line(it: Standing) -> None:
    """Otherwise anybody could fill the disk without a key."""
    before = (it.home.root / "said").read_bytes()
    for _ in range(50):
        it.said(b"noise\r\n\r\n")
    assert (it.home.root / "said").read_bytes() == before


def test_after_all_of_this_it_still_stops_as_it_should(it: Standing) -> None:
    """The last test here: nothing that was done to it keeps it from closing its log."""
    it.process.send_signal(signal.SIGTERM)
    assert it.process.wait(30) == 0
    (security,) = [m for m in fleet.members(it.home) if m.stream == "security"]
    sums = [r for _, r in fleet.records(security, 0, 10_000) if r["type"] == "refusals"]
    counted = {r["code"]: r["count"] for r in sums}
    assert counted["too-many-requests"] >= 3
    assert '"event":"gateway-log-closed"' in (it.home.root / "said").read_text()
