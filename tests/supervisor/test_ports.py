"""Who listens where: a port says nothing of who answers there, and a key is for one program."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import msgspec
import pytest

from sovereign.errors import EngineUnhealthy, ProcessFailed
from sovereign.settings import EngineSettings, GatewaySettings, Home, Settings
from sovereign.supervisor import control, deployment, watch
from sovereign.supervisor.deployment import Choices, Deployed, Deployment
from sovereign.supervisor.watch import ChildState, State
from tests.controller.seen import POLICY
from tests.engines.running import free_port

SECRET = "sov_for-our-gateway-alone"  # pragma: allowlist secret


def home_at(root: Path, gateway: int, engine: int) -> Home:
    listens = [f"127.0.0.1:{port}" for port in (gateway, engine)]
    settings = Settings(
        gateway=GatewaySettings(listens[0]), engine=EngineSettings(listen=listens[1])
    )
    home = Home(root, settings)
    home.run.mkdir(parents=True)
    return home


@contextmanager
def foreign() -> Iterator[tuple[int, list[str]]]:
    """A program that says yes to everything: its port, and every header it was sent."""
    heard: list[str] = []

    class Yes(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(str(self.headers))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"data":[{"id":"smollm2-135m-instruct"}]}')

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Yes)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield server.server_address[1], heard
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def supervised(home: Home, **gateway: object) -> Iterator[None]:
    """A supervisor is up, and says this of its gateway."""
    child = msgspec.convert({"name": "gateway", "state": "running", **gateway}, ChildState)
    watch.state_file(home).write_bytes(msgspec.json.encode(State(1, "", [child])))
    with watch.lock_file(home).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.mark.parametrize("setting", ["gateway.listen", "engine.listen"])
def test_a_taken_address_is_refused_at_once_with_its_setting_and_the_next_step(
    tmp_path: Path, setting: str
) -> None:
    """Five starts of a process that cannot listen tell nobody why."""
    with foreign() as (port, _):
        ports = (port, free_port()) if setting == "gateway.listen" else (free_port(), port)
        home = home_at(tmp_path, *ports)
        with pytest.raises(ProcessFailed) as refusal:
            control.up(home)
        said = "\n".join(refusal.value.lines())
        assert f"127.0.0.1:{port} ({setting})" in said
        assert f"ss -ltnp 'sport = :{port}'" in said
        assert "in use" in said
        assert ("make deploy LISTEN=" in said) is (setting == "gateway.listen")
    assert not control.is_up(home)
    assert not home.logs.exists()


def test_free_addresses_and_those_of_our_own_children_are_not_taken(tmp_path: Path) -> None:
    """A restart with other settings finds its own children there, which end first."""
    home = home_at(tmp_path, free_port(), free_port())
    control.refuse_taken(home)
    with socket.create_server(("127.0.0.1", 0)) as ours:
        home = home_at(tmp_path / "2", ours.getsockname()[1], free_port())
        with pytest.raises(ProcessFailed):
            control.refuse_taken(home)
        with supervised(home, pid=os.getpgid(0)):
            control.refuse_taken(home)


def test_an_address_of_another_machine_is_refused_with_the_kernels_words(tmp_path: Path) -> None:
    """Not taken, and still no place to listen."""
    settings = Settings(gateway=GatewaySettings("192.0.2.1:8080"))
    with pytest.raises(ProcessFailed) as refusal:
        control.refuse_taken(Home(tmp_path, settings))
    assert "assign" in refusal.value.found


def test_a_child_serves_only_where_it_runs_and_the_socket_is_its_own(tmp_path: Path) -> None:
    """Pid and socket must agree: a recorded pid alone, or an answer alone, is not enough."""
    with socket.create_server(("127.0.0.1", 0)) as ours:
        home = home_at(tmp_path, ours.getsockname()[1], free_port())
        gateway, engine = home.settings.gateway.listen, home.settings.engine.listen
        assert not control.serves(home, "gateway", gateway)
        with supervised(home, pid=os.getpgid(0)):
            assert control.serves(home, "gateway", gateway)
            assert not control.serves(home, "engine", gateway)
            assert not control.serves(home, "gateway", engine)
        with supervised(home, pid=os.getpgid(0), state="waiting"):
            assert not control.serves(home, "gateway", gateway)
        with supervised(home, pid=1):
            assert not control.serves(home, "gateway", gateway)
        assert not control.serves(home, "gateway", gateway)


def test_a_foreign_program_is_neither_ready_nor_ever_sent_the_key(tmp_path: Path) -> None:
    """It says yes to everything; it must hear nothing that could be used."""
    with foreign() as (port, heard):
        home = home_at(tmp_path, port, free_port())
        it = Deployment(home, Choices(), POLICY, Deployed(key_id="key_1"), secret=SECRET)
        with supervised(home, pid=1):
            with pytest.raises(EngineUnhealthy) as refusal:
                deployment._call_with_key(it, "GET", "/v1/models", None)
            assert "the key was not sent" in refusal.value.message
            assert deployment._call(it, "GET", "/readyz", None)[0] == 200
    assert heard
    assert SECRET not in "".join(heard)
