"""Ask NVML about the GPUs of this host, in a process of its own: a driver that hangs, or takes the
process with it, takes nothing else.

`python -m sovereign.observations.gpus` prints one JSON line a GPU, or one that says why none.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any

import msgspec

WITHIN_S = 20.0
COMMAND = (sys.executable, "-m", "sovereign.observations.gpus")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. `ecc_errors` are those since the driver began that could not be corrected; None
    where it does not count them."""

    index: int
    name: str
    driver: str
    memory_bytes: int
    ecc_errors: int | None


@dataclass(frozen=True, slots=True)
class Gpus:
    """What was found; `why` says in a word what hindered looking, "" when nothing did."""

    found: tuple[Gpu, ...]
    why: str


def look(command: Sequence[str] = COMMAND, within_s: float = WITHIN_S) -> Gpus:
    """Every GPU, or none and why; a half answer is none."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=within_s, check=False)
    except subprocess.TimeoutExpired:
        return Gpus((), "timed-out")
    except OSError:
        return Gpus((), "not-started")
    if done.returncode:
        return Gpus((), f"ended with {done.returncode}")
    try:
        said = [msgspec.json.decode(line) for line in done.stdout.splitlines()]
        why = [str(each["why"]) for each in said if "why" in each]
        return Gpus((), why[0]) if why else Gpus(msgspec.convert(said, tuple[Gpu, ...]), "")
    except (msgspec.MsgspecError, TypeError):
        return Gpus((), "not-an-answer")


def found_here() -> Iterator[dict[str, Any]]:
    """One mapping a GPU, in the order of NVML; or one with `why` alone."""
    pynvml = import_module("pynvml")  # it says nothing of its types
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        yield {"why": _word(error)}
        return
    try:
        every = [_one(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        yield {"why": _word(error)}
        return
    finally:
        pynvml.nvmlShutdown()
    yield from map(asdict, every)


def _one(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    return Gpu(
        index,
        str(nvml.nvmlDeviceGetName(handle)),
        str(nvml.nvmlSystemGetDriverVersion()),
        int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
        _counted(
            nvml,
            lambda: nvml.nvmlDeviceGetTotalEccErrors(
                handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
            ),
        ),
    )


def _counted(nvml: Any, count: Callable[[], int]) -> int | None:
    try:
        return int(count())
    except nvml.NVMLError_NotSupported:
        return None


def _word(error: Exception) -> str:
    """`NVMLError_LibraryNotFound` says `LibraryNotFound`."""
    return type(error).__name__.removeprefix("NVMLError_")


if __name__ == "__main__":
    for each in found_here():
        sys.stdout.write(json.dumps(each) + "\n")
