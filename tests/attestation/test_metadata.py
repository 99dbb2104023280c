"""What each cloud's metadata service says, and services that redirect, drip, lie or babble."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import pytest

from sovereign.attestation.clouds import READERS, SAYS_NO_PLACE, reading
from sovereign.attestation.linklocal import (
    ANSWER_MAX_BYTES,
    BODY_MAX_BYTES,
    Fetch,
    Get,
    NoAnswer,
    exchange,
    fetching,
    is_link_local,
)
from sovereign.attestation.papers import Reading
from tests.controller.seen import POLICY
from tests.simulated import metadata
from tests.simulated.metadata import Answer, Answering, cloud, serving

ZONES = {
    "scaleway": "fr-par-2",
    "hetzner": "fsn1",
    "upcloud": "de-fra1",
    "outscale": "eu-west-2a",
    "exoscale": "de-fra-1",
    "otc": "eu-de-01",
    "stackit": "eu01-1",
    "aws": "eu-central-1",
    "aws-eusc": "eusc-de-east-1",
    "gcp": "europe-west3",
    "azure": "germanywestcentral",
    "oracle": "eu-frankfurt-1",
    "ibm": "eu-de",
}


def at(port: int, wait_s: float = 5) -> Fetch:
    """A fetch that finds the link-local services at a port of loopback."""

    def fetch(asked: Get) -> bytes:
        assert is_link_local(asked.address)
        here = Get("127.0.0.1", asked.path, asked.headers, asked.method, asked.body)
        return exchange(here, port, time.monotonic() + wait_s)

    return fetch


def straight(answering: Answering) -> Fetch:
    """The same without a network: what a service says to a request, if it says it with a 200."""

    def fetch(asked: Get) -> bytes:
        names = {name.lower(): value for name, value in asked.headers}
        status, _, body = answering(asked.method, asked.path, names)
        if status != 200:
            raise NoAnswer(f"status {status}")
        return body

    return fetch


def read(answering: Answering, provider: str) -> Reading:
    with serving(answering) as service:
        return reading(provider, at(service.port))


def test_every_cloud_of_the_table_has_a_reader_that_is_simulated_or_a_reason_why_not() -> None:
    """A cloud that was forgotten would be unknown without anybody knowing why."""
    assert set(READERS) == set(metadata.CLOUDS) == set(ZONES)
    assert not set(READERS) & set(SAYS_NO_PLACE)
    places = {f"{provider}:{zone}" for provider, zone in ZONES.items()}
    assert places <= set(POLICY.places)
    placed = {POLICY.places[code].provider for code in POLICY.locations}
    assert placed == set(READERS) | set(SAYS_NO_PLACE)


@pytest.mark.parametrize("provider", sorted(ZONES))
def test_a_machine_in_a_zone_is_read_as_being_there(provider: str) -> None:
    """In the spelling of the table, or nothing could be compared."""
    said = read(cloud(provider, ZONES[provider]), provider)
    assert said.fault == ""
    assert ZONES[provider] in (said.zone, said.region)


@pytest.mark.parametrize("provider", sorted(ZONES))
def test_the_service_of_another_cloud_says_nothing(provider: str) -> None:
    """Several share one address; the wrong one must not pass for the right one's answer."""
    for other in sorted(ZONES):
        same_form = {provider, other} in ({"aws", "aws-eusc"}, {"otc", "stackit"})
        if other == provider or same_form:
            continue
        said = reading(provider, straight(cloud(other, ZONES[other])))
        assert said.fault, f"{provider} took the word of {other}"
        assert (said.zone, said.region) == ("", "")


def test_clouds_that_name_no_place_say_so_with_the_reason() -> None:
    """Unknown, and an operator learns that it is not their fault."""

    def never(_: Get) -> bytes:
        raise AssertionError("nobody is asked")

    assert "nova" in reading("ovh", never).fault
    assert "no reader" in reading("own", never).fault


def redirecting(method: str, path: str, headers: dict[str, str]) -> Answer:
    return 302, {"Location": "http://192.0.2.1/"}, b"fsn1-dc14"


def garbage(method: str, path: str, headers: dict[str, str]) -> Answer:
    return 200, {}, b"\xff\xfe\x00<html>" * 20


def endless(method: str, path: str, headers: dict[str, str]) -> Answer:
    return 200, {}, b"f" * (BODY_MAX_BYTES + 1)


