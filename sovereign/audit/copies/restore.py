"""Put logs back from a copy: a standby, or a folder of logs.

All or none, in this order, with what a crash leaves behind at each step:

 1. Nothing may stand where a log would go.                     nothing
 2. Every log is copied into a folder beside the logs.          that folder; begun anew next time
 3. All are verified there as a set, under keys that came from
    elsewhere, against everything that is remembered of them.   the same
 4. Its key is pinned.                                          `log-gone`, until it is run again
 5. Each is given an empty journal and takes its place, by      some in place, whole; run it again
    rename, and its checkpoint is remembered.                   for the others
 6. Where its private key is here, the log is opened and
    `log-restored` says how far the copy went.                  the writer notes `log-reopened`

A log is restored to be read and verified without any private key. Only its own key takes it up
again: `Log` opens under no other.

What was acknowledged and is in no copy is lost, and nobody can say what it was. When something
that is remembered shows that such records were there, this refuses, unless it is told to accept
the loss; the checkpoint that shows it is kept under another name.
"""

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sovereign.audit import journal, remembered, tiles, writers
from sovereign.audit.disk import RealDisk
from sovereign.audit.folder import Folder
from sovereign.audit.keys import rotation
from sovereign.audit.log import Clock
from sovereign.audit.merkle import HASH_BYTES, TILE_HEIGHT, TILE_WIDTH
from sovereign.audit.note import VerifierKey
from sovereign.audit.remembered import Places
from sovereign.audit.scan import Read, read_or_full
from sovereign.audit.trail import KEY_SUFFIX, Trail, pin_path
from sovereign.audit.verify import FINDINGS, Finding, Report, inspect, judge_all
from sovereign.audit.writers import Sound
from sovereign.errors import BadInput, RestoreRefused, TileMissing

LOST = ".lost"
TRIES_MAX = 3
"""A copy that a standby goes on writing is read again when it has moved on."""


@dataclass(frozen=True, slots=True)
class Target:
    """The folders of the machine that logs are put back to."""

    audit: Path
    keys: Path
    trust: Path

    def folder_of(self, vkey: VerifierKey) -> Path:
        """Where a log lies.

        Raises:
            BadInput: its name is no `SITE/WRITER/STREAM`.
        """
        _, writer, stream = names_of(vkey)
        return self.audit / writer / stream

    @property
    def staging(self) -> Path:
        """Beside the logs, so that a rename puts one in place."""
        return self.audit.with_name(f"{self.audit.name}.restoring")


@dataclass(frozen=True, slots=True)
class Copy:
    """A log to put back: the key it must verify under, and how to read the copy."""

    vkey: VerifierKey
    read: Read


@dataclass(frozen=True, slots=True)
class Restored:
    """A log that is back. `lost` entries are known to have been acknowledged beyond it."""

    origin: str
    folder: Path
    size: int
    lost: int
    reopened: bool


def names_of(vkey: VerifierKey) -> tuple[str, str, str]:
    """Site, writer and stream of a log."""
    parts = vkey.name.split("/")
    if len(parts) != 3 or any(not part.strip(".") or part.startswith(".") for part in parts):
        raise BadInput(f"{vkey.name!r} is no log of a site", accepted="SITE/WRITER/STREAM")
    return parts[0], parts[1], parts[2]


def restore(
    copies: Sequence[Copy],
    target: Target,
    clock: Clock,
    *,
    source: str,
    kept: Iterable[bytes] = (),
    accept_loss: bool = False,
) -> list[Restored]:
    """Put logs back, as a set.

    Args:
        source: what the log is to say it came from.
        kept: checkpoints that somebody kept elsewhere, the newest there are.

    Raises:
        RestoreRefused: something stands there, a copy does not verify, or it lacks what is
            known to have been acknowledged. Nothing was put in place.
        TileMissing: a copy is not whole.
        OSError: the disk said no; steps 1 to 3 leave nothing in place.
    """
    for copy in copies:
        _refuse_occupied(target, copy.vkey)
    shutil.rmtree(target.staging, ignore_errors=True)
    try:
        for copy in copies:
            fetch(copy, _staged(target, copy.vkey))
        notes = list(kept)
        lost = {copy.vkey.name: _lost(target, copy, notes, accept_loss) for copy in copies}
        reports = _verified(target, copies, notes, accept_loss=accept_loss)
        for copy in copies:
            _put_in_place(target, copy, reports[copy.vkey.name])
    finally:
        shutil.rmtree(target.staging, ignore_errors=True)
    reopened = _reopened(target, copies, reports, clock, source)
    return [
        Restored(
            copy.vkey.name,
            target.folder_of(copy.vkey),
            reports[copy.vkey.name].size,
            lost[copy.vkey.name],
            copy.vkey.name in reopened,
        )
        for copy in copies
    ]


