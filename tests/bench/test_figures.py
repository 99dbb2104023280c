"""Figures are compared over months; what they are computed by must not move."""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from bench import machine
from bench.__main__ import main
from bench.figures import CheckFailed, Result, Target, document, lines, percentile, ratios

RESULT = Result(
    figures={"ours": {"p50_ms": 0.81234, "rps": 4000}, "bare": {"p50_ms": 0.4, "rps": 8000}},
    ratios={"ours/bare": {"p50_ms": 2.031, "rps": 0.5}},
    targets=(Target("ours.rps", "at least", 4000), Target("ours.p50_ms", "at most", 0.8)),
    checks={"answers": 3},
    settings={"rounds": 1},
)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.001, 1), (0.5, 50), (0.501, 51), (0.99, 99), (1, 100)]
)
def test_a_percentile_is_the_smallest_sample_that_the_share_does_not_exceed(
    share: float, expected: int
) -> None:
    """Nearest rank, no interpolation: the figure is a time that somebody really waited."""
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_a_percentile_of_nothing_fails_the_run() -> None:
    """A phase in which nothing came back must not become a figure of 0."""
    with pytest.raises(CheckFailed):
        percentile([], 0.5)


def test_ratios_are_made_of_figures_that_both_have() -> None:
    """A figure that one of two lacks has no ratio; neither has a division by nothing."""
    assert ratios({"a": 3, "b": 1, "c": 1}, {"a": 2, "c": 0}) == {"a": 1.5}


def test_a_target_is_met_exactly_at_its_bound_and_a_miss_is_shown(tmp_path: Path) -> None:
    """A miss stays in the document and on the screen, beside what was wanted."""
    at = datetime(2026, 11, 24, tzinfo=UTC)
    seen = machine.look(tmp_path)
    found = document("gateway", RESULT, seen, began=at, seconds=1.23, quick=True)
    assert [(t["figure"], t["met"]) for t in found["targets"]] == [
        ("ours.rps", True),
        ("ours.p50_ms", False),
    ]
    assert any("MISSED" in line and "ours.p50_ms" in line for line in lines(found))


def test_the_machine_says_what_a_figure_depends_on(tmp_path: Path) -> None:
    """A figure without its machine cannot be compared with anything."""
    seen = machine.look(tmp_path)
    assert seen.cpu
    assert seen.cores >= 1
    assert seen.memory_mb > 0
    assert seen.filesystem != "unknown"
    assert 0 <= seen.busy_before <= 1
    assert set(seen.packages) == set(machine.PACKAGES)


def test_the_file_system_is_known_where_no_mount_point_names_it(tmp_path: Path) -> None:
    """A chroot has no root in its mounts; unknown would pass for a real disk."""
    assert machine._kind(tmp_path) not in {"", "unknown"}
    assert machine._kind(Path("/dev/shm")) in {"tmpfs", "unknown"}  # noqa: S108 - a place to look at, not to write
    assert machine._kind(tmp_path / "not-there") == "unknown"


def test_a_failed_check_leaves_no_file_and_exits_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Figures of a run that went wrong would be believed once they stand in a file."""

    def forgets(folder: Path, *, quick: bool) -> Result:
        raise CheckFailed("1 of 2 answers")

    out = tmp_path / "out"
    assert main(["forgets", "--out", str(out)], {"forgets": forgets}) == 1
    assert "1 of 2 answers" in capsys.readouterr().err
    assert list(out.iterdir()) == []


def test_a_run_writes_one_whole_document_named_after_it(tmp_path: Path) -> None:
    """What collects the files relies on their names and on their first three words."""

    def measures(folder: Path, *, quick: bool) -> Result:
        return RESULT

    assert main(["measures", "--quick", "--out", str(tmp_path)], {"measures": measures}) == 0
    (path,) = tmp_path.iterdir()
    found = msgspec.json.decode(path.read_bytes())
    assert path.name == "measures.json"
    assert found["figures"]["ours"] == {"p50_ms": 0.8123, "rps": 4000}
    assert {"machine", "figures", "ratios"} <= found.keys()


def test_the_list_names_every_benchmark_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """`make bench` runs what this prints."""
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.split() == ["audit", "controller", "gateway", "scale"]
