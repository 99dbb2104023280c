"""What the machine shows of a process, and whether it could leave a core dump."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sovereign.drills import processes
from sovereign.observations.dumps import could_dump

SLEEPS = "import time; time.sleep(60)"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours with a limit of 0 on core files."""
    with subprocess.Popen([sys.executable, "-c", SLEEPS]) as it:
        resource.prlimit(it.pid, resource.RLIMIT_CORE, (0, 0))
        yield it
        it.kill()


def proc_of(tmp_path: Path, pattern: str, limits: str = "0 0", filter_: str = "00000033") -> Path:
    """A /proc that says what a test wants of process 7."""
    (tmp_path / "sys/kernel").mkdir(parents=True)
    (tmp_path / "sys/kernel/core_pattern").write_text(pattern + "\n")
    (tmp_path / "7").mkdir()
    (tmp_path / "7/coredump_filter").write_text(filter_ + "\n")
    soft, hard = limits.split()
    lines = f"Limit  Soft Limit  Hard Limit  Units\nMax core file size  {soft}  {hard}  bytes\n"
    (tmp_path / "7/limits").write_text(lines)
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "limits", "filter_", "dumps"),
    [
        ("core", "0 0", "00000033", False),
        ("core", "unlimited unlimited", "00000033", True),
        ("core", "0 unlimited", "00000033", True),  # it may raise its own limit again
        ("|/usr/share/apport/apport -p%p", "0 0", "00000033", True),  # pipes ask no limit
        ("|/usr/lib/systemd/systemd-coredump %P", "0 0", "00000033", False),
        ("|/usr/lib/systemd/systemd-coredump %P", "0 1024", "00000033", True),
        ("|/usr/share/apport/apport -p%p", "0 0", "00000000", False),  # of no memory at all
        ("core", "unlimited unlimited", "00000000", False),
        ("", "unlimited unlimited", "00000033", False),
    ],
)
def test_a_core_dump_is_impossible_or_why_it_is_not(
    tmp_path: Path, pattern: str, limits: str, filter_: str, dumps: bool
) -> None:
    """A limit of 0 looks like an answer, and is none where the kernel pipes (core(5))."""
    why = could_dump(7, proc_of(tmp_path, pattern, limits, filter_))
    assert bool(why) is dumps, why


def test_a_real_process_is_read_as_the_kernel_shows_it(sleeper: subprocess.Popen[bytes]) -> None:
    """The layout of /proc is the kernel's, not our tests'."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    if not pattern.startswith("|"):
        assert could_dump(sleeper.pid) == ""
    assert processes.owner_of(sleeper.pid) == os.geteuid()
    assert processes.environment_of(sleeper.pid, "PATH") == os.environ.get("PATH", "")
    assert set(processes.outputs(sleeper.pid)) == {"standard output", "standard error"}


def test_a_file_that_was_deleted_and_is_held_open_is_seen(tmp_path: Path) -> None:
    """The place where a careful leak would hide."""
    path = tmp_path / "gone"
    with path.open("w+b") as held:
        held.write(b"still here")
        held.flush()
        path.unlink()
        found = processes.open_files(os.getpid())
        (way,) = [way for name, way in found.items() if name == f"{path} (deleted)"]
        assert way.read_bytes() == b"still here"


def test_a_process_that_has_ended_is_no_error() -> None:
    """Processes come and go while a drill looks at them."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    assert processes.owner_of(ended.pid) == -1
    assert processes.environment_of(ended.pid, "PATH") == ""
