"""How many threads an engine gets whose threads wait for each other by spinning.

All cores that it may use but one. What it shares the machine with (our gateway, for one) then
never takes the core of a thread that the others spin for, which on a machine of few cores makes
an answer several times as long: on two cores, both of them wanted by others too, a prompt of 150
tokens cost Ollama 5.2 s of processor time with two threads and 1.0 s with one. A core counts once,
however many threads it runs at a time.

Linux; where nothing is told of the cores, each processor counts as one.
"""

from collections.abc import Iterable
from pathlib import Path

SYSTEM = Path("/sys")
SPARED = 1


def to_spin_on(processors: Iterable[int], system: Path = SYSTEM) -> int:
    """Return a number of threads, at least 1.

    Args:
        processors: numbers of those that the engine may run on, as the kernel counts them.
        system: where /sys is.
    """
    topology = "devices/system/cpu/cpu{}/topology/core_cpus_list"
    cores = {_read(system / topology.format(each)) or str(each) for each in processors}
    return max(1, min(len(cores) - SPARED, _granted(system) or len(cores)))


def _granted(system: Path) -> int:
    """Whole cores that a container was granted (`cpu.max` of the kernel's cgroup v2), else 0."""
    quota, _, period = _read(system / "fs/cgroup/cpu.max").partition(" ")
    return max(1, int(quota) // int(period)) if quota.isdigit() and period.isdigit() else 0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""
