"""What serving a model costs: machines of EU clouds, your own, and Mistral's interface beside them.

Pure. Money is in euros before VAT, computed with floats and shown with two digits: the prices
that go in are not surer than that. Every price carries the day it was read, every one that went
through the exchange rate says so, and a machine without a price is listed without one.

How much a machine can do comes from `speed.py`: the likely rate, at the largest number of
conversations that fit. A request first fills its prompt, then makes its answer; at full use the
two share the machine, so a request costs it input/prefill rate + output/decode rate seconds.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from sovereign.errors import UnknownName
from sovereign.policy.shapes import ApiPrice, ExchangeRate, Gpu, GpuShape, ShapePrice
from sovereign.sizing.fit import Asked, Fit, best
from sovereign.sizing.speed import Speed, speed

HOURS_A_MONTH = 730.0
DAYS_A_MONTH = HOURS_A_MONTH / 24
CONCURRENCY_USED_MAX = 256
"""More conversations at once than this gain little, and make each slow."""
HOST_POWER_FACTOR = 1.3
"""What a machine draws beside its GPUs: processors, memory, fans."""
IDLE_SHARE = 0.3
"""The share of its full power that a machine draws when it has nothing to do."""
PUE_CLOUD = 1.3
"""Power usage effectiveness assumed of a cloud's data centre."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One kind of use, as tokens a request. The figures are chosen, to be replaced by yours."""

    id: str
    describes: str
    input_tokens: int
    output_tokens: int

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        profile.id: profile
        for profile in (
            Profile("chat", "short questions, answers of a paragraph", 800, 300),
            Profile("rag", "documents in the prompt, short answers", 4000, 400),
            Profile("code", "files in the prompt, a change as answer", 3000, 600),
            Profile("batch", "long texts summarised, nobody waits", 6000, 500),
        )
    }
)


@dataclass(frozen=True, slots=True)
class ApiCost:
    """Mistral's interface for the same load. `eur_request` is one request, outside the region."""

    price: ApiPrice
    eur_request: float
    eur_month: float
    eur_month_regional: float
    converted: bool


@dataclass(frozen=True, slots=True)
class MachineCost:
    """One machine type under the load; money is None where no price was read.

    `break_even_requests_day` is the load from which one machine costs less than the regional
    interface; None when it never does within what one machine can carry.
    """

    shape: GpuShape
    fit: Fit
    speed: Speed
    machines: int
    capacity_requests_day: float
    use: float
    eur_hour: float | None
    eur_month: float | None
    eur_million: float | None
    break_even_requests_day: float | None
    converted: bool
    kwh_month: float


@dataclass(frozen=True, slots=True)
class Own:
    """Hardware of one's own: bought once, written off over years, fed with power."""

    price_eur: float
    years: float
    pue: float
    eur_kwh: float


@dataclass(frozen=True, slots=True)
class OwnCost:
    """A month of `Own`: what is written off, what the power costs, and the sum a million tokens."""

    write_off_eur_month: float
    power_eur_month: float
    eur_month: float
    eur_million: float
    kwh_month: float
    use: float


def profile_of(name: str, input_tokens: int | None, output_tokens: int | None) -> Profile:
    """The profile called `name`, with its tokens replaced where others are given.

    Raises:
        UnknownName: no such profile.
    """
    if name not in PROFILES:
        raise UnknownName(f"{name!r} is no load profile", accepted=", ".join(PROFILES))
    profile = PROFILES[name]
    return replace(
        profile,
        input_tokens=input_tokens or profile.input_tokens,
        output_tokens=output_tokens or profile.output_tokens,
    )


def api_cost(
    price: ApiPrice | None,
    profile: Profile,
    requests_day: float,
    rate: ExchangeRate,
    surcharge_percent: int,
) -> ApiCost | None:
    """What Mistral asks for the load; None when it prints no full price for the model."""
    if price is None:
        return None
    eur_in, turned_in = _euros(price.input_eur, price.input_usd, rate)
    eur_out, turned_out = _euros(price.output_eur, price.output_usd, rate)
    if eur_in is None or eur_out is None:
        return None
    each = (profile.input_tokens * eur_in + profile.output_tokens * eur_out) / 1e6
    month = each * requests_day * DAYS_A_MONTH
    factor = 1 + surcharge_percent / 100
    return ApiCost(price, each, month, month * factor, turned_in or turned_out)


def _euros(eur: str, usd: str, rate: ExchangeRate) -> tuple[float | None, bool]:
    if eur:
        return float(eur), False
    return (float(usd) * float(rate.eur_per_usd), True) if usd else (None, False)


