"""Whether everything that was answered is on record: the promise of the audit log, held to it."""

import time
from collections.abc import Iterable

from sovereign import fleet
from sovereign.settings import Home

PUBLISHED_WITHIN_S, POLL_S = 15.0, 0.25


def sizes(home: Home) -> dict[str, int]:
    """How many records each log holds now, by its origin."""
    return {each.origin: fleet.size_of(each) or 0 for each in fleet.members(home)}


def without_records(
    home: Home, before: dict[str, int], answered: Iterable[str]
) -> list[tuple[str, str]]:
    """The requests that were answered and lack a record, with what is lacking.

    Args:
        before: how long each log was before; what is older is not looked at.
    """
    deadline = time.monotonic() + PUBLISHED_WITHIN_S
    wanted = list(answered)
    while True:
        lacking = _lacking(home, before, wanted)
        if not lacking or time.monotonic() > deadline:
            return lacking
        time.sleep(POLL_S)


def _lacking(home: Home, before: dict[str, int], answered: list[str]) -> list[tuple[str, str]]:
    decided: set[str] = set()
    ended: set[str] = set()
    for member in fleet.members(home):
        if (member.writer, member.stream) != ("gateway", "event"):
            continue
        end = fleet.size_of(member) or 0
        for index, entry in fleet.records(member, before.get(member.origin, 0), end):
            if entry["type"] == "decision":
                decided.add(f"{member.origin}#{index}")
            elif entry["type"] == "completion" and entry["outcome"] == "answered":
                ended.add(f"{member.origin}#{entry['decision']}")
    lack = {"has no decision on record": decided, "has no completion on record": ended}
    return [(name, what) for name in answered for what, there in lack.items() if name not in there]
