"""Remove sets of weights that nothing serves. What a crash leaves behind:

 1. `weights-removed` is recorded.                a record of a set that is there; prune again
 2. The set loses its name: it goes to `.going`.  a folder there, which the next run removes
 3. Its files are removed.                        as 2

A set is served when the settings name it, or a process of this machine has a file of it open or
mapped. Processes of others that this user may not look at are not seen: run it as the user that
engines run as, or as root.
"""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sovereign.policy import Policy
from sovereign.settings import Home
from sovereign.weights import store
from sovereign.weights.fetch import Opening
from sovereign.weights.store import Stored

GOING = ".going"
RECORD_TIMEOUT_S = 30.0


def unused(
    home: Home, kept: timedelta, now: datetime, proc: Path = Path("/proc")
) -> tuple[Stored, ...]:
    """The sets that nothing serves, and that came in longer than `kept` ago."""
    chosen = home.settings.engine.weights
    used = [str(Path(chosen).resolve())] if chosen else []
    used += _open_below(str(store.folder_of(home).resolve()), proc)
    return tuple(
        each
        for each in store.stored(home)
        if _came_in(each) < now - kept and not _is_used(str(each.path.resolve()), used)
    )


def _is_used(path: str, used: Iterable[str]) -> bool:
    return any(each == path or each.startswith(f"{path}/") for each in used)


def remove(home: Home, policy: Policy, each: Stored, opening: Opening) -> str:
    """Remove a set that `unused` gave; return the name of the record.

    Raises:
        LogUnwritable: it could not be recorded, and is still there.
    """
    said = {"model": each.model, "digest": each.digest, "policy": policy.digest}
    with opening() as trail:
        recorded = trail.record("weights-removed", **said).result(RECORD_TIMEOUT_S)
    going = store.folder_of(home) / GOING
    going.mkdir(exist_ok=True)
    each.path.rename(going / each.path.name)
    clear(home)
    return recorded.name


def clear(home: Home) -> None:
    """Remove what an earlier run took the name from."""
    for left in (store.folder_of(home) / GOING).glob("*"):
        shutil.rmtree(left)


def _came_in(each: Stored) -> datetime:
    return datetime.fromtimestamp(each.path.stat().st_mtime, UTC)


def _open_below(folder: str, proc: Path) -> Iterator[str]:
    """Files below a folder that a process has open or mapped, as far as this user may see them."""
    for process in proc.glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile, or is somebody else's
            links = [_target(each) for each in (process / "fd").iterdir()]
            yield from (each for each in links if each.startswith(folder))
        with suppress(OSError):
            mapped = (process / "maps").read_bytes().decode(errors="surrogateescape")
            lines = mapped.splitlines() if folder in mapped else []
            yield from (line[line.index("/") :] for line in lines if folder in line)


def _target(link: Path) -> str:
    """Where an open file leads; "" once it was closed, which says nothing of the others."""
    try:
        return str(link.readlink())
    except OSError:
        return ""
