"""An incident out of what was recorded of it: its state, what is known, and its history. Pure.

Three states, and `NEXT` is the whole table between them: what is not in it is no transition.
Replaying is total: a record that could not follow what was there before changes nothing, and is
named in `strange`, for a log must be readable whatever stands in it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

State = Literal["suspected", "confirmed", "closed"]
Verb = Literal["confirm", "close", "reopen"]
STATES: tuple[State, ...] = ("suspected", "confirmed", "closed")
VERBS: tuple[Verb, ...] = ("confirm", "close", "reopen")
NEXT: Mapping[tuple[State, Verb], State] = {
    ("suspected", "confirm"): "confirmed",
    ("suspected", "close"): "closed",
    ("confirmed", "close"): "closed",
    ("closed", "reopen"): "confirmed",
}
"""Verbs in the states that they can be said in, and the state after."""
HANDLED, NO_INCIDENT, DUPLICATE = "handled", "no-incident", "duplicate"
OUTCOMES: Mapping[str, str] = {
    HANDLED: "What had to be done is done, and what happened is written down.",
    NO_INCIDENT: "It was looked into: nothing of the kind happened.",
    DUPLICATE: "Another incident is about the same.",
}
"""Why an incident is closed."""
OPENED = "incident-opened"
TYPES = (
    *(OPENED, "incident-state", "incident-noticed", "incident-handled"),
    *("incident-scope", "incident-fact", "incident-duty"),
)
"""Types of records that are about an incident."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A record as it is read: its name, when it was recorded, and its fields."""

    name: str
    at: datetime
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Notice:
    """When we became aware, as it was seen from `said_at` on; `reason` is "" for the first."""

    noticed_at: datetime
    said_at: datetime
    record: str
    reason: str = ""
    approver: str = ""


@dataclass(frozen=True, slots=True)
class Fact:
    """A word about the incident, and about how many; None where nobody said."""

    what: str
    word: str
    count: int | None
    record: str


@dataclass(frozen=True, slots=True)
class Said:
    """What was recorded of a duty: `state` is `done`, `not-applicable` or `applies`."""

    duty: str
    state: str
    at: datetime
    record: str
    done_at: datetime | None = None
    how: str = ""
    document: str = ""
    reference: str = ""
    reason: str = ""
    approver: str = ""


@dataclass(frozen=True, slots=True)
class Incident:
    """Everything known of one. Times are aware; `notices` has at least one, the newest last.

    `roles` and `harms` are empty where nobody said. `outcome` is why it is closed, "" while it is
    not. `handled_at` is when it was over, None while nobody said so. `strange` names records that
    could not be.
    """

    id: str
    state: State
    kinds: tuple[str, ...]
    roles: tuple[str, ...]
    harms: tuple[str, ...]
    notices: tuple[Notice, ...]
    cause: str
    about: str
    trigger: str
    by: str
    opened_at: datetime
    policy: str
    outcome: str = ""
    handled_at: datetime | None = None
    facts: tuple[Fact, ...] = ()
    said: tuple[Said, ...] = ()
    history: tuple[Entry, ...] = ()
    strange: tuple[str, ...] = ()

    @property
    def noticed_at(self) -> datetime:
        """When we became aware, as it is seen now: what the clocks run from."""
        return self.notices[-1].noticed_at

    @property
    def is_open(self) -> bool:
        """False once it is closed."""
        return self.state != "closed"

    def known(self, what: str) -> tuple[Fact, ...]:
        """The facts of a kind, in the order they were said; of one word, the newest."""
        newest = {fact.word: fact for fact in self.facts if fact.what == what}
        return tuple(newest.values())


def following(state: State, verb: str) -> State | None:
    """The state after a verb, None where it is no transition."""
    return next(
        (NEXT[state, each] for each in VERBS if each == verb and (state, each) in NEXT), None
    )


