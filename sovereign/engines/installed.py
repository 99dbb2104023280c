"""Where an engine program is on this machine, in this order: named, on PATH, in our cache.

The cache holds what the project's own builders made, one folder a name and version; nothing is
built or fetched here.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path


def locate(program: str, *, variable: str, cached: str) -> Path | None:
    """Return the program's absolute path, or None.

    Args:
        program: its name on PATH.
        variable: an environment variable of ours that names it; set but wrong means None, since
            an operator who names one does not want another.
        cached: pattern below the cache folder, such as `ollama-*/ollama`; the newest one wins.
    """
    named = os.environ.get(variable)
    if named:
        return _runnable(Path(named))
    on_path = shutil.which(program)
    if on_path:
        return Path(on_path).absolute()
    built = filter(_runnable, cache_folder(os.environ).glob(cached))
    return max(built, key=lambda path: path.stat().st_mtime, default=None)


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder of built tools: `SOVEREIGN_CACHE`, else `sovereign` in the XDG cache."""
    if environ.get("SOVEREIGN_CACHE"):
        return Path(environ["SOVEREIGN_CACHE"])
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sovereign"


def _runnable(path: Path) -> Path | None:
    return path.absolute() if path.is_file() and os.access(path, os.X_OK) else None
