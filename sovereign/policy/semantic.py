"""Say what two policies say differently: entries and their words, never lines of text.

Both are given in canonical form (`digest.py`), so comments, order and layout are gone already. An
entry is known by its id (or zone, terms, name, country), a rule in Cedar by its @id. Pure.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import msgspec

_NAMES = ("id", "zone", "terms", "country", "name", "architecture", "model", "tenant")
"""What an entry of a list is known by: the first of these that it has."""
_CEDAR = re.compile(r'@ id \( "([^"]*)" \)')
CHANGES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing said differently. `where` leads to it; None stands for "says nothing of it"."""

    file: str
    where: str
    before: Any
    after: Any

    @property
    def verb(self) -> str:
        """`added`, `removed` or `changed`."""
        if self.before is None:
            return "added"
        return "removed" if self.after is None else "changed"


def differences(old: bytes, new: bytes) -> tuple[Difference, ...]:
    """What `new` says differently from `old`, by file and entry; at most `CHANGES_MAX`."""
    before, after = msgspec.json.decode(old), msgspec.json.decode(new)
    found = list[Difference]()
    if before["profile"] != after["profile"]:
        found.append(Difference("profile", "", before["profile"], after["profile"]))
    files, others = before["files"], after["files"]
    for name in sorted({*files, *others}):
        pair = files.get(name), others.get(name)
        found += [Difference(*each) for each in _compare(name, "", *pair)]
    return tuple(found[:CHANGES_MAX])


_NOTHING = object()
"""Stands where nothing is said, which is not the same as saying null."""
_Found = tuple[str, str, Any, Any]


def _compare(file: str, where: str, before: Any, after: Any) -> Iterator[_Found]:
    if _same(before, after):
        return
    old, new = _keyed(before), _keyed(after)
    if old is None or new is None or type(before) is not type(after):
        yield file, where, _shown(before), _shown(after)
        return
    for name in sorted({*old, *new}):
        step = f"{where}.{name}" if isinstance(before, dict) and where else name
        inside = step if isinstance(before, dict) else f"{where}[{name}]"
        yield from _compare(file, inside, old.get(name, _NOTHING), new.get(name, _NOTHING))


def _same(before: Any, after: Any) -> bool:
    """Whether both are one text; to Python, false and 0 are equal."""
    if before is _NOTHING or after is _NOTHING:
        return before is after
    one, two = (msgspec.json.encode(each, order="sorted") for each in (before, after))
    return one == two


def _shown(value: Any) -> Any:
    return None if value is _NOTHING else value


def _keyed(value: Any) -> dict[str, Any] | None:
    """A mapping or a list by the names of what is in it; None for anything else."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, list):
        return None
    found: dict[str, Any] = {}
    for entry in value:
        name = _name(entry)
        if name in found:  # two of one name are told apart by all they say, and by standing twice
            said = msgspec.json.encode(entry, order="sorted").decode()
            times = (f"{said} ({number})" for number in count(2))
            name = next(each for each in (said, *islice(times, len(value))) if each not in found)
        found[name] = entry
    return found


def _name(entry: Any) -> str:
    if isinstance(entry, dict):
        named = [str(entry[key]) for key in _NAMES if isinstance(entry.get(key), str)]
        return named[0] if named else msgspec.json.encode(entry, order="sorted").decode()
    cedar = _CEDAR.match(entry) if isinstance(entry, str) else None
    return cedar[1] if cedar else str(entry)
