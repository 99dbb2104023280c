"""The witness behind HTTP, as pure ASGI: two routes, bounded bodies, nothing kept of a caller.

    POST /add-checkpoint              a request of C2SP tlog-witness; see `witness.py`
    GET  /SHA256-OF-ORIGIN/checkpoint the newest checkpoint that was cosigned of that log

There is no authentication: the log's own signature on the checkpoint is what counts.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from sovereign.audit.witnesses.witness import REQUEST_MAX_BYTES, Answer, Witness

BODY_TIMEOUT_S = 10.0
AT_ONCE_MAX = 8
"""Requests looked at together; a signature is cheap, so whoever waits waits briefly."""

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class WitnessApp:
    """Serves one witness."""

    def __init__(self, witness: Witness, stop: Callable[[], None]) -> None:
        """`stop` is called once the witness can remember nothing: only a new start helps it."""
        self._witness = witness
        self._stop = stop
        self._turns = asyncio.Semaphore(AT_ONCE_MAX)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request; other kinds of connection are not for us."""
        if scope["type"] != "http":
            return
        answer = await self._answer(scope["method"], scope["path"], receive)
        headers = [
            (b"content-type", answer.content_type.encode()),
            (b"content-length", b"%d" % len(answer.body)),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, method: str, path: str, receive: Receive) -> Answer:
        if path == "/add-checkpoint":
            if method != "POST":
                return Answer(405, b"POST only\n")
            return await self._add(receive)
        origin_hash, slash, rest = path.removeprefix("/").partition("/")
        if slash and rest == "checkpoint" and method in ("GET", "HEAD"):
            signed = await asyncio.to_thread(self._witness.latest, origin_hash)
            return Answer(404, b"never cosigned here\n") if signed is None else Answer(200, signed)
        return Answer(404, b"there is nothing here\n")

    async def _add(self, receive: Receive) -> Answer:
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await _body(receive)
        except TimeoutError:
            return Answer(408, b"the request took too long\n")
        if body is None:
            return Answer(413, b"at most %d bytes\n" % REQUEST_MAX_BYTES)
        async with self._turns:
            answer = await asyncio.to_thread(self._witness.add, body)
        if self._witness.failure:
            self._stop()
        return answer


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None when it is too large, or its sender has gone."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > REQUEST_MAX_BYTES:
            return None
        if not message.get("more_body"):
            return b"".join(parts)
