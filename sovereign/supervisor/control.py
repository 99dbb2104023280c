"""Start, find and stop the supervisor of a home. Silent when there is nothing to do."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec

from sovereign import host
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
    return _last_state(home) if is_up(home) else None


def _last_state(home: Home) -> State | None:
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(state_file(home).read_bytes(), type=State)
    return None


def is_supervised(home: Home) -> bool:
    """True where a deployment of ours was begun; a managed host has services of its own."""
    return (
        lock_file(home).exists()
        or (home.run / "deployed.json").exists()
        or (not home.file.exists())
    )


def serves(home: Home, name: str, address: str) -> bool:
    """True while the running child of this name, or what it started, listens on `address`.

    A port says nothing of who answers there: any program of this machine may have taken it.
    """
    known = state(home)
    children = known.children if known else []
    pids = [c.pid for c in children if c.name == name and c.state == "running"]
    return bool(pids) and _group_at(address) in pids


def _group_at(address: str) -> int:
    """The process group that listens on `address`, 0 when it cannot be seen; each child is one."""
    pid = host.observe(address, []).pid
    with suppress(ProcessLookupError):
        return os.getpgid(pid) if pid else 0
    return 0


def refuse_taken(home: Home) -> None:
    """Look whether gateway and engine can listen, before anything is started or stopped.

    An address that a child of this home holds is not taken: that child ends first.

    Raises:
        ProcessFailed: another program listens there, or this machine cannot.
    """
    known = _last_state(home)
    ours = {child.pid for child in known.children} - {0} if known else set()
    gateway, engine = home.settings.gateway.listen, home.settings.engine.listen
    for setting, address in (("gateway.listen", gateway), ("engine.listen", engine)):
        try:
            _listen(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and _group_at(address) in ours:
                continue
            raise ProcessFailed(
                f"nothing of ours can listen on {address} ({setting})",
                found=error.strerror or type(error).__name__,
                next_step=_another(setting, address.rpartition(":")[2]),
            ) from error


def _listen(address: str) -> None:
    at, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in at else socket.AF_INET
    socket.create_server((at.strip("[]"), int(port)), family=family).close()


def _another(setting: str, port: str) -> str:
    choose = f"set {setting} in sovereign.yaml"
    if setting == "gateway.listen":
        choose = "make deploy LISTEN=127.0.0.1:PORT"
    return f"ss -ltnp 'sport = :{port}' shows who does; end it, or {choose}"


def up(home: Home) -> bool:
    """Start the supervisor in a session of its own; False when one was up already.

    Raises:
        ProcessFailed: an address is taken, or it did not take its lock in time; its log says why.
    """
    if is_up(home):
        return False
    refuse_taken(home)
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
