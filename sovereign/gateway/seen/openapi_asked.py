"""What a body may hold, as JSON Schema, out of the closed lists that bodies are read with."""

from collections.abc import Mapping
from typing import Any

import msgspec

from sovereign.gateway.kinds import completions, embeddings, fim, messages, tools, wish

Schema = dict[str, Any]
_TEXT: Schema = {"type": "string"}
_WORDS: dict[str, Schema] = {
    "a number": {"type": "number"},
    "a whole number": {"type": "integer"},
    "true or false": {"type": "boolean"},
    "an object": {"type": "object"},
    "true or false, or a whole number": {"type": ["boolean", "integer"]},
    "a word": _TEXT,
    "a list": {"type": "array"},
    "a word or an object": {"type": ["string", "object"]},
}
"""What the reader of chats calls a kind of field, as a schema."""


def asked(kind: str, dialect: str) -> Schema:
    if kind == "chat":
        return _chat(dialect)
    mistral, openai = BODIES[kind]
    found = _inlined(msgspec.json.schema(openai if dialect == "openai" else mistral))
    if kind == "completion":
        found["properties"] |= _ONE_ANSWER
    return found


_ONE_ANSWER: Schema = {
    "n": {"enum": [1, None]},
    "best_of": {"enum": [1, None]},
    "echo": {"enum": [False, None]},
}
"""What is asked of a text completion beyond the kinds of its fields."""
BODIES: Mapping[str, tuple[type[msgspec.Struct], type[msgspec.Struct]]] = {
    "fim": (fim.Fim, fim.Fim),
    "completion": (completions.Completion, completions.Completion),
    "embed": (embeddings.Mistrals, embeddings.OpenAIs),
}


def _inlined(schema: Schema) -> Schema:
    """A schema with what it refers to put in its place."""
    named = schema.get("$defs", {})

    def put(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return put(named[value["$ref"].rpartition("/")[2]])
            kept = ("default", "title", "$defs")
            return {name: put(each) for name, each in value.items() if name not in kept}
        return [put(each) for each in value] if isinstance(value, list) else value

    found: Schema = put(schema)
    return found


def _chat(dialect: str) -> Schema:
    """The fields of a chat. Those that are the engine's to judge may hold anything."""
    fields = wish.OPENAI_FIELDS if dialect == "openai" else wish.MISTRAL_FIELDS
    known: Schema = {name: {} for name in sorted(fields)}
    for name, (wanted, _) in wish.FIELD_KINDS.items():
        if name in known:
            known[name] = _or_null(_WORDS.get(wanted, {}))
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["model", "messages"],
        "properties": known | {k: v for k, v in _closer(dialect).items() if k in known},
    }


def _closer(dialect: str) -> Schema:
    """Fields of which more is checked than their kind."""
    stop = {"type": "string", "maxLength": tools.STOP_MAX_CHARS}
    return {
        "model": {"type": "string", "minLength": 1},
        "messages": {
            "type": "array",
            "minItems": 1,
            "maxItems": messages.MESSAGES_MAX,
            "items": {"$ref": "#/components/schemas/ChatMessage"},
        },
        "n": _or_null({"type": "integer", "minimum": 1, "maximum": wish.CHOICES_MAX}),
        "min_tokens": _or_null({"type": "integer", "minimum": 0}),
        "stop": {
            "anyOf": [stop, {"type": "array", "maxItems": tools.STOPS_MAX, "items": stop}, _NULL]
        },
        "tools": _or_null({"type": "array", "maxItems": tools.TOOLS_MAX, "items": _tool(dialect)}),
        "response_format": _or_null(_FORMAT),
    }


