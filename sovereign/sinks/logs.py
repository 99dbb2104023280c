"""The bundles of the audit logs, each in the class of its stream.

A bundle is the smallest thing that can be erased of a log. It never changes once it is whole, so
its times are read once and remembered. Erasing one takes a receipt that names its range, which only
the controller writes: so this module lists and removes, and everything else about it is there.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from sovereign import fleet
from sovereign.audit import journal, record, tiles
from sovereign.audit.disk import RealDisk
from sovereign.audit.merkle import TILE_WIDTH
from sovereign.errors import RecordInvalid, TileDamaged
from sovereign.retention import Item
from sovereign.settings import Home
from sovereign.sinks import safely

PARTIAL = ".p/"
_ENTRIES = "tile/entries"
_GROUP = re.compile(r"x?[0-9]{3}", re.ASCII)


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


def items(home: Home, ages: Ages) -> Iterator[Item]:
    """Every bundle of every log of a site.

    Raises:
        TileDamaged: a bundle cannot be read.
        OSError: a folder cannot be.
    """
    for member in fleet.members(home):
        yield from _bundles(member, ages)


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


def is_whole_bundle(item: Item) -> bool:
    """True for what can be erased of an audit log: a bundle that nothing is added to any more."""
    return is_of_log(item) and PARTIAL not in item.id


def is_of_log(item: Item) -> bool:
    """True for a bundle, whole or not: the name of a log is `SITE/WRITER/STREAM`."""
    return "/" in item.sink


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
    """Remove a bundle's bytes; one that is gone already is fine.

    The folders are synced, so that a receipt never promises what a crash could undo. No link is
    followed on the way.
    """
    member = next(m for m in fleet.members(home) if m.origin == item.sink)
    remove(member.folder, item.id)


def remove(folder: Path, path: str) -> None:
    """Remove a bundle of the log in `folder`, and what it was before it was whole."""
    above, _, _ = path.rpartition("/")
    with suppress(FileNotFoundError), safely.opened(folder, above):
        for each in (f"{path}.p", path):
            safely.remove(folder, each)
        RealDisk(folder / above).sync(".")
