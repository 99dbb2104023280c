"""What a change of the access rules makes possible, and what impossible: exactly, not by reading.

Both policies are asked about everybody known, every model of either, wherever it is served, and
every action. Besides the keys of the site somebody is asked about for each role and each tenant
that a rule names, so that a rule about a role which no key has yet is seen too.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product

from sovereign.access.decide import DEFAULT_DENY, Access, Decision, served
from sovereign.errors import BadInput
from sovereign.policy import THIS_HOST, Policy
from sovereign.policy.spoken import ACTIONS, Principal, Served

QUESTIONS_MAX = 2_000_000
_NAMED = re.compile(r'(Role|Tenant) :: "((?:\\.|[^"\\])*)"')


@dataclass(frozen=True, slots=True)
class Spot:
    """Somewhere that models are served, or could be. `models` empty stands for every model."""

    endpoint: str
    engine: str
    place: str = THIS_HOST
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """One answer that differs."""

    principal: Principal
    action: str
    model: str
    endpoint: str
    before: Decision
    after: Decision

    @property
    def widens(self) -> bool:
        """True when it becomes possible."""
        return self.after.allowed and not self.before.allowed


def imagined(*policies: Policy) -> tuple[Principal, ...]:
    """Somebody for each role and each tenant that a rule of these policies names."""
    named = sorted({pair for policy in policies for pair in _NAMED.findall(policy.access.text)})
    return tuple(
        Principal(
            id=f"any-key-of-{kind.lower()}-{name}",
            tenant=name if kind == "Tenant" else "any",
            purpose="any",
            basis="contract",
            data="personal",
            roles=(name,) if kind == "Role" else (),
        )
        for kind, name in named
    )


def changes(
    old: Policy, new: Policy, principals: Iterable[Principal], spots: Iterable[Spot]
) -> tuple[Change, ...]:
    """Every answer that the two policies give differently where it matters: allowed or not.

    Raises:
        BadInput: it would take more than `QUESTIONS_MAX` questions. Nothing was compared.
    """
    before, after = Access(old), Access(new)
    who = tuple(principals)
    same_rules = old.access.text == new.access.text
    pairs = [
        (spot, model)
        for spot in spots
        for model in spot.models or sorted({*old.models, *new.models})
        if not same_rules or _stated(old, model, spot) != _stated(new, model, spot)
    ]
    if len(who) * len(pairs) * len(ACTIONS) > QUESTIONS_MAX:
        raise BadInput(
            f"{len(who)} keys and {len(pairs)} models at endpoints are too many to compare",
            accepted=f"{QUESTIONS_MAX} questions",
            next_step="name fewer keys or models",
        )
    found = list[Change]()
    for principal, (spot, model) in product(who, pairs):
        was = _answers(old, before, principal, model, spot)
        now = _answers(new, after, principal, model, spot)
        found += [
            Change(principal, action, model, spot.endpoint, was[action], now[action])
            for action in ACTIONS
            if was[action].allowed is not now[action].allowed
        ]
    return tuple(found)


def _stated(policy: Policy, model: str, spot: Spot) -> Served | None:
    if model not in policy.models:
        return None
    return served(policy, model, spot.endpoint, spot.engine, spot.place)


def _answers(
    policy: Policy, access: Access, principal: Principal, model: str, spot: Spot
) -> Mapping[str, Decision]:
    what = _stated(policy, model, spot)
    if what is None:
        because = f"{model} is no model of this policy."
        none = Decision(False, DEFAULT_DENY, because, "facts/models.yaml", (), policy.digest)
        return dict.fromkeys(ACTIONS, none)
    return {action: access.decide(principal, action, what) for action in ACTIONS}
