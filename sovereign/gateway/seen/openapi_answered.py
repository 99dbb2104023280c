"""What an answer holds, as JSON Schema. Answers are the engine's, so more may be in them."""

from collections.abc import Mapping

from sovereign.gateway.seen.openapi_asked import Schema

_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_USAGE: Schema = {
    "type": "object",
    "required": ["prompt_tokens", "total_tokens"],
    "properties": {
        "prompt_tokens": _COUNT,
        "completion_tokens": _COUNT,
        "total_tokens": _COUNT,
    },
}


def _answer(kind: str, choice: Schema) -> Schema:
    return {
        "type": "object",
        "required": ["id", "object", "created", "model", "choices", "usage"],
        "properties": {
            "id": _TEXT,
            "object": {"const": kind},
            "created": {"type": "integer"},
            "model": _TEXT,
            "choices": {"type": "array", "minItems": 1, "items": choice},
            "usage": _USAGE,
        },
    }


_FINISH: Schema = {"type": ["string", "null"]}
_SPOKEN: Schema = {
    "type": "object",
    "required": ["index", "message", "finish_reason"],
    "properties": {
        "index": _COUNT,
        "message": {"type": "object", "required": ["role", "content"]},
        "finish_reason": _FINISH,
    },
}
_WRITTEN: Schema = {
    "type": "object",
    "required": ["index", "text", "finish_reason"],
    "properties": {"index": _COUNT, "text": _TEXT, "finish_reason": _FINISH},
}
ANSWERS: Mapping[str, Schema] = {
    "chat": _answer("chat.completion", _SPOKEN),
    "fim": _answer("chat.completion", _SPOKEN),
    "completion": _answer("text_completion", _WRITTEN),
    "embed": {
        "type": "object",
        "required": ["id", "object", "data", "model", "usage"],
        "properties": {
            "id": _TEXT,
            "object": {"const": "list"},
            "data": {"type": "array", "items": {"type": "object", "required": ["embedding"]}},
            "model": _TEXT,
            "usage": _USAGE,
        },
    },
}


def card() -> Schema:
    """A model's card, closed: a field that the gateway adds has to be added here."""
    text_or_null: Schema = {"type": ["string", "null"]}
    properties: Schema = {
        "id": _TEXT,
        "object": {"const": "model"},
        "created": {"type": "integer"},
        "owned_by": _TEXT,
        "name": _TEXT,
        "description": text_or_null,
        "type": _TEXT,
        "aliases": {"type": "array", "items": _TEXT},
        "max_context_length": {"type": "integer", "minimum": 1},
        "deprecation": text_or_null,
        "deprecation_replacement_model": text_or_null,
        "default_model_temperature": {"type": ["number", "null"]},
        "capabilities": {"type": "object", "additionalProperties": {"type": "boolean"}},
    }
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": {**properties, "alias_moves": {"type": "object"}},
    }
