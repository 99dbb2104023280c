"""The table of records as a JSON Schema, for programs that are not ours.

One entry of `oneOf` a type, in the words of `record.RECORD_TYPES`; what kinds of fields hold
stands under `$defs`. `x-stream` says which stream a type may stand in, "any" for all. A verifier
needs no general JSON Schema: `docs/formats/export.md` says which parts it uses.
"""

from typing import Any

from sovereign.audit.record import (
    INTEGER_MAX,
    NAME_MAX_CHARS,
    REASON_MAX_CHARS,
    RECORD_TYPES,
    VERSION,
    Kind,
    RecordType,
)

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$"
_KINDS: dict[str, dict[str, Any]] = {
    "version": {"const": VERSION},
    "salt": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    Kind.NAME.name.lower(): {"type": "string", "maxLength": NAME_MAX_CHARS},
    Kind.REASON.name.lower(): {"type": "string", "maxLength": REASON_MAX_CHARS},
    Kind.INTEGER.name.lower(): {"type": "integer", "minimum": 0, "maximum": INTEGER_MAX},
    Kind.TIME.name.lower(): {"type": "string", "format": "date-time", "pattern": _TIME},
}


def schema() -> dict[str, Any]:
    """The whole table."""
    return {
        "$schema": DIALECT,
        "title": "A record of a Sovereign audit log",
        "oneOf": [_of(name, kind) for name, kind in RECORD_TYPES.items()],
        "$defs": _KINDS,
    }


def _of(name: str, kind: RecordType) -> dict[str, Any]:
    common = {
        "v": _ref("version"),
        "type": {"const": name},
        "at": _ref("time"),
        "salt": _ref("salt"),
    }
    own = {field: _ref(each.kind.name.lower()) for field, each in kind.fields.items()}
    required = [field for field, each in kind.fields.items() if each.required]
    return {
        "title": name,
        "description": kind.says,
        "x-stream": kind.stream,
        "type": "object",
        "properties": {**common, **own},
        "required": [*common, *required],
        "additionalProperties": False,
    }


def _ref(kind: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{kind}"}
