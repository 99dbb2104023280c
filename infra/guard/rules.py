"""Judge one resource of a plan: may personal data be stored and processed where it stands?

Pure: a resource and the policy go in, judgements come out; `__main__.py` only hands them to
the engine, which makes nothing when one of them refuses. What always holds:

  * A type that is not in `types.py` is refused, and so is a place that is not stated, not
    known before the resource is made, or not in the policy's table of places.
  * What a resource leaves out it takes from its provider, so the provider's own region and
    zone are judged too, and never guessed from the environment.
  * Every input that names a place is judged, at any depth. A region without a row of its own
    is as allowed as the least allowed of its zones.
  * We do not weigh which resource holds what: anything with a place is judged as if personal
    data came to rest there and were read there.

Rule ids that begin with `guard-` are the guard's own. They only ever refuse more.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from infra.guard import hetzner
from infra.guard.types import (
    CLOUDS,
    ENGINE_STACK,
    KEPT,
    PLACE_INPUTS,
    PLACED,
    PLACELESS,
    PROVIDER,
    REDIRECTS,
    STAYS_INPUTS,
    UNPLACEABLE,
)
from sovereign.policy import Policy
from sovereign.residency import Decision, Question, decide

DATA, VERBS = "personal", ("store", "process")
STATE_DATA, STATE_VERB = "secret", "store"

TYPE_KNOWN = "guard-type-known"
PLACE_STATED = "guard-place-stated"
PROVIDER_DIRECT = "guard-provider-direct"
DATA_PROTECTED = "guard-data-protected"
PLACELESS_RULE = "guard-placeless"
DEPTH_MAX = 16


class Unknown:
    """Stands for a value that the engine does not know before it has made something."""


UNKNOWN = Unknown()


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource as the program declares it. `provider` is what its provider was given."""

    kind: str
    name: str
    inputs: Mapping[str, Any]
    provider: Mapping[str, Any]
    protected: bool = False

    @property
    def cloud(self) -> str:
        """Who runs it, as the policy's places say it; for a provider, the cloud it speaks to."""
        package = self.kind.removeprefix(PROVIDER).partition(":")[0]
        return CLOUDS.get(package, package)


@dataclass(frozen=True, slots=True)
class Judgement:
    """One answer about one resource, in the words of its record.

    `asked_at` and `listener` are those of the question that `residency.decide` answered; None and
    empty for an answer of the guard's own rules, which hold at any time.
    """

    resource: str
    kind: str
    place: str
    data: str
    verb: str
    allowed: bool
    rule: str
    because: str
    found: str
    asked_at: datetime | None = None
    listener: str = ""

    @property
    def verdict(self) -> str:
        """`allow` or `refuse`, the words records and tables use."""
        return "allow" if self.allowed else "refuse"


def judge(policy: Policy, resource: Resource, asked_at: datetime) -> tuple[Judgement, ...]:
    """Return every answer about `resource`, at least one. It is allowed when all allow.

    Args:
        asked_at: aware UTC time at which the policy's facts are judged.
    """
    if resource.kind in PLACELESS:
        has_none = _answer(resource, PLACELESS_RULE, PLACELESS[resource.kind], allowed=True)
        return (*_own_rules(resource), has_none)
    if resource.kind in UNPLACEABLE:
        return (_answer(resource, PLACE_STATED, UNPLACEABLE[resource.kind]),)
    if resource.kind not in PLACED:
        because = "Nobody has said where this type keeps data; what is unknown is refused."
        return (_answer(resource, TYPE_KNOWN, because, found=f"{resource.kind} is in no list"),)
    return (*_own_rules(resource), *_places(policy, resource, asked_at))


def judge_place(
    policy: Policy,
    what: str,
    place: str,
    asked_at: datetime,
    *,
    data: str = DATA,
    verbs: Sequence[str] = VERBS,
    listener: str = "",
) -> tuple[Judgement, ...]:
    """Return the answers about something that is no resource: a machine, a state backend."""
    return tuple(
        _of_decision(what, what, decide(policy, Question(place, data, verb, asked_at, listener)))
        for verb in verbs
    )


