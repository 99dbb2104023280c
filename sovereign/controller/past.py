"""What the controller knows of before: when each endpoint was shut, and how it has looked since.

The times come out of its own log, which survives it; so a controller that is killed and begins
anew does not open what it had reason to keep shut. Good looks are counted from none. Where the log
cannot be read nothing is remembered, and only damping is weaker for it: what is wrong is shut at
the next look all the same.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sovereign import eventlog, fleet
from sovereign.audit.merkle import TILE_WIDTH
from sovereign.controller import damping
from sovereign.controller.damping import WINDOW, Looks
from sovereign.controller.plan import Plan
from sovereign.errors import SovereignError
from sovereign.registry import Snapshot
from sovereign.settings import Home

LOOKED_AT_MAX = 64 * TILE_WIDTH
"""Records of the log that are looked at, the newest first: about a second's work."""
_OPENS = ("attestation", "release")


class Past:
    """Remembers for damping; one process's, and no more than `REMEMBERED_MAX` times each."""

    def __init__(self, shut_at: Mapping[str, tuple[datetime, ...]] | None = None) -> None:
        self._shut_at = dict(shut_at or {})
        self._good: dict[str, int] = {}

    @classmethod
    def out_of_the_log(cls, home: Home, now: datetime) -> "Past":
        """What the newest records of the controller's evidence say."""
        try:
            return cls(shut_times(_newest(home, now)))
        except (SovereignError, OSError, ValueError) as error:
            eventlog.emit("past-unreadable", exception=type(error).__name__)
            return cls()

    def looks(self, now: datetime) -> dict[str, Looks]:
        """Of every endpoint that was ever shut: good looks so far, and how many it takes."""
        return {
            name: Looks(self._good.get(name, 0), damping.needed(times, now))
            for name, times in self._shut_at.items()
        }

    def learn(self, made: Plan, seen: Iterable[str], before: Snapshot, now: datetime) -> None:
        """Take in a plan that was carried out on the registry as it was before."""
        self._good = damping.looked(self._good, made.well, seen)
        was_shut = {each.id for each in before.endpoints if each.quarantine}
        for step in made.steps:
            name = step.endpoint.id
            if step.verb == "quarantine" and name not in was_shut:
                self._shut_at[name] = damping.shut(self._shut_at.get(name, ()), now)


def shut_times(records: Iterable[Mapping[str, Any]]) -> dict[str, tuple[datetime, ...]]:
    """When each endpoint went from open to shut, out of records in the order of the log.

    Another quarantine of one that is shut already is another reason, and counts once.
    """
    found: dict[str, tuple[datetime, ...]] = {}
    is_shut: set[str] = set()
    for each in records:
        name = each.get("endpoint", "")
        if each["type"] in _OPENS:
            is_shut.discard(name)
        elif each["type"] == "quarantine" and name not in is_shut:
            is_shut.add(name)
            found[name] = damping.shut(found.get(name, ()), datetime.fromisoformat(each["at"]))
    return found


def _newest(home: Home, now: datetime) -> list[dict[str, Any]]:
    """The records of the last `WINDOW`, or the newest ones of them, in order."""
    found: list[dict[str, Any]] = []
    for member in fleet.members(home):
        if (member.writer, member.stream) != ("controller", "evidence"):
            continue
        end = fleet.size_of(member) or 0
        last = max(0, end - LOOKED_AT_MAX)
        while end > last:
            start = max(last, (end - 1) // TILE_WIDTH * TILE_WIDTH)
            there = [each for _, each in fleet.records(member, start, end)]
            found = [*there, *found]
            if not there or now - datetime.fromisoformat(there[0]["at"]) > WINDOW:
                break
            end = start
    return found
