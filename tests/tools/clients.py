"""Install Mistral's client of the 1.x line into the cache: `python -m tests.tools.clients`.

About 20 seconds and 40 MB. Applications still use 1.x, and its module layout clashes with 3.x,
which our own environment holds; so it lives in an environment of its own. What is installed is
exactly clients.txt beside this file, by hash. To lock it again, from this folder:

    uv pip compile --generate-hashes --no-header --no-emit-index-url --no-emit-find-links \
        --python-version 3.11 --python-platform x86_64-manylinux_2_28 clients.in -o clients.txt
"""

import subprocess
import sys
from pathlib import Path

from tests.tools.cached import built

VERSION = "1.12.4"
_LOCK = Path(__file__).with_name("clients.txt")
_TAKES_AT_MOST_S = 600


def python() -> Path:
    """Return the interpreter that has mistralai 1.x, installing it if it is not in the cache."""
    return built("mistralai", VERSION, _build) / "bin" / "python"


def _build(folder: Path, _place: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    uv = Path(sys.executable).with_name("uv")
    subprocess.run(
        [
            str(uv),
            *("pip", "install", "--quiet", "--no-cache", "--no-deps", "--require-hashes"),
            *("--python", str(folder / "bin" / "python"), "--requirement", str(_LOCK)),
        ],
        check=True,
        timeout=_TAKES_AT_MOST_S,
    )


if __name__ == "__main__":
    print(python())
