"""Check the messages of a chat: each by itself, and their order.

Roles and, in Mistral's dialect, fields of a message are closed lists, as in its public OpenAPI. The
order is checked where Mistral's interface refuses it and an engine would break on it or take it for
something else: a result without its call, a call without its result, an answer at the end that is
not to be gone on with. What Mistral's interface lets pass, passes.

Content is looked at for one thing only: a part that names an address would make the engine fetch
from it, so kinds of parts are a closed list too, and the one address let through is a `data:` URL
of an image.
"""

from collections.abc import Sequence
from typing import Any

from sovereign.gateway.refusal import Denied

PARTS = frozenset({"text", "image_url", "thinking", "reference", "refusal"})
"""Kinds of content parts. Sound, video, files and documents come as addresses: not served."""
PARTS_OF_ADDRESSES = frozenset(
    {
        "document_url",
        "video_url",
        "audio_url",
        "file",
        "input_audio",
        "resource",
        "resource_link",
    }
)
MESSAGES_MAX = 4096
DATA_URL_MAX_CHARS = 2_000_000
CALLS_MAX = 128
"""Tool calls of one message."""
ID_MAX_CHARS = 256
_FIELDS = {
    "system": frozenset({"role", "content"}),
    "user": frozenset({"role", "content"}),
    "assistant": frozenset({"role", "content", "tool_calls", "prefix"}),
    "tool": frozenset({"role", "content", "tool_call_id", "name"}),
}
"""Of Mistral's dialect, by role."""
ROLES = {
    "mistral": frozenset(_FIELDS),
    "openai": frozenset(_FIELDS) | {"developer"},
}


def check(messages: object, dialect: str) -> None:
    """Check a chat's messages.

    Raises:
        Denied: too many or none, a field unknown or of the wrong kind, an order that Mistral's
            interface refuses, or remote content.
    """
    if not isinstance(messages, list) or not 0 < len(messages) <= MESSAGES_MAX:
        raise _invalid(f"`messages` must be a list of 1 to {MESSAGES_MAX}")
    pending = 0  # calls that have no result yet
    for at, message in enumerate(messages):
        role = _check_message(message, dialect, at)
        if role == "tool":
            pending -= 1
            if pending < 0:
                raise _invalid(f"message {at} is of a tool that no message before it called")
        elif role == "assistant":
            _refuse_pending(pending)
            pending = len(message.get("tool_calls") or ())
    _refuse_pending(pending)
    if dialect == "mistral":
        _check_prefix(messages)


def _refuse_pending(pending: int) -> None:
    if pending:
        raise _invalid(
            f"{pending} tool calls have no result: each needs one message of the role `tool`"
        )


def _check_prefix(messages: Sequence[dict[str, Any]]) -> None:
    """An answer stands at the end only to be gone on with, and only there."""
    *before, last = messages
    if any(message.get("prefix") for message in before):
        raise _invalid("`prefix` is for the last message alone")
    if last["role"] == "assistant" and not last.get("prefix") and before:
        raise _invalid(
            "the last message must be of a user or a tool, or of the assistant with `prefix`: true"
        )


def _check_message(message: object, dialect: str, at: int) -> str:
    """Check one message; return its role."""
    role = message.get("role") if isinstance(message, dict) else None
    if not isinstance(message, dict) or not isinstance(role, str):
        raise _invalid("each message needs a `role`")
    if role not in ROLES[dialect]:
        raise _invalid(f"a message's `role` must be one of {sorted(ROLES[dialect])}")
    if dialect == "mistral":
        for name in message:
            if name not in _FIELDS[role]:
                raise Denied(
                    "field-unknown",
                    f"extra_forbidden: a message of the role {role} has no field {name[:64]!r}",
                    param=f"messages.{at}.{name[:64]}",
                )
    if not isinstance(message.get("prefix"), bool | None):
        raise _invalid("`prefix` must be true or false")
    _check_content(message.get("content"))
    if role == "assistant":
        _check_calls(message)
    elif role == "tool":
        _check_id(message.get("tool_call_id"), "tool_call_id")
    return role


def _check_calls(message: dict[str, Any]) -> None:
    calls = message.get("tool_calls")
    if not isinstance(calls, list | None) or len(calls or ()) > CALLS_MAX:
        raise _invalid(f"`tool_calls` must be a list of at most {CALLS_MAX}")
    if message.get("content") is None and not calls and not message.get("reasoning_content"):
        raise _invalid("a message of the assistant needs `content` or `tool_calls`")
    for call in calls or ():
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise _invalid("a tool call needs a `function` with a `name`")
        if not isinstance(function.get("arguments"), str | dict):
            raise _invalid("`arguments` of a tool call must be an object or its JSON text")
        _check_id(call.get("id"), "id")


def _check_id(name: object, field: str) -> None:
    """Any name will do, as long as it is one: "null" is what Mistral's client sends for none."""
    if not isinstance(name, str) or not 0 < len(name) <= ID_MAX_CHARS or name == "null":
        raise _invalid(f"`{field}` must name the tool call, in 1 to {ID_MAX_CHARS} characters")


def _check_content(content: object) -> None:
    if content is None or isinstance(content, str):
        return
    if not isinstance(content, list):
        raise _invalid("`content` must be text or a list of parts")
    for part in content:
        if not isinstance(part, dict):
            raise _invalid("a part of `content` must be an object")
        _check_part(part)


def _check_part(part: dict[str, Any]) -> None:
    for address in PARTS_OF_ADDRESSES:
        if address in part or part.get("type") == address:
            raise _remote(f"`{address}` is not served", address)
    if "image_url" in part:
        _check_image(part["image_url"])
    kind = part.get("type")
    if not isinstance(kind, str) or kind not in PARTS:
        raise _invalid(f"a part's `type` must be one of {sorted(PARTS)}")
    if kind == "text" and not isinstance(part.get("text"), str):
        raise _invalid("a part of the type `text` needs a `text`")
    if kind == "image_url" and "image_url" not in part:
        raise _invalid("a part of the type `image_url` needs an `image_url`")
    thoughts = part.get("thinking")
    for thought in thoughts if isinstance(thoughts, list) else []:
        if isinstance(thought, dict):
            _check_part(thought)


def _check_image(image: object) -> None:
    url = image.get("url") if isinstance(image, dict) else image
    if not isinstance(url, str) or not url[:5].lower() == "data:":
        raise _remote("`image_url` must be a data: URL", "image_url")
    if len(url) > DATA_URL_MAX_CHARS:
        raise Denied("field-invalid", "the data: URL is too long", param="image_url")


def _invalid(message: str) -> Denied:
    return Denied("field-invalid", message, param="messages")


def _remote(what: str, param: str) -> Denied:
    return Denied(
        "remote-content-refused",
        f"{what}: this site fetches nothing on a client's behalf",
        rule="remote-content-refused",
        param=param,
    )
