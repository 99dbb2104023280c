"""Everything a site keeps that has an age: what is there, and how to erase one item of it.

Two sinks so far: the bundles of the audit logs, each in the class of its stream, and the
dated logs of the processes. A sink that is not listed here would be kept for ever, so every
new one is added here and to `rules/retention.yaml` together.
"""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from sovereign import dated, fleet
from sovereign.audit import journal, record, tiles
from sovereign.audit.disk import RealDisk
from sovereign.audit.merkle import TILE_WIDTH
from sovereign.errors import RecordInvalid, TileDamaged
from sovereign.retention import Item
from sovereign.settings import Home

PROCESS_LOG = "process-log"
PARTIAL = ".p/"


def items(home: Home) -> Iterator[Item]:
    """Every item of every sink, as `retention.due` wants it.

    Raises:
        TileDamaged: a bundle cannot be read.
        OSError: a folder cannot be.
    """
    for member in fleet.members(home):
        yield from _bundles(member)
    yield from _process_logs(home.logs)


def _bundles(member: fleet.Member) -> Iterator[Item]:
    """The bundles still there; the unfinished one too, which ages but cannot be erased alone."""
    size = fleet.size_of(member) or 0
    for number in range(-(-size // TILE_WIDTH)):
        width = tiles.width_of(0, number, size)
        path = tiles.bundle_path(number, width)
        raw = fleet.reader(member.folder)(path)
        if raw is None:
            continue
        oldest, newest = _ages(member, path, raw)
        yield Item(member.origin, path, member.stream, oldest, newest)


def _ages(member: fleet.Member, path: str, bundle: bytes) -> tuple[datetime, datetime]:
    """Times of the first and last entry of a bundle.

    Raises:
        TileDamaged: it cannot be read, so nobody knows how old it is.
    """
    try:
        entries = tiles.unpack(bundle)
        return record.time_of(entries[0]), record.time_of(entries[-1])
    except (ValueError, IndexError, RecordInvalid):
        raise TileDamaged(
            f"{path} of {member.origin} cannot be read", next_step="sovereign audit verify"
        ) from None


def _process_logs(folder: Path) -> Iterator[Item]:
    there = folder.iterdir() if folder.is_dir() else ()  # a glob hides what may not be read
    for path in sorted(path for path in there if path.suffix == ".log"):
        newest = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        oldest = dated.day_of(path) or newest
        yield Item(PROCESS_LOG, path.name, PROCESS_LOG, oldest, max(newest, oldest))


def is_whole_bundle(item: Item) -> bool:
    """True for what can be erased of an audit log: a bundle that nothing is added to any more."""
    return item.sink != PROCESS_LOG and PARTIAL not in item.id


def is_settled(item: Item, home: Home) -> bool:
    """True when the entries of a whole bundle stand in no journal any more.

    The journal of a writer that died holds entries of bundles that are published already.
    Erasing such a bundle would erase nothing, and its writer could not take its log up again.
    """
    folder = next(m.folder for m in fleet.members(home) if m.origin == item.sink)
    raw = fleet.reader(folder)(journal.PATH)
    return raw is not None and entries_of(item)[1] < journal.parse(raw).base


def entries_of(item: Item) -> tuple[int, int]:
    """Index of the first and last entry of a whole bundle."""
    number = int(item.id.removeprefix("tile/entries/").replace("/", "").replace("x", ""))
    assert tiles.bundle_path(number) == item.id, f"{item.id} is no whole bundle"
    return number * TILE_WIDTH, (number + 1) * TILE_WIDTH - 1


def erase(item: Item, home: Home) -> None:
    """Remove an item's bytes; one that is gone already is fine.

    The folders are synced, so that a receipt never promises what a crash could undo.
    """
    if item.sink == PROCESS_LOG:
        (home.logs / item.id).unlink(missing_ok=True)
        RealDisk(home.logs).sync(".")
        return
    folder = next(m.folder for m in fleet.members(home) if m.origin == item.sink)
    whole = folder / item.id
    partials = whole.with_name(f"{whole.name}.p")
    if partials.is_dir():
        shutil.rmtree(partials)
    whole.unlink(missing_ok=True)
    RealDisk(whole.parent).sync(".")
