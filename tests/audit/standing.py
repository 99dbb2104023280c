"""A standby in this process, and in one of its own; both are the real one."""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from sovereign.audit.copies.standby import Standby
from sovereign.audit.copies.standby_client import Client, State, Where
from sovereign.audit.copies.standby_http import StandbyApp
from sovereign.audit.note import VerifierKey
from tests.engines.running import free_port

TOKEN = "t0ken-for-tests-only-and-long-enough"  # pragma: allowlist secret
PATIENCE_S = 30.0


class Direct(Client):
    """A client whose requests reach the application without a socket: the same bytes, quickly."""

    def __init__(self, standby: Standby, token: str = TOKEN) -> None:
        super().__init__(Where("http://127.0.0.1:1", token))
        self.app = StandbyApp(standby, TOKEN)
        self.calls: list[tuple[str, str, int]] = []
        self.fail_at: int | None = None

    def _call(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if self.fail_at is not None and len(self.calls) >= self.fail_at:
            raise self._unreachable("it was made to")
        self.calls.append((method, path, len(body)))
        return asyncio.run(ask(self.app, method, path, body, self._where.token))


async def ask(
    app: StandbyApp, method: str, path: str, body: bytes = b"", token: str = TOKEN
) -> tuple[int, bytes]:
    """One request to the application."""
    sent: list[dict[str, object]] = []
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(b"authorization", f"Bearer {token}".encode())],
    }

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: object) -> None:
        assert isinstance(message, dict)
        sent.append(message)

    await app(scope, receive, send)
    status, content = sent[0]["status"], sent[1]["body"]
    assert isinstance(status, int)
    assert isinstance(content, bytes)
    return status, content


@contextlib.contextmanager
def served(
    root: Path, keys: list[VerifierKey], port: int | None = None, *more: str
) -> Iterator[tuple[Where, "subprocess.Popen[bytes]"]]:
    """`sovereign audit standby serve` as a process, once it answers."""
    root.mkdir(parents=True, exist_ok=True)
    vkeys, token = root / "vkeys.txt", root / "token"
    vkeys.write_text("# the logs of a test\n" + "".join(f"{key}\n" for key in keys))
    token.write_text(f"{TOKEN}\n")
    port = port or free_port()
    words = ["audit", "standby", "serve", "--folder", str(root / "copies")]
    words += ["--vkeys", str(vkeys), "--token-file", str(token), "--listen", f"127.0.0.1:{port}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sovereign", *words, *more],
        env={**os.environ, "SOVEREIGN_HOME": str(root / "home")},
        stderr=subprocess.DEVNULL,
    )
    where = Where(f"http://127.0.0.1:{port}", TOKEN)
    try:
        if not more:
            until_answers(where)
        yield where, process
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def until_answers(where: Where) -> dict[str, State]:
    """Wait for a standby, bounded."""
    from sovereign.errors import StandbyUnreachable

    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            with Client(where) as client:
                return client.held()
        except StandbyUnreachable:
            assert time.monotonic() < until
            time.sleep(0.05)
