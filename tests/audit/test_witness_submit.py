"""The client's side over a real socket: whatever answers, the call ends and believes nothing."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from sovereign.audit.note import SignerKey
from sovereign.audit.witnesses import cosignature, submit
from sovereign.audit.witnesses.submit import ANSWER_MAX_BYTES, http_post
from sovereign.errors import BadInput, TileDamaged, TileMissing
from tests.audit import witnesslab as lab
from tests.audit.scenario import KEY

PATIENCE_S = 30.0
Answer = Callable[[socket.socket], None]


@contextmanager
def answering(answer: Answer) -> Iterator[tuple[str, list[bytes]]]:
    """A server that reads one head and body, then does as it likes; gives URL and what it got."""
    got: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(PATIENCE_S)

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection:
                    connection.settimeout(PATIENCE_S)
                    got.append(connection.recv(65_536))
                    with suppress(OSError):
                        answer(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}", got
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(PATIENCE_S)


def sends(*parts: bytes) -> Answer:
    return lambda connection: connection.sendall(b"".join(parts))


def test_a_redirect_is_not_followed() -> None:
    """Where a checkpoint goes is the policy's choice, not that of whoever answers."""
    with answering(sends(b"HTTP/1.1 200 OK\r\n\r\n")) as (other, elsewhere):
        moved = f"HTTP/1.1 302 Found\r\nlocation: {other}/\r\ncontent-length: 0\r\n\r\n"
        with answering(sends(moved.encode())) as (url, _):
            assert http_post(url, b"x", "text/plain").status == 302
    assert elsewhere == []


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would see every witness and authority we ask."""
    with answering(sends(b"HTTP/1.1 200 OK\r\n\r\nproxy")) as (proxy, seen):
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("HTTP_PROXY", proxy)
        with answering(sends(b"HTTP/1.1 204 No Content\r\n\r\n")) as (url, _):
            assert http_post(url, b"x", "text/plain").status == 204
    assert seen == []


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"rubbish\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 500,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (ANSWER_MAX_BYTES + 1),
        b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nshort",
    ],
    ids=["nothing", "not-http", "headers-without-end", "too-much", "cut-off"],
)
def test_an_answer_that_is_none_is_silence(said: bytes) -> None:
    """Status 0, with a reason that fits into a line."""
    with answering(sends(said)) as (url, _):
        reply = http_post(url, b"x", "text/plain")
    assert reply.status == 0
    assert reply.body.decode().isprintable()


def test_whoever_drips_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then resets every timeout but the one over the whole call."""
    monkeypatch.setattr(submit, "CALL_MAX_S", 0.5)

    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(600):
            connection.sendall(b"x")
            time.sleep(0.05)

    began = time.monotonic()
    with answering(drip) as (url, _):
        http_post(url, b"x", "text/plain")
        assert time.monotonic() - began < PATIENCE_S / 2


def test_nobody_there_is_silence_and_a_url_that_is_none_is_a_mistake() -> None:
    """The first is the network's fault and is tried again; the second is ours."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    for nobody in (f"http://127.0.0.1:{port}", f"http://{'x' * 64}.example"):
        assert http_post(nobody, b"x", "text/plain").status == 0
    for url in ("file:///etc/passwd", "http://host:port", "http://[::1", "http://"):
        with pytest.raises(BadInput):
            http_post(url, b"x", "text/plain")


def test_what_is_sent_is_the_body_of_the_specification() -> None:
    """`old N`, the proof, an empty line, the checkpoint as the log signed it."""
    there = lab.log(7)
    sent = submit.submission(there.get, there["checkpoint"], 7, 3)
    head, _, signed = sent.partition(b"\n\n")
    lines = head.split(b"\n")
    assert lines[0] == b"old 3"
    assert len(lines) == 5, "from 3 to 7 it takes four hashes"
    assert signed == there["checkpoint"]
    assert submit.submission(there.get, there["checkpoint"], 7, 0).startswith(b"old 0\n\n")
    same = submit.submission(there.get, there["checkpoint"], 7, 7)
    assert same.startswith(b"old 7\n\n"), "the same tree needs no hash"


@pytest.mark.parametrize("size", [256, 300, 65_536 + 300])
def test_a_proof_comes_out_of_any_log_also_after_its_entries_are_erased(size: int) -> None:
    """Retention erases bundles and never tiles, so a log stays provable to its witnesses."""
    there = {path: content for path, content in lab.log(size).items() if "entries" not in path}
    target = lab.witness()
    for old in (1, 255, 256):
        first = lab.log(old)
        outcome = submit.ask(
            first.get, KEY.verifier, lab.COSIGNER.verifier, "http://w", lab.posting(target)
        )
        assert outcome.code == "", outcome
    outcome = submit.ask(
        there.get, KEY.verifier, lab.COSIGNER.verifier, "http://w", lab.posting(target)
    )
    assert (outcome.code, outcome.size) == ("", size)
    assert cosignature.read(outcome.signed, lab.COSIGNER.verifier) is not None


def test_a_log_that_lost_a_tile_says_so_and_asks_nobody_for_it() -> None:
    """No proof, no cosignature, and no exception text of somebody else's."""
    there = lab.log(700)
    target = lab.witness()
    assert target.add(lab.body(lab.log(300), 300, 0)).status == 200
    ask = (KEY.verifier, lab.COSIGNER.verifier, "http://w", lab.posting(target))
    with pytest.raises(TileMissing):
        submit.ask({**there, "tile/0/001": None}.get, *ask)
    with pytest.raises(TileDamaged):
        submit.ask({**there, "tile/0/001": b"short"}.get, *ask)
    with pytest.raises(TileMissing):
        submit.ask({}.get, *ask)


def test_a_witness_that_names_another_size_each_time_is_given_up() -> None:
    """Its answers cost a proof each; four are enough."""
    sizes = iter(range(100))

    def post(url: str, body: bytes, content_type: str) -> submit.Reply:
        return submit.Reply(409, "text/x.tlog.size", b"%d\n" % next(sizes))

    there = lab.log(300)
    outcome = submit.ask(there.get, KEY.verifier, lab.COSIGNER.verifier, "http://w", post)
    assert outcome.code == "witness-refused"
    assert next(sizes) == submit.TRIES_MAX


def test_after_a_change_of_key_a_witness_that_knows_both_goes_on() -> None:
    """One history under two keys of one name: the proof runs across the change."""
    new = SignerKey.generate(KEY.name)
    target = lab.witness(logs=(KEY.verifier, new.verifier))
    ask = (lab.COSIGNER.verifier, "http://w", lab.posting(target))
    assert submit.ask(lab.log(300).get, KEY.verifier, *ask).code == ""
    assert submit.ask(lab.log(301, key=new).get, new.verifier, *ask).code == ""
    only_old = lab.witness()
    lone = (lab.COSIGNER.verifier, "http://w", lab.posting(only_old))
    assert submit.ask(lab.log(301, key=new).get, new.verifier, *lone).code == "witness-refused"
