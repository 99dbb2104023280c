"""The register of processing activities (GDPR Art. 30(1) and (2)), out of the live state. Pure.

An entry is one purpose of one tenant: what its keys and its tokens' bindings say, and what of the
site it touches. Purposes, legal bases and classes of data come from the keys; recipients and third
countries from the dependencies as they are judged now; time limits from the retention rules;
measures from the verdicts of the controls. So when one of these changes, the entry does, and nobody
keeps a second copy that is right on the day it is written.

What no state tells, such as who the people are or how the organisation is reached, is taken from
`organisation` and `processing` of the settings. What nobody said is `UNKNOWN`, is listed, and is no
answer. `sovereign register show` prints it; a person answers for it.

Source: GDPR Art. 30(1)(a) to (g) and 30(2)(a) to (d), in force since 25 May 2018. Self-assessment,
not legal advice.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from sovereign.dependencies import NONE, Judged
from sovereign.evidence.verdict import State, Verdict
from sovereign.keystore import Key, Tenant
from sovereign.policy import THIS_HOST, Policy
from sovereign.policy.shapes import Control, RetentionClass
from sovereign.residency import Decision
from sovereign.settings import OrganisationSettings, ProcessingSettings

UNKNOWN = "unknown"
_OF_REQUESTS = ("content", "event", "security", "evidence", "process-log")
"""Retention classes that what a request leaves behind is in."""
_ARTICLES = {"controller": "30(1)", "processor": "30(2)", UNKNOWN: "30"}


@dataclass(frozen=True, slots=True)
class Bound:
    """What somebody who may call is bound to: a key, or a binding of an identity provider.

    `state` is as a key has it. A tenant or purpose that a token's claim names is `UNKNOWN`.
    """

    by: str
    tenant: str
    purpose: str
    basis: str
    data: str
    subject: str
    models: tuple[str, ...]
    state: str = "active"

    @classmethod
    def of(cls, key: Key, now: datetime) -> "Bound":
        """A key of the keystore."""
        bound = key.tenant, key.purpose, key.basis, key.data, key.subject, key.models
        return cls(f"key {key.id}", *bound, state=key.state(now))


@dataclass(frozen=True, slots=True)
class Live:
    """The state that the register follows, as it was at `now`."""

    now: datetime
    site: str
    organisation: OrganisationSettings
    processing: tuple[ProcessingSettings, ...]
    tenants: tuple[Tenant, ...]
    bound: tuple[Bound, ...]
    judged: tuple[Judged, ...]
    verdicts: tuple[tuple[Control, Verdict], ...]


@dataclass(frozen=True, slots=True)
class Recipient:
    """Somebody who receives data about people, or sees or keeps them for us.

    `transfer` is "" inside the EEA; else what the transfer rests on, which may be `UNKNOWN`.
    """

    id: str
    kind: str
    place: str
    entity: str
    country: str
    under: str
    data: tuple[str, ...]
    verdict: str
    transfer: str


@dataclass(frozen=True, slots=True)
class Limit:
    """How long a class of records is kept: `max_days` is None for no end."""

    id: str
    min_days: int
    max_days: int | None
    because: str


@dataclass(frozen=True, slots=True)
class Measure:
    """A control, and what it is worth now."""

    ref: str
    title: str
    state: str
    found: str


@dataclass(frozen=True, slots=True)
class Activity:
    """One entry. `role` is what we are for it; `state` says whether anybody may call for it now."""

    tenant: str
    purpose: str
    role: str
    article: str
    state: str
    bases: tuple[str, ...]
    data: tuple[str, ...]
    subjects: tuple[str, ...]
    named_by: tuple[str, ...]
    models: tuple[str, ...]
    controller: str
    controller_contact: str
    callers: tuple[str, ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Register:
    """The whole. `unknown` names everything that is not known, entries' and the site's."""

    at: datetime
    site: str
    policy: str
    organisation: Mapping[str, str]
    activities: tuple[Activity, ...]
    recipients: tuple[Recipient, ...]
    limits: tuple[Limit, ...]
    measures: tuple[Measure, ...]
    unknown: tuple[str, ...]


def register(policy: Policy, live: Live) -> Register:
    """The register as the state at `live.now` makes it; the same state, the same register."""
    said = _organisation(live.organisation)
    activities = tuple(_activities(policy, live))
    recipients = tuple(_recipients(policy, live.judged, live.now))
    limits = tuple(_limits(policy.retention))
    measures = tuple(_measures(live.verdicts))
    unknown = [f"organisation: {name}" for name, value in said.items() if value == UNKNOWN]
    unknown += [f"{each.id}: where it is" for each in recipients if each.country == UNKNOWN]
    unknown += [f"{each.id}: transfer" for each in recipients if each.transfer == UNKNOWN]
    unknown += [f"{each.ref}: measure" for each in measures if each.state not in _KNOWN]
    unknown += [f"retention: {name}" for name in _OF_REQUESTS if name not in policy.retention]
    unknown += [
        f"{each.tenant}, {each.purpose}: {what}" for each in activities for what in each.unknown
    ]
    return Register(
        at=live.now,
        site=live.site,
        policy=policy.digest,
        organisation=said,
        activities=activities,
        recipients=recipients,
        limits=limits,
        measures=measures,
        unknown=tuple(unknown),
    )


_KNOWN = (State.PASS, State.FAIL, State.NOT_APPLICABLE)
"""Verdicts that are answers; `manual_pending` is for a person still to say."""


def _organisation(said: OrganisationSettings) -> dict[str, str]:
    """Art. 30(1)(a): names and contact details; what is empty was not said."""
    given = {
        "name": said.name,
        "contact": said.contact,
        "representative": said.representative,
        "data protection officer": said.officer,
    }
    return {name: value or UNKNOWN for name, value in given.items()}


# --- activities: who may call, and what for ----------------------------------------------------


def _activities(policy: Policy, live: Live) -> Iterator[Activity]:
    """One a tenant and purpose that some key or binding has, whether or not it works now."""
    standing = [each for each in live.bound if each.state == "active"]
    pairs = dict.fromkeys((each.tenant, each.purpose) for each in standing)
    suspended = {each.name for each in live.tenants if each.suspended_at is not None}
    for tenant, purpose in sorted(pairs):
        mine = [each for each in standing if (each.tenant, each.purpose) == (tenant, purpose)]
        state = "suspended" if tenant in suspended else "active"
        yield _activity(policy, live.processing, tenant, purpose, state, mine)


def _activity(
    policy: Policy,
    processing: Iterable[ProcessingSettings],
    tenant: str,
    purpose: str,
    state: str,
    mine: list[Bound],
) -> Activity:
    said = _said_of(processing, tenant, purpose)
    role = UNKNOWN if said is None else said.role
    subjects = () if said is None else said.subjects
    data = tuple(sorted({each.data for each in mine}))
    ours = role == "controller"
    named = "" if said is None else said.controller
    contact = "" if said is None else said.contact
    lacking = {
        "our role": role == UNKNOWN,
        "categories of people": not subjects and role != "processor",
        "the controller": not ours and not named,
        "how the controller is reached": not ours and not contact,
        "tenant": tenant == UNKNOWN,
        "purpose": purpose == UNKNOWN,
        "class of data": UNKNOWN in data or any(each not in policy.data for each in data),
        "legal basis": any(each.basis == UNKNOWN for each in mine),
    }
    return Activity(
        tenant=tenant,
        purpose=purpose,
        role=role,
        article=_ARTICLES[role],
        state=state,
        bases=tuple(sorted({each.basis for each in mine})),
        data=data,
        subjects=subjects or (UNKNOWN,),
        named_by=tuple(sorted({each.subject for each in mine})),
        models=_models(mine),
        controller="this organisation" if ours else named or UNKNOWN,
        controller_contact="as above" if ours else contact or UNKNOWN,
        callers=tuple(sorted(each.by for each in mine)),
        unknown=tuple(what for what, lacks in lacking.items() if lacks),
    )


def _said_of(
    processing: Iterable[ProcessingSettings], tenant: str, purpose: str
) -> ProcessingSettings | None:
    """What the settings say of it: of this purpose, or else of the tenant."""
    of_tenant = [each for each in processing if each.tenant == tenant]
    exact = (each for each in of_tenant if each.purpose == purpose)
    return next(exact, next((each for each in of_tenant if not each.purpose), None))


def _models(mine: list[Bound]) -> tuple[str, ...]:
    """The models these may use; one that is bound to none in particular may use all."""
    if any(not each.models for each in mine):
        return ("all",)
    return tuple(sorted({model for each in mine for model in each.models}))


# --- recipients, and third countries -----------------------------------------------------------


def _recipients(policy: Policy, judged: Iterable[Judged], now: datetime) -> Iterator[Recipient]:
    """Art. 30(1)(d) and (e): everything data about people go to, with where it stands."""
    inside = _eea(policy)
    for each in judged:
        if each.dependency.place != NONE and each.carries_personal(policy):
            yield _recipient(policy, each, inside, now)


def _recipient(policy: Policy, each: Judged, inside: frozenset[str], now: datetime) -> Recipient:
    asked = each.dependency
    place = policy.places.get(asked.place)
    country, under = (place.country, place.under) if place else (UNKNOWN, UNKNOWN)
    outside = [code for code in (country, under) if code not in inside]
    return Recipient(
        id=asked.id,
        kind=asked.kind,
        place=asked.place or UNKNOWN,
        entity=place.entity if place else _entity(asked.place),
        country=country,
        under=under,
        data=asked.data,
        verdict=each.verdict,
        transfer="" if place is not None and not outside else _rests_on(policy, each, outside, now),
    )


def _entity(place: str) -> str:
    return "this organisation" if place == THIS_HOST else UNKNOWN


def _rests_on(policy: Policy, each: Judged, outside: list[str], now: datetime) -> str:
    """What lets data be there (Art. 44 to 49), as far as the policy knows it."""
    if each.dependency.place == THIS_HOST:
        return UNKNOWN  # nobody has declared where this host is
    decision: Decision | None = each.decision
    if decision is not None and not decision.allowed:
        return f"none: refused by {decision.rule}"
    if decision is not None and decision.rule in {one.id for one in policy.exceptions}:
        return f"exception {decision.rule}"
    found = {
        finding.country: finding.decision
        for finding in policy.adequacy
        if finding.scope == "all"
        and (finding.from_ is None or finding.from_ <= now.date())
        and (finding.until is None or now.date() <= finding.until)
    }
    if outside and all(country in found for country in outside):
        return "; ".join(dict.fromkeys(f"adequacy: {found[country]}" for country in outside))
    return UNKNOWN


def _eea(policy: Policy) -> frozenset[str]:
    """The countries that personal data may be in without more: those of the strictest rule.

    A country with an adequacy decision is outside, whatever a rule was widened to.
    """
    sets = [
        rule.countries & rule.under
        for rule in policy.residency
        if rule.kind in ("place", "adequacy") and "personal" in rule.data
    ]
    smallest = min(sets, key=len, default=frozenset())
    return smallest - {finding.country for finding in policy.adequacy}


# --- time limits and measures ------------------------------------------------------------------


def _limits(retention: Mapping[str, RetentionClass]) -> Iterator[Limit]:
    """Art. 30(1)(f): how long each class of what a request leaves is kept."""
    for name in _OF_REQUESTS:
        kept = retention.get(name)
        if kept is not None:
            most = None if kept.max_days == "unlimited" else kept.max_days
            yield Limit(name, kept.min_days, most, kept.because)


def _measures(verdicts: Iterable[tuple[Control, Verdict]]) -> Iterator[Measure]:
    """Art. 30(1)(g) and 30(2)(d): the controls, each with what was found now."""
    for control, verdict in sorted(verdicts, key=lambda pair: pair[0].ref):
        yield Measure(control.ref, control.title, verdict.state.value, verdict.found)
