"""A witness: sign what logs publish, after checking that each only ever grew (C2SP tlog-witness).

For every log it knows, a witness remembers the newest checkpoint it has signed, and signs
another only with a proof that the remembered tree is a prefix of the new one. So a log that is
cut short, put back from a copy or rewritten is refused here, whoever holds its key. What a
request leads to, and what a crash leaves behind at each step:

 1. The request is taken apart, its log known, its signature good.    nothing
 2. Old size and proof fit the remembered checkpoint.                 nothing
 3. The checkpoint with our cosignature is written beside it, synced, the remembered one
 4. put in its place by rename,                                       either of the two
 5. and the folder is synced: from here on it is remembered.          the new one; nobody was told
 6. The cosignature leaves.                                           the new one

A client that was not told asks again, is told the size, and gets a cosignature over the same
tree. After a failed write or sync nobody knows what is on the disk: the witness signs nothing
more until it is started anew, and a witness that starts makes durable first what it finds.

The memory must never be put back from an older copy: KNOWN, a witness whose state was rolled
back signs a rolled-back log. Restore it only from the log's newest cosigned checkpoint.
"""

import errno
import os
import re
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from sovereign import eventlog
from sovereign.audit import checkpoint, note
from sovereign.audit.checkpoint import Checkpoint
from sovereign.audit.disk import Disk
from sovereign.audit.merkle import EMPTY_ROOT, HASH_BYTES, is_consistent
from sovereign.audit.note import VerifierKey
from sovereign.audit.witnesses import cosignature
from sovereign.audit.witnesses.cosignature import CosignerSecret
from sovereign.errors import LogMissing, StateUnreadable

