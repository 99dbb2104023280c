"""What a sink is: a place in which data age, and an adapter that lists, erases and confirms.

An adapter looks and acts; it never decides. What is too old is said by `retention.due`, what is
erased is recorded before (`controller/erasing.py`), and both are the same for every sink.

Nobody knows is an answer: a sink that cannot be read is `unknown`, never empty, and one that this
site does not have is `absent`, with the reason.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from sovereign.retention import Item

State = Literal["present", "absent", "unknown"]


@dataclass(frozen=True, slots=True)
class Seen:
    """Whether a sink is there, and why it is not or cannot be read."""

    state: State
    why: str = ""


PRESENT = Seen("present")
CHANGED = "it was changed or put in another's place since it was listed"


@dataclass(frozen=True, slots=True)
class Placed(Item):
    """An item with what it was when it was listed: another one in its place is not erased.

    `mark` is what the adapter tells one from another by: device, inode and time of change.
    """

    mark: tuple[int, ...] = ()


class NotErased(Exception):
    """The sink refuses: it says why, in words without names. The item is still there.

    Whoever erases catches it and says what was refused; it goes no further.
    """


class Sink(Protocol):
    """One place. `name` stands in receipts as the log, `kept` is the class of what is in it.

    `plain` says that the names of its items are ours, so that a record may show them; the names
    of others may hold personal data and are told as digests (`told.py`).
    """

    @property
    def name(self) -> str:
        """Its name, the same for ever: receipts have it."""
        ...

    @property
    def kept(self) -> str:
        """The class in `rules/retention.yaml`."""
        ...

    @property
    def plain(self) -> bool:
        """Whether names of items may be shown and recorded."""
        ...

    def look(self) -> Seen:
        """Whether it is there and can be read; never raises for what may not be seen."""
        ...

    def items(self) -> Iterator[Item]:
        """Each item with its age, one at a time: there may be millions.

        Raises:
            OSError, SovereignError: it cannot be read, so nobody knows how old it is.
        """
        ...

    def claims(self, path: Path) -> bool:
        """Whether a file that stands there would be, or be part of, an item. Nothing is opened."""
        ...

    def refusal(self, item: Item) -> str:
        """Why it could not be erased now, "" when nothing speaks against it. Nothing is changed."""
        ...

    def erase(self, item: Item) -> None:
        """Erase it; one that is gone already is fine. It is durable after `sync`.

        Raises:
            NotErased: it is another one by now, or the sink does not erase it.
            OSError: the disk said no; nothing or everything of it is gone.
        """
        ...

    def sync(self) -> None:
        """Make durable what was erased since the last time.

        Raises:
            OSError: the disk said no.
        """
        ...

    def settle(self) -> None:
        """End what a killed run had begun; nothing else is touched.

        Raises:
            OSError: the disk said no.
        """
        ...

    def faults(self, max_days: int | None) -> tuple[str, ...]:
        """What is set so that it would keep longer than `max_days`, in words of ours."""
        ...
