"""What the beginning of a conversation is, as a key of 64 bits: equal beginnings, equal keys.

An engine that has read a prompt's beginning before need not read it again, so a conversation
belongs at the replica that had its last turn. The key is a keyed hash under the tenant's secret:
it says nothing of the text, and equal texts of two tenants have different keys. It is never
written down. Only what comes up to the first question is looked at, and of each message only its
beginning: nothing is copied but that. Pure.
"""

from hashlib import blake2b
from typing import Any

MESSAGES_MAX = 4
"""Messages up to the first of a user's: instructions, and the question that began it. The turns
that follow all begin with these."""
CHARS_MAX = 512
"""Of each message. Longer ones that begin alike are, for an engine's cache, alike for long."""
SECRET_MAX_BYTES = 64


def key(secret: bytes, model: str, body: dict[str, Any]) -> int | None:
    """The key of a request's body; None when nothing in it is a beginning that could come back."""
    texts = _beginnings(body)
    if not texts:
        return None
    said = blake2b(digest_size=8, key=secret[:SECRET_MAX_BYTES])
    for text in (model, *texts):
        said.update(text[:CHARS_MAX].encode(errors="replace"))
        said.update(b"\0")
    return int.from_bytes(said.digest())


def _beginnings(body: dict[str, Any]) -> list[str]:
    messages = body.get("messages")
    if isinstance(messages, list):
        return [text for text in map(_text, _opening(messages)) if text]
    prompt = body.get("prompt")
    return [prompt] if isinstance(prompt, str) and prompt else []


def _opening(messages: list[Any]) -> list[Any]:
    for i, message in enumerate(messages[:MESSAGES_MAX]):
        if isinstance(message, dict) and message.get("role") == "user":
            return messages[: i + 1]
    return messages[:MESSAGES_MAX]


def _text(message: object) -> str:
    """A message's text, or the first text among its parts."""
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else ()
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return next((text for text in texts if isinstance(text, str)), "")
