"""What the commands of the audit log are given: parsed here, at the border."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from sovereign import fleet
from sovereign.audit.note import VerifierKey
from sovereign.cli.output import home_of
from sovereign.errors import (
    BadInput,
    KeyMissing,
    NaiveTime,
    NotDeployed,
    TileMissing,
    UnknownName,
)
from sovereign.settings import Home

VkeyOption = Annotated[
    str | None, typer.Option("--vkey", help="Verifier key, or a file that holds one.")
]
_UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_AGE = re.compile(r"([0-9]{1,9})([smhd])", re.ASCII)
_RECORDS = re.compile(r"(?:([^#]+)#)?([0-9]{1,18})(?:-([0-9]{1,18}))?", re.ASCII)
_TIMES = "2026-11-24T12:00:00Z, or an age: 90s, 15m, 6h, 7d"


def key_given(given: str | None) -> VerifierKey:
    """The key somebody pinned: the text itself, or a file that holds it.

    Raises:
        KeyMissing: none was given, so nothing can be said.
        BadInput: it is no key.
    """
    if not given:
        raise KeyMissing(
            "nothing can be said without a pinned key",
            accepted="--vkey KEY, from somewhere else than the log's folder",
            next_step="sovereign audit status, on the machine of the log, shows its key",
        )
    path = Path(given)
    if "+" not in given and not path.is_file():
        raise BadInput(f"{given!r} is no verifier key, and no file", accepted="ORIGIN+HASH+KEY")
    try:
        return VerifierKey.parse(path.read_text() if path.is_file() else given)
    except UnicodeDecodeError:
        raise BadInput(f"{path} holds no verifier key", accepted="one line of text") from None


def keys_given(given: Iterable[str]) -> list[VerifierKey]:
    """The keys somebody pinned; a file may hold several, one a line.

    Raises:
        KeyMissing: none was given, so nothing can be said.
        BadInput: one of them is no key.
    """
    found: list[VerifierKey] = []
    for each in given:
        path = Path(each)
        lines = bytes_of(path).decode(errors="replace").splitlines() if path.is_file() else [each]
        said = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        found += [key_given(line) for line in said]
    return found or [key_given("")]


def place_given(text: str) -> fleet.Place:
    """Where a log lies that was named on the command line: a folder, or a server's URL.

    Raises:
        BadInput: it is neither.
    """
    if text.startswith(("http://", "https://")):
        from sovereign.audit.fetch import Remote

        return Remote(text)
    if not Path(text).is_dir():
        raise BadInput(f"{text} is no folder", accepted="the folder of a log, or its URL")
    return Path(text)


def bytes_of(path: Path) -> bytes:
    """A file that was named on the command line.

    Raises:
        BadInput: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read", found=error.strerror or "") from None


def deployed(home: Path | None) -> Home:
    """The home of a site that is there.

    Raises:
        NotDeployed: it has neither logs nor pinned keys.
    """
    where = home_of(home)
    if not where.audit.exists() and not where.trust.exists():
        raise NotDeployed(f"there is no site under {where.root}", next_step="make deploy")
    return where


def chosen(home: Home, origin: str) -> list[fleet.Member]:
    """The log of that name, or every log of the site for "".

    Raises:
        UnknownName: no log is called that.
        TileMissing: the site has no logs at all.
    """
    found = [m for m in fleet.members(home) if not origin or m.origin == origin]
    if not found:
        known = ", ".join(m.origin for m in fleet.members(home))
        raise (
            UnknownName(f"no log is called {origin!r}", accepted=known)
            if known
            else TileMissing(f"there is no log under {home.audit}")
        )
    return found


def time_given(text: str, now: datetime) -> datetime | None:
    """A time on the command line: RFC 3339, or an age such as `15m`; None for "".

    Raises:
        NaiveTime: it has no zone, and nobody knows which was meant.
        BadInput: it is no time at all.
    """
    if not text:
        return None
    age = _AGE.fullmatch(text)
    try:
        if age:
            return now - int(age[1]) * _UNITS[age[2]]
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            return found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadInput(f"{text!r} is no time", accepted=_TIMES) from None
    raise NaiveTime(f"{text!r} has no zone", accepted=_TIMES)


def records_given(text: str) -> tuple[str, int | None, int | None]:
    """Origin, first and last index out of `17`, `17-40`, `ORIGIN#17` or `ORIGIN#17-40`.

    Raises:
        BadInput: it names no record.
    """
    if not text:
        return "", None, None
    found = _RECORDS.fullmatch(text)
    if found is None or int(found[2]) > int(found[3] or found[2]):
        raise BadInput(
            f"{text!r} names no record", accepted="17, 17-40, or ORIGIN#17 as in x-sovereign-record"
        )
    return found[1] or "", int(found[2]), int(found[3] or found[2])
