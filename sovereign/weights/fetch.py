"""Bring a set of weights in. The story, with what a crash leaves behind:

 1. The licence lets the model serve here, and the source is at a     nothing
    place that may hold weights.
 2. The manifest is read, is the pinned one, and names nothing        nothing
    that may not be served.
 3. Each file is read into `.coming/HEX/NAME.part`, and gets its      parts, and files that are
    name once its hash is the manifest's.                             whole: the next run goes on
 4. The contents are judged (`contents.py`); a set that is refused    as 3
    is removed.
 5. Everything is synced, and `weights-fetched` is recorded.          a record of a set that is
                                                                      not there; run it again
 6. The folder gets its name.                                         the set

What was there before a run is hashed again: only bytes that were just seen count.
"""

import errno
import fcntl
import http.client
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sovereign import acknowledged, licence
from sovereign.audit.disk import RealDisk
from sovereign.audit.trail import Recorded, Trail
from sovereign.engines.digest import model_digest
from sovereign.errors import ResidencyRefused, WeightsDiffer, WeightsUnfetched, WeightsUnsafe
from sovereign.policy import THIS_HOST, Policy
from sovereign.policy.shapes import Model
from sovereign.residency import Question, decide
from sovereign.settings import Home
from sovereign.weights import contents, store
from sovereign.weights.manifest import Entry, Manifest, digest_of, parse
from sovereign.weights.sources import FolderSource, MirrorSource, Source, address_of
from sovereign.weights.store import Stored

DATA, VERB = "weights", "store"
"""What a source does: weights lie there."""
MIRROR = "mirror"
ATTEMPTS_MAX = 5
"""A mirror that breaks off is asked for the rest so often in one run."""
SPARE_BYTES = 64 * 1024 * 1024
"""What is left free on the disk, for everything else on it."""
RECORD_TIMEOUT_S = 30.0
_OURS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
Opening = Callable[[], AbstractContextManager[Trail]]
Told = Callable[[str, int, int | None], None]
"""Name of a file, bytes of it that are here, and its size when somebody says it."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Which model's set, from where, under which digest."""

    model: Model
    source: Source
    pin: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """A set that is here now. `record` is None where it was here already, and is as it was."""

    manifest: Manifest
    path: Path
    record: Recorded | None


def source_of(home: Home, policy: Policy, given: str, now: datetime) -> Source:
    """The source that was named: a URL of a declared mirror, or a folder of this machine.

    Raises:
        BadInput: it is neither.
        ResidencyRefused: nobody declared the mirror, or its place may not hold weights.
    """
    if "://" not in given:
        _refuse_place(policy, home.settings.place, "", now)
        return FolderSource(Path(given), home.settings.place)

    def judge(url: str) -> tuple[str, str]:
        address = address_of(url)
        declared = (each for each in home.settings.dependencies if each.kind == MIRROR)
        known = next((each for each in declared if each.listener.lower() == address.lower()), None)
        if known is None:
            raise ResidencyRefused(
                "nobody has said where this mirror is; nothing was fetched from it",
                rule="default-deny",
                found=address[:120],
                accepted="a dependency of the kind mirror, with this listener and its place",
                next_step="declare it in sovereign.yaml (dependencies), or fetch from another",
            )
        place = known.place
        if not place and known.id in policy.dependencies:
            place = policy.dependencies[known.id].place
        _refuse_place(policy, place, address, now)
        return known.id, place

    label, place = judge(given)
    return MirrorSource(given, place, label, judge)


def _refuse_place(policy: Policy, place: str, address: str, now: datetime) -> None:
    if place == THIS_HOST and not address:
        return  # a disk of this machine, of which nobody said where it stands
    answer = decide(policy, Question(place, DATA, VERB, now, address))
    if not answer.allowed:
        raise ResidencyRefused(
            f"weights may not lie at {place or 'an unknown place'}; nothing was fetched",
            rule=answer.rule,
            because=answer.because,
            found=answer.found,
            next_step="fetch from a mirror in the EEA",
        )


def read(home: Home, policy: Policy, wish: Wish, now: datetime) -> Manifest:
    """The manifest of a wish that may be fulfilled: steps 1 and 2.

    Raises:
        LicenceRefused: the terms do not let it serve here.
        WeightsDiffer: the manifest is not the pinned one.
        WeightsUnsafe: it names what is not served.
        WeightsUnfetched: the source did not give it.
    """
    standing = acknowledged.standing(home, policy, wish.model.id)
    licence.refuse(licence.decide(policy, wish.model.id, standing, now), what="nothing was fetched")
    with _as_unfetched():
        raw = wish.source.manifest()
    if digest_of(raw) != wish.pin:
        raise WeightsDiffer(
            "the manifest of these weights is not the pinned one",
            found=digest_of(raw),
            accepted=wish.pin,
            next_step="compare it with the publisher's; pin another on purpose only",
        )
    return parse(raw)


def size(source: Source, manifest: Manifest) -> int:
    """What the files are said to take; those of which nobody says it count as nothing."""
    with _as_unfetched():
        return sum(source.size(each.name) or 0 for each in manifest.entries)


