"""Ask a witness to cosign a log: the client's side of C2SP tlog-witness.

`submission` is pure arithmetic over the log's own files; `ask` is the exchange, with the HTTP
call passed in. What a witness answers is believed only as far as its key reaches: lines of other
keys are dropped, and an answer without a good line of its own is a failure. A witness that
remembers more of a log than the log has is the alarm this is all for.
"""

import http.client
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from sovereign.audit import checkpoint, note, proof, tiles
from sovereign.audit.note import VerifierKey
from sovereign.audit.scan import Read
from sovereign.audit.witnesses import cosignature
from sovereign.audit.witnesses.cosignature import CosignerKey
from sovereign.audit.witnesses.witness import SIZE_TYPE, hash_of
from sovereign.errors import BadInput, TileMissing

SILENCE_S = 10.0
"""How long nothing may come before a call is given up."""
CALL_MAX_S = 20.0
"""How long a call may take in all, however steadily something comes."""
ANSWER_MAX_BYTES = 262_144
TRIES_MAX = 4
"""How often a witness may name another size before it is given up: each is one exchange."""
_SIZE = re.compile(rb"(0|[1-9][0-9]{0,18})\n")


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer, its body bounded. `status` 0: there was none, and `body` says why."""

    status: int
    content_type: str
    body: bytes


Post = Callable[[str, bytes, str], Reply]
"""Sends a body of a content type to a URL."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of asking. `signed` is the checkpoint with the witness' line, b"" when none.

    `code` is "" when it was cosigned, else `witness-silent` (no answer), `witness-refused` (it
    said no, or said nothing good) or `witness-ahead`: it has signed a longer log than this.
    """

    signed: bytes
    size: int
    code: str = ""
    reason: str = ""


def submission(read: Read, signed: bytes, size: int, old: int) -> bytes:
    """The body of `add-checkpoint` for a checkpoint over `size` entries.

    Raises:
        TileMissing, TileDamaged: the log's own tiles do not hold the proof.
        OutOfRange: `old` is beyond `size`.
    """
    hashes = proof.consistency(read, old, size) if old else []
    lines = [f"old {old}", *(note.to_base64(each) for each in hashes), ""]
    return "\n".join(lines).encode() + b"\n" + signed


def ask(read: Read, vkey: VerifierKey, witness: CosignerKey, url: str, post: Post) -> Outcome:
    """Let a witness cosign the newest checkpoint of a log.

    The first guess of what it remembers is nothing; it says what it does.

    Raises:
        TileMissing: the log has no checkpoint that its pinned key signed, or has lost a tile.
        TileDamaged: a tile of it is too short.
    """
    old = 0
    for _ in range(TRIES_MAX):
        signed = read(tiles.CHECKPOINT) or b""
        tree = checkpoint.read(signed, vkey)
        if tree is None or tree.origin != vkey.name:
            raise TileMissing(f"{vkey.name} has no checkpoint that its pinned key signed")
        if old > tree.size:
            reason = f"it has signed {old} records, the log has {tree.size}"
            return Outcome(b"", tree.size, "witness-ahead", reason)
        body = submission(read, signed, tree.size, old)
        reply = post(f"{url.rstrip('/')}/add-checkpoint", body, "text/plain; charset=utf-8")
        if reply.status == 200:
            return _taken(signed, tree.size, reply.body, witness)
        known = _SIZE.fullmatch(reply.body) if reply.status == 409 else None
        if known is None or reply.content_type != SIZE_TYPE:
            code = "witness-refused" if reply.status else "witness-silent"
            reason = _reason(reply)
            return Outcome(b"", tree.size, code, reason)
        old = int(known.group(1))
    return Outcome(b"", 0, "witness-refused", "it named another size each time")


def _taken(signed: bytes, size: int, lines: bytes, witness: CosignerKey) -> Outcome:
    """The checkpoint with the lines of this witness alone."""
    try:
        _, found = note.parts(signed + lines)
    except ValueError:
        return Outcome(b"", size, "witness-refused", "its answer is no signature")
    own = b"".join(
        note.signature_line(name, blob)
        for name, blob in found
        if name == witness.name and blob[:4] == witness.id
    )
    if not own or cosignature.read(signed + own, witness) is None:
        return Outcome(b"", size, "witness-refused", "its signature is not under the key we know")
    return Outcome(signed + own, size)


def _reason(reply: Reply) -> str:
    """Its own words, as far as they are plain; they go into an event line."""
    words = reply.body[:120].decode("ascii", errors="replace").strip()
    plain = "".join(c if c.isprintable() else " " for c in words)
    return f"{reply.status} {plain}" if reply.status else plain


def newest_of(url: str, origin: str) -> bytes | None:
    """What a witness serves as the newest checkpoint it signed of a log; None when nothing.

    Raises:
        TileMissing: it did not answer, or not like a witness.
    """
    reply = _call("GET", f"{url.rstrip('/')}/{hash_of(origin)}/checkpoint", b"", "")
    if reply.status not in (200, 404):
        raise TileMissing(f"the witness at {url} gave no checkpoint", found=_reason(reply))
    return reply.body if reply.status == 200 else None


def http_post(url: str, body: bytes, content_type: str) -> Reply:
    """Send a body; no redirect is followed, no proxy of the environment asked, TLS is checked."""
    return _call("POST", url, body, content_type)


def _call(method: str, url: str, body: bytes, content_type: str) -> Reply:
    connection, path = _towards(url)
    try:
        connection.connect()
        with _cut_off(connection.sock):
            headers = {"content-type": content_type} if content_type else {}
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            found = answer.read(ANSWER_MAX_BYTES + 1)
    except (OSError, http.client.HTTPException, UnicodeError) as error:  # a name no resolver takes
        return Reply(0, "", type(error).__name__.encode())
    finally:
        connection.close()
    if len(found) > ANSWER_MAX_BYTES:
        return Reply(0, "", b"its answer is too large")
    if answer.length:
        return Reply(0, "", b"its answer was cut off")
    return Reply(answer.status, answer.getheader("content-type", ""), found)


def _towards(url: str) -> tuple[http.client.HTTPConnection, str]:
    """A connection that is not made yet, and the path to ask it for."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # a port that is none, half an IPv6 address
        host, port = None, None
    if not host or parts.scheme not in ("http", "https"):
        raise BadInput(f"{url!r} is no address", accepted="http://… or https://…")
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=SILENCE_S), parts.path or "/"
    trusted = ssl.create_default_context()
    secure = http.client.HTTPSConnection(host, port, timeout=SILENCE_S, context=trusted)
    return secure, parts.path or "/"


@contextmanager
def _cut_off(sock: socket.socket) -> Iterator[None]:
    """End the connection under whoever reads from it once its time is over."""

    def end() -> None:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(CALL_MAX_S, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
