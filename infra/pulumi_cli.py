"""Where the Pulumi engine is on this machine, and how to build it when it is nowhere.

The engine is the program `pulumi`. No Python package carries it; its maker publishes it for
download, and as a Go module. Looked for in this order: `SOVEREIGN_PULUMI`, PATH, our cache
of built tools. When it is nowhere and Go is at hand, it is built from the module, once a
machine: about 3 minutes on two cores, 120 MB kept. Go's checksum database vouches for the
sources, so the version below names exactly one program.

Nothing here runs the engine; `engine.py` does.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sovereign.engines.installed import cache_folder, locate
from sovereign.errors import PlannerUnavailable

VERSION = "3.259.0"
VARIABLE = "SOVEREIGN_PULUMI"
GO_MIN = (1, 26)
TAKES_AT_MOST_S = 1500
_MODULE = "github.com/pulumi/pulumi/pkg/v3"
_VERSION_FLAG = "github.com/pulumi/pulumi/sdk/v3/go/common/version.Version"
_SAY = Callable[[str], None]


def find() -> Path | None:
    """Return the engine on this machine, or None; nothing is built or fetched."""
    return locate("pulumi", variable=VARIABLE, cached="pulumi-*/pulumi")


def get(say: _SAY) -> Path:
    """Return the engine, built now if it is nowhere and Go is here.

    Two processes may race; the second waits and finds the work done. An interrupted build
    leaves nothing behind that looks whole.

    Raises:
        PlannerUnavailable: there is neither the engine nor Go, or the build failed.
    """
    found = find()
    if found is not None:
        return found
    if os.environ.get(VARIABLE):
        raise _missing(f"{VARIABLE} names no program that can be run")
    cache = cache_folder(os.environ)
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".pulumi.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return find() or _built(cache / f"pulumi-{VERSION}", say)


def go() -> Path | None:
    """Return a Go that is new enough: the one in our own environment, else the machine's."""
    ours = Path(sys.executable).with_name("go")
    candidates = [str(ours) if ours.is_file() else None, shutil.which("go")]
    return next((Path(name) for name in candidates if name and _go_version(name) >= GO_MIN), None)


def _go_version(program: str) -> tuple[int, int]:
    said = subprocess.run(
        [program, "version"], capture_output=True, text=True, check=False, timeout=60
    )
    match = re.search(r"go(\d+)\.(\d+)", said.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _built(place: Path, say: _SAY) -> Path:
    program = go()
    if program is None:
        raise _missing("it is neither named, nor on PATH, nor built, and Go is not here to do so")
    say(f"building the Pulumi engine {VERSION} out of Go modules, once: about 3 minutes …")
    started = time.monotonic()
    unfinished = place.with_name(f".{place.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    with tempfile.TemporaryDirectory() as workshop:
        work = Path(workshop)
        (work / "go.mod").write_text(f"module build\n\ngo {GO_MIN[0]}.{GO_MIN[1]}\n")
        _run(program, work, "get", f"{_MODULE}/cmd/pulumi@v{VERSION}")
        flags = f"-s -w -X {_VERSION_FLAG}=v{VERSION}"
        words = ("build", "-trimpath", "-ldflags", flags, "-o", str(unfinished / "pulumi"))
        _run(program, work, *words, f"{_MODULE}/cmd/pulumi")
    shutil.rmtree(place, ignore_errors=True)
    unfinished.rename(place)
    say(f"built {place / 'pulumi'} in {time.monotonic() - started:.0f} s")
    return place / "pulumi"


def _run(program: Path, work: Path, *words: str) -> None:
    environment = {**os.environ, "GOTOOLCHAIN": "local", "GOWORK": "off", "CGO_ENABLED": "0"}
    done = subprocess.run(
        [str(program), *words],
        cwd=work,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=TAKES_AT_MOST_S,
    )
    if done.returncode != 0:
        raise _missing(f"go {words[0]} failed", found=done.stderr[-2000:].strip())


def _missing(why: str, found: str = "") -> PlannerUnavailable:
    return PlannerUnavailable(
        f"the Pulumi engine is needed to plan: {why}",
        found=found,
        accepted=f"the program `pulumi` on PATH, or named by {VARIABLE}; or Go 1.26 to build it",
        next_step="make plan STACK=…, which installs Go beside this program",
    )
