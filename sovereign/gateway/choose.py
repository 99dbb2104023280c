"""Choose the endpoint that answers, or the reason why none may.

Pure: what is known goes in, a choice or a refusal comes out. There is no fallback pool. An
endpoint is used only while the registry holds a fresh attestation, it is not quarantined,
and `residency.decide` allows its place for this key's class of data at this moment. Where
several may answer, all were judged first; which of them does is `balance.py`'s to say.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from sovereign.keystore import Key
from sovereign.policy import Policy
from sovereign.policy.shapes import Model
from sovereign.registry import Endpoint
from sovereign.residency import Decision, Question, decide

UNKNOWN = "unknown"
"""What a record says of a model that no fact describes: a name is the client's to choose, and
could hold anything."""
UNHEALTHY = "engine-unhealthy"
"""The one quarantine that is nobody's policy: the engine does not answer."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was decided, and the time it was judged at. `code` is "" when `endpoint` may answer,
    else why not."""

    model: str
    endpoint: Endpoint | None
    code: str
    rule: str
    because: str
    asked_at: datetime


def resolve(models: Mapping[str, Model], name: str) -> Model | None:
    """The model a name or alias stands for on this site."""
    if name in models:
        return models[name]
    return next((model for model in models.values() if name in model.aliases), None)


def choose(
    policy: Policy,
    key: Key,
    name: str,
    endpoints: tuple[Endpoint, ...],
    now: datetime,
    *,
    judged: "Judge | None" = None,
    pick: "Pick | None" = None,
    entitled: "Narrow | None" = None,
) -> Choice:
    """Return the endpoint for this key and model, or the first refusal in the order below.

    Args:
        judged: `judge`, or something that remembers what it found.
        pick: which of several that may answer does; the first of them when it is not given.
        entitled: takes away those that the operator's access rules do not let this key use.
    """
    model = resolve(policy.models, name)
    known = UNKNOWN if model is None else model.id
    group = None if model is None else (judged or judge)(policy, key.data, known, endpoints, now)
    if group is None or not group.choices:
        return _no(known, None, "model-unknown", "", f"no endpoint serves {name[:128]!r}", now)
    if key.models and known not in key.models:
        because = f"the key {key.id} is bound to others"
        return _no(known, None, "model-not-bound", "key-binding", because, now)
    if entitled is not None:
        group = entitled(group)
    best = pick(group) if pick and group.may_answer else group.choices[0]
    return Choice(best.model, best.endpoint, best.code, best.rule, best.because, now)


@dataclass(frozen=True, slots=True)
class Group:
    """All endpoints that may answer for a model, or the one refusal that is told when none may.

    The same for every moment from `since` to just before `until`. Without choices no endpoint
    serves the model.
    """

    choices: tuple[Choice, ...]
    since: datetime
    until: datetime

    @property
    def may_answer(self) -> bool:
        """True when the choices are endpoints, not a refusal."""
        return bool(self.choices) and not self.choices[0].code

    def holds(self, now: datetime) -> bool:
        """True while nothing that was judged can have changed by time alone."""
        return self.since <= now < self.until


Judge = Callable[[Policy, str, str, tuple[Endpoint, ...], datetime], Group]
Pick = Callable[[Group], Choice]
Narrow = Callable[[Group], Group]


def judge(
    policy: Policy, data: str, model: str, endpoints: tuple[Endpoint, ...], now: datetime
) -> Group:
    """Judge every endpoint that serves this model for this class of data, in the given order."""
    serving = [endpoint for endpoint in endpoints if model in endpoint.models]
    choices = [_judge(policy, data, model, endpoint, now) for endpoint in serving]
    allowed = tuple(choice for choice in choices if not choice.code)
    if not allowed and choices:  # of several refusals, one that may pass by itself
        allowed = (min(choices, key=lambda choice: choice.code != UNHEALTHY),)
    return Group(allowed, *_unchanged(serving, now))


def _unchanged(serving: list[Endpoint], now: datetime) -> tuple[datetime, datetime]:
    """The time around `now` in which no attestation begins or ends and the day is the same: what
    `decide` judges at a time, it judges at its date."""
    today = datetime.combine(now.date(), time.min, now.tzinfo)
    edges = [today, today + timedelta(days=1)]
    edges += [at for e in serving for at in (e.attested_at, e.expires_at) if at is not None]
    return max(at for at in edges if at <= now), min(at for at in edges if at > now)


def _judge(policy: Policy, data: str, model: str, endpoint: Endpoint, now: datetime) -> Choice:
    decision = _ask(policy, data, endpoint, now)
    if not decision.allowed:
        because = f"{decision.found}. {decision.because}"
        return _no(model, endpoint, "residency-refused", decision.rule, because, now)
    if endpoint.quarantine:
        told = endpoint.quarantine in (UNHEALTHY, "licence-refused")
        code = endpoint.quarantine if told else "endpoint-quarantined"
        return _no(model, endpoint, code, endpoint.quarantine, endpoint.reason, now)
    if not endpoint.is_fresh(now):
        because = f"the attestation of {endpoint.id} is not in force; is the controller running?"
        return _no(model, endpoint, "attestation-expired", "attestation-is-fresh", because, now)
    return Choice(model, endpoint, "", decision.rule, decision.because, now)


def _ask(policy: Policy, data: str, endpoint: Endpoint, now: datetime) -> Decision:
    question = Question(endpoint.place, data, "process", now, listener=endpoint.address)
    return decide(policy, question)


def _no(
    model: str, endpoint: Endpoint | None, code: str, rule: str, because: str, now: datetime
) -> Choice:
    return Choice(model, endpoint, code, rule or code, because, now)
