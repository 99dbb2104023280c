"""A witness that runs: `sovereign witness serve` as a process of its own, on loopback."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sovereign.audit.note import SignerKey
from sovereign.audit.witnesses.cosignature import CosignerKey
from sovereign.audit.witnesses.submit import Reply, http_post
from sovereign.audit.witnesses.witness_home import WitnessHome
from tests.audit.scenario import KEY
from tests.engines.running import free_port

PATIENCE_S = 60.0
NAME = "witness.example/w1"


@dataclass(frozen=True)
class Served:
    """A witness that runs: where, under which key, and as which process."""

    url: str
    key: CosignerKey
    process: "subprocess.Popen[bytes]"

    def add(self, body: bytes) -> Reply:
        return http_post(f"{self.url}/add-checkpoint", body, "text/plain; charset=utf-8")


def made(folder: Path, *logs: SignerKey) -> WitnessHome:
    """A witness that knows these logs, not yet running."""
    home = WitnessHome(folder)
    home.make_key(NAME, "ed25519")
    for each in logs or (KEY,):
        home.trust(each.verifier)
    return home


@contextmanager
def serving(home: WitnessHome) -> Iterator[Served]:
    """Run it until the block ends; a witness that was killed in between is fine."""
    port = free_port()
    words = ["witness", "serve", "--state", str(home.root), "--listen", f"127.0.0.1:{port}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sovereign", *words],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "SOVEREIGN_HOME": str(home.root.parent / "home")},
    )
    try:
        _wait_for(port, process)
        yield Served(f"http://127.0.0.1:{port}", home.signers()[0].verifier, process)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "the witness has ended"
        with socket.socket() as knock:
            if knock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("the witness does not listen")
