"""What is read of a host, out of files like the kernel's and of this very machine."""

import os
from pathlib import Path

import pytest

from sovereign.observations import seen
from sovereign.observations.seen import Swap
from tests.engines.running import free_port

HEAD = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"


def machine(root: Path, swaps: str, **blocks: dict[str, str]) -> tuple[Path, Path]:
    """A /proc with these swaps and a /sys with these block devices."""
    (root / "proc").mkdir()
    (root / "proc/swaps").write_text(HEAD + swaps)
    for name, files in blocks.items():
        for path, text in files.items():
            file = root / "sys/class/block" / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    return root / "proc", root / "sys"


@pytest.mark.parametrize(
    ("line", "block", "is_safe"),
    [
        ("/dev/dm-1 partition 1 0 -2", {"dm/uuid": "CRYPT-PLAIN-swap\n"}, True),
        ("/dev/dm-1 partition 1 0 -2", {"dm/uuid": "LVM-abc\n"}, False),
        ("/dev/sda2 partition 1 0 -2", {"size": "1\n"}, False),
        ("/dev/zram0 partition 1 0 100", {"backing_dev": "none\n"}, True),
        ("/dev/zram0 partition 1 0 100", {"backing_dev": "/dev/sda3\n"}, False),
        ("/dev/zram0 partition 1 0 100", {"size": "1\n"}, None),
        ("/swapfile file 1 0 -2", {"size": "1\n"}, None),
    ],
)
def test_swap_is_safe_only_where_it_is_seen_to_be(
    tmp_path: Path, line: str, block: dict[str, str], is_safe: bool | None
) -> None:
    """What people said is in memory, and swap is memory on a disk."""
    name = line.split(maxsplit=1)[0]
    proc, sys = machine(tmp_path, line + "\n", **{Path(name).name: block})
    assert seen.swaps(proc, sys) == (Swap(name, is_safe),)


def test_no_swap_and_no_word_about_swap_are_not_the_same(tmp_path: Path) -> None:
    """The first is the best answer, the second none."""
    proc, sys = machine(tmp_path, "")
    assert seen.swaps(proc, sys) == ()
    assert seen.swaps(tmp_path / "nothing", sys) is None


def test_a_disk_is_as_full_as_df_says(tmp_path: Path) -> None:
    """The blocks kept for root are full for everybody else."""
    found, asked = seen.used_percent(tmp_path), os.statvfs(tmp_path)
    assert found is not None
    used = asked.f_blocks - asked.f_bfree
    assert found == pytest.approx(100 * used / (used + asked.f_bavail), abs=2)
    assert seen.used_percent(tmp_path / "nothing") is None


def test_the_kernel_is_asked_about_its_clock_and_nothing_is_changed() -> None:
    """Fields read at a wrong place would show: the kernel lets this grow to 16 s, no more."""
    found = seen.clock()
    assert found is None or 0 <= found.error_us <= 16_000_000


def test_an_engine_that_is_not_there_has_no_dumps_that_could_be_seen() -> None:
    """Its absence must not read as safe."""
    assert seen.engine_dumps(f"127.0.0.1:{free_port()}") is None
