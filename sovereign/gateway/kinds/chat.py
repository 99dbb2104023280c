"""A chat: a conversation in, the next message of it out, whole or as it is written.

What the engine wrote leaves as its own bytes, unless the client's dialect says it in another way
(`reshape.py`).
"""

from dataclasses import replace

import msgspec

from sovereign.engines import ChatContext, Engine, Upstream, conversation
from sovereign.gateway.kinds import reshape
from sovereign.gateway.kinds import wish as wishes
from sovereign.gateway.kinds.kind import Kind, Sent, Whole
from sovereign.gateway.kinds.relay import Relay
from sovereign.gateway.kinds.wish import Wish
from sovereign.policy.shapes import Model


def _needs(wish: Wish) -> str:
    """What a model cannot do of a chat, its engine says."""
    return ""


async def _translate(engine: Engine, wish: Wish, context: ChatContext, model: Model) -> Upstream:
    thinks = "reasoning" in model.advertised or "reasoning" in model.capabilities
    calls = "tools" in model.capabilities
    if thinks or not calls:
        context = replace(context, thinks=thinks, calls=calls)
    return engine.chat(wish.body, context)


def _whole(body: bytes, sent: Sent) -> Whole:
    """The engine's own bytes, unless the dialect says it in another way."""
    content = msgspec.json.decode(body)
    usage, finish = content.get("usage"), content["choices"][0].get("finish_reason")
    ids = conversation.ids_in(_asked(sent) if b'"tool_calls"' in body else None)
    begun, changed = sent.upstream.begun, bool(sent.upstream.begun)
    for choice in content["choices"]:
        if begun:
            reshape.begin(choice["message"], begun)
        changed |= reshape.whole(choice, sent.dialect, ids)
    return Whole(msgspec.json.encode(content) if changed else body, usage, finish)


def _asked(sent: Sent) -> object:
    return sent.upstream.body.get("messages")


def _relay(sent: Sent) -> Relay:
    return Relay(
        sent.dialect,
        wants_usage=sent.wish.wants_usage,
        messages=_asked(sent),
        begun=sent.upstream.begun,
        choices=sent.wish.choices,
    )


CHAT = Kind(
    name="chat",
    route="/v1/chat/completions",
    needs=_needs,
    read=wishes.read,
    translate=_translate,
    whole=_whole,
    relay=_relay,
)
