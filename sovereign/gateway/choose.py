"""Choose the endpoint that answers, or the reason why none may.

Pure: what is known goes in, a choice or a refusal comes out. There is no fallback pool. An
endpoint is used only while the registry holds a fresh attestation, it is not quarantined,
and `residency.decide` allows its place for this key's class of data at this moment.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

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
    policy: Policy, key: Key, name: str, endpoints: tuple[Endpoint, ...], now: datetime
) -> Choice:
    """Return the endpoint for this key and model, or the first refusal in the order below."""
    model = resolve(policy.models, name)
    serving = [e for e in endpoints if model is not None and model.id in e.models]
    if model is None or not serving:
        known = UNKNOWN if model is None else model.id
        return _no(known, None, "model-unknown", "", f"no endpoint serves {name[:128]!r}", now)
    if key.models and model.id not in key.models:
        because = f"the key {key.id} is bound to others"
        return _no(model.id, None, "model-not-bound", "key-binding", because, now)
    refusals = []
    for endpoint in serving:
        choice = _judge(policy, key, model.id, endpoint, now)
        if not choice.code:
            return choice
        refusals.append(choice)
    return min(refusals, key=lambda choice: choice.code != UNHEALTHY)


def _judge(policy: Policy, key: Key, model: str, endpoint: Endpoint, now: datetime) -> Choice:
    decision = _ask(policy, key, endpoint, now)
    if not decision.allowed:
        because = f"{decision.found}. {decision.because}"
        return _no(model, endpoint, "residency-refused", decision.rule, because, now)
    if endpoint.quarantine:
        code = UNHEALTHY if endpoint.quarantine == UNHEALTHY else "endpoint-quarantined"
        return _no(model, endpoint, code, endpoint.quarantine, endpoint.reason, now)
    if not endpoint.is_fresh(now):
        because = f"the attestation of {endpoint.id} is not in force; is the controller running?"
        return _no(model, endpoint, "attestation-expired", "attestation-is-fresh", because, now)
    return Choice(model, endpoint, "", decision.rule, decision.because, now)


def _ask(policy: Policy, key: Key, endpoint: Endpoint, now: datetime) -> Decision:
    question = Question(endpoint.place, key.data, "process", now, listener=endpoint.address)
    return decide(policy, question)


def _no(
    model: str, endpoint: Endpoint | None, code: str, rule: str, because: str, now: datetime
) -> Choice:
    return Choice(model, endpoint, code, rule or code, because, now)
