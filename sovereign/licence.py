"""Decide whether the terms of a model's weights let it serve here. Pure.

The same question is asked when a stack is planned, when weights are fetched, when a site is
deployed and in every round of the controller: `decide(policy, model, environment, …)`. What the
terms allow is `rules/licences.yaml`; what the licence itself says is `facts/models.yaml`. Where the
acknowledgements stand (the audit log) is not known here; they come in as values.

What always holds:
  * Silence means no: a model, a licence or terms that nobody described are refused.
  * What is not said to be something else is production, the strict answer.
  * An acknowledgement is of one model under one licence in one environment, by a role that the
    policy names, for a purpose that the policy names, and it ends. It ends early when the policy no
    longer names its role or purpose, or allows fewer days.
  * An acknowledgement never allows what the policy refuses.

Self-assessment, not legal advice: an acknowledgement says that somebody read the terms and answers
for it that the use is within them. It does not make the use so.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sovereign import catalogue
from sovereign.errors import LicenceRefused, NaiveTime
from sovereign.policy import Policy
from sovereign.policy.shapes import Licence, Model

PRODUCTION, ELSEWHERE = "production", "non-production"
ENVIRONMENTS = (PRODUCTION, ELSEWHERE)
CODE = "licence-refused"
"""The runbook, the quarantine and the answer at the gateway."""
RULES = "policies/rules/licences.yaml"
Serve = Literal["yes", "acknowledge", "no"]


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Somebody read the terms of a licence and answers for the use. Times are aware.

    `record` is its name in the audit log. `revoked_at` is None until somebody ended it early.
    """

    id: str
    model: str
    licence: str
    environment: str
    approver: str
    purpose: str
    made_at: datetime
    expires_at: datetime
    record: str = ""
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """What a site is, and what was acknowledged for it: the half of the question it brings."""

    environment: str = PRODUCTION
    acknowledgements: tuple[Acknowledgement, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer, and why. `warn` allows, and `warning` says what to look at.

    `until` is when the answer ends by itself, because an acknowledgement does; None when none is
    needed. `fix` is what somebody can do about a refusal.
    """

    verdict: Literal["allow", "warn", "refuse"]
    model: str
    environment: str
    rule: str
    because: str
    source: str
    found: str
    fix: str = ""
    warning: str = ""
    acknowledgement: str = ""
    until: datetime | None = None

    @property
    def allowed(self) -> bool:
        """True for `allow` and `warn`."""
        return self.verdict != "refuse"


def serves(rule: Licence | None, environment: str) -> Serve:
    """What the policy says to terms in an environment; `no` where it says nothing."""
    if rule is None:
        return "no"
    if environment == ELSEWHERE:
        return rule.serve
    if rule.production:
        return rule.production
    return "yes" if rule.serve == "yes" else "no"


def decide(policy: Policy, name: str, standing: Standing, now: datetime) -> Decision:
    """Answer whether the model with the id `name` may serve at a site that is as `standing` says.

    The same inputs give the same answer for ever. Callers record a refusal.

    Raises:
        NaiveTime: `now` has no time zone. Nothing was decided.
    """
    if now.tzinfo is None:
        raise NaiveTime("a licence is judged at a time with a zone")
    model = policy.models.get(name)
    if model is None:
        return _unknown(name, standing, "no fact describes this model")
    rule = policy.licences.get(model.licence_terms)
    if rule is None or model.licence not in policy.catalogue.licences:
        return _unknown(name, standing, f"no rule is about the terms of {model.licence}")
    answer = serves(rule, standing.environment)
    if answer == "no":
        return _refused(policy, model, rule, standing)
    if answer == "yes":
        return _allowed(policy, model, rule, standing, None, now)
    given = best(policy, model, standing, now)
    if given is None:
        return _unacknowledged(policy, model, rule, standing, now)
    return _allowed(policy, model, rule, standing, given, now)


def best(policy: Policy, model: Model, standing: Standing, now: datetime) -> Acknowledgement | None:
    """The acknowledgement in force for this model that lasts longest; None when there is none."""
    holding = [
        each
        for each in standing.acknowledgements
        if not fault(policy, model, each, standing.environment, now)
    ]
    return max(holding, key=lambda each: (ends(policy, each), each.id), default=None)


def ends(policy: Policy, given: Acknowledgement) -> datetime:
    """When an acknowledgement ends by itself: as it says, or sooner where the policy says so."""
    return min(given.expires_at, given.made_at + timedelta(days=policy.acknowledging.max_days))


def fault(
    policy: Policy, model: Model, given: Acknowledgement, environment: str, now: datetime
) -> str:
    """Why an acknowledgement does not count for this model here and now; "" when it does."""
    return next(filter(None, _faults(policy, model, given, environment, now)), "")


def _faults(
    policy: Policy, model: Model, given: Acknowledgement, environment: str, now: datetime
) -> Iterator[str]:
    """Each thing that may be wrong with it, "" where it is not."""
    rule, until, revoked = policy.licences.get(model.licence_terms), ends(policy, given), ""
    named = rule is not None and given.purpose in rule.purposes
    if given.revoked_at is not None and given.revoked_at <= now:
        revoked = f"was revoked at {given.revoked_at:%Y-%m-%d %H:%M} UTC"
    here, may = given.environment == environment, policy.acknowledging.approvers
    yield "" if given.model == model.id else f"is of {given.model}"
    yield "" if given.licence == model.licence else f"is of another licence: {given.licence}"
    yield "" if here else f"is for {given.environment}, and this site is {environment}"
    yield "" if given.approver in may else f"{given.approver} may not approve it"
    yield "" if named else f"{given.purpose} is no purpose of these terms"
    yield revoked
    yield "" if given.made_at <= now else f"begins at {given.made_at:%Y-%m-%d %H:%M} UTC"
    yield "" if now < until else f"ended at {until:%Y-%m-%d %H:%M} UTC"


def refuse(decision: Decision, *, what: str) -> None:
    """Return when the answer is not a refusal.

    Raises:
        LicenceRefused: it is. Nothing was changed.
    """
    if not decision.allowed:
        raise LicenceRefused(
            f"{decision.model} may not serve: {what}",
            rule=decision.rule,
            because=decision.because,
            found=decision.found,
            next_step=decision.fix,
        )


def needs_acknowledgement(policy: Policy, name: str, environment: str) -> bool:
    """True when only an acknowledgement lets the model serve, so that one has to be looked for."""
    model = policy.models.get(name)
    rule = policy.licences.get(model.licence_terms) if model else None
    return serves(rule, environment) == "acknowledge"


# --- the answers ------------------------------------------------------------------------------


def _rule(terms: str) -> str:
    return f"licence-{terms}"


def _unknown(name: str, standing: Standing, found: str) -> Decision:
    because = "Terms that nobody has read allow nothing."
    fix = "describe it in policies/facts/models.yaml and rule on its terms in rules/licences.yaml"
    return Decision(
        "refuse", name, standing.environment, "licence-unknown", because, RULES, found, fix
    )


def _refused(policy: Policy, model: Model, rule: Licence, standing: Standing) -> Decision:
    found = f"{model.licence} ({model.licence_terms}), and this site is {standing.environment}"
    other = catalogue.replacement(policy, model)
    instead = f", perhaps {other.id}" if isinstance(other, Model) else ""
    elsewhere = serves(rule, ELSEWHERE) == "acknowledge" and standing.environment != ELSEWHERE
    fix = f"another model{instead}: sovereign models list --licence open"
    if elsewhere:
        fix = f"{fix}; for a site that is not production set environment: {ELSEWHERE}"
    return Decision(
        "refuse",
        model.id,
        standing.environment,
        _rule(model.licence_terms),
        rule.because,
        rule.source or RULES,
        found,
        fix,
    )


def _unacknowledged(
    policy: Policy, model: Model, rule: Licence, standing: Standing, now: datetime
) -> Decision:
    found = f"{model.licence} ({model.licence_terms}), and nobody acknowledged it"
    last = _newest(each for each in standing.acknowledgements if each.model == model.id)
    if last is not None:
        why = fault(policy, model, last, standing.environment, now)
        found = f"{model.licence} ({model.licence_terms}); {last.id} {why}"
    purpose = rule.purposes[0] if rule.purposes else "PURPOSE"
    fix = (
        f"sovereign licence acknowledge {model.id} --approver ROLE --purpose {purpose} "
        "--expires DAY"
    )
    return Decision(
        "refuse",
        model.id,
        standing.environment,
        _rule(model.licence_terms),
        rule.because,
        rule.source or RULES,
        found,
        fix,
    )


def _newest(given: Iterable[Acknowledgement]) -> Acknowledgement | None:
    return max(given, key=lambda each: (each.made_at, each.id), default=None)


def _allowed(
    policy: Policy,
    model: Model,
    rule: Licence,
    standing: Standing,
    given: Acknowledgement | None,
    now: datetime,
) -> Decision:
    warning = _retired(policy, model, now)
    found = f"{model.licence} ({model.licence_terms})"
    if given is not None:
        found += f", acknowledged by {given.approver} for {given.purpose}: {given.id}"
    return Decision(
        "warn" if warning else "allow",
        model.id,
        standing.environment,
        _rule(model.licence_terms),
        rule.because,
        rule.source or RULES,
        found,
        warning=warning,
        acknowledgement=given.id if given else "",
        until=ends(policy, given) if given else None,
    )


def _retired(policy: Policy, model: Model, now: datetime) -> str:
    """Its maker ended it, or will: the licence of the weights stays, and no fault is mended."""
    state = catalogue.state(model, now.date())
    if state not in ("deprecated", "retired"):
        return ""
    life = model.lifecycle
    on = f" on {life.retired_on}" if life.retired_on else ""
    other = catalogue.replacement(policy, model)
    instead = f"; its maker names {other.id} instead" if other else "; its maker names no other"
    said = f"was retired by its maker{on}" if state == "retired" else f"will be retired{on}"
    return f"{model.id} {said}{instead}"
