"""Speed: bounds worked out by hand, and the expectation of experts against a real draw."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from sovereign.policy.shapes import Architecture, Gpu
from sovereign.sizing.fit import best
from sovereign.sizing.formats import FORMATS
from sovereign.sizing.memory import Layout, weights
from sovereign.sizing.moe import bytes_read, picture, touched
from sovereign.sizing.speed import decode_flops, peak, prefill_flops, speed
from tests.sizing.conftest import Ask

Of = Callable[[str], Architecture]
Card = Callable[[str], Gpu]


def test_one_user_of_a_dense_model_waits_for_all_its_weights(ask: Ask, card: Card) -> None:
    """7B in bf16 on an L4: 14.2 GB and a cache of 1.07 GB at 300 GB/s are 19.6 tokens a second."""
    asked = ask("mistral-7b")
    found = speed(asked, card("l4"), Layout(), 1024)
    read = 14_496_047_104 - 2 * 32_768 * 4096 + 2 * 4096 + 8192 * 131_072
    assert found.each_tokens_s.bound == pytest.approx(300e9 / read, rel=1e-3)
    assert found.limit == "memory bandwidth"
    assert found.each_tokens_s.slow < found.each_tokens_s.fast < found.each_tokens_s.bound


def test_one_user_of_a_mixture_waits_for_two_experts_of_eight(ask: Ask, card: Card) -> None:
    """Memory like the big one, speed like the small one: the whole point of it."""
    mixtral = speed(ask("mixtral-8x7b"), card("b200"), Layout(), 1024)
    small = speed(ask("codestral"), card("b200"), Layout(), 1024)
    assert mixtral.each_tokens_s.bound > small.each_tokens_s.bound
    assert mixtral.experts_touched == 2


def test_many_users_read_nearly_all_experts(ask: Ask, card: Card) -> None:
    """Using top-k for a batch of 32 would promise four times what is possible."""
    asked = ask("mixtral-8x7b", context=512, concurrency=32)
    found = speed(asked, card("b200"), Layout(), 512)
    whole = weights(asked.architecture, asked.fmt).likely
    assert found.experts_touched == pytest.approx(8, abs=0.01)
    assert found.bytes_weights > 0.99 * (whole - 2 * 32_000 * 4096)


def test_the_expectation_is_the_mean_over_all_that_can_be_drawn(architecture: Of) -> None:
    """Four experts, two a token, three tokens: every one of 216 draws, counted."""
    a = msgspec.structs.replace(architecture("mixtral-8x7b"), experts=4)
    pairs = list(itertools.combinations(range(4), 2))
    draws = list(itertools.product(pairs, repeat=3))
    mean = sum(len(set(itertools.chain(*draw))) for draw in draws) / len(draws)
    assert len(draws) == 216
    assert touched(a, 3) == pytest.approx(mean)


@pytest.mark.parametrize("name", ["mixtral-8x7b", "mistral-small-4"])
@pytest.mark.parametrize("batch", [1, 2, 7, 32])
def test_the_expectation_is_that_of_drawing_token_by_token(
    name: str, batch: int, architecture: Of
) -> None:
    """Another way to the same number: the chances of each count, carried from token to token."""
    a = architecture(name)
    chances = {0: 1.0}
    for _ in range(batch):
        after: dict[int, float] = {}
        for seen, chance in chances.items():
            for new in range(min(a.experts_per_token, a.experts - seen) + 1):
                old = a.experts_per_token - new
                ways = math.comb(seen, old) * math.comb(a.experts - seen, new)
                part = chance * ways / math.comb(a.experts, a.experts_per_token)
                after[seen + new] = after.get(seen + new, 0.0) + part
        chances = after
    mean = sum(seen * chance for seen, chance in chances.items())
    assert touched(a, batch) == pytest.approx(mean)


def test_touched_begins_at_k_ends_below_all_and_only_grows(architecture: Of) -> None:
    """The edges: one token, and a batch larger than anybody's."""
    a = architecture("mistral-small-4")
    grown = [touched(a, n) for n in (1, 2, 3, 10, 100, 10_000)]
    assert grown[0] == pytest.approx(4)
    assert grown == sorted(grown)
    assert grown[-1] == pytest.approx(128)
    assert touched(architecture("mistral-7b"), 5) == 0


