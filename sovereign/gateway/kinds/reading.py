"""Read a body whose fields are one closed list of types: what is not as it says is refused.

The list is a `msgspec.Struct` that forbids unknown fields. A chat is not read here: its fields
differ by dialect and its messages by kind (`wish.py`).
"""

import re
from typing import TypeVar

import msgspec

from sovereign.gateway.refusal import Denied

NAME_MAX_CHARS = 64
_UNKNOWN = re.compile(r"unknown field `(.*?)`(?: - at `[^`]*`)?$", re.DOTALL)
_MISSING = re.compile(r"missing required field `(\w+)`")
_FIELD = re.compile(r"at `\$\.(\w+)")


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A closed list of fields."""


B = TypeVar("B", bound=Body)


def read(raw: bytes, wanted: type[B]) -> B:
    """Parse and check a body.

    Raises:
        Denied: not a JSON object, a field that is not in the list, or one that holds another type.
            Of the client's words only the name of an unknown field is repeated, cut short.
    """
    try:
        return msgspec.json.decode(raw, type=wanted)
    except msgspec.ValidationError as error:
        raise _denied(str(error)) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise Denied("body-unreadable", "the body is not a JSON document") from None


def _denied(said: str) -> Denied:
    """What msgspec found, in this gateway's words."""
    if unknown := _UNKNOWN.search(said):
        name = unknown[1][:NAME_MAX_CHARS]
        return Denied("field-unknown", f"extra_forbidden: no field is called {name!r}", param=name)
    if missing := _MISSING.search(said):
        return Denied("field-invalid", f"`{missing[1]}` is required", param=missing[1])
    field = _FIELD.search(said)
    if field is None:
        return Denied("body-unreadable", "the body is not a JSON object")
    return Denied("field-invalid", f"`{field[1]}`: {said.partition(' - at ')[0]}", param=field[1])
