"""Number formats of weights and of the cache: how many bits a parameter takes, part by part.

A format never treats all of a model alike: embeddings, norms and the router stay in 16 bits (in
32, in a GGUF file) where the matrices are quantised, and scales come on top. The bits below are
those sums; what they assume stands beside them, and `docs/formats/models.md` has the table.

Not decided here: whether a card can multiply in a format. Where it cannot, engines unpack to 16
bits first; `speed.py` takes that into account.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from sovereign.errors import UnknownName
from sovereign.policy.shapes import Architecture
from sovereign.sizing.parameters import Kind

Engine = Literal["vllm", "llama.cpp"]
_Q6_K, _Q8_0 = 6.5625, 8.5


@dataclass(frozen=True, slots=True)
class Format:
    """Bits a parameter by part. `computes` is the arithmetic it is meant for."""

    id: str
    describes: str
    engine: Engine
    computes: Literal["16bit", "fp8", "fp4"]
    bits: Mapping[Kind, float]

    def bits_of(self, a: Architecture, kind: Kind) -> float:
        """Bits of one parameter of `kind` in a model of architecture `a`.

        In a GGUF file an embedding that is the output head too is kept as finely as a head, and a
        row that is no multiple of a block of 256 falls back to blocks of 32.
        """
        if self.engine == "vllm" or kind not in (Kind.EMBEDDING, Kind.HEAD):
            return self.bits[kind]
        bits = self.bits[Kind.HEAD if a.tied_embeddings else kind]
        return _Q8_0 if bits == _Q6_K and a.hidden % 256 else bits


def _format(
    id_: str,
    describes: str,
    *,
    matrices: float,
    feed_forward: float = 0.0,
    embedding: float = 16.0,
    head: float = 16.0,
    small: float = 16.0,
    engine: Engine = "vllm",
    computes: Literal["16bit", "fp8", "fp4"] = "16bit",
) -> Format:
    bits = {
        Kind.EMBEDDING: embedding,
        Kind.HEAD: head,
        Kind.ATTENTION: matrices,
        Kind.FEED_FORWARD: feed_forward or matrices,
        Kind.SMALL: small,
        Kind.VISION: 16.0,
    }
    return Format(id_, describes, engine, computes, MappingProxyType(bits))


def _gguf(
    id_: str, describes: str, matrices: float, feed_forward: float, embedding: float, head: float
) -> Format:
    """Norms and router are 32 bits in a GGUF file; a vision tower is a file of its own, 16 bits."""
    return _format(
        id_,
        describes,
        matrices=matrices,
        feed_forward=feed_forward,
        embedding=embedding,
        head=head,
        small=32.0,
        engine="llama.cpp",
    )


_EVERY = (
    _format("bf16", "16 bits, as most weights are published", matrices=16.0),
    _format("fp16", "16 bits, for cards without bf16", matrices=16.0),
    _format(
        "fp32",
        "32 bits, everything",
        matrices=32.0,
        embedding=32.0,
        head=32.0,
        small=32.0,
    ),
    _format(
        "fp8",
        "matrices in 8 bits, one scale a matrix or row",
        matrices=8.0,
        computes="fp8",
    ),
    _format("int8", "matrices in 8 bits, one scale a row", matrices=8.0),
    _format(
        "nvfp4",
        "matrices in 4 bits and a scale of 8 for each 16; some keep attention in 8",
        matrices=4.5,
        computes="fp4",
    ),
    _format(
        "int4",
        "matrices in 4 bits, a scale of 16 and a zero of 4 for each 128 (AWQ, GPTQ)",
        matrices=4.0 + 20 / 128,
    ),
    _gguf("q8_0", "GGUF: blocks of 32 with one scale", _Q8_0, _Q8_0, _Q8_0, _Q8_0),
    _gguf("q6_k", "GGUF: blocks of 256", _Q6_K, _Q6_K, _Q6_K, _Q6_K),
    _gguf(
        "q5_k_m", "GGUF: 5 bits, half of the most sensitive matrices in 6", 5.6, 5.68, 5.5, 6.5625
    ),
    _gguf(
        "q4_k_m", "GGUF: 4 bits, half of the most sensitive matrices in 6", 4.6, 4.84, 4.5, 6.5625
    ),
    _gguf("q4_1", "GGUF: blocks of 32 with a scale and a minimum", 5.0, 5.0, 5.0, _Q6_K),
    _gguf("q4_0", "GGUF: blocks of 32 with one scale", 4.5, 4.5, 4.5, _Q6_K),
)
FORMATS: Mapping[str, Format] = MappingProxyType({f.id: f for f in _EVERY})
_ALSO = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "f16": "fp16",
    "half": "fp16",
    "float32": "fp32",
    "f32": "fp32",
    "fp4": "nvfp4",
    "awq": "int4",
    "gptq": "int4",
    "w4a16": "int4",
    "w8a8": "int8",
}

KV_BITS: Mapping[str, float] = MappingProxyType(
    {"bf16": 16.0, "fp16": 16.0, "fp8": 8.0, "q8_0": 8.5, "q4_0": 4.5}
)
"""Bits a value of the cache. vLLM knows 16 bits and fp8; llama.cpp 16 bits, q8_0 and q4_0."""


def uniform(id_: str, bits: float, engine: Engine, *, fp8: bool = False) -> Format:
    """A format of the same bits everywhere: the average of weights that were counted."""
    return Format(
        id_,
        f"{bits:.2f} bits a parameter on average",
        engine,
        "fp8" if fp8 else "16bit",
        MappingProxyType(dict.fromkeys(Kind, bits)),
    )


def weight_format(name: str) -> Format:
    """Return the format called `name`, also by what engines call it.

    Raises:
        UnknownName: no such format; the message lists them.
    """
    wanted = name.lower()
    found = FORMATS.get(_ALSO.get(wanted, wanted))
    if found is None:
        raise UnknownName(
            f"{name!r} is no number format for weights",
            accepted=", ".join((*FORMATS, *_ALSO)),
        )
    return found


def kv_format(name: str, weights: Format) -> str:
    """Return the id of the cache's format; `auto` is 16 bits, in the kind the weights have.

    Raises:
        UnknownName: no such format, or one that the weights' engine does not have.
    """
    wanted = _ALSO.get(name.lower(), name.lower())
    if wanted == "auto":
        return "fp16" if weights.id == "fp16" or weights.engine == "llama.cpp" else "bf16"
    known = ("bf16", "fp16", "fp8") if weights.engine == "vllm" else ("fp16", "q8_0", "q4_0")
    if wanted not in known:
        raise UnknownName(
            f"{name!r} is no number format for the cache of {weights.engine}",
            accepted=", ".join(("auto", *known)),
        )
    return wanted
