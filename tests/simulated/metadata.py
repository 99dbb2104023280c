"""Metadata services of clouds, as each answers on its own machines, and ways in which one can lie.

A real one exists only inside its cloud. What is imitated: address, paths, headers that are asked
for, tokens, and the form of the answer, as the clouds and their own libraries document them. Each
cloud answers nothing but its own paths, as at the shared address `169.254.169.254`.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "made-up-token"
Answer = tuple[int, dict[str, str], bytes]
Answering = Callable[[str, str, dict[str, str]], Answer]
"""Of a method, a path and headers with names in lower case."""


def said(body: object) -> Answer:
    """A good answer: text as it is, anything else as JSON."""
    raw = body if isinstance(body, str) else json.dumps(body)
    return 200, {}, raw.encode()


NOT_HERE: Answer = (404, {}, b"not found")


def cloud(provider: str, zone: str) -> Answering:
    """The service of a provider on a machine in this zone, as its table of places spells it."""

    def answering(method: str, path: str, headers: dict[str, str]) -> Answer:
        return _CLOUDS[provider](zone, method, path, headers)

    return answering


def _one(wanted: str, body: object) -> Callable[[str], Answer]:
    return lambda path: said(body) if path == wanted else NOT_HERE


def _scaleway(zone: str, method: str, path: str, headers: dict[str, str]) -> Answer:
    place = {"platform_id": "14", "hypervisor_id": "101", "zone_id": zone}
    return _one("/conf?format=json", {"id": "0", "hostname": "made-up", "location": place})(path)


def _hetzner(zone: str, method: str, path: str, headers: dict[str, str]) -> Answer:
    return _one("/hetzner/v1/metadata/availability-zone", f"{zone}-dc14")(path)


def _upcloud(zone: str, method: str, path: str, headers: dict[str, str]) -> Answer:
    body = {"cloud_name": "upcloud", "instance_id": "0", "region": zone, "platform": "servers"}
    return _one("/metadata/v1.json", body)(path)


def _outscale(zone: str, method: str, path: str, headers: dict[str, str]) -> Answer:
    below = {"cluster": "made-up", "availability-zone": zone}
    name = path.removeprefix("/latest/meta-data/placement/")
    return said(below[name]) if name in below else NOT_HERE


def _exoscale(zone: str, method: str, path: str, headers: dict[str, str]) -> Answer:
    return _one("/latest/meta-data/availability-zone", zone)(path)


def _openstack(zone: str, method: str, path: str, headers: dict[str, str]) -> Answer:
    body = {"uuid": "0", "availability_zone": zone, "hostname": "made-up"}
    return _one("/openstack/latest/meta_data.json", body)(path)


def _aws(zone: str, method: str, path: str, headers: dict[str, str]) -> Answer:
    if (method, path) == ("PUT", "/latest/api/token"):
        asked = headers.get("x-aws-ec2-metadata-token-ttl-seconds")
        return said(TOKEN) if asked else (400, {}, b"")
    if headers.get("x-aws-ec2-metadata-token") != TOKEN:
        return 401, {}, b""
    body = {"region": zone, "availabilityZone": f"{zone}a", "instanceId": "i-0"}
    return _one("/latest/dynamic/instance-identity/document", body)(path)


def _gcp(zone: str, method: str, path: str, headers: dict[str, str]) -> Answer:
    if headers.get("metadata-flavor") != "Google":
        return 403, {}, b""
    return _one("/computeMetadata/v1/instance/zone", f"projects/1/zones/{zone}-a")(path)


def _azure(zone: str, method: str, path: str, headers: dict[str, str]) -> Answer:
    if headers.get("metadata") != "true":
        return 400, {}, b""
    body = {"location": zone, "vmId": "0", "zone": "1"}
    return _one("/metadata/instance/compute?api-version=2021-02-01", body)(path)


def _oracle(zone: str, method: str, path: str, headers: dict[str, str]) -> Answer:
    if headers.get("authorization") != "Bearer Oracle":
        return 404, {}, b""
    return _one("/opc/v2/instance/", {"id": "ocid1", "canonicalRegionName": zone})(path)


def _ibm(zone: str, method: str, path: str, headers: dict[str, str]) -> Answer:
    if method == "PUT" and path.startswith("/instance_identity/v1/token?version="):
        good = headers.get("metadata-flavor") == "ibm"
        return said({"access_token": TOKEN}) if good else (400, {}, b"")
    if headers.get("authorization") != f"Bearer {TOKEN}":
        return 401, {}, b""
    body = {"id": "0", "zone": {"name": f"{zone}-1"}}
    return said(body) if path.startswith("/metadata/v1/instance?version=") else NOT_HERE


_CLOUDS: dict[str, Callable[[str, str, str, dict[str, str]], Answer]] = {
    "scaleway": _scaleway,
    "hetzner": _hetzner,
    "upcloud": _upcloud,
    "outscale": _outscale,
    "exoscale": _exoscale,
    "otc": _openstack,
    "stackit": _openstack,
    "aws": _aws,
    "aws-eusc": _aws,
    "gcp": _gcp,
    "azure": _azure,
    "oracle": _oracle,
    "ibm": _ibm,
}
CLOUDS = tuple(_CLOUDS)


@dataclass
class Serving:
    """A service that runs; `asked` are methods and paths, in the order in which they came."""

    port: int
    asked: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def serving(
    answering: Answering,
    address: str = "127.0.0.1",
    server: type[Any] = ThreadingHTTPServer,
    port: int = 0,
) -> Iterator[Serving]:
    """Answer at an address and a port, a free one unless told, until the end of the block."""
    state = Serving(0)

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            self.rfile.read(length)
            state.asked.append((self.command, self.path))
            names = {name.lower(): value for name, value in self.headers.items()}
            status, headers, body = answering(self.command, self.path, names)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self._answer()

        def do_PUT(self) -> None:
            self._answer()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with server((address, port), Handler) as http:
        state.port = http.server_address[1]
        thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield state
        finally:
            http.shutdown()
            thread.join(5)
