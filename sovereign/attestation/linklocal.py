"""Ask a metadata service over HTTP, and believe it only as far as that goes.

A metadata service is at a link-local address (RFC 3927, RFC 4291 section 2.5.6): nothing else is
asked, and no name is looked up. No redirect is followed and no proxy is used: both would let
somebody else answer. The whole answer has one deadline and one size, so that a service that drips
cannot hold a run.
"""

import http.client
import io
import ipaddress
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

BODY_MAX_BYTES = 65_536
ANSWER_MAX_BYTES = 2 * BODY_MAX_BYTES
PORT = 80
_PART_BYTES = 16_384


class NoAnswer(Exception):
    """The service did not answer as one does; the text says how, in words of ours."""


@dataclass(frozen=True, slots=True)
class Get:
    """One request. `path` begins with a slash."""

    address: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    method: str = "GET"
    body: bytes = b""


Fetch = Callable[[Get], bytes]


def fetching(wait_s: float, *, port: int = PORT) -> Fetch:
    """A fetch that waits so long for each answer, all of it included."""

    def fetch(asked: Get) -> bytes:
        if not is_link_local(asked.address):
            raise NoAnswer(f"{asked.address} is not a link-local address")
        return exchange(asked, port, time.monotonic() + wait_s)

    return fetch


def is_link_local(address: str) -> bool:
    """Whether an address can only be answered on this machine's own link."""
    try:
        return ipaddress.ip_address(address).is_link_local
    except ValueError:
        return False


def exchange(asked: Get, port: int, until: float) -> bytes:
    """The body of a 200; `until` is of the monotonic clock.

    Raises:
        NoAnswer: anything else came, or nothing in time.
    """
    try:
        raw = _spoken(asked, port, until)
    except TimeoutError:
        raise NoAnswer("no answer in time") from None
    except OSError as error:
        raise NoAnswer(f"no answer: {error.strerror or type(error).__name__}") from None
    return _body(raw, asked.method)


def _spoken(asked: Get, port: int, until: float) -> bytes:
    with socket.create_connection((asked.address, port), _left(until)) as line:
        line.settimeout(_left(until))
        line.sendall(_request(asked))
        raw = bytearray()
        while len(raw) <= ANSWER_MAX_BYTES:
            line.settimeout(_left(until))
            part = line.recv(_PART_BYTES)
            if not part:
                return bytes(raw)
            raw += part
    raise NoAnswer(f"an answer of more than {ANSWER_MAX_BYTES} bytes")


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _request(asked: Get) -> bytes:
    given: Mapping[str, str] = dict(asked.headers)
    lines = [f"{asked.method} {asked.path} HTTP/1.1", f"Host: {asked.address}"]
    lines += ["Connection: close", "User-Agent: sovereign", f"Content-Length: {len(asked.body)}"]
    lines += [f"{name}: {value}" for name, value in given.items()]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + asked.body


class _Heard:
    """Bytes that came, as what the library reads an answer from."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._raw)


def _body(raw: bytes, method: str) -> bytes:
    answer = http.client.HTTPResponse(cast(socket.socket, _Heard(raw)), method=method)
    try:
        answer.begin()
        body = answer.read()
    except (http.client.HTTPException, ValueError):
        raise NoAnswer("what came is no answer of HTTP") from None
    if answer.status != http.client.OK:
        moved = ", and redirects are not followed" if answer.status // 100 == 3 else ""
        raise NoAnswer(f"status {answer.status}{moved}")
    if len(body) > BODY_MAX_BYTES:
        raise NoAnswer(f"a body of more than {BODY_MAX_BYTES} bytes")
    return body
