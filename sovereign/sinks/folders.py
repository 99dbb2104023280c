"""A folder of folders, each an item that goes as a whole.

Exports, backups, blocks of a time series, versions of a policy: what is in one belongs together,
so half of it must not be left. How old one is, and whether it may go at all, its kind says.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path

from sovereign.retention import Item
from sovereign.sinks import safely
from sovereign.sinks.files import changed, look_at
from sovereign.sinks.model import CHANGED, NotErased, Placed, Seen
from sovereign.sinks.safely import Entry


@dataclass(frozen=True, slots=True)
class Aged:
    """What is known of one folder: the times of the oldest and the newest in it.

    `held` is never due: something else still needs it. `kept` is another class than the sink's.
    """

    oldest: datetime
    newest: datetime
    held: bool = False
    kept: str = ""


Judge = Callable[[Path, Entry], Aged | None]
"""The ages of a folder; None when it is none of this kind."""


def by_change(_: Path, entry: Entry) -> Aged | None:
    """As old as the folder's own last change says."""
    return Aged(changed(entry), changed(entry)) if entry.is_folder else None


@dataclass(frozen=True, slots=True)
class Folders:
    """What stands right below `root` and matches one of `names`, each judged by its kind.

    `kept_from` says why nothing may be erased here now, "" when it may; `wrong` what keeps these
    folders for too long by itself.
    """

    name: str
    kept: str
    root: Path
    judge: Judge = by_change
    names: tuple[str, ...] = ("*",)
    plain: bool = True
    absent: str = ""
    kept_from: Callable[[], str] = str
    wrong: Callable[[int | None], tuple[str, ...]] = lambda _: ()

    def look(self) -> Seen:
        """Whether the folder is there and can be listed."""
        return Seen("absent", self.absent) if self.absent else look_at(self.root)

    def items(self) -> Iterator[Item]:
        """Each folder of this kind, in no order."""
        try:
            for entry in safely.listed(self.root):
                named = any(fnmatchcase(entry.path, rule) for rule in self.names)
                aged = self.judge(self.root, entry) if named else None
                if aged is not None:
                    yield self._item(entry, aged)
        except FileNotFoundError:
            return

    def _item(self, entry: Entry, aged: Aged) -> Placed:
        return Placed(
            self.name,
            entry.path,
            aged.kept or self.kept,
            aged.oldest,
            max(aged.oldest, aged.newest),
            held=aged.held,
            mark=entry.mark,
        )

    def claims(self, path: Path) -> bool:
        """Whether a file stands in a folder that is one by its name."""
        if not path.is_relative_to(self.root):
            return False
        parts = path.relative_to(self.root).parts
        return len(parts) > 1 and any(fnmatchcase(parts[0], rule) for rule in self.names)

    def refusal(self, item: Item) -> str:
        """Why it could not be erased now."""
        return self.kept_from() or safely.refusal(self.root, item.id)

    def erase(self, item: Item) -> None:
        """Remove the folder and all that is in it."""
        if not isinstance(item, Placed):
            raise NotErased(CHANGED)
        reason = self.kept_from()
        if reason:
            raise NotErased(reason)
        safely.erase(self.root, item.id, item.mark)

    def sync(self) -> None:
        """Sync the folder."""
        safely.sync(self.root, "")

    def settle(self) -> None:
        """Remove what a killed run had begun to remove."""
        if not self.absent:
            safely.settle(self.root)

    def faults(self, max_days: int | None) -> tuple[str, ...]:
        """What keeps these folders for longer by its own settings."""
        return self.wrong(max_days)
