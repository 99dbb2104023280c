"""What the newest record of a drill says, out of the operator's evidence.

The record is the operator's own word, in a log that witnesses see: it can be made up once, and
not afterwards. A verdict of another version of the software, or one too old, says nothing of today.
"""

from datetime import datetime, timedelta
from typing import Any

from sovereign import __version__, fleet
from sovereign.audit.merkle import TILE_WIDTH
from sovereign.evidence.verdict import State, Verdict
from sovereign.settings import Home

KEPT_FOR = timedelta(days=31)
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


def verdict(entry: dict[str, Any] | None, now: datetime) -> Verdict:
    """What a record of a drill is worth at `now`."""
    if entry is None:
        return Verdict(State.UNKNOWN, "no record of a drill; sovereign drill canary")
    at = datetime.fromisoformat(entry["at"])
    when = f"{entry['cases']} cases on {at:%F %H:%M} UTC"
    if entry["verdict"] == "finding":
        return Verdict(State.FAIL, f"{entry['findings']} findings, {when}")
    doubts = {
        f"{entry['unknown']} things could not be told, {when}": entry["verdict"] != "pass",
        f"older than {KEPT_FOR.days} days: {when}": now - at > KEPT_FOR,
        f"dated ahead of this machine's clock: {when}": at > now,
        f"of version {entry['version']}, this is {__version__}": entry["version"] != __version__,
    }
    for doubt, holds in doubts.items():
        if holds:
            return Verdict(State.UNKNOWN, doubt)
    return Verdict(State.PASS, f"nothing found, {when}")
