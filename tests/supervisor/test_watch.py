"""Children that die, hang, print and are left behind; and the lock that says who is up."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from sovereign.settings import Home, Settings
from sovereign.supervisor import control, watch
from sovereign.supervisor.watch import ChildState, State, Supervisor, passed_on

SLEEPS = "import time; time.sleep(60)"


def running(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def home_at(root: Path) -> Home:
    home = Home(root, Settings())
    home.run.mkdir(parents=True)
    home.logs.mkdir()
    return home


async def until(done: Callable[[], bool], within_s: float = 20) -> None:
    async with asyncio.timeout(within_s):
        while not done():  # noqa: ASYNC110 - what is waited for is a file of another process
            await asyncio.sleep(0.02)


def state_of(home: Home) -> dict[str, ChildState]:
    raw = watch.state_file(home).read_bytes() if watch.state_file(home).exists() else b""
    children = msgspec.json.decode(raw, type=State).children if raw else []
    return {child.name: child for child in children}


def supervise(home: Home, codes: dict[str, str], then: Callable[[], bool]) -> None:
    """Run a supervisor whose children are scripts until `then` is true, and stop it as told."""

    async def story() -> None:
        it = Supervisor(home, lambda _, child: running(codes.get(child, SLEEPS)))
        task = asyncio.create_task(it.run())
        try:
            await until(then)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(task, 30)

    asyncio.run(story())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "BACKOFF_FIRST_S", 0.01)


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_a_child_that_dies_at_once_is_given_up_and_shown_while_the_others_go_on(
    tmp_path: Path,
) -> None:
    """An engine that cannot start must not be started a thousand times, nor take the log down."""
    home = home_at(tmp_path)
    seen: dict[str, ChildState] = {}

    def given_up() -> bool:
        seen.update(state_of(home))
        return bool(seen) and seen["engine"].state == "given-up"

    supervise(home, {"engine": "raise SystemExit(7)"}, given_up)
    assert (seen["engine"].last_exit, seen["engine"].restarts) == (7, watch.ENDS_MAX - 1)
    assert {seen[name].state for name in ("gateway", "controller")} == {"running"}


def test_a_child_that_dies_now_and_then_is_started_again(tmp_path: Path) -> None:
    """One crash is not the end of a site."""
    home = home_at(tmp_path)
    mark = tmp_path / "mark"
    code = (
        f"import pathlib, time; mark = pathlib.Path({str(mark)!r})\n"
        "if not mark.exists(): mark.touch(); raise SystemExit(1)\n"
        "time.sleep(60)"
    )

    def again() -> bool:
        child = state_of(home).get("gateway")
        return child is not None and (child.restarts, child.state) == (1, "running")

    supervise(home, {"gateway": code}, again)


def test_the_wait_before_a_restart_doubles_up_to_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Back-off gives a disk or a port time to come back; the bound gives an answer in time."""
    monkeypatch.setattr(watch, "BACKOFF_FIRST_S", 0.5)
    monkeypatch.setattr(watch, "BACKOFF_MAX_S", 3.0)
    waits: list[float] = []

    async def pause(_: Supervisor, seconds: float) -> None:
        waits.append(seconds)

    async def once(_: Supervisor, child: ChildState) -> int:
        return 1

    monkeypatch.setattr(Supervisor, "_pause", pause)
    monkeypatch.setattr(Supervisor, "_once", once)
    child = ChildState("engine")
    asyncio.run(Supervisor(home_at(tmp_path))._keep(child))
    assert waits == [0.5, 1.0, 2.0, 3.0]
    assert child.state == "given-up"


