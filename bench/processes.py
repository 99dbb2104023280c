"""Start what is measured in a process of its own, on a core of its own, and end it again."""

import os
import select
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.figures import CheckFailed

ROOT = Path(__file__).resolve().parents[1]
READY_WITHIN_S = 20.0
END_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Cores:
    """Where the measured process runs, and where all that measures it runs.

    With one core both are the same, and `apart` is False: the figures then say little.
    """

    measured: int
    others: int

    @property
    def apart(self) -> bool:
        """True when measuring does not take time from what is measured."""
        return self.measured != self.others


def cores() -> Cores:
    """The first two cores that this process may use."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[0], usable[1] if len(usable) > 1 else usable[0])


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Keep this thread, and every process it starts meanwhile, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def started(
    command: Sequence[str], *, core: int, output: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command pinned to a core; whatever happens, it has ended afterwards.

    Args:
        output: a file for its standard error; standard output is a pipe to us.
    """
    with output.open("wb") as errors, pinned(core):
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
        )
    try:
        yield process
    finally:
        end(process)
        assert process.stdout is not None
        process.stdout.close()


def end(process: subprocess.Popen[bytes]) -> int:
    """Ask a process to stop, insist after `END_WITHIN_S`, and return its exit status."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


def said(process: subprocess.Popen[bytes], *, within_s: float = READY_WITHIN_S) -> str:
    """The next line that a process says on standard output.

    Raises:
        CheckFailed: it ended or said nothing in time.
    """
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], within_s)
    line = process.stdout.readline().decode().strip() if ready else ""
    if not line:
        raise CheckFailed(f"{process.args!r} said nothing within {within_s:g} s")
    return line


def cpu_s(pid: int) -> float:
    """Processor time that a process and its threads have used so far (proc(5), /proc/PID/stat)."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