def eur_hour(price: ShapePrice | None, rate: ExchangeRate) -> float | None:
    """The price of an hour in euros; None when none was read."""
    if price is None:
        return None
    amount = float(price.amount) / (HOURS_A_MONTH if price.per == "month" else 1)
    return amount * (float(rate.eur_per_usd) if price.currency == "USD" else 1)


def machine_costs(
    asked: Asked,
    shapes: Iterable[GpuShape],
    cards: Mapping[str, Gpu],
    profile: Profile,
    requests_day: float,
    rate: ExchangeRate,
    api: ApiCost | None,
) -> tuple[MachineCost, ...]:
    """Every shape that holds the model under the profile, the cheapest for the load first.

    A price that is not verified comes after all that are, and no price last.
    """
    found = []
    for shape in shapes:
        card = cards[shape.gpu]
        filled = _filled(asked, card, shape.gpus, profile)
        if filled is not None:
            found.append(_machine(filled, shape, card, profile, requests_day, rate, api))
    return tuple(sorted(found, key=lambda each: (unsure(each.shape), each.eur_month or 0.0)))


def unsure(shape: GpuShape) -> int:
    """How far back a shape belongs in a list by price: 1 not verified, 2 without a price."""
    if shape.price is None:
        return 2
    return int(shape.price.confidence == "low")


def _filled(asked: Asked, card: Gpu, gpus: int, profile: Profile) -> tuple[Asked, Fit] | None:
    """The same question at the profile's context, with as many conversations as fit."""
    context = min(profile.tokens, asked.context_published)
    one = replace(asked, load=replace(asked.load, context=context, concurrency=1))
    fit = best(one, card, gpus)
    if fit is None or not fit.fits:
        return None
    many = min(fit.concurrency_max, CONCURRENCY_USED_MAX)
    full = replace(one, load=replace(one.load, concurrency=many))
    again = best(full, card, gpus)
    return (full, again) if again is not None else None


def _machine(
    filled: tuple[Asked, Fit],
    shape: GpuShape,
    card: Gpu,
    profile: Profile,
    requests_day: float,
    rate: ExchangeRate,
    api: ApiCost | None,
) -> MachineCost:
    asked, fit = filled
    fast = speed(asked, card, fit.layout, profile.input_tokens)
    capacity = capacity_requests_day(fast, profile)
    machines = max(1, math.ceil(requests_day / capacity))
    use = requests_day / (capacity * machines)
    hour = eur_hour(shape.price, rate)
    month = hour * HOURS_A_MONTH * machines if hour is not None else None
    million = requests_day * DAYS_A_MONTH * profile.tokens / 1e6
    return MachineCost(
        shape=shape,
        fit=fit,
        speed=fast,
        machines=machines,
        capacity_requests_day=capacity,
        use=use,
        eur_hour=hour,
        eur_month=month,
        eur_million=month / million if month is not None else None,
        break_even_requests_day=_break_even(hour, capacity, api),
        converted=shape.price is not None and shape.price.currency != "EUR",
        kwh_month=kwh_month(card, shape.gpus, use, PUE_CLOUD) * machines,
    )


def capacity_requests_day(fast: Speed, profile: Profile) -> float:
    """Requests of a profile that one machine answers in a day when it never rests."""
    filling = profile.input_tokens / fast.prefill_tokens_s.likely
    making = profile.output_tokens / fast.all_tokens_s.likely
    return 86_400 / (filling + making)


def _break_even(hour: float | None, capacity: float, api: ApiCost | None) -> float | None:
    if hour is None or api is None or not api.eur_request:
        return None
    factor = api.eur_month_regional / api.eur_month if api.eur_month else 1.0
    needed = hour * 24 / (api.eur_request * factor)
    return needed if needed <= capacity else None


def kwh_month(card: Gpu, gpus: int, use: float, pue: float) -> float:
    """Electricity of a month: idle power always, the rest in proportion to the use."""
    full_kw = card.power_w * gpus * HOST_POWER_FACTOR / 1000
    return full_kw * (IDLE_SHARE + (1 - IDLE_SHARE) * min(use, 1.0)) * HOURS_A_MONTH * pue


def own_cost(
    own: Own, card: Gpu, gpus: int, use: float, profile: Profile, requests_day: float
) -> OwnCost:
    """A month of one's own machine at that use."""
    kwh = kwh_month(card, gpus, use, own.pue)
    written_off = own.price_eur / (own.years * 12)
    month = written_off + kwh * own.eur_kwh
    million = requests_day * DAYS_A_MONTH * profile.tokens / 1e6
    return OwnCost(written_off, kwh * own.eur_kwh, month, month / million, kwh, use)
