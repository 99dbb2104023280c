"""What a model takes of each GPU's memory: weights, cache, and what an engine needs beside them.

Weights and cache are exact for an architecture. The rest is estimated, with a low and a high
beside the likely value, from what vLLM reports at its start on common cards; `COST OF AN ENGINE`
below names every number that was chosen. One GPU is looked at, the fullest one: a machine holds
a model when its fullest GPU does.

How a model is laid over GPUs:
  * tensor parallel (tp) gives each GPU a share of every matrix. Keys and values are shared by
    heads, so beyond their number they are copied; a latent cache is always copied.
  * pipeline parallel (pp) gives each group of tp GPUs some of the layers.
  * expert parallel gives each GPU of the group whole experts instead of a share of each.
"""

import math
from dataclasses import dataclass

from sovereign.policy.shapes import Architecture
from sovereign.sizing import GIB
from sovereign.sizing.formats import KV_BITS, Format
from sovereign.sizing.parameters import Kind, Part, parts

BLOCK_TOKENS = 16
"""Engines hand out the cache in blocks of so many tokens."""

# --- COST OF AN ENGINE: chosen from what engines print at their start; low, likely, high ---
RUNTIME_GIB = (0.4, 0.6, 0.9)
"""The driver's context and the libraries, on each GPU."""
NCCL_GIB = (0.2, 0.5, 1.2)
"""Buffers for talking to other GPUs, on each of several."""
GRAPHS_GIB_A_LAYER = (0.004, 0.010, 0.022)
"""CUDA graphs of the batch sizes that vLLM captures."""
ACTIVATIONS_SPREAD = (0.6, 1.0, 1.6)
"""How far the estimate of activations may be off, as factors."""
HIDDEN_COPIES = 4
"""Copies of the hidden state alive at once: residual, normed, output, one in flight."""
LOGIT_BYTES = 6
"""A logit in 16 bits and again in 32, when the next token is drawn."""
LLAMA_BATCH_TOKENS = 512
"""Tokens llama.cpp works on at once (its micro-batch)."""
LLAMA_HIDDEN, LLAMA_WIDE = 5, 3
"""Vectors of 32 bits alive at once in its graph: of the hidden width, and of the feed-forward's."""
LLAMA_MASK_BYTES = 2
"""A value of its attention mask, tokens of a micro-batch x tokens of the context."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How many GPUs share each layer (tp), how many groups share the layers (pp)."""

    tp: int = 1
    pp: int = 1
    expert_parallel: bool = False

    @property
    def gpus(self) -> int:
        return self.tp * self.pp

    def __str__(self) -> str:
        said = f"tp={self.tp}" + (f" pp={self.pp}" if self.pp > 1 else "")
        return said + (" experts whole" if self.expert_parallel else "")


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of the model at once. `batch_tokens` is the most of one step of prefill."""

    context: int
    concurrency: int
    batch_tokens: int = 8192


@dataclass(frozen=True, slots=True)
class Term:
    """One line of the sum, in bytes, with how it came about. Exact where low equals high."""

    name: str
    low: float
    likely: float
    high: float
    formula: str

    @property
    def exact(self) -> bool:
        return self.low == self.high


def weights(a: Architecture, fmt: Format) -> Term:
    """The weights of the whole model, once."""
    every = parts(a)
    by_bits: dict[float, int] = {}
    for part in every:
        size = fmt.bits_of(a, part.kind)
        by_bits[size] = by_bits.get(size, 0) + part.total
    bits = sum(size * count for size, count in by_bits.items())
    said = " + ".join(f"{count:,} x {size:g} bit" for size, count in sorted(by_bits.items()))
    return _exact("weights", bits / 8, f"({said}) / 8")


def kv_bytes_a_token(a: Architecture, kv: str) -> float:
    """Bytes that one more token of one sequence adds to the cache, over all layers, unshared."""
    return a.layers * _kv_bytes_a_layer(a, kv, tp=1)


def kv(a: Architecture, load: Load, kv_id: str) -> Term:
    """The cache of the whole model for `load`, on as few GPUs as possible."""
    size = _kv_size(a, load, kv_id, tp=1, layers=a.layers)
    return _exact("cache", size, _kv_formula(a, load, kv_id))


def on_fullest_gpu(
    a: Architecture, fmt: Format, load: Load, kv_id: str, layout: Layout
) -> tuple[Term, ...]:
    """Return what the fullest GPU of `layout` holds, term by term."""
    stage = -(-a.layers // layout.pp)
    return (
        _weights_share(a, fmt, layout),
        _exact(
            "cache",
            _kv_size(a, load, kv_id, tp=layout.tp, layers=stage),
            _kv_formula(a, load, kv_id) + _sharing(a, layout),
        ),
        *_engine(a, fmt, load, layout, stage),
    )


def _exact(name: str, size: float, formula: str) -> Term:
    return Term(name, size, size, size, formula)


def _spread(name: str, factors: tuple[float, float, float], unit: float, formula: str) -> Term:
    low, likely, high = (factor * unit for factor in factors)
    return Term(name, low, likely, high, formula)


# --- weights ---


def _weights_share(a: Architecture, fmt: Format, layout: Layout) -> Term:
    """Per-layer parts by the largest number of layers a group has; the ends by the larger end."""
    repeated = ends_first = ends_last = 0.0
    for part in parts(a):
        size = part.total * fmt.bits_of(a, part.kind) / 8 * share(a, part, layout)
        if part.layers:
            repeated += size * (-(-a.layers // layout.pp) / a.layers)
        elif part.kind in (Kind.EMBEDDING, Kind.VISION):
            ends_first += size
        else:
            ends_last += size
    ends = ends_first + ends_last if layout.pp == 1 else max(ends_first, ends_last)
    said = f"share of {weights(a, fmt).likely / GIB:.2f} GiB at {layout}"
    return _exact("weights", repeated + ends, said)


def share(a: Architecture, part: Part, layout: Layout) -> float:
    """The fraction of a part that one GPU of a group holds."""
    if not part.shared_out:
        return 1.0
    if part.name == "attention, keys and values":
        return max(1, -(-a.kv_heads // layout.tp)) / a.kv_heads
    if part.name == "routed experts" and layout.expert_parallel:
        return -(-a.experts // layout.tp) / a.experts
    return 1 / layout.tp


# --- the cache ---


def _kv_bytes_a_layer(a: Architecture, kv_id: str, tp: int) -> float:
    width = KV_BITS[kv_id] / 8
    if a.state_size:
        return 0.0
    if a.kv_lora_rank:
        return (a.kv_lora_rank + a.qk_rope_dim) * width
    return 2 * max(1, -(-a.kv_heads // tp)) * a.head_dim * width


def _kv_size(a: Architecture, load: Load, kv_id: str, tp: int, layers: int) -> float:
    if a.state_size:
        return load.concurrency * _state_bytes(a) * layers / a.layers / tp
    tokens = -(-load.context // BLOCK_TOKENS) * BLOCK_TOKENS
    windowed = round(_windowed(a) * layers / a.layers)
    kept = (layers - windowed) * tokens + windowed * min(tokens, a.sliding_window or tokens)
    return load.concurrency * kept * _kv_bytes_a_layer(a, kv_id, tp)


def _windowed(a: Architecture) -> int:
    return (a.sliding_layers or a.layers) if a.sliding_window else 0


def _state_bytes(a: Architecture) -> float:
    """One sequence of Mamba: the state of every head, and the last inputs of the convolution."""
    channels = a.state_inner + 2 * a.state_groups * a.state_size
    values = a.heads * a.head_dim * a.state_size + channels * (a.state_convolution - 1)
    return 2.0 * values * a.layers


def _kv_formula(a: Architecture, load: Load, kv_id: str) -> str:
    at = f"{load.concurrency} x {load.context} tokens"
    width = f"{KV_BITS[kv_id] / 8:g} B"
    if a.state_size:
        return f"{load.concurrency} sequences x {_state_bytes(a) / 2**20:.1f} MiB of state"
    if a.kv_lora_rank:
        each = f"({a.kv_lora_rank} latent + {a.qk_rope_dim} rope) x {width}"
    else:
        each = f"2 x {a.kv_heads} kv heads x {a.head_dim} x {width}"
    said = f"{a.layers} layers x {each} x {at}"
    if _windowed(a):
        said += f"; {_windowed(a)} layers keep {a.sliding_window} at most"
    return said


def _sharing(a: Architecture, layout: Layout) -> str:
    if layout.gpus == 1:
        return ""
    if a.kv_lora_rank and layout.tp > 1:
        return f", copied to each of {layout.tp} GPUs" + (
            f", layers over {layout.pp}" if layout.pp > 1 else ""
        )
    return f", shared at {layout}"


# --- what an engine needs beside them ---


def _engine(
    a: Architecture, fmt: Format, load: Load, layout: Layout, stage: int
) -> tuple[Term, ...]:
    runtime = _spread("driver and libraries", RUNTIME_GIB, GIB, "chosen, a GPU")
    if fmt.engine == "llama.cpp":
        return (_llama_buffer(a, load, layout), runtime)
    found = [
        _activations(a, load, layout),
        _spread("CUDA graphs", GRAPHS_GIB_A_LAYER, GIB * stage, f"chosen, {stage} layers"),
        runtime,
    ]
    if layout.gpus > 1:
        found.append(_spread("NCCL buffers", NCCL_GIB, GIB, "chosen, a GPU of several"))
    return tuple(found)


def _activations(a: Architecture, load: Load, layout: Layout) -> Term:
    """The largest step: `batch_tokens` of prefill at once, and one row of logits a sequence."""
    tokens = load.batch_tokens
    hidden = HIDDEN_COPIES * a.hidden
    if a.experts:
        wide = a.experts_per_token * (3 * a.expert_feed_forward // layout.tp + a.hidden)
        wide = max(wide, 3 * a.feed_forward // layout.tp)
    else:
        wide = 3 * (a.feed_forward or a.state_inner) // layout.tp
    attention = 2 * a.heads * max(a.head_dim, a.v_head_dim, 1) // layout.tp
    step = tokens * (hidden + max(wide, attention)) * 2
    logits = min(load.concurrency, tokens) * a.vocabulary * LOGIT_BYTES
    said = (
        f"{tokens} tokens a step x ({hidden:,} hidden + {max(wide, attention):,} wide) x 2 B"
        f" + {load.concurrency} x {a.vocabulary:,} logits x {LOGIT_BYTES} B"
    )
    return _spread("activations", ACTIVATIONS_SPREAD, step + logits, said)


def _llama_buffer(a: Architecture, load: Load, layout: Layout) -> Term:
    """What llama.cpp prints as compute buffer and output buffer."""
    tokens = min(LLAMA_BATCH_TOKENS, load.context)
    used = a.experts_per_token + a.shared_experts
    width = max(a.feed_forward, used * a.expert_feed_forward, a.state_inner) // layout.tp
    step = tokens * (LLAMA_HIDDEN * a.hidden + LLAMA_WIDE * width) * 4
    mask = tokens * load.context * LLAMA_MASK_BYTES
    logits = load.concurrency * a.vocabulary * 4
    said = (
        f"{tokens} tokens x ({LLAMA_HIDDEN} x {a.hidden} + {LLAMA_WIDE} x {width}) x 4 B"
        f" + {tokens} x {load.context} x {LLAMA_MASK_BYTES} B of mask"
        f" + {load.concurrency} x {a.vocabulary} logits x 4 B"
    )
    return _spread("compute buffer", ACTIVATIONS_SPREAD, step + mask + logits, said)


def total(terms: tuple[Term, ...]) -> Term:
    """The sum of terms, with its range."""
    return Term(
        "total",
        math.fsum(t.low for t in terms),
        math.fsum(t.likely for t in terms),
        math.fsum(t.high for t in terms),
        " + ".join(t.name for t in terms),
    )
