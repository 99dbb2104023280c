"""How fast a model can be at most on given GPUs, and what to expect of an engine.

Two bounds that no engine passes: a step must read its weights and its cache once from memory, and
must do its arithmetic. Whichever takes longer is the bound. What an engine reaches is less, by
the fractions under `WHAT ENGINES REACH`; the expected range comes from those and from the time
GPUs need to talk.

A step of decoding makes one token for each of `concurrency` conversations. With pipeline
parallel a token passes all groups one after the other, so groups add throughput and not speed.
"""

import math
from dataclasses import dataclass

from sovereign.policy.shapes import Architecture, Gpu
from sovereign.sizing.fit import Asked
from sovereign.sizing.formats import Format
from sovereign.sizing.memory import Layout, Load, kv
from sovereign.sizing.moe import bytes_read, touched
from sovereign.sizing.parameters import Kind, parts

# --- WHAT ENGINES REACH: chosen; (fastest, slowest) ---
BANDWIDTH_REACHED = (0.85, 0.50)
ARITHMETIC_REACHED = (0.65, 0.30)
STEP_OVERHEAD_S = (0.0005, 0.004)
"""Choosing what runs next, launching it, drawing the tokens."""
FIRST_TOKEN_OVERHEAD_S = (0.010, 0.060)
"""Reading the request, its tokens, the first answer."""
NVLINK_GB_S = 150
"""A link at least this fast is NVLink; a slower one is PCIe."""
ALL_REDUCE_S = {"nvlink": (0.000008, 0.000020), "pcie": (0.000025, 0.000080)}
"""Latency of one exchange among the GPUs that share a layer; there are two a layer."""
EXCHANGES_A_LAYER = 2
GPUS_A_MACHINE = 8
"""More than so many stand in several machines."""


@dataclass(frozen=True, slots=True)
class Range:
    """A bound nothing passes, and the two ends of what to expect."""

    bound: float
    fast: float
    slow: float

    @property
    def likely(self) -> float:
        """Between the ends, by their ratio."""
        return math.sqrt(self.fast * self.slow)


@dataclass(frozen=True, slots=True)
class Speed:
    """Times in seconds, rates in tokens a second. `limit` names what the bound comes from."""

    step_s: Range
    each_tokens_s: Range
    all_tokens_s: Range
    first_token_s: Range
    last_first_token_s: Range
    prefill_tokens_s: Range
    limit: str
    experts_touched: float
    bytes_weights: float
    bytes_cache: float
    flops: float
    peak_flops: float
    assumptions: tuple[str, ...]


