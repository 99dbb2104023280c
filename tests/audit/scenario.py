"""Run a log over a simulated disk, and judge what is left by rules of this file's own.

`Run` plays a script (create, open, append a group, close) until its end or until the disk
stops. `faults` opens what is left and lists everything that breaks a promise of the log. It
reads the published files and computes roots by the definition in RFC 6962, 2.1, and shares
no code with the log for that, so that a mistake is not made twice.
"""

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sovereign.audit import checkpoint, log, record
from sovereign.audit.checkpoint import Checkpoint
from sovereign.audit.log import Log
from sovereign.audit.note import SignerKey, VerifierKey
from sovereign.errors import LogMissing, LogUnwritable, SovereignError
from tests.simulated.disk import SimulatedDisk, files_of

ORIGIN = "test.example/gateway/event"
KEY = SignerKey(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
PATIENCE_S = 20.0
"""No wait in these tests is longer; a healthy one takes milliseconds."""


def clock() -> datetime:
    return NOW


def completion(number: int) -> dict[str, str | int]:
    """A record whose `decision` tells it from every other."""
    return {
        "decision": number,
        "outcome": "completed",
        "status": 200,
        "tokens_in": 12,
        "tokens_out": 34,
        "latency_us": 56_789,
        "finish": "stop",
    }


def entry(number: int, salt: bytes = b"\x07" * 16) -> bytes:
    """The canonical bytes of such a record."""
    return record.encode("completion", completion(number), NOW, salt)


class Ear:
    """Waits for one record and remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[int | LogUnwritable] = []
        self._event = threading.Event()

    def acknowledged(self, index: int) -> None:
        self.told.append(index)
        self._event.set()

    def failed(self, error: LogUnwritable) -> None:
        self.told.append(error)
        self._event.set()

    def heard(self) -> int | LogUnwritable:
        """What it was told, once; bounded."""
        assert self._event.wait(PATIENCE_S), "nobody told the waiter anything"
        assert len(self.told) == 1, f"told {len(self.told)} times"
        return self.told[0]


def append_group(target: Log, numbers: Iterable[int]) -> dict[int, Ear]:
    """Queue records so that the writer takes them as one group: it cannot look in between."""
    ears = {}
    with target._wake:
        for number in numbers:
            ears[number] = Ear()
            target.append("completion", completion(number), ears[number])
    return ears


@dataclass
class Run:
    """What a script has done so far. `acknowledged` maps a record's number to its index."""

    disk: SimulatedDisk
    created: bool = False
    acknowledged: dict[int, int] = field(default_factory=dict)
    told_failed: set[int] = field(default_factory=set)
    appended: int = 0

    def play(self, script: tuple[str | int, ...]) -> "Run":
        """Do what the script says, until the disk says no.

        "create", "open" and "close" are themselves; a number appends a group of that many.
        """
        target: Log | None = None
        try:
            for step in script:
                if step == "create":
                    log.create(self.disk, KEY, clock)
                    self.created = True
                elif step == "open":
                    target = Log(self.disk, KEY, clock)
                elif step == "close":
                    assert target is not None
                    target.close()
                    target = None
                else:
                    assert target is not None
                    self._append(target, int(step))
        except LogUnwritable:
            pass  # the disk stopped, or failed as it was told to
        finally:
            if target is not None:
                target.close()
        return self

    def _append(self, target: Log, count: int) -> None:
        numbers = range(self.appended, self.appended + count)
        self.appended += count
        for number, ear in append_group(target, numbers).items():
            heard = ear.heard()
            if isinstance(heard, int):
                self.acknowledged[number] = heard
            else:
                self.told_failed.add(number)


AFTERWARDS = 1_000_000
"""The number of the record that is appended after reopening: the log must work again."""


def reopen(left: SimulatedDisk, *, created: bool) -> None:
    """Open what is left, append one record, close. `created`: the log must be there."""
    try:
        target = Log(left, KEY, clock)
    except LogMissing:
        if created:
            raise
        log.create(left, KEY, clock)
        target = Log(left, KEY, clock)
    try:
        heard = append_group(target, [AFTERWARDS])[AFTERWARDS].heard()
    finally:
        target.close()
    if isinstance(heard, LogUnwritable):
        raise heard


def faults(run: Run, left: SimulatedDisk, *, reopened: bool = False) -> list[str]:
    """Everything that is wrong with what is left of a run, after it was opened again."""
    if not reopened:
        try:
            reopen(left, created=run.created)
        except SovereignError as error:
            return [f"it does not open again: {error.lines()[0]}"]
    try:
        signed, entries = read_log(files_of(left))
    except (ValueError, KeyError) as error:
        return [f"it cannot be read: {error}"]
    return [
        *_lost(run.acknowledged, entries),
        *_doubled(entries),
        *_split(run.disk.served if run.created else [], signed, entries),
    ]


def _lost(acknowledged: dict[int, int], entries: list[bytes]) -> list[str]:
    found = []
    for number, index in acknowledged.items():
        there = msgspec.json.decode(entries[index]) if index < len(entries) else {}
        if there.get("decision") != number:
            found.append(f"record {number} was acknowledged at {index} and is lost")
    return found


def _doubled(entries: list[bytes]) -> list[str]:
    numbers = [each.get("decision") for each in map(msgspec.json.decode, entries)]
    numbers = [number for number in numbers if number is not None]
    return [f"record {n} is there twice" for n, times in Counter(numbers).items() if times > 1]


def _split(served: list[bytes], signed: Checkpoint, entries: list[bytes]) -> list[str]:
    """Every checkpoint that was ever served must be over a prefix of what is there now."""
    found = []
    for note in served:
        old = _signed(note, KEY.verifier)
        if old is None:
            found.append("something was served that is no checkpoint")
        elif old.size > signed.size:
            found.append(f"a checkpoint over {old.size} was served, there are {signed.size}")
        elif root_of(entries[: old.size]) != old.root:
            found.append(f"the checkpoint over {old.size} is of another log")
    return found


def read_log(
    files: dict[str, bytes], key: VerifierKey = KEY.verifier
) -> tuple[Checkpoint, list[bytes]]:
    """The served checkpoint and the entries below it, checked against each other.

    Raises:
        KeyError: a file is missing.
        ValueError: the checkpoint is bad, or the files are not what it was signed over.
    """
    signed = checkpoint.read(files["checkpoint"], key)
    if signed is None:
        raise ValueError("the checkpoint is not signed by the log")
    entries: list[bytes] = []
    for number in range(-(-signed.size // 256)):
        width = min(256, signed.size - 256 * number)
        bundle = _unpacked(_file(files, f"tile/entries/{number:03d}", width))
        tile = _file(files, f"tile/0/{number:03d}", width)
        leaves = b"".join(sha256(b"\0" + each).digest() for each in bundle)
        if len(bundle) != width or leaves != tile:
            raise ValueError(f"tile and bundle {number} differ")
        entries += bundle
    for number in range(-(-(signed.size // 256) // 256)):
        width = min(256, signed.size // 256 - 256 * number)
        first = 256 * number
        above = [root_of(entries[256 * i : 256 * i + 256]) for i in range(first, first + width)]
        if _file(files, f"tile/1/{number:03d}", width) != b"".join(above):
            raise ValueError(f"tile 1/{number} is not over the tiles below it")
    if root_of(entries) != signed.root:
        raise ValueError("the entries do not lead to the signed root")
    return signed, entries


def reopenings(disk: SimulatedDisk) -> list[dict[str, Any]]:
    """The `log-reopened` records of a log that is closed."""
    records = map(msgspec.json.decode, read_log(files_of(disk))[1])
    return [each for each in records if each["type"] == "log-reopened"]


def _file(files: dict[str, bytes], path: str, width: int) -> bytes:
    return files[path if width == 256 else f"{path}.p/{width}"]


def _unpacked(bundle: bytes) -> list[bytes]:
    entries = []
    while bundle:
        length = 256 * bundle[0] + bundle[1]
        entries.append(bundle[2 : 2 + length])
        bundle = bundle[2 + length :]
    return entries


def root_of(entries: list[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1, word by word."""
    if not entries:
        return sha256(b"").digest()
    return _root(b"".join(sha256(b"\0" + each).digest() for each in entries))


@lru_cache(maxsize=10_000)
def _root(leaves: bytes) -> bytes:
    if len(leaves) == 32:
        return leaves
    k = 32
    while 2 * k < len(leaves):
        k *= 2
    return sha256(b"\1" + _root(leaves[:k]) + _root(leaves[k:])).digest()


_signed = lru_cache(maxsize=10_000)(checkpoint.read)
