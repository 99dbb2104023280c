"""Which machines of EU clouds hold a model, the cheapest first.

Whether data may be in a zone is not decided here: the caller hands over the zones that the policy
allows, and a machine that is sold in none of them is not shown.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from sovereign.policy.shapes import ExchangeRate, Gpu, GpuShape
from sovereign.sizing.cost import eur_hour, unsure
from sovereign.sizing.fit import Asked, Fit, best


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that holds the model, in a zone that is allowed. No price: none was read."""

    shape: GpuShape
    zone: str
    fit: Fit
    eur_hour: float | None


def allowed_shapes(
    shapes: Iterable[GpuShape], places: Collection[str]
) -> tuple[tuple[GpuShape, str], ...]:
    """Each shape with its first zone of which `places` has the code; others are left out."""
    found = []
    for shape in shapes:
        zones = [zone for zone in shape.zones if f"{shape.provider}:{zone}" in places]
        if zones:
            found.append((shape, zones[0]))
    return tuple(found)


def machines(
    asked: Asked,
    shapes: Iterable[tuple[GpuShape, str]],
    cards: Mapping[str, Gpu],
    rate: ExchangeRate,
) -> tuple[Machine, ...]:
    """Return those that hold the model under the load, cheapest first.

    A price that is not verified comes after all that are, and no price last.
    """
    found = []
    known: dict[tuple[str, int], Fit | None] = {}
    for shape, zone in shapes:
        key = (shape.gpu, shape.gpus)
        if key not in known:
            known[key] = best(asked, cards[shape.gpu], shape.gpus)
        fit = known[key]
        if fit is not None and fit.fits:
            found.append(Machine(shape, zone, fit, eur_hour(shape.price, rate)))
    return tuple(sorted(found, key=lambda m: (unsure(m.shape), m.eur_hour or 0.0)))
