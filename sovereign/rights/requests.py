"""A person's request out of what was recorded of it, its clock, and what may be said of it. Pure.

A request is answered within a month of its receipt; two more may be taken where it is needed, if
the person is told why within the first (GDPR Art. 12(3)). Whoever is refused is told so within the
first month, whatever was extended (Art. 12(4)). The months are facts/law.yaml. They are counted as
those of an incident are (`incidents/duties.py`), from the instant of receipt by the calendar in
UTC: Regulation (EEC, Euratom) 1182/71, Art. 3, ends the same months later, so what is in time here
is in time. Receipt counts, not when somebody read it.

Nothing here says who asked: a request has an id, which stands in the answer and in the file of
whoever answers. Self-assessment, not legal advice.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from sovereign.audit.record import written
from sovereign.errors import BadInput, ErasureExcepted, UnknownName
from sovereign.incidents.duties import add_months
from sovereign.policy import Policy
from sovereign.policy.shapes import Term

LAW = "gdpr-12-3"
"""Where the months stand in facts/law.yaml."""
OPENED, EXTENDED, ANSWERED = "request-received", "request-extended", "request-answered"
TYPES = (OPENED, EXTENDED, ANSWERED)
KINDS: Mapping[str, str] = {
    "access": "What is kept about me, and a copy (Art. 15).",
    "rectification": "Put it right (Art. 16).",
    "erasure": "Erase it (Art. 17).",
    "restriction": "Keep it, and use it for nothing else (Art. 18).",
    "portability": "Give it to me to take elsewhere (Art. 20).",
    "objection": "Stop using it (Art. 21).",
}
EXTENSIONS: Mapping[str, str] = {
    "complexity": "The request is complex.",
    "number": "There are many requests.",
}
"""Why two more months may be needed: what Art. 12(3) takes into account."""
OUTCOMES: Mapping[str, str] = {
    "done": "What was asked for was done, and the person was told.",
    "refused": "It was not done, on a ground; the person was told why, and where to complain.",
    "withdrawn": "The person took it back.",
}
_ANY = tuple(KINDS)
GROUNDS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "not-identified": (_ANY, "We cannot tell who it is (Art. 11(2), 12(2))."),
    "unfounded": (_ANY, "It is manifestly unfounded (Art. 12(5))."),
    "excessive": (_ANY, "It is excessive, above all because it is repeated (Art. 12(5))."),
    "not-our-role": (_ANY, "We are not the controller, who was told (Art. 28(3)(e))."),
    "rights-of-others": (("access", "portability"), "It would harm others (Art. 15(4), 20(4))."),
    "not-by-consent-or-contract": (("portability",), "It rests on neither (Art. 20(1)(a))."),
    "accurate": (("rectification", "restriction"), "The data are right (Art. 16, 18(1)(a))."),
    "no-ground": (("erasure", "restriction"), "None of Art. 17(1), or of 18(1), is there."),
    "expression": (("erasure",), "Freedom of expression and information (Art. 17(3)(a))."),
    "legal-duty": (("erasure",), "A duty of the law, or a public task (Art. 17(3)(b))."),
    "public-health": (("erasure",), "Public health (Art. 17(3)(c))."),
    "archiving": (("erasure",), "Archives, research or statistics (Art. 17(3)(d))."),
    "legal-claims": (("erasure", "objection"), "Legal claims (Art. 17(3)(e), 21(1))."),
    "compelling-grounds": (("objection",), "Grounds of ours that weigh more (Art. 21(1))."),
}
"""On what a request may be refused: of which kinds, and what it means."""
Standing = Literal["due", "late", "answered", "answered-late"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A record as it is read: its name, when it was recorded, and its fields."""

    name: str
    at: datetime
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """Everything known of one. `told_at` is when the person was told of an extension."""

    id: str
    kind: str
    received_at: datetime
    extension: str = ""
    told_at: datetime | None = None
    outcome: str = ""
    ground: str = ""
    answered_at: datetime | None = None
    strange: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        """Nobody has answered it yet."""
        return not self.outcome

    def due_at(self, term: Term) -> datetime:
        """When its time is over. A refusal has the first month only, as Art. 12(4) says."""
        first = add_months(self.received_at, term.months)
        timely = self.told_at is not None and self.told_at <= first
        if not timely or self.outcome == "refused":
            return first
        return add_months(self.received_at, term.months + term.extension_months)

    def standing(self, term: Term, now: datetime) -> Standing:
        """How it stands with its time."""
        if self.outcome == "withdrawn":
            return "answered"
        late = (self.answered_at or now) > self.due_at(term)
        if self.is_open:
            return "late" if late else "due"
        return "answered-late" if late else "answered"

    def left(self, term: Term, now: datetime) -> timedelta:
        """Time until it is late; negative once it is."""
        return self.due_at(term) - now


@dataclass(frozen=True, slots=True)
class Saying:
    """A record to be written: its type and fields."""

    type: str
    fields: Mapping[str, str | int]


def term_of(policy: Policy) -> Term:
    """How long there is.

    Raises:
        UnknownName: the facts do not say, so nothing can be counted.
    """
    law = policy.law.get(LAW)
    if law is None or law.term is None:
        raise UnknownName(f"{LAW} has no term", accepted="`term` of it in facts/law.yaml")
    return law.term


