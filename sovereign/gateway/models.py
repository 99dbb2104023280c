"""List the models a caller may use, as cards in the shape both kinds of client parse."""

from typing import Any

import msgspec

from sovereign.gateway.call import JSON, Call
from sovereign.gateway.identify import identify
from sovereign.gateway.view import View
from sovereign.policy import Policy
from sovereign.policy.shapes import Model
from sovereign.registry import utcnow

_CREATED = 1_672_531_200
"""Both dialects want a creation time; a model's is not known here, so it is one fixed second."""


async def answer(policy: Policy, view: View, call: Call) -> None:
    """Answer `GET /v1/models`: the models of usable endpoints, within the key's binding."""
    now = utcnow()
    key = identify(call, view.known, now)
    usable = [e for e in view.snapshot.endpoints if not e.quarantine and e.is_fresh(now)]
    served = {model for endpoint in usable for model in endpoint.models}
    names = sorted(served & set(key.models) if key.models else served)
    cards = [card(policy.models[name]) for name in names if name in policy.models]
    await call.respond(200, msgspec.json.encode({"object": "list", "data": cards}), JSON)


def card(model: Model) -> dict[str, Any]:
    """One model as Mistral's model card; OpenAI's clients read the first four fields."""
    can = set(model.capabilities)
    return {
        "id": model.id,
        "object": "model",
        "created": _CREATED,
        "owned_by": "sovereign",
        "name": model.name,
        "type": "base",
        "aliases": list(model.aliases),
        "max_context_length": model.context,
        "deprecation": None,
        "capabilities": {
            "completion_chat": "chat" in can,
            "completion_fim": "fim" in can,
            "function_calling": "tools" in can,
            "vision": "vision" in can,
            "fine_tuning": False,
        },
    }
