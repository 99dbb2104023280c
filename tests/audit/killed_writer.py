"""A writer under load, to be killed: `python -m tests.audit.killed_writer FOLDER FIRST SEED`.

Several threads append bursts of records and wait for each burst. Before a burst is appended its
numbers are announced on standard output (`+FIRST END`), and each acknowledgement is told there
(`=NUMBER INDEX`) by the log's own thread: what stands in the pipe when the process dies has
happened. Publishing and settling come often, so that a kill meets every step of them.
"""

import os
import sys
import threading
from hashlib import sha256
from itertools import count
from pathlib import Path

from sovereign.audit import log
from sovereign.audit.disk import RealDisk
from sovereign.audit.log import Log, utcnow
from sovereign.errors import LogUnwritable
from tests.audit.scenario import KEY, completion

WRITERS = 4
BURST_MAX = 300
LIVES_AT_MOST_S = 60.0


def chance(*of: object) -> float:
    """A number from 0 up to 1 that the same words give again."""
    return int.from_bytes(sha256(repr(of).encode()).digest()[:8], "big") / 2**64


class Burst:
    """Tells of each acknowledgement, and lets its thread go on after the last."""

    def __init__(self, numbers: range) -> None:
        self._lacking = len(numbers)
        self.done = threading.Event()

    def waiter(self, number: int) -> "_One":
        return _One(self, number)

    def count(self) -> None:
        self._lacking -= 1
        if self._lacking == 0:
            self.done.set()


class _One:
    def __init__(self, burst: Burst, number: int) -> None:
        self._burst = burst
        self._number = number

    def acknowledged(self, index: int) -> None:
        os.write(1, f"={self._number} {index}\n".encode())
        self._burst.count()

    def failed(self, error: LogUnwritable) -> None:
        os.write(1, b"!failed\n")


def main() -> None:
    """Append until killed."""
    folder, first, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    log.PUBLISH_EVERY_S = (0.0, 0.005, 0.05)[int(3 * chance(seed, "publish"))]
    log.JOURNAL_MAX_BYTES = (20_000, 200_000, 8 * 1024 * 1024)[int(3 * chance(seed, "journal"))]
    target = Log(RealDisk(folder), KEY, utcnow)
    numbers = threading.Lock()
    upto = first

    def write(writer: int) -> None:
        nonlocal upto
        for turn in count():
            with numbers:
                burst = range(upto, upto + 1 + int(BURST_MAX * chance(seed, writer, turn)))
                upto = burst.stop
                os.write(1, f"+{burst.start} {burst.stop}\n".encode())
            told = Burst(burst)
            for number in burst:
                target.append("completion", completion(number), told.waiter(number))
            told.done.wait(LIVES_AT_MOST_S)

    for each in range(WRITERS):
        threading.Thread(target=write, args=[each], daemon=True).start()
    threading.Event().wait(LIVES_AT_MOST_S)
    os._exit(1)  # nobody killed us: this is not what was to be tested


if __name__ == "__main__":
    main()
