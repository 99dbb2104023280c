"""Where metrics can be read: on addresses of their own, by who runs the site, and nowhere else."""

import asyncio
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from sovereign.controller.exposed import GAUGES, Exposed
from sovereign.controller.retain import Retaining
from sovereign.errors import DeclarationMissing, SettingsUnreadable
from sovereign.gateway.seen.admin import Admin
from sovereign.gateway.seen.exposition import Calls, Exposition, Standing
from sovereign.registry import utcnow
from sovereign.settings import (
    ControllerSettings,
    GatewaySettings,
    Settings,
    load,
    refuse_undeclared,
)
from tests.engines.running import free_port
from tests.gateway.site import EEA, Site, site
from tests.simulated.engine import engine


def admin_of(ours: Site, port: int) -> Admin:
    """An admin listener over this site's gateway."""
    gateway = ours.gateway

    def standing() -> Standing:
        return Standing("local", EEA.digest, "eea", 256, False, gateway.view, Calls({}, ()))

    return Admin(f"127.0.0.1:{port}", Exposition(gateway.counting, standing, utcnow))


def fetched(url: str, method: str = "GET") -> tuple[int, bytes]:
    """Status and body."""
    request = urllib.request.Request(url, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


async def answers(url: str, method: str = "GET") -> tuple[int, bytes]:
    """The same, as soon as somebody listens there."""
    for _ in range(200):
        try:
            return await asyncio.to_thread(fetched, url, method)
        except urllib.error.URLError:
            await asyncio.sleep(0.05)
    raise AssertionError(f"nobody answers at {url}")


async def test_the_page_is_at_one_path_and_only_to_be_read(tmp_path: Path) -> None:
    """What else a listener answers is something else to look after."""
    port = free_port()
    async with engine() as it, site(tmp_path, it.address) as ours:
        await ours.chat()
        admin = admin_of(ours, port)
        admin.start()
        status, body = await answers(f"http://127.0.0.1:{port}/metrics")
        assert status == 200
        assert b'code="answered"' in body
        assert await answers(f"http://127.0.0.1:{port}/metrics", "HEAD") == (200, b"")
        for path, method, wanted in (
            ("/metrics", "POST", 405),
            ("/", "GET", 404),
            ("/v1/models", "GET", 404),
            ("/metrics/", "GET", 404),
        ):
            assert (await answers(f"http://127.0.0.1:{port}{path}", method))[0] == wanted, path
        await admin.stop()
        with pytest.raises(urllib.error.URLError):
            await asyncio.to_thread(fetched, f"http://127.0.0.1:{port}/metrics")


async def test_the_inference_listener_has_no_such_route(tmp_path: Path) -> None:
    """Clients must not see each other's numbers."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        secret = {"authorization": f"Bearer {ours.secret}"}
        for path in ("/metrics", "/v1/metrics", "/openapi.json"):
            reply = await ours.ask("GET", path, secret)
            assert reply.status == 404
            assert reply.error["code"] == "route-unknown"


async def test_an_address_that_is_taken_costs_no_call_and_is_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway nobody can look at is still needed; it says so, once."""
    monkeypatch.setattr("sovereign.gateway.seen.admin.AGAIN_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with engine() as it, site(tmp_path, it.address) as ours:
            admin = admin_of(ours, port)
            admin.start()
            await asyncio.sleep(0.3)
            assert (await ours.chat()).status == 200
            said = capsys.readouterr().err
            assert said.count('"event":"admin-address-taken"') == 1
            taken.close()
            assert (await answers(f"http://127.0.0.1:{port}/metrics"))[0] == 200
            await admin.stop()


@pytest.mark.parametrize("setting", ["gateway.admin_listen", "controller.metrics_listen"])
@pytest.mark.parametrize(
    ("listen", "place", "outcome"),
    [
        ("127.0.0.1:9464", "this-host", "accepted"),
        ("[::1]:9464", "this-host", "accepted"),
        ("", "this-host", "accepted"),
        ("10.1.2.3:9464", "scaleway:fr-par-2", "accepted"),
        ("[fd00::7]:9464", "scaleway:fr-par-2", "accepted"),
        ("10.1.2.3:9464", "this-host", "undeclared"),
        ("0.0.0.0:9464", "scaleway:fr-par-2", "refused"),
        ("[::]:9464", "scaleway:fr-par-2", "refused"),
        ("8.8.8.8:9464", "scaleway:fr-par-2", "refused"),
        ("127.0.0.1:99999", "this-host", "refused"),
    ],
)
def test_metrics_are_for_loopback_or_one_private_address_at_a_declared_place(
    tmp_path: Path, setting: str, listen: str, place: str, outcome: str
) -> None:
    """They tell how much a site does and when; at 0.0.0.0 strangers find such pages."""
    room, name = setting.split(".")
    file = tmp_path / "sovereign.yaml"
    file.write_text(f"version: 1\nplace: '{place}'\n{room}:\n  {name}: '{listen}'\n")
    if outcome == "refused":
        with pytest.raises(SettingsUnreadable):
            load(tmp_path)
        return
    settings = load(tmp_path).settings
    if outcome == "accepted":
        refuse_undeclared(settings)
        return
    with pytest.raises(DeclarationMissing):
        refuse_undeclared(settings)


def test_metrics_are_never_where_clients_connect(tmp_path: Path) -> None:
    """One port for both would be one firewall rule for both."""
    (tmp_path / "sovereign.yaml").write_text(
        "version: 1\ngateway:\n  listen: 127.0.0.1:8080\n  admin_listen: 127.0.0.1:8080\n"
    )
    with pytest.raises(SettingsUnreadable):
        load(tmp_path)


def test_both_are_on_loopback_by_default() -> None:
    """Whoever sets nothing shows nothing to a network."""
    assert GatewaySettings().admin_listen == "127.0.0.1:9464"
    assert ControllerSettings().metrics_listen == "127.0.0.1:9465"
    refuse_undeclared(Settings())


async def test_the_controllers_page_is_read_over_http_and_ends_with_it(tmp_path: Path) -> None:
    """A controller that is gone must look gone: nothing answers any more."""
    port = free_port()
    async with engine() as it, site(tmp_path, it.address) as ours:
        home = ours.home
        settings = Settings(controller=ControllerSettings(metrics_listen=f"127.0.0.1:{port}"))
        home = type(home)(home.root, settings)
        exposed = Exposed(home, EEA, Retaining(home, EEA, ours.trail), utcnow)
        exposed.note_round(utcnow(), 0.25)
        status, body = await answers(f"http://127.0.0.1:{port}/metrics")
        exposed.close()
        assert status == 200
        assert b"sovereign_controller_round_seconds 0.25" in body
        assert {g.name for g in GAUGES if g.name.encode() in body} >= {
            "sovereign_controller_round_timestamp_seconds",
            "sovereign_controller_endpoints",
            "sovereign_place_facts_expiry_timestamp_seconds",
        }
        with pytest.raises(urllib.error.URLError):
            await asyncio.to_thread(fetched, f"http://127.0.0.1:{port}/metrics")
