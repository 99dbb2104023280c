"""How a plan says that a model lies on its machine."""

from dataclasses import replace

import pytest

from infra import resolve, stack
from infra.sized import sized

SEED = "scaleway-mixtral-8x22b"


@pytest.fixture
def seed(eea, shop):
    return resolve.site(SEED, stack.load(SEED), eea, shop)


def test_mixtral_8x22b_lies_on_four_gpus_tensor_parallel_four(eea, seed):
    """The machine that was asked for first: every layer is shared by all four cards."""
    found = sized(eea, seed, "fp8")
    assert found is not None
    assert (found.layout, found.fits) == ("tp=4", True)
    assert found.needed_gib < found.usable_gib < 48
    assert found.context_max >= found.context


def test_the_same_in_bf16_does_not_fit_and_that_is_said(eea, seed):
    """Twice the bytes on the same cards; an engine would end in its own out-of-memory error."""
    found = sized(eea, seed, "bf16")
    assert found is not None
    assert not found.fits
    assert "does not fit" in str(found)


def test_a_card_that_is_in_no_table_is_not_guessed_at(eea, seed):
    """A plan without this line is better than a line that is made up."""
    assert sized(eea, replace(seed, offer=replace(seed.offer, gpu="Abacus 9")), "fp8") is None
    assert sized(eea, replace(seed, engine="ollama"), "fp8") is None
    assert sized(eea, replace(seed, offer=None), "fp8") is None
