"""Decide whether data may be at a place. The one question every moment asks.

The guard asks it about each resource of a plan, the playbooks about each dependency, the
gateway about each call, the controller about each host. It is pure: it opens no file,
reads no clock and keeps nothing, so any answer can be computed again in court. Asking is
not recording: callers record the answer, whatever it is.

What always holds:
  * Silence means no. Only rules of a granting kind (`place`, `adequacy`, `this-host`) can
    allow, and every rule that covers the question must admit it.
  * Unknown means no. A place that is not in the table, whose row is older than the `fresh`
    rule lets it be, or whose chain of owners nobody looked up where a rule asks, is refused.
  * An exception that the site's approver signed stands in for the rules it names, at its place and
    in its days; the answer then names it. Never for a place that nobody knows.
  * Order never matters. Of several refusals the one reported is chosen by kind, then id.
"""

import ipaddress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache

from sovereign.errors import NaiveTime
from sovereign.policy.model import THIS_HOST, Place, Policy, Rule
from sovereign.policy.shapes import SiteException

DEFAULT_DENY = "default-deny"
_GRANTING = ("place", "adequacy", "this-host")
_PRECEDENCE = {kind: i for i, kind in enumerate(("known", "fresh", *_GRANTING, "chain"))}


@dataclass(frozen=True, slots=True)
class Question:
    """May `verb` happen to data of class `data` at `place`?

    Args:
        place: a code `provider:zone` as in `facts/places.yaml`, or `this-host`.
        data: a class of `rules/data.yaml`.
        verb: store (comes to rest), process (is read in the clear) or send (leaves us).
        asked_at: aware time at which freshness and adequacy are judged.
        listener: `address:port` the data would reach; only `this-host` looks at it.
    """

    place: str
    data: str
    verb: str
    asked_at: datetime
    listener: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer, the rule that gave it, and the digest of the policy it was made under."""

    allowed: bool
    rule: str
    because: str
    source: str
    found: str
    question: Question
    policy: str

    @property
    def verdict(self) -> str:
        """`allow` or `refuse`, the words records and tables use."""
        return "allow" if self.allowed else "refuse"


def decide(policy: Policy, question: Question) -> Decision:
    """Answer whether the policy lets `question` happen.

    Raises:
        NaiveTime: `asked_at` has no time zone. Nothing was decided.
    """
    if question.asked_at.tzinfo is None:
        raise NaiveTime("a question needs a time with a zone", found=question.asked_at.isoformat())
    place = policy.places.get(question.place)
    found = _found(question, place)
    refusing, granting = _refusing_and_granting(policy, question, place)
    if refusing is not None:
        if policy.exceptions and place is not None:
            standing_in = _excepted(policy, question, place)
            if standing_in is not None:
                return _by_exception(policy, question, standing_in, found)
        return _answer(policy, question, refusing, found, allowed=False)
    if granting is not None:
        return _answer(policy, question, granting, found, allowed=True)
    because = f"No rule lets us {question.verb} {question.data} data there; silence means no."
    return Decision(
        False, DEFAULT_DENY, because, "policies/README.md", found, question, policy.digest
    )


def _excepted(policy: Policy, question: Question, place: Place) -> SiteException | None:
    """The exception that stands in for the rules that refuse. Each of them needs one, and some
    rule must be there that could allow it: silence is no rule to be excepted from."""
    today = question.asked_at.date()
    holding = [
        each
        for each in policy.exceptions
        if each.place == question.place
        and question.data in each.data
        and question.verb in each.verbs
        and each.from_ <= today < each.until
    ]
    if not holding:
        return None
    covering = [rule for rule in policy.residency if _covers(rule, question)]
    refusing = {rule.id for rule in covering if not _admits(policy, rule, question, place)}
    if not any(rule.kind in _GRANTING for rule in covering):
        return None
    if refusing - {name for each in holding for name in each.rules}:
        return None
    return next(each for each in holding if refusing & set(each.rules))


def _covers(rule: Rule, question: Question) -> bool:
    at_home = question.place == THIS_HOST
    if (rule.kind == "this-host") is not at_home:
        return False
    return question.verb in rule.verbs and question.data in rule.data


def _by_exception(policy: Policy, question: Question, each: SiteException, found: str) -> Decision:
    because = (
        f"Exception {each.id}, approved by {each.approver} until {each.until}, "
        f"stands in for {', '.join(each.rules)}: {each.because}"
    )
    return Decision(True, each.id, because, each.source, found, question, policy.digest)


def _answer(
    policy: Policy, question: Question, rule: Rule, found: str, *, allowed: bool
) -> Decision:
    return Decision(allowed, rule.id, rule.because, rule.source, found, question, policy.digest)


def _refusing_and_granting(
    policy: Policy, question: Question, place: Place | None
) -> tuple[Rule | None, Rule | None]:
    """Of the rules that cover the question, the first that refuses it and the first that grants it,
    by precedence; one walk over all of them, since every call asks."""
    refusing: Rule | None = None
    granting: Rule | None = None
    at_home = question.place == THIS_HOST
    for rule in policy.residency:
        if (rule.kind == "this-host") is not at_home:
            continue
        if question.verb not in rule.verbs or question.data not in rule.data:
            continue
        if not _admits(policy, rule, question, place):
            if refusing is None or _precedence(rule) < _precedence(refusing):
                refusing = rule
        elif rule.kind in _GRANTING and (
            granting is None or _precedence(rule) < _precedence(granting)
        ):
            granting = rule
    return refusing, granting


def _precedence(rule: Rule) -> tuple[int, str]:
    return _PRECEDENCE[rule.kind], rule.id


def _admits(policy: Policy, rule: Rule, question: Question, place: Place | None) -> bool:
    if rule.kind == "this-host":
        return "loopback" in rule.listeners and is_loopback(question.listener)
    return place is not None and _admits_place(policy, rule, question.asked_at.date(), place)


def _admits_place(policy: Policy, rule: Rule, today: date, place: Place) -> bool:
    match rule.kind:
        case "known":
            return True
        case "fresh":
            return rule.max_age_days is not None and _is_fresh(place, rule.max_age_days, today)
        case "chain":
            known = place.parents is not None
            return known and all(o.country in rule.countries for o in place.parents or ())
        case "adequacy":
            return all(
                country in ours or _is_adequate(policy, country, today)
                for country, ours in ((place.country, rule.countries), (place.under, rule.under))
            )
        case _:
            return place.country in rule.countries and place.under in rule.under


def _is_fresh(place: Place, max_age_days: int, today: date) -> bool:
    """A row checked tomorrow is as unknown as one checked too long ago."""
    return 0 <= (today - place.checked_on).days <= max_age_days


def stale_on(policy: Policy, code: str) -> date | None:
    """The first day (UTC) on which a place's facts are too old; None when no rule asks for fresh
    ones.

    A place that is not in the table was never known: its day is the first there is.
    """
    ages = [rule.max_age_days for rule in policy.residency if rule.kind == "fresh"]
    known = [age for age in ages if age is not None]
    place = policy.places.get(code)
    if place is None:
        return date.min
    return place.checked_on + timedelta(days=min(known) + 1) if known else None


def _is_adequate(policy: Policy, country: str, today: date) -> bool:
    """Only findings that cover every recipient count: we cannot see who is certified."""
    return any(
        finding.country == country
        and finding.scope == "all"
        and (finding.from_ is None or finding.from_ <= today)
        and (finding.until is None or today <= finding.until)
        for finding in policy.adequacy
    )


@lru_cache(maxsize=4096)
def is_loopback(listener: str) -> bool:
    """True when `address:port` can only be reached from this machine. A name never counts."""
    address, colon, port = listener.rpartition(":")
    if not colon or not port.isdigit():
        return False
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False


def _found(question: Question, place: Place | None) -> str:
    if question.place == THIS_HOST:
        return (
            f"this host, listening on {question.listener or 'nothing stated'}; country not declared"
        )
    if place is None:
        return f"{question.place or 'no place'} is not in facts/places.yaml"
    return f"{place.describe()} (checked on {place.checked_on.isoformat()})"