def fetch(
    home: Home, policy: Policy, wish: Wish, manifest: Manifest, *, opening: Opening, told: Told
) -> Fetched:
    """Steps 3 to 6, for a manifest that `read` gave. A set that is there is only looked at.

    `opening` opens the log, which is locked meanwhile: for the moment of the record, not for the
    hours before.

    Raises:
        WeightsDiffer: a file is not the one that the manifest names. It is not kept.
        WeightsUnsafe: the contents are refused. Nothing of the set is kept.
        WeightsUnfetched: it is not all here. What came is kept; the next run goes on.
        LogUnwritable: it could not be recorded, and so is not published.
    """
    coming = store.coming_of(home, wish.pin)
    path = store.path_of(home, wish.model.id, wish.pin)
    if path.is_dir():
        store.verify(Stored(wish.model.id, wish.pin, path))
        return Fetched(manifest, path, None)
    with _as_unfetched():
        coming.mkdir(parents=True, exist_ok=True)
    with _alone(coming):
        _refuse_full(coming, size(wish.source, manifest))
        for entry in manifest.entries:
            _bring(wish.source, entry, coming, told)
        _remove_others(coming, manifest)
        try:
            template = contents.check(coming, manifest)
        except WeightsUnsafe:
            shutil.rmtree(coming)
            raise
        taken = sum((coming / each.name).stat().st_size for each in manifest.entries)
        _synced(coming, manifest)
        with opening() as trail:
            recorded = _record(trail, policy, wish, manifest, template, taken)
        _publish(coming, path)
    return Fetched(manifest, path, recorded)


# --- step 3 -------------------------------------------------------------------------------------


def _bring(source: Source, entry: Entry, coming: Path, told: Told) -> None:
    """One file, whole and with its hash; what is there of it already is hashed again."""
    whole, part = coming / entry.name, coming / f"{entry.name}.part"
    whole.parent.mkdir(parents=True, exist_ok=True)
    if whole.is_file():
        if _is(whole, entry):
            return
        whole.unlink()
    resumed = part.is_file() and part.stat().st_size > 0
    if not resumed or not _is(part, entry):
        _attempts(source, entry, part, told)
    if resumed and not _is(part, entry):
        part.unlink()  # what was continued may have been of another file: once more, from nothing
        _attempts(source, entry, part, told)
    if not _is(part, entry):
        found = model_digest(part)
        part.unlink()
        raise WeightsDiffer(
            f"{entry.name} is not the file that the manifest names; it was not kept",
            found=found,
            accepted=f"sha256:{entry.sha256}",
            next_step="look at the source: it holds other bytes than were pinned",
        )
    part.rename(whole)


def _attempts(source: Source, entry: Entry, part: Path, told: Told) -> None:
    for attempt in range(1, ATTEMPTS_MAX + 1):
        before = part.stat().st_size if part.is_file() else 0
        try:
            _append(source, entry, part, told)
        except (OSError, http.client.HTTPException) as error:
            grew = part.is_file() and part.stat().st_size > before
            if _is_ours(error) or attempt == ATTEMPTS_MAX or not grew:
                raise _unfetched(error) from error
        else:
            return


def _append(source: Source, entry: Entry, part: Path, told: Told) -> None:
    start = part.stat().st_size if part.is_file() else 0
    opened = source.open(entry.name, start)
    with part.open("r+b" if part.is_file() else "w+b") as file:
        file.truncate(opened.start)
        file.seek(opened.start)
        here = opened.start
        for piece in opened.chunks:
            file.write(piece)
            here += len(piece)
            if shutil.disk_usage(part.parent).free < SPARE_BYTES:
                raise OSError(errno.ENOSPC, "the disk is full but for a reserve")
            told(entry.name, here, opened.size)


def _is(part: Path, entry: Entry) -> bool:
    return model_digest(part) == f"sha256:{entry.sha256}"


def _is_ours(error: Exception) -> bool:
    """This machine's own fault, such as a full disk: asking again changes nothing."""
    return isinstance(error, OSError) and error.errno in _OURS


def _refuse_full(coming: Path, needed: int) -> None:
    here = sum(each.stat().st_size for each in coming.rglob("*") if each.is_file())
    free = shutil.disk_usage(coming).free
    if needed - here + SPARE_BYTES > free:
        raise WeightsUnfetched(
            "the disk has no room for these weights; nothing was fetched",
            found=f"{free} bytes free",
            accepted=f"{needed - here + SPARE_BYTES} bytes",
            next_step="make room, then run it again",
        )


# --- steps 4 to 6 -------------------------------------------------------------------------------


def _remove_others(coming: Path, manifest: Manifest) -> None:
    """What an interrupted run of another shape left is no part of the set."""
    known = {coming / each.name for each in manifest.entries}
    for each in [*coming.rglob("*")]:
        if not each.is_dir() and each not in known:
            each.unlink()


def _synced(coming: Path, manifest: Manifest) -> None:
    disk, names = RealDisk(coming), [each.name for each in manifest.entries]
    for name in (*names, *{str(Path(name).parent) for name in names}, "."):
        disk.sync(name)


def _record(
    trail: Trail, policy: Policy, wish: Wish, manifest: Manifest, template: str, taken: int
) -> Recorded:
    inside = {"tokenizer": manifest.tokenizer, "template": template}
    return trail.record(
        "weights-fetched",
        model=wish.model.id,
        licence=wish.model.licence,
        digest=wish.pin,
        source=wish.source.label,
        place=wish.source.place,
        files=len(manifest.entries),
        bytes=taken,
        policy=policy.digest,
        **{name: value for name, value in inside.items() if value},
    ).result(RECORD_TIMEOUT_S)


def _publish(coming: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    coming.rename(path)
    RealDisk(path.parent).sync(".")


@contextmanager
def _alone(coming: Path) -> Iterator[None]:
    """Two runs at once would write into one file."""
    with coming.with_name(f"{coming.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise WeightsUnfetched(
                "another run brings the same weights", found="its lock"
            ) from None
        yield


@contextmanager
def _as_unfetched() -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        raise _unfetched(error) from error


def _unfetched(error: Exception) -> WeightsUnfetched:
    said = (error.strerror if isinstance(error, OSError) else "") or type(error).__name__
    return WeightsUnfetched(
        "the weights are not all here; what came is kept",
        found=said,
        next_step="run it again: it goes on from there",
    )
