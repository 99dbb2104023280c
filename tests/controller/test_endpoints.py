"""Several engines at one site: each is wanted, looked at and vouched for by itself."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Barrier, Thread

import msgspec
import pytest

from sovereign import settings
from sovereign.audit.trail import Trail
from sovereign.controller.loop import run_round
from sovereign.controller.observe import TOGETHER_MAX, knocking, looking, wanted
from sovereign.engines import Probe
from sovereign.errors import SettingsUnreadable
from sovereign.host import EngineProcess
from sovereign.registry import Registry, utcnow
from sovereign.settings import (
    ControllerSettings,
    EndpointSettings,
    EngineSettings,
    Home,
    Settings,
)
from tests.controller.seen import ANSWERS, ENVIRONMENT, MODEL, POLICY, WELL, observe
from tests.controller.test_loop import _Answering, evidence, home_at

PARIS, FRANKFURT = "scaleway:fr-par-2", "aws:eu-central-1"


def another(name: str, address: str, **more: str) -> EndpointSettings:
    said = {"place": PARIS, "model": MODEL, "name": "llamacpp"}
    return EndpointSettings(id=name, address=address, **(said | more))  # type: ignore[arg-type]


@contextmanager
def engines(count: int) -> Iterator[list[str]]:
    """Engines in threads of this process; their addresses."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), _Answering) for _ in range(count)]
    for server in servers:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield [f"127.0.0.1:{server.server_address[1]}" for server in servers]
    for server in servers:
        server.shutdown()
        server.server_close()


