"""llama.cpp starts on a machine that has no OpenMP runtime, because a wheel brings one."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sovereign.engines import ENGINES, Found, LaunchSpec, openmp
from sovereign.errors import EngineMissing


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmp, "_system_has_it", lambda: False)


@pytest.mark.usefixtures("without")
def test_the_carried_library_loads_under_the_name_the_engine_asks_for(tmp_path: Path) -> None:
    """A bare Debian has no libgomp.so.1, and a deployment must not need root."""
    carried = openmp.find()
    assert carried is not None
    openmp.link(carried, tmp_path)
    openmp.link(carried, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [openmp.LIBRARY]
    code = f"import ctypes; ctypes.CDLL({openmp.LIBRARY!r}).GOMP_parallel; print('loaded')"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert run.stdout == "loaded\n", run.stderr


@pytest.mark.usefixtures("without")
def test_without_library_and_carrier_the_engine_is_missing_not_broken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reason must be said before five restarts of a process that cannot start."""
    monkeypatch.setattr(openmp, "CARRIER", "no-such-package")
    with pytest.raises(EngineMissing) as missing:
        openmp.find()
    assert "libgomp1" in missing.value.next_step


@pytest.mark.parametrize("library", [None, Path("/somewhere/libgomp-1.so")])
def test_the_loader_is_pointed_elsewhere_only_when_the_system_lacks_it(
    tmp_path: Path, library: Path | None
) -> None:
    """A library path of one's own is a way in; it is opened for need alone."""
    spec = LaunchSpec(
        found=Found(Path(sys.executable), "1", library),
        model=tmp_path / "m.gguf",
        served_name="m",
        host="127.0.0.1",
        port=8081,
        context=16,
        state_dir=tmp_path,
    )
    told = ENGINES["llamacpp"].environment(spec).get("LD_LIBRARY_PATH")
    assert told == (str(tmp_path / "lib") if library else None)


def test_this_machine_is_looked_at_for_real() -> None:
    """`find` must not bring a second runtime where there is one."""
    try:
        ctypes.CDLL(openmp.LIBRARY)
    except OSError:
        assert openmp.find() is not None
    else:
        assert openmp.find() is None
