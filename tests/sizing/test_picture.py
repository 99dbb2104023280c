"""Pictures: text that fits a terminal, and SVG that is well formed and self-contained."""

import re
from collections.abc import Callable
from xml.parsers.expat import ParserCreate

import pytest

from sovereign.policy import Policy
from sovereign.policy.shapes import Architecture
from sovereign.sizing.cards import cards
from sovereign.sizing.cost import PROFILES, api_cost, machine_costs
from sovereign.sizing.formats import FORMATS
from sovereign.sizing.picture import WIDTH, cost_svg, routing_svg, routing_text
from tests.sizing.conftest import Ask

Of = Callable[[str], Architecture]


@pytest.mark.parametrize("name", ["mixtral-8x7b", "mistral-small-4", "mistral-large-3"])
def test_the_routing_fits_a_terminal_and_fills_as_many_boxes_as_experts_are_used(
    name: str, architecture: Of
) -> None:
    """A picture that wraps is none; one with three of two experts is a lie."""
    a = architecture(name)
    lines = routing_text(name, a, FORMATS["bf16"])
    assert max(len(line) for line in lines) <= WIDTH
    (row,) = [line for line in lines if "[#]" in line]
    assert row.count("[#]") == a.experts_per_token
    assert row.count("[") == min(a.experts, 16)
    assert any(f"{a.experts} in all" in line for line in lines) is (a.experts > 16)


def test_a_dense_model_says_that_nothing_is_routed(architecture: Of) -> None:
    """Asked of Mistral 7B, the answer is a sentence and not an error."""
    lines = routing_text("Mistral 7B", architecture("mistral-7b"), FORMATS["bf16"])
    assert "dense" in lines[0]
    assert "dense" in routing_svg("Mistral 7B", architecture("mistral-7b"), FORMATS["bf16"])


@pytest.mark.parametrize("name", ["mixtral-8x7b", "mistral-small-4", "mistral-7b"])
def test_the_svg_is_well_formed_and_reaches_for_nothing_outside(
    name: str, architecture: Of
) -> None:
    """It may be opened in a browser: no script, no link, no font from elsewhere."""
    said = routing_svg('<script>"&', architecture(name), FORMATS["fp8"])
    ParserCreate().Parse(said, True)  # raises where it is not well formed
    for x, y in re.findall(r'<text x="([-0-9.]+)" y="([-0-9.]+)"', said):
        assert 0 <= float(x) <= 720
        assert 0 <= float(y) <= 420
    assert "<script" not in said
    assert "href" not in said
    assert said.count("http") == 1  # the name space


def test_the_plot_has_a_line_for_the_interface_and_for_each_machine_shown(
    policy: Policy, ask: Ask
) -> None:
    """Each with its name beside it, so that it can be read without colours."""
    model = policy.models["ministral-3-8b-instruct-2512"]
    api = api_cost(model.price, PROFILES["chat"], 1000, policy.gpus.exchange, 10)
    found = machine_costs(
        ask("ministral-3-8b", "fp8"),
        policy.gpus.shapes,
        cards(policy.gpus),
        PROFILES["chat"],
        1000,
        policy.gpus.exchange,
        api,
    )
    said = cost_svg("Ministral", found, api, 1000)
    assert "Mistral API, EU" in said
    assert sum(f">{each.shape.provider} {each.shape.id}"[:20] in said for each in found[:4]) == 4
    assert "nan" not in said
    assert "Mistral API" not in cost_svg("Ministral", found, None, 1000)
    assert cost_svg("nothing", (), None, 1).startswith("<svg")
