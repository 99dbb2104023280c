"""Install Mistral's clients of older lines into the cache: `python -m tests.tools.clients`.

About 20 seconds and 40 MB each. Applications still use 1.x and 2.x, and their module layouts clash
with that of 3.x, which our own environment holds; so each lives in an environment of its own. What
is installed is exactly clients.txt (1.x) or clients2.txt (2.x) beside this file, by hash. To lock
one again, from this folder:

    uv pip compile --generate-hashes --no-header --no-emit-index-url --no-emit-find-links \
        --python-version 3.11 --python-platform x86_64-manylinux_2_28 clients.in -o clients.txt
"""

import subprocess
import sys
from functools import partial
from pathlib import Path

from tests.tools.cached import built

VERSIONS = {"1.x": ("1.12.4", "clients.txt"), "2.x": ("2.10.1", "clients2.txt")}
_TAKES_AT_MOST_S = 600


def python(line: str = "1.x") -> Path:
    """Return the interpreter that has mistralai of this line, installing it if it is not there."""
    version, lock = VERSIONS[line]
    return built("mistralai", version, partial(_build, lock)) / "bin" / "python"


def _build(lock: str, folder: Path, _place: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    uv = Path(sys.executable).with_name("uv")
    subprocess.run(
        [
            str(uv),
            *("pip", "install", "--quiet", "--no-cache", "--no-deps", "--require-hashes"),
            *(
                "--python",
                str(folder / "bin" / "python"),
                "--requirement",
                str(Path(__file__).with_name(lock)),
            ),
        ],
        check=True,
        timeout=_TAKES_AT_MOST_S,
    )


if __name__ == "__main__":
    for line in VERSIONS:
        print(python(line))
