"""Releases to change to, and clients that ask while it is changed."""

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playbooks import release
from tests.hosts.asking import DEFAULT_MODEL
from tests.hosts.playing import CHECKOUT, GATEWAY_PORT
from tests.tools.lab import Host, Lab

ENDS_WITHIN_S = 180


def another_release(folder: Path, file: str, line: str) -> Path:
    """A release of this checkout with one line more at the end of one file."""
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        folder.mkdir(exist_ok=True)
        shutil.copy(CHECKOUT / name, folder)
    for name in ("requirements", "sovereign"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CHECKOUT / name, folder / name, ignore=ignored)
    with (folder / file).open("a") as changed:
        changed.write(f"\n{line}\n")
    return release.build(folder)


@contextmanager
def load(lab: Lab, host: Host, key: str) -> Iterator[Counter[str]]:
    """Clients that ask all the time; how their questions ended stands in it afterwards."""
    url = f"http://{host.address}:{GATEWAY_PORT}"
    asking = subprocess.Popen(
        lab.inside(sys.executable, "-m", "tests.hosts.load", url, key, DEFAULT_MODEL),
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    endings: Counter[str] = Counter()
    try:
        yield endings
        said, _ = asking.communicate(timeout=ENDS_WITHIN_S)
        endings.update(said.splitlines())
    finally:
        asking.kill()
        asking.wait()
