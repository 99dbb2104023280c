"""The journal of systemd: what the services of a managed host print.

It erases by itself what is older than `MaxRetentionSec`, a file at a time, so its settings are
judged beside the ages of its files. What is overdue all the same is rotated and vacuumed by its own
program; whoever may not do that is told so.

A file says the times of its first and last entry in its header (systemd's journal file format,
`head_entry_realtime` at byte 184 and `tail_entry_realtime` at byte 192). No entry is read.
"""

import re
import struct
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sovereign.retention import Item
from sovereign.sinks import safely
from sovereign.sinks.files import look_at
from sovereign.sinks.model import CHANGED, NotErased, Placed, Seen
from sovereign.sinks.safely import Entry

NAME = "journal"
SUFFIXES = (".journal", ".journal~")
TAKES_AT_MOST_S = 120
_MAGIC, _HEADER_BYTES = b"LPKSHHRH", 200
_TIMES = struct.Struct("<QQ")
_TIMES_AT = 184
_UNITS = {"": 1, "s": 1, "sec": 1, "second": 1, "seconds": 1}
_UNITS |= dict.fromkeys(("m", "min", "minute", "minutes"), 60)
_UNITS |= dict.fromkeys(("h", "hr", "hour", "hours"), 3600)
_UNITS |= dict.fromkeys(("d", "day", "days"), 86_400)
_UNITS |= dict.fromkeys(("w", "week", "weeks"), 7 * 86_400)
_UNITS |= dict.fromkeys(("M", "month", "months"), 2_629_800)
_UNITS |= dict.fromkeys(("y", "year", "years"), 31_557_600)
"""Units of systemd.time(7); a month is 30.44 days there."""
_SPAN = re.compile(r"\s*([0-9]+)\s*([A-Za-z]*)")


@dataclass(frozen=True, slots=True)
class Journal:
    """The files below `root`, and what the settings under `etc` let them become.

    `absent` says why this site has no journal of its own.
    """

    root: Path
    etc: Path
    kept: str = "process-log"
    absent: str = ""
    programs: Mapping[str, str] | None = None
    name: str = NAME
    plain: bool = True

    def look(self) -> Seen:
        """Whether its folder is there and can be listed."""
        return Seen("absent", self.absent) if self.absent else look_at(self.root)

    def items(self) -> Iterator[Item]:
        """Each file with the times of its first and last entry.

        Raises:
            OSError: a file cannot be read, so its age is not known.
        """
        for entry in safely.walked(self.root, depth=2):
            if entry.is_file and entry.path.endswith(SUFFIXES):
                times = times_in(self.root, entry)
                if times is not None:
                    yield Placed(self.name, entry.path, self.kept, *times, mark=entry.mark)

    def claims(self, path: Path) -> bool:
        """Whether a file stands where the journal's do."""
        return path.is_relative_to(self.root) and path.name.endswith(SUFFIXES)

    def refusal(self, item: Item) -> str:
        """Whether this user may vacuum it."""
        return safely.refusal(self.root, item.id)

    def erase(self, item: Item) -> None:
        """Rotate, then vacuum what is as old as this; confirm that it is gone.

        Raises:
            NotErased: the journal's own program did not erase it.
        """
        if not isinstance(item, Placed):
            raise NotErased(CHANGED)
        active = "@" not in item.id
        if active:
            self._run("--rotate")
        seconds = max(1, int((datetime.now(UTC) - item.newest).total_seconds()))
        self._run(f"--directory={(self.root / item.id).parent}", f"--vacuum-time={seconds}s")
        left = (entry for entry in safely.walked(self.root, depth=2) if entry.path == item.id)
        if not active and any(entry.mark == item.mark for entry in left):
            raise NotErased("its own program left it in place")

    def _run(self, *words: str) -> None:
        try:
            done = subprocess.run(
                ["journalctl", "--quiet", *words],
                capture_output=True,
                env=self.programs,
                timeout=TAKES_AT_MOST_S,
                check=False,
            )
        except (FileNotFoundError, subprocess.TimeoutExpired) as error:
            raise NotErased(f"journalctl: {type(error).__name__}") from None
        if done.returncode:
            raise NotErased(f"journalctl {words[0].partition('=')[0]} ended with {done.returncode}")

    def sync(self) -> None:
        """The journal's own program sees to that."""

    def settle(self) -> None:
        """Nothing is left by halves: it erases whole files."""

    def faults(self, max_days: int | None) -> tuple[str, ...]:
        """What its settings let it keep for longer than the class allows; nothing of an empty one.

        Raises:
            OSError: it cannot be read.
        """
        if max_days is None or self.look().state == "absent" or not any(self.items()):
            return ()
        chosen = retention_s(self.etc)
        if not chosen:
            return ("MaxRetentionSec is not set: it keeps until its disk space is used up",)
        if chosen > max_days * 86_400:
            return (f"MaxRetentionSec is {chosen} s; the class allows {max_days} days",)
        return ()


def times_in(root: Path, entry: Entry) -> tuple[datetime, datetime] | None:
    """The times of a journal file's first and last entry; None when it has none, or is none."""
    above, _, name = entry.path.rpartition("/")
    with safely.opened(root, above) as folder:
        raw = safely.beginning(folder, name, _HEADER_BYTES)
    if len(raw) < _HEADER_BYTES or raw[:8] != _MAGIC:
        return None
    head, tail = _TIMES.unpack_from(raw, _TIMES_AT)
    if not head:
        return None
    return _at(head), max(_at(head), _at(tail))


def _at(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1e6, UTC)


def retention_s(etc: Path) -> int:
    """`MaxRetentionSec` as it is in force, in seconds; 0 where it is not set or means nothing.

    Files of `journald.conf.d` come after the main one, by name (systemd.conf(5)).
    """
    folders = [etc / "systemd", etc.parent / "run/systemd", etc.parent / "usr/lib/systemd"]
    dropped = {
        path.name: path
        for folder in reversed(folders)
        for path in sorted((folder / "journald.conf.d").glob("*.conf"))
    }
    main = next((f / "journald.conf" for f in folders if (f / "journald.conf").is_file()), None)
    found = 0
    for path in [*([main] if main else []), *(dropped[name] for name in sorted(dropped))]:
        for line in path.read_text(errors="replace").splitlines():
            name, _, value = line.partition("=")
            if name.strip() == "MaxRetentionSec":
                found = seconds_of(value)
    return found


def seconds_of(span: str) -> int:
    """A time span of systemd.time(7) in seconds: `30day`, `1month 2d`; 0 for what is none."""
    rest, total = span.strip(), 0
    while rest:
        match = _SPAN.match(rest)
        if match is None or match[2] not in _UNITS:
            return 0
        total += int(match[1]) * _UNITS[match[2]]
        rest = rest[match.end() :].strip()
    return total
