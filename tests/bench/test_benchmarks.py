"""Each benchmark runs in its quick form as a user starts it, and its page knows every figure."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench import gateway
from bench.figures import CheckFailed
from sovereign.settings import Home
from tests.docs.reading import DOCS, ROOT, table

PAGE = DOCS / "benchmarks.md"
TAKES_AT_MOST_S = 240
COMMON = {
    "benchmark",
    "quick",
    "at",
    "seconds",
    "machine",
    "settings",
    "figures",
    "ratios",
    "targets",
    "checks",
    "notes",
}
PROXY = {"rps", "cpu_us", "p50_ms", "p99_ms", "ttft_p50_ms", "chunk_p99_ms"}
DISK = {"append_p50_ms", "append_p99_ms", "grouped_per_s", "verified_per_s"}
READ_BACK = {"proof_p50_ms", "proof_p99_ms", "reopening_p50_ms", "reopening_max_ms"}
CONCURRENT = {"concurrent_p50_ms", "concurrent_p99_ms", "concurrent_p50_syncs"}
KEPT = {"kept_p50_us", "kept_p99_us"}
STARTS = {"version_p50_ms", "verify_p50_ms"}
SCALE = {
    "verified_per_s",
    "verified_alone_per_s",
    "memory_mb",
    "proof_p50_ms",
    "proof_p99_ms",
    "tail_p50_ms",
    "reopening_ms",
    "bytes_per_record",
}
ROUND = {"bare_p50_ms", "round_p50_ms", "first_round_ms", "over_bare", "cpu_us", "plan_us"}
FIGURES = {
    "gateway": {"ours": PROXY | {"ttft_over_none_ms"}, "bare": PROXY, "none": PROXY},
    "audit": {
        "ours": DISK | READ_BACK | CONCURRENT | KEPT | STARTS | {"bytes_per_record"},
        "disk": DISK,
    },
    "controller": {"1e1": ROUND, "1e2": ROUND},
    "scale": {"1e3": SCALE, "1e4": SCALE},
}
"""Every figure there is, by benchmark and subject; Tessera's comes and goes with its program."""
TINY = gateway.Plan(warm_s=0.1, throughput_s=0.3, latency_s=0.1, streamings=0, rounds=1)


def measured(name: str, out: Path) -> dict[str, Any]:
    """Run a benchmark as `make bench` does, and return its document."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", name, "--quick", "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        timeout=TAKES_AT_MOST_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert [path.name for path in out.iterdir()] == [f"{name}.json"], "only the figures are left"
    found: dict[str, Any] = msgspec.json.decode((out / f"{name}.json").read_bytes())
    return found


@pytest.mark.parametrize("name", sorted(FIGURES))
def test_a_quick_run_writes_every_figure_and_every_check(tmp_path: Path, name: str) -> None:
    """Figures that vanish from one release to the next cannot be compared."""
    found = measured(name, tmp_path / "out")
    assert found.keys() == COMMON
    tessera = {s: {"verified_per_s"} for s in found["figures"] if s.startswith("tessera")}
    assert {s: set(values) for s, values in found["figures"].items()} == FIGURES[name] | tessera
    for subject, values in found["figures"].items():
        for figure, value in values.items():
            # On a busy machine chance may let ours be first once.
            assert value > 0 or figure == "ttft_over_none_ms", f"{subject}.{figure} is {value}"
    assert all(v > 0 for values in found["ratios"].values() for v in values.values())
    ours = {"scale": "1e4", "controller": "1e2"}.get(name, "ours")
    assert {t["figure"].partition(".")[0] for t in found["targets"]} == {ours}
    if name == "gateway":
        assert found["checks"]["answers"] > 100
        assert found["checks"]["answers_without_both_records"] == 0
        return
    if name == "controller":
        assert found["checks"] == {"endpoints_open": 110, "attestations_in_the_log": 110}
        return
    if name == "audit":
        assert found["checks"]["kills_without_loss"] == 1
    assert tessera or found["notes"]["tessera"] == "peer not built"


def test_a_gateway_that_forgets_to_record_gets_no_figures(tmp_path: Path) -> None:
    """The real gateway, made to lose one completion in seven, is found out by its own log."""

    def forgetful(home: Home) -> list[str]:
        return [sys.executable, "-m", "tests.bench.forgetful", str(home.root)]

    with pytest.raises(CheckFailed, match="not in the log with both records"):
        gateway.measure(tmp_path, TINY, forgetful)
    assert list(tmp_path.iterdir()) == []


def test_measuring_leaves_this_process_where_it_was_allowed_to_run(tmp_path: Path) -> None:
    """A process that stays on one core would slow down everything after the benchmark."""
    before = os.sched_getaffinity(0)
    with pytest.raises(CheckFailed, match="ended with status 3"):
        gateway.measure(tmp_path, TINY, lambda _: [sys.executable, "-c", "raise SystemExit(3)"])
    assert os.sched_getaffinity(0) == before
    assert list(tmp_path.iterdir()) == []


def test_the_page_explains_exactly_the_figures_that_exist() -> None:
    """A number nobody can explain is no evidence, and an explanation without one is a promise."""
    for name, subjects in FIGURES.items():
        rows = table(PAGE, f"## What `{name}` measures")
        explained = [figure.strip("`") for row in rows for figure in row[0].split(", ")]
        assert sorted(explained) == sorted(set().union(*subjects.values()))
