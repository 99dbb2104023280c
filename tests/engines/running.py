"""Start a real engine the way its adapter says, and look at it from outside.

Every real-engine test does the same five things, so they stand here once: find a free port, start
`command` with `environment` and nothing else, wait for a token, read what it printed, stop it.
"""

import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from sovereign.engines import ChatContext, Engine, LaunchSpec
from sovereign.engines.environment import parse, unmet

CANARY = "zirkonfalter-7731"


@dataclass
class Running:
    """A started engine. `stopped_in_s` is filled by `stop`."""

    engine: Engine
    spec: LaunchSpec
    process: subprocess.Popen[bytes]
    output: Path
    ready_in_s: float = 0.0

    def environ(self) -> dict[str, str]:
        """What the running process itself was started with."""
        return parse(Path(f"/proc/{self.process.pid}/environ").read_bytes())

    def unmet(self) -> tuple[str, ...]:
        return unmet(self.engine.required_environment(), self.environ())

    def printed(self) -> str:
        return self.output.read_text(errors="replace")

    def chat(self, body: Mapping[str, Any]) -> tuple[int, Any]:
        """Send a client's body through the adapter's translation; return status and JSON."""
        status, raw = self.post(body)
        return status, json.loads(raw)

    def stream(self, body: Mapping[str, Any]) -> list[Any]:
        """As `chat`, for a streamed answer: the chunks up to and without `[DONE]`."""
        status, raw = self.post({**body, "stream": True})
        assert status == 200, status
        lines = [line[6:] for line in raw.decode().splitlines() if line.startswith("data: ")]
        assert lines[-1] == "[DONE]"
        return [json.loads(line) for line in lines[:-1]]

    def hangs_up_after_a_stream(self, body: Mapping[str, Any]) -> bool:
        """Stream over one connection, read the exchange to its end, and look what comes then."""
        connection = HTTPConnection(self.spec.host, self.spec.port, timeout=60)
        try:
            ctx = ChatContext(
                served_name=self.spec.served_name, dialect="mistral", tenant_salt="t3n4ntsalt"
            )
            upstream = self.engine.chat({**body, "stream": True}, ctx)
            headers = {"content-type": "application/json"}
            connection.request("POST", upstream.path, json.dumps(upstream.body), headers)
            connection.getresponse().read()
            line = connection.sock
            line.settimeout(0.5)
            return line.recv(1) == b""
        except TimeoutError:
            return False
        finally:
            connection.close()

    def post(self, body: Mapping[str, Any]) -> tuple[int, bytes]:
        ctx = ChatContext(
            served_name=self.spec.served_name, dialect="mistral", tenant_salt="t3n4ntsalt"
        )
        upstream = self.engine.chat(body, ctx)
        return self.send(upstream.path, json.dumps(upstream.body))

    def provoke(self) -> None:
        """Send every hostile body, and leave when no answer comes: a client gone is one more
        outcome that must not be printed about."""
        for text in hostile_bodies(self.spec.served_name):
            with suppress(TimeoutError):
                self.send("/v1/chat/completions", text, timeout_s=4)

    def send(self, path: str, text: str, timeout_s: float = 120) -> tuple[int, bytes]:
        connection = HTTPConnection(self.spec.host, self.spec.port, timeout=timeout_s)
        try:
            connection.request("POST", path, text, {"content-type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def stop(self) -> float:
        """Ask the engine to go; return the seconds it took. A second call finds it gone."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)
        return time.monotonic() - started


@contextmanager
def running(engine: Engine, spec: LaunchSpec, ready_within_s: float) -> Iterator[Running]:
    """Prepare, start and probe until ready; whatever happens, nothing of it runs afterwards."""
    engine.prepare(spec)
    output = spec.state_dir / "output.log"
    started = time.monotonic()
    with output.open("wb") as log:
        process = subprocess.Popen(
            engine.command(spec),
            env=engine.environment(spec),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=spec.state_dir,
        )
    it = Running(engine, spec, process, output)
    try:
        wait_until_it_answers(it, ready_within_s)
        it.ready_in_s = time.monotonic() - started
        yield it
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_it_answers(it: Running, within_s: float) -> None:
    until = time.monotonic() + within_s
    probe = it.engine.probe(it.spec.base_url, it.spec.served_name, 20)
    while not probe.ok:
        assert it.process.poll() is None, f"it ended at its start:\n{it.printed()[-3000:]}"
        assert time.monotonic() < until, f"{probe.reason}\n{it.printed()[-3000:]}"
        time.sleep(0.2)
        probe = it.engine.probe(it.spec.base_url, it.spec.served_name, 20)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def question(text: str, **more: Any) -> dict[str, Any]:
    """A client's body: one user message, no randomness."""
    return {
        "model": "as-the-client-calls-it",
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
        "random_seed": 7,
        **more,
    }


def hostile_bodies(model: str) -> list[str]:
    """Requests an engine refuses or stumbles over, each with the canary where it would be quoted
    in a message about what is wrong."""
    schemas: list[object] = [
        {"type": CANARY},
        {"type": "string", "pattern": f"^{CANARY}[("},
        {"$ref": f"#/definitions/{CANARY}"},
        {"type": "object", "properties": {CANARY: {"type": CANARY}}, "required": [CANARY]},
        {"allOf": CANARY},
    ]
    formats = [
        {"type": "json_schema", "json_schema": {"name": CANARY, "schema": schema}}
        for schema in schemas
    ]
    tool = {"type": "function", "function": {"name": CANARY, "parameters": {"type": CANARY}}}
    told = question("x") | {"model": model, "max_tokens": 4}
    bodies: list[object] = [
        {"model": CANARY, "messages": []},
        {"model": model, "messages": CANARY},
        {"model": model, "messages": [{"role": CANARY, "content": CANARY}], "max_tokens": 4},
        {"model": model, "messages": [{"role": "user", "content": [{"type": CANARY}]}]},
        told | {"tools": [tool], "tool_choice": "required"},
        told | {"tools": [tool], "tool_choice": CANARY},
        told | {"stop": {CANARY: CANARY}, CANARY: CANARY},
        told | {"grammar": CANARY},
        question(CANARY * 2000) | {"model": model, "max_tokens": 4},
        *[told | {"response_format": response_format} for response_format in formats],
    ]
    broken = f'{{"model": "{CANARY}" "messages": [{{'
    return [broken, *[json.dumps(body) for body in bodies]]
