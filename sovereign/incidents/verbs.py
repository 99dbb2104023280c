"""What may be said of an incident, as the record that says it, or why it may not be. Pure.

Each function returns a `Saying` and changes nothing; the caller records it, and the next replay
shows it. So the same rules hold for a person and for the controller, and a refusal leaves no
trace. Words come out of the policy or of the tables below: what is not there is not accepted, for
a free word could be somebody's name, and evidence is kept for years.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import get_args

from sovereign.audit.record import written
from sovereign.errors import BadInput, IncidentIncomplete, UnknownName
from sovereign.incidents import case
from sovereign.incidents.case import DUPLICATE, HANDLED, OUTCOMES, Incident
from sovereign.incidents.duties import Duty, duties
from sovereign.policy import Policy
from sovereign.policy.shapes import FactKind, IncidentHarm, IncidentKind, IncidentRole

KINDS: tuple[str, ...] = get_args(IncidentKind)
ROLES: tuple[str, ...] = get_args(IncidentRole)
HARMS: tuple[str, ...] = get_args(IncidentHarm)
FACTS: tuple[str, ...] = get_args(FactKind)
DOCUMENTED = ("nature", "consequence", "measure")
"""What is written down before an incident is over: facts, effects, remedy (GDPR Art. 33(5))."""
MOVED: Mapping[str, str] = {
    "earlier-sign-found": "A sign was found by which we could have been certain earlier.",
    "suspicion-only": "At first it was a suspicion; certainty came when it had been looked into.",
    "told-later": "Whoever processes for us told us at that time.",
    "entered-wrongly": "The time was entered wrongly.",
}
"""Why the time of awareness is seen otherwise than before."""
REOPENED: Mapping[str, str] = {
    "new-facts": "Something came to light after it was closed.",
    "closed-by-mistake": "It was closed by mistake.",
}
HOW: Mapping[str, str] = {
    "portal": "Through the portal of whoever was told.",
    "letter": "By letter.",
    "mail": "By mail.",
    "call-confirmed": "By a call that was confirmed in writing.",
    "publication": "By a public communication.",
    "progress-report": "By a progress report, because it still goes on (NIS2 Art. 23(4)(e)).",
}
COUNT_MAX = 10_000_000_000
_FILE_NUMBER = re.compile(r"(?=.*[0-9])[A-Z0-9][A-Z0-9./-]{2,39}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ABOUT = re.compile(r"[a-z0-9][A-Za-z0-9._/-]{0,127}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Saying:
    """A record to be written: its type and fields."""

    type: str
    fields: Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Wish:
    """An incident to be opened. `noticed_at` is when we became aware of it."""

    kinds: tuple[str, ...]
    noticed_at: datetime
    cause: str
    roles: tuple[str, ...] = ()
    harms: tuple[str, ...] = ()
    state: str = "suspected"
    about: str = ""
    trigger: str = ""
    by: str = "operator"


def opened(policy: Policy, name: str, wish: Wish, now: datetime) -> Saying:
    """An incident begins.

    Args:
        name: its id; a new one, or for the controller the one that its cause gives.

    Raises:
        UnknownName: a word that is in no list.
        BadInput: no kind was given, or we became aware in the future.
    """
    if not wish.kinds:
        raise BadInput("an incident is of some kind", accepted=", ".join(KINDS))
    _refuse_unlisted("kind of incident", wish.kinds, KINDS)
    _refuse_unlisted("role", wish.roles, ROLES)
    _refuse_unlisted("harm", wish.harms, HARMS)
    _refuse_unlisted("cause", (wish.cause,), [each.id for each in policy.audit.incidents.causes])
    _refuse_future("we became aware", wish.noticed_at, now)
    if wish.about and not _ABOUT.fullmatch(wish.about):
        raise BadInput("what it is about has another form", accepted="an endpoint, or a log")
    optional = {
        "roles": ",".join(dict.fromkeys(wish.roles)),
        "harms": ",".join(dict.fromkeys(wish.harms)),
        "about": wish.about,
        "trigger": wish.trigger,
    }
    return Saying(
        case.OPENED,
        {
            "incident": name,
            "state": wish.state,
            "kinds": ",".join(dict.fromkeys(wish.kinds)),
            "noticed_at": written(wish.noticed_at),
            "cause": wish.cause,
            "by": wish.by,
            "policy": policy.digest,
            **{key: value for key, value in optional.items() if value},
        },
    )


def confirmed(policy: Policy, incident: Incident) -> Saying:
    """It is one.

    Raises:
        BadInput: it is not suspected any more.
    """
    _refuse_transition(incident, "confirm")
    return _stated(policy, incident, "confirm")


def closed(
    policy: Policy, incident: Incident, outcome: str, approver: str, now: datetime, of: str = ""
) -> Saying:
    """It is over.

    Args:
        of: the other incident, for a duplicate.

    Raises:
        BadInput, UnknownName: it is closed already, or a word is in no list.
        IncidentIncomplete: a duty is open, or what has to be documented is not. It stays open.
    """
    _refuse_transition(incident, "close")
    _refuse_unlisted("outcome", (outcome,), OUTCOMES)
    _refuse_approver(policy, approver)
    if (outcome == DUPLICATE) != bool(of) or of == incident.id:
        raise BadInput(
            "a duplicate is one of another incident", accepted="--outcome duplicate --of"
        )
    if outcome == HANDLED and incident.state == "suspected":
        raise BadInput(
            f"{incident.id} is only suspected: nothing was handled yet",
            accepted=", ".join(each for each in OUTCOMES if each != HANDLED),
            next_step=f"sovereign incident add {incident.id} --confirm",
        )
    if outcome == HANDLED:
        _refuse_incomplete(policy, incident, now)
    reason = f"{outcome}:{of}" if of else outcome
    return _stated(policy, incident, "close", reason, approver)


def _refuse_incomplete(policy: Policy, incident: Incident, now: datetime) -> None:
    lacking = [each for each in DOCUMENTED if not incident.known(each)]
    still = [f"{each.id} ({each.standing})" for each in _of(policy, incident, now) if each.is_open]
    if lacking or still:
        raise IncidentIncomplete(
            f"{incident.id} is not over: something has to be done or written down first",
            rule="gdpr-33-5",
            because="Facts, effects and remedy of every breach are documented (GDPR art. 33(5)).",
            found="; ".join(
                [*(f"no {each} is known" for each in lacking), *(f"open: {each}" for each in still)]
            ),
            accepted="each duty done, or not applicable on one of its grounds; each of these known",
            next_step=f"sovereign incident clock {incident.id}",
        )


def reopened(policy: Policy, incident: Incident, reason: str, approver: str) -> Saying:
    """It is not over after all; from here on its clocks count again.

    Raises:
        BadInput, UnknownName: it is open, or a word is in no list.
    """
    _refuse_transition(incident, "reopen")
    _refuse_unlisted("reason to reopen", (reason,), REOPENED)
    _refuse_approver(policy, approver)
    return _stated(policy, incident, "reopen", reason, approver)


def _stated(
    policy: Policy, incident: Incident, verb: str, reason: str = "", approver: str = ""
) -> Saying:
    optional = {"reason": reason, "approver": approver}
    said = {"incident": incident.id, "verb": verb, "policy": policy.digest}
    return Saying("incident-state", said | {k: v for k, v in optional.items() if v})


def noticed(
    policy: Policy, incident: Incident, at: datetime, reason: str, approver: str, now: datetime
) -> Saying:
    """We became aware at another time than was said. The time said before stays in the log.

    Raises:
        BadInput, UnknownName: in the future, the incident is closed, or a word is in no list.
    """
    _refuse_closed(incident)
    _refuse_unlisted("reason to move awareness", (reason,), MOVED)
    _refuse_approver(policy, approver)
    _refuse_future("we became aware", at, now)
    fields = {"noticed_at": written(at), "reason": reason, "approver": approver}
    return Saying("incident-noticed", _about(policy, incident) | fields)


def handled(policy: Policy, incident: Incident, at: datetime, now: datetime) -> Saying:
    """The incident is over; a final report that waited for that is due a month later.

    Raises:
        BadInput: it is closed, or that was before it was noticed, or is in the future.
    """
    _refuse_closed(incident)
    _refuse_future("it was handled", at, now)
    if at < incident.noticed_at:
        raise BadInput(
            f"{incident.id} was noticed after that", accepted=written(incident.noticed_at)
        )
    fields = {"incident": incident.id, "handled_at": written(at), "policy": policy.digest}
    return Saying("incident-handled", fields)


def widened(
    policy: Policy,
    incident: Incident,
    kinds: tuple[str, ...] = (),
    roles: tuple[str, ...] = (),
    harms: tuple[str, ...] = (),
) -> Saying:
    """It is of more kinds, in more roles, or led to more harm than was known.

    Raises:
        BadInput, UnknownName: nothing was given, the incident is closed, or a word is in no list.
    """
    _refuse_closed(incident)
    _refuse_unlisted("kind of incident", kinds, KINDS)
    _refuse_unlisted("role", roles, ROLES)
    _refuse_unlisted("harm", harms, HARMS)
    said = {"kinds": ",".join(kinds), "roles": ",".join(roles), "harms": ",".join(harms)}
    more = {name: value for name, value in said.items() if value}
    if not more:
        raise BadInput("nothing was said", accepted="a kind, a role or a harm")
    return Saying("incident-scope", _about(policy, incident) | more)


def fact(
    policy: Policy, incident: Incident, what: str, word: str, count: int | None = None
) -> Saying:
    """Something is known of it.

    Raises:
        BadInput, UnknownName: the incident is closed, a number is none, or a word is in no list.
    """
    _refuse_closed(incident)
    listed = [each.id for each in policy.audit.incidents.facts if each.what == what]
    _refuse_unlisted(what, (word,), listed)
    if count is not None and (what not in ("subjects", "records") or not 0 <= count <= COUNT_MAX):
        raise BadInput(
            f"a {what} has no such number", accepted="people or records, from 0; about how many"
        )
    fields: dict[str, str | int] = {"what": what, "word": word}
    numbered = fields if count is None else fields | {"count": count}
    return Saying("incident-fact", _about(policy, incident) | numbered)


def done(
    policy: Policy,
    incident: Incident,
    duty: str,
    done_at: datetime,
    how: str,
    now: datetime,
    document: str = "",
    reference: str = "",
) -> Saying:
    """A duty was done.

    Args:
        document: SHA-256 of what was sent, in hex.
        reference: the file number that the other side gave.

    Raises:
        BadInput, UnknownName: in the future, the incident is closed or has no such duty, or a word
            is in no list.
    """
    _refuse_closed(incident)
    found = _duty(policy, incident, duty, now)
    if found.done is not None:
        raise BadInput(
            f"{duty} is done already, as {found.done.record} says",
            next_step=f"sovereign incident add {incident.id} --applies {duty}, if that was wrong",
        )
    _refuse_unlisted("way in which it was done", (how,), HOW)
    _refuse_future("it was done", done_at, now)
    if reference and not _FILE_NUMBER.fullmatch(reference):
        raise BadInput(
            "a reference is the file number of whoever was told, never a name",
            accepted="3 to 40 capital letters, digits, dots, slashes and hyphens, with a digit",
        )
    if document and not _DIGEST.fullmatch(document):
        raise BadInput("a document is named by its SHA-256", accepted="64 hexadecimal digits")
    said = {"done_at": written(done_at), "how": how, "document": document, "reference": reference}
    more = {name: value for name, value in said.items() if value}
    return Saying(
        "incident-duty", _about(policy, incident) | {"duty": duty, "state": "done"} | more
    )


def excused(
    policy: Policy, incident: Incident, duty: str, reason: str, approver: str, now: datetime
) -> Saying:
    """A duty does not arise, on one of its own grounds.

    Raises:
        BadInput, UnknownName: it is done, the incident is closed or has no such duty, or a word is
            in no list.
    """
    _refuse_closed(incident)
    found = _duty(policy, incident, duty, now)
    if found.done is not None:
        raise BadInput(f"{duty} was done: {found.done.record}")
    _refuse_unlisted(f"ground on which {duty} does not arise", (reason,), _grounds(found))
    _refuse_approver(policy, approver)
    fields = {"duty": duty, "state": "not-applicable", "reason": reason, "approver": approver}
    return Saying("incident-duty", _about(policy, incident) | fields)


def applies(policy: Policy, incident: Incident, duty: str, approver: str, now: datetime) -> Saying:
    """A duty arises after all, or was not done after all; what was said of it stays in the log.

    Raises:
        BadInput, UnknownName: the incident is closed or has no such duty, nothing was said of it,
            or the role may not answer for it.
    """
    _refuse_closed(incident)
    found = _duty(policy, incident, duty, now)
    _refuse_approver(policy, approver)
    if found.done is None and found.excused is None:
        raise BadInput(f"nobody said that {duty} is done or does not arise")
    fields = {"duty": duty, "state": "applies", "approver": approver}
    return Saying("incident-duty", _about(policy, incident) | fields)


# --- what all of them ask -----------------------------------------------------------------------


def _about(policy: Policy, incident: Incident) -> dict[str, str | int]:
    return {"incident": incident.id, "policy": policy.digest}


def _of(policy: Policy, incident: Incident, now: datetime) -> tuple[Duty, ...]:
    return duties(incident, policy.law, policy.audit.incidents, now)


def _duty(policy: Policy, incident: Incident, name: str, now: datetime) -> Duty:
    known = {each.id: each for each in _of(policy, incident, now)}
    _refuse_unlisted(f"duty of {incident.id}", (name,), known)
    return known[name]


def _grounds(duty: Duty) -> list[str]:
    return [each.id for each in duty.clock.unless]


def _refuse_unlisted(what: str, given: Iterable[str], listed: Iterable[str]) -> None:
    known = list(listed)
    for each in given:
        if each not in known:
            raise UnknownName(
                f"{each!r} is no {what}",
                accepted=", ".join(known) or "none: rules/audit.yaml lists none under `incidents`",
            )


def _refuse_approver(policy: Policy, given: str) -> None:
    listed = policy.audit.incidents.approvers
    if given not in listed:
        raise UnknownName(
            f"{given!r} may not answer for that" if given else "nobody answers for that",
            accepted=", ".join(listed) or "none: rules/audit.yaml names no approvers of incidents",
            next_step="--approver ROLE; a role of the organisation, never a person's name",
        )


def _refuse_future(what: str, at: datetime, now: datetime) -> None:
    if at > now:
        raise BadInput(f"{what} at {written(at)}, which is in the future", accepted=written(now))


def _refuse_closed(incident: Incident) -> None:
    if not incident.is_open:
        raise BadInput(
            f"{incident.id} is closed",
            accepted="an open incident",
            next_step=f"sovereign incident add {incident.id} --reopen new-facts",
        )


def _refuse_transition(incident: Incident, verb: str) -> None:
    if case.following(incident.state, verb) is None:
        possible = [each for each in case.VERBS if case.following(incident.state, each)]
        raise BadInput(
            f"{incident.id} is {incident.state}: it cannot be told to {verb}",
            accepted=", ".join(possible),
        )
