"""Build a thing once a machine and version, and never leave half of it.

A thing is built beside its place under a temporary name and renamed when whole, so that an
interrupted build is as if it had not begun. Two processes may race: the lock makes the second
wait and find the work done.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from sovereign.engines.installed import cache_folder


def built(name: str, version: str, build: Callable[[Path, Path], None]) -> Path:
    """Return the cache folder `NAME-VERSION`, built now if missing.

    `build` is given the folder to fill and the place where it will stand afterwards, for programs
    that write their own path down.
    """
    cache = cache_folder(os.environ)
    cache.mkdir(parents=True, exist_ok=True)
    place = cache / f"{name}-{version}"
    with (cache / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.is_dir():
            _build(place, build)
    return place


def _build(place: Path, build: Callable[[Path, Path], None]) -> None:
    unfinished = place.with_name(f".{place.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    print(f"{place.name}: building into {place}", flush=True)
    started = time.monotonic()
    build(unfinished, place)
    unfinished.rename(place)
    print(f"{place.name}: built in {time.monotonic() - started:.0f} s", flush=True)
