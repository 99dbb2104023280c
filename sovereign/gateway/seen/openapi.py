"""The OpenAPI document of the inference listener, made out of what it goes by.

Paths are `ROUTES`, fields the closed lists that bodies are read with, codes and statuses `STATUS`.
There is one document a dialect, because a client is answered in its own: OpenAI's clients, known by
what they say of themselves, get OpenAI's fields and errors, everybody else Mistral's.

The documents are files in `docs/formats/`, and no route: what is served is decided, and this needs
not be. Nothing here runs while a call is answered.
"""

from collections.abc import Iterable
from http import HTTPStatus

import msgspec

from sovereign import __version__
from sovereign.gateway.app import ITEM_MAX_CHARS, ROUTES
from sovereign.gateway.kinds.table import KINDS
from sovereign.gateway.limiting.limit import HEADERS
from sovereign.gateway.refusal import MISTRALS_OWN, STATUS
from sovereign.gateway.seen.openapi_answered import ANSWERS, card
from sovereign.gateway.seen.openapi_asked import Schema, asked, message
from sovereign.subjects import HEADER

_TEXT: Schema = {"type": "string"}
DIALECTS = ("mistral", "openai")
_IDENTITY = frozenset(
    {
        *("key-missing-or-unknown", "key-inactive", "certificate-refused", "identity-unavailable"),
        *("token-refused", "token-expired", "token-not-bound", "tenant-suspended"),
    }
)
NO_OPERATION = frozenset({"route-unknown", "method-unknown"})
"""Codes of what is no operation of the document: another path, another method."""
_ONLY = {
    "embeddings-not-enabled": {"embed"},
    "fim-not-enabled": {"fim", "completion"},
    "fim-not-possible": {"fim", "completion"},
}
"""Codes that only some kinds of calls are refused with."""
_LOOKING = _IDENTITY | {"broken", "log-unwritable", "policy-superseded"}