@pytest.mark.parametrize("provider", sorted(ZONES))
@pytest.mark.parametrize("answering", [redirecting, garbage, endless])
def test_a_service_that_redirects_or_answers_garbage_says_nothing(
    provider: str, answering: Answering
) -> None:
    """It may be anybody; what it says is unknown, never a pass and never an error."""
    said = read(answering, provider)
    assert said.fault
    assert (said.zone, said.region) == ("", "")


@pytest.mark.parametrize(
    "body", ["", "fsn1", "fsn1\r\nX: y-dc1", "-dc1", "../x-dc1", "f" * 70 + "-dc1", "fsn1 -dc1"]
)
def test_text_that_is_no_code_is_not_taken_for_one(body: str) -> None:
    """It would end up in a record and in a comparison."""
    said = reading("hetzner", straight(lambda *_: metadata.said(body)))
    assert said.fault
    assert said.zone == ""


@pytest.mark.parametrize("zone", [7, None, ["fr-par-2"], {"a": 1}])
def test_json_of_another_form_is_not_taken_for_the_one_expected(zone: object) -> None:
    """A list that holds the right word is not the right word."""
    body = {"location": {"zone_id": zone}}
    assert reading("scaleway", straight(lambda *_: metadata.said(body))).fault


def test_a_redirect_is_never_followed() -> None:
    """Or whoever answers first could send us to a service of theirs."""
    with serving(cloud("hetzner", "fsn1")) as good:
        target = f"http://127.0.0.1:{good.port}/hetzner/v1/metadata/availability-zone"
        with serving(lambda *_: (302, {"Location": target}, b"")) as bad:
            said = reading("hetzner", at(bad.port))
        assert "redirects are not followed" in said.fault
        assert good.asked == []


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "192.0.2.1", "10.0.0.1", "metadata.example", "fd00:42::42", "::1", ""]
)
def test_nothing_but_a_link_local_address_is_asked(address: str) -> None:
    """A name or a routed address could lead anywhere."""
    with pytest.raises(NoAnswer, match="not a link-local address"):
        fetching(1)(Get(address, "/"))


@pytest.mark.parametrize("address", ["169.254.169.254", "169.254.42.42", "fe80::1"])
def test_link_local_addresses_are_known(address: str) -> None:
    """The yes to the test before."""
    assert is_link_local(address)


@contextmanager
def raw(speak: Callable[[socket.socket], None]) -> Iterator[int]:
    """Something at a port that is no web server at all."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            try:
                line, _ = listening.accept()
            except OSError:
                return
            with line:
                line.settimeout(5)
                try:
                    line.recv(4096)
                    speak(line)
                except OSError:
                    return  # whoever asked has gone

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.close()
        thread.join(10)


def dripping(line: socket.socket) -> None:
    line.sendall(b"HTTP/1.1 200 OK\r\n")
    for _ in range(100):
        line.sendall(b"X")
        time.sleep(0.02)


def flooding(line: socket.socket) -> None:
    line.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(ANSWER_MAX_BYTES // 8192 + 8):
        line.sendall(b"x" * 8192)


SPEAKERS: dict[str, Callable[[socket.socket], object]] = {
    "says nothing": lambda line: None,
    "speaks ssh": lambda line: line.sendall(b"SSH-2.0-x\r\n"),
    "breaks off": lambda line: line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfsn1"),
    "floods": flooding,
    "drips": dripping,
}


@pytest.mark.parametrize("how", sorted(SPEAKERS))
def test_what_is_no_whole_answer_is_no_answer_and_ends_in_time(how: str) -> None:
    """Half a zone is another zone; and a service that drips must not hold a run."""

    def speak(line: socket.socket) -> None:
        SPEAKERS[how](line)

    began = time.monotonic()
    with raw(speak) as port, pytest.raises(NoAnswer):
        exchange(Get("127.0.0.1", "/"), port, time.monotonic() + 0.3)
    assert time.monotonic() - began < 30


def test_a_reading_carries_nothing_but_codes_and_our_own_words() -> None:
    """It is recorded; what a stranger wrote into an answer must not be."""
    said = read(lambda *_: (500, {}, b"secret words"), "hetzner")
    assert "secret" not in msgspec.json.encode(said).decode()
