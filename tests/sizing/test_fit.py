"""Whether it fits: yes, no, and the edge where one more token is one too many."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from sovereign.policy.shapes import Architecture, Gpu
from sovereign.sizing.fit import best, fit, layouts, smallest
from sovereign.sizing.formats import FORMATS
from sovereign.sizing.memory import Layout
from tests.sizing.conftest import Ask

Of = Callable[[str], Architecture]
Card = Callable[[str], Gpu]


@pytest.mark.parametrize(
    ("name", "dtype", "gpu", "gpus", "fits"),
    [
        ("mixtral-8x7b", "bf16", "h100", 1, False),
        ("mixtral-8x7b", "bf16", "h100", 2, True),
        ("mixtral-8x7b", "fp8", "h100", 1, True),
        ("mixtral-8x7b", "int4", "l40s", 1, True),
        ("mixtral-8x22b", "bf16", "h100", 2, False),
        ("mixtral-8x22b", "bf16", "h100", 4, True),
        ("mixtral-8x22b", "int4", "h100", 1, False),
        ("mistral-7b", "bf16", "l4", 1, True),
        ("mistral-small-4", "fp8", "h100", 2, True),
        ("mistral-small-4", "bf16", "h200", 2, True),
        ("mistral-medium-3.5", "fp8", "h200", 2, True),
        ("mistral-large-3", "fp8", "h200", 8, True),
        ("mistral-large-3", "fp8", "h100", 8, False),
        ("mistral-large-3", "nvfp4", "b200", 4, True),
    ],
)
def test_known_pairs_of_model_and_machine(
    name: str, dtype: str, gpu: str, gpus: int, fits: bool, ask: Ask, card: Card
) -> None:
    """What recipes run: 8x22B in bf16 on four cards of 80 GB is tight, and is what they say."""
    found = best(ask(name, dtype), card(gpu), gpus)
    assert found is not None
    assert found.fits is fits


def test_one_token_more_than_the_most_does_not_fit(ask: Ask, card: Card) -> None:
    """The largest context is the edge itself, for both ways of asking."""
    asked = ask("mistral-7b", concurrency=8)
    found = fit(asked, card("l4"), Layout())
    at = replace(asked.load, context=found.context_max)
    over = replace(asked.load, context=found.context_max + 16)
    assert 0 < found.context_max < asked.context_published
    assert fit(replace(asked, load=at), card("l4"), Layout()).fits
    assert not fit(replace(asked, load=over), card("l4"), Layout()).fits
    many = replace(asked.load, concurrency=found.concurrency_max)
    more = replace(asked.load, concurrency=found.concurrency_max + 1)
    assert fit(replace(asked, load=many), card("l4"), Layout()).fits
    assert not fit(replace(asked, load=more), card("l4"), Layout()).fits


def test_the_context_never_passes_what_the_model_was_made_for(ask: Ask, card: Card) -> None:
    """Room for a million tokens does not make a model read them."""
    assert fit(ask("mixtral-8x7b"), card("b300"), Layout()).context_max == 32_768


def test_a_model_that_does_not_fit_has_no_context_at_all(ask: Ask, card: Card) -> None:
    """Zero, and not the smallest number that was tried."""
    found = fit(ask("mixtral-8x7b"), card("l4"), Layout())
    assert (found.fits, found.context_max, found.concurrency_max) == (False, 0, 0)


def test_layouts_are_those_that_engines_accept(architecture: Of) -> None:
    """Tensor parallel must divide the heads; three GPUs only work one after the other."""
    bf16 = FORMATS["bf16"]
    mixtral = architecture("mixtral-8x7b")
    assert layouts(mixtral, bf16, 1) == (Layout(),)
    assert layouts(mixtral, bf16, 2) == (
        Layout(2, 1),
        Layout(2, 1, expert_parallel=True),
        Layout(1, 2),
    )
    assert layouts(mixtral, bf16, 3) == (Layout(1, 3),)
    dense = architecture(
        "mistral-large-2"
    )  # 96 heads, 8 of keys: 3 divides the one and not the other
    assert layouts(dense, bf16, 3) == (Layout(1, 3),)
    assert layouts(architecture("smollm2"), bf16, 3)[0] == Layout(3, 1)
    assert layouts(mixtral, FORMATS["q4_0"], 2) == (Layout(1, 2),)
    assert layouts(architecture("tiny-mixtral"), bf16, 64) == ()


def test_between_likely_and_high_it_fits_and_is_not_sure(ask: Ask, card: Card) -> None:
    """An operator with nothing to spare is told so."""
    asked = ask("mistral-7b")
    found = fit(asked, card("l4"), Layout())
    middle = (found.sum.likely + found.sum.high) / 2
    tight = replace(asked, utilisation=middle / (card("l4").memory_mib * 2**20))
    again = fit(tight, card("l4"), Layout())
    assert (again.fits, again.sure) == (True, False)
    assert found.sure


def test_the_fewest_gpus_of_each_card_are_found(ask: Ask, card: Card) -> None:
    """One fewer of the counts that machines have must not do."""
    asked = ask("mixtral-8x7b")
    found = {each.card.id: each.layout.gpus for each in smallest(asked, [card("l4"), card("h200")])}
    assert found == {"l4": 8, "h200": 1}
    four = best(asked, card("l4"), 4)
    assert four is None or not four.fits
    assert smallest(ask("mistral-large-3", "bf16"), [card("l4")]) == ()
