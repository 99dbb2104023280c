"""What was used this month, known again after every stop and crash.

The log is the one home of it: every completion names its decision, and says how many tokens it
took. To read a month of it at every start would take too long, so now and then its sums are noted
in a file, with the last decision that they may hold and those of before that had not ended. What
came later is read out of the log. A note that is missing, or of another log, costs that reading and
nothing else; what was acknowledged is never lost.

Lost in a crash: nothing that was answered. A call that was interrupted has no completion, so it
has used nothing. KNOWN: a call that an engine worked for without saying how much (its client hung
up) is charged for its prompt by a guess, but its completion says 0 there, so a restart forgets it.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from sovereign import eventlog, fleet
from sovereign.audit import search as searching
from sovereign.audit.search import Hit, Source, Wanted
from sovereign.limits.accounts import Moment
from sovereign.limits.tally import Counting, Row, Tally, Used
from sovereign.limits.windows import day_of, days_of, starts
from sovereign.settings import Home

NOTED_EVERY_S = 30
FILE_NAME = "used.json"
WRITER, STREAM = "gateway", "event"
_Line = tuple[int, str, str, str, int, int, int]


class Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The sums of the decisions up to `last`, but for those in `unended`."""

    origin: str
    last: int
    unended: tuple[int, ...]
    rows: tuple[_Line, ...]


class History:
    """The tally of this month, and which decisions it lacks."""

    def __init__(self, home: Home, now: Moment) -> None:
        """Read what there is, on the disk and in the log."""
        self._path = home.run / FILE_NAME
        self._source = _log_of(home)
        self.tally = Tally()
        self._unended: set[int] = set()
        self._last = -1
        self._changed = False
        self._read(now)

    def begins(self, index: int) -> None:
        """A call was let through by the decision at `index`."""
        self._unended.add(index)
        self._last = max(self._last, index)

    def ends(self, index: int) -> None:
        """What that call used is in the tally."""
        self._unended.discard(index)
        self._changed = True

    def _read(self, now: Moment) -> None:
        first_day = _month(now)
        source, note = self._source, self._noted()
        if source is None:
            return
        if note is not None and (note.origin != source.origin or note.last >= source.size):
            note = None  # of another log, or of this one before it was put back from a copy
        if note is not None:
            for day, tenant, key, model, *numbers in note.rows:
                self.tally.add(Row(day, tenant, key, model), Used(*numbers))
            counting = Counting(self.tally, note.last + 1, note.unended)
            wanted = Wanted(first=min((*note.unended, note.last + 1)))
        else:
            counting = Counting(self.tally)
            wanted = Wanted(since=datetime.fromtimestamp(starts(first_day), UTC))
        read = 0
        for found in searching.search(source, wanted, searching.span(source, wanted)):
            if isinstance(found, Hit):
                counting.see(found.index, found.fields)
                read += 1
        self._last = max(counting.last, source.size - 1)
        self.tally.forget_before(first_day)
        eventlog.emit("limits-read", records=read, noted=note is not None)

    def _noted(self) -> Note | None:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Note)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None

    async def run(self, clock: Callable[[], Moment]) -> None:
        """Note what is used every `NOTED_EVERY_S` seconds, for ever."""
        while True:
            await asyncio.sleep(NOTED_EVERY_S)
            await self.write(clock())

    async def write(self, now: Moment) -> None:
        """Note what is used now, off the event loop; a disk that says no is told about and left."""
        if not self._changed or self._source is None:
            return
        self._changed = False
        self.tally.forget_before(_month(now))
        rows = tuple((*row, *used) for row, used in self.tally.rows.items())
        note = Note(self._source.origin, self._last, tuple(sorted(self._unended)), rows)
        try:
            await asyncio.to_thread(_replace, self._path, msgspec.json.encode(note))
        except OSError as error:
            self._changed = True
            eventlog.emit("limits-not-noted", reason=error.strerror or type(error).__name__)


def _month(now: Moment) -> int:
    return days_of("month", day_of(now.s))[0]


def _log_of(home: Home) -> Source | None:
    """This gateway's own log of events, as far as it is published; None where there is none."""
    for member in fleet.members(home):
        if (member.writer, member.stream) == (WRITER, STREAM):
            return fleet.source(member)
    return None


def _replace(path: Path, content: bytes) -> None:
    """Whole or not at all; what tears is read as missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with suppress(BlockingIOError):
            os.write(fd, content)
        os.fsync(fd)
    finally:
        os.close(fd)
    fresh.replace(path)
