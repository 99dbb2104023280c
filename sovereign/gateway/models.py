"""The models a caller may use, as cards in the shape both kinds of client parse."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import msgspec

from sovereign.gateway.aliases import Names
from sovereign.gateway.call import JSON, Call
from sovereign.gateway.callers.identify import identify
from sovereign.gateway.entitle import Entitling
from sovereign.gateway.refusal import Denied
from sovereign.gateway.view import View
from sovereign.policy import Policy
from sovereign.policy.shapes import Model
from sovereign.registry import Endpoint, utcnow
from sovereign.settings import Settings

_CREATED = 1_672_531_200
"""Both dialects want a creation time; a model's is not known here, so it is one fixed second."""
_SEEING = frozenset({"vllm"})
"""Engines of ours that are given the part of a model that looks at pictures."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """What the cards are written from."""

    policy: Policy
    names: Names
    settings: Settings
    entitling: Entitling


async def list_(shelf: Shelf, view: View, call: Call) -> None:
    """Answer `GET /v1/models`: the models of usable endpoints, within the key's binding and the
    access rules."""
    now = utcnow()
    served = await _served(shelf, view, call, now)
    cards = [card(shelf, shelf.policy.models[name], served[name], now) for name in sorted(served)]
    await call.respond(200, msgspec.json.encode({"object": "list", "data": cards}), JSON)


async def retrieve(shelf: Shelf, view: View, call: Call) -> None:
    """Answer `GET /v1/models/{id}`, for an id or an alias.

    Raises:
        Denied: nothing usable serves it to this key.
    """
    now = utcnow()
    served = await _served(shelf, view, call, now)
    name = shelf.names.meant(call.item, now)
    if name not in served:
        raise Denied("model-unknown", f"no endpoint serves {call.item!r}", param="model_id")
    found = card(shelf, shelf.policy.models[name], served[name], now)
    await call.respond(200, msgspec.json.encode(found), JSON)


async def _served(shelf: Shelf, view: View, call: Call, now: datetime) -> dict[str, list[Endpoint]]:
    """The usable endpoints of each model that the caller is shown."""
    key = await identify(call, view, now)
    served: dict[str, list[Endpoint]] = {}
    for endpoint in view.snapshot.endpoints:
        if endpoint.quarantine or not endpoint.is_fresh(now):
            continue
        for name in endpoint.models:
            if name in shelf.policy.models and (not key.models or name in key.models):
                served.setdefault(name, []).append(endpoint)
    lists = shelf.entitling.lists
    return {name: found for name, found in served.items() if lists(key, name, found)}


def card(
    shelf: Shelf, model: Model, endpoints: Iterable[Endpoint], now: datetime
) -> dict[str, Any]:
    """One model as Mistral's model card; OpenAI's clients read the first four fields.

    `alias_moves` is ours: the aliases of this model that will soon be another's. A temperature is
    not known: it is the engine's.
    """
    aliases = shelf.names.of(model.id, now)
    moving = [alias for alias in aliases if alias.is_to_move(now)]
    moves = {alias.name: {"next": alias.then, "at": alias.day} for alias in moving}
    return {
        "id": model.id,
        "object": "model",
        "created": _CREATED,
        "owned_by": "sovereign",
        "name": model.name,
        "description": None,
        "type": "base",
        "aliases": [alias.name for alias in aliases],
        "max_context_length": _context(shelf.settings, model, endpoints),
        "deprecation": _day(model.lifecycle.deprecated_on),
        "deprecation_replacement_model": model.lifecycle.replacement or None,
        "default_model_temperature": None,
        "capabilities": _capabilities(model, endpoints),
        **({"alias_moves": moves} if moves else {}),
    }


def _capabilities(model: Model, endpoints: Iterable[Endpoint]) -> dict[str, bool]:
    """What the facts say that it can do, and an engine that serves it lets it do."""
    can = {*model.capabilities, *model.advertised}
    seen = any(endpoint.engine in _SEEING for endpoint in endpoints)
    return {
        "completion_chat": "chat" in model.capabilities,
        "completion_fim": "fim" in model.capabilities,
        "function_calling": "tools" in model.capabilities,
        "reasoning": "reasoning" in can,
        "vision": "vision" in can and seen,
        "fine_tuning": False,
        "ocr": False,
        "classification": False,
        "moderation": False,
        "audio": False,
    }


def _context(settings: Settings, model: Model, endpoints: Iterable[Endpoint]) -> int:
    """The longest conversation that every endpoint takes, where this site set it itself."""
    own = any(endpoint.id == settings.own_endpoint for endpoint in endpoints)
    return min(model.context, settings.engine.context) if own else model.context


def _day(day: date | None) -> str | None:
    return None if day is None else f"{day.isoformat()}T00:00:00Z"
