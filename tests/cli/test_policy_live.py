"""A gateway in a process of its own, under a change of policy: it ends and comes back under it."""

import http.client
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from sovereign.audit import trail as trails
from sovereign.audit.trail import WRITERS
from sovereign.settings import load
from tests.cli.running import sovereign
from tests.engines.running import free_port
from tests.policy.conftest import SHIPPED

WITHIN_S = 60.0
SUPERSEDED = 3


@contextmanager
def gateway(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The gateway as systemd starts it."""
    words = [sys.executable, "-m", "sovereign", "serve", "gateway", "--home", str(home)]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, cwd="/")
    try:
        yield process
    finally:
        process.terminate()
        process.wait(WITHIN_S)


def ready(port: int) -> dict[str, Any]:
    """What it says of itself, once it says something."""
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        with suppress(OSError, http.client.HTTPException):
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
                connection.request("GET", "/readyz")
                said: dict[str, Any] = msgspec.json.decode(connection.getresponse().read())
            return said
        time.sleep(0.05)
    raise AssertionError("nothing answers")


def test_a_running_gateway_is_under_the_policy_in_force_or_ends(tmp_path: Path) -> None:
    """Nobody has to remember to restart anything, and nothing goes on under what was replaced."""
    home, port = tmp_path / "home", free_port()
    home.mkdir()
    (home / "sovereign.yaml").write_text(f"version: 1\ngateway:\n  listen: 127.0.0.1:{port}\n")
    it = load(home)
    for writer in WRITERS:
        trails.create(it.audit, it.keys, it.trust, writer, "local")
    other = Path(shutil.copytree(SHIPPED, tmp_path / "other"))
    path = other / "rules/retention.yaml"
    path.write_text(path.read_text().replace("max_days: 365", "max_days: 300", 1))
    words = ("policy", "apply", str(other), "--reason", "review", "--json")
    with gateway(home) as first:
        before = ready(port)["policy"]
        applying = subprocess.Popen(
            [sys.executable, "-m", "sovereign", *words, "--home", str(home)],
            stdout=subprocess.PIPE,
            cwd="/",
        )
        assert first.wait(WITHIN_S) == SUPERSEDED
        with gateway(home):
            out, _ = applying.communicate(timeout=WITHIN_S)
            said = msgspec.json.decode(out)
            assert (applying.returncode, said["gateway"]) == (0, True)
            assert ready(port)["policy"] == said["new"] != before
    done = sovereign(home, "audit", "verify", "--json")
    assert done.code == 0, done.out