_NULL: Schema = {"type": "null"}
_FORMAT: Schema = {
    "type": "object",
    "properties": {"type": {"enum": list(tools.FORMATS)}},
    "if": {"properties": {"type": {"const": "json_schema"}}, "required": ["type"]},
    "then": {
        "required": ["json_schema"],
        "properties": {
            "json_schema": {
                "type": "object",
                "required": ["name", "schema"],
                "properties": {
                    "name": _TEXT,
                    "schema": {"type": "object"},
                    "strict": {"type": ["boolean", "null"]},
                },
            }
        },
    },
}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, _NULL]} if schema else schema


def _tool(dialect: str) -> Schema:
    function: Schema = {
        "type": "object",
        "required": ["name", *([] if dialect == "openai" else ["parameters"])],
        "properties": {
            "name": {"type": "string", "pattern": f"^{tools.NAME.pattern}$"},
            "parameters": {"type": ["object", *(["null"] if dialect == "openai" else [])]},
            "description": {"type": ["string", "null"]},
        },
    }
    return {
        "type": "object",
        "required": ["function"],
        "properties": {"type": {"const": "function"}, "function": function},
    }


def message(dialect: str) -> Schema:
    """A message, by its role. Their order is checked too, which a schema cannot say."""
    return {"oneOf": [_of_role(role, dialect) for role in sorted(messages.ROLES[dialect])]}


def _of_role(role: str, dialect: str) -> Schema:
    properties: Schema = {"role": {"const": role}, "content": _CONTENT}
    required = ["role"]
    if role == "assistant":
        properties |= {"tool_calls": _or_null(_CALLS), "prefix": {"type": ["boolean", "null"]}}
    if role == "tool":
        properties |= {"tool_call_id": _ID, "name": {}}
        required.append("tool_call_id")
    found: Schema = {"type": "object", "required": required, "properties": properties}
    if role == "assistant":
        has_calls = {"properties": {"tool_calls": {"type": "array", "minItems": 1}}}
        has_content = {"properties": {"content": {"type": ["string", "array"]}}}
        found["anyOf"] = [
            {"required": ["content"], **has_content},
            {"required": ["tool_calls"], **has_calls},
            *([_THOUGHT] if dialect == "openai" else []),
        ]
    if dialect != "openai":
        found["additionalProperties"] = False
    return found


_THOUGHT: Schema = {
    "required": ["reasoning_content"],
    "properties": {"reasoning_content": {"type": "string", "minLength": 1}},
}
_ID: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": messages.ID_MAX_CHARS,
    "not": {"const": "null"},
}
_CALLS: Schema = {
    "type": "array",
    "maxItems": messages.CALLS_MAX,
    "items": {
        "type": "object",
        "required": ["id", "function"],
        "properties": {
            "id": _ID,
            "function": {
                "type": "object",
                "required": ["name", "arguments"],
                "properties": {"name": _TEXT, "arguments": {"type": ["string", "object"]}},
            },
        },
    },
}
_NO_ADDRESS: Schema = {
    "not": {"anyOf": [{"required": [name]} for name in sorted(messages.PARTS_OF_ADDRESSES)]}
}
_DATA: Schema = {"type": "string", "pattern": "^[Dd][Aa][Tt][Aa]:"}
_IMAGE: Schema = {
    "anyOf": [_DATA, {"type": "object", "required": ["url"], "properties": {"url": _DATA}}]
}
_PART: Schema = {
    "oneOf": [
        {
            "type": "object",
            "required": ["type", "text"],
            "properties": {"type": {"const": "text"}, "text": _TEXT, "image_url": _IMAGE},
            **_NO_ADDRESS,
        },
        {
            "type": "object",
            "required": ["type", "image_url"],
            "properties": {"type": {"const": "image_url"}, "image_url": _IMAGE},
            **_NO_ADDRESS,
        },
        {
            "type": "object",
            "required": ["type"],
            "properties": {
                "type": {"enum": sorted(messages.PARTS - {"text", "image_url"})},
                "thinking": {},
                "image_url": _IMAGE,
            },
            **_NO_ADDRESS,
        },
    ]
}
_CONTENT: Schema = {"anyOf": [_TEXT, _NULL, {"type": "array", "items": _PART}]}
