"""Find the OpenMP runtime (`libgomp.so.1`) that llama.cpp is linked to.

Most systems have it; a bare Debian has not, and installing it needs root. A wheel in
requirements/engine-llamacpp.txt carries the same library under a name of its own; `link` gives
it back the name under which the loader looks for it, in a folder of the engine's.
"""

import ctypes
import importlib.metadata
from pathlib import Path

from sovereign.errors import EngineMissing

LIBRARY = "libgomp.so.1"
CARRIER = "pykdtree"


def find() -> Path | None:
    """Return the carried library, or None when the system has one of its own.

    Raises:
        EngineMissing: there is neither. Nothing was started.
    """
    if _system_has_it():
        return None
    try:
        files = importlib.metadata.files(CARRIER) or ()
    except importlib.metadata.PackageNotFoundError:
        files = ()
    carried = [Path(str(file.locate())) for file in files if file.name.startswith("libgomp-")]
    if not carried:
        raise EngineMissing(
            "llama.cpp needs the OpenMP runtime, and this machine has none",
            found=f"no {LIBRARY}, and no package {CARRIER} that carries one",
            accepted="the version locked in requirements/engine-llamacpp.txt",
            next_step="make setup, or as root: apt install libgomp1",
        )
    return carried[0]


def _system_has_it() -> bool:
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return True


def link(library: Path, folder: Path) -> None:
    """Make `folder` hold nothing but a link to `library` under the name the loader wants."""
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    wanted = folder / LIBRARY
    if wanted.is_symlink() and wanted.readlink() == library:
        return
    fresh = folder / f"{LIBRARY}.new"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(library)
    fresh.replace(wanted)
