"""Where bytes of weights come from: a folder of this machine, or a mirror over HTTP.

A mirror is believed for nothing. It is one that the site declared (`dependencies`, of the kind
`mirror`), at a place that may hold weights; a redirect leads to another such one or nowhere. No
proxy of the environment is asked. Plain HTTP is for loopback.

Every wait has a bound, and what stops in between is an `OSError` or an `HTTPException`: `fetch.py`
goes on from where it was.
"""

import http.client
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urljoin, urlsplit

from sovereign.engines import digest
from sovereign.errors import BadInput, WeightsUnfetched
from sovereign.residency import is_loopback
from sovereign.weights.manifest import MANIFEST_MAX_BYTES, SUFFIX

CONNECT_S = 10.0
SILENT_S = 60.0
"""The longest a mirror may say nothing."""
FILE_S = 86_400.0
"""The longest one answer may take, so that drops of bytes end, too."""
REDIRECTS_MAX = 3
CHUNK_BYTES = 1024 * 1024
_REDIRECTS = (301, 302, 303, 307, 308)
_FOUND = (http.client.OK,)
_CONTINUED = (
    *(http.client.OK, http.client.PARTIAL_CONTENT),
    http.client.REQUESTED_RANGE_NOT_SATISFIABLE,
)


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that is being read: `start` is where its bytes begin, which may be before what was
    asked for. `size` is the whole file's; None when nobody says."""

    start: int
    size: int | None
    chunks: Iterator[bytes]


class Source(Protocol):
    """Somewhere with a set of weights in it."""

    @property
    def label(self) -> str:
        """What a record says of it."""

    @property
    def place(self) -> str:
        """The code of the place it is at."""

    def manifest(self) -> bytes:
        """The bytes of the set's manifest, as they are there."""

    def size(self, name: str) -> int | None:
        """How long a file is said to be; None when nobody says."""

    def open(self, name: str, start: int) -> Opened:
        """The bytes of a file from `start` on."""


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A folder of this machine: a disk that was carried here. Its manifest lies beside it, or is
    worked out."""

    path: Path
    place: str
    label: str = "folder"

    def manifest(self) -> bytes:
        """The file beside it, else the hashes of what is in it.

        Raises:
            BadInput: there is no such folder, or nothing in it.
        """
        beside = self.path.with_name(f"{self.path.name}{SUFFIX}")
        if beside.is_file():
            with beside.open("rb") as file:
                return file.read(MANIFEST_MAX_BYTES + 1)
        return digest.manifest(self.path).encode()

    def size(self, name: str) -> int | None:
        """As the file system says."""
        return self._file(name).stat().st_size

    def open(self, name: str, start: int) -> Opened:
        """Read it in pieces."""
        path = self._file(name)
        return Opened(start, path.stat().st_size, _pieces(path, start))

    def _file(self, name: str) -> Path:
        path = self.path / name
        if not path.is_file():
            raise WeightsUnfetched(f"{name[:80]} is not in the folder", found=str(self.path))
        return path


def _pieces(path: Path, start: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while piece := file.read(CHUNK_BYTES):
            yield piece


@dataclass(frozen=True, slots=True)
class MirrorSource:
    """The folder below `url`; `judge` refuses a URL that no allowed mirror of the site is at."""

    url: str
    place: str
    label: str
    judge: Callable[[str], object]

    def manifest(self) -> bytes:
        """The file beside the folder.

        Raises:
            WeightsUnfetched: there is none.
        """
        with_end = self._ask("GET", f"{self.url.rstrip('/')}{SUFFIX}", 0)
        found = b""
        for piece in _body(with_end):
            found += piece
            if len(found) > MANIFEST_MAX_BYTES:
                break
        return found

    def size(self, name: str) -> int | None:
        """As the mirror says, which is believed for the free space only."""
        answer = self._ask("HEAD", self._at(name), 0)
        answer.close()
        return _length(answer)

    def open(self, name: str, start: int) -> Opened:
        """Ask for what is missing; a mirror that knows no ranges sends the whole file."""
        answer = self._ask("GET", self._at(name), start)
        if answer.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            answer.close()  # what is here is longer than the file: from its beginning, then
            return self.open(name, 0)
        length = _length(answer)
        if answer.status != http.client.PARTIAL_CONTENT:
            return Opened(0, length, _body(answer))
        began = answer.getheader("content-range", "").removeprefix("bytes ").partition("-")[0]
        if began != str(start):
            answer.close()
            raise http.client.HTTPException("another part than was asked for")
        return Opened(start, None if length is None else start + length, _body(answer))

    def _at(self, name: str) -> str:
        return f"{self.url.rstrip('/')}/{quote(name)}"

    def _ask(self, method: str, url: str, start: int) -> http.client.HTTPResponse:
        """The answer with the file in it, behind at most three redirects."""
        wanted = {"Range": f"bytes={start}-"} if start else {}
        for _ in range(REDIRECTS_MAX + 1):
            self.judge(url)
            answer = _request(method, url, wanted)
            if answer.status in _REDIRECTS:
                url = urljoin(url, answer.getheader("location", ""))
                answer.close()
                continue
            if answer.status not in (_FOUND if not start else _CONTINUED):
                answer.close()
                raise WeightsUnfetched(
                    f"the mirror does not give {urlsplit(url).path.rpartition('/')[2][:80]}",
                    found=f"HTTP {answer.status}",
                    next_step="look at the mirror, then run it again",
                )
            return answer
        raise WeightsUnfetched("the mirror redirects without an end", found=f"{REDIRECTS_MAX + 1}")


def address_of(url: str) -> str:
    """`host:port` of a mirror's URL.

    Raises:
        BadInput: it is none, says who asks, or would be asked in the clear over a network.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    except ValueError:
        raise _no_url() from None
    if not parts.hostname or not port or parts.username or parts.password or parts.query:
        raise _no_url()
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    address = f"{host}:{port}"
    if parts.scheme == "http" and not is_loopback(address):
        raise _no_url()
    return address


def _no_url() -> BadInput:
    return BadInput(
        "that is no mirror to fetch from",
        accepted="https://HOST/FOLDER (http only at a loopback address), without user and query",
    )


def _request(method: str, url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    parts = urlsplit(url)
    host, path = parts.hostname or "", parts.path or "/"
    line = (
        http.client.HTTPSConnection(
            host, parts.port, timeout=CONNECT_S, context=ssl.create_default_context()
        )
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, parts.port, timeout=CONNECT_S)
    )
    line.connect()
    line.sock.settimeout(SILENT_S)
    line.request(method, path, headers={"Accept-Encoding": "identity", **headers})
    return line.getresponse()


def _length(answer: http.client.HTTPResponse) -> int | None:
    said = answer.getheader("content-length", "")
    return int(said) if said.isascii() and said.isdigit() and len(said) < 16 else None


def _body(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body to its end; an end before the announced one is an error."""
    until = time.monotonic() + FILE_S
    with answer:
        while piece := answer.read1(CHUNK_BYTES):
            yield piece
            if time.monotonic() > until:
                raise TimeoutError("one answer took too long")
        if answer.length:
            raise http.client.IncompleteRead(b"", answer.length)
