"""Time series that Prometheus' own tool made, and a Prometheus that runs over them."""

import fcntl
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sovereign.sinks import prometheus
from sovereign.sinks.model import NotErased
from tests.engines.running import free_port
from tests.observed.prometheus import programs, run

BEGAN = datetime(2026, 1, 1, 12, tzinfo=UTC)
READY_WITHIN_S = 60


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two blocks, of one sample each, a day apart."""
    folder = tmp_path_factory.mktemp("prometheus")
    lines = [f"up 1 {(BEGAN + day).timestamp()}" for day in (timedelta(0), timedelta(days=1))]
    text = folder / "samples"
    text.write_text("# TYPE up gauge\n" + "\n".join(lines) + "\n# EOF\n")
    made = run("promtool", "tsdb", "create-blocks-from", "openmetrics", str(text), str(folder))
    assert made.returncode == 0, made.stderr
    text.unlink()
    return folder


@pytest.fixture
def running(blocks: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A Prometheus over the blocks that keeps for 500 days, once it has begun to write there."""
    there, config = programs(), blocks / "prometheus.yml"
    config.write_text("{}")
    words = [
        f"--config.file={config}",
        f"--storage.tsdb.path={blocks}",
        "--storage.tsdb.retention.time=500d",
        f"--web.listen-address=127.0.0.1:{free_port()}",
    ]
    program = str(there.program("usr/bin/prometheus"))
    with subprocess.Popen(
        [program, *words], env=there.environment(), stderr=subprocess.DEVNULL
    ) as process:
        try:
            until = time.monotonic() + READY_WITHIN_S
            while not (blocks / "queries.active").exists() and time.monotonic() < until:
                time.sleep(0.1)
            yield process
        finally:
            process.terminate()
            process.wait(30)


def test_a_lock_is_believed_where_no_process_can_be_seen(blocks: Path, tmp_path: Path) -> None:
    """A controller may not look at the processes of others."""
    sink = prometheus.sink(blocks, proc=tmp_path)
    assert sink.kept_from() == ""
    with (blocks / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "Prometheus runs" in sink.kept_from()
    (blocks / "lock").unlink()


def test_a_block_is_as_old_as_its_first_sample(blocks: Path) -> None:
    """When its folder was made says nothing."""
    found = sorted(prometheus.sink(blocks).items(), key=lambda item: item.oldest)
    assert [item.oldest for item in found] == [BEGAN, BEGAN + timedelta(days=1)]
    assert {item.retention_class for item in found} == {"metrics"}


def test_while_prometheus_runs_nothing_is_erased_and_its_own_flag_is_judged(
    blocks: Path, running: subprocess.Popen[bytes]
) -> None:
    """It erases by itself; what it is told to keep is what will be kept."""
    sink = prometheus.sink(blocks)
    item = next(each for each in sink.items() if each.oldest == BEGAN)
    assert "Prometheus runs" in sink.refusal(item)
    with pytest.raises(NotErased, match="Prometheus runs"):
        sink.erase(item)
    assert (sink.faults(500), len(sink.faults(400))) == ((), 1)
    assert [each.pid for each in prometheus.running(blocks, Path("/proc"))] == [running.pid]


def test_blocks_of_one_that_does_not_run_go_whole(blocks: Path) -> None:
    """And what is left can still be read by Prometheus' own tool."""
    sink = prometheus.sink(blocks)
    item = next(each for each in sink.items() if each.oldest == BEGAN)
    assert sink.refusal(item) == ""
    sink.erase(item)
    sink.sync()
    assert item.id not in {each.id for each in sink.items()}
    listed = run("promtool", "tsdb", "list", str(blocks))
    assert listed.returncode == 0
    assert item.id not in listed.stdout
    assert len([line for line in listed.stdout.splitlines() if line.startswith("01")]) == 1


def test_a_block_that_does_not_say_of_when_it_is_leaves_the_sink_unknown(tmp_path: Path) -> None:
    """When its folder was made is no answer: it may be years younger than what is in it."""
    (tmp_path / "01M89F1F0ND2Q0S1S4P80DB4J5").mkdir()
    (tmp_path / "01M89F1F0ND2Q0S1S4P80DB4J5/meta.json").write_text("{}")
    with pytest.raises(OSError, match="of when"):
        list(prometheus.sink(tmp_path).items())


@pytest.mark.parametrize(
    ("flag", "days"), [("", 15), ("30d", 30), ("1y", 365), ("1w12h", 7.5), ("0", None)]
)
def test_the_flag_is_read_as_prometheus_does(flag: str, days: float | None) -> None:
    """No flag is its default, and 0 is no bound."""
    assert prometheus.days_of(flag) == days
