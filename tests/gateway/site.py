"""A gateway in the process of the test, with a real log, keys and registry, and its client.

Only the network in front is missing: `Site.ask` is an ASGI server that, whenever bytes leave,
looks into the journal on the disk and keeps what stood there at that moment. With simulated disks
it keeps what would be left if the machine stopped at that moment, at the worst.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from sovereign import policy as policies
from sovereign.audit import journal, log, record, trail
from sovereign.audit.log import Log
from sovereign.audit.note import SignerKey
from sovereign.audit.record import STREAMS
from sovereign.audit.trail import Trail
from sovereign.gateway.app import Gateway
from sovereign.keystore import Key, Keystore, new_id
from sovereign.registry import Endpoint, Registry, utcnow
from sovereign.settings import GatewaySettings, Home, Settings
from tests.simulated.disk import SimulatedDisk
from tests.simulated.engine import MODEL

SHIPPED = Path(__file__).resolve().parents[2] / "policies"
EEA = policies.load(SHIPPED, "eea")
OPENAI = {"x-stainless-lang": "python", "user-agent": "OpenAI/Python 3.0"}
CHAT = "/v1/chat/completions"
Records = list[dict[str, Any]]
Disks = dict[str, SimulatedDisk]


@dataclass(frozen=True)
class Moment:
    """Bytes on their way out, and what the log held on the disk when they left."""

    message: dict[str, Any]
    on_disk: Records


@dataclass
class Reply:
    """Everything a call was answered with. `status` is 0 when nothing was."""

    moments: list[Moment] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.moments[0].message["status"]) if self.moments else 0

    @property
    def headers(self) -> dict[str, str]:
        return {n.decode(): v.decode() for n, v in self.moments[0].message["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(m.message.get("body", b"") for m in self.moments)

    @property
    def json(self) -> dict[str, Any]:
        content: dict[str, Any] = msgspec.json.decode(self.body)
        return content

    @property
    def events(self) -> list[str]:
        """The data of a stream's events."""
        return [e.removeprefix("data: ") for e in self.body.decode().split("\n\n") if e]

    @property
    def whole(self) -> bool:
        """True when the answer was ended, not broken off."""
        return bool(self.moments) and self.moments[-1].message.get("more_body") is False

    @property
    def error(self) -> dict[str, Any]:
        """The error object of either dialect."""
        content: dict[str, Any] = self.json.get("error", self.json)
        return content


Seen = Callable[[Reply], Awaitable[bool]]


