"""GPUs are read through the real pynvml in a process of its own, over a library that has none."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sovereign.observations import gpus
from sovereign.observations.gpus import Gpu, Gpus
from tests.needs import need

ENDS_WITHIN_S = 60.0


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a libnvidia-ml.so.1 in it."""
    need(shutil.which("cc"), "no C compiler", "install gcc")
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).with_name("nvml.c")
    target = folder / "libnvidia-ml.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(target), str(source)], check=True)
    return folder


def looked(nvml: Path | None, simulated: str, monkeypatch: pytest.MonkeyPatch) -> Gpus:
    if nvml is not None:
        monkeypatch.setenv("LD_LIBRARY_PATH", str(nvml))
    monkeypatch.setenv("SIMULATED_GPUS", simulated)
    return gpus.look(within_s=ENDS_WITHIN_S)


def gpu(index: int, ecc_errors: int | None) -> Gpu:
    return Gpu(index, "Simulated", "570.1", 1024, ecc_errors)


def test_every_gpu_is_told_with_the_errors_it_could_not_correct(
    nvml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Corrected ones, and those of a life-time, are other numbers; asking for these would show."""
    found = looked(nvml, "03n", monkeypatch)
    assert found == Gpus((gpu(0, 0), gpu(1, 3), gpu(2, None)), "")


@pytest.mark.parametrize(
    ("simulated", "why"), [("0x", "GpuIsLost"), ("!", "DriverNotLoaded"), ("", "")]
)
def test_a_gpu_that_cannot_be_asked_leaves_none_and_says_why(
    simulated: str, why: str, nvml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven of eight that answer are not a host that is well."""
    assert looked(nvml, simulated, monkeypatch) == Gpus((), why)


def test_a_host_without_the_library_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most hosts: it must be a word, not a trace."""
    need(not Path("/dev/nvidiactl").exists(), "this machine has a GPU", "run it on one without")
    assert looked(None, "", monkeypatch) == Gpus((), "LibraryNotFound")


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("import time; time.sleep(600)", "timed-out"),
        ("import os; os.abort()", "ended with -6"),
        ("print('{')", "not-an-answer"),
        ("print('[]')", "not-an-answer"),
        ("print('{\"index\": 0}')", "not-an-answer"),
        ("pass", ""),
    ],
)
def test_a_driver_that_hangs_or_crashes_takes_only_its_own_process(script: str, why: str) -> None:
    """A half answer, too, is none."""
    within_s = 0.5 if why == "timed-out" else ENDS_WITHIN_S
    assert gpus.look((sys.executable, "-c", script), within_s) == Gpus((), why)


def test_a_command_that_is_not_there_is_no_answer(tmp_path: Path) -> None:
    """A broken installation is not a host without GPUs."""
    assert gpus.look((os.fspath(tmp_path / "none"),)) == Gpus((), "not-started")
