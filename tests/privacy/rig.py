"""A gateway in a process of its own before a simulated engine, to drill what a live site must not
be put through: faults in it, a full disk, a kill in the middle of a request.
"""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from sovereign import policy as policies
from sovereign import settings
from sovereign.audit import trail
from sovereign.drills import canary, client, speech
from sovereign.drills.note import Noted, noted
from sovereign.drills.places import Looked
from sovereign.drills.push import Pushed, Pusher
from sovereign.drills.result import Result
from sovereign.drills.words import Canaries
from sovereign.keystore import Keystore
from sovereign.registry import Endpoint, Registry, utcnow
from sovereign.settings import Home
from sovereign.subjects import SOURCES
from tests.engines.running import free_port
from tests.simulated.engine import MODEL, Script, answering, engine

LEAKING = Path(__file__).with_name("leaking.py")
ROOT = LEAKING.parents[2]
READY_WITHIN_S = 30
CHAT = "/v1/chat/completions"
ANSWER = (
    "Ein zweiunddreissigfach geknickter Zirkonfalter sass auf dem Blech und sprach von Quitten, "
    "Wachs, Xenon und den acht Jahren im Dampfbad."
)
"""What the engine says: nobody else does."""


@dataclass
class Rig:
    """A home with logs and keys, and what runs over it."""

    home: Home
    temporary: Path
    note: Noted
    canaries: Canaries = field(default_factory=Canaries)
    keys: dict[str, str] = field(default_factory=dict)
    last: Pushed = field(default_factory=Pushed)

    @property
    def pusher(self) -> Pusher:
        """A client of this site, whose answers are kept for the search."""
        return Pusher(self.home.settings.gateway, self.keys, self.canaries, {CHAT: MODEL})

    @contextmanager
    def gateway(
        self, fault: str, environment: Mapping[str, str] | None = None, *words: str
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a gateway with a fault; its output goes where a supervisor would put it."""
        command = [sys.executable, *words, str(LEAKING), fault, "serve", "gateway"]
        env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self.temporary),
            **(environment or {}),
        }
        log = (self.home.logs / "gateway.log").open("ab")
        with (
            log,
            subprocess.Popen(
                [*command, "--home", str(self.home.root)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=env,
                cwd="/",
            ) as process,
        ):
            try:
                self._until_ready(process)
                yield process
            finally:
                process.terminate()
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()

    def _until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not client.is_ready(self.home):
            assert process.poll() is None, (self.home.logs / "gateway.log").read_text()[-3000:]
            assert time.monotonic() < deadline, "the gateway was not ready in time"
            time.sleep(0.05)

    def push(self) -> dict[str, str]:
        """A few calls of each sort that an answer or a refusal is given to; what was written."""
        pusher = self.pusher
        pusher.send("no object", CHAT, f'["{self.canaries.word("body")}"'.encode())
        pusher.answers(CHAT)
        pusher.send("an unknown model", CHAT, speech.chat(self.canaries.word, "no-such-model"))
        self.last = pusher.pushed
        return pusher.pushed.wrote

    def searched(self, wrote: Mapping[str, str]) -> list[Looked]:
        """What the drill's own search finds here; its control must be found, too."""
        result = Result("canary", utcnow() - timedelta(minutes=1))
        looked, lost = canary.search(
            self.home, self.canaries, wrote, result, self.note, (), lambda _: None
        )
        assert lost == []
        return looked


@contextmanager
def rig(root: Path) -> Iterator[Rig]:
    """A rig with keys of a drill, an engine that answers, and no gateway yet."""
    made = root / "home"
    made.mkdir()
    written = {
        "version": 1,
        "engine": {"listen": f"127.0.0.1:{free_port()}"},
        "gateway": {
            "listen": f"127.0.0.1:{free_port()}",
            "admin_listen": f"127.0.0.1:{free_port()}",
        },
        "controller": {"metrics_listen": ""},
    }
    (made / settings.FILE_NAME).write_text(json.dumps(written))
    home, temporary = settings.load(made), root / "tmp"
    temporary.mkdir()
    home.logs.mkdir()
    for writer in ("gateway", "operator"):
        trail.create(home.audit, home.keys, home.trust, writer, "local")
    Keystore(home.keystore).create()
    digest = policies.load(home.policies, home.settings.profile, home.own_places).digest
    with noted(home, "canary", digest) as note, simulated(answering(ANSWER)) as address:
        it = Rig(home, temporary, note)
        it.keys = client.make_keys(home, note, "drill-canary", SOURCES)
        attest(home, address)
        yield it


def attest(home: Home, address: str) -> None:
    """Say in the registry where the engine is, as the controller would."""
    now = utcnow()
    endpoint = Endpoint(
        id="local-llamacpp",
        engine="llamacpp",
        address=address,
        models=(MODEL,),
        place="this-host",
        attested_at=now - timedelta(seconds=1),
        expires_at=now + timedelta(hours=1),
        quarantine="",
        reason="",
    )
    Registry(home.registry, writable=True).write([endpoint], planned_on=0)


@contextmanager
def simulated(script: Script) -> Iterator[str]:
    """A simulated engine in a thread with a loop of its own; yields its address."""
    at: list[str] = []
    up, down = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with engine(script) as it:
            at.append(it.address)
            up.set()
            await down.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert up.wait(10)
        yield at[0]
    finally:
        loop.call_soon_threadsafe(down.set)
        thread.join(10)
        loop.close()