BEGUN = "begun"
"""Lies in the folder since the witness was made: without it, the folder is not its memory."""
PROOF_MAX_HASHES = 63
REQUEST_MAX_BYTES = note.NOTE_MAX_BYTES + 64 * 64
LOGS_MAX = 10_000
SIZE_TYPE, TEXT_TYPE = "text/x.tlog.size", "text/plain; charset=utf-8"
_OLD = re.compile(r"old (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes
    content_type: str = TEXT_TYPE


@dataclass(frozen=True, slots=True)
class Request:
    """A request of `add-checkpoint`, taken apart; nothing in it is believed yet."""

    old: int
    proof: list[bytes]
    signed: bytes
    text: str
    signatures: list[tuple[str, bytes]]
    tree: Checkpoint


@dataclass(frozen=True, slots=True)
class Remembered:
    """The newest checkpoint of a log that was signed here, as a note with our cosignatures."""

    tree: Checkpoint
    signed: bytes


def parse(body: bytes) -> Request | None:
    """Take a request apart; None when it is not one."""
    head, gap, signed = body.partition(b"\n\n")
    if len(body) > REQUEST_MAX_BYTES or not gap:
        return None
    try:
        lines = head.decode("ascii").split("\n")
        proof = [note.from_base64(line) for line in lines[1:]]
        text, signatures = note.parts(signed)
    except ValueError:
        return None
    old, tree = _OLD.fullmatch(lines[0]), checkpoint.parse(text)
    whole = all(len(each) == HASH_BYTES for each in proof) and len(proof) <= PROOF_MAX_HASHES
    if old is None or tree is None or not whole:
        return None
    if not cosignature.can_cosign(tree.origin, origin=True):
        return None
    return Request(int(old.group(1)), proof, signed, text, signatures, tree)


def judge(request: Request, latest: Checkpoint | None) -> Answer | None:
    """Why a checkpoint that its log has signed is not cosigned; None when it may be.

    Pure. `latest` is what the witness signed last of this log, None when it never did.
    """
    tree, old = request.tree, request.old
    known = latest.size if latest is not None else 0
    if old > tree.size:
        return Answer(400, b"the old size is beyond the checkpoint\n")
    if old != known:
        return Answer(409, b"%d\n" % known, SIZE_TYPE)
    if tree.size == 0 and tree.root != EMPTY_ROOT:
        return Answer(422, b"an empty log has the root of nothing\n")
    if old == 0:
        return Answer(422, b"nothing needs no proof\n") if request.proof else None
    assert latest is not None, "a known size is of a known checkpoint"
    if not is_consistent(old, tree.size, latest.root, tree.root, request.proof):
        return Answer(422, b"the proof does not show that the log only grew\n")
    return None


class Witness:
    """One witness over one folder. Safe from any thread.

    `failure` says why nothing is signed any more; "" while all is well.
    """

    def __init__(
        self,
        disk: Disk,
        keys: Iterable[CosignerSecret],
        logs: Iterable[VerifierKey],
        clock: Callable[[], datetime],
    ) -> None:
        """Take the folder's lock, and make durable what is remembered there.

        Raises:
            LogLocked: another witness works on this folder.
            LogMissing: there is no such folder, or it is another one: the memory is gone.
            StateUnreadable: what is remembered of a log is damaged. It is not forgotten over
                that: nothing is signed.
            OSError: it cannot be read, or made durable.
        """
        self._disk = disk
        self._keys = tuple(keys)
        self._clock = clock
        self._logs: dict[str, list[VerifierKey]] = {}
        for key in logs:
            self._logs.setdefault(key.name, []).append(key)
        self._latest: dict[str, Remembered] = {}
        self._by_hash = {hash_of(origin): origin for origin in self._logs}
        self._lock = threading.Lock()
        self.failure = ""
        disk.lock()
        try:
            if disk.read(BEGUN) is None:
                raise _lost()
            for origin in self._logs:
                self._take_up(origin)
        except BaseException:
            disk.unlock()
            raise

    def close(self) -> None:
        """Let another witness work on this folder."""
        with self._lock:
            self.failure = "the witness has ended"
            self._disk.unlock()

    def add(self, body: bytes) -> Answer:
        """Answer `add-checkpoint`: 200 with cosignatures that are remembered by then, or why not.

        400 not a request, 404 a log that is not known, 403 not signed by it, 409 another size is
        remembered (it is the body), 422 the log did not only grow, 503 nothing can be remembered.
        """
        request = parse(body)
        if request is None:
            return Answer(400, b"not a request of add-checkpoint\n")
        keys = self._logs.get(request.tree.origin)
        if keys is None:
            return Answer(404, b"this log is not known here\n")
        if not _is_signed(request, keys):
            return Answer(403, b"not signed by a key of this log\n")
        with self._lock:
            if self.failure:
                return Answer(503, b"nothing can be remembered\n")
            latest = self._latest.get(request.tree.origin)
            refusal = judge(request, None if latest is None else latest.tree)
            if refusal is None:
                return self._cosign(request, keys)
            if latest is not None and _is_fork(request.tree, latest.tree):
                self._keep_fork(request)
            return refusal

    def latest(self, origin_hash: str) -> bytes | None:
        """The newest checkpoint signed of the log whose origin has this SHA-256, in hex."""
        with self._lock:
            seen = self._latest.get(self._by_hash.get(origin_hash, ""))
        return None if seen is None else seen.signed

    def forks(self) -> dict[str, bytes]:
        """By origin, a signed checkpoint that cannot be true beside the one that was cosigned."""
        found = {origin: self._disk.read(_fork_path(origin)) for origin in self._logs}
        return {origin: signed for origin, signed in found.items() if signed is not None}

    def _cosign(self, request: Request, keys: list[VerifierKey]) -> Answer:
        at = int(self._clock().timestamp())
        lines = b"".join(cosignature.cosign(request.text, key, at) for key in self._keys)
        known = {(key.name, key.id) for key in keys}
        kept = b"".join(
            note.signature_line(name, blob)
            for name, blob in request.signatures
            if (name, blob[:4]) in known
        )
        signed = request.text.encode() + b"\n" + kept + lines
        try:
            self._remember(request.tree.origin, signed)
        except OSError as error:
            self.failure = error.strerror or type(error).__name__
            eventlog.emit("witness-stopped-signing", reason=self.failure)
            return Answer(503, b"nothing can be remembered\n")
        self._latest[request.tree.origin] = Remembered(request.tree, signed)
        return Answer(200, lines)

    def _remember(self, origin: str, signed: bytes) -> None:
        """Steps 3 to 5, in the folder that holds all that was remembered before."""
        if self._disk.read(BEGUN) is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), BEGUN)
        self._replace(_path(origin), signed)

    def _replace(self, path: str, content: bytes) -> None:
        fresh = f"{path}.new"
        self._disk.write(fresh, content)
        self._disk.sync(fresh)
        self._disk.rename(fresh, path)
        self._disk.sync(".")

    def _keep_fork(self, request: Request) -> None:
        """Keep the first one: two signatures of one key over two trees of one size prove it all.

        It is for people to read; a disk that is full of something else may refuse it.
        """
        path = _fork_path(request.tree.origin)
        eventlog.emit("fork-seen", log=request.tree.origin, size=request.tree.size)
        with suppress(OSError):
            if self._disk.read(path) is None:
                self._replace(path, request.signed)

    def _take_up(self, origin: str) -> None:
        signed = self._disk.read(_path(origin))
        if signed is None:
            return
        tree = self._read_own(origin, signed)
        if tree is None or tree.origin != origin:
            raise StateUnreadable(
                f"what this witness remembers of {origin} is damaged",
                found=_path(origin),
                accepted="a checkpoint that the log or this witness has signed",
                next_step="docs/formats/witness.md, Restore a witness",
            )
        self._remember(origin, signed)
        self._latest[origin] = Remembered(tree, signed)

    def _read_own(self, origin: str, signed: bytes) -> Checkpoint | None:
        """Believed when one of our keys has cosigned it, or one of the log's has signed it."""
        for secret in self._keys:
            said = cosignature.read(signed, secret.verifier)
            if said is not None:
                return said.checkpoint
        for key in self._logs[origin]:
            tree = checkpoint.read(signed, key)
            if tree is not None:
                return tree
        return None


def _lost() -> LogMissing:
    return LogMissing(
        "the witness has lost its memory",
        found=f"a folder without {BEGUN}",
        accepted="what it remembered, given back from the newest cosigned checkpoint of each log",
        next_step="docs/formats/witness.md, Restore a witness",
    )


def hash_of(origin: str) -> str:
    """What stands for a log in a path: the SHA-256 of its origin, in lower-case hex."""
    return sha256(origin.encode()).hexdigest()


def _path(origin: str) -> str:
    return f"{hash_of(origin)}.checkpoint"


def _fork_path(origin: str) -> str:
    return f"{hash_of(origin)}.fork"


def _is_signed(request: Request, keys: list[VerifierKey]) -> bool:
    """One of the log's keys has signed it, and no line in the name of one of them is bad."""
    known = {(key.name, key.id): key for key in keys}
    claimed = [
        (known[name, blob[:4]], note.signature_line(name, blob))
        for name, blob in request.signatures
        if (name, blob[:4]) in known
    ]
    text = request.text.encode() + b"\n"
    return bool(claimed) and all(
        note.open_note(text + line, key) is not None for key, line in claimed
    )


def _is_fork(tree: Checkpoint, latest: Checkpoint) -> bool:
    return tree.size == latest.size and tree.root != latest.root
