"""One token, or a reason: the probe against engines that misbehave in every way we know."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from sovereign.engines.probe import REASONS, one_token
from tests.engines.running import CANARY, free_port

GOOD = {"model": "m", "choices": [{"message": {"role": "assistant", "content": CANARY}}]}


@contextmanager
def listening(*answers: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server for one connection an answer, that does with it what the answer says."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_serve, args=(server, answers), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def _serve(server: socket.socket, answers: tuple[Callable[[socket.socket], None], ...]) -> None:
    for answer in answers:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            answer(connection)


def says(body: bytes, status: str = "200 OK") -> Callable[[socket.socket], None]:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    return lambda connection: connection.sendall(head + body)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (says(json.dumps(GOOD).encode()), ""),
        (says(json.dumps(GOOD | {"model": "other"}).encode()), "wrong-model"),
        (says(json.dumps(GOOD | {"choices": []}).encode()), "not-an-answer"),
        (says(b"<html>welcome</html>"), "not-an-answer"),
        (says(b"[]"), "not-an-answer"),
        (says(b"x" * 100_000), "not-an-answer"),
        (says(b"{}", "500 Oh"), "status 500"),
        (says(b"", "302 Elsewhere"), "status 302"),
        (lambda connection: connection.sendall(b"SSH-2.0-x\r\n"), "unreachable"),
        (lambda connection: None, "unreachable"),
    ],
)
def test_an_answer_is_healthy_only_when_it_is_one(
    answer: Callable[[socket.socket], None], reason: str
) -> None:
    """Anything may listen on a port; only a chat completion of our model will do."""
    with listening(answer) as base_url:
        probe = one_token(base_url, "m", 5)
    assert probe.reason == reason
    assert probe.ok is (reason == "")
    assert CANARY not in repr(probe)


VECTOR = {"model": "m", "data": [{"embedding": [0.5, 0.25]}]}


@pytest.mark.parametrize("no_chats", ["404 Not Found", "501 Not Implemented"])
@pytest.mark.parametrize(
    ("vectors", "reason"),
    [
        (says(json.dumps(VECTOR).encode()), ""),
        (says(json.dumps(VECTOR | {"model": "other"}).encode()), "wrong-model"),
        (says(json.dumps(VECTOR | {"data": [{"embedding": []}]}).encode()), "not-an-answer"),
        (says(json.dumps(GOOD).encode()), "not-an-answer"),
        (says(b"", "500 Oh"), "status 500"),
        (says(b"", "404 Not Found"), "as it was"),
    ],
)
def test_an_engine_without_chats_is_asked_for_a_vector(
    no_chats: str, vectors: Callable[[socket.socket], None], reason: str
) -> None:
    """A model of vectors is not broken for having nothing to say; one nobody knows still is."""
    with listening(says(b"{}", no_chats), vectors) as base_url:
        probe = one_token(base_url, "m", 5)
    assert probe.reason == (f"status {no_chats[:3]}" if reason == "as it was" else reason)
    assert probe.ok is (reason == "")


def test_nobody_there_is_unreachable() -> None:
    """The common case after a crash."""
    assert one_token(f"http://127.0.0.1:{free_port()}", "m", 5).reason == "unreachable"


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"])
def test_an_engine_that_dribbles_is_cut_off_in_time(first: bytes) -> None:
    """A byte every little while satisfies a socket's timeout for ever; the loop must go on."""

    def dribble(connection: socket.socket) -> None:
        connection.sendall(first)
        for _ in range(40):
            try:
                connection.sendall(b"x")
            except OSError:
                return
            time.sleep(0.1)

    started = time.monotonic()
    with listening(dribble) as base_url:
        assert one_token(base_url, "m", 0.5).reason == "timed-out"
    assert time.monotonic() - started < 2


def test_every_reason_is_explained() -> None:
    """Records carry the word; the runbook repeats the table."""
    assert set(REASONS) == {"unreachable", "timed-out", "status", "not-an-answer", "wrong-model"}