def test_bytes_a_step_grow_and_bytes_a_token_fall(architecture: Of) -> None:
    """Why batching pays, also for experts."""
    steps = picture(architecture("mixtral-8x7b"), FORMATS["bf16"])
    assert [s.bytes_step for s in steps] == sorted(s.bytes_step for s in steps)
    assert [s.bytes_token for s in steps] == sorted((s.bytes_token for s in steps), reverse=True)


def test_two_gpus_read_half_each(architecture: Of) -> None:
    """Tensor parallel halves what one GPU reads, but for what is on both."""
    a = architecture("mistral-7b")
    one, two = (bytes_read(a, FORMATS["bf16"], 1, Layout(n)) for n in (1, 2))
    assert two == pytest.approx(one / 2, rel=1e-3)


def test_pipeline_parallel_adds_throughput_and_no_speed(ask: Ask, card: Card) -> None:
    """A token passes every group, one after the other."""
    asked = ask("mixtral-8x7b", concurrency=1)
    tensor = speed(asked, card("h100"), Layout(2, 1), 1024)
    pipeline = speed(asked, card("h100"), Layout(1, 2), 1024)
    assert pipeline.each_tokens_s.bound == pytest.approx(tensor.each_tokens_s.bound / 2, rel=0.01)


def test_a_long_prompt_is_bound_by_arithmetic(ask: Ask, card: Card) -> None:
    """2 x 7.1 x 10^9 x 8192 operations and attention, at 989 x 10^12 a second."""
    found = speed(ask("mistral-7b"), card("h100"), Layout(), 8192)
    a = ask("mistral-7b").architecture
    operations = 8192 * 2 * (7_248_023_552 - 32_768 * 4096) + 4 * 32 * 128 * 32 * 8192**2 / 2
    assert prefill_flops(a, 8192) == pytest.approx(operations)
    assert found.first_token_s.bound == pytest.approx(operations / 989e12)


def test_the_last_of_many_prompts_waits_for_all_before_it(ask: Ask, card: Card) -> None:
    """Sixteen people who ask at once are not answered at once."""
    found = speed(ask("mistral-7b", concurrency=16), card("h100"), Layout(), 1024)
    assert found.last_first_token_s.bound == pytest.approx(16 * found.first_token_s.bound)


def test_a_card_without_a_format_computes_in_16_bits_and_says_so(ask: Ask, card: Card) -> None:
    """fp8 weights on an A100 save memory and reading, not arithmetic."""
    fp8 = FORMATS["fp8"]
    assert peak(fp8, card("a100")) == 312e12
    assert peak(fp8, card("h100")) == 1979e12
    said = speed(ask("mistral-7b", "fp8"), card("a100"), Layout(), 1024).assumptions
    assert any("unpacked" in line for line in said)
    said = speed(ask("mistral-7b", "fp8"), card("h100"), Layout(), 1024).assumptions
    assert not any("unpacked" in line for line in said)


@pytest.mark.parametrize(("gpus", "warned"), [(8, False), (16, True)])
def test_more_gpus_than_a_machine_has_are_said_to_be_several(
    gpus: int, warned: bool, ask: Ask, card: Card
) -> None:
    """Sixteen cards talk over a network, and nobody should plan as if they did not."""
    said = speed(ask("mistral-large-3", "fp8"), card("h100"), Layout(gpus), 1024).assumptions
    assert any("more than one machine" in line for line in said) is warned


def test_no_expectation_beats_its_bound(ask: Ask, card: Card) -> None:
    """Over models, formats and loads: a promise above physics would be the worst kind."""
    for name in ("mistral-7b", "mixtral-8x7b", "mistral-small-4", "mistral-large-3"):
        for concurrency in (1, 16, 200):
            asked = ask(name, "fp8", context=2048, concurrency=concurrency)
            found = best(asked, card("b300"), 8)
            assert found is not None
            fast = speed(asked, card("b300"), found.layout, 700)
            assert fast.each_tokens_s.slow <= fast.each_tokens_s.fast <= fast.each_tokens_s.bound
            assert fast.first_token_s.bound <= fast.first_token_s.fast <= fast.first_token_s.slow


def test_longer_conversations_are_slower(ask: Ask, card: Card) -> None:
    """The cache is read for every token, and attention grows with it."""
    short, long = ask("mistral-7b", context=1024), ask("mistral-7b", context=32_768)
    assert (
        speed(long, card("l40s"), Layout(), 64).each_tokens_s.bound
        < speed(short, card("l40s"), Layout(), 64).each_tokens_s.bound
    )
    a = short.architecture
    assert decode_flops(a, 32_768) > decode_flops(a, 1024)
    assert replace(short.load, context=1).context == 1
