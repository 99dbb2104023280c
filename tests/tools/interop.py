"""Build the program that judges our logs with other people's code, and ask it.

`interop/main.go` opens checkpoints with `golang.org/x/mod/sumdb/note`, computes roots and proofs
with `golang.org/x/mod/sumdb/tlog`, parses with `github.com/transparency-dev/formats` and checks
proofs a second time with `github.com/transparency-dev/merkle`. `interop/go.mod` and `go.sum` fix
every module by its hash; it builds in seconds, and every question is answered in one run.
"""

import json
import os
import shutil
import subprocess
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.tools import tessera
from tests.tools.cached import built

SOURCE = Path(__file__).with_name("interop")
_BUILD_TAKES_AT_MOST_S = 300
_ANSWER_TAKES_AT_MOST_S = 120


def missing() -> list[str]:
    """Return what stands in the way of a build here, empty if nothing."""
    return tessera.missing()


def ask(question: dict[str, Any]) -> dict[str, Any]:
    """Let the peers judge; the answer is described in `interop/main.go`."""
    done = subprocess.run(
        [str(program())],
        input=json.dumps(question),
        check=False,
        capture_output=True,
        text=True,
        timeout=_ANSWER_TAKES_AT_MOST_S,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the peers did not answer:\n{done.stderr[-3000:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def program() -> Path:
    """Return the program, building it when its source is not the one that was built last."""
    version = sha256(b"".join(p.read_bytes() for p in sorted(SOURCE.iterdir()))).hexdigest()[:16]
    return built("interop", version, _build) / "interop"


def _build(folder: Path, _place: Path) -> None:
    go = Path(tessera.go_program()).absolute()
    with tempfile.TemporaryDirectory() as workshop:
        work = Path(shutil.copytree(SOURCE, Path(workshop) / "source"))
        done = subprocess.run(
            [str(go), "build", "-mod=readonly", "-trimpath", "-o", str(folder / "interop"), "."],
            cwd=work,
            env={**os.environ, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"},
            check=False,
            capture_output=True,
            text=True,
            timeout=_BUILD_TAKES_AT_MOST_S,
        )
    if done.returncode != 0:
        raise RuntimeError(f"go build failed:\n{done.stderr[-3000:]}")
