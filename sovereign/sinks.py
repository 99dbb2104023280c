"""Everything a site keeps that has an age: what is there, and how to erase one item of it.

Two sinks so far: the bundles of the audit logs, each in the class of its stream, and the
dated logs of the processes. A sink that is not listed here would be kept for ever, so every
new one is added here and to `rules/retention.yaml` together. The copies of legal holds have an
end and no age: they are in `holds.py`.
"""

import os
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from sovereign import dated, fleet
from sovereign.audit import journal, record, tiles
from sovereign.audit.disk import RealDisk
from sovereign.audit.erasures import Limits, Rules
from sovereign.audit.merkle import TILE_WIDTH
from sovereign.errors import RecordInvalid, TileDamaged
from sovereign.policy import Policy
from sovereign.policy.shapes import RetentionClass
from sovereign.retention import Item
from sovereign.settings import Home

PROCESS_LOG = "process-log"
PARTIAL = ".p/"
_ENTRIES = "tile/entries"
_GROUP = re.compile(r"x?[0-9]{3}", re.ASCII)


def limits_of(kept: RetentionClass) -> Limits:
    """A class's limits as receipts state them."""
    maximum = None if kept.max_days == "unlimited" else kept.max_days
    return Limits(kept.min_days, maximum, kept.interval_hours)


def rules_of(policy: Policy, now: datetime) -> Rules:
    """What `audit verify` judges erasures by."""
    return Rules(policy.digest, {k: limits_of(v) for k, v in policy.retention.items()}, now)


class Ages:
    """The times of whole bundles. A bundle never changes, so each is read once.

    Nothing of it is stored: it is made again out of the logs. What is gone from them is gone
    from here after the next look. A bundle takes about 300 bytes of memory.
    """

    def __init__(self) -> None:
        self._known: dict[str, dict[int, tuple[datetime, datetime]]] = {}

    def learn(self, home: Home, at_most: int) -> bool:
        """Read the times of so many bundles that are not known yet; True when all are known.

        Raises:
            TileDamaged: one cannot be read, so nobody knows how old it is.
        """
        left = at_most
        for member in fleet.members(home):
            known = self._known.setdefault(member.origin, {})
            for number in present(member):
                if number in known:
                    continue
                if left == 0:
                    return False
                left -= 1
                self.of(member, number)
        return True

    def of(self, member: fleet.Member, number: int) -> tuple[datetime, datetime] | None:
        """The times of one whole bundle; None when it has just gone.

        Raises:
            TileDamaged: it cannot be read.
        """
        known = self._known.setdefault(member.origin, {})
        if number not in known:
            found = _ages_at(member, tiles.bundle_path(number))
            if found is None:
                return None
            known[number] = found
        return known[number]

    def forget_all_but(self, origin: str, there: list[int]) -> None:
        """Keep nothing of bundles that are gone."""
        known = self._known.get(origin, {})
        if len(known) > len(there):
            self._known[origin] = {n: known[n] for n in there if n in known}


def present(member: fleet.Member) -> list[int]:
    """The numbers of a log's whole bundles that are still there, in order, up to its checkpoint.

    One look at each folder, without opening a file: a log of 40,000 bundles takes about 30 ms.

    Raises:
        OSError: a folder cannot be read.
    """
    below = (fleet.size_of(member) or 0) // TILE_WIDTH
    found = _numbers(member.folder / _ENTRIES, 0)
    return sorted(number for number in found if number < below)


def _numbers(folder: Path, above: int) -> Iterator[int]:
    """Numbers written as `tiles.number_path` does, below a folder that stands for `above`."""
    try:
        listed = os.scandir(folder)
    except FileNotFoundError:
        return
    with listed:
        for entry in listed:
            if not _GROUP.fullmatch(entry.name):
                continue
            number = above * 1000 + int(entry.name[-3:])
            if entry.name.startswith("x"):
                yield from _numbers(folder / entry.name, number)
            else:
                yield number


def items(home: Home, ages: Ages | None = None) -> Iterator[Item]:
    """Every item of every sink, as `retention.due` wants it.

    Args:
        ages: what is known from an earlier look; without it every bundle is read.

    Raises:
        TileDamaged: a bundle cannot be read.
        OSError: a folder cannot be.
    """
    known = ages or Ages()
    for member in fleet.members(home):
        yield from _bundles(member, known)
    yield from _process_logs(home.logs)


def _bundles(member: fleet.Member, ages: Ages) -> Iterator[Item]:
    """The bundles still there; the unfinished one too, which ages but cannot be erased alone."""
    there = present(member)
    ages.forget_all_but(member.origin, there)
    for number in there:
        times = ages.of(member, number)
        if times is not None:
            yield Item(member.origin, tiles.bundle_path(number), member.stream, *times)
    number, width = divmod(fleet.size_of(member) or 0, TILE_WIDTH)
    if width:
        path = tiles.bundle_path(number, width)
        times = _ages_at(member, path)
        if times is not None:
            yield Item(member.origin, path, member.stream, *times)


def _ages_at(member: fleet.Member, path: str) -> tuple[datetime, datetime] | None:
    """Times of the first and last entry of a bundle, the older one first; None when it is gone.

    Raises:
        TileDamaged: it cannot be read, so nobody knows how old it is.
    """
    raw = fleet.reader(member.folder)(path)
    if raw is None:
        return None
    try:
        entries = tiles.unpack(raw)
        first, last = record.time_of(entries[0]), record.time_of(entries[-1])
        return min(first, last), max(first, last)
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


def settled(member: fleet.Member) -> int:
    """How many entries of a log stand in its journal no more; 0 when there is no journal.

    The journal of a writer that died holds entries of bundles that are published already.
    Erasing such a bundle would erase nothing, and its writer could not take its log up again.
    """
    raw = fleet.reader(member.folder)(journal.PATH)
    return 0 if raw is None else journal.parse(raw).base


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
