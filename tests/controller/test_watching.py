"""How the controller sees the gateway: as any client on this host, within a second."""

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sovereign.cli.audit_standby import _tell
from sovereign.controller.watching import KNOCK_TIMEOUT_S, Watching, answers, standing
from sovereign.settings import GatewaySettings, Home, Round, Settings, StandbySettings
from tests.retention.site import Site

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@contextmanager
def gateway(status: int) -> Iterator[int]:
    """Something that answers every path with a status; its port."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(("status", "up"), [(200, True), (503, False), (404, False)])
def test_a_gateway_is_up_when_its_health_route_says_so(status: int, *, up: bool) -> None:
    """Another program on its port is not the gateway."""
    with gateway(status) as port:
        assert answers(GatewaySettings(listen=f"127.0.0.1:{port}")) is up
        assert answers(GatewaySettings(listen=f"0.0.0.0:{port}")) is up, (
            "where it listens everywhere, loopback is asked"
        )
    assert answers(GatewaySettings(listen=f"127.0.0.1:{port}")) is False


def test_a_gateway_that_hangs_costs_the_round_a_second_and_no_more() -> None:
    """Engines lose their attestation when a round takes too long."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        assert answers(GatewaySettings(listen=f"127.0.0.1:{silent.getsockname()[1]}")) is False
        assert time.monotonic() - began < KNOCK_TIMEOUT_S + 5


def test_an_address_nobody_listens_on_is_not_seen() -> None:
    """IPv6 as well; no address here can be a name."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
    assert answers(GatewaySettings(listen=f"[::1]:{port}")) is False
    assert answers(GatewaySettings(listen=f"[::]:{port}")) is False


@pytest.mark.parametrize(
    ("last", "says"),
    [
        (None, "nobody says"),
        (Round(NOW - timedelta(seconds=70), "", 0), "has everything"),
        (Round(NOW - timedelta(seconds=71), "", 0), "nobody says"),
        (
            Round(NOW, "standby-behind", 37),
            "do not reach the standby as they should: standby-behind",
        ),
        (Round(NOW.replace(tzinfo=None), "", 0), "nobody says"),
    ],
)
def test_what_is_said_of_the_standby_is_what_its_sender_last_said(
    last: Round | None, says: str
) -> None:
    """A sender that has gone silent is no good news."""
    assert says in standing(last, NOW, 10)


def test_a_change_in_how_the_standby_does_is_recorded_once(tmp_path: Path) -> None:
    """When the recovery point was broken is evidence; that it was kept is one record."""
    site = Site(tmp_path)
    standby = StandbySettings(url="https://standby.example:8420", token_file="/x")
    home = Home(site.home.root, Settings(standby=standby))
    home.run.mkdir()
    watching = Watching(home, site.controller, lambda _: True)
    site.clock.now = datetime.now(UTC)
    for code in ("", "", "standby-behind", "standby-behind", ""):
        _tell(home, code, 0.0)
        watching.look(site.clock.now)
    site.settle()
    found = [f["found"] for _, f in site.records("local/controller/evidence") if "found" in f]
    assert [each.partition(" ")[0] for each in found] == ["the", "the", "the"]
    assert "standby-behind" in found[1]
    site.close()
