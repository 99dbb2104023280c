"""Step 3 of the story in `fetch.py`: every file of a set, a few at a time, no faster than allowed.

A file is read into `NAME.part` and gets its name once its hash is the manifest's. The first file
that cannot be had ends the run; what the others have brought so far is kept.
"""

import errno
import http.client
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sovereign.engines.digest import model_digest
from sovereign.errors import WeightsDiffer, WeightsUnfetched
from sovereign.weights.manifest import Entry
from sovereign.weights.sources import Source

ATTEMPTS_MAX = 5
"""A mirror that breaks off is asked for the rest so often in one run."""
SPARE_BYTES = 64 * 1024 * 1024
"""What is left free on the disk, for everything else on it."""
AT_ONCE = 4
_OURS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
Told = Callable[[str, int, int | None], None]
"""Name of a file, bytes of it that are here, and its size when somebody says it."""


@dataclass
class Pace:
    """How many files at once, and how many bytes a second all of them may take; 0 is no limit.

    `wait` is what a thread that is ahead of the limit does.
    """

    at_once: int = AT_ONCE
    bytes_per_s: float = 0
    wait: Callable[[float], object] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _free_at: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, count: int) -> None:
        """Return when so many bytes more are within the limit."""
        if not self.bytes_per_s:
            return
        with self._lock:
            begins = max(self._free_at, self.clock())
            self._free_at = begins + count / self.bytes_per_s
            ahead = self._free_at - self.clock()
        if ahead > 0:
            self.wait(ahead)


@dataclass(frozen=True)
class _Run:
    source: Source
    coming: Path
    pace: Pace
    told: Told
    over: threading.Event = field(default_factory=threading.Event)


def bring(source: Source, entries: Iterable[Entry], coming: Path, pace: Pace, told: Told) -> None:
    """Have every file in `coming`, whole and with its hash.

    Raises:
        WeightsDiffer: a file is not the one that the manifest names. It is not kept.
        WeightsUnfetched: one cannot be had now. What came is kept.
    """
    run = _Run(source, coming, pace, told)
    with ThreadPoolExecutor(max_workers=pace.at_once, thread_name_prefix="weights") as pool:
        waiting = [pool.submit(_bring, run, entry) for entry in entries]
        try:
            for done in as_completed(waiting):
                done.result()
        finally:
            run.over.set()
            pool.shutdown(wait=False, cancel_futures=True)


def _bring(run: _Run, entry: Entry) -> None:
    """One file, whole and with its hash; what is there of it already is hashed again."""
    whole, part = run.coming / entry.name, run.coming / f"{entry.name}.part"
    whole.parent.mkdir(parents=True, exist_ok=True)
    if whole.is_file():
        if _is(whole, entry):
            return
        whole.unlink()
    resumed = part.is_file() and part.stat().st_size > 0
    if not resumed or not _is(part, entry):
        _attempts(run, entry, part)
    if resumed and not _is(part, entry):
        part.unlink()  # what was continued may have been of another file: once more, from nothing
        _attempts(run, entry, part)
    if not _is(part, entry):
        found = model_digest(part)
        part.unlink()
        raise WeightsDiffer(
            f"{entry.name} is not the file that the manifest names; it was not kept",
            found=found,
            accepted=f"sha256:{entry.sha256}",
            next_step="look at the source: it holds other bytes than were pinned",
        )
    part.rename(whole)


def _attempts(run: _Run, entry: Entry, part: Path) -> None:
    for attempt in range(1, ATTEMPTS_MAX + 1):
        before = part.stat().st_size if part.is_file() else 0
        try:
            _append(run, entry, part)
        except (OSError, http.client.HTTPException) as error:
            grew = part.is_file() and part.stat().st_size > before
            if _is_ours(error) or attempt == ATTEMPTS_MAX or not grew:
                raise unfetched(error) from error
        else:
            return


def _append(run: _Run, entry: Entry, part: Path) -> None:
    start = part.stat().st_size if part.is_file() else 0
    opened = run.source.open(entry.name, start)
    with part.open("r+b" if part.is_file() else "w+b") as file:
        file.truncate(opened.start)
        file.seek(opened.start)
        here = opened.start
        for piece in opened.chunks:
            if run.over.is_set():
                raise WeightsUnfetched("another file could not be had", found=entry.name)
            run.pace.take(len(piece))
            file.write(piece)
            here += len(piece)
            if shutil.disk_usage(part.parent).free < SPARE_BYTES:
                raise OSError(errno.ENOSPC, "the disk is full but for a reserve")
            run.told(entry.name, here, opened.size)


def _is(part: Path, entry: Entry) -> bool:
    return model_digest(part) == f"sha256:{entry.sha256}"


def _is_ours(error: Exception) -> bool:
    """This machine's own fault, such as a full disk: asking again changes nothing."""
    return isinstance(error, OSError) and error.errno in _OURS


def unfetched(error: Exception) -> WeightsUnfetched:
    """What to say of a source, or a disk, that stopped in between."""
    said = (error.strerror if isinstance(error, OSError) else "") or type(error).__name__
    return WeightsUnfetched(
        "the weights are not all here; what came is kept",
        found=said,
        next_step="run it again: it goes on from there",
    )


@contextmanager
def as_unfetched() -> Iterator[None]:
    """What a source or a disk does not do is told as `weights-unfetched`."""
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        raise unfetched(error) from error
