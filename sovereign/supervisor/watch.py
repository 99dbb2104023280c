"""Keep three processes running: start, restart with back-off, give up at a bound, stop.

One asyncio process holds a lock as long as it lives (so "is it up" is a question to the
kernel, not to a stale file), pumps each child's output into its dated log and writes what
it knows to `run/supervisor.json`. Giving up on a child is a state one can see, never a
silent end: the others go on, and the gateway refuses what the missing one was for.
"""

import asyncio
import ctypes
import fcntl
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from sovereign import eventlog
from sovereign.dated import DatedLog, DatedStream
from sovereign.settings import Home

CHILDREN = ("engine", "gateway", "controller")
STANDBY = "standby"
"""Sends the logs to a second machine; a child where one is set. It ends last: it sends the end."""
ENDS_MAX = 5
WINDOW_S = 120.0
"""After `ENDS_MAX` ends within `WINDOW_S` the child is given up."""
BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.5, 20.0
STOP_S = 30.0
LAST_WORDS_S = 2.0
"""How long the rest of a child's output is waited for once the child has ended."""
PIPE_READ_BYTES = 65_536
LOCK_TRIES, LOCK_TRY_S = 20, 0.05
"""Who asks whether a supervisor is up holds the lock for a moment."""
_PASSED_ON = (
    *("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH"),
    *("SOVEREIGN_HOME", "SOVEREIGN_CACHE", "SOVEREIGN_OLLAMA", "SOVEREIGN_VLLM"),
    *("XDG_STATE_HOME", "XDG_CACHE_HOME", "LC_ALL", "LC_CTYPE", "CREDENTIALS_DIRECTORY"),
)
"""By name, not by prefix: a key of a client is often called SOVEREIGN_something too."""
_PRCTL = ctypes.CDLL(None).prctl
_DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


class ChildState(msgspec.Struct):
    """What the supervisor knows of one child.

    `state` is starting, running, waiting (before a restart), given-up or stopped.
    """

    name: str
    state: str = "starting"
    pid: int = 0
    restarts: int = 0
    last_exit: int | None = None


class State(msgspec.Struct):
    """The whole of `run/supervisor.json`."""

    pid: int
    started_at: str
    children: list[ChildState]


Command = Callable[[Home, str], list[str]]


def command_of(home: Home, child: str) -> list[str]:
    """How a child is started."""
    if child == STANDBY:
        words = ["audit", "standby", "push", "--follow", "--home", str(home.root)]
        return [sys.executable, "-m", "sovereign", *words]
    return [sys.executable, "-m", "sovereign", "serve", child, "--home", str(home.root)]


def children_of(home: Home) -> tuple[str, ...]:
    """The processes of a site."""
    return (*CHILDREN, STANDBY) if home.settings.standby.url else CHILDREN


class Supervisor:
    """Runs until SIGTERM; then stops its children in the order they serve, gateway first.

    A child that ends takes what it started with it, so that nothing of a dead engine holds
    its port; and when this process is killed, the kernel ends the children.
    """

    def __init__(self, home: Home, command: Command = command_of) -> None:
        self._home = home
        self._command = command
        self._stopping = asyncio.Event()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._state = State(os.getpid(), now, [ChildState(name) for name in children_of(home)])
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    async def run(self) -> None:
        """Start every child and stay until told to stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        keepers = [asyncio.create_task(self._keep(child)) for child in self._state.children]
        await self._stopping.wait()
        for name in ("gateway", "controller", "engine", STANDBY):
            await self._stop(name)
        await asyncio.gather(*keepers)
        self._save()

    async def _keep(self, child: ChildState) -> None:
        ends: deque[float] = deque(maxlen=ENDS_MAX)
        while not self._stopping.is_set():
            child.last_exit = await self._once(child)
            if self._stopping.is_set():
                break
            eventlog.emit("process-ended", process=child.name, exit=child.last_exit)
            ends.append(time.monotonic())
            if len(ends) == ENDS_MAX and ends[-1] - ends[0] < WINDOW_S:
                self._note(child, "given-up")
                eventlog.emit("process-given-up", process=child.name)
                return
            child.restarts += 1
            self._note(child, "waiting")
            await self._pause(min(BACKOFF_FIRST_S * 2 ** (len(ends) - 1), BACKOFF_MAX_S))
        self._note(child, "stopped")

    async def _once(self, child: ChildState) -> int:
        # A pipe of our own: with asyncio's, a child has ended only when all that holds it has.
        output, end = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command(self._home, child.name),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=end,
                stderr=end,
                env=passed_on(os.environ),
                cwd="/",
                process_group=0,
                preexec_fn=_end_with_us,
            )
        finally:
            os.close(end)
        self._processes[child.name] = process
        child.pid = process.pid
        self._note(child, "running")
        pumping = asyncio.create_task(self._pump(child.name, output))
        code = await process.wait()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(TimeoutError):  # what left the group may hold the pipe for ever
            async with asyncio.timeout(LAST_WORDS_S):
                await pumping
        return code

    async def _pump(self, name: str, output: int) -> None:
        log, reader = DatedLog(self._home.logs, name), asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(output, "rb")
        )
        try:
            while data := await reader.read(PIPE_READ_BYTES):
                log.write(data, datetime.now(UTC))
        finally:
            transport.close()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _stop(self, name: str) -> None:
        process = self._processes.get(name)
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            eventlog.emit("process-killed", process=name)
            process.kill()

    def _note(self, child: ChildState, state: str) -> None:
        child.state = state
        self._save()

    def _save(self) -> None:
        path = state_file(self._home)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(self._state))
        fresh.replace(path)


def _end_with_us() -> None:
    """In the child, before it becomes another program: SIGTERM when its parent is gone."""
    _PRCTL(_DIE_WITH_PARENT, int(signal.SIGTERM))


def passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of our environment a child gets; everything else may be a secret."""
    return {name: value for name, value in environment.items() if name in _PASSED_ON}


def state_file(home: Home) -> Path:
    """Where the supervisor says what it knows."""
    return home.run / "supervisor.json"


def lock_file(home: Home) -> Path:
    """Held by the supervisor as long as it lives."""
    return home.run / "supervisor.lock"


def _taken(lock: int) -> bool:
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(LOCK_TRY_S)
        else:
            return True
    return False


def main(home: Home) -> int:
    """Run in the foreground; return 3 when another supervisor already holds the lock."""
    home.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    with lock_file(home).open("a") as lock:
        if not _taken(lock.fileno()):
            return 3
        log = DatedLog(home.logs, "supervisor")
        sys.stderr = DatedStream(log, lambda: datetime.now(UTC))
        asyncio.run(Supervisor(home).run())
    return 0
