"""Replace the key of a log, in steps of which each leaves the old state or the new one.

Only while no writer runs. With what a crash leaves behind at each step:

 1. The new key, or the reference to it, is put beside the old one   the old key signs on; the new
    as `WRITER-STREAM.key.next`.                                     one is taken up by the next try
 2. The log is opened with the old key and says `key-rotated`; it    the same; the record names a
    is closed, so that its journal is empty.                         key that never signed
 3. The checkpoint is signed by both keys and put in place.          the same; either key opens it
 4. `handover/N` is put in place, by rename: DONE. From here on      the new key, which `signer`
    verification and the writer follow to the new key.               takes from `.key.next`
 5. The pin of the site moves to the new key, the old one is kept    the same, and verification
    as a line of `WRITER-STREAM.former`.                             follows the handover
 6. `.key` is replaced by what `.key.next` holds, which then goes:   the new state, whole
    a key that was a file is destroyed.

`rotate` looks at what is there and goes on from it, so that running it again ends a rotation that
was cut short. It works over `Disk`s, so that a simulated one can stop it at every operation.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sovereign.audit import checkpoint, journal, proof, tiles
from sovereign.audit.disk import Disk, RealDisk
from sovereign.audit.keys import custody, rotation
from sovereign.audit.keys.custody import KeyFolder
from sovereign.audit.keys.rotation import RECORD, Handover, History
from sovereign.audit.log import Clock, Log
from sovereign.audit.note import SignerKey, VerifierKey, parts, signature_line
from sovereign.audit.remembered import Places
from sovereign.errors import BadInput, HistorySplit, KeyMissing, LogLocked, LogMissing

KEY, NEXT, PIN, FORMER = ".key", ".key.next", ".vkey", ".former"
FILE = "file"
"""The source of a new key that is made here and stands in its key file."""
WHY = ("scheduled", "suspected", "moved")
"""Reasons for a new key: its time has come, the old one may be known, it comes from elsewhere."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where one log, its keys and its pin lie; `stem` is WRITER-STREAM."""

    log: Disk
    keys: Disk
    trust: Disk
    stem: str
    origin: str
    past: tuple[bytes, ...] = ()
    """Checkpoints remembered outside the log."""
    acting: Callable[[], AbstractContextManager[None]] = nullcontext
    """Be whoever owns the log's files, while they are written."""
    turn: Callable[[], AbstractContextManager[None]] = nullcontext
    """Be the only one who replaces keys in this folder."""

    @classmethod
    def of(cls, folder: Path, keys: Path, trust: Path, stem: str, origin: str) -> "Site":
        """The real one, of the log in `folder`."""
        past: tuple[bytes, ...] = ()
        pin = trust / f"{stem}{PIN}"
        if pin.is_file():
            vkey = VerifierKey.parse(pin.read_text(errors="replace"))
            past = tuple(Places.of(folder, vkey, trust).notes())
        disks = RealDisk(folder), KeyFolder(keys), RealDisk(trust)
        return cls(*disks, stem, origin, past, partial(_as_owner, folder), partial(_alone, keys))

    def key(self, suffix: str = KEY) -> SignerKey | None:
        """The signing key in the file with this suffix; None when there is no such file.

        Raises:
            LogKeyUnusable, BadInput: as `custody.signer`.
        """
        raw = self.keys.read(self.stem + suffix)
        return None if raw is None else custody.signer(raw, self.origin)

    def source(self, suffix: str = KEY) -> str | None:
        """Where the key with this suffix comes from, as `custody.describe` says it."""
        raw = self.keys.read(self.stem + suffix)
        return None if raw is None else custody.describe(raw)

    def pinned(self) -> VerifierKey | None:
        """The key that verification on this site begins with."""
        raw = self.trust.read(self.stem + PIN)
        return None if raw is None else VerifierKey.parse(raw.decode(errors="replace"))

    def former(self) -> tuple[VerifierKey, ...]:
        """The keys that were pinned before, oldest first."""
        raw = self.trust.read(self.stem + FORMER) or b""
        return tuple(VerifierKey.parse(line) for line in raw.decode(errors="replace").splitlines())


@contextmanager
def _as_owner(folder: Path) -> Iterator[None]:
    """Root writes a log as its owner does, who could not go on with root's files."""
    owner = folder.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    group = os.getegid()
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)


