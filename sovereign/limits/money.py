"""Euros as whole numbers, and what tokens cost on a day.

Everything is counted in picoeuros (10**-12 euros): a price has at most six decimals for a million
tokens, so one token costs a whole number of them and no sum is ever rounded.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from sovereign.policy.loader import ANY_MODEL
from sovereign.policy.shapes import UsagePrice

PICO = 10**12
_PER_TOKEN = PICO // 10**6


@dataclass(frozen=True, slots=True)
class Price:
    """What one token costs, in picoeuros. `since` is the ordinal of the first day it holds."""

    since: int
    input: int
    output: int

    def of(self, tokens_in: int, tokens_out: int) -> int:
        """What so many tokens cost."""
        return tokens_in * self.input + tokens_out * self.output


def pico(euros: str) -> int:
    """An amount such as `12.50` as picoeuros."""
    return int(Decimal(euros) * PICO)


def euros(amount: int) -> str:
    """Picoeuros as people read them: two decimals, or as many as it takes up to six, cut off."""
    whole, rest = divmod(amount, PICO)
    decimals = f"{rest // 10**6:06}".rstrip("0")
    return f"{whole}.{decimals:0<2}"


class Prices:
    """Every price of a site. A day before the first price of a model is sold at that first one."""

    def __init__(self, listed: Iterable[UsagePrice]) -> None:
        found: dict[str, list[Price]] = {}
        for each in listed:
            one = Price(
                each.since.toordinal(),
                int(Decimal(each.input) * _PER_TOKEN),
                int(Decimal(each.output) * _PER_TOKEN),
            )
            found.setdefault(each.model, []).append(one)
        self._by_model: Mapping[str, tuple[Price, ...]] = {
            model: tuple(sorted(prices, key=lambda price: price.since))
            for model, prices in found.items()
        }

    def __bool__(self) -> bool:
        return bool(self._by_model)

    def on(self, model: str, day: int) -> Price | None:
        """The price of a model on a day, None where it has none."""
        prices = self._by_model.get(model) or self._by_model.get(ANY_MODEL)
        if prices is None:
            return None
        return next((price for price in reversed(prices) if price.since <= day), prices[0])