def _refuse_occupied(target: Target, vkey: VerifierKey) -> None:
    folder = target.folder_of(vkey)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RestoreRefused(
            f"something stands where {vkey.name} would be put back",
            found=str(folder),
            accepted="an empty machine; move what is there aside, and keep it",
        )
    _, writer, stream = names_of(vkey)
    pin = pin_path(target.trust, writer, stream)
    if pin.exists() and VerifierKey.parse(pin.read_text()).name != vkey.name:
        raise RestoreRefused(
            f"another log than {vkey.name} is pinned here", found=f"{pin}: {pin.read_text()[:80]}"
        )


def _staged(target: Target, vkey: VerifierKey) -> Path:
    _, writer, stream = names_of(vkey)
    return target.staging / writer / stream


def fetch(copy: Copy, folder: Path) -> int:
    """Copy what a log's checkpoint covers, durably; return its size.

    Raises:
        TileMissing: there is no checkpoint, or a hash tile is gone.
    """
    for _ in range(TRIES_MAX):
        shutil.rmtree(folder, ignore_errors=True)
        keys, note = rotation.follow(copy.read, copy.vkey)
        signed = keys.read(note) if note else None
        if note is None or signed is None:
            raise TileMissing(
                f"the copy has no checkpoint of {copy.vkey.name} that its key signed",
                next_step="look whether this is the right copy and the right key",
            )
        if _fetched(copy, keys, signed.size, folder):
            _write(folder / tiles.CHECKPOINT, note)
            _sync_all(folder)
            return signed.size
    raise TileMissing(f"a hash tile of {copy.vkey.name} is gone from the copy")