@dataclass(frozen=True, slots=True)
class Rotated:
    """What `rotate` did, or would do when `dry`; `resumed` when an earlier try was ended."""

    origin: str
    old: str
    new: str
    index: int | None
    size: int | None
    resumed: bool


def signer(folder: Path, path: Path, origin: str) -> SignerKey:
    """The key that the log's next writer signs with: the one it was handed over to last.

    Between steps 4 and 6 that is the one beside `path`, the log's key file.

    Raises:
        LogKeyUnusable, BadInput, FileNotFoundError: as `custody.load`.
    """
    key, following = custody.load(path, origin), path.with_name(path.name + ".next")
    if not following.exists():
        return key
    newest = rotation.newest(RealDisk(folder).read, key.verifier)
    return key if newest == key.verifier else custody.load(following, origin)


def settle_source(site: Site, source: str) -> VerifierKey:
    """Write down where the key of a log that is yet to be created comes from.

    Raises:
        LogKeyUnusable, BadInput: no key for this log can be had from there. Nothing was written.
    """
    found = custody.signer(source.encode(), site.origin)
    _put(site.keys, site.stem + KEY, f"{source}\n".encode())
    return found.verifier


def plan(site: Site, source: str) -> Rotated:
    """What `rotate` would do, without writing; the log must be free.

    Raises:
        LogLocked: a writer runs.
        LogMissing, KeyMissing, LogKeyUnusable, BadInput: as `rotate`.
    """
    old, known = _begun(site)
    _refuse_writer(site)
    following = site.key(NEXT)
    if following is None and source != FILE:
        found = custody.signer(source.encode(), site.origin)
        _refuse_former(site, found, known)
        new = str(found.verifier)
    else:
        new = str(following.verifier) if following else "a key that is made then"
    return Rotated(site.origin, str(old.verifier), new, None, None, following is not None)


def rotate(site: Site, source: str, why: str, clock: Clock) -> Rotated:
    """Replace the log's key by one from `source`: `file`, or a reference as in `custody`.

    Raises:
        LogLocked: a writer runs. Nothing was changed.
        LogMissing, KeyMissing: there is no such log, key or pin here.
        LogKeyUnusable, BadInput: a key cannot be had, or was the log's before.
        LogUnwritable, Broken: as opening a log.
    """
    with site.turn():  # two at once would each make a key, and one would be lost
        return _rotated(site, source, why, clock)


def _rotated(site: Site, source: str, why: str, clock: Clock) -> Rotated:
    old, known = _begun(site)
    new = site.key(NEXT)
    resumed = new is not None
    if new is None:
        _refuse_writer(site)
        new = _make_next(site, source, known)
    if new.verifier != known.newest:
        with site.acting():
            _hand_over(site, old, new, why, clock)
        known = rotation.history(site.log.read, old.verifier)
    last = known.handovers[-1]
    _move_pin(site, last)
    _take_over(site)
    return Rotated(site.origin, str(last.old), str(last.new), last.index, last.over.size, resumed)


def _begun(site: Site) -> tuple[SignerKey, History]:
    """The key in force before the last step, and what the log says of its keys."""
    old = site.key()
    if old is None or site.log.read(journal.PATH) is None:
        raise LogMissing(
            f"there is no log {site.origin} here",
            found="no signing key" if old is None else "no journal",
            next_step="sovereign audit create, once",
        )
    if site.pinned() is None:
        raise KeyMissing(
            f"no key is pinned for {site.origin}", next_step="docs/runbooks/key-missing.md"
        )
    known = rotation.history(site.log.read, old.verifier)
    strange = not known.handovers and site.log.read(rotation.path_of(1)) is not None
    if known.damaged or strange:
        raise HistorySplit(
            f"the keys of {site.origin} cannot be followed",
            found=f"{known.damaged} does not hold" if known.damaged else "a key of no handover",
            next_step="restore handover/ and the key from a copy; then: sovereign audit verify",
        )
    return old, known


def _refuse_writer(site: Site) -> None:
    """A writer that runs is found out before anything is written."""
    with site.acting():
        site.log.lock()
        site.log.unlock()


