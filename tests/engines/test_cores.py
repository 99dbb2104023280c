"""All cores but one for threads that spin: told by a machine that lies in a folder."""

from pathlib import Path

import pytest

from sovereign.engines.cores import to_spin_on


def machine(system: Path, cores: list[str], granted: str = "") -> Path:
    """The files of /sys that say which processors are one core, and what a container may use."""
    for core in cores:
        for processor in core.split(","):
            folder = system / f"devices/system/cpu/cpu{processor}/topology"
            folder.mkdir(parents=True)
            (folder / "core_cpus_list").write_text(f"{core}\n")
    if granted:
        (system / "fs/cgroup").mkdir(parents=True)
        (system / "fs/cgroup/cpu.max").write_text(f"{granted}\n")
    return system


@pytest.mark.parametrize(
    ("cores", "processors", "threads"),
    [
        (["0", "1", "2", "3"], 4, 3),
        (["0,4", "1,5", "2,6", "3,7"], 8, 3),
        (["0", "1"], 2, 1),
        (["0"], 1, 1),
    ],
)
def test_one_core_is_spared_and_a_core_counts_once(
    tmp_path: Path, cores: list[str], processors: int, threads: int
) -> None:
    """Two threads that spin on one core take it from each other; none at all answers nothing."""
    assert to_spin_on(range(processors), machine(tmp_path, cores)) == threads


def test_only_those_it_may_run_on_count(tmp_path: Path) -> None:
    """A service that is held to two processors has no use for the others."""
    assert to_spin_on({2, 3}, machine(tmp_path, ["0", "1", "2", "3"])) == 1


@pytest.mark.parametrize(
    ("granted", "threads"),
    [("max 100000", 7), ("200000 100000", 2), ("250000 100000", 2), ("50000 100000", 1)],
)
def test_a_container_spins_on_no_more_than_it_was_granted(
    tmp_path: Path, granted: str, threads: int
) -> None:
    """It would be stopped for the rest of every period, in the middle of an answer."""
    told = machine(tmp_path, [str(each) for each in range(8)], granted)
    assert to_spin_on(range(8), told) == threads


def test_a_machine_that_tells_nothing_counts_its_processors(tmp_path: Path) -> None:
    """A sandbox may hide /sys; the engine starts all the same."""
    assert to_spin_on(range(4), tmp_path) == 3
