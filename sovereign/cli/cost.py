"""`sovereign cost`: what a load costs on machines of EU clouds, on your own, and at Mistral's."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from sovereign import catalogue
from sovereign.cli.output import (
    HomeOption,
    JsonFlag,
    give,
    home_of,
    policy_of,
    say,
    say_folded,
    table,
    write_file,
)
from sovereign.cli.size import allowed_places
from sovereign.errors import BadInput
from sovereign.policy import Policy
from sovereign.policy.shapes import ExchangeRate, Model
from sovereign.registry import utcnow
from sovereign.sizing import cost as costs
from sovereign.sizing.answer import Wish, asked_of, subject_of
from sovereign.sizing.cards import card_of, cards
from sovereign.sizing.cost import ApiCost, MachineCost, Own, OwnCost, Profile
from sovereign.sizing.fit import Asked, best
from sovereign.sizing.machines import allowed_shapes
from sovereign.sizing.picture import cost_svg
from sovereign.sizing.speed import speed

REQUESTS_DEFAULT = 10_000.0


def add_to(app: typer.Typer) -> None:
    """Hang the command on the root."""
    app.command()(cost)


def cost(
    model: Annotated[str, typer.Argument(help="Id, alias or short name of a model.")],
    profile: Annotated[
        str, typer.Option(help=f"Kind of load: {', '.join(costs.PROFILES)}.")
    ] = "chat",
    requests_day: Annotated[
        float, typer.Option("--requests-day", min=1, max=1e9, help="Requests a day.")
    ] = REQUESTS_DEFAULT,
    input_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a prompt, instead of the profile's.")
    ] = None,
    output_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of an answer, instead of the profile's.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Of the weights; as published by default.")] = "",
    eur_per_usd: Annotated[
        float | None, typer.Option(min=0.01, max=100, help="Your own rate, for prices in dollars.")
    ] = None,
    own: Annotated[
        str, typer.Option(help="Your own machine, as in 2xh100-sxm; with --own-price.")
    ] = "",
    own_price: Annotated[
        float | None, typer.Option(min=0, help="What it costs to buy, in euros.")
    ] = None,
    years: Annotated[float, typer.Option(min=0.5, max=20, help="Written off over so long.")] = 4,
    pue: Annotated[float, typer.Option(min=1, max=3, help="Power usage effectiveness.")] = 1.4,
    eur_kwh: Annotated[float, typer.Option(min=0, max=10, help="Your price of power.")] = 0.20,
    most: Annotated[int, typer.Option(min=1, max=100, help="Machines to show.")] = 8,
    svg: Annotated[Path | None, typer.Option(help="Write the plot here as SVG.")] = None,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Euros for a load, before VAT, and the load from which a machine is the cheaper way.

    Only machines at places the policy allows are counted. Every price is shown with the day it
    was read; prices in dollars go through a rate that you can replace.
    """
    policy = policy_of(home_of(home))
    entry = catalogue.with_weights(policy, model)
    chosen = costs.profile_of(profile, input_tokens, output_tokens)
    rate = _rate(policy, eur_per_usd)
    asked = _asked(policy, entry, chosen, dtype)
    percent = policy.catalogue.regional.percent
    api = costs.api_cost(entry.price, chosen, requests_day, rate, percent)
    shapes = [shape for shape, _ in allowed_shapes(policy.gpus.shapes, allowed_places(policy))]
    known = cards(policy.gpus)
    found = costs.machine_costs(asked, shapes, known, chosen, requests_day, rate, api)
    mine = _own(policy, asked, own, own_price, (years, pue, eur_kwh), chosen, requests_day)
    if svg is not None:
        drawn = cost_svg(f"{entry.name}, {chosen.id}", found, api, requests_day)
        write_file(svg, drawn.encode())
    if as_json:
        grams = {f"{each.shape.provider} {each.shape.id}": _grams(policy, each) for each in found}
        give(_as_json(entry, asked, chosen, requests_day, api, found, mine, rate, grams))
        return
    _show(policy, entry, asked, chosen, requests_day, api, found[:most], mine, rate)
    if svg is not None:
        say(f"written {svg}")


