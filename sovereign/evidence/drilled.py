"""What the newest record of a drill says, out of the operator's evidence.

The record is the operator's own word, in a log that witnesses see: it can be made up once, and
not afterwards. One that is too old says nothing of today, nor for some drills does one of another
version.
"""

from datetime import datetime, timedelta
from typing import Any

from sovereign import __version__, fleet
from sovereign.audit.merkle import TILE_WIDTH
from sovereign.evidence.verdict import State, Verdict
from sovereign.settings import Home

OF_ITS_VERSION = ("canary",)
"""Drills that say nothing of another version: where words end up changes with the program."""
LOOKED_AT_MAX = 400 * TILE_WIDTH
"""So many records are looked at, the newest first."""


def newest(home: Home, drill: str) -> dict[str, Any] | None:
    """The newest record of a drill; None when there is none among the newest records."""
    for member in fleet.members(home):
        if (member.writer, member.stream) != ("operator", "evidence"):
            continue
        end = fleet.size_of(member) or 0
        last = max(0, end - LOOKED_AT_MAX)
        while end > last:
            start = (end - 1) // TILE_WIDTH * TILE_WIDTH
            there = [each for _, each in fleet.records(member, start, end)]
            mine = [each for each in there if each["type"] == "drill" and each["drill"] == drill]
            if mine:
                return mine[-1]
            end = start
    return None


def verdict(drill: str, days: int, entry: dict[str, Any] | None, now: datetime) -> Verdict:
    """What the record of a drill is worth at `now`, when it is believed for so many days."""
    if not days:
        return Verdict(State.NOT_APPLICABLE, f"{drill}_days in rules/audit.yaml is 0")
    if entry is None:
        return Verdict(State.UNKNOWN, f"no record of a drill; sovereign drill {drill}")
    at = datetime.fromisoformat(entry["at"])
    when = f"{entry['cases']} cases on {at:%F %H:%M} UTC"
    if entry["verdict"] == "finding":
        return Verdict(State.FAIL, f"{entry['findings']} findings, {when}")
    other = drill in OF_ITS_VERSION and entry["version"] != __version__
    doubts = {
        f"{entry['unknown']} things could not be told, {when}": entry["verdict"] != "pass",
        f"older than {days} days: {when}": now - at > timedelta(days=days),
        f"dated ahead of this machine's clock: {when}": at > now,
        f"of version {entry['version']}, this is {__version__}": other,
    }
    for doubt, holds in doubts.items():
        if holds:
            return Verdict(State.UNKNOWN, doubt)
    return Verdict(State.PASS, f"nothing found, {when}")
