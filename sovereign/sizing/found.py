"""What weights say of themselves, beside what the table says: where do they disagree?

`reading/` turns files into a `Found`; everything here is pure. The file is believed: it is what
an engine will load. The table is then wrong for it, or the file is not what its name says.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from sovereign.errors import BadInput
from sovereign.policy.shapes import Architecture
from sovereign.sizing.formats import Engine, Format, uniform
from sovereign.sizing.parameters import total

NEEDED = ("layers", "hidden", "vocabulary", "heads")
"""What an architecture cannot do without."""
_COUNT_TOLERANCE = 0.001
"""Parameters of the table and the file may differ by so much: a bias, a projector."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was read. `figures` are fields of `Architecture`; None is not known.

    `parameters` counts the elements of tensors that hold one parameter each; `weight_bytes` is
    what all tensors take; `by_type` splits it by the file's own names of types.
    """

    read: tuple[str, ...]
    figures: Mapping[str, int | bool] = field(default_factory=dict)
    context: int | None = None
    parameters: int | None = None
    weight_bytes: int | None = None
    by_type: Mapping[str, int] = field(default_factory=dict)
    engine: Engine = "vllm"


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One figure of which table and file say different things."""

    figure: str
    table: int | bool
    file: int | bool


def disagreements(
    table: Architecture, found: Found, context: int | None = None
) -> tuple[Disagreement, ...]:
    """Return every figure that the file states and the table has otherwise, in order of name."""
    differ = [
        Disagreement(name, getattr(table, name), value)
        for name, value in sorted(found.figures.items())
        if getattr(table, name) != value
    ]
    if context and found.context and found.context < context:
        differ.append(Disagreement("context", context, found.context))
    counted, expected = found.parameters, total(table)
    if found.engine == "llama.cpp":  # which keeps a vision tower in a file of its own
        expected -= table.vision_parameters_m * 1_000_000
    if counted is not None and abs(counted - expected) > expected * _COUNT_TOLERANCE:
        differ.append(Disagreement("parameters", expected, counted))
    return tuple(differ)


def believed(found: Found, table: Architecture | None) -> Architecture:
    """The architecture as the file has it; what it does not state is the table's.

    Raises:
        BadInput: the file states too little, and there is no table to fall back on; or it states
            what no network can be.
    """
    missing = [name for name in NEEDED if name not in found.figures]
    if table is None and missing:
        raise BadInput(
            f"{', '.join(found.read)}: {', '.join(missing)} cannot be read there",
            accepted="a folder with config.json or params.json, or a GGUF file",
        )
    base = {} if table is None else msgspec.structs.asdict(table)
    stated = {"id": "weights", "source": ", ".join(found.read), "confidence": "high"}
    plain = msgspec.to_builtins({**base, **stated, **found.figures})
    try:
        architecture = msgspec.convert(plain, Architecture)
    except msgspec.ValidationError as error:
        raise BadInput(
            f"{', '.join(found.read)}: {error}", accepted="a model's own files"
        ) from None
    _refuse_impossible(architecture, found)
    return architecture


def _refuse_impossible(a: Architecture, found: Found) -> None:
    wrong = []
    if a.experts_per_token > a.experts or bool(a.experts) is not bool(a.experts_per_token):
        wrong.append(f"{a.experts_per_token} experts a token of {a.experts}")
    if a.experts and not a.expert_feed_forward:
        wrong.append("experts without a width")
    if a.dense_layers > a.layers or a.sliding_layers > a.layers:
        wrong.append("more special layers than layers")
    if a.kv_heads and not a.kv_lora_rank and a.heads % a.kv_heads:
        wrong.append(f"{a.heads} heads do not divide by {a.kv_heads}")
    if wrong:
        raise BadInput(
            f"{', '.join(found.read)}: {'; '.join(wrong)}", accepted="a model's own files"
        )


def own_format(found: Found, a: Architecture) -> Format | None:
    """The format the tensors are in, as an average over `a`; None when their bytes are not known.

    So the weights come out as the bytes that were read, whatever the file packs or leaves out.
    """
    if not found.weight_bytes:
        return None
    bits = found.weight_bytes * 8 / total(a)
    wide = max(found.by_type, key=lambda name: found.by_type[name], default="")
    label = f"as in the files ({wide})" if wide else "as in the files"
    return uniform(label, bits, found.engine, fp8=wide.startswith("F8"))
