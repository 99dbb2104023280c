"""Hosts and anchors in network namespaces, with the way between them as long as a test says.

Everything is as it is installed: `sovereign attest serve` at each anchor, `sovereign attest run` on
the host, and its cloud's metadata service at its link-local address. Only the distance is made up.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path

import msgspec
import pytest

from sovereign.attestation import site as places
from sovereign.settings import Home
from tests.attestation.making import CITIES
from tests.attestation.site import SHIPPED, made
from tests.needs import need
from tests.simulated.distance import Delay, Network, missing, network

PLACE, CLOUD = "upcloud:de-fra1", ("upcloud", "de-fra1")
HOST = "10.77.0.9"
ANCHORS = {"frankfurt": "10.77.0.2", "new-york": "10.77.0.3"}
SLACK_MS = 30
"""More than the policy that is shipped grants: this machine may be busy with other things."""
NEVER_S = 120


class World:
    """The network, and a site that claims to be in Frankfurt."""

    def __init__(self, net: Network, home: Home) -> None:
        self.net, self.home = net, home

    def run(self, delay_s: Delay) -> dict[str, object]:
        """What `sovereign attest run` says on a host whose packets take so long."""
        self.net.delay_s = delay_s
        words = ["attest", "run", "--home", str(self.home.root), "--json"]
        command = [sys.executable, "-m", "sovereign", *words]
        with self.net.node(HOST, command, metadata=CLOUD) as process:
            out, err = process.communicate(timeout=NEVER_S)
        assert out, err
        said = msgspec.json.decode(out)
        findings = {each["signal"]: each for each in said["findings"]}
        return said | {"findings": findings, "exit": process.returncode}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two anchors that run all the while, and a site whose policy names them."""
    lacking = missing()
    need(not lacking, lacking, "run as root, with /dev/net/tun and apt-get install iproute2")
    folder = tmp_path_factory.mktemp("far")
    home = made(folder / "home", place=PLACE, policies=str(folder / "policies"))
    with network(lambda *_: 0.0) as net, ExitStack() as stack:
        keys = {city: _served(stack, net, folder, home, city) for city in ANCHORS}
        _policy(folder / "policies", keys)
        yield World(net, home)


def _served(stack: ExitStack, net: Network, folder: Path, home: Home, city: str) -> str:
    """Run an anchor; return its verifier key."""
    words = ["--key", str(folder / f"{city}.key"), "--new-key-of", f"anchor.{city}.example"]
    words += ["--hosts", str(places.pin_path(home.trust, "local").parent)]
    words += ["--listen", f"{ANCHORS[city]}:7411"]
    command = [sys.executable, "-u", "-m", "sovereign", "attest", "serve", *words]
    process = stack.enter_context(net.node(ANCHORS[city], command))
    assert process.stdout is not None
    lines = [process.stdout.readline().split() for _ in range(4)]
    return dict(line for line in lines if len(line) == 2)["vkey"]


def _policy(folder: Path, keys: dict[str, str]) -> None:
    """The shipped policy, with these anchors."""
    subprocess.run(["cp", "-r", str(SHIPPED), str(folder)], check=True)
    path = folder / "rules/attestation.yaml"
    said = msgspec.yaml.decode(path.read_text())
    for each in said["required"]:
        each["vouchers"] = max(each["vouchers"], 1)
    named = [_named(city, key) for city, key in keys.items()]
    said["round_trips"] |= {"anchors": named, "slack_ms": SLACK_MS, "near_km": 5000}
    path.write_bytes(msgspec.yaml.encode(said))


def _named(city: str, key: str) -> dict[str, object]:
    at = CITIES[city]
    return {
        "id": city,
        "key": key,
        "address": f"{ANCHORS[city]}:7411",
        "organisation": f"Exchange of {city}",
        "own": False,
        "place": PLACE,
        "latitude": str(at.latitude),
        "longitude": str(at.longitude),
    }


def ways(**one_way_ms: float) -> Delay:
    """So long between the host and an anchor, in either direction."""
    by = {address: one_way_ms[city.replace("-", "_")] for city, address in ANCHORS.items()}

    def delay_s(source: str, target: str) -> float:
        return by.get(source, by.get(target, 0.0)) / 1000

    return delay_s


HONEST = {"frankfurt": 0.5, "new_york": 40.0}
"""One way, in ms, for a host in Frankfurt: beside one anchor, an ocean from the other."""


def test_a_host_that_is_where_it_says_is_vouched_for_by_anchors_and_provider(world: World) -> None:
    """The yes, with the metadata service at its own address."""
    said = world.run(ways(**HONEST))
    assert (said["verdict"], said["exit"]) == ("proves", 0), said
    assert said["vouchers"] == ["anchors", "provider"]
    assert said["findings"]["metadata"]["reason"] == "the provider says upcloud:de-fra1"


def test_jitter_alone_is_not_taken_for_distance(world: World) -> None:
    """Two packets in five are late by up to a hundred milliseconds; the least answer counts."""
    late_s, steady = cycle((0.0, 0.1, 0.0, 0.03, 0.0)), ways(**HONEST)

    def jittering(source: str, target: str) -> float:
        return steady(source, target) + next(late_s)

    said = world.run(jittering)
    assert said["verdict"] == "proves", said
    assert said["findings"]["round-trip"]["verdict"] == "proves"


def test_a_frankfurt_host_that_is_ninety_milliseconds_away_is_caught(world: World) -> None:
    """Its metadata say Frankfurt, and its key is the pinned one; light does not lie."""
    said = world.run(ways(frankfurt=45.0, new_york=0.5))
    assert (said["verdict"], said["exit"]) == ("contradicts", 1), said
    assert said["findings"]["metadata"]["verdict"] == "proves"
    reason = said["findings"]["round-trip"]["reason"]
    assert "answers to frankfurt took 9" in reason
    assert "around new-york" in reason
    command = [sys.executable, "-m", "sovereign", "attest"]
    shown = subprocess.run(
        [*command, "show", "--home", str(world.home.root), "--json"],
        check=False,
        capture_output=True,
        timeout=NEVER_S,
    )
    assert shown.returncode == 1
    assert msgspec.json.decode(shown.stdout)["hosts"][0]["state"] == "disagrees"
