"""Memory: exact where it can be, and beside every figure that was published."""

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from sovereign.errors import UnknownName
from sovereign.policy import Policy
from sovereign.policy.shapes import Architecture
from sovereign.sizing import GIB
from sovereign.sizing.formats import FORMATS, kv_format, weight_format
from sovereign.sizing.memory import (
    Layout,
    Load,
    kv,
    kv_bytes_a_token,
    on_fullest_gpu,
    total,
    weights,
)
from tests.sizing.conftest import Ask

Of = Callable[[str], Architecture]

KIB_A_TOKEN = {
    "mistral-7b": 128,
    "mixtral-8x7b": 128,
    "mixtral-8x22b": 224,
    "codestral": 224,
    "mistral-nemo": 160,
    "mistral-small-3.2": 160,
    "ministral-3-3b": 104,
    "ministral-3-8b": 136,
    "ministral-3-14b": 160,
    "mistral-large-2": 352,
    "devstral-2": 352,
    "mistral-small-4": 22.5,
}
"""2 x layers x heads of keys x width x 2 bytes, worked out by hand; latent for the last."""


@pytest.mark.parametrize("name", KIB_A_TOKEN)
def test_the_cache_of_one_token_is_what_its_heads_say(name: str, architecture: Of) -> None:
    """Counting all heads instead of those of keys would ask for four times as much."""
    assert kv_bytes_a_token(architecture(name), "bf16") / 1024 == KIB_A_TOKEN[name]
    assert kv_bytes_a_token(architecture(name), "fp8") / 1024 == KIB_A_TOKEN[name] / 2


@pytest.mark.parametrize(
    ("name", "dtype", "gb"),
    [
        ("mixtral-8x7b", "bf16", 93.4),
        ("mixtral-8x7b", "fp8", 47),
        ("mixtral-8x7b", "q4_0", 26.4),
        ("mixtral-8x22b", "bf16", 281.3),
        ("mixtral-8x22b", "q4_0", 79.6),
        ("mistral-7b-v0.1", "q4_k_m", 4.37),
        ("mistral-medium-3.5", "q8_0", 138),
        ("mistral-medium-3.5", "fp8", 134),
    ],
)
def test_weights_take_what_published_files_take(
    name: str, dtype: str, gb: float, architecture: Of
) -> None:
    """Sizes of files on hubs and in Ollama's library, in thousand million bytes."""
    assert weights(architecture(name), weight_format(dtype)).likely / 1e9 == pytest.approx(
        gb, rel=0.03
    )


def test_what_mistral_publishes_as_need_is_never_far_below_the_weights(policy: Policy) -> None:
    """Its fp4 leaves scales out. What says 13 GB for Mixtral in fp4 is no need and left out."""
    for model in policy.models.values():
        a = policy.catalogue.architectures[model.architecture]
        for name, gb in model.min_gpu_memory_gb.items():
            held = weights(a, weight_format(name)).likely / 1e9
            assert held <= gb * 1.3, (model.id, name, held)


@pytest.mark.parametrize(
    ("name", "gb"),
    [
        ("mistral-7b", 20),
        ("mistral-7b-v0.1", 16),
        ("codestral", 52),
        ("mistral-small-3", 54),
        ("mistral-large-2", 297),
    ],
)
def test_weights_cache_and_engine_at_full_context_are_the_need_that_mistral_publishes(
    name: str, gb: int, policy: Policy, ask: Ask
) -> None:
    """Two ways to one number: their table, and our sum."""
    context = ask(name).context_published
    asked = ask(name, context=context)
    terms = on_fullest_gpu(asked.architecture, asked.fmt, asked.load, asked.kv_id, Layout())
    assert total(terms).likely / 1e9 == pytest.approx(gb, rel=0.11)


def test_a_recipe_asks_for_at_least_what_we_find_in_short(policy: Policy) -> None:
    """vLLM's recipes name the least memory; ours at a short context must not be above it."""
    for model in policy.models.values():
        a = policy.catalogue.architectures[model.architecture]
        for name, gb in model.recipe_memory_gb.items():
            held = weights(a, weight_format(name)).likely / 1e9
            assert 0.5 * gb <= held <= 1.05 * gb, (model.id, name, held, gb)


def test_a_window_bounds_the_cache_and_short_contexts_do_not_notice(architecture: Of) -> None:
    """Mistral 7B v0.1 keeps 4096 tokens however long the context."""
    a = architecture("mistral-7b-v0.1")
    short, at, long = (kv(a, Load(n, 1), "bf16").likely for n in (2048, 4096, 32_768))
    assert short * 2 == at == long


def test_a_window_in_some_layers_bounds_only_those(architecture: Of) -> None:
    """Ministral 8B sees everything in every fourth layer."""
    a = architecture("ministral-8b-2410")
    size = kv(a, Load(131_072, 1), "bf16").likely
    each = 2 * a.kv_heads * a.head_dim * 2
    assert size == each * (9 * 131_072 + 27 * 32_768)


def test_a_state_does_not_grow_with_the_context(architecture: Of) -> None:
    """That is what Mamba is for."""
    a = architecture("codestral-mamba")
    one, long = (kv(a, Load(n, 4), "bf16").likely for n in (1, 200_000))
    assert one == long > 0
    assert kv(a, Load(1, 8), "bf16").likely == 2 * one


def test_the_cache_is_handed_out_in_whole_blocks(architecture: Of) -> None:
    """17 tokens take as much as 32."""
    a = architecture("mistral-7b")
    assert kv(a, Load(17, 1), "bf16").likely == kv(a, Load(32, 1), "bf16").likely


