"""Count the parameters of an architecture, part by part: all of them, and those a token uses.

The sum is the number a model's maker publishes, to the last one, where the row in
facts/models.yaml is right; that is how the rows were checked. Parts are kept apart because number
formats treat them differently (`formats.py`) and because GPUs share some and copy others
(`memory.py`).

What is counted: matrices and norm vectors. Biases are not: none of these models has any, but for
the convolution of Mamba.
"""

from dataclasses import dataclass
from enum import Enum

from sovereign.policy.shapes import Architecture

MATRICES_OF_A_BLOCK = 3
"""A feed-forward block of this family is gated: up, gate and down, each hidden x width."""


class Kind(Enum):
    """What a part is to a number format."""

    EMBEDDING = "embedding"
    HEAD = "head"
    ATTENTION = "attention"
    FEED_FORWARD = "feed-forward"
    SMALL = "small"
    VISION = "vision"


@dataclass(frozen=True, slots=True)
class Part:
    """`count` parameters of one kind in each of `layers` layers; 0 layers: once in the model.

    `used` of them take part in computing one token. `shared_out` says that tensor parallelism
    gives every GPU a share; otherwise each has them all.
    """

    name: str
    kind: Kind
    count: int
    used: int
    layers: int = 0
    shared_out: bool = True

    @property
    def total(self) -> int:
        """Over all layers."""
        return self.count * max(self.layers, 1)

    @property
    def active(self) -> int:
        """Over all layers, for one token."""
        return self.used * max(self.layers, 1)


def parts(a: Architecture) -> tuple[Part, ...]:
    """Return every part; their totals add up to the model."""
    vision = a.vision_parameters_m * 1_000_000
    every = (
        Part("token embedding", Kind.EMBEDDING, a.vocabulary * a.hidden, a.vocabulary * a.hidden),
        _head(a),
        *(_mamba(a) if a.state_size else (*_attention(a), *_feed_forward(a))),
        _norms(a),
        Part("vision tower", Kind.VISION, vision, 0),
    )
    return tuple(part for part in every if part.count)


def total(a: Architecture) -> int:
    """All parameters."""
    return sum(part.total for part in parts(a))


def active(a: Architecture) -> int:
    """Parameters that take part in one token of text, as makers count it: embeddings included."""
    return sum(part.active for part in parts(a))


def expert_size(a: Architecture) -> int:
    """Parameters of one routed expert in one layer; 0 for a dense model."""
    return MATRICES_OF_A_BLOCK * a.hidden * a.expert_feed_forward if a.experts else 0


def moe_layers(a: Architecture) -> int:
    """Layers with routed experts."""
    return a.layers - a.dense_layers if a.experts else 0


def _whole(name: str, kind: Kind, count: int, layers: int, *, shared_out: bool = True) -> Part:
    """A part of which every token uses all."""
    return Part(name, kind, count, count, layers, shared_out)


def _head(a: Architecture) -> Part:
    count = 0 if a.tied_embeddings else a.vocabulary * a.hidden
    return _whole("output head", Kind.HEAD, count, 0)


def _attention(a: Architecture) -> tuple[Part, ...]:
    if a.kv_lora_rank:
        return _latent_attention(a)
    query = a.hidden * a.heads * a.head_dim
    key_value = 2 * a.hidden * a.kv_heads * a.head_dim
    return (
        _whole("attention, queries and output", Kind.ATTENTION, 2 * query, a.layers),
        _whole("attention, keys and values", Kind.ATTENTION, key_value, a.layers),
    )


def _latent_attention(a: Architecture) -> tuple[Part, ...]:
    """Multi-head latent attention: down-projections are copied, up-projections are shared out."""
    rank, heads = a.kv_lora_rank, a.heads
    per_head = a.qk_nope_dim + a.qk_rope_dim
    query = (a.q_lora_rank or a.hidden) * heads * per_head
    up = query + rank * heads * (a.qk_nope_dim + a.v_head_dim) + heads * a.v_head_dim * a.hidden
    down = a.hidden * a.q_lora_rank + a.hidden * (rank + a.qk_rope_dim)
    norms = a.q_lora_rank + rank
    return (
        _whole("latent attention, up and output", Kind.ATTENTION, up, a.layers),
        _whole("latent attention, down", Kind.ATTENTION, down, a.layers, shared_out=False),
        _whole("latent attention, norms", Kind.SMALL, norms, a.layers, shared_out=False),
    )


def _feed_forward(a: Architecture) -> tuple[Part, ...]:
    dense = MATRICES_OF_A_BLOCK * a.hidden * a.feed_forward
    if not a.experts:
        return (_whole("feed-forward", Kind.FEED_FORWARD, dense, a.layers),)
    expert, moe = expert_size(a), moe_layers(a)
    found = [
        Part(
            "routed experts",
            Kind.FEED_FORWARD,
            a.experts * expert,
            a.experts_per_token * expert,
            moe,
        ),
        _whole("router", Kind.SMALL, a.hidden * a.experts, moe, shared_out=False),
    ]
    if a.shared_experts:
        shared = a.shared_experts * expert
        found.append(_whole("shared experts", Kind.FEED_FORWARD, shared, moe))
    if a.dense_layers:
        found.append(_whole("feed-forward", Kind.FEED_FORWARD, dense, a.dense_layers))
    return tuple(found)


def _mamba(a: Architecture) -> tuple[Part, ...]:
    """Mamba 2: one projection in, a short convolution, one projection out."""
    channels = a.state_inner + 2 * a.state_groups * a.state_size
    into = a.hidden * (a.state_inner + channels + a.heads)
    small = channels * (a.state_convolution + 1) + 3 * a.heads + a.state_inner
    return (
        _whole("mixer, in", Kind.ATTENTION, into, a.layers),
        _whole("mixer, out", Kind.ATTENTION, a.state_inner * a.hidden, a.layers),
        _whole("mixer, convolution and state", Kind.SMALL, small, a.layers),
    )


def _norms(a: Architecture) -> Part:
    each = 1 if a.state_size else 2
    count = a.hidden * (each * a.layers + 1)
    return _whole("norms", Kind.SMALL, count, 0, shared_out=False)
