"""Start, find and stop the supervisor of a home. Silent when there is nothing to do."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec

from sovereign.errors import ProcessFailed
from sovereign.settings import Home
from sovereign.supervisor.watch import STOP_S, State, lock_file, passed_on, state_file

STARTED_WITHIN_S = 10.0
POLL_S = 0.1
_UNSAID = "a supervisor is up and did not say what it is"
START_LOG = "supervisor.start.log"
"""What the supervisor says before it has a log of its own; begun anew at each start."""


def is_up(home: Home) -> bool:
    """True while a supervisor holds this home's lock."""
    path = lock_file(home)
    if not path.exists():
        return False
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def state(home: Home) -> State | None:
    """What the running supervisor last wrote, None when none is up."""
    if not is_up(home):
        return None
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(state_file(home).read_bytes(), type=State)
    return None


def up(home: Home) -> bool:
    """Start the supervisor in a session of its own; False when one was up already.

    Raises:
        ProcessFailed: it did not take its lock in time; its log says why.
    """
    if is_up(home):
        return False
    home.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    state_file(home).unlink(missing_ok=True)
    with (home.logs / START_LOG).open("wb") as log:
        subprocess.Popen(
            [sys.executable, "-m", "sovereign", "serve", "all", "--home", str(home.root)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=passed_on(os.environ),
            start_new_session=True,
            cwd="/",
        )
    _wait(lambda: state(home) is not None, STARTED_WITHIN_S, "the supervisor did not start", home)
    return True


def down(home: Home) -> bool:
    """Stop the supervisor and its children; False when none was up.

    Raises:
        ProcessFailed: it is still up after three times the longest stop of a child.
    """
    if not is_up(home):
        return False
    _wait(lambda: state(home) is not None or not is_up(home), STARTED_WITHIN_S, _UNSAID, home)
    known = state(home)
    if known is not None:
        with suppress(ProcessLookupError):
            os.kill(known.pid, signal.SIGTERM)
    _wait(lambda: not is_up(home), 3 * STOP_S, "the supervisor did not stop", home)
    return True


def _wait(done: Callable[[], bool], seconds: float, failure: str, home: Home) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise ProcessFailed(
                f"{failure} within {seconds:.0f} s", next_step=f"read {home.logs}/supervisor.*.log"
            )
        time.sleep(POLL_S)
