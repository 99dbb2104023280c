"""Talk to a standby: one connection, bounded waits, TLS checked, no proxy, no redirect."""

import http.client
import ssl
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

import msgspec

from sovereign.audit.copies.standby_http import ELSEWHERE, PREFIX
from sovereign.audit.copies.standby_wire import BODY_MAX_BYTES
from sovereign.errors import BadInput, HistorySplit, StandbyUnreachable

TIMEOUT_S = 20.0
ANSWER_MAX_BYTES = BODY_MAX_BYTES
REFUSES_US = (401, 403)


@dataclass(frozen=True, slots=True)
class State:
    """How far a copy goes, as the standby says."""

    origin: str
    size: int
    pending: int
    note: bytes


@dataclass(frozen=True, slots=True)
class Where:
    """A standby: its address, the token, and for TLS whom to trust and who we are."""

    url: str
    token: str
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


class Elsewhere(Exception):
    """The standby goes on from another place than what was sent."""

    def __init__(self, state: State) -> None:
        super().__init__(f"the standby goes on at {state.pending}")
        self.state = state


_BROKEN = (OSError, http.client.HTTPException, UnicodeError)
"""What a line can break with; the last is a name that no resolver takes."""


class Client:
    """Use it from one thread. A connection that broke is made again by the next call."""

    def __init__(self, where: Where) -> None:
        self._where = where
        scheme, self._host, self._port = _address(where.url)
        self._tls = _tls(where) if scheme == "https" else None
        self._line: http.client.HTTPConnection | None = None

    def held(self) -> dict[str, State]:
        """How far every copy goes, by origin.

        Raises:
            StandbyUnreachable: it did not answer, or not as a standby.
        """
        answer = self._json("GET", PREFIX, b"")
        logs = answer.get("logs", [])
        states = [_state(each) for each in (logs if isinstance(logs, list) else [{}])]
        return {state.origin: state for state in states}

    def send(self, origin: str, body: bytes) -> State:
        """Send frames; return how far the copy goes once they are durable there.

        Raises:
            Elsewhere: the copy ends at another place.
            HistorySplit: it holds another history.
            StandbyUnreachable: nothing is known of what it took.
        """
        return _state(self._json("POST", f"{PREFIX}/{quote(origin)}", body))

    def read(self, origin: str, path: str) -> bytes | None:
        """A file of a copy; None when there is none."""
        status, content = self._call("GET", f"{PREFIX}/{quote(origin)}/{path}", b"")
        if status not in (200, 404):
            raise self._unreachable(f"status {status}")
        return content if status == 200 else None

    def _json(self, method: str, path: str, body: bytes) -> dict[str, Any]:
        status, content = self._call(method, path, body)
        try:
            answer: dict[str, Any] = msgspec.json.decode(content, type=dict[str, Any])
        except msgspec.MsgspecError:
            raise self._unreachable("it does not answer as a standby") from None
        code = answer.get("code", "")
        if code == ELSEWHERE:
            raise Elsewhere(_state(answer))
        if code == HistorySplit.code:
            raise HistorySplit(
                f"the standby holds another history of {answer.get('origin', '')}",
                found=f"{answer.get('size')} entries there",
                next_step="docs/runbooks/history-split.md, Fix D",
            )
        if status != 200:
            raise self._unreachable(f"{status} {code}")
        return answer

    def _call(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """One request; a line that was idle for too long is tried anew, once."""
        fresh = self._line is None
        try:
            return self._once(method, path, body)
        except _BROKEN as error:
            self.close()
            if fresh:
                raise self._unreachable(type(error).__name__) from error
        try:
            return self._once(method, path, body)
        except _BROKEN as error:
            self.close()
            raise self._unreachable(type(error).__name__) from error

    def _once(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if self._line is None:
            self._line = (
                http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
                if self._tls is None
                else http.client.HTTPSConnection(
                    self._host, self._port, timeout=TIMEOUT_S, context=self._tls
                )
            )
        headers = {"authorization": f"Bearer {self._where.token}"}
        self._line.request(method, path, body or None, headers)
        answer = self._line.getresponse()
        content = answer.read(ANSWER_MAX_BYTES + 1)
        if len(content) > ANSWER_MAX_BYTES:
            self.close()
            raise self._unreachable("its answer is too large")
        if answer.status in REFUSES_US:
            raise self._unreachable(
                f"{answer.status}, it does not know our token",
                "give both sides the same token file",
            )
        return answer.status, content

    def _unreachable(
        self, found: str, next_step: str = "sovereign audit standby serve, on the other machine"
    ) -> StandbyUnreachable:
        return StandbyUnreachable(
            f"the standby at {self._where.url} does not take or give anything",
            found=found,
            next_step=next_step,
        )

    def close(self) -> None:
        """Hang up."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _address(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of a standby.

    Raises:
        BadInput: it is no address of one.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # a port that is none, half an IPv6 address
        host, port = None, None
    if not host or parts.scheme not in ("http", "https") or parts.query:
        raise BadInput(f"{url!r} is no address of a standby", accepted="https://HOST:PORT")
    return parts.scheme, host, port


def _tls(where: Where) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(where.ca) if where.ca else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if where.cert is not None:
        context.load_cert_chain(where.cert, where.key)
    return context


def _state(answer: dict[str, Any]) -> State:
    try:
        note = str(answer["checkpoint"]).encode()
        size, pending = int(answer["size"]), int(answer["pending"])
        if not 0 <= size <= pending:
            raise ValueError
        return State(str(answer["origin"]), size, pending, note)
    except (KeyError, TypeError, ValueError):
        raise StandbyUnreachable("the standby does not answer as one") from None
