"""`drill restore`: put the logs back from a copy, into an empty home of its own, and verify them.

It measures what an organisation promises about itself: how long it takes to have the logs again
(recovery time), and how much of what was acknowledged the copy lacks (recovery point). The site's
own logs are read and never touched; no private key is used, so nothing can be written or signed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any

from sovereign import fleet
from sovereign.audit.copies.restore import Copy, Target, restore
from sovereign.audit.merkle import TILE_WIDTH
from sovereign.drills.note import noted
from sovereign.drills.result import Result, recorded
from sovereign.errors import RestoreRefused, StandbyUnreachable, TileMissing
from sovereign.policy import Policy
from sovereign.registry import utcnow
from sovereign.settings import Home, PathSettings, Settings

NAME = "restore"
Read = Callable[[str], bytes | None]
Source = Callable[[str], Read]
"""How to read the copy of a log, by the name of the log."""


@dataclass(frozen=True, slots=True)
class From:
    """Where the copy is: what to call it, and how to read a log of it."""

    name: str
    source: Source


def below(folder: Path, origin: str) -> Read:
    """A log in a folder of logs: below its site, as in a standby, or without it."""
    site, writer, stream = origin.split("/")
    whole = folder / site / writer / stream
    return fleet.reader(whole if whole.is_dir() else folder / writer / stream)


def plan(home: Home, copy: str) -> dict[str, Any]:
    """What a drill would do; nothing is done."""
    known = [member for member in fleet.members(home) if member.vkey is not None]
    return {
        "drill": NAME,
        "from": copy or "none is set",
        "logs": {member.origin: f"{fleet.size_of(member) or 0} records" for member in known},
    }


def drill(home: Home, policy: Policy, given: From | None, say: Callable[[str], None]) -> Result:
    """Restore every log of the site from the copy, and judge what is there then.

    Raises:
        NotDeployed, DrillRunning: nothing was done.
    """
    with noted(home, NAME, policy.digest) as note:
        result = Result(NAME, utcnow())
        scratch = Home(note.folder(NAME), Settings(site=home.settings.site, paths=PathSettings()))
        if given is None:
            result.unknown.append("there is no copy: set standby.url, or give --from FOLDER")
        else:
            say(f"restoring from {given.name}")
            _restored(result, home, scratch, given)
        return recorded(home, policy.digest, result)


def _restored(result: Result, home: Home, scratch: Home, given: From) -> None:
    wanted = [member for member in fleet.members(home) if member.vkey is not None]
    copies = [Copy(m.vkey, given.source(m.vkey.name)) for m in wanted if m.vkey is not None]
    result.cases = len(copies)
    started = monotonic()
    try:
        done = restore(
            copies, Target(scratch.audit, scratch.keys, scratch.trust), utcnow, source="drill"
        )
    except (RestoreRefused, TileMissing) as error:
        result.findings.append(f"{error.code}: {error.message}")
        return
    except (StandbyUnreachable, OSError) as error:
        result.unknown.append(f"the copy could not be read: {type(error).__name__}")
        return
    restored_s = monotonic() - started
    verified = fleet.verify(scratch)
    took_s = monotonic() - started
    result.findings += [f"{each.origin}: {f}" for each in verified for f in each.findings]
    result.unknown += [f"{each.origin}: {gap}" for each in verified for gap in each.open_gaps]
    behind = [_behind(member, scratch) for member in wanted]
    result.facts = {
        "from": given.name,
        "restored_s": round(restored_s, 3),
        "recovery_time_s": round(took_s, 3),
        "recovery_point_s": max((each["behind_s"] for each in behind), default=0),
        "records": sum(each.size for each in done),
        "logs": behind,
    }
    _judge_point(result, home, behind)


def _judge_point(result: Result, home: Home, behind: Sequence[dict[str, Any]]) -> None:
    """A copy that lacks records which are older than the recovery point breaks its promise."""
    allowed = home.settings.standby.recovery_point_s
    result.findings += [
        f"{each['log']}: the copy lacks {each['lacks']} records, up to {each['behind_s']} s old"
        for each in behind
        if each["behind_s"] > allowed
    ]


def _behind(member: fleet.Member, scratch: Home) -> dict[str, Any]:
    """What a copy lacks of a log, and how old the oldest of it is: that long a time is lost."""
    there = next(m for m in fleet.members(scratch) if m.origin == member.origin)
    copied, size = fleet.size_of(there) or 0, fleet.size_of(member) or 0
    oldest = _time_of(member, copied) if copied < size else None
    return {
        "log": member.origin,
        "records": copied,
        "lacks": max(0, size - copied),
        "behind_s": 0 if oldest is None else max(0, round((utcnow() - oldest).total_seconds())),
    }


def _time_of(member: fleet.Member, index: int) -> datetime | None:
    end = (index // TILE_WIDTH + 1) * TILE_WIDTH
    there = next(fleet.records(member, index, end), None)
    return None if there is None else datetime.fromisoformat(there[1]["at"])
