"""Bring a set of weights in. The story, with what a crash leaves behind:

 1. The licence lets the model serve here, and the source is at a     nothing
    place that may hold weights.
 2. The manifest is read, is the pinned one, and names nothing        nothing
    that may not be served.
 3. Each file is read into `.coming/HEX/NAME.part`, and gets its      parts, and files that are
    name once its hash is the manifest's (`bringing.py`).             whole: the next run goes on
 4. The contents are judged (`contents.py`); a set that is refused    as 3
    is removed.
 5. Everything is synced, and `weights-fetched` is recorded.          a record of a set that is
                                                                      not there; run it again
 6. The folder gets its name.                                         the set

What was there before a run is hashed again: only bytes that were just seen count.
"""

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sovereign import acknowledged, licence
from sovereign.audit.disk import RealDisk
from sovereign.audit.trail import Recorded, Trail
from sovereign.errors import WeightsDiffer, WeightsUnfetched, WeightsUnsafe
from sovereign.policy import Policy
from sovereign.policy.shapes import Model
from sovereign.settings import Home
from sovereign.weights import contents, store
from sovereign.weights.bringing import SPARE_BYTES, Pace, Told, as_unfetched, bring
from sovereign.weights.manifest import Manifest, digest_of, parse
from sovereign.weights.sources import Source
from sovereign.weights.store import Stored

RECORD_TIMEOUT_S = 30.0
Opening = Callable[[], AbstractContextManager[Trail]]


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
    with as_unfetched():
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
    with as_unfetched():
        return sum(source.size(each.name) or 0 for each in manifest.entries)


def fetch(
    home: Home,
    policy: Policy,
    wish: Wish,
    manifest: Manifest,
    *,
    opening: Opening,
    told: Told,
    pace: Pace | None = None,
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
    with as_unfetched():
        coming.mkdir(parents=True, exist_ok=True)
    with _alone(coming):
        _refuse_full(coming, size(wish.source, manifest))
        bring(wish.source, manifest.entries, coming, pace or Pace(), told)
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