def replayed(openings: Iterable[Entry], others: Iterable[Entry]) -> dict[str, Incident]:
    """Every incident by its id, the oldest first.

    Args:
        openings: records of type `incident-opened`, of every log. The first of an id counts: the
            controller may have been killed after one, and say it again.
        others: those of the operator's log, in their order. No clock decides what came first.
    """
    found: dict[str, Incident] = {}
    for entry in sorted(openings, key=lambda each: each.at):
        found.setdefault(entry.fields["incident"], _opened(entry))
    for entry in others:
        before = found.get(entry.fields["incident"])
        if before is not None:
            found[before.id] = applied(before, entry)
    return found


def _opened(entry: Entry) -> Incident:
    said = entry.fields
    noticed_at = datetime.fromisoformat(said["noticed_at"])
    return Incident(
        id=said["incident"],
        state="confirmed" if said["state"] == "confirmed" else "suspected",
        kinds=_words(said["kinds"]),
        roles=_words(said.get("roles", "")),
        harms=_words(said.get("harms", "")),
        notices=(Notice(noticed_at, entry.at, entry.name),),
        cause=said["cause"],
        about=said.get("about", ""),
        trigger=said.get("trigger", ""),
        by=said["by"],
        opened_at=entry.at,
        policy=said["policy"],
        history=(entry,),
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)


def applied(incident: Incident, entry: Entry) -> Incident:
    """The incident after one more record of it."""
    after = _changed(incident, entry, entry.fields)
    if after is None:
        return replace(incident, strange=(*incident.strange, entry.name))
    return replace(after, history=(*incident.history, entry))


def _changed(incident: Incident, entry: Entry, said: Mapping[str, Any]) -> Incident | None:
    match said["type"]:
        case "incident-state":
            return _stated(incident, said)
        case "incident-noticed" | "incident-handled":
            return _moment(incident, entry, said)
        case "incident-scope":
            return _widened(incident, said)
        case "incident-fact":
            fact = Fact(said["what"], said["word"], said.get("count"), entry.name)
            return replace(incident, facts=(*incident.facts, fact))
        case "incident-duty":
            return replace(incident, said=(*incident.said, _said(entry, said)))
        case _:
            return None


def _stated(incident: Incident, said: Mapping[str, Any]) -> Incident | None:
    after = following(incident.state, said["verb"])
    if after is None:
        return None
    return replace(
        incident, state=after, outcome=said.get("reason", "") if after == "closed" else ""
    )


def _noticed(incident: Incident, entry: Entry, said: Mapping[str, Any]) -> Incident:
    noticed_at = datetime.fromisoformat(said["noticed_at"])
    notice = Notice(noticed_at, entry.at, entry.name, said["reason"], said["approver"])
    return replace(incident, notices=(*incident.notices, notice))


def _moment(incident: Incident, entry: Entry, said: Mapping[str, Any]) -> Incident:
    if said["type"] == "incident-handled":
        return replace(incident, handled_at=datetime.fromisoformat(said["handled_at"]))
    return _noticed(incident, entry, said)


def _widened(incident: Incident, said: Mapping[str, Any]) -> Incident:
    """More of each; nothing is ever taken away, a duty that does not arise says so itself."""
    return replace(
        incident,
        kinds=_joined(incident.kinds, said.get("kinds", "")),
        roles=_joined(incident.roles, said.get("roles", "")),
        harms=_joined(incident.harms, said.get("harms", "")),
    )


def _joined(known: tuple[str, ...], more: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*known, *_words(more))))


def _said(entry: Entry, said: Mapping[str, Any]) -> Said:
    done_at = said.get("done_at")
    return Said(
        duty=said["duty"],
        state=said["state"],
        at=entry.at,
        record=entry.name,
        done_at=None if done_at is None else datetime.fromisoformat(done_at),
        how=said.get("how", ""),
        document=said.get("document", ""),
        reference=said.get("reference", ""),
        reason=said.get("reason", ""),
        approver=said.get("approver", ""),
    )
