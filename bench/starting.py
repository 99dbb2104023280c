"""How long the command line takes: to say its version, and to verify a log of three entries."""

import subprocess
import sys
import time
from pathlib import Path

from bench.audit_growing import Growing
from bench.figures import CheckFailed
from sovereign.audit.log import utcnow
from sovereign.audit.note import SignerKey

STARTS_WITHIN_S = 30.0


def starts(work: Path, times: int) -> dict[str, list[float]]:
    """Seconds of each start, from calling to its end, by what was called.

    Raises:
        CheckFailed: a command did not say yes.
    """
    log = Growing(work / "few", SignerKey.generate("bench/gateway/event"), utcnow)
    log.grow(3)
    verify = ["audit", "verify", str(log.folder), "--vkey", str(log.vkey)]
    return {
        "version": [_start(["--version"]) for _ in range(times)],
        "verify": [_start(verify) for _ in range(times)],
    }


def _start(words: list[str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "sovereign", *words],
        capture_output=True,
        timeout=STARTS_WITHIN_S,
        check=False,
    )
    seconds = time.perf_counter() - began
    if done.returncode != 0:
        raise CheckFailed(f"sovereign {words[0]} ended with {done.returncode}: {done.stderr!r}")
    return seconds
