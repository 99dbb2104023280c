"""Keep a process's output in one file a day, bounded in size, so that age means something.

A file's name says its day, so retention can erase by day without reading it. Past
`DAY_MAX_BYTES` the rest of the day is dropped, and the file says so.
"""

import io
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

DAY_MAX_BYTES = 16 * 1024 * 1024
_FULL = b"(the day's log is full; the rest is dropped)\n"


class DatedLog:
    """Appends to `FOLDER/NAME.YYYY-MM-DD.log`, in UTC."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def write(self, data: bytes, now: datetime) -> None:
        """Append what a process printed, as long as the day has room."""
        path = self._folder / f"{self._name}.{now.astimezone(UTC):%Y-%m-%d}.log"
        size = path.stat().st_size if path.exists() else 0
        if size >= DAY_MAX_BYTES:
            return
        with path.open("ab") as file:
            fits = size + len(data) <= DAY_MAX_BYTES
            file.write(data if fits else _FULL.rjust(DAY_MAX_BYTES - size))


class DatedStream(io.TextIOBase):
    """A dated log in the place of a process's own standard error."""

    def __init__(self, log: DatedLog, clock: Callable[[], datetime]) -> None:
        self._log = log
        self._clock = clock

    def write(self, text: str) -> int:
        """Append the text to the day's file at once."""
        self._log.write(text.encode(errors="replace"), self._clock())
        return len(text)


def day_of(path: Path) -> datetime | None:
    """The start of the day a log file is of, or None when it is not one of ours."""
    try:
        return datetime.strptime(path.name.split(".")[-2] + "+0000", "%Y-%m-%d%z")
    except (IndexError, ValueError):
        return None
