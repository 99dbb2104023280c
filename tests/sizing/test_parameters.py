"""The parts of every architecture add up to what its maker published."""

from collections.abc import Callable

import pytest

from sovereign.policy import Policy
from sovereign.policy.shapes import Architecture
from sovereign.sizing.parameters import active, expert_size, moe_layers, parts, total

Of = Callable[[str], Architecture]

PUBLISHED = {
    "mistral-7b-v0.1": 7_241_732_096,
    "mistral-7b-instruct-v0.3": 7_248_023_552,
    "mixtral-8x7b": 46_702_792_704,
    "mixtral-8x22b": 140_630_071_296,
    "codestral": 22_247_282_688,
    "mistral-nemo": 12_247_782_400,
    "mistral-small-3": 23_572_403_200,
    "ministral-8b-2410": 8_019_808_256,
    "mistral-large-2": 122_610_069_504,
    "codestral-mamba": 7_285_403_648,
    "smollm2": 134_515_008,
}
"""The counts in the headers of the published weights, as model cards show them."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_sum_is_the_count_in_the_published_weights_to_the_last_one(
    name: str, architecture: Of
) -> None:
    """A width that is off by one would show here, long before an out-of-memory error."""
    assert total(architecture(name)) == PUBLISHED[name]


def test_every_model_adds_up_to_what_is_published_within_its_rounding(policy: Policy) -> None:
    """`3` may be 3.8 with a vision tower; a wrong architecture would be further away."""
    for model in policy.models.values():
        a = policy.catalogue.architectures[model.architecture]
        text = total(a) - a.vision_parameters_m * 1_000_000
        said = float(model.parameters_total_b) * 1e9
        assert min(abs(total(a) - said), abs(text - said)) <= max(0.04 * said, 0.5e9), model.id
        used = float(model.parameters_active_b) * 1e9
        assert abs(active(a) - used) <= max(0.05 * used, 0.5e9), model.id


@pytest.mark.parametrize("name", ["mixtral-8x7b", "mixtral-8x22b"])
def test_a_token_uses_two_experts_of_eight_and_everything_else(name: str, architecture: Of) -> None:
    """8x7B is neither 56 nor 14: attention and embeddings are there once."""
    a = architecture(name)
    assert active(a) == total(a) - 6 * expert_size(a) * a.layers
    assert active(architecture("mixtral-8x7b")) == 12_879_925_248


def test_dense_layers_before_the_experts_are_counted_as_dense(architecture: Of) -> None:
    """Large 3 begins with three of them; counting experts there would add 33 x 10^9."""
    a = architecture("mistral-large-3")
    assert moe_layers(a) == a.layers - 3
    named = {part.name: part for part in parts(a)}
    assert named["feed-forward"].layers == 3
    assert named["routed experts"].layers == a.layers - 3


def test_tied_embeddings_are_counted_once(architecture: Of) -> None:
    """Twice would be a fifth of the whole for a small model."""
    names = [part.name for part in parts(architecture("smollm2"))]
    assert "output head" not in names
    assert "token embedding" in names
