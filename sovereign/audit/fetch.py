"""Read a log over HTTP, from a server that nobody vouches for: a `scan.Read` with bounds.

No redirect is followed, no proxy of the environment is asked, and nothing is read that is longer
than such a file can be. Every answer has a time to be whole in, and so has the whole of a
verification. Whatever does not answer as a log's server would ends in `LogUnreachable`: then
nothing can be said, which is not a finding.

A server that answers 401 or 403 for entries withholds them (`withheld`): hashes, root and
signature can be checked without them, the records cannot.
"""

import http.client
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from urllib.parse import urlsplit

from sovereign.audit.folder import longest
from sovereign.errors import BadInput, LogUnreachable

CONNECT_S = 10.0
ANSWER_S = 30.0
"""A file of a log is at most 16 MiB, and usually 60 kB."""
ALL_S = 3600.0
_ENTRIES = "tile/entries/"
_CHUNK = 65_536
_PACKING = 16_384
"""What packing may add to a file that cannot be packed."""
_GONE = (404, 410)
_WITHHELD = (401, 403)


@dataclass(slots=True, eq=False)
class Remote:
    """The log below a URL; calling it gives the file at a path, None when there is none."""

    url: str
    answer_s: float = ANSWER_S
    all_s: float = ALL_S
    withheld: bool = False
    _until: float = 0.0
    _connection: http.client.HTTPConnection | None = field(default=None, repr=False)
    _wholes: dict[str, bytes] = field(default_factory=dict, repr=False)
    _parts: dict[str, bytes] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.url = _checked(self.url)

    def __str__(self) -> str:
        return self.url

    def __call__(self, path: str) -> bytes | None:
        """The file at `path` below the log's URL.

        Raises:
            LogUnreachable: the server did not answer, not in time, or not as a log's server does.
        """
        now = time.monotonic()
        self._until = self._until or now + self.all_s
        if now >= self._until:
            raise self._unreachable(path, f"not done within {self.all_s:.0f} s")
        kept = self._connection is not None
        try:
            return self._get(path)
        except (OSError, UnicodeError, http.client.HTTPException, zlib.error) as error:
            self.close()
            if not kept or isinstance(error, TimeoutError):
                raise self._unreachable(path, _said(error)) from None
        try:  # a connection that was kept open may have been closed by the server meanwhile
            return self._get(path)
        except (OSError, http.client.HTTPException, zlib.error) as error:
            self.close()
            raise self._unreachable(path, _said(error)) from None

    def close(self) -> None:
        """Let the connection go."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _get(self, path: str) -> bytes | None:
        deadline = min(time.monotonic() + self.answer_s, self._until)
        with self._ended_at(deadline):
            return self._asked(path, deadline)

    def _asked(self, path: str, deadline: float) -> bytes | None:
        connection = self._connected()
        headers = {"accept-encoding": "gzip, identity", "user-agent": "sovereign-audit-verify"}
        connection.request("GET", f"{urlsplit(self.url).path}/{path}", headers=headers)
        answer = connection.getresponse()
        body = self._body(answer, path, deadline)
        if answer.status == 200:
            self._refuse_changed(path, body)
            return body
        if answer.status in _GONE:
            return None
        if answer.status in _WITHHELD and path.startswith(_ENTRIES):
            self.withheld = True
            return None
        if answer.status in _WITHHELD and _may_be_absent(path):
            return None
        raise self._unreachable(path, f"status {answer.status}")

    def _refuse_changed(self, path: str, body: bytes) -> None:
        """A tile or bundle grows at its end and else never changes."""
        full, partial, _ = path.partition(".p/")
        if not path.startswith("tile/"):
            return
        known = self._parts.get(full, b"")
        same = body.startswith(known) or known.startswith(body)
        if not partial:
            digest = sha256(body).digest()
            same = same and self._wholes.setdefault(full, digest) == digest
        elif len(body) > len(known):
            self._parts[full] = body
        if not same:
            raise self._unreachable(path, "another file than a moment ago")

    @contextmanager
    def _ended_at(self, deadline: float) -> Iterator[None]:
        """Cut the connection at the deadline: a head may come a byte a minute, for ever."""
        timer = threading.Timer(deadline - time.monotonic(), self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _cut(self) -> None:
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            parts = urlsplit(self.url)
            host = parts.hostname or ""
            self._connection = (
                http.client.HTTPSConnection(
                    host, parts.port, timeout=CONNECT_S, context=ssl.create_default_context()
                )
                if parts.scheme == "https"
                else http.client.HTTPConnection(host, parts.port, timeout=CONNECT_S)
            )
            self._connection.connect()
        return self._connection

    def _body(self, answer: http.client.HTTPResponse, path: str, deadline: float) -> bytes:
        """The whole body, unpacked, or an error; neither packed nor unpacked beyond the bound."""
        bound, packed = longest(path), answer.getheader("content-encoding", "identity").lower()
        if packed not in ("gzip", "identity"):
            raise self._unreachable(path, f"content-encoding {packed[:20]}")
        unpack = zlib.decompressobj(wbits=31) if packed == "gzip" else None
        body, taken = b"", 0
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._wait_at_most(left)
            chunk = answer.read1(_CHUNK)
            taken += len(chunk)
            body += unpack.decompress(chunk, bound + 1 - len(body)) if unpack else chunk
            if taken > bound + _PACKING or len(body) > bound:
                self.close()
                raise self._unreachable(path, f"more than {bound} bytes")
            if not chunk:
                break
        if unpack is not None and not unpack.eof:
            raise zlib.error("cut short")
        if answer.length:
            raise http.client.IncompleteRead(b"", answer.length)
        answer.close()  # read1 leaves it open at its end, and the line could not be used again
        return body

    def _wait_at_most(self, left: float) -> None:
        if self._connection is not None and self._connection.sock is not None:
            self._connection.sock.settimeout(min(left, CONNECT_S))

    def _unreachable(self, path: str, found: str) -> LogUnreachable:
        self.close()
        return LogUnreachable(
            f"{self.url}/{path} cannot be fetched",
            found=found,
            accepted="an answer of a log's server (docs/formats/serving.md); no redirects",
            next_step="try again, or verify a copy of the folder",
        )


def _may_be_absent(path: str) -> bool:
    """Some stores say 403 of what is not there: so of a handover, or of a partial tile."""
    return path.startswith("handover/") or ".p/" in path


def _checked(url: str) -> str:
    """A URL of a log, without the slash at its end.

    Raises:
        BadInput: it has a part that a log's URL has not.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        good = False
    strange = any(c.isspace() or not c.isprintable() or ord(c) > 126 for c in url)
    if not good or strange or parts.query or parts.fragment or "@" in parts.netloc:
        raise BadInput(
            f"{url[:80]!r} is no URL of a log",
            accepted="https://HOST/PATH, to which /checkpoint is added",
        )
    return url.rstrip("/")


def _said(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    return getattr(error, "strerror", None) or type(error).__name__
