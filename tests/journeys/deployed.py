"""A site as a user deploys it: the real command line, real processes, a home of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.engines.running import free_port

MODEL = "smollm2-135m-instruct"
CHAT = "/v1/chat/completions"
COMMAND_TAKES_AT_MOST_S = 180
STEPS = ("settings", "policy", "engine", "audit logs", "key", "processes", "endpoint", "first chat")


@dataclass
class Answer:
    """What a plain HTTP request got: status, headers by lower-case name, body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Site:
    """A home with free ports; `out` is everything its commands printed."""

    home: Path
    port: int = field(default_factory=free_port)
    engine_port: int = field(default_factory=free_port)
    key: str = ""
    out: list[str] = field(default_factory=list)

    def prepare(self, **engine: Any) -> None:
        """Write the settings a user would write who has other things on the usual ports."""
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = {
            "version": 1,
            "engine": {"listen": f"127.0.0.1:{self.engine_port}", **engine},
            "gateway": {"listen": f"127.0.0.1:{self.port}"},
            "controller": {"interval_s": 2},
        }
        (self.home / "sovereign.yaml").write_text(json.dumps(settings))  # JSON is YAML

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """A user's environment; a buffered step would be seen too late."""
        return {**os.environ, "SOVEREIGN_HOME": str(self.home), "PYTHONUNBUFFERED": "1"}

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command of ours."""
        return subprocess.Popen(
            [sys.executable, "-m", "sovereign", *words],
            env=self.environment,
            cwd="/",
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, *words: str) -> tuple[int, str]:
        """Run a command of ours to its end: exit code and what it printed."""
        with self.start(*words) as process:
            try:
                said, _ = process.communicate(timeout=COMMAND_TAKES_AT_MOST_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        self.out.append(said)
        return process.returncode, said

    def asked(self, *words: str, code: int = 0) -> Any:
        """Run a command with --json; its exit code must be this one."""
        found, said = self.run(*words, "--json")
        assert found == code, said
        return json.loads(said)

    def deploy(self) -> str:
        """Deploy; keep the key if one was shown."""
        code, said = self.run("deploy")
        assert code == 0, said + self.process_logs()
        for word in said.split():
            if word.startswith("sov_"):
                self.key = word
        return said

    def process_logs(self) -> str:
        """The logs of the processes, for a failure's message."""
        logs = sorted((self.home / "logs").glob("*.log"))
        return "".join(f"\n--- {log.name}\n{log.read_text()[-2000:]}" for log in logs)

    def pid(self, name: str) -> int:
        """The process id of engine, gateway or controller."""
        state = json.loads((self.home / "run" / "supervisor.json").read_text())
        return next(int(c["pid"]) for c in state["children"] if c["name"] == name)

    def supervisor(self) -> int:
        """The process id of the supervisor."""
        state = json.loads((self.home / "run" / "supervisor.json").read_text())
        return int(state["pid"])

    def http(self, method: str, path: str, body: Any = None, key: str | None = None) -> Answer:
        """One plain request, with the site's key unless told otherwise."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {self.key if key is None else key}"}
        try:
            connection.request(method, path, raw, headers)
            response = connection.getresponse()
            named = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, named, response.read())
        finally:
            connection.close()

    def chat(self, text: str = "Say one word.", key: str | None = None, **more: Any) -> Answer:
        """One short chat."""
        messages = [{"role": "user", "content": text}]
        body = {"model": MODEL, "messages": messages, "max_tokens": 4, "temperature": 0, **more}
        return self.http("POST", CHAT, body, key)

    def records(self, origin: str = "", number: int = 500) -> list[dict[str, Any]]:
        """The newest records of a log, or of all, as `audit tail --json` gives them."""
        code, said = self.run("audit", "tail", "--json", "-n", str(number), "--log", origin)
        assert code == 0, said
        return [json.loads(line) for line in said.splitlines()]

    def record(self, name: str) -> dict[str, Any]:
        """The record of this name, once it is published, which is promised within a second."""
        origin = name.partition("#")[0]
        found: list[dict[str, Any]] = []

        def there() -> bool:
            found[:] = [r for r in self.records(origin) if r["record"] == name]
            return bool(found)

        wait_until(there, 10)
        return found[0]

    def ending(self, decision: str) -> dict[str, Any]:
        """How the request with this decision's record ended: there is exactly one such record."""
        origin, _, index = decision.partition("#")
        found: list[dict[str, Any]] = []

        def there() -> bool:
            found[:] = [r for r in self.records(origin) if r.get("decision") == int(index)]
            return bool(found)

        wait_until(there, 15)
        assert len(found) == 1
        return found[0]

    def is_ready(self) -> bool:
        """True while a chat sent now would be answered."""
        try:
            return self.http("GET", "/readyz").status == 200
        except OSError:
            return False


def wait_until(true: Callable[[], bool], within_s: float) -> float:
    """Seconds until it was true; fails when it is not in time."""
    started = time.monotonic()
    while not true():
        assert time.monotonic() - started < within_s, f"not within {within_s} s"
        time.sleep(0.1)
    return time.monotonic() - started


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Hold a process of the site still, and let it go on whatever happens."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@contextmanager
def site_at(home: Path, *, deploy: bool = True) -> Iterator[Site]:
    """A site that is taken down at the end, whatever state it is in."""
    site = Site(home)
    site.prepare()
    try:
        if deploy:
            site.deploy()
        yield site
    finally:
        code, said = site.run("down")
        assert code == 0, said
