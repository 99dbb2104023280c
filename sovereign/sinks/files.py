"""A folder of files, each an item with an age of its own.

Logs of processes, of a proxy or of an engine, core files, histories of shells: they differ in where
they lie, in which names count and in what says their age. The name is believed before the disk's
time, where it says a day; so touching a file does not make it young.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

from sovereign import dated
from sovereign.retention import Item
from sovereign.sinks import safely
from sovereign.sinks.model import CHANGED, PRESENT, NotErased, Placed, Seen
from sovereign.sinks.safely import Entry

Age = Callable[[Path, Entry], datetime]
"""The time of the oldest that is in a file; the newest is its last change."""


def by_change(_: Path, entry: Entry) -> datetime:
    """When it was last changed: for what says nothing of itself."""
    return changed(entry)


def by_day(_: Path, entry: Entry) -> datetime:
    """The day in its name, `NAME.YYYY-MM-DD.log`; else when it was last changed."""
    return dated.day_of(Path(entry.path)) or changed(entry)


def changed(entry: Entry) -> datetime:
    """The disk's word on when a file was last written to."""
    return datetime.fromtimestamp(entry.found.st_mtime, UTC)


@dataclass(frozen=True, slots=True)
class Files:
    """Files below `root` whose last name matches one of `names`; `owners` empty: everybody's.

    `deep` also looks into folders. `absent` says why there is nothing to look for, "" where there
    is.
    """

    name: str
    kept: str
    root: Path
    names: tuple[str, ...] = ("*",)
    owners: frozenset[int] = frozenset()
    age: Age = by_change
    deep: bool = False
    plain: bool = True
    absent: str = ""
    _touched: set[str] = field(default_factory=set, compare=False)

    def look(self) -> Seen:
        """Whether the folder is there and can be listed."""
        if self.absent:
            return Seen("absent", self.absent)
        return look_at(self.root)

    def items(self) -> Iterator[Item]:
        """Each file that counts, in no order."""
        try:
            entries = safely.walked(self.root) if self.deep else safely.listed(self.root)
            yield from (self._item(entry) for entry in entries if self.covers(entry))
        except FileNotFoundError:
            return

    def covers(self, entry: Entry) -> bool:
        """Whether a file is one of this sink."""
        if entry.is_folder or (self.owners and entry.found.st_uid not in self.owners):
            return False
        return self._is_named(entry.path.rpartition("/")[2])

    def claims(self, path: Path) -> bool:
        """Whether a file that stands there is one by its name."""
        below = path.is_relative_to(self.root) if self.deep else path.parent == self.root
        return below and self._is_named(path.name)

    def _is_named(self, name: str) -> bool:
        return any(fnmatchcase(name, rule) for rule in self.names)

    def _item(self, entry: Entry) -> Placed:
        newest = changed(entry)
        oldest = self.age(self.root, entry)
        return Placed(
            self.name, entry.path, self.kept, oldest, max(newest, oldest), mark=entry.mark
        )

    def refusal(self, item: Item) -> str:
        """Why this user could not erase it."""
        return safely.refusal(self.root, item.id)

    def erase(self, item: Item) -> None:
        """Remove the file, if it is still the one that was listed."""
        if not isinstance(item, Placed):
            raise NotErased(CHANGED)
        safely.erase(self.root, item.id, item.mark)
        self._touched.add(item.id.rpartition("/")[0])

    def sync(self) -> None:
        """Sync each folder that something was erased in."""
        while self._touched:
            safely.sync(self.root, self._touched.pop())

    def settle(self) -> None:
        """A file goes in one step: nothing is left by halves."""

    def faults(self, max_days: int | None) -> tuple[str, ...]:
        """Nothing else keeps these files."""
        return ()


def look_at(root: Path) -> Seen:
    """Whether a folder is there and may be read; a link in its place is not followed."""
    try:
        with safely.opened(root) as folder, os.scandir(folder):
            return PRESENT
    except FileNotFoundError:
        return Seen("absent", "there is no such folder")
    except OSError as error:
        return Seen("unknown", f"it cannot be read: {error.strerror}")
