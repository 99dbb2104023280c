"""Programs of Debian packages, unpacked into the cache and never installed.

Installing a server would start it, make users and a data folder, and leave the machine changed.
Unpacked, its files stand below one folder, with the libraries that this machine lacks beside them.
"""

import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.needs import need
from tests.tools.cached import built

_RELEASE = "bookworm"
_TAKES_AT_MOST_S = 600
_LIBRARIES = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib")
_PROGRAMS = ("usr/bin", "usr/sbin", "bin", "sbin")


@dataclass(frozen=True)
class Unpacked:
    """A folder laid out like `/`, with some packages and what they need in it."""

    root: Path

    def program(self, path: str) -> Path:
        """The file at this absolute path of the packages."""
        found = self.root / path.lstrip("/")
        assert found.is_file(), f"no {path} in these packages"
        return found

    def environment(self) -> dict[str, str]:
        """This process's environment, with the folder's libraries and programs first."""
        return {
            **os.environ,
            "LD_LIBRARY_PATH": ":".join(str(self.root / name) for name in _LIBRARIES),
            "PATH": ":".join(
                [*(str(self.root / name) for name in _PROGRAMS), os.environ.get("PATH", "")]
            ),
        }


def unpacked(*packages: str) -> Unpacked:
    """The packages, and all they need that is not installed here.

    Skips (fails in CI) where there is no apt, or where it does not know the packages.

    Args:
        packages: names in Debian 12; together they name the folder in the cache.
    """
    need(Path("/usr/bin/apt-get").exists(), "this is not a Debian", "run on Debian 12")
    tag = hashlib.sha256(" ".join(sorted(packages)).encode()).hexdigest()[:8]

    def fill(folder: Path, _place: Path) -> None:
        for archive in _fetched(packages, folder):
            _run("dpkg-deb", "-x", str(archive), str(folder))
            archive.unlink()

    return Unpacked(built(f"debian-{packages[0]}", f"{_RELEASE}-{tag}", fill))


def _fetched(packages: tuple[str, ...], folder: Path) -> list[Path]:
    if not _plan(packages) and os.geteuid() == 0:
        _run("apt-get", "update", "-qq")
    lines = _plan(packages)
    need(lines, f"apt does not know {', '.join(packages)}", "apt-get update, as root")
    names = [line.split()[1].split("_")[0] for line in lines]
    _run("apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *names, cwd=folder)
    return sorted(folder.glob("*.deb"))


def _plan(packages: tuple[str, ...]) -> list[str]:
    """What apt would fetch, a line each; none if it does not know. The packages themselves are
    among them even where they are installed."""
    words = ("-qq", "--no-install-recommends", "--print-uris", "--reinstall", "install")
    done = subprocess.run(
        ["apt-get", *words, *packages],
        capture_output=True,
        text=True,
        timeout=_TAKES_AT_MOST_S,
        check=False,
    )
    return [line for line in done.stdout.splitlines() if line.startswith("'")]


def _run(*words: str, cwd: Path | None = None) -> None:
    done = subprocess.run(
        words, cwd=cwd, capture_output=True, text=True, timeout=_TAKES_AT_MOST_S, check=False
    )
    assert done.returncode == 0, f"{words[0]}: {done.stderr[-1000:]}"
