"""Read one YAML file strictly, and remember on which line everything stood.

YAML is read here and nowhere else. The dialect is small on purpose: mappings, lists,
strings, whole numbers, booleans and null. A date stays the string it was written as, a
number with a fraction must be quoted, a key may stand once, anchors and tags of one's own
are refused. So nothing a lawyer reads means something else to the machine, and the oldest
trap of the format is caught by name: a bare `NO` is the boolean false, not Norway.

This module knows nothing about what a policy says; `shapes.py` does.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from sovereign.errors import PolicyUnreadable

T = TypeVar("T")
FILE_MAX_BYTES = 4 * 1024 * 1024
_PATH = re.compile(r" - at `(?:key in )?\$?([^`]*)`$")
_KINDS: dict[str, Callable[[str], object]] = {
    "tag:yaml.org,2002:str": str,
    "tag:yaml.org,2002:timestamp": str,
    "tag:yaml.org,2002:int": int,
    "tag:yaml.org,2002:null": lambda _: None,
    "tag:yaml.org,2002:bool": lambda text: text.lower() in ("yes", "true", "on"),
}


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a value stood: its line, from 1, and its text as written ("" if not a scalar)."""

    line: int
    text: str


def read_as(path: Path, kind: type[T]) -> T:
    """Return the file's content as a `kind`.

    Raises:
        PolicyUnreadable: the file is missing, too large, not YAML in our dialect, or does not
            have the shape of `kind`. The message names file, line, what was found and what is
            accepted. Nothing was loaded.
    """
    spots: dict[str, Spot] = {}
    content = _plain(_compose(path), "", spots, path)
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as refusal:
        raise _explained(path, str(refusal), spots) from refusal


def _compose(path: Path) -> yaml.Node:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PolicyUnreadable(f"{path}: cannot be read ({error.strerror})") from error
    if len(raw) > FILE_MAX_BYTES:
        raise PolicyUnreadable(f"{path}: {len(raw)} bytes, at most {FILE_MAX_BYTES} are read")
    try:
        node = yaml.compose(raw.decode(), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not UTF-8"
        raise PolicyUnreadable(f"{path}{line}: not YAML: {problem}") from error
    if node is None:
        raise PolicyUnreadable(f"{path}:1: the file is empty")
    return node


def _plain(node: yaml.Node, where: str, spots: dict[str, Spot], path: Path) -> Any:
    line = node.start_mark.line + 1
    spots[where] = Spot(line, node.value if isinstance(node, yaml.ScalarNode) else "")
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, where, spots, path)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, f"{where}[{i}]", spots, path) for i, item in enumerate(node.value)]
    if node.tag not in _KINDS:
        raise PolicyUnreadable(
            f"{path}:{line}: {node.value!r} reads as {node.tag.rpartition(':')[2]}",
            accepted='strings, whole numbers, true and false; quote anything else, as in "46.7"',
        )
    return _KINDS[node.tag](node.value)


def _mapping(
    node: yaml.MappingNode, where: str, spots: dict[str, Spot], path: Path
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key, line = key_node.value, key_node.start_mark.line + 1
        if key_node.tag != "tag:yaml.org,2002:str":
            raise PolicyUnreadable(
                f"{path}:{line}: the key {key!r} is not a string", accepted="a quoted key"
            )
        if key in found:
            raise PolicyUnreadable(f"{path}:{line}: the key {key!r} stands here a second time")
        found[key] = _plain(value_node, f"{where}.{key}", spots, path)
    return found


def _explained(path: Path, refusal: str, spots: dict[str, Spot]) -> PolicyUnreadable:
    match = _PATH.search(refusal)
    where = match.group(1) if match else ""
    wanted = refusal[: match.start()] if match else refusal
    spot = _nearest(spots, where)
    what = where.lstrip(".") or "the file"
    if "got `bool`" in wanted and spot.text.lower() in ("no", "off", "n", "on", "yes", "y"):
        return PolicyUnreadable(
            f"{path}:{spot.line}: {what} is the bare word {spot.text}",
            found=f"in YAML a bare {spot.text} is a boolean, not a string",
            accepted=f'the quoted string "{spot.text}"',
        )
    return PolicyUnreadable(
        f"{path}:{spot.line}: {what}: {wanted}", found=spot.text or "a list or mapping"
    )


def _nearest(spots: dict[str, Spot], where: str) -> Spot:
    """The spot of `where`, or of the closest enclosing value we have a line for."""
    while where and where not in spots:
        where = where[: max(where.rfind("."), where.rfind("["), 0)]
    return spots.get(where, Spot(1, ""))
