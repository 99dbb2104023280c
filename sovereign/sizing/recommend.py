"""Which model to take on given GPUs: those that fit and can what is asked, the best first.

The order follows three questions an operator asks: may it serve without further ado, is it still
supported, and how large is it: the only measure of quality we have, and a rough one. For a mixture
of experts it is the geometric mean of all parameters and those used. Nothing is hidden: what was
left out is returned with the reason.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from sovereign.catalogue import State, abilities, state
from sovereign.policy import Policy
from sovereign.policy.shapes import Gpu, Model
from sovereign.sizing.fit import Asked, Fit, best
from sovereign.sizing.formats import Format, kv_format, weight_format
from sovereign.sizing.memory import Load
from sovereign.sizing.parameters import active, total
from sovereign.sizing.speed import Speed, speed

_SUPPORTED: dict[State, int] = {"current": 0, "preview": 1, "deprecated": 2, "retired": 3}
_SERVES = {"yes": 0, "acknowledge": 1}
FORMATS_TRIED = ("bf16", "fp8", "nvfp4", "int4")
"""Finest first: a model is shown in the finest format that fits."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A model that fits, in which format, with what room and speed."""

    model: Model
    state: State
    serve: str
    fmt: Format
    fit: Fit
    speed: Speed


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A model that was not chosen, and why."""

    model: Model
    why: str


def recommend(
    policy: Policy, needs: Iterable[str], card: Gpu, gpus: int, load: Load, today: date
) -> tuple[tuple[Choice, ...], tuple[LeftOut, ...]]:
    """Return the models that fit `gpus` x `card` under `load`, best first, and all others."""
    chosen, left = [], []
    for model in policy.models.values():
        why = _unfit(policy, model, frozenset(needs), load, today)
        choice = None if why else _choice(policy, model, card, gpus, load, today)
        if choice:
            chosen.append(choice)
        else:
            left.append(LeftOut(model, why or f"does not fit {gpus} x {card.name}"))
    return tuple(sorted(chosen, key=lambda c: _rank(policy, c))), tuple(left)


def _unfit(policy: Policy, model: Model, needs: frozenset[str], load: Load, today: date) -> str:
    missing = sorted(needs - abilities(model))
    rule = policy.licences.get(model.licence_terms)
    if state(model, today) == "fixture":
        return "a fixture of tests"
    if rule is None or rule.serve == "no":
        return f"its licence may not serve ({model.licence_terms})"
    if missing:
        return f"is not said to do {', '.join(missing)}"
    if load.context > model.context:
        return f"its context ends at {model.context}"
    return ""


def _choice(
    policy: Policy, model: Model, card: Gpu, gpus: int, load: Load, today: date
) -> Choice | None:
    a = policy.catalogue.architectures[model.architecture]
    for name in FORMATS_TRIED[FORMATS_TRIED.index(_published(model)) :]:
        fmt = weight_format(name)
        asked = Asked(a, fmt, kv_format("auto", fmt), load, model.context)
        found = best(asked, card, gpus)
        if found is not None and found.fits:
            fast = speed(asked, card, found.layout, min(1024, load.context))
            serve = policy.licences[model.licence_terms].serve
            return Choice(model, state(model, today), serve, fmt, found, fast)
    return None


def _published(model: Model) -> str:
    """No format finer than the weights are published in says more than they do."""
    return model.published_as if model.published_as in FORMATS_TRIED else "bf16"


def _rank(policy: Policy, choice: Choice) -> tuple[int, int, int, float]:
    a = policy.catalogue.architectures[choice.model.architecture]
    coarse = FORMATS_TRIED.index(choice.fmt.id) > 1
    return (
        _SERVES.get(choice.serve, 9),
        _SUPPORTED.get(choice.state, 9),
        int(coarse),
        -math.sqrt(active(a) * total(a)),
    )
