"""Serve logs read-only over HTTP (C2SP tlog-tiles): pure ASGI, GET and HEAD, files, nothing else.

    /WRITER/STREAM/checkpoint              text/plain; charset=utf-8, kept by nobody
    /WRITER/STREAM/tile/L/N[.p/W]          hashes: immutable, for everybody's caches
    /WRITER/STREAM/tile/entries/N[.p/W]    entries: only where they are to be served
    /WRITER/STREAM/handover/N              how the log's key was replaced: as the checkpoint

What is served for ever has to stay true for ever: a crash may leave tiles beyond the checkpoint
that recovery replaces. So a tile or bundle is given only when the checkpoint covers all of it.

Hash tiles say nothing about anybody: every record is salted. Entries hold personal fields, so
they are not served unless the operator says so; then no shared cache may keep them, because it
would keep them beyond their erasure. Where they are not served the answer is 403, which is not
"gone": a verifier then knows that it cannot tell.

No path is ever joined that does not match the pattern below, links are not followed (`folder.py`),
and keys are not served: whoever verifies must have them from somewhere else.
"""

import asyncio
import gzip
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from sovereign.audit import checkpoint
from sovereign.audit.folder import Folder
from sovereign.audit.merkle import TILE_HEIGHT, TILE_WIDTH
from sovereign.audit.tiles import CHECKPOINT, bundle_path, tile_path

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

TEXT, BYTES = b"text/plain; charset=utf-8", b"application/octet-stream"
NEVER_KEPT = b"no-store"
KEPT_BY_ALL = b"public, max-age=31536000, immutable"
KEPT_BY_READER = b"private, max-age=86400, immutable"
"""For entries: the reader's own cache, for a day; a shared one would outlive an erasure."""
_EFFORT = 5
_ZERO = re.compile(rb"q\s*=\s*0(\.0*)?\s*$")
_TILE = re.compile(
    r"tile/(entries|0|[1-9]|[1-5][0-9]|6[0-3])/((?:x[0-9]{3}/){0,5}[0-9]{3})"
    r"(?:\.p/([1-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5]))?",
    re.ASCII,
)
_HANDOVER = re.compile(r"handover/[1-9][0-9]{0,3}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request gets."""

    status: int
    body: bytes
    kind: bytes = TEXT
    cached: bytes = NEVER_KEPT


NOT_FOUND = Answer(404, b"not found\n")
NOT_SERVED = Answer(403, b"entries of this log are not served here\n")
NOT_ALLOWED = Answer(405, b"GET and HEAD only\n")


@dataclass(frozen=True, slots=True)
class TileServer:
    """An ASGI application over the logs in `logs`, by their path below `/`: WRITER/STREAM."""

    logs: Mapping[str, Folder]
    with_entries: bool = False

    async def __call__(self, scope: MutableMapping[str, Any], _: Receive, send: Send) -> None:
        """Answer one request; whatever is not HTTP is not answered."""
        if scope["type"] != "http":
            return
        method = str(scope["method"])
        answer = NOT_ALLOWED
        if method in ("GET", "HEAD"):
            answer = await asyncio.to_thread(self.answer, str(scope["path"]))
        packed = answer.cached == KEPT_BY_READER and _takes_gzip(scope["headers"])
        content = gzip.compress(answer.body, _EFFORT, mtime=0) if packed else answer.body
        headers = [
            (b"content-type", answer.kind),
            (b"content-length", str(len(content)).encode()),
            (b"cache-control", answer.cached),
            (b"x-content-type-options", b"nosniff"),
        ]
        if answer is NOT_ALLOWED:
            headers.append((b"allow", b"GET, HEAD"))
        if answer.cached == KEPT_BY_READER:
            headers.append((b"vary", b"accept-encoding"))
        if packed:
            headers.append((b"content-encoding", b"gzip"))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        body = b"" if method == "HEAD" else content
        await send({"type": "http.response.body", "body": body})

    def answer(self, path: str) -> Answer:
        """What stands at a path.

        Raises:
            OSError: it is there and cannot be read.
        """
        parts = path.split("/", 3)
        if len(parts) < 4 or parts[0]:
            return NOT_FOUND
        read, name = self.logs.get(f"{parts[1]}/{parts[2]}"), parts[3]
        if read is None:
            return NOT_FOUND
        if name == CHECKPOINT or _HANDOVER.fullmatch(name):
            found = read(name)
            return Answer(200, found) if found else NOT_FOUND
        return self._tile(read, name)

    def _tile(self, read: Folder, name: str) -> Answer:
        match = _TILE.fullmatch(name)
        if match is None or not _is_covered(read, match):
            return NOT_FOUND
        is_entries = match[1] == "entries"
        if is_entries and not self.with_entries:
            return NOT_SERVED
        found = read(name)
        if not found:
            return NOT_FOUND
        return Answer(200, found, BYTES, KEPT_BY_READER if is_entries else KEPT_BY_ALL)


def _takes_gzip(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """True when the request names gzip among what it accepts, and does not weigh it with zero."""
    named = b",".join(value for name, value in headers if name.lower() == b"accept-encoding")
    offered = (each.strip().lower().partition(b";") for each in named.split(b","))
    return any(name.strip() == b"gzip" and not _ZERO.search(how) for name, _, how in offered)


def _is_covered(read: Folder, match: re.Match[str]) -> bool:
    """True when the published checkpoint covers the whole tile or bundle, under its one name."""
    level = 0 if match[1] == "entries" else int(match[1])
    index = int(match[2].replace("/", "").replace("x", ""))
    width = int(match[3] or TILE_WIDTH)
    named = bundle_path(index, width) if match[1] == "entries" else tile_path(level, index, width)
    if named != match[0]:
        return False
    text = (read(CHECKPOINT) or b"").partition(b"\n\n")[0].decode(errors="replace")
    published = checkpoint.parse(text + "\n")
    size = 0 if published is None else published.size
    return index * TILE_WIDTH + width <= size >> (TILE_HEIGHT * level)
