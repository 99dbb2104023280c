"""Whole rounds: a scripted engine on a real port, the real registry, the real log."""

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import pytest

from sovereign.audit import trail as trails
from sovereign.audit.trail import Trail
from sovereign.controller.loop import run_round
from sovereign.controller.observe import knocking, looking, wanted
from sovereign.fleet import members, records
from sovereign.fleet import verify as verify_all
from sovereign.host import EngineProcess
from sovereign.registry import Registry, utcnow
from sovereign.settings import EngineSettings, Home, Settings
from tests.controller.seen import ENVIRONMENT, MODEL, POLICY, observe
from tests.engines.running import free_port
from tests.simulated.engine import completion


class _Answering(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        raw = msgspec.json.encode(completion("x", model=MODEL))
        self.send_response(200)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def engine() -> Iterator[str]:
    """An engine in a thread of this process; its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answering)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def home_at(root: Path, address: str, **more: Any) -> Home:
    home = Home(root, Settings(engine=EngineSettings(listen=address), **more))
    trails.create(home.audit, home.keys, home.trust, "controller", "local")
    return home


def evidence(home: Home) -> list[dict[str, Any]]:
    (member,) = [m for m in members(home) if m.stream == "evidence"]
    return [fields for _, fields in records(member, 0, 10_000)]


def test_a_round_knocks_for_real_and_looks_for_real(tmp_path: Path, engine: str) -> None:
    """One token through HTTP, and the process behind the port: here, this very test's."""
    home = home_at(tmp_path, engine)
    (seen,) = observe(wanted(home, POLICY), knocking(5), looking())
    assert (seen.probe.ok, seen.probe.model) == (True, MODEL)
    assert seen.process.listeners is not None
    assert engine in seen.process.listeners


def test_an_endpoint_is_vouched_for_shut_and_opened_round_by_round(
    tmp_path: Path, engine: str
) -> None:
    """The whole of point eight in one story: the registry and the log agree at each step."""
    home = home_at(tmp_path, engine)
    registry = Registry(home.registry, writable=True)
    well = EngineProcess(1, ENVIRONMENT, (engine,))
    telling = EngineProcess(1, {**ENVIRONMENT, "DO_NOT_TRACK": "0"}, (engine,))
    with Trail.open(home.audit, home.keys, "controller", "local", utcnow) as trail:
        for process, code in ((well, ""), (telling, "telemetry-on"), (well, "")):
            run_round(home, POLICY, registry, trail, knocking(5), lambda _, p=process: p)
            (endpoint,) = registry.snapshot().endpoints
            assert endpoint.quarantine == code
    kinds = [r["type"] for r in evidence(home) if not r["type"].startswith("log-")]
    assert kinds == ["attestation", "quarantine", "attestation", "release"]
    assert all(not result.findings for result in verify_all(home))


def test_an_engine_that_dies_is_shut_in_the_next_round(tmp_path: Path) -> None:
    """Within one interval, with a reason that names the probe."""
    home = home_at(tmp_path, f"127.0.0.1:{free_port()}")
    registry = Registry(home.registry, writable=True)
    with Trail.open(home.audit, home.keys, "controller", "local", utcnow) as trail:
        run_round(home, POLICY, registry, trail, knocking(2), looking())
    (endpoint,) = registry.snapshot().endpoints
    assert (endpoint.quarantine, endpoint.reason) == (
        "engine-unhealthy",
        "one-token probe: unreachable",
    )


def test_a_busy_registry_is_left_for_the_next_round(tmp_path: Path, engine: str) -> None:
    """A reader that is slow must not end the controller."""

    class Busy(Registry):
        def snapshot(self) -> Any:
            raise sqlite3.OperationalError("database is locked")

    home = home_at(tmp_path, engine)
    busy = Busy(home.registry, writable=True)
    with Trail.open(home.audit, home.keys, "controller", "local", utcnow) as trail:
        run_round(home, POLICY, busy, trail, knocking(5), looking())
    assert Registry(home.registry).snapshot().endpoints == ()


def test_weights_that_the_settings_name_are_not_shown_with_the_digest_of_the_package(
    tmp_path: Path,
) -> None:
    """The registry must not vouch for a digest that nobody compared."""
    packaged = Home(tmp_path, Settings())
    named = Home(tmp_path, Settings(engine=EngineSettings(weights="/somewhere/else.gguf")))
    assert wanted(packaged, POLICY)[0].model_digest.startswith("sha256:")
    assert wanted(named, POLICY)[0].model_digest == ""


def test_the_process_starts_works_and_stops_at_a_signal_with_its_log_settled(
    tmp_path: Path, engine: str
) -> None:
    """The only `while` of the package ends when told, and leaves a log that verifies."""
    home = home_at(tmp_path, engine)
    text = f'version: 1\nengine: {{listen: "{engine}"}}\ncontroller: {{interval_s: 1}}\n'
    home.file.write_text(text)
    command = [sys.executable, "-m", "sovereign", "serve", "controller", "--home", str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 30
        while not Registry(home.registry).snapshot().endpoints and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert process.returncode == 0, said
    events = [msgspec.json.decode(line)["event"] for line in said.splitlines()]
    assert (events[0], events[-1]) == ("controller-started", "controller-stopped")
    kinds = {record["type"] for record in evidence(home)}
    assert {"policy-loaded", "quarantine", "retention-run"} <= kinds
    assert all(not result.findings for result in verify_all(home))
    with Trail.open(home.audit, home.keys, "controller", "local", utcnow):
        pass
    reopened = [r for r in evidence(home) if r["type"] == "log-reopened"]
    assert reopened[-1]["ended"] == "cleanly"


def test_a_log_that_has_stopped_ends_the_process_so_that_it_is_opened_again(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only opening recovers a log; a controller that stayed would vouch for nothing, for ever."""
    from sovereign.audit.disk import RealDisk
    from sovereign.controller import loop
    from sovereign.errors import LogUnwritable

    home = home_at(tmp_path, engine)
    monkeypatch.setattr(loop.signal, "signal", lambda *_: None)
    real, calls = RealDisk.append_to, []

    def full(disk: RealDisk, path: str, keep: int) -> Any:
        file = real(disk, path, keep)
        calls.append(path)

        class Full:
            def write(self, data: bytes) -> None:
                file.write(data)

            def sync(self) -> None:
                if b"attestation" in _journal(disk) or b"quarantine" in _journal(disk):
                    raise OSError(28, "No space left on device")
                file.sync()

            def close(self) -> None:
                file.close()

        return Full()

    def _journal(disk: RealDisk) -> bytes:
        return (disk.root / "journal").read_bytes()

    monkeypatch.setattr(RealDisk, "append_to", full)
    with pytest.raises(LogUnwritable):
        loop.serve(home, POLICY)
    (endpoint,) = Registry(home.registry).snapshot().endpoints
    assert (endpoint.quarantine, endpoint.recorded) == ("telemetry-on", False)
    assert calls