def _make_next(site: Site, source: str, known: History) -> SignerKey:
    """Step 1."""
    raw = SignerKey.generate(site.origin).dump() if source == FILE else f"{source}\n"
    made = custody.signer(raw.encode(), site.origin)
    _refuse_former(site, made, known)
    _put(site.keys, site.stem + NEXT, raw.encode())
    return made


def _refuse_former(site: Site, new: SignerKey, known: History) -> None:
    """A key that was replaced never comes back: what it signed meanwhile would count again."""
    if new.verifier in (*known.keys, *site.former()):
        raise BadInput(
            f"{new.verifier} is a key that {site.origin} has or had",
            accepted="a key that it never had",
        )


def _hand_over(site: Site, old: SignerKey, new: SignerKey, why: str, clock: Clock) -> None:
    """Steps 2 to 4."""
    fields = {"old": str(old.verifier), "new": str(new.verifier), "why": why}
    log = Log(site.log, old, clock, site.past)
    ear = _Ear()
    try:
        log.append(RECORD, fields, ear)
    finally:
        log.close()
    if log.failure is not None:
        raise log.failure
    index = ear.index
    assert index is not None, "a log that closes without failing has answered everybody"
    site.log.lock()
    try:
        _refuse_other_writer(site, index + 1)
        proven = proof.prove(site.log.read, old.verifier, index)
        raw = site.log.read(tiles.CHECKPOINT)
        assert raw is not None, "it was proven just now"
        both = _signed_by_both(raw, old, new)
        _put(site.log, tiles.CHECKPOINT, both)
        number = len(rotation.history(site.log.read, old.verifier).handovers) + 1
        _put(site.log, rotation.path_of(number), proven.removesuffix(raw) + both)
    finally:
        site.log.unlock()


def _refuse_other_writer(site: Site, size: int) -> None:
    """Between closing and locking again nobody may have come and gone."""
    found = journal.parse(site.log.read(journal.PATH) or b"")
    if found.groups or found.base != size:
        raise LogLocked(
            f"another process wrote {site.origin} meanwhile",
            next_step="stop it; then run this again",
        )


def _signed_by_both(raw: bytes, old: SignerKey, new: SignerKey) -> bytes:
    """The checkpoint that `old` signed, signed by `new` too; what others added is left out."""
    signed = checkpoint.read(raw, old.verifier)
    assert signed is not None, "it was proven just now"
    note = signed.signed(old)
    text, _ = parts(note)
    return note + signature_line(new.name, new.verifier.id + new.private.sign(text.encode()))


def _move_pin(site: Site, last: Handover) -> None:
    """Step 5: the former key is written down first, so that it is never lost."""
    if last.old not in site.former():
        lines = "".join(f"{key}\n" for key in (*site.former(), last.old))
        _put(site.trust, site.stem + FORMER, lines.encode())
    if site.pinned() != last.new:
        _put(site.trust, site.stem + PIN, f"{last.new}\n".encode())


def _take_over(site: Site) -> None:
    """Step 6. Not by renaming one into the other: a crash might leave the old name alone."""
    following = site.keys.read(site.stem + NEXT)
    if following is None:
        return  # it was taken over meanwhile
    _put(site.keys, site.stem + KEY, following)
    site.keys.remove(site.stem + NEXT)
    site.keys.sync(".")


@contextmanager
def _alone(keys: Path) -> Iterator[None]:
    """Hold the folder itself, so that nothing is left in it.

    Raises:
        LogLocked: another rotation is under way.
    """
    fd = os.open(keys, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _lock(fd, keys)
        yield
    finally:
        os.close(fd)


def _lock(fd: int, keys: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LogLocked(
            f"another rotation is under way in {keys}", next_step="wait for it, then try again"
        ) from None


def _put(disk: Disk, path: str, data: bytes) -> None:
    """Put a file in place whole and durable, or not at all."""
    fresh = f"{path}.new"
    disk.write(fresh, data)
    disk.sync(fresh)
    disk.rename(fresh, path)
    above = path.rpartition("/")[0]
    if above:
        disk.sync(above)
    disk.sync(".")


class _Ear:
    """Hears of the one record."""

    def __init__(self) -> None:
        self.index: int | None = None

    def acknowledged(self, index: int) -> None:
        self.index = index

    def failed(self, error: Exception) -> None:
        """The log remembers it as its `failure`."""