def test_ends_that_are_far_apart_are_never_given_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash a day is somebody's ticket, not a reason to stop serving."""
    clock = iter(range(0, 10_000, int(watch.WINDOW_S)))
    ends = []

    async def once(it: Supervisor, child: ChildState) -> int:
        ends.append(1)
        if len(ends) > 3 * watch.ENDS_MAX:
            it._stopping.set()
        return 1

    async def pause(*_: object) -> None:
        return

    monkeypatch.setattr(watch.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(Supervisor, "_once", once)
    monkeypatch.setattr(Supervisor, "_pause", pause)
    child = ChildState("engine")
    asyncio.run(Supervisor(home_at(tmp_path))._keep(child))
    assert child.state == "stopped"


def test_what_a_child_prints_stands_in_its_dated_log(tmp_path: Path) -> None:
    """Output that goes nowhere is missed on the one day it is needed."""
    home = home_at(tmp_path)
    code = f"import sys; print('said'); print('warned', file=sys.stderr, flush=True); {SLEEPS}"

    def said() -> bool:
        return any(b"warned" in path.read_bytes() for path in home.logs.glob("gateway.*.log"))

    supervise(home, {"gateway": code.replace("print('said')", "print('said', flush=True)")}, said)
    (path,) = home.logs.glob("gateway.*.log")
    assert path.read_text() == "said\nwarned\n"


def test_what_a_dead_child_had_started_is_gone_before_it_is_started_again(tmp_path: Path) -> None:
    """A worker that outlives its engine holds the port, the memory and the pipe of the log."""
    home = home_at(tmp_path)
    pids = tmp_path / "pids"
    code = (
        "import pathlib, subprocess, sys\n"
        f"worker = subprocess.Popen([sys.executable, '-c', {SLEEPS!r}])\n"
        f"with open({str(pids)!r}, 'a') as file: print(worker.pid, file=file)\n"
        "raise SystemExit(1)"
    )

    def twice() -> bool:
        return pids.exists() and len(pids.read_text().split()) >= 2

    started = time.monotonic()
    supervise(home, {"engine": code}, twice)
    assert time.monotonic() - started < 20
    assert not [pid for pid in pids.read_text().split() if alive(int(pid))]


def test_stopping_leaves_nothing_running_and_says_so(tmp_path: Path) -> None:
    """`make destroy` promises it."""
    home = home_at(tmp_path)
    pids: list[int] = []

    def up() -> bool:
        children = state_of(home)
        pids[:] = [child.pid for child in children.values() if child.state == "running"]
        return len(pids) == 3

    supervise(home, {}, up)
    assert {child.state for child in state_of(home).values()} == {"stopped"}
    assert not [pid for pid in pids if alive(pid)]


def test_a_child_that_ignores_the_signal_is_killed_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop that waits for ever is no stop."""
    monkeypatch.setattr(watch, "STOP_S", 0.3)
    home = home_at(tmp_path)
    ready = tmp_path / "ready"
    code = (
        "import pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"pathlib.Path({str(ready)!r}).touch(); time.sleep(60)"
    )
    supervise(home, {"engine": code}, ready.exists)
    assert state_of(home)["engine"].last_exit == -signal.SIGKILL


def test_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    """Otherwise the next start would find port and log taken by processes nobody knows."""
    home = home_at(tmp_path)
    code = (
        "import asyncio, sys, pathlib\n"
        "from sovereign.settings import Home, Settings\n"
        "from sovereign.supervisor.watch import Supervisor\n"
        f"home = Home(pathlib.Path({str(tmp_path)!r}), Settings())\n"
        f"asyncio.run(Supervisor(home, lambda *_: [sys.executable, '-c', {SLEEPS!r}]).run())"
    )
    supervisor = subprocess.Popen(running(code))

    def pids() -> list[int]:
        return [c.pid for c in state_of(home).values() if c.state == "running"]

    try:
        asyncio.run(until(lambda: len(pids()) == 3))
        children = pids()
    finally:
        supervisor.kill()
        supervisor.wait(timeout=10)
    asyncio.run(until(lambda: not any(alive(pid) for pid in children)))


def test_a_second_supervisor_of_a_home_ends_with_3_and_starts_nothing(tmp_path: Path) -> None:
    """Two would fight over port and log; the kernel's lock says who is first."""
    home = home_at(tmp_path)
    with watch.lock_file(home).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert watch.main(home) == 3
        assert control.is_up(home)
    assert not control.is_up(home)
    assert state_of(home) == {}


def test_who_asks_whether_it_is_up_does_not_keep_it_from_starting(tmp_path: Path) -> None:
    """The question holds the lock for a moment; a start at that moment tries again."""
    home = home_at(tmp_path)
    with watch.lock_file(home).open("a") as asking, watch.lock_file(home).open("a") as starting:
        fcntl.flock(asking, fcntl.LOCK_EX)
        asyncio.run(_free_later(asking.fileno()))
        assert watch._taken(starting.fileno())


async def _free_later(lock: int) -> None:
    asyncio.get_running_loop().run_in_executor(None, _free, lock)


def _free(lock: int) -> None:
    time.sleep(3 * watch.LOCK_TRY_S)
    fcntl.flock(lock, fcntl.LOCK_UN)


@pytest.mark.parametrize(
    "name", ["AWS_SECRET_ACCESS_KEY", "SOVEREIGN_API_KEY", "HTTPS_PROXY", "HF_TOKEN", "XDG_SECRET"]
)
def test_a_secret_or_a_way_out_in_our_environment_is_not_passed_on(name: str) -> None:
    """What a shell happened to export must not live in three processes for a year."""
    assert passed_on({name: "x", "PATH": "/bin"}) == {"PATH": "/bin"}


def test_everything_our_own_code_reads_of_the_environment_is_passed_on() -> None:
    """A variable that works for `deploy` and not for the process it starts would be a riddle."""
    read = {"SOVEREIGN_HOME", "SOVEREIGN_CACHE", "SOVEREIGN_OLLAMA", "SOVEREIGN_VLLM"}
    read |= {"XDG_STATE_HOME", "XDG_CACHE_HOME", "HOME", "PATH"}
    assert set(passed_on(dict.fromkeys(read, "x"))) == read


def test_stopping_what_is_not_up_changes_nothing_however_often(tmp_path: Path) -> None:
    """`make destroy` twice is as good as once."""
    home = home_at(tmp_path)
    assert [control.down(home) for _ in range(2)] == [False, False]
    assert control.state(home) is None
