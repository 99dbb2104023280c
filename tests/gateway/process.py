"""The gateway as it runs on a site: a process of its own, over a home on the disk.

The engines are the test's, in its event loop; what the controller would say of them stands in the
registry. `ended` waits for the process, and `records` reads its log as any reader would.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from sovereign import fleet, settings
from sovereign.audit import journal, record, trail
from sovereign.keystore import Key, Keystore, new_id
from sovereign.registry import Endpoint, Registry, utcnow
from sovereign.settings import GatewaySettings, Home, Settings
from tests.engines.running import free_port
from tests.simulated.engine import MODEL

STARTS_WITHIN_S = 60
_CODE = """
import sys
from sovereign.gateway import server
server.DRAIN_S = int(sys.argv.pop())
import runpy
runpy.run_module("sovereign", run_name="__main__")
"""


class Running:
    """A started gateway. `said` is what it wrote on standard error, once it has ended."""

    def __init__(self, home: Home, process: asyncio.subprocess.Process, secret: str) -> None:
        self.home = home
        self.process = process
        self.secret = secret
        self.port = int(home.settings.gateway.listen.rpartition(":")[2])
        self.said = ""

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    def chat(self, stream: bool = True) -> bytes:
        """A chat request, as bytes."""
        more = ',"stream":true' if stream else ""
        body = f'{{"model":"{MODEL}","messages":[{{"role":"user","content":"x"}}]{more}}}'
        return (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self.secret}"
            f"\r\ncontent-length: {len(body)}\r\n\r\n{body}"
        ).encode()

    async def status(self, path: str) -> int:
        """The status of a GET on a new connection; 0 when there is none to be had."""
        try:
            reader, writer = await self.open()
            writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            line = await asyncio.wait_for(reader.readline(), 5)
            writer.close()
            return int(line.split(b" ")[1])
        except (OSError, IndexError, TimeoutError):
            return 0

    async def ended(self, within_s: float) -> int:
        """Wait for the process to end; its exit code."""
        _, said = await asyncio.wait_for(self.process.communicate(), within_s)
        self.said = said.decode()
        assert self.process.returncode is not None
        return self.process.returncode

    def records(self, stream: str, *kinds: str) -> list[dict[str, Any]]:
        """The records of these types in a log that was closed, oldest first."""
        (member,) = [m for m in fleet.members(self.home) if m.stream == stream]
        return [r for _, r in fleet.records(member, 0, 10_000) if r["type"] in kinds]

    def journal(self, stream: str) -> list[dict[str, Any]]:
        """What stands in the journal of a log that was not closed."""
        raw = (self.home.audit / "gateway" / stream / journal.PATH).read_bytes()
        return [record.parse(e) for group in journal.parse(raw).groups for e in group.entries]


def prepared(root: Path, endpoints: Mapping[str, str], **bounds: Any) -> tuple[Home, str]:
    """A home before these endpoints (id and address), and a key of it."""
    listen = f"127.0.0.1:{free_port()}"
    chosen = GatewaySettings(listen=listen, admin_listen="", **bounds)
    home = Home(root, Settings(gateway=chosen))
    home.file.write_text(settings.render(home.settings))
    trail.create(home.audit, home.keys, home.trust, "gateway", "local")
    store = Keystore(home.keystore)
    store.create()
    bound: dict[str, Any] = {"tenant": "acme", "purpose": "tests", "basis": "contract"}
    key = Key(id=new_id(), data="personal", subject="none", created_at=utcnow(), **bound)
    secret = store.add(key)
    registry = Registry(home.registry, writable=True)
    registry.write([_endpoint(*each) for each in endpoints.items()], planned_on=0)
    return home, secret


def command(home: Home, drain_s: int) -> list[str]:
    """What starts it. A smaller bound for draining is the one thing that is not as on a site."""
    words = ["serve", "gateway", "--home", str(home.root), str(drain_s)]
    return [sys.executable, "-c", _CODE, *words]


@asynccontextmanager
async def gateway(
    root: Path, endpoints: Mapping[str, str], drain_s: int = 20, **bounds: Any
) -> AsyncIterator[Running]:
    """A running gateway before these endpoints; ended when the block ends."""
    home, secret = prepared(root, endpoints, **bounds)
    process = await asyncio.create_subprocess_exec(
        *command(home, drain_s),
        env={**os.environ, "HOME": str(root)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    running = Running(home, process, secret)
    try:
        async with asyncio.timeout(STARTS_WITHIN_S):
            while await running.status("/healthz") != 200:
                if process.returncode is not None:
                    raise AssertionError((await process.communicate())[1].decode())
                await asyncio.sleep(0.05)
        yield running
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _endpoint(name: str, address: str) -> Endpoint:
    now = utcnow()
    return Endpoint(
        id=name,
        engine="llamacpp",
        address=address,
        models=(MODEL,),
        place="this-host",
        attested_at=now - timedelta(seconds=1),
        expires_at=now + timedelta(hours=1),
        quarantine="",
        reason="",
    )
