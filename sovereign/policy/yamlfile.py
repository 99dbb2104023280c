"""Read one YAML file strictly, and remember on which line everything stood.

YAML is read here and nowhere else. The dialect is small on purpose: mappings, lists,
strings, whole decimal numbers, booleans and null. A date stays the string it was written
as, a number with a fraction must be quoted, a key may stand once, anchors, aliases and
tags of one's own are refused. So nothing a lawyer reads means something else to the
machine, and the oldest trap of the format is caught by name: a bare `NO` is the boolean
false, not Norway.

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
DEPTH_MAX = 100
_YAML = "tag:yaml.org,2002:"
_PATH = re.compile(r" - at `(?:key in )?\$?([^`]*)`$")
_GOT = re.compile(r", got `(\w+)`")
_UNKNOWN = re.compile(r"unknown field `(.+)`")
_SCALARS: dict[str, tuple[str, re.Pattern[str], Callable[[str], object]]] = {
    f"{_YAML}str": ("str", re.compile(r"(?s:.*)"), str),
    f"{_YAML}timestamp": ("str", re.compile(r".*"), str),
    f"{_YAML}int": ("int", re.compile(r"-?(0|[1-9][0-9]{0,17})"), int),
    f"{_YAML}null": ("null", re.compile(r"|~|null|Null|NULL"), lambda _: None),
    f"{_YAML}bool": (
        "bool",
        re.compile(r"(?i:yes|true|on|no|false|off)"),
        lambda text: text.lower() in ("yes", "true", "on"),
    ),
}
"""By YAML tag: what msgspec calls the kind, how it may be written, and what it is read as."""


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a value stood: its line, from 1, its text ("" if not a scalar) and msgspec's kind."""

    line: int
    text: str
    kind: str


def read_as(path: Path, kind: type[T], raw: bytes | None = None) -> T:
    """Return the file's content as a `kind`.

    Args:
        raw: the content, when it was read already and what was read must be what is meant.

    Raises:
        PolicyUnreadable: the file is missing, too large, not YAML in our dialect, or does not
            have the shape of `kind`. The message names file, line, what was found and what is
            accepted. Nothing was loaded.
    """
    spots: dict[str, Spot] = {}
    content = _plain(_compose(path, raw), "", spots, path)
    try:
        return msgspec.convert(content, kind)
    except msgspec.ValidationError as refusal:
        raise _explained(path, str(refusal), spots) from refusal


def _compose(path: Path, raw: bytes | None) -> yaml.Node:
    try:
        raw = path.read_bytes() if raw is None else raw
    except OSError as error:
        raise PolicyUnreadable(f"{path}: cannot be read ({error.strerror})") from error
    if len(raw) > FILE_MAX_BYTES:
        raise PolicyUnreadable(f"{path}: {len(raw)} bytes, at most {FILE_MAX_BYTES} are read")
    try:
        text = raw.decode()
        _refuse_other_dialects(path, text)
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not UTF-8"
        raise PolicyUnreadable(f"{path}{line}: not YAML: {problem}") from error
    if node is None:
        raise PolicyUnreadable(f"{path}:1: the file is empty")
    return node


def _refuse_other_dialects(path: Path, text: str) -> None:
    """Look at the events first: a value in two places, and depth, show there before any tree is.

    libyaml does the work here and in composing, ten times as fast as Python would.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            line = event.start_mark.line + 1 if event.start_mark else 1
            problem = "anchors and aliases are not accepted; write the value out"
            raise PolicyUnreadable(f"{path}:{line}: not YAML: {problem}")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH_MAX:
            raise PolicyUnreadable(f"{path}: not YAML: nested too deeply to be read")


def _plain(node: yaml.Node, where: str, spots: dict[str, Spot], path: Path) -> Any:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode) and node.tag == f"{_YAML}map":
        spots[where] = Spot(line, "", "object")
        return _mapping(node, where, spots, path)
    if isinstance(node, yaml.SequenceNode) and node.tag == f"{_YAML}seq":
        spots[where] = Spot(line, "", "array")
        return [_plain(item, f"{where}[{i}]", spots, path) for i, item in enumerate(node.value)]
    scalar = _SCALARS.get(node.tag) if isinstance(node, yaml.ScalarNode) else None
    if scalar is None or not scalar[1].fullmatch(node.value):
        what = repr(node.value) if isinstance(node, yaml.ScalarNode) else "this"
        raise PolicyUnreadable(
            f"{path}:{line}: {what} reads as {node.tag.removeprefix(_YAML)}",
            accepted='strings, whole numbers, true and false; quote anything else, as in "46.7"',
        )
    kind, _, read = scalar
    spots[where] = Spot(line, node.value, kind)
    return read(node.value)


def _mapping(
    node: yaml.MappingNode, where: str, spots: dict[str, Spot], path: Path
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key, line = key_node.value, key_node.start_mark.line + 1
        if key_node.tag != f"{_YAML}str" or not isinstance(key, str):
            said = repr(key) if isinstance(key, str) else "here"
            raise PolicyUnreadable(
                f"{path}:{line}: the key {said} is not a string", accepted="a quoted key"
            )
        if key in found:
            raise PolicyUnreadable(f"{path}:{line}: the key {key!r} stands here a second time")
        found[key] = _plain(value_node, f"{where}.{key}", spots, path)
    return found


def _explained(path: Path, refusal: str, spots: dict[str, Spot]) -> PolicyUnreadable:
    match = _PATH.search(refusal)
    wanted = refusal[: match.start()] if match else refusal
    where = _nearest(spots, match.group(1) if match else "", wanted)
    spot, what = spots[where], where.lstrip(".") or "the file"
    if (
        spot.kind == "bool"
        and "got `bool`" in wanted
        and spot.text.lower() not in ("true", "false")
    ):
        return PolicyUnreadable(
            f"{path}:{spot.line}: {what} is the bare word {spot.text}",
            found=f"in YAML a bare {spot.text} is a boolean, not a string",
            accepted=f'the quoted string "{spot.text}"',
        )
    return PolicyUnreadable(
        f"{path}:{spot.line}: {what}: {wanted}", found=spot.text or "a list or mapping"
    )


def _nearest(spots: dict[str, Spot], where: str, wanted: str) -> str:
    """The path of what msgspec refused, or of the closest enclosing value we have a line for.

    It writes `[...]` for the key of a mapping; of the values that can mean, the first that is
    of the refused kind is taken.
    """
    unknown, got = _UNKNOWN.search(wanted), _GOT.search(wanted)
    if unknown:
        where = f"{where}.{unknown.group(1)}"
    if "[...]" in where and got:
        meant = re.compile(re.escape(where).replace(re.escape("[...]"), r"\..+"))
        for candidate, spot in spots.items():
            if spot.kind == got.group(1) and meant.fullmatch(candidate):
                return candidate
    while where and where not in spots:
        where = where[: max(where.rfind("."), where.rfind("["), 0)]
    return where
