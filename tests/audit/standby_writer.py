"""A writer under load, to be killed: it prints what was acknowledged, a line each.

    python -m tests.audit.standby_writer HOME RECORDS

A line is `STREAM INDEX`, written only after the record was acknowledged and with a system call of
its own, so that whoever reads the lines knows no less than the writer told anybody.
"""

import os
import sys
from pathlib import Path

from sovereign import settings
from sovereign.audit.trail import Trail
from sovereign.registry import utcnow
from tests.audit.scenario import completion

AT_ONCE = 40


def main() -> None:
    home = settings.load(Path(sys.argv[1]))
    opened = (home.audit, home.keys, "gateway", home.settings.site, utcnow)
    with Trail.open(*opened, trust=home.trust) as trail:
        for number in range(0, int(sys.argv[2]), AT_ONCE):
            waiting = [trail.record("completion", **completion(number + i)) for i in range(AT_ONCE)]
            last = [future.result(30).index for future in waiting][-1]
            os.write(1, f"event {last}\n".encode())


if __name__ == "__main__":
    main()