def replayed(entries: Iterable[Entry]) -> dict[str, Request]:
    """Every request by its id, in the order of the log. What cannot follow changes nothing."""
    found: dict[str, Request] = {}
    for entry in entries:
        name = str(entry.fields["request"])
        if entry.fields["type"] == OPENED:
            received = datetime.fromisoformat(entry.fields["received_at"])
            found.setdefault(name, Request(name, str(entry.fields["asked"]), received))
        elif name in found:
            found[name] = _applied(found[name], entry)
    return found


def _applied(request: Request, entry: Entry) -> Request:
    said = entry.fields
    if not request.is_open or (said["type"] == EXTENDED and request.extension):
        return replace(request, strange=(*request.strange, entry.name))
    if said["type"] == EXTENDED:
        told_at = datetime.fromisoformat(said["told_at"])
        return replace(request, extension=said["reason"], told_at=told_at)
    answered_at = datetime.fromisoformat(said["answered_at"])
    ground = str(said.get("ground", ""))
    return replace(request, outcome=said["outcome"], ground=ground, answered_at=answered_at)


def received(policy: Policy, name: str, kind: str, at: datetime, now: datetime) -> Saying:
    """A request came.

    Raises:
        UnknownName: it is of no kind.
        BadInput: it came in the future.
    """
    _refuse_unlisted("request", kind, KINDS)
    _refuse_future("it was received", at, now)
    fields = {"request": name, "asked": kind, "received_at": written(at)}
    return Saying(OPENED, {**fields, "policy": policy.digest})


def extended(
    policy: Policy, request: Request, reason: str, told_at: datetime, now: datetime
) -> Saying:
    """Two more months, of which the person was told, with the reason, within the first.

    Raises:
        UnknownName: no reason of Art. 12(3).
        BadInput: it is answered, extended already, or the person was told too late.
    """
    _refuse_unlisted("reason to extend", reason, EXTENSIONS)
    _refuse_answered(request)
    _refuse_future("the person was told", told_at, now)
    if request.extension:
        raise BadInput(f"{request.id} is extended already", because="GDPR art. 12(3): once")
    first = add_months(request.received_at, term_of(policy).months)
    if not request.received_at <= told_at <= first:
        raise BadInput(
            f"{request.id} is not extended by telling the person at {written(told_at)}",
            because="they are told within one month of receipt (GDPR art. 12(3))",
            accepted=f"{written(request.received_at)} to {written(first)}",
        )
    fields = {"request": request.id, "reason": reason, "told_at": written(told_at)}
    return Saying(EXTENDED, {**fields, "policy": policy.digest})


def answered(
    policy: Policy, request: Request, outcome: str, ground: str, at: datetime, now: datetime
) -> Saying:
    """The person was answered; a refusal says on which ground.

    Raises:
        UnknownName: no outcome, or no ground to refuse this kind.
        BadInput: it is answered already, or before it came or in the future; or a ground is
            given for what was not refused.
    """
    _refuse_unlisted("outcome", outcome, OUTCOMES)
    _refuse_answered(request)
    _refuse_future("it was answered", at, now)
    if at < request.received_at:
        raise BadInput(f"{request.id} came after that", accepted=written(request.received_at))
    if outcome == "refused":
        mine = [name for name, (kinds, _) in GROUNDS.items() if request.kind in kinds]
        _refuse_unlisted(f"ground to refuse {request.kind}", ground, mine)
    elif ground:
        raise BadInput(f"a ground is for a refusal; this is {outcome}", accepted="no --ground")
    fields = {"request": request.id, "outcome": outcome, "answered_at": written(at)}
    more = {"ground": ground} if ground else {}
    return Saying(ANSWERED, {**fields, **more, "policy": policy.digest})


def refuse_unasked(request: Request, kind: str) -> None:
    """Refuse to do for a request what it does not ask for, or what was refused on a ground.

    Raises:
        BadInput: it asks for something else, or was taken back.
        ErasureExcepted: it was refused; the ground is in the message.
    """
    if request.kind != kind or request.outcome == "withdrawn":
        raise BadInput(
            f"{request.id} does not ask for {kind}",
            found=f"{request.kind}, {request.outcome or 'open'}",
            accepted=f"a request for {kind}, or none",
        )
    if request.outcome == "refused":
        raise ErasureExcepted(
            f"{request.id} was refused: {request.ground}",
            because=GROUNDS[request.ground][1] if request.ground in GROUNDS else "",
            next_step=f"sovereign subject received {kind}, when somebody asks again",
        )


def left_by_kind(requests: Iterable[Request], term: Term, now: datetime) -> dict[str, float]:
    """Seconds until a request of each kind is late, of the open one that is so first."""
    found: dict[str, float] = {}
    for each in requests:
        if each.is_open:
            left = each.left(term, now).total_seconds()
            found[each.kind] = min(left, found.get(each.kind, float("inf")))
    return found


def _refuse_unlisted(what: str, word: str, listed: Iterable[str]) -> None:
    if word not in listed:
        raise UnknownName(f"{word!r} is no {what}", accepted=", ".join(listed))


def _refuse_future(what: str, at: datetime, now: datetime) -> None:
    if at > now:
        raise BadInput(f"{what} at {written(at)}, which is in the future", accepted=written(now))


def _refuse_answered(request: Request) -> None:
    if not request.is_open:
        raise BadInput(f"{request.id} is answered already", found=request.outcome)
