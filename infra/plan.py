"""Put a plan together: what would be made, what it costs, and what the policy says to all of it.

Three outcomes. *allow*: the engine finished, and every resource it announced was judged and
allowed. *refuse*: at least one answer was no; the rule is named. *unknown*: the engine did
not finish for another reason, or announced something that the guard did not judge. Unknown
never passes for allowed.

What was decided about resources, machines and state is recorded by the operator's log, if a
site is deployed here. What is merely looked up (the table of dependencies) is not.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from infra import offers, pulumi_cli
from infra import stack as stacks
from infra.guard.rules import Judgement, judge_place
from infra.resolve import machine_hosts, memory_needed_gb, model_of, site
from infra.shapes import Offer, Site
from infra.sized import Sized, sized
from infra.stack import Stack
from infra.state_backend import backend_of, judge_backend
from sovereign import licence
from sovereign import policy as policies
from sovereign.acknowledged import standing_or_none
from sovereign.audit.record import written
from sovereign.errors import ResidencyRefused
from sovereign.policy import THIS_HOST, Policy
from sovereign.residency import Question, decide
from sovereign.settings import Home

if TYPE_CHECKING:
    from infra.engine import Rehearsal

HOURS_A_MONTH = 730
LOOPBACK = "127.0.0.1"
CLOUDS_MADE = ("hetzner", "scaleway")
"""Clouds in which a plan makes something, so that the engine is needed."""

_SAY = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Cost:
    """What the machines cost before VAT. Volumes, addresses and storage come on top."""

    hour: Decimal
    month: Decimal
    currency: str
    read_on: str
    source: str


@dataclass(frozen=True, slots=True)
class Dependency:
    """Something outside, the worst answer about it, and what we do instead."""

    id: str
    place: str
    verdict: str
    rule: str
    instead: str


@dataclass(frozen=True, slots=True)
class Resource:
    """Something the engine would make, and the worst answer about it."""

    kind: str
    name: str
    operation: str
    place: str
    verdict: str
    rule: str


@dataclass(slots=True)
class Plan:
    """All that `make plan` shows."""

    stack: Stack
    site: Site
    policy: str
    needed_gb: int | None
    licence: str
    cost: Cost | None
    dependencies: tuple[Dependency, ...]
    accepted: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    sized: Sized | None = None
    resources: list[Resource] = field(default_factory=list)
    answers: list[Judgement] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)
    records: list[str] = field(default_factory=list)

    @property
    def refused(self) -> list[Judgement]:
        """Every no."""
        return [answer for answer in self.answers if not answer.allowed]

    @property
    def verdict(self) -> str:
        """allow, refuse or unknown."""
        return "refuse" if self.refused else "unknown" if self.unclear else "allow"


def make(
    name: str,
    home: Home,
    say: _SAY,
    folder: Path = stacks.FOLDER,
    engine: Callable[[Site], "Rehearsal"] | None = None,
) -> Plan:
    """Work out the plan of the stack `name`. Nothing is made in any cloud.

    Args:
        say: told what takes long, a line at a time.
        engine: what previews; by default a rehearsal, which knows of nothing made before.

    Raises:
        UnknownName, StackUnreadable: the stack does not mean anything. Nothing was asked.
        PlannerUnavailable: the engine is not here and could not be built.
    """
    stack = stacks.load(name, folder)
    policy = policies.load(home.policies, stack.profile, home.own_places)
    plan = begin(name, stack, policy, home)
    now = datetime.now(UTC)
    plan.answers += _backend(stack, policy, now)
    plan.answers += _machines(policy, plan.site, now)
    if stack.cloud in CLOUDS_MADE:
        _rehearse(plan, engine(plan.site) if engine else _rehearsal(home.root, plan.site, say))
    return plan


def refuse_backend(stack: Stack, policy: Policy) -> None:
    """Return if the policy lets the stack's state be where the stack says it is.

    Raises:
        ResidencyRefused: it does not. Nobody was asked for anything.
    """
    for answer in _backend(stack, policy, datetime.now(UTC)):
        if not answer.allowed:
            raise ResidencyRefused(
                f"the state of this stack would rest at {answer.place}",
                rule=answer.rule,
                because=answer.because,
                found=answer.found,
                accepted="file, or s3://… with the endpoint of a place in the policy's table",
                next_step="set state_backend in the stack",
            )


def _backend(stack: Stack, policy: Policy, now: datetime) -> tuple[Judgement, ...]:
    shops = [offers.shop(cloud) for cloud in offers.CLOUDS]
    return judge_backend(policy, backend_of(stack.state_backend, policy, shops), now)


def begin(name: str, stack: Stack, policy: Policy, home: Home) -> Plan:
    """What a stack means, its cost and its licence, before any engine was asked.

    Raises:
        UnknownName: the stack does not mean anything.
    """
    now = datetime.now(UTC)
    shop = offers.shop(stack.cloud) if stack.cloud in offers.CLOUDS else None
    model = model_of(policy, stack.model)
    terms = licence.decide(policy, model.id, _standing(stack, home, policy, model.id), now)
    plan = Plan(
        stack=stack,
        site=site(name, stack, policy, shop),
        policy=policy.digest,
        needed_gb=memory_needed_gb(model, stack.precision),
        licence=_said(terms),
        cost=None,
        dependencies=tuple(_dependencies(policy, now)),
    )
    if shop is not None:
        plan.accepted = tuple(_accepted(policy, shop, now))
        plan.elsewhere = tuple(_elsewhere(plan, shop))
    plan.cost = _cost(plan.site.offer, plan.site.nodes)
    plan.sized = sized(policy, plan.site, stack.precision)
    if not terms.allowed:
        asked = (model.id, "model", "", "weights", "process", False)
        plan.answers.append(Judgement(*asked, terms.rule, terms.because, terms.found))
    return plan


def _standing(stack: Stack, home: Home, policy: Policy, model: str) -> licence.Standing:
    """What the stack is for, and what was acknowledged at the site that plans it."""
    settings = msgspec.structs.replace(home.settings, environment=stack.environment)
    return standing_or_none(Home(home.root, settings), policy, model)


def _said(terms: licence.Decision) -> str:
    """The licence on one line; where it refuses or warns, with what to do or to look at."""
    more = terms.fix if not terms.allowed else terms.warning
    return f"{terms.found}: {terms.verdict} in {terms.environment}{'; ' if more else ''}{more}"


def _accepted(policy: Policy, shop: offers.Shop, now: datetime) -> Iterable[str]:
    """The places of this cloud that sell machines and that the policy allows."""
    for zone in (zone for zone, sold in shop.offers.items() if sold):
        place = f"{shop.provider}:{zone}"
        if all(answer.allowed for answer in judge_place(policy, place, place, now)):
            yield place


def _elsewhere(plan: Plan, shop: offers.Shop) -> Iterable[str]:
    """Where else the policy allows this cloud, and the same machine is sold."""
    for place in plan.accepted:
        sold = shop.sold_in(place.partition(":")[2])
        if place != plan.site.place and plan.site.offer in sold:
            yield place


def _cost(offer: Offer | None, nodes: int) -> Cost | None:
    if offer is None or offer.price is None:
        return None
    hour = Decimal(offer.price.hour) * nodes
    month = (hour * HOURS_A_MONTH).quantize(Decimal(1))
    return Cost(hour, month, offer.price.currency, offer.price.read_on, offer.price.source)


def _dependencies(policy: Policy, now: datetime) -> Iterable[Dependency]:
    for entry in policy.dependencies.values():
        answers = [
            decide(policy, Question(entry.place, data, verb, now))
            for data in entry.data
            for verb in entry.verbs
        ]
        worst = min(answers, key=lambda answer: answer.allowed)
        yield Dependency(entry.id, entry.place, worst.verdict, worst.rule, entry.instead)


def _machines(policy: Policy, site: Site, now: datetime) -> Iterable[Judgement]:
    if site.cloud == "local":
        return judge_place(
            policy, "localhost", THIS_HOST, now, listener=f"{LOOPBACK}:{site.gateway_port}"
        )
    return [
        answer
        for host in machine_hosts(site)
        for answer in judge_place(policy, host.name, host.place, now)
    ]


def _rehearsal(root: Path, site: Site, say: _SAY) -> "Rehearsal":
    from infra.engine import Rehearsal

    return Rehearsal(root, pulumi_cli.get(say), site)


def _rehearse(plan: Plan, engine: "Rehearsal") -> None:
    shown = engine.preview()
    plan.answers += shown.judged
    judged = {answer.resource for answer in shown.judged}
    for step in sorted(shown.announced, key=lambda step: (step.kind, step.urn)):
        if step.urn not in judged:
            plan.unclear.append(f"the guard did not judge {step.urn}")
        plan.resources.append(_resource(step.kind, step.urn, step.operation, shown.judged))
    unexplained = set(shown.refused) - {answer.resource for answer in plan.refused}
    plan.unclear += [f"the engine refused {urn}" for urn in sorted(unexplained)]
    if not shown.finished:
        plan.unclear += shown.said or ["the engine did not finish and gave no reason"]


def _resource(kind: str, urn: str, operation: str, judged: list[Judgement]) -> Resource:
    answers = [answer for answer in judged if answer.resource == urn]
    worst = min(answers, key=lambda answer: answer.allowed, default=None)
    return Resource(
        kind=kind,
        name=urn.rpartition("::")[2],
        operation=operation,
        place=", ".join(dict.fromkeys(answer.place for answer in answers if answer.place)),
        verdict=worst.verdict if worst else "unknown",
        rule=worst.rule if worst else "",
    )


def record(plan: Plan, home: Home) -> None:
    """Write every answer into the operator's log, and keep the records' names in the plan.

    Without a deployed site there is no log, and nothing is written; a log is never made here.

    Raises:
        PlannerUnavailable: there is a log and it takes nothing; the plan is then not on record.
    """
    if not home.audit.exists():
        return
    from sovereign.supervisor.deployment import operator_trail

    with operator_trail(home) as log:
        waiting = [
            log.record(
                "plan-decision",
                stack=plan.site.stack,
                resource=f"{answer.kind} {answer.resource.rpartition('::')[2]}",
                place=answer.place or "none",
                data=answer.data,
                verb=answer.verb,
                verdict=answer.verdict,
                rule=answer.rule,
                policy=plan.policy,
                **_asked(answer),
            )
            for answer in plan.answers
        ]
        plan.records = [future.result().name for future in waiting]


def _asked(answer: Judgement) -> dict[str, str]:
    """What else it takes to compute the answer again."""
    asked = {} if answer.asked_at is None else {"asked_at": written(answer.asked_at)}
    return asked | ({"listener": answer.listener} if answer.listener else {})