def _own_rules(resource: Resource) -> Iterator[Judgement]:
    if resource.kind.startswith(PROVIDER):
        for name in sorted(REDIRECTS & set(resource.inputs)):
            because = "A provider whose calls go elsewhere says nothing about where data are."
            yield _answer(resource, PROVIDER_DIRECT, because, found=f"{name} is set")
    if resource.cloud == hetzner.CLOUD:
        for rule, because, found in hetzner.refusals(resource.kind, resource.inputs):
            yield _answer(resource, rule, because, found=found)
    for name, value in _stated(resource.inputs, STAYS_INPUTS):
        if value is not True:
            because = "Copies would rest in a place that nothing names."
            yield _answer(resource, PLACE_STATED, because, found=f"{name} is not true")
    if resource.kind in KEPT and not resource.protected:
        because = "What cannot be made again is not deleted by a change of plan."
        yield _answer(resource, DATA_PROTECTED, because, found="protect is not set")


def _places(policy: Policy, resource: Resource, asked_at: datetime) -> Iterator[Judgement]:
    stated = dict.fromkeys(_stated(_without_tags(resource.inputs), PLACE_INPUTS))
    for name in PLACED[resource.kind]:
        if resource.inputs.get(name) is None:
            stated[(name, _from_provider(resource, name))] = None
    for name, value in stated:
        if isinstance(value, str) and value:
            yield from _decided(policy, resource, value, asked_at)
        else:
            how = "is not known before it is made" if value is UNKNOWN else "is stated nowhere"
            because = "A place that is left to a default is no place; say it in the program."
            yield _answer(resource, PLACE_STATED, because, found=f"its {name} {how}")


def _from_provider(resource: Resource, name: str) -> Any:
    """A provider has no provider of its own: what it leaves out is stated nowhere."""
    return None if resource.kind.startswith(PROVIDER) else resource.provider.get(name)


def _decided(
    policy: Policy, resource: Resource, code: str, asked_at: datetime
) -> Iterator[Judgement]:
    for place in _zones(policy, resource.cloud, code):
        for verb in VERBS:
            decision = decide(policy, Question(place, DATA, verb, asked_at))
            yield _of_decision(resource.name, resource.kind, decision)


def _zones(policy: Policy, cloud: str, code: str) -> list[str]:
    """The places a zone or a region means; a code that means none stays as it is, unknown."""
    exact = f"{cloud}:{code}"
    if exact in policy.places:
        return [exact]
    within = [p.code for p in policy.places.values() if (p.provider, p.region) == (cloud, code)]
    return sorted(within) or [exact]


def _without_tags(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Tags are words for people; a tag called `region` moves nothing."""
    return {name: value for name, value in inputs.items() if name not in ("tags", "labels")}


def _stated(value: Any, names: frozenset[str], depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every input called one of `names`, wherever it stands, with its value.

    A list gives each of its members, and a value nested too deep counts as unknown.
    """
    if depth > DEPTH_MAX:
        yield "too deep", UNKNOWN
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            if name in names and inner is not None:
                yield from ((name, one) for one in _each(inner))
            else:
                yield from _stated(inner, names, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _stated(inner, names, depth + 1)


def _each(value: Any) -> list[Any]:
    """The members of a list; anything that is neither text, truth nor unknown is unknown."""
    if isinstance(value, list | tuple):
        return [one for inner in value for one in _each(inner)]
    return [value if isinstance(value, str | bool) else UNKNOWN]


def _answer(
    resource: Resource, rule: str, because: str, *, found: str = "", allowed: bool = False
) -> Judgement:
    return Judgement(
        resource.name, resource.kind, "", DATA, VERBS[0], allowed, rule, because, found
    )


def _of_decision(name: str, kind: str, decision: Decision) -> Judgement:
    asked = decision.question
    return Judgement(
        resource=name,
        kind=kind,
        place=asked.place,
        data=asked.data,
        verb=asked.verb,
        allowed=decision.allowed,
        rule=decision.rule,
        because=decision.because,
        found=decision.found,
        asked_at=asked.asked_at,
        listener=asked.listener,
    )


def sentence(judgement: Judgement) -> str:
    """A refusal as the engine shows it: the rule first, then what, where and why."""
    what = f"{judgement.kind} {judgement.resource.rpartition('::')[2]}"
    where = f" at {judgement.place}" if judgement.place else ""
    return (
        f"{judgement.rule}: {what} would {judgement.verb} {judgement.data} data{where}. "
        f"{judgement.because} Found: {judgement.found}."
    )


def is_engine_stack(kind: str) -> bool:
    """True for the engine's own grouping, which is no part of a cloud."""
    return kind == ENGINE_STACK
