"""Read the header of a GGUF file: its keys, and every tensor's name, type, shape and place.

By the GGUF specification, versions 2 and 3. Values are read one after the other and kept only
where they are small; of an array (a vocabulary) only the length is kept.
"""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from sovereign.sizing.found import Found
from sovereign.sizing.reading.bounds import (
    DIMENSIONS_MAX,
    HEADER_MAX_BYTES,
    TENSORS_MAX,
    Figures,
    completed,
    elements_of,
    experts_own_width,
    figures,
    number,
    refuse,
)

KEYS_MAX = 20_000
NAME_MAX_BYTES = 65_535
STRING_MAX_BYTES = 16 * 1024**2
ARRAY_MAX = 4_000_000
_KEYS = {
    "block_count": "layers",
    "embedding_length": "hidden",
    "vocab_size": "vocabulary",
    "attention.head_count": "heads",
    "attention.head_count_kv": "kv_heads",
    "attention.key_length": "head_dim",
    "feed_forward_length": "feed_forward",
    "attention.sliding_window": "sliding_window",
    "expert_count": "experts",
    "expert_used_count": "experts_per_token",
    "expert_shared_count": "shared_experts",
    "expert_feed_forward_length": "expert_feed_forward",
    "leading_dense_block_count": "dense_layers",
    "attention.q_lora_rank": "q_lora_rank",
    "attention.kv_lora_rank": "kv_lora_rank",
}
_TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 36),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}
_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9
Tensor = tuple[str, str, int, int, int]
"""Name, type, elements, bytes and offset."""
_ALIGNMENT = 32


def gguf(parts: Sequence[Path]) -> Found:
    """Return what a file says of itself, or the parts of one that was split, first part first.

    Raises:
        BadInput: a header says what cannot be.
    """
    said, found = _one(parts[0])
    for path in parts[1:]:
        found += _one(path)[1]
    by_type: dict[str, int] = {}
    for _, kind, _, size, _ in found:
        by_type[kind] = by_type.get(kind, 0) + size
    first = parts[0]
    return Found(
        read=(first.name,) if len(parts) == 1 else (f"{first.name} and {len(parts) - 1} more",),
        figures=_gguf_figures(first, said, {name for name, *_ in found}),
        context=number(first, "context_length", said.get(f"{_family(said)}.context_length")),
        parameters=sum(elements for _, _, elements, _, _ in found),
        weight_bytes=sum(by_type.values()),
        by_type=by_type,
        engine="llama.cpp",
    )


def _one(path: Path) -> tuple[dict[str, Any], list[Tensor]]:
    """The keys and tensors of one file, once its header was checked."""
    with path.open("rb") as file:
        reader = _Reader(path, file)
        reader.take(4)
        version = reader.number("I")
        if version not in (2, 3):
            refuse(path, f"version {version}", "2 or 3")
        tensors = reader.count(TENSORS_MAX, "tensors")
        keys = reader.count(KEYS_MAX, "keys")
        said = dict(_key(reader) for _ in range(keys))
        found = [_gguf_tensor(reader) for _ in range(tensors)]
    _refuse_overlap(reader, said, found)
    return said, found


class _Reader:
    """Takes bytes from the front of a file, and never more than a header may have."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self._file = path, file
        self.size = path.stat().st_size
        self.at = 0

    def take(self, count: int) -> bytes:
        if count < 0 or self.at + count > min(HEADER_MAX_BYTES, self.size):
            refuse(self.path, f"{count} bytes at byte {self.at} of {self.size}", "a whole header")
        raw = self._file.read(count)
        self.at += count
        return raw

    def number(self, code: str) -> int:
        value = struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]
        return int(value) if code not in ("f", "d") else 0

    def string(self, most: int = STRING_MAX_BYTES) -> str:
        length = self.number("Q")
        if length > most:
            refuse(self.path, f"a string of {length} bytes", f"at most {most}")
        return self.take(length).decode(errors="replace")

    def count(self, most: int, what: str) -> int:
        value = self.number("Q")
        if value > most:
            refuse(self.path, f"{value} {what}", f"at most {most}")
        return value


def _key(reader: _Reader) -> tuple[str, Any]:
    name = reader.string(NAME_MAX_BYTES)
    return name, _value(reader, reader.number("I"), depth=0)


def _value(reader: _Reader, kind: int, depth: int) -> Any:
    """A value; of an array only its length is kept, since that of the tokens is what we ask."""
    if kind in _SCALARS:
        return reader.number(_SCALARS[kind])
    if kind == _STRING:
        return reader.string()
    if kind == _ARRAY and depth == 0:
        inner, count = reader.number("I"), reader.count(ARRAY_MAX, "elements")
        if inner in _SCALARS:
            reader.take(struct.calcsize(f"<{_SCALARS[inner]}") * count)
        else:
            for _ in range(count):
                _value(reader, inner, depth + 1)
        return range(count)
    return refuse(
        reader.path, f"a value of type {kind}", "a type of the GGUF format, arrays not nested"
    )


def _gguf_tensor(reader: _Reader) -> Tensor:
    name = reader.string(NAME_MAX_BYTES)
    dimensions = reader.number("I")
    if dimensions > DIMENSIONS_MAX:
        refuse(reader.path, f"{dimensions} dimensions", f"at most {DIMENSIONS_MAX}")
    elements = elements_of(reader.path, name, [reader.number("Q") for _ in range(dimensions)])
    kind = reader.number("I")
    if kind not in _TYPES:
        refuse(reader.path, f"{name[:80]}: tensor type {kind}", "a type of the GGUF format")
    label, block, block_bytes = _TYPES[kind]
    if elements % block:
        refuse(reader.path, f"{name[:80]}: {elements} elements", f"a multiple of {block}")
    return name, label, elements, elements // block * block_bytes, reader.number("Q")


def _refuse_overlap(reader: _Reader, said: Mapping[str, Any], found: list[Tensor]) -> None:
    alignment = said.get("general.alignment", _ALIGNMENT)
    if not isinstance(alignment, int) or not 1 <= alignment <= 65_536:
        refuse(reader.path, f"alignment {str(alignment)[:20]}", "1 to 65536")
    start = -(-reader.at // alignment) * alignment
    at = 0
    for name, _, _, size, offset in sorted(found, key=lambda tensor: tensor[4]):
        if offset < at:
            refuse(reader.path, f"{name[:80]} overlaps another tensor", "one after the other")
        at = offset + size
        if start + at > reader.size:
            refuse(reader.path, f"{name[:80]} ends behind the file", "tensors inside the file")


def _family(said: Mapping[str, Any]) -> str:
    return str(said.get("general.architecture", ""))[:64]


def _gguf_figures(path: Path, said: Mapping[str, Any], tensors: set[str]) -> Figures:
    prefix = f"{_family(said)}."
    own = {name.removeprefix(prefix): v for name, v in said.items() if isinstance(v, int)}
    found = figures(path, own, _KEYS)
    tokens = said.get("tokenizer.ggml.tokens")
    if "vocabulary" not in found and isinstance(tokens, range):
        found["vocabulary"] = len(tokens)
    found = experts_own_width(found)
    found["tied_embeddings"] = "output.weight" not in tensors
    return completed(found)
