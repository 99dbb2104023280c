"""A writer that is killed with its journal full: `python -m bench.unfinished HOME BYTES`.

It appends until the journal holds almost `BYTES` (never so many that it settles), says how many
entries were acknowledged, and waits for its end. What it had acknowledged must be there
when the log is opened again.
"""

import os
import sys
import threading
from pathlib import Path

from bench.waiting import Counting, completion
from sovereign import settings
from sovereign.audit import journal
from sovereign.audit.disk import RealDisk
from sovereign.audit.log import Log, utcnow
from sovereign.audit.note import SignerKey
from sovereign.audit.trail import KEY_SUFFIX
from sovereign.settings import Home

WRITER, STREAM = "gateway", "event"
GROUP = 256
WAIT_FOR_THE_END_S = 60.0


def folder_of(home: Home) -> Path:
    """Where the log lies that the benchmark writes."""
    return home.audit / WRITER / STREAM


def opened(home: Home) -> Log:
    """Open that log as its only writer."""
    key = SignerKey.parse((home.keys / f"{WRITER}-{STREAM}{KEY_SUFFIX}").read_text())
    return Log(RealDisk(folder_of(home)), key, utcnow)


def main() -> None:
    """Fill the journal, tell, wait."""
    home, most = settings.load(Path(sys.argv[1])), int(sys.argv[2])
    path = folder_of(home) / journal.PATH
    log = opened(home)
    largest = before = 0
    now = path.stat().st_size
    while now + 2 * largest < most:
        group = Counting(GROUP)
        for number in range(GROUP):
            log.append("completion", completion(number), group)
        group.wait()
        before, now = now, path.stat().st_size
        largest = max(largest, now - before)
    print(log.size, now, flush=True)
    threading.Event().wait(WAIT_FOR_THE_END_S)
    os._exit(1)  # nobody killed us: what is opened now would not be what a crash leaves


if __name__ == "__main__":
    main()