def document(dialect: str) -> Schema:
    """The document for clients of one dialect, of `DIALECTS`."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Sovereign, as a client of the dialect {dialect} sees it",
            "version": __version__,
            "description": "Another path is answered with 404 (`route-unknown`), another method "
            "with 405 (`method-unknown`). Every code has a runbook of its name.",
        },
        "security": [{"key": []}],
        "paths": {
            route: {method.lower(): _operation(route, method, dialect) for method in methods}
            for route, methods in ROUTES.items()
        },
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {"ChatMessage": message(dialect), "ModelCard": card()},
        },
    }


def _operation(route: str, method: str, dialect: str) -> Schema:
    kind = next((each.name for each in KINDS if each.route == route), "")
    if kind:
        return _inference(kind, dialect)
    said = _LOOKED_AT[route]
    codes = said.codes
    operation: Schema = {
        "operationId": said.name,
        "summary": said.summary,
        "responses": {"200": _json(said.summary, said.schema), **_refusals(codes, dialect)},
    }
    if said.also:
        operation["responses"][said.also] = _json(said.summary, said.schema)
    if "{" in route:
        operation["parameters"] = [_item(route)]
    if not codes & _IDENTITY:
        operation["security"] = []
    return operation


class _Looking(msgspec.Struct, frozen=True):
    """A route that is only looked at: what it answers, and how it refuses."""

    name: str
    summary: str
    schema: Schema
    codes: frozenset[str] = frozenset()
    also: str = ""


_LACKING: Schema = {
    "type": "object",
    "required": ["ready", "lacking", "policy"],
    "properties": {
        "ready": {"type": "boolean"},
        "lacking": {"type": "array", "items": _TEXT},
        "policy": _TEXT,
    },
}
_LOOKED_AT = {
    "/v1/models": _Looking(
        "listModels",
        "The models that the key may use and a usable endpoint serves.",
        {
            "type": "object",
            "required": ["object", "data"],
            "properties": {
                "object": {"const": "list"},
                "data": {"type": "array", "items": {"$ref": "#/components/schemas/ModelCard"}},
            },
        },
        frozenset(_LOOKING),
    ),
    "/v1/models/{id}": _Looking(
        "retrieveModel",
        "One of them, by its id or an alias.",
        {"$ref": "#/components/schemas/ModelCard"},
        frozenset(_LOOKING | {"model-unknown", "route-unknown"}),
    ),
    "/v1/sovereign/usage": _Looking(
        "usage",
        "What the key is bound to, what it used, and what is left of its limits.",
        {
            "type": "object",
            "required": ["object", "key", "policy"],
            "properties": {
                "object": {"const": "usage"},
                "key": {"type": "object"},
                "policy": _TEXT,
                "limits": {"type": "array", "items": {"type": "object"}},
                "used": {"type": "object"},
                "prices": {"type": "object"},
            },
        },
        frozenset(_LOOKING),
    ),
    "/healthz": _Looking(
        "alive",
        "The process runs.",
        {
            "type": "object",
            "required": ["status"],
            "properties": {"status": {"const": "alive"}},
        },
    ),
    "/readyz": _Looking(
        "ready",
        "Whether a call sent now would be answered, and what is lacking.",
        _LACKING,
        also="503",
    ),
}


def codes_of(kind: str) -> frozenset[str]:
    """Every code that a call of a kind can be refused with."""
    return frozenset(
        code for code in STATUS if code not in NO_OPERATION and kind in _ONLY.get(code, {kind})
    )


_SPOKEN = {kind.name: kind.speaks for kind in KINDS}


def _inference(kind: str, dialect: str) -> Schema:
    dialect = _SPOKEN[kind] or dialect  # a route that one dialect has answers everybody in it
    content: Schema = {"application/json": {"schema": ANSWERS[kind]}}
    if kind != "embed":
        content["text/event-stream"] = {"schema": _EVENT}
    answered = {
        "description": "The answer, whole or as it is written.",
        "headers": {name: {"schema": _TEXT} for name in _SAID_OF_AN_ANSWER},
        "content": content,
    }
    subject = {
        "name": HEADER,
        "in": "header",
        "required": False,
        "description": "The data subject, where the key declares that it comes here.",
        "schema": _TEXT,
    }
    return {
        "operationId": kind,
        "summary": f"{_SUMMARIES[kind]}",
        "parameters": [subject],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": asked(kind, dialect)}},
        },
        "responses": {
            "200": answered,
            "4XX": _error(
                "The engine refused, with a status of its own.", ["engine-refused"], dialect
            ),
            **_refusals(codes_of(kind), dialect),
        },
    }


_EVENT: Schema = {
    "type": "object",
    "description": "Each event; the last one's data is [DONE], or an error of the engine's.",
    "required": ["data"],
    "properties": {"data": _TEXT},
}
_SAID_OF_AN_ANSWER = (
    *("x-sovereign-record", "x-sovereign-place", "x-sovereign-policy"),
    *("x-sovereign-model", "x-sovereign-dropped", "x-sovereign-alias-moves"),
    *(name.decode() for names in HEADERS for name in names),
)
_SUMMARIES = {
    "chat": "The next message of a conversation.",
    "fim": "What goes between a prompt and a suffix.",
    "completion": "What a text goes on with.",
    "embed": "Texts as vectors.",
}


_OF_A_REFUSAL = {401: "www-authenticate", 429: "retry-after", 503: "retry-after"}


def _refusals(codes: Iterable[str], dialect: str) -> dict[str, Schema]:
    by_status: dict[int, list[str]] = {}
    for code in sorted(codes):
        by_status.setdefault(STATUS[code], []).append(code)
    said = {
        str(status): _error(HTTPStatus(status).phrase, named, dialect)
        for status, named in sorted(by_status.items())
    }
    for status, header in _OF_A_REFUSAL.items():
        if str(status) in said:
            said[str(status)]["headers"] = {header: {"schema": _TEXT, "required": True}}
    return said


def _error(says: str, codes: list[str], dialect: str) -> Schema:
    """A refusal; with a code of Mistral's own its clients get its words, too."""
    own = [MISTRALS_OWN[code] for code in codes if code in MISTRALS_OWN and dialect != "openai"]
    error: Schema = {
        "type": "object",
        "required": ["message", "type", "param", "code"],
        "properties": {
            "message": _TEXT,
            "type": {"enum": [*codes, *(kind for _, kind, _ in own)]},
            "code": {"enum": [*codes, *(code for _, _, code in own)]},
            "param": {"type": ["string", "null"]},
            "rule": _TEXT,
            "record": _TEXT,
        },
    }
    if dialect == "openai":
        error = {"type": "object", "required": ["error"], "properties": {"error": error}}
    else:
        error["required"] = ["object", *error["required"]]
        error["properties"] |= {"object": {"const": "error"}, "detail": _DETAIL}
    return _json(says, error)


_DETAIL: Schema = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["type", "loc", "msg"],
        "properties": {"type": _TEXT, "loc": {"type": "array"}, "msg": _TEXT},
    },
}


def _json(says: str, schema: Schema) -> Schema:
    return {"description": says, "content": {"application/json": {"schema": schema}}}


def _item(route: str) -> Schema:
    name = route[route.index("{") + 1 : -1]
    schema = {"type": "string", "minLength": 1, "maxLength": ITEM_MAX_CHARS}
    return {"name": name, "in": "path", "required": True, "schema": schema}
