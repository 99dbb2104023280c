"""Money: worked out by hand, and never shown as surer than it is."""

from collections.abc import Callable
from datetime import date

import msgspec
import pytest

from sovereign import catalogue
from sovereign.errors import UnknownName
from sovereign.policy import Policy
from sovereign.policy.shapes import ApiPrice, ExchangeRate, Gpu, GpuShape, ShapePrice
from sovereign.sizing.cards import cards
from sovereign.sizing.cost import (
    DAYS_A_MONTH,
    HOURS_A_MONTH,
    PROFILES,
    ApiCost,
    MachineCost,
    Own,
    Profile,
    api_cost,
    capacity_requests_day,
    eur_hour,
    kwh_month,
    machine_costs,
    own_cost,
    profile_of,
    unsure,
)
from tests.sizing.conftest import Ask

DAY = date(2026, 8, 21)
RATE = ExchangeRate("0.80", DAY, "a test")
CHAT = Profile("chat", "a test", 1000, 500)


def price(**more: str) -> ApiPrice:
    return ApiPrice(DAY, "a test", **more)


def test_the_interface_costs_tokens_times_price_and_a_tenth_more_in_the_eu() -> None:
    """1000 in at 2 and 500 out at 6 a million: 0.005 a request."""
    found = api_cost(price(input_eur="2", output_eur="6"), CHAT, 100, RATE, 10)
    assert found is not None
    assert found.eur_request == pytest.approx(0.005)
    assert found.eur_month == pytest.approx(0.5 * DAYS_A_MONTH)
    assert found.eur_month_regional == pytest.approx(0.55 * DAYS_A_MONTH)
    assert not found.converted


def test_a_price_in_dollars_goes_through_the_rate_and_says_so() -> None:
    """Euros are taken where they are printed; half a price is no price."""
    found = api_cost(price(input_usd="2", output_eur="6"), CHAT, 1, RATE, 0)
    assert found is not None
    assert found.eur_request == pytest.approx((1000 * 1.6 + 500 * 6) / 1e6)
    assert found.converted
    assert api_cost(price(input_eur="2"), CHAT, 1, RATE, 0) is None
    assert api_cost(None, CHAT, 1, RATE, 0) is None


@pytest.mark.parametrize(
    ("amount", "currency", "per", "hour"),
    [("2.50", "EUR", "hour", 2.5), ("2.50", "USD", "hour", 2.0), ("730", "EUR", "month", 1.0)],
)
def test_an_hour_of_a_machine_in_euros(amount: str, currency: str, per: str, hour: float) -> None:
    """Monthly prices are spread over the hours of a month, all of which are paid."""
    asked = msgspec.convert(
        {"amount": amount, "currency": currency, "per": per, "read_on": None, "source": "a test"},
        ShapePrice,
    )
    assert eur_hour(asked, RATE) == pytest.approx(hour)
    assert eur_hour(None, RATE) is None


@pytest.fixture(scope="module")
def found(policy: Policy, ask: Ask) -> tuple[tuple[MachineCost, ...], ApiCost]:
    api = api_cost(price(input_eur="0.5", output_eur="1.5"), CHAT, 50_000, RATE, 10)
    assert api is not None
    known = cards(policy.gpus)
    asked = ask("ministral-3-8b", "fp8")
    return machine_costs(asked, policy.gpus.shapes, known, CHAT, 50_000, RATE, api), api


def test_machines_are_paid_whole_and_as_many_as_the_load_needs(
    found: tuple[tuple[MachineCost, ...], ApiCost],
) -> None:
    """Half a machine cannot be rented."""
    for each in found[0]:
        assert each.machines >= 1
        assert each.machines * each.capacity_requests_day >= 50_000
        assert (each.machines - 1) * each.capacity_requests_day < 50_000
        assert 0 < each.use <= 1
        if each.eur_hour is not None and each.eur_month is not None:
            assert each.eur_month == pytest.approx(each.eur_hour * HOURS_A_MONTH * each.machines)


