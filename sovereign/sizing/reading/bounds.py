"""The bounds that hold for every header, and how one is refused.

A header is read as if its maker were hostile: nothing it says is believed before it was checked
against a bound here and against the size of its file.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

from sovereign.errors import BadInput

CONFIG_MAX_BYTES = 4 * 1024**2
HEADER_MAX_BYTES = 100_000_000
"""The most that the safetensors format allows; also what is read of a GGUF header at most."""
FILES_MAX = 2_000
TENSORS_MAX = 200_000
DIMENSIONS_MAX = 8
ELEMENTS_MAX = 2**50
NUMBER_MAX = 2**31
ACCEPTED = "a model folder (config.json or params.json, *.safetensors) or a GGUF file"
Figures = dict[str, int | bool]
"""Fields of `Architecture` by name."""


def refuse(path: Path, found: str, accepted: str) -> NoReturn:
    """Raise `BadInput`: the header of `path` says what cannot be."""
    raise BadInput(f"{path.name}: its header cannot be believed", found=found, accepted=accepted)


def json_object(path: Path, raw: bytes) -> dict[str, Any]:
    """The one JSON object in `raw`; a key that stands twice is refused, as is anything else."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            refuse(path, "a key stands twice", "every key once")
        return found

    try:
        value = json.loads(raw, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        refuse(path, f"not JSON ({type(error).__name__})", "a JSON object")
    if not isinstance(value, dict):
        refuse(path, f"JSON of kind {type(value).__name__}", "a JSON object")
    return value


def number(path: Path, name: str, value: Any) -> int | None:
    """A whole number within bounds; None when it is absent, null or a boolean."""
    if value is None or isinstance(value, bool):
        return None
    if not isinstance(value, int) or not 0 <= value <= NUMBER_MAX:
        refuse(path, f"{name}: {str(value)[:40]}", f"a whole number up to {NUMBER_MAX}")
    return value


def whole_numbers(value: Any, most: int) -> TypeGuard[list[int]]:
    """True for a list of at most `most` whole numbers, none below 0."""
    return (
        isinstance(value, list)
        and len(value) <= most
        and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in value)
    )


def elements_of(path: Path, name: str, shape: Iterable[int]) -> int:
    """The product of a shape, refused once it passes what any file could hold."""
    elements = 1
    for size in shape:
        elements *= size
        if elements > ELEMENTS_MAX:
            refuse(path, f"{name[:80]}: more than 2^50 elements", "a tensor that fits a file")
    return elements


def figures(path: Path, said: Mapping[str, Any], names: Mapping[str, str]) -> Figures:
    """What `said` states, under our names; what it leaves out or sets to null is left out."""
    found: Figures = {}
    for theirs, ours in names.items():
        if ours == "sliding_window":
            found |= _window(path, said[theirs]) if theirs in said else {}
            continue
        value = number(path, theirs, said.get(theirs))
        if value is not None:
            found[ours] = value
    return found


def completed(found: Figures) -> Figures:
    """Work out what files leave out: the width of a head, and how many hold keys and values."""
    heads, hidden = found.get("heads", 0), found.get("hidden", 0)
    latent = bool(found.get("kv_lora_rank"))
    if heads and hidden and not latent:
        found.setdefault("head_dim", hidden // heads)
        found.setdefault("kv_heads", heads)
    if latent:
        found.pop("head_dim", None)
        found.pop("kv_heads", None)
    return found


def experts_own_width(found: Figures) -> Figures:
    """Older mixtures have one width, that of their experts, under the name of the dense one."""
    if found.get("experts"):
        found.setdefault("expert_feed_forward", found.get("feed_forward", 0))
        if not found.get("dense_layers"):
            found.pop("feed_forward", None)
    return found


def _window(path: Path, value: Any) -> Figures:
    """One number for all layers, a list that repeats over them, or null for none."""
    if isinstance(value, list):
        sizes = [number(path, "sliding_window", each) for each in value]
        return {"sliding_window": max((size or 0 for size in sizes), default=0)}
    return {"sliding_window": number(path, "sliding_window", value) or 0}