def test_gpus_share_heads_until_there_is_one_each_and_a_latent_cache_never(
    architecture: Of,
) -> None:
    """Tensor parallel over 16 GPUs copies the eight heads of keys; a latent is always copied."""

    def cache(name: str, tp: int) -> float:
        terms = on_fullest_gpu(
            architecture(name), FORMATS["bf16"], Load(8192, 1), "bf16", Layout(tp)
        )
        return next(term.likely for term in terms if term.name == "cache")

    assert cache("mixtral-8x7b", 8) == cache("mixtral-8x7b", 1) / 8
    assert cache("mixtral-8x7b", 16) == cache("mixtral-8x7b", 8)
    assert cache("mistral-small-4", 8) == cache("mistral-small-4", 1)


def test_shares_of_all_gpus_add_up_to_the_model_and_a_little_that_is_copied(
    architecture: Of,
) -> None:
    """Norms and the router are on every GPU; nothing else is, for Mixtral over two."""
    a = architecture("mixtral-8x7b")
    fmt = FORMATS["bf16"]
    share = on_fullest_gpu(a, fmt, Load(8192, 1), "bf16", Layout(2))[0].likely
    copied = 2 * (a.hidden * (2 * a.layers + 1) + a.layers * a.hidden * a.experts)
    assert 2 * share == pytest.approx(weights(a, fmt).likely + copied)


def test_pipeline_parallel_gives_the_fullest_group_its_layers_and_one_end(
    architecture: Of,
) -> None:
    """60 layers over 7 groups: the fullest has 9; embedding and head are at different ends."""
    a = architecture("mixtral-8x22b")
    fmt = FORMATS["bf16"]
    one = on_fullest_gpu(a, fmt, Load(16, 1), "bf16", Layout(1, 1))[0].likely
    seven = on_fullest_gpu(a, fmt, Load(16, 1), "bf16", Layout(1, 7))[0].likely
    assert one / 7 < seven < one / 7 * 1.02
    uneven = on_fullest_gpu(a, fmt, Load(16, 1), "bf16", Layout(1, 5))[0].likely
    assert uneven > one / 5 * 1.05  # 12 of 56 layers, where a fifth would be 11.2


def test_whole_experts_cost_more_where_they_do_not_divide(architecture: Of) -> None:
    """Eight experts over three GPUs: one holds three."""
    a = architecture("mixtral-8x7b")
    load = Load(16, 1)
    shared = on_fullest_gpu(a, FORMATS["bf16"], load, "bf16", Layout(4))[0].likely
    whole = on_fullest_gpu(a, FORMATS["bf16"], load, "bf16", Layout(4, 1, True))[0].likely
    assert whole == pytest.approx(shared)
    odd = msgspec.structs.replace(a, experts=6)
    parted = on_fullest_gpu(odd, FORMATS["bf16"], load, "bf16", Layout(4))[0].likely
    uneven = on_fullest_gpu(odd, FORMATS["bf16"], load, "bf16", Layout(4, 1, True))[0].likely
    assert uneven > parted * 1.2


def test_the_total_is_its_terms_and_lies_in_its_range(ask: Ask) -> None:
    """A sum that does not add up is the first thing a reader checks."""
    asked = ask("mixtral-8x7b", concurrency=4)
    terms = on_fullest_gpu(asked.architecture, asked.fmt, asked.load, asked.kv_id, Layout(2))
    whole = total(terms)
    assert whole.likely == pytest.approx(sum(term.likely for term in terms))
    assert whole.low < whole.likely < whole.high
    assert [term.exact for term in terms] == [True, True, False, False, False, False]


def test_more_of_anything_never_takes_less(ask: Ask) -> None:
    """The search for the largest that fits relies on it."""
    asked = ask("mistral-small-4", "fp8")
    seen = 0.0
    for context in (1, 100, 8192, 262_144):
        for concurrency in (1, 7, 64):
            load = replace(asked.load, context=context, concurrency=concurrency)
            terms = on_fullest_gpu(asked.architecture, asked.fmt, load, asked.kv_id, Layout(2))
            size = total(terms).likely
            if concurrency == 1:
                seen, first = max(seen, size), size
                assert first >= seen or context == 1
            assert size >= first


@pytest.mark.parametrize("name", ["bf16", "fp8", "q8_0", "q4_k_m"])
def test_finer_formats_take_more(name: str, architecture: Of) -> None:
    """Bits in order: a slip in the table would put one before the other."""
    a = architecture("mistral-7b")
    order = ["bf16", "q8_0", "fp8", "q6_k", "q5_k_m", "q4_k_m", "q4_0"]
    sizes = [weights(a, weight_format(each)).likely for each in order]
    assert sizes == sorted(sizes, reverse=True)
    assert weights(a, weight_format(name)).likely / GIB < 14


def test_a_format_nobody_knows_is_refused_with_those_we_do() -> None:
    """The message is the list an operator needs."""
    with pytest.raises(UnknownName) as refused:
        weight_format("fp3")
    assert "fp8" in refused.value.accepted
    with pytest.raises(UnknownName) as refused:
        kv_format("q8_0", FORMATS["bf16"])
    assert refused.value.accepted == "auto, bf16, fp16, fp8"
    assert kv_format("q8_0", FORMATS["q4_0"]) == "q8_0"
    assert weight_format("AWQ").id == "int4"
