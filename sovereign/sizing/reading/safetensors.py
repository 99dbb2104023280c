"""Read the header of safetensors files: every tensor's name, type, shape and place.

The format is checked as its specification asks: one JSON object, tensors one after the other from
the first byte of the data to the last, none overlapping, each as long as its type and shape say.
"""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sovereign.sizing.found import Found
from sovereign.sizing.reading.bounds import (
    DIMENSIONS_MAX,
    TENSORS_MAX,
    elements_of,
    json_object,
    refuse,
    whole_numbers,
)

HEADER_MAX_BYTES = 32 * 1024**2
"""The format allows 100 MB; a header of 200,000 tensors takes 25."""
_BITS = {
    "F64": 64,
    "F32": 32,
    "F16": 16,
    "BF16": 16,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "F4": 4,
    "I64": 64,
    "I32": 32,
    "I16": 16,
    "I8": 8,
    "U64": 64,
    "U32": 32,
    "U16": 16,
    "U8": 8,
    "BOOL": 8,
}
_ONE_A_PARAMETER = {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F4", "I8"}
"""Types that hold one parameter an element; others pack several, and count as unknown."""
_SCALES = ("_scale", "_scale_inv", "_scale_2", "qscale_weight", "qscale_act", "_zero_point")


def safetensors(files: Iterable[Path]) -> Found:
    """Return what the tensors of all `files` add up to.

    Raises:
        BadInput: a header says what cannot be.
    """
    parameters = total = tensors = 0
    counted, by_type = True, dict[str, int]()
    names = []
    for file in files:
        names.append(file.name)
        for name, kind, elements, size in _safe_tensors(file):
            tensors += 1
            if tensors > TENSORS_MAX:
                refuse(file, f"more than {TENSORS_MAX} tensors", f"at most {TENSORS_MAX}")
            total += size
            by_type[kind] = by_type.get(kind, 0) + size
            if name.endswith(_SCALES):
                continue
            counted = counted and kind in _ONE_A_PARAMETER
            parameters += elements
    read_ = tuple(names[:1]) if len(names) == 1 else (f"{len(names)} safetensors files",)
    return Found(
        read_,
        parameters=parameters if counted else None,
        weight_bytes=total,
        by_type=by_type,
    )


def _safe_tensors(path: Path) -> Iterator[tuple[str, str, int, int]]:
    """Name, type, elements and bytes of each tensor, once all of the header was checked."""
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(8)
        if len(first) < 8:
            refuse(path, f"{size} bytes", "at least 8")
        (length,) = struct.unpack("<Q", first)
        if length > min(HEADER_MAX_BYTES, size - 8):
            refuse(path, f"a header of {length} bytes in a file of {size}", "one that fits it")
        header = json_object(path, file.read(length))
    header.pop("__metadata__", None)
    if len(header) > TENSORS_MAX:
        refuse(path, f"{len(header)} tensors", f"at most {TENSORS_MAX}")
    spans, found = [], []
    for name, entry in header.items():
        kind, elements, begin, end = _safe_entry(path, name, entry)
        spans.append((begin, end))
        found.append((name, kind, elements, end - begin))
    _refuse_gaps(path, spans, size - 8 - length)
    yield from found


def _safe_entry(path: Path, name: str, entry: Any) -> tuple[str, int, int, int]:
    if not isinstance(entry, dict):
        refuse(path, f"{name[:80]}: not an object", "dtype, shape and data_offsets")
    kind, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(kind, str) or kind not in _BITS:
        refuse(path, f"{name[:80]}: type {str(kind)[:20]}", ", ".join(_BITS))
    if not whole_numbers(shape, DIMENSIONS_MAX) or not whole_numbers(offsets, 2):
        refuse(path, f"{name[:80]}: shape or offsets", "lists of whole numbers")
    elements = elements_of(path, name, shape)
    if len(offsets) != 2 or (offsets[1] - offsets[0]) * 8 != elements * _BITS[kind]:
        refuse(
            path,
            f"{name[:80]}: {elements} x {kind} in bytes {str(offsets)[:60]}",
            "offsets as far apart as the tensor is large",
        )
    return kind, elements, offsets[0], offsets[1]


def _refuse_gaps(path: Path, spans: list[tuple[int, int]], available: int) -> None:
    """Tensors lie one after the other, from the first byte to the last, as the format asks."""
    at = 0
    for begin, end in sorted(spans):
        if begin != at or end < begin:
            refuse(path, f"tensors overlap or leave a gap at byte {at}", "one after the other")
        at = end
    if at != available:
        refuse(path, f"tensors of {at} bytes in a file that has {available}", "the same of both")


def index(path: Path) -> tuple[frozenset[str], int | None]:
    """Return the files that model.safetensors.index.json names, and the bytes they add up to.

    Raises:
        BadInput: it is no such index.
    """
    size = path.stat().st_size
    if size > HEADER_MAX_BYTES:
        refuse(path, f"{size} bytes", f"at most {HEADER_MAX_BYTES}")
    whole = json_object(path, path.read_bytes())
    named, about = whole.get("weight_map"), whole.get("metadata")
    if not isinstance(named, dict) or not all(isinstance(file, str) for file in named.values()):
        refuse(path, "no weight_map of names", "an object of tensor and file names")
    total = about.get("total_size") if isinstance(about, dict) else None
    known = isinstance(total, int) and not isinstance(total, bool) and total >= 0
    return frozenset(named.values()), total if known else None