def _rate(policy: Policy, given: float | None) -> ExchangeRate:
    if given is None:
        return policy.gpus.exchange
    return ExchangeRate(f"{given:.6f}", utcnow().date(), "given by you", "high")


def _asked(policy: Policy, model: Model, profile: Profile, dtype: str) -> Asked:
    if profile.tokens > model.context:
        raise BadInput(
            f"a request of {profile.tokens} tokens is more than {model.id} was made for",
            accepted=f"--input-tokens and --output-tokens of at most {model.context} together",
        )
    subject = subject_of(policy, model, None, model.id)
    return asked_of(subject, Wish(dtype=dtype, context=profile.tokens))


def _own(
    policy: Policy,
    asked: Asked,
    machine: str,
    price: float | None,
    terms: tuple[float, float, float],
    profile: Profile,
    requests_day: float,
) -> OwnCost | None:
    """The cost of one's own machine.

    Raises:
        BadInput: half of what it needs was given, or the machine does not hold the model.
    """
    if not machine and price is None:
        return None
    count, times, name = machine.partition("x")
    if not times or not count.isdecimal() or not 1 <= int(count) <= 64 or price is None:
        raise BadInput(
            f"--own {machine!r} with --own-price {price} is no machine",
            accepted="both: --own 2xh100-sxm --own-price 60000",
        )
    card, gpus = card_of(policy.gpus, name), int(count)
    found = best(asked, card, gpus)
    if found is None or not found.fits:
        raise BadInput(
            f"{gpus} x {card.name} does not hold it in {asked.fmt.id}",
            accepted="a machine of sovereign size",
        )
    many = min(found.concurrency_max, costs.CONCURRENCY_USED_MAX)
    full = replace(asked, load=replace(asked.load, concurrency=many))
    fast = speed(full, card, found.layout, profile.input_tokens)
    use = requests_day / costs.capacity_requests_day(fast, profile)
    if use > 1:
        raise BadInput(
            f"{requests_day:.0f} requests a day are {use:.1f} times what that machine can do",
            accepted="fewer requests, or a larger machine",
        )
    years, pue, eur_kwh = terms
    return costs.own_cost(Own(price, years, pue, eur_kwh), card, gpus, use, profile, requests_day)


# --- for a person ---


def _show(
    policy: Policy,
    model: Model,
    asked: Asked,
    profile: Profile,
    requests_day: float,
    api: ApiCost | None,
    found: tuple[MachineCost, ...],
    mine: OwnCost | None,
    rate: ExchangeRate,
) -> None:
    say(
        f"{model.name} in {asked.fmt.id}: {requests_day:.0f} requests a day of "
        f"{profile.input_tokens} + {profile.output_tokens} tokens ({profile.id})"
    )
    million = requests_day * costs.DAYS_A_MONTH * profile.tokens / 1e6
    say(f"  {million:.1f} million tokens a month; EUR before VAT")
    _show_api(policy, model, api, million)
    if not found:
        say("no machine of facts/gpus.yaml at an allowed place holds it")
    else:
        columns = (
            "machine",
            "n",
            "use",
            "EUR/h",
            "month",
            "EUR/M",
            "pays at",
            "price read",
        )
        table(columns, [_row(each) for each in found])
        say("pays at: requests a day from which a machine is cheaper than the API in the EU;")
        say("  -: not within what it can carry, or no price. *: by the rate below;")
        say("  EUR/M: a million tokens at this load. ?: price not verified")
    for each in found[:1]:
        grams = _grams(policy, each)
        co2 = f", {each.kwh_month * grams / 1000:.0f} kg CO2 ({grams} g/kWh)" if grams else ""
        say(
            f"  {each.shape.id}: about {each.kwh_month:.0f} kWh a month{co2}, PUE {costs.PUE_CLOUD}"
        )
    if mine is not None:
        say(
            f"  your own: {mine.eur_month:.0f} a month, {mine.write_off_eur_month:.0f} of it "
            f"written off and {mine.power_eur_month:.0f} power; {mine.eur_million:.2f} a million"
        )
    say_folded(
        f"rate: 1 USD = {rate.eur_per_usd} EUR, {rate.read_on} [{rate.confidence}], {rate.source}",
        "  ",
    )
    say("  what a machine can do is expected, not measured: sovereign size --explain")