def _fetched(copy: Copy, keys: rotation.History, size: int, folder: Path) -> bool:
    for number in range(1, len(keys.handovers) + 1):
        _write(folder / rotation.path_of(number), copy.read(rotation.path_of(number)) or b"")
    for level in range(tiles.levels(size)):
        for index in range(-(-(size >> (TILE_HEIGHT * level)) // TILE_WIDTH)):
            width = tiles.width_of(level, index, size)
            path = tiles.tile_path(level, index, width)
            tile = read_or_full(copy.read, path)
            if tile is None:
                return False
            _write(folder / path, tile[: width * HASH_BYTES])
            if level == 0:
                path = tiles.bundle_path(index, width)
                bundle = read_or_full(copy.read, path)
                if bundle is not None:
                    _write(folder / path, _first(bundle, width))
                elif width < TILE_WIDTH:
                    return False
    return True


def _first(bundle: bytes, width: int) -> bytes:
    """As many entries as a partial bundle has, of the full one that took its place."""
    try:
        return tiles.pack(tiles.unpack(bundle)[:width])
    except ValueError:
        return bundle  # verification says what is wrong with it


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _sync_all(folder: Path) -> None:
    disk = RealDisk(folder)
    for at, _, files in os.walk(folder):
        inside = Path(at).relative_to(folder)
        for name in files:
            disk.sync(str(inside / name))
        disk.sync(str(inside))


def _places(target: Target, vkey: VerifierKey) -> Places:
    return Places.of(target.folder_of(vkey), vkey, target.trust)


def _lost(target: Target, copy: Copy, kept: list[bytes], accept_loss: bool) -> int:
    """Entries that something remembered shows, and the copy lacks.

    Raises:
        RestoreRefused: there are some, and nobody accepted it.
    """
    read = Folder(_staged(target, copy.vkey))
    keys, note = rotation.follow(read, copy.vkey)
    held = keys.read(note) if note else None
    assert held is not None
    known = [keys.read_kept(each) for each in (*_places(target, copy.vkey).notes(), *kept)]
    most = max((each.size for each in known if each is not None), default=0)
    lost = max(0, most - held.size)
    if lost and not accept_loss:
        raise RestoreRefused(
            f"the copy of {copy.vkey.name} lacks {lost} records that were acknowledged",
            found=f"{held.size} records in the copy, {most} known",
            accepted="a newer copy; or --accept-loss, when there is none",
            next_step="docs/runbooks/restore-refused.md",
        )
    return lost


def _verified(
    target: Target, copies: Sequence[Copy], kept: list[bytes], *, accept_loss: bool
) -> dict[str, Report]:
    """The reports of the copies as a set; each must be without any finding.

    Raises:
        RestoreRefused: one is not. What the copy lacks is no finding once it was accepted.
    """
    seen = [
        inspect(
            Folder(_staged(target, copy.vkey)),
            copy.vkey,
            kept=_of_its_time(copy, target, kept),
        )
        for copy in copies
    ]
    reports = judge_all(seen)
    found = [(origin, finding) for origin, report in reports.items() for finding in report.findings]
    sound = {
        each.vkey.name: Sound.now(
            each.vkey, each.read, reports[each.vkey.name].size, each.registered
        )
        for each in seen
        if reports[each.vkey.name].intact
    }
    for origin, code, where in writers.judge(sound, reports):
        if code not in ("log-absent", "writer-silent") and not (
            accept_loss and code == "cut-short"
        ):
            found.append((origin, Finding(code, where, FINDINGS[code])))
    for origin, finding in found:
        raise RestoreRefused(
            f"the copy of {origin} does not verify: {finding}",
            found=f"{len(found)} findings in {len(copies)} logs",
            accepted="a copy that verifies",
            next_step="docs/runbooks/audit-finding.md",
        )
    return reports


def _of_its_time(copy: Copy, target: Target, kept: list[bytes]) -> list[bytes]:
    """The remembered checkpoints that the copy can be compared with: `_lost` judged the others."""
    keys, note = rotation.follow(Folder(_staged(target, copy.vkey)), copy.vkey)
    held = keys.read(note) if note else None
    return [
        each
        for each in (*_places(target, copy.vkey).notes(), *kept)
        if (known := keys.read_kept(each)) and held and known.size <= held.size
    ]


def _put_in_place(target: Target, copy: Copy, report: Report) -> None:
    """Steps 4 and 5."""
    staged, folder = _staged(target, copy.vkey), target.folder_of(copy.vkey)
    target.trust.mkdir(parents=True, exist_ok=True)
    _, writer, stream = names_of(copy.vkey)
    pin = pin_path(target.trust, writer, stream)
    if not pin.exists():
        _write(pin, f"{copy.vkey}\n".encode())
        RealDisk(target.trust).sync(pin.name)
        RealDisk(target.trust).sync(".")
    _write(staged / journal.PATH, journal.base_frame(report.size, report.root))
    RealDisk(staged).sync(journal.PATH)
    RealDisk(staged).sync(".")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        folder.rmdir()
    staged.rename(folder)
    RealDisk(folder.parent).sync(".")
    RealDisk(target.audit).sync(".")
    _forget_what_is_lost(_places(target, copy.vkey), report.size)
    newest = rotation.newest(Folder(folder), copy.vkey)
    remembered.keep(_places(target, copy.vkey).own[0], report.checkpoint, newest)


def _forget_what_is_lost(places: Places, size: int) -> None:
    """Put aside what shows more than the copy has; it stays the proof that there was more."""
    keys = rotation.history(Folder(places.folder), places.vkey)
    for path in (*places.own, *places.others):
        note = path.read_bytes() if path.exists() else b""
        known = keys.read_kept(note) if note else None
        if known is not None and known.size > size:
            path.rename(path.with_name(f"{path.name}{LOST}"))


def _reopened(
    target: Target,
    copies: Sequence[Copy],
    reports: dict[str, Report],
    clock: Clock,
    source: str,
) -> set[str]:
    """Step 6, for each log whose private key is here.

    Raises:
        HistorySplit, LogKeyUnusable: the private key is not the log's own. It is back all the
            same, to be read.
    """
    done = set()
    for copy in copies:
        site, writer, stream = names_of(copy.vkey)
        if not (target.keys / f"{writer}-{stream}{KEY_SUFFIX}").exists():
            continue
        opened = (target.audit, target.keys, writer, site, clock)
        with Trail.open(*opened, trust=target.trust, streams=(stream,)) as trail:
            trail.note_restored({stream: reports[copy.vkey.name].size}, source)
        done.add(copy.vkey.name)
    return done
