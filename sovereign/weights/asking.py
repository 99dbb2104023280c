"""Ask for a file over HTTP: every wait has a bound, and no answer leads to where nobody decided.

A redirect is followed when the one asked of allows its address, and what proves who asks goes to
the first address only. No proxy of the environment is asked. Plain HTTP is for loopback.
"""

import http.client
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

from sovereign.errors import BadInput, WeightsUnfetched
from sovereign.residency import is_loopback
from sovereign.weights.sources import CHUNK_BYTES, Opened

CONNECT_S = 10.0
SILENT_S = 60.0
"""The longest a mirror may say nothing."""
FILE_S = 86_400.0
"""The longest one answer may take, so that drops of bytes end, too."""
REDIRECTS_MAX = 3
_REDIRECTS = (301, 302, 303, 307, 308)
_FOUND = (http.client.OK,)
_CONTINUED = (
    *(http.client.OK, http.client.PARTIAL_CONTENT),
    http.client.REQUESTED_RANGE_NOT_SATISFIABLE,
)
_SHUT = (http.client.UNAUTHORIZED, http.client.FORBIDDEN)
Headers = Mapping[str, str]


def _nobody(_method: str, _url: str) -> Headers:
    """Ask without saying who asks."""
    return {}


@dataclass(frozen=True, slots=True)
class Asker:
    """`judge` refuses a URL whose address is not allowed; `proof` gives the headers that say who
    asks, for a method and a URL. `gate` tells what to do when the answer is that one may not."""

    judge: Callable[[str], object]
    proof: Callable[[str, str], Headers] = field(default=_nobody)
    gate: str = "this kind of mirror is asked without a name; publish it without one"

    def ask(
        self, method: str, url: str, start: int = 0, headers: Headers | None = None
    ) -> http.client.HTTPResponse:
        """The answer with the file in it, behind at most three redirects.

        Raises:
            WeightsUnfetched: the mirror does not give it.
        """
        wanted = {"Range": f"bytes={start}-"} if start else {}
        first = address_of(url)
        for _ in range(REDIRECTS_MAX + 1):
            self.judge(url)
            known = self.proof(method, url) if address_of(url) == first else {}
            answer = _request(method, url, {**wanted, **(headers or {}), **known})
            if answer.status in _REDIRECTS:
                url = urljoin(url, answer.getheader("location", ""))
                answer.close()
                continue
            if answer.status not in (_FOUND if not start else _CONTINUED):
                raise self._refused(answer, url)
            return answer
        raise WeightsUnfetched("the mirror redirects without an end", found=f"{REDIRECTS_MAX + 1}")

    def all(self, url: str, at_most: int, headers: Headers | None = None) -> bytes:
        """A whole small answer; one byte more than `at_most` where it is longer."""
        found = b""
        for piece in body(self.ask("GET", url, headers=headers)):
            found += piece
            if len(found) > at_most:
                break
        return found[: at_most + 1]

    def size(self, url: str) -> int | None:
        """As the mirror says, which is believed for the free space only."""
        answer = self.ask("HEAD", url)
        answer.close()
        return length(answer)

    def open(self, url: str, start: int) -> Opened:
        """Ask for what is missing; a mirror that knows no ranges sends the whole file."""
        answer = self.ask("GET", url, start)
        if answer.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            answer.close()  # what is here is longer than the file: from its beginning, then
            return self.open(url, 0)
        whole = length(answer)
        if answer.status != http.client.PARTIAL_CONTENT:
            return Opened(0, whole, body(answer))
        began = answer.getheader("content-range", "").removeprefix("bytes ").partition("-")[0]
        if began != str(start):
            answer.close()
            raise http.client.HTTPException("another part than was asked for")
        return Opened(start, None if whole is None else start + whole, body(answer))

    def challenge(self, url: str) -> str:
        """How the one at `url` wants to be told who asks; "" when it does not ask."""
        self.judge(url)
        answer = _request("GET", url, {})
        answer.close()
        shut = answer.status == http.client.UNAUTHORIZED
        return answer.getheader("www-authenticate", "") if shut else ""

    def _refused(self, answer: http.client.HTTPResponse, url: str) -> WeightsUnfetched:
        answer.close()
        name = urlsplit(url).path.rpartition("/")[2][:80]
        shut = answer.status in _SHUT
        return WeightsUnfetched(
            f"the mirror does not {'let us have' if shut else 'give'} {name}",
            found=f"HTTP {answer.status}",
            next_step=self.gate if shut else "look at the mirror, then run it again",
        )


def address_of(url: str) -> str:
    """`host:port` of a mirror's URL.

    Raises:
        BadInput: it is none, says who asks, or would be asked in the clear over a network.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    except ValueError:
        raise no_url() from None
    if not parts.hostname or not port or parts.username or parts.password:
        raise no_url()
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    address = f"{host}:{port}"
    if parts.scheme == "http" and not is_loopback(address):
        raise no_url()
    return address


def no_url() -> BadInput:
    """What was given is nothing that could be asked."""
    return BadInput(
        "that is no mirror to fetch from",
        accepted="https://HOST/FOLDER (http only at a loopback address), without user and query",
    )


def _request(method: str, url: str, headers: Headers) -> http.client.HTTPResponse:
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
    asked = f"{path}?{parts.query}" if parts.query else path
    line.request(method, asked, headers={"Accept-Encoding": "identity", **headers})
    return line.getresponse()


def length(answer: http.client.HTTPResponse) -> int | None:
    """How many bytes an answer says it has; None when it does not say."""
    said = answer.getheader("content-length", "")
    return int(said) if said.isascii() and said.isdigit() and len(said) < 16 else None


def body(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body to its end; an end before the announced one is an error."""
    until = time.monotonic() + FILE_S
    with answer:
        while piece := answer.read1(CHUNK_BYTES):
            yield piece
            if time.monotonic() > until:
                raise TimeoutError("one answer took too long")
        if answer.length:
            raise http.client.IncompleteRead(b"", answer.length)