def _show_api(policy: Policy, model: Model, api: ApiCost | None, million: float) -> None:
    if api is None:
        said = "no longer sold there" if model.status == "retired-upstream" else "no price printed"
        say(f"  Mistral's API: {said}")
        return
    regional = policy.catalogue.regional
    price = api.price
    say(
        f"  Mistral's API: {api.eur_month:.2f} a month, {api.eur_month / million:.3f} a million; "
        f"kept in the EU {api.eur_month_regional:.2f} (+{regional.percent} %)"
    )
    say(
        f"    {price.input_eur}/{price.output_eur} EUR a million in/out, read {price.read_on} "
        f"[{price.confidence}];"
    )
    say(f"    surcharge read {regional.read_on} [{regional.confidence}]")
    if model.status == "retired-upstream":
        say("    the last price printed: it is retired there")


def _row(each: MachineCost) -> tuple[str, ...]:
    price = each.shape.price
    mark = "*" if each.converted else ""
    read = "never" if price is None else str(price.read_on or "2026")
    if price is not None and price.confidence == "low":
        read += "?"
    return (
        f"{each.shape.provider} {each.shape.id}",
        str(each.machines),
        f"{each.use:.0%}",
        _money(each.eur_hour, 2) + mark,
        _money(each.eur_month, 0),
        _money(each.eur_million, 2),
        _money(each.break_even_requests_day, 0),
        read,
    )


def _money(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _grams(policy: Policy, each: MachineCost) -> int | None:
    """Carbon of a kilowatt hour where the machine stands: of its first zone's country."""
    place = policy.places.get(f"{each.shape.provider}:{each.shape.zones[0]}")
    grids = {grid.country: grid.g_per_kwh for grid in policy.gpus.grids}
    return grids.get(place.country) if place else None


# --- for a program ---


def _as_json(
    model: Model,
    asked: Asked,
    profile: Profile,
    requests_day: float,
    api: ApiCost | None,
    found: tuple[MachineCost, ...],
    mine: OwnCost | None,
    rate: ExchangeRate,
    grams: dict[str, int | None],
) -> dict[str, Any]:
    return {
        "model": model.id,
        "dtype": asked.fmt.id,
        "profile": profile,
        "requests_day": requests_day,
        "tokens_month": requests_day * costs.DAYS_A_MONTH * profile.tokens,
        "api": api,
        "machines": [
            {
                "provider": each.shape.provider,
                "shape": each.shape.id,
                "zones": each.shape.zones,
                "gpu": each.shape.gpu,
                "gpus": each.shape.gpus,
                "layout": str(each.fit.layout),
                "machines": each.machines,
                "use": each.use,
                "capacity_requests_day": each.capacity_requests_day,
                "eur_hour": each.eur_hour,
                "eur_month": each.eur_month,
                "eur_million_tokens": each.eur_million,
                "break_even_requests_day": each.break_even_requests_day,
                "through_exchange_rate": each.converted,
                "price": each.shape.price,
                "kwh_month": each.kwh_month,
                "g_co2_per_kwh": grams[f"{each.shape.provider} {each.shape.id}"],
            }
            for each in found
        ],
        "own": mine,
        "exchange": rate,
    }
