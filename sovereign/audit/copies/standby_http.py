"""Be a standby over HTTP, on a private network: a pure ASGI application.

Three requests, all with the bearer token, each answered from the disk in a thread of its own:

    GET  /v1/logs                        how far every copy goes
    GET  /v1/logs/SITE/WRITER/STREAM/F   the file F of a copy: checkpoint, tile/…, handover/N
    POST /v1/logs/SITE/WRITER/STREAM     frames (`standby_wire`); 200 once they are durable

Everything that is refused names a code: `unknown-name` 404, `standby-elsewhere` 409 (the sender
goes on from another place), `history-split` 409 (another history), `bad-input` 400. The answer to
a POST and the first GET is JSON. Nothing of a body is ever logged.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from sovereign import eventlog
from sovereign.audit.copies.standby import Behind, Held, Standby
from sovereign.audit.copies.standby_wire import BODY_MAX_BYTES
from sovereign.errors import (
    BadInput,
    HistorySplit,
    LogUnwritable,
    SovereignError,
    UnknownName,
)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PREFIX = "/v1/logs"
TOKEN_MIN_CHARS = 32
BODY_TIMEOUT_S = 60.0
ELSEWHERE = "standby-elsewhere"


class TooLarge(Exception):
    """A body is longer than any round needs. Nothing was taken."""


class StandbyApp:
    """`token` is what every request must carry."""

    def __init__(self, standby: Standby, token: str) -> None:
        if len(token) < TOKEN_MIN_CHARS:
            raise BadInput(
                "the token is too short to be a secret", accepted=f"{TOKEN_MIN_CHARS} characters"
            )
        self._standby = standby
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        given = dict(scope["headers"]).get(b"authorization", b"")
        if not hmac.compare_digest(given, self._expected):
            await _answer(send, 401, {"code": "key-missing-or-unknown"})
            return
        status, content = await self._act(scope["method"], scope["path"], receive)
        await _answer(send, status, content)

    async def _act(self, method: str, path: str, receive: Receive) -> tuple[int, Any]:
        try:
            if method == "GET" and path == PREFIX:
                return 200, {"logs": [_shown(held) for held in self._standby.held()]}
            origin, file = _split(path)
            if method == "GET" and file:
                return await asyncio.to_thread(self._file, origin, file)
            if method == "POST" and not file:
                async with asyncio.timeout(BODY_TIMEOUT_S):
                    body = await _body(receive)
                held = await asyncio.to_thread(self._standby.take, origin, body)
                return 200, _shown(held)
        except (SovereignError, Behind, TooLarge, OSError, TimeoutError) as error:
            return self._refusal(path, error)
        return 405, {"code": "method-unknown"}

    def _file(self, origin: str, path: str) -> tuple[int, Any]:
        content = self._standby.read(origin, path)
        return (404, {"code": "tile-missing"}) if content is None else (200, content)

    def _refusal(self, path: str, error: Exception) -> tuple[int, Any]:
        """Status and code of what was refused; how far the copy goes belongs to it."""
        status, code = _word(error)
        if code != ELSEWHERE:
            eventlog.emit("standby-refused", code=code, reason=type(error).__name__)
        known = [held for held in self._standby.held() if path.endswith(held.origin)]
        return status, {"code": code, **(_shown(known[0]) if known else {})}


def _word(error: Exception) -> tuple[int, str]:
    if isinstance(error, Behind):
        return 409, ELSEWHERE
    if isinstance(error, HistorySplit):
        return 409, error.code
    if isinstance(error, TooLarge):
        return 413, BadInput.code
    if isinstance(error, BadInput):
        return 404 if isinstance(error, UnknownName) else 400, error.code
    return 503, error.code if isinstance(error, SovereignError) else LogUnwritable.code


def _shown(held: Held) -> dict[str, Any]:
    return {
        "origin": held.origin,
        "size": held.size,
        "pending": held.pending,
        "checkpoint": held.note.decode(errors="replace"),
    }


def _split(path: str) -> tuple[str, str]:
    """The origin and the file that a path names."""
    names = path.removeprefix(f"{PREFIX}/").split("/", 3)
    if not path.startswith(f"{PREFIX}/") or len(names) < 3:
        raise UnknownName("there is nothing here", accepted=f"{PREFIX}/SITE/WRITER/STREAM")
    return "/".join(names[:3]), names[3] if len(names) > 3 else ""


async def _body(receive: Receive) -> bytes:
    found = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadInput("the sender went away")
        found += message.get("body", b"")
        if len(found) > BODY_MAX_BYTES:
            raise TooLarge
        if not message.get("more_body", False):
            return bytes(found)


async def _answer(send: Send, status: int, content: Any) -> None:
    plain = isinstance(content, bytes)
    body = content if plain else msgspec.json.encode(content)
    kind = b"application/octet-stream" if plain else b"application/json"
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
