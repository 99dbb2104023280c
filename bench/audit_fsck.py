"""Tessera's own checker of a log, where the tests built it: `python -m tests.tools.tessera`."""

import os
import subprocess
import time
from pathlib import Path

from bench.figures import CheckFailed
from sovereign.audit.note import VerifierKey
from sovereign.engines.installed import cache_folder

FSCK_WITHIN_S = 300.0
FSCK_WORKERS = 2


def fsck() -> Path | None:
    """Tessera's checker, where the tests built it."""
    built = [p for p in cache_folder(os.environ).glob("tessera-*/fsck") if os.access(p, os.X_OK)]
    return max(built, key=lambda path: path.stat().st_mtime, default=None)


def timed_fsck(checker: Path, folder: Path, vkey: VerifierKey, work: Path) -> float:
    """Seconds in which it checks a log of ours, its start included.

    Raises:
        CheckFailed: it does not accept the log, or takes too long.
    """
    public = work / "log.pub"
    public.write_text(f"{vkey}\n")
    command = [
        *(str(checker), f"--storage_url={folder.as_uri()}/", f"--public_key={public}"),
        *("--ui=false", "-N", str(FSCK_WORKERS)),
    ]
    began = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, timeout=FSCK_WITHIN_S, check=False)
    except subprocess.TimeoutExpired:
        raise CheckFailed("Tessera's fsck took too long") from None
    seconds = time.perf_counter() - began
    if done.returncode != 0:
        raise CheckFailed(f"Tessera's fsck refuses the log: {done.stderr.decode()[-500:]}")
    return seconds
