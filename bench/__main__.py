"""`python -m bench NAME`: measure, check, write `bench/out/NAME.json`, and show the figures.

Exit codes: 0 measured; 1 a check failed, so nothing was written; 2 you asked wrongly.
"""

import argparse
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol

from bench import audit, audit_scale, controller, gateway, machine
from bench.figures import CheckFailed, Result, document, lines, write

OUT = Path(__file__).with_name("out")


class Benchmark(Protocol):
    """A function that measures; what it writes goes below `folder` and is removed again."""

    def __call__(self, folder: Path, *, quick: bool) -> Result:
        """Return the figures, or raise `CheckFailed`."""
        ...


BENCHMARKS: dict[str, Benchmark] = {
    "audit": audit.run,
    "controller": controller.run,
    "gateway": gateway.run,
    "scale": audit_scale.run,
}


def main(
    words: Sequence[str] | None = None, benchmarks: Mapping[str, Benchmark] = BENCHMARKS
) -> int:
    """Run what the command line names; see `--help`."""
    chosen = _arguments(words, benchmarks)
    if chosen.list:
        print("\n".join(benchmarks))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what we started ends too
    chosen.out.mkdir(parents=True, exist_ok=True)
    measure = benchmarks[chosen.name]
    if chosen.entries is not None:
        measure = partial(audit_scale.run, entries=chosen.entries)
    seen, began, at = machine.look(chosen.out), time.monotonic(), datetime.now(UTC)
    try:
        result = measure(chosen.out, quick=chosen.quick)
    except CheckFailed as failed:
        print(f"{chosen.name}: {failed}", file=sys.stderr)
        return 1
    seconds = time.monotonic() - began
    found = document(chosen.name, result, seen, began=at, seconds=seconds, quick=chosen.quick)
    path = write(chosen.out, found)
    print(f"{chosen.name}: {seconds:.0f} s, {path}")
    print("\n".join(lines(found)))
    return 0


def _arguments(
    words: Sequence[str] | None, benchmarks: Mapping[str, Benchmark]
) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure one thing.")
    parser.add_argument("name", nargs="?", choices=benchmarks, help="which benchmark")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--quick", action="store_true", help="phases of 2 s, to see that it works")
    parser.add_argument("--entries", type=int, help="of the greatest log, for scale alone")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for NAME.json")
    chosen = parser.parse_args(words)
    if not chosen.list and chosen.name is None:
        parser.error("say which benchmark, or --list")
    if chosen.entries is not None and (chosen.name != "scale" or chosen.entries < 1000):
        parser.error("--entries goes with scale, and is at least 1000")
    return chosen


if __name__ == "__main__":
    sys.exit(main())
