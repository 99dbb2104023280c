"""A gateway as a process of its own, as the supervisor starts it, with a file of issuers."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from sovereign.keystore import Keystore
from sovereign.registry import Registry, utcnow
from sovereign.settings import load
from tests.cli.running import sovereign
from tests.engines.running import free_port
from tests.identity.issuing import BINDING, said, write
from tests.identity.signer import Signer, showing

READY_WITHIN_S = 60.0
ASK = build_opener(ProxyHandler({}))


def status(url: str, token: str = "") -> int:
    request = Request(url, headers={"authorization": f"Bearer {token}"} if token else {})
    try:
        with ASK.open(request, timeout=10) as answer:
            return int(answer.status)
    except HTTPError as error:
        with error:
            return error.code


@contextmanager
def running(home: Path, port: int) -> Iterator[str]:
    """The address of a gateway that answers; it has ended as it was told to afterwards."""
    words = [sys.executable, "-m", "sovereign", "serve", "gateway", "--home", str(home)]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline:
            assert process.poll() is None, (home / "log").read_text()[-2000:]
            with suppress(OSError):
                if status(f"{url}/healthz") == 200:
                    break
            time.sleep(0.1)
        yield url
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait(10)


def configure(home: Path, port: int, url: str, **more: object) -> None:
    write(home, said(url, **more))
    (home / "sovereign.yaml").write_text(
        f'version: 1\ngateway: {{listen: "127.0.0.1:{port}", admin_listen: "", '
        "issuers: issuers.yaml}\n"
    )
    it = load(home)
    store = Keystore(it.keystore)
    store.create()
    store.create_tenant("acme", utcnow())
    registry = Registry(it.registry, writable=True)
    registry.write([], planned_on=registry.snapshot().generation)


def test_a_process_takes_tokens_and_forgets_a_binding_that_is_taken_out(site: Path) -> None:
    """Its own event loop, its own timers and its own end: as in production."""
    signer, port = Signer(), free_port()
    signer.add("k1")
    with showing(signer.key_set) as shown:
        configure(site, port, shown.url)
        token = signer.token()
        with running(site, port) as url:
            assert status(f"{url}/v1/models", token) == 200
            assert status(f"{url}/v1/models", token[:-4] + "AAAA") == 401
            write(site, said(shown.url, bindings=[{**BINDING, "when": {"org": "hr"}}]))
            deadline = time.monotonic() + 30
            while status(f"{url}/v1/models", token) == 200:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert status(f"{url}/v1/models", token) == 403
        log = (site / "log").read_text()
        events = [json.loads(line)["event"] for line in log.splitlines()]
        assert "issuers-changed" in events
        assert events[-1] == "gateway-log-closed"
        assert token not in log


@pytest.mark.parametrize("wrong", ["gone", "binding"])
def test_a_process_with_a_file_it_cannot_use_does_not_start(site: Path, wrong: str) -> None:
    """Half of who is let in would be found out by those who are not."""
    configure(site, free_port(), "http://127.0.0.1:9/jwks")
    if wrong == "gone":
        (site / "issuers.yaml").unlink()
    else:
        write(site, said("http://127.0.0.1:9/jwks", bindings=[{**BINDING, "data": "rumours"}]))
    done = sovereign(site, "serve", "gateway")
    assert (done.code, done.error) == (2, "settings-unreadable"), done.err
    assert "issuers.yaml" in done.err
