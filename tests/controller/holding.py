"""Hold a lease in a process of its own, say its number, and act on a word from standard input.

`python -m tests.controller.holding REGISTRY TERM_S`: prints the number, or `held` and ends with 3.
A line on standard input makes it write the registry under its number; it prints what came of it.
"""

import sys
from pathlib import Path

from sovereign.controller import lease
from sovereign.errors import LeaseHeld
from sovereign.registry import LeaseTaken, Registry, StalePlan


def main() -> int:
    """Hold it until standard input ends."""
    path, term_s = Path(sys.argv[1]), float(sys.argv[2])
    registry = Registry(path, writable=True)
    try:
        with lease.held(lease.path_of(path), registry, term_s) as turn:
            planned_on = registry.snapshot().generation
            print(turn.number, flush=True)
            for _ in sys.stdin:
                try:
                    print(registry.write([], planned_on=planned_on, lease=turn.number), flush=True)
                except (LeaseTaken, StalePlan) as error:
                    print(type(error).__name__, flush=True)
    except LeaseHeld:
        print("held", flush=True)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