@contextmanager
def observer(path: Path, process: EngineProcess) -> Iterator[str]:
    """Another host's observer, brought here: it answers every connection with this."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(0.05)
        over = threading.Event()

        def answer() -> None:
            while not over.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.sendall(msgspec.json.encode(process))

        thread = Thread(target=answer)
        thread.start()
        yield str(path)
        over.set()
        thread.join()


def test_a_site_wants_the_engine_it_starts_and_those_that_the_settings_name(
    tmp_path: Path,
) -> None:
    """Each with its own place and its own way to be observed."""
    chosen = Settings(
        site="lab",
        endpoints=(another("b", "10.0.0.7:8000", observe_socket="/run/b.sock"),),
        controller=ControllerSettings(observe_socket="/run/own.sock"),
    )
    own, other = wanted(Home(tmp_path, chosen), POLICY)
    assert (own.id, own.place, own.observe_socket) == (
        "lab-llamacpp",
        "this-host",
        "/run/own.sock",
    )
    assert (other.id, other.address, other.place, other.observe_socket) == (
        "b",
        "10.0.0.7:8000",
        PARIS,
        "/run/b.sock",
    )
    assert other.model_digest == ""


def test_settings_with_endpoints_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    """The deployment writes them, every process reads them."""
    chosen = Settings(endpoints=(another("b", "10.0.0.7:8000"), another("c", "[fd00::7]:8000")))
    (tmp_path / settings.FILE_NAME).write_text(settings.render(chosen))
    assert settings.load(tmp_path).settings == chosen


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("- {id: b, name: vllm, model: m, address: '10.0.0.7:8000'}", "place"),
        ("- {id: b, name: vllm, model: m, address: 'engine.example:8000', place: x:y}", "address"),
        ("- {id: B, name: vllm, model: m, address: '10.0.0.7:8000', place: x:y}", "id"),
        ("- {id: b, name: tgi, model: m, address: '10.0.0.7:8000', place: x:y}", "name"),
        (
            "- {id: b, name: vllm, model: m, address: '10.0.0.7:8000', place: x:y}\n"
            "- {id: b, name: vllm, model: m, address: '10.0.0.8:8000', place: x:y}",
            "same id",
        ),
        (
            "- {id: b, name: vllm, model: m, address: '10.0.0.7:8000', place: x:y}\n"
            "- {id: c, name: vllm, model: m, address: '10.0.0.7:8000', place: x:y}",
            "same address",
        ),
        (
            "- {id: local-llamacpp, name: vllm, model: m, address: '10.0.0.7:8000', place: x:y}",
            "same id",
        ),
        (
            "- {id: b, name: vllm, model: m, address: '127.0.0.1:8081', place: x:y}",
            "same address",
        ),
    ],
)
def test_endpoints_that_cannot_be_told_apart_or_placed_are_refused(
    tmp_path: Path, text: str, word: str
) -> None:
    """A replica that is listed twice would be counted twice; one without a place is nowhere."""
    body = "\n".join("  " + line for line in text.splitlines())
    (tmp_path / settings.FILE_NAME).write_text(f"endpoints:\n{body}\n")
    with pytest.raises(SettingsUnreadable) as raised:
        settings.load(tmp_path)
    assert word in f"{raised.value.message} {raised.value.found} {raised.value.accepted}"


def test_endpoints_are_looked_at_together(tmp_path: Path) -> None:
    """One that hangs for its twenty seconds must not let the word on the others run out."""
    chosen = Settings(endpoints=tuple(another(f"e{i}", f"10.0.0.{i}:8000") for i in range(1, 6)))
    asked_for = wanted(Home(tmp_path, chosen), POLICY)
    together = Barrier(len(asked_for), timeout=20)

    def knock(_: object) -> Probe:
        together.wait()
        return ANSWERS

    found = observe(asked_for, knock, lambda _: WELL)
    assert [seen.wanted for seen in found] == list(asked_for)
    assert len(asked_for) <= TOGETHER_MAX


def test_each_endpoint_is_vouched_for_at_its_own_place_or_shut_for_its_own_reason(
    tmp_path: Path,
) -> None:
    """One bad engine is one bad engine."""
    with engines(4) as (own, paris, abroad, unseen):
        told = {
            "paris": EngineProcess(7, ENVIRONMENT, (paris,)),
            "abroad": EngineProcess(8, ENVIRONMENT, (abroad,)),
        }
        with (
            observer(tmp_path / "p.sock", told["paris"]) as seen_in_paris,
            observer(tmp_path / "a.sock", told["abroad"]) as seen_abroad,
        ):
            home = home_at(
                tmp_path / "home",
                own,
                endpoints=(
                    another("paris", paris, observe_socket=seen_in_paris),
                    another("abroad", abroad, place=FRANKFURT, observe_socket=seen_abroad),
                    another("unseen", unseen, observe_socket=str(tmp_path / "nobody.sock")),
                ),
            )
            registry = Registry(home.registry, writable=True)
            opened = (home.audit, home.keys, "controller", "local", utcnow)
            with Trail.open(*opened, trust=home.trust) as trail:
                run_round(home, POLICY, registry, trail, knocking(5), looking())
        found = {e.id: (e.quarantine, e.place) for e in registry.snapshot().endpoints}
        assert found["paris"] == ("", PARIS)
        assert found["abroad"] == ("residency-refused", FRANKFURT)
        assert found["unseen"] == ("environment-unknown", PARIS)
        # This test is no engine, so its own process has none of an engine's variables.
        assert found["local-llamacpp"] == ("telemetry-on", "this-host")
        said = {(r["type"], r["endpoint"]): r for r in evidence(home) if "endpoint" in r}
        assert said["attestation", "paris"]["place"] == PARIS
        assert said["attestation", "paris"]["signal"] == "operator-statement"
        assert ("attestation", "abroad") not in said


def test_what_one_hosts_observer_says_is_never_taken_for_another_engine(tmp_path: Path) -> None:
    """Two engines on this host: the observer of the first knows nothing of the second."""
    with observer(tmp_path / "own.sock", WELL) as path, engines(1) as (second,):
        chosen = Settings(
            engine=EngineSettings(),
            endpoints=(another("second", second, place="this-host"),),
            controller=ControllerSettings(observe_socket=path),
        )
        own, other = wanted(Home(tmp_path, chosen), POLICY)
        assert looking()(own) == WELL
        assert looking()(other).pid != WELL.pid