def speed(asked: Asked, card: Gpu, layout: Layout, prompt_tokens: int) -> Speed:
    """Return bounds and expectations for `asked.load` at full context, and for one prompt.

    Args:
        prompt_tokens: length of a request's prompt, for the time to its first token; at least 1.
    """
    a, load = asked.architecture, asked.load
    batch = -(-load.concurrency // layout.pp)
    memory_s, arithmetic_s, read = _decode(asked, card, layout, batch)
    bound = max(memory_s, arithmetic_s)
    fast, slow = (
        max(memory_s / BANDWIDTH_REACHED[i], arithmetic_s / ARITHMETIC_REACHED[i])
        + STEP_OVERHEAD_S[i]
        + _talk(a, card, layout, batch)[i]
        for i in (0, 1)
    )
    first = _first_token(asked, card, layout, prompt_tokens)
    queue = load.concurrency
    return Speed(
        step_s=Range(bound, fast, slow),
        each_tokens_s=Range(1 / bound, 1 / fast, 1 / slow),
        all_tokens_s=_scaled(Range(1 / bound, 1 / fast, 1 / slow), load.concurrency),
        first_token_s=first,
        last_first_token_s=_scaled(first, queue),
        prefill_tokens_s=_prefill_rate(asked, card, layout, prompt_tokens),
        limit="memory bandwidth" if memory_s >= arithmetic_s else "arithmetic",
        experts_touched=touched(a, batch),
        bytes_weights=read[0],
        bytes_cache=read[1],
        flops=decode_flops(a, load.context) * batch,
        peak_flops=peak(asked.fmt, card),
        assumptions=_assumptions(asked, card, layout),
    )


def decode_flops(a: Architecture, context: int) -> float:
    """Operations for one token after `context` others: two a used parameter, and attention."""
    used = sum(part.active for part in parts(a) if part.kind is not Kind.EMBEDDING)
    if a.tied_embeddings:
        used += a.vocabulary * a.hidden
    return 2.0 * used + _attention_flops(a, context)


def prefill_flops(a: Architecture, tokens: int) -> float:
    """Operations for a prompt: each token attends to those before it, on average to half."""
    each = decode_flops(a, 0)
    return tokens * (each + _attention_flops(a, tokens) / 2)


def peak(fmt: Format, card: Gpu) -> float:
    """Operations a second of `card` in the arithmetic that `fmt` runs in there."""
    by = {"16bit": card.tflops_16bit, "fp8": card.tflops_fp8, "fp4": card.tflops_fp4}
    return float(by[fmt.computes] or card.tflops_16bit) * 1e12


def _attention_flops(a: Architecture, context: int) -> float:
    """Scores and their sum over values: two matrix products a layer."""
    if a.state_size:
        return a.layers * 6.0 * a.heads * a.head_dim * a.state_size
    if a.kv_lora_rank:
        width = 2 * a.kv_lora_rank + a.qk_rope_dim
        return 2.0 * a.layers * a.heads * width * context
    window = a.sliding_window or context
    layers = a.sliding_layers or (a.layers if a.sliding_window else 0)
    seen = (a.layers - layers) * context + layers * min(window, context)
    return 4.0 * a.heads * a.head_dim * seen


def _decode(
    asked: Asked, card: Gpu, layout: Layout, batch: int
) -> tuple[float, float, tuple[float, float]]:
    """Seconds to read, seconds to compute, and the bytes (weights, cache) one chain reads."""
    a, load = asked.architecture, asked.load
    weights = bytes_read(a, asked.fmt, batch, layout)
    whole = kv(a, Load(load.context, batch), asked.kv_id).likely
    cache = whole if a.kv_lora_rank else whole / min(layout.tp, a.kv_heads or layout.tp)
    memory_s = (weights + cache) / (card.bandwidth_gb_s * 1e9)
    flops = decode_flops(a, load.context) * batch
    return memory_s, flops / (peak(asked.fmt, card) * layout.tp), (weights, cache)


def _first_token(asked: Asked, card: Gpu, layout: Layout, tokens: int) -> Range:
    a = asked.architecture
    compute_s = prefill_flops(a, tokens) / (peak(asked.fmt, card) * layout.tp)
    memory_s = bytes_read(a, asked.fmt, tokens, layout) / (card.bandwidth_gb_s * 1e9)
    talk = _talk(a, card, layout, tokens)
    fast, slow = (
        max(compute_s / ARITHMETIC_REACHED[i], memory_s / BANDWIDTH_REACHED[i])
        + FIRST_TOKEN_OVERHEAD_S[i]
        + talk[i]
        for i in (0, 1)
    )
    return Range(max(compute_s, memory_s), fast, slow)


def _prefill_rate(asked: Asked, card: Gpu, layout: Layout, prompt_tokens: int) -> Range:
    """Prompt tokens a second when prompts never run out: steps are full, groups all busy."""
    a, tokens = asked.architecture, asked.load.batch_tokens
    each = prefill_flops(a, prompt_tokens) / prompt_tokens
    compute_s = tokens * each / (peak(asked.fmt, card) * layout.tp)
    memory_s = bytes_read(a, asked.fmt, tokens, layout) / (card.bandwidth_gb_s * 1e9)
    talk = _talk(a, card, layout, tokens)
    fast, slow = (
        max(compute_s / ARITHMETIC_REACHED[i], memory_s / BANDWIDTH_REACHED[i])
        + STEP_OVERHEAD_S[i]
        + talk[i]
        for i in (0, 1)
    )
    bound = max(compute_s, memory_s)
    return _scaled(Range(1 / bound, 1 / fast, 1 / slow), tokens * layout.pp)


def _talk(a: Architecture, card: Gpu, layout: Layout, tokens: int) -> tuple[float, float]:
    """Seconds that the GPUs of a group spend exchanging results in one step: fast, slow."""
    if layout.tp == 1:
        return 0.0, 0.0
    kind = "nvlink" if card.link_gb_s >= NVLINK_GB_S else "pcie"
    moved = 2 * (layout.tp - 1) / layout.tp * tokens * a.hidden * 2
    wire = moved / (card.link_gb_s * 1e9)
    fast, slow = (EXCHANGES_A_LAYER * a.layers * (s + wire) for s in ALL_REDUCE_S[kind])
    return fast, slow


def _scaled(rate: Range, factor: float) -> Range:
    return Range(rate.bound * factor, rate.fast * factor, rate.slow * factor)


def _assumptions(asked: Asked, card: Gpu, layout: Layout) -> tuple[str, ...]:
    fmt, a = asked.fmt, asked.architecture
    native = {"16bit": 1, "fp8": card.tflops_fp8, "fp4": card.tflops_fp4}[fmt.computes]
    said = [
        "bound: every byte of a step read once at the full bandwidth, arithmetic at the full rate",
        f"expected: {BANDWIDTH_REACHED[1]:.0%} to {BANDWIDTH_REACHED[0]:.0%} of the bandwidth, "
        f"{ARITHMETIC_REACHED[1]:.0%} to {ARITHMETIC_REACHED[0]:.0%} of the arithmetic, chosen",
        "every conversation at its full context; no prefix cache, no speculative decoding",
    ]
    if not native:
        said.append(f"{card.name} has no {fmt.computes}: weights are unpacked to 16 bits")
    if a.experts:
        said.append("experts touched as if all were equally likely; real routers touch fewer")
    if layout.tp > 1:
        link = "NVLink" if card.link_gb_s >= NVLINK_GB_S else "PCIe"
        said.append(f"GPUs exchange {EXCHANGES_A_LAYER} results a layer over {link}")
    if layout.gpus > GPUS_A_MACHINE:
        said.append(
            f"{layout.gpus} GPUs are more than one machine: links between machines are slower "
            "than the card's own, which is what is counted here"
        )
    if layout.pp > 1:
        said.append(f"{layout.pp} groups of layers work one after the other for each token")
    return tuple(said)
