"""Open a suspected incident for what the controller sees, once for each cause.

Two things deserve it. An endpoint is shut for one of the reasons that the policy lists
(`opened_for`): data may have been where they may not be. Or an audit log is gone, or shorter than
somebody saw it before. It is a suspicion: a person confirms it, or closes it as none. But its
clocks run from what the controller saw, for whoever looks at it late must not have gained time.

The id follows from the cause, so a controller that was killed between seeing and recording opens
the same incident after it was started again, and never a second one.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from sovereign import eventlog, fleet
from sovereign.audit.keys import rotation
from sovereign.audit.remembered import Places
from sovereign.audit.trail import Trail
from sovereign.errors import LogUnwritable, SovereignError
from sovereign.incidents import verbs
from sovereign.incidents.ledger import Known, Ledger, id_of
from sovereign.incidents.verbs import Wish
from sovereign.policy import Policy
from sovereign.registry import Endpoint, Registry
from sovereign.settings import Home

RECORD_TIMEOUT_S = 10
LOOK_AT_LOGS_EVERY = timedelta(seconds=60)
BREACH = "personal-data-breach"
"""What a suspicion of ours is of; whether it is significant, too, is for a person to say."""
CAUSES = {
    "residency-refused": "residency-drift",
    "dependency-refused": "residency-drift",
    "telemetry-on": "telemetry",
    "attestation-disagrees": "residency-drift",
}
"""What an incident begins with, by the code of the quarantine."""
FINDING = "log-finding"


@dataclass(frozen=True, slots=True)
class Finding:
    """A log that is not as it was seen before; `size` is how far it had come then."""

    origin: str
    code: str
    size: int


def wishes(
    policy: Policy,
    known: Known,
    endpoints: Iterable[Endpoint],
    findings: Iterable[Finding],
    now: datetime,
) -> dict[str, Wish]:
    """What deserves an incident and has none yet, by the id that its cause gives it. Pure."""
    rules = policy.audit.incidents
    listed = {each.id for each in rules.causes}
    found: dict[str, Wish] = {}
    for endpoint in endpoints:
        shut = known.shut.get((endpoint.id, endpoint.quarantine))
        if endpoint.quarantine not in rules.opened_for or shut is None:
            continue
        cause = CAUSES.get(endpoint.quarantine, "")
        noticed_at = min(shut.at, now)
        found[id_of(shut.name)] = Wish(
            (BREACH,), noticed_at, cause, about=endpoint.id, trigger=shut.name, by="controller"
        )
    for each in findings:
        name = id_of(f"{each.code} {each.origin} {each.size}")
        found[name] = Wish((BREACH,), now, FINDING, about=each.origin, by="controller")
    new = found.keys() - known.incidents.keys()
    return {name: found[name] for name in sorted(new) if found[name].cause in listed}


def looked_at(home: Home) -> Iterator[Finding]:
    """Logs that are gone, or shorter than a checkpoint that was kept of them. Reads no entry."""
    for member in fleet.members(home):
        if member.vkey is None:
            continue
        notes = Places.of(member.folder, member.vkey, member.kept.parent).notes()
        history, raw = rotation.follow(fleet.reader(member.folder), member.vkey)
        kept = [each.size for note in notes if (each := history.read_kept(note)) is not None]
        seen = max(kept, default=0)
        signed = history.read(raw) if raw else None
        if not member.folder.is_dir():
            yield Finding(member.origin, "log-gone", seen)
        elif signed is None:
            yield Finding(member.origin, "checkpoint-missing", seen)
        elif seen > signed.size:
            yield Finding(member.origin, "cut-short", seen)


class Opening:
    """Looks once a round, at the logs once a minute; remembers what it has opened."""

    def __init__(self, home: Home, policy: Policy, trail: Trail) -> None:
        self._home = home
        self._policy = policy
        self._trail = trail
        self._ledger = Ledger(home)
        self._registry = Registry(home.registry)
        self._opened: set[str] = set()
        self._logs_due: datetime | None = None
        self._doubts: frozenset[Finding] = frozenset()

    def look(self, now: datetime) -> None:
        """Open what deserves it. What cannot be read, or recorded, is tried again next round."""
        try:
            known = self._ledger.look()
            endpoints = self._registry.snapshot().endpoints
            wanted = wishes(self._policy, known, endpoints, self._findings(now), now)
        except (SovereignError, OSError, sqlite3.Error) as error:
            eventlog.emit("incidents-unreadable", exception=type(error).__name__)
            return
        for name, wish in wanted.items():
            if name not in self._opened:
                self._open(name, wish, now)

    def _findings(self, now: datetime) -> frozenset[Finding]:
        """Those that stood at two looks, a minute apart: a log that is being restored is none."""
        due = self._logs_due
        if due is not None and due - LOOK_AT_LOGS_EVERY <= now < due:  # not so: it was moved back
            return frozenset()
        self._logs_due = now + LOOK_AT_LOGS_EVERY
        before, self._doubts = self._doubts, frozenset(looked_at(self._home))
        return before & self._doubts

    def _open(self, name: str, wish: Wish, now: datetime) -> None:
        saying = verbs.opened(self._policy, name, wish, now)
        with suppress(LogUnwritable, TimeoutError):
            self._trail.record(saying.type, **saying.fields).result(RECORD_TIMEOUT_S)
            self._opened.add(name)
            eventlog.emit("incident-opened", incident=name, code=wish.cause)
