"""Name a policy by what it says: one SHA-256 over its canonical form.

The canonical form is JSON with sorted keys (RFC 8785 for strings and whole numbers, which
is all a policy holds) of the *parsed* files plus the active profile's name. Lists whose
entries carry an id are sorted by it and lists of plain words are sorted too, so neither
comments nor order nor the machine's locale change the digest.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

_ORDERED = frozenset({"parents"})
"""Lists whose order carries meaning: the chain of owners runs from the nearest outwards."""


def digest(files: Mapping[str, object], profile: str) -> str:
    """Return 64 hex digits. `files` maps a file's name below `policies/` to its parsed shape."""
    return hashlib.sha256(canonical(files, profile)).hexdigest()


def canonical(files: Mapping[str, object], profile: str) -> bytes:
    """Return the canonical form itself: the whole policy as the digest names it."""
    said = {name: msgspec.to_builtins(shape) for name, shape in files.items()}
    return msgspec.json.encode(_sorted({"files": said, "profile": profile}), order="sorted")


def _sorted(value: Any, *, keep_order: bool = False) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(item, keep_order=key in _ORDERED) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_sorted(item) for item in value]
        return items if keep_order else sorted(items, key=_canonical)
    return value


def _canonical(value: Any) -> bytes:
    return msgspec.json.encode(value, order="sorted")
