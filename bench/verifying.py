"""Verify one log in a process of its own: `python -m bench.verifying FOLDER VKEY PROCESSES`.

Prints the seconds it took, the peak memory of this process and of the greatest of those it
started, in KB, and the size. The process starts before the clock does, and its workers after.
"""

import resource
import sys
import time
from pathlib import Path

from sovereign.audit import verify
from sovereign.audit.folder import Folder
from sovereign.audit.note import VerifierKey


def main() -> int:
    """Verify once; 1 when the log is not sound."""
    folder, vkey, processes = Path(sys.argv[1]), VerifierKey.parse(sys.argv[2]), int(sys.argv[3])
    began = time.perf_counter()
    read = Folder(folder) if processes > 1 else Folder(folder).__call__
    report = verify.verify(read, vkey)
    seconds = time.perf_counter() - began
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    others = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(seconds, own, others, report.size)
    return 0 if report.sound else 1


if __name__ == "__main__":
    sys.exit(main())
