"""Incidents out of made-up records, and a site to record real ones at."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sovereign import policy as policies
from sovereign.audit import trail as trails
from sovereign.audit.record import written
from sovereign.audit.trail import WRITERS, Trail
from sovereign.incidents.case import OPENED, Entry, Incident, applied, replayed
from sovereign.incidents.duties import Duty, duties
from sovereign.incidents.verbs import Saying
from sovereign.policy import Policy
from sovereign.settings import Home, Settings

POLICY = policies.load(Path(__file__).resolve().parents[2] / "policies", "eea")
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
INC = "inc_0123456789ab"
BREACH, SIGNIFICANT, AI = "personal-data-breach", "significant-incident", "serious-ai-incident"
DPO = "data-protection-officer"


def entry(kind: str, at: datetime = NOW, name: str = "s/operator/evidence#1", **said: Any) -> Entry:
    """A record as it is read."""
    return Entry(name, at, {"type": kind, "incident": INC, "policy": POLICY.digest, **said})


def opening(noticed_at: datetime = NOW, kinds: str = BREACH, **more: Any) -> Entry:
    """The record an incident begins with."""
    said = {"state": "suspected", "cause": "content-found", "by": "operator", **more}
    return entry(OPENED, kinds=kinds, noticed_at=written(noticed_at), **said)


def incident(noticed_at: datetime = NOW, kinds: str = BREACH, **more: Any) -> Incident:
    """An incident of which nothing more was said yet."""
    return replayed([opening(noticed_at, kinds, **more)], [])[INC]


def saying(it: Incident, *said: Saying, at: datetime = NOW) -> Incident:
    """The incident once this was recorded."""
    for each in said:
        fields = {**each.fields, "type": each.type}
        it = applied(it, Entry(f"s/operator/evidence#{len(it.history) + 1}", at, fields))
    return it


def done(it: Incident, duty: str, at: datetime) -> Incident:
    """The incident once a duty was done."""
    said = {"duty": duty, "state": "done", "done_at": written(at), "how": "portal"}
    return applied(it, entry("incident-duty", at, **said))


def standing(it: Incident, duty: str, now: datetime = NOW, policy: Policy = POLICY) -> Duty:
    """How it stands with one duty."""
    found = {each.id: each for each in duties(it, policy.law, policy.audit.incidents, now)}
    return found[duty]


def with_law(law: str, **changed: Any) -> Policy:
    """The policy with something else in one entry of the law."""
    from msgspec.structs import replace as with_fields

    return replace(POLICY, law={**POLICY.law, law: with_fields(POLICY.law[law], **changed)})


def home_at(root: Path) -> Home:
    """A site with the logs of every writer."""
    home = Home(root, Settings())
    for writer in WRITERS:
        trails.create(home.audit, home.keys, home.trust, writer, "local")
    return home


def writing(home: Home, writer: str, at: datetime = NOW) -> Trail:
    """A writer's trail, whose clock stands still."""
    return Trail.open(home.audit, home.keys, writer, "local", lambda: at)