def test_the_cheapest_verified_price_comes_first_and_no_price_last(
    found: tuple[tuple[MachineCost, ...], ApiCost],
) -> None:
    """An undated figure of somebody's catalogue must not head the list."""
    order = [(unsure(each.shape), each.eur_month or 0) for each in found[0]]
    assert order == sorted(order)
    assert {rank for rank, _ in order} == {0, 1, 2}


def test_at_the_break_even_load_both_ways_cost_the_same(
    found: tuple[tuple[MachineCost, ...], ApiCost],
) -> None:
    """And it is named only where one machine can carry that load."""
    machines, api = found
    regional = api.eur_month_regional / api.eur_month * api.eur_request
    named = [each for each in machines if each.break_even_requests_day is not None]
    assert named
    for each in named:
        assert each.eur_hour is not None
        assert each.break_even_requests_day is not None
        assert each.break_even_requests_day * regional == pytest.approx(each.eur_hour * 24)
        assert each.break_even_requests_day <= each.capacity_requests_day
    for each in machines:
        if each.eur_hour is not None and each.break_even_requests_day is None:
            assert each.eur_hour * 24 / regional > each.capacity_requests_day


def test_a_busy_machine_draws_more_than_an_idle_one(card: Callable[[str], Gpu]) -> None:
    """0.35 kW with the machine around it is 0.455 kW: three tenths of it idle, all of it busy."""
    l40s = card("l40s")
    assert kwh_month(l40s, 1, 1.0, 1.0) == pytest.approx(0.455 * 730)
    assert kwh_month(l40s, 1, 0.0, 1.0) == pytest.approx(0.455 * 730 * 0.3)
    assert kwh_month(l40s, 2, 0.5, 1.4) == pytest.approx(2 * 0.455 * 730 * 0.65 * 1.4)


def test_own_hardware_is_written_off_and_fed(card: Callable[[str], Gpu]) -> None:
    """12,000 over four years is 250 a month, and the power comes on top."""
    mine = own_cost(Own(12_000, 4, 1.4, 0.25), card("l40s"), 1, 0.5, CHAT, 1000)
    assert mine.write_off_eur_month == 250
    assert mine.power_eur_month == pytest.approx(mine.kwh_month * 0.25)
    assert mine.eur_month == pytest.approx(250 + mine.power_eur_month)
    assert mine.eur_million == pytest.approx(mine.eur_month / (1000 * DAYS_A_MONTH * 1500 / 1e6))


def test_a_profile_is_taken_as_it_is_or_with_your_tokens() -> None:
    """The shipped figures are chosen; a site knows its own."""
    assert profile_of("rag", None, None) is not PROFILES["rag"]
    assert profile_of("rag", None, None) == PROFILES["rag"]
    assert profile_of("rag", 10, None).tokens == 10 + PROFILES["rag"].output_tokens
    with pytest.raises(UnknownName) as refused:
        profile_of("poetry", None, None)
    assert "batch" in refused.value.accepted


def test_more_answers_make_a_machine_carry_less(
    found: tuple[tuple[MachineCost, ...], ApiCost],
) -> None:
    """Decoding is the slow half."""
    fast = found[0][0].speed
    assert capacity_requests_day(fast, CHAT) > capacity_requests_day(
        fast, Profile("x", "", 1000, 1000)
    )


def test_every_current_model_with_a_price_can_be_compared(policy: Policy) -> None:
    """A price that is there and is not used would be a hole in the table."""
    for model in policy.models.values():
        if model.price is not None and model.price.input_eur:
            assert api_cost(model.price, CHAT, 1, policy.gpus.exchange, 10) is not None, model.id
    assert catalogue.find(policy, "mistral-small-4").price is not None
    assert all(isinstance(shape, GpuShape) for shape in policy.gpus.shapes)