class Site:
    """A home on the disk and the gateway over it. `record_of` reads the log as it stands."""

    def __init__(
        self, root: Path, bounds: GatewaySettings, disks: Disks | None = None, **more: Any
    ) -> None:
        self.home = Home(root, Settings(gateway=bounds, **more))
        self.keystore = Keystore(self.home.keystore)
        self.keystore.create()
        self.registry = Registry(self.home.registry, writable=True)
        self.disks = disks
        self.left: dict[str, Records] = {}
        self.trail = self._opened()
        self.gateway: Gateway
        self.secret = self.key()
        self.policy = EEA

    def _opened(self) -> Trail:
        home = self.home
        if self.disks is None:
            trail.create(home.audit, home.keys, home.trust, "gateway", "local")
            return Trail.open(home.audit, home.keys, "gateway", "local", utcnow)
        logs = {}
        for stream, disk in self.disks.items():
            signer = SignerKey.generate(f"local/gateway/{stream}")
            log.create(disk, signer, utcnow)
            logs[stream] = Log(disk, signer, utcnow)
        return Trail(logs, utcnow)

    def key(self, **more: Any) -> str:
        """A new key; the gateway knows it once it has started, or looked again."""
        bound: dict[str, Any] = {
            "id": new_id(),
            "tenant": "acme",
            "purpose": "tests",
            "basis": "contract",
            "data": "personal",
            "subject": "none",
            "created_at": utcnow(),
        }
        return self.keystore.add(Key(**(bound | more)))

    def endpoint(self, at: str, **more: Any) -> None:
        """Say in the registry where the engine is, as the controller would."""
        now: datetime = utcnow()
        said: dict[str, Any] = {
            "id": "local-llamacpp",
            "engine": "llamacpp",
            "address": at,
            "models": (MODEL,),
            "place": "this-host",
            "attested_at": now - timedelta(seconds=1),
            "expires_at": now + timedelta(hours=1),
            "quarantine": "",
            "reason": "",
        }
        snapshot = self.registry.snapshot()
        self.registry.write([Endpoint(**(said | more))], planned_on=snapshot.generation)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Site"]:
        """Run the gateway between the two halves of its ASGI lifespan."""
        self.gateway = Gateway(self.home, self.policy, self.trail)
        told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        done: asyncio.Queue[str] = asyncio.Queue()

        async def send(message: Any) -> None:
            done.put_nowait(message["type"])

        life = asyncio.create_task(self.gateway({"type": "lifespan"}, told.get, send))
        told.put_nowait({"type": "lifespan.startup"})
        assert await done.get() == "lifespan.startup.complete"
        try:
            yield self
        finally:
            told.put_nowait({"type": "lifespan.shutdown"})
            assert await done.get() == "lifespan.shutdown.complete"
            await life

    async def seen(self) -> None:
        """Have the gateway look at keys and registry now, not in half a second."""
        watching = self.gateway._watching
        watching.current = await asyncio.to_thread(watching._read, watching.current)

    def records(self, stream: str = "event") -> Records:
        """What stands in the journal on the disk, oldest first; at the end, what was left."""
        if stream in self.left:
            return self.left[stream]
        if self.disks is None:
            raw = (self.home.audit / "gateway" / stream / journal.PATH).read_bytes()
        else:
            _, lost_most = next(self.disks[stream].survivors())
            raw = lost_most.read(journal.PATH) or b""
        return [record.parse(e) for group in journal.parse(raw).groups for e in group.entries]

    def kinds(self, *names: str) -> Records:
        """The records of these types in the event log."""
        return [r for r in self.records() if r["type"] in names]

    async def chat(
        self, *, leave: Seen | None = None, gone: asyncio.Event | None = None, **more: Any
    ) -> Reply:
        """A chat with the site's own key. `headers` and `secret` are not part of the body."""
        headers, secret = more.pop("headers", {}), more.pop("secret", self.secret)
        body = {"model": MODEL, "messages": [{"role": "user", "content": "Capital?"}], **more}
        asked = {"authorization": f"Bearer {secret}", **headers}
        return await self.ask("POST", CHAT, asked, [msgspec.json.encode(body)], leave, gone)

    async def ask(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | Iterable[tuple[bytes, bytes]] = (),
        body: Iterable[bytes] = (b"",),
        leave: Seen | None = None,
        gone: asyncio.Event | None = None,
    ) -> Reply:
        """Make one HTTP exchange. The client is gone when `leave` says so after a message, or
        once `gone` is set."""
        pairs = headers.items() if isinstance(headers, dict) else headers
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "client": ("203.0.113.7", 5),
            "headers": [(_bytes(n).lower(), _bytes(v)) for n, v in pairs],
        }
        parts, reply, over = list(body), Reply(), gone or asyncio.Event()

        async def receive() -> dict[str, Any]:
            if parts:
                part = parts.pop(0)
                return {"type": "http.request", "body": part, "more_body": bool(parts)}
            await over.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if over.is_set():
                return
            reply.moments.append(Moment(dict(message), self.records()))
            if message.get("more_body") is False or (leave is not None and await leave(reply)):
                over.set()

        async with asyncio.timeout(30):
            await self.gateway(scope, receive, send)
        return reply


async def until(true: Callable[[], bool], within_s: float = 5) -> None:
    """Wait until it is true; fail when it is not in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while not true():
        assert loop.time() < deadline, f"not within {within_s} s"
        await asyncio.sleep(0.01)


def _bytes(value: str | bytes) -> bytes:
    return value.encode("latin-1") if isinstance(value, str) else value


@asynccontextmanager
async def site(
    root: Path, address: str = "127.0.0.1:9", disks: Disks | None = None, **bounds: Any
) -> AsyncIterator[Site]:
    """A served site whose engine is at `address`; `bounds` are settings of the gateway."""
    aliases = bounds.pop("aliases", ())
    it = Site(root, GatewaySettings(**bounds), disks, aliases=aliases)
    it.endpoint(address)
    try:
        async with it.serving():
            yield it
    finally:
        it.left = {stream: it.records(stream) for stream in STREAMS}
        it.trail.close()  # this empties the journals


def disks(**more: Any) -> Disks:
    """A simulated disk for each log of the gateway."""
    return {stream: SimulatedDisk(**more) for stream in STREAMS}
