"""Read a chat request: what the client wants, checked field by field.

Fields are a closed list per dialect, as in Mistral's public OpenAPI (unknown fields are
422 there) and OpenAI's chat API. Content is looked at for one thing only: a part that names
an address would make the engine fetch from it, so kinds of parts are a closed list too, and
the one address let through is a `data:` URL of an image.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from sovereign.gateway.refusal import Denied

SHARED_FIELDS = frozenset(
    {
        "model",
        "messages",
        "temperature",
        "top_p",
        "max_tokens",
        "stream",
        "stop",
        "metadata",
        "response_format",
        "tools",
        "tool_choice",
        "presence_penalty",
        "frequency_penalty",
        "n",
        "prediction",
        "parallel_tool_calls",
        "reasoning_effort",
        "prompt_cache_key",
        "service_tier",
        "logprobs",
        "top_logprobs",
    }
)
MISTRAL_FIELDS = SHARED_FIELDS | {
    "random_seed",
    "safe_prompt",
    "prompt_mode",
    "guardrails",
    "min_tokens",
    "repetition_penalty",
    "top_k",
    "prompt_logprobs",
}
OPENAI_FIELDS = SHARED_FIELDS | {
    "max_completion_tokens",
    "stream_options",
    "seed",
    "user",
    "store",
    "logit_bias",
    "verbosity",
    "modalities",
    "safety_identifier",
    "prompt_cache_retention",
}
PARTS = frozenset({"text", "image_url", "thinking", "reference", "refusal"})
"""Kinds of content parts. Sound, video, files and documents come as addresses: not served."""
PARTS_OF_ADDRESSES = frozenset({"document_url", "video_url", "audio_url", "file", "input_audio"})
MESSAGES_MAX = 4096
DEPTH_MAX = 64
"""How deep objects and lists may nest; what is deeper would exhaust the stack of who copies it."""
CHOICES_MAX = 16
DATA_URL_MAX_CHARS = 2_000_000


@dataclass(frozen=True, slots=True)
class Wish:
    """A checked request. `body` is the client's own JSON object, unchanged.

    `choices` is how many answers it asks for, 1 to `CHOICES_MAX`.
    """

    model: str
    stream: bool
    wants_usage: bool
    choices: int
    body: dict[str, Any]


def read(raw: bytes, dialect: str) -> Wish:
    """Parse and check a chat request.

    Raises:
        Denied: not a JSON object, a field unknown or of the wrong kind, or remote content.
    """
    body = _object(raw)
    allowed = OPENAI_FIELDS if dialect == "openai" else MISTRAL_FIELDS
    for name in body:
        if name not in allowed:
            raise Denied(
                "field-unknown",
                f"extra_forbidden: no field is called {name[:64]!r}",
                param=name[:64],
            )
    for name, (wanted, holds) in _KINDS.items():
        if body.get(name) is not None and not holds(body[name]):
            raise Denied("field-invalid", f"`{name}` must be {wanted}", param=name)
    model, messages = body.get("model"), body.get("messages")
    if not isinstance(model, str) or not model:
        raise Denied("field-invalid", "`model` must be the name of a model", param="model")
    if not isinstance(messages, list) or not 0 < len(messages) <= MESSAGES_MAX:
        raise Denied(
            "field-invalid", f"`messages` must be a list of 1 to {MESSAGES_MAX}", param="messages"
        )
    for message in messages:
        _check_message(message)
    choices = 1 if body.get("n") is None else body["n"]
    if not 1 <= choices <= CHOICES_MAX:
        raise Denied("field-invalid", f"`n` must be 1 to {CHOICES_MAX}", param="n")
    return Wish(model, body.get("stream") is True, _wants_usage(body, dialect), choices, body)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return type(value) is int


def _is_switch(value: object) -> bool:
    return isinstance(value, bool)


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _is_text_or_texts(value: object) -> bool:
    texts = value if isinstance(value, list) else [value]
    return all(isinstance(text, str) for text in texts)


def _is_choice(value: object) -> bool:
    return isinstance(value, str | dict)


_KINDS: dict[str, tuple[str, Callable[[object], bool]]] = {
    **dict.fromkeys(
        (
            "temperature",
            "top_p",
            "presence_penalty",
            "frequency_penalty",
            "repetition_penalty",
        ),
        ("a number", _is_number),
    ),
    **dict.fromkeys(
        (
            "max_tokens",
            "max_completion_tokens",
            "min_tokens",
            "n",
            "random_seed",
            "seed",
            "top_k",
            "top_logprobs",
            "prompt_logprobs",
        ),
        ("a whole number", _is_whole),
    ),
    **dict.fromkeys(
        ("stream", "parallel_tool_calls", "safe_prompt", "logprobs", "store"),
        ("true or false", _is_switch),
    ),
    **dict.fromkeys(
        ("metadata", "response_format", "stream_options", "logit_bias"), ("an object", _is_object)
    ),
    "tools": ("a list", _is_list),
    "stop": ("a text or a list of texts", _is_text_or_texts),
    "tool_choice": ("a word or an object", _is_choice),
}
"""What a field must be when it is there and not null; the others are the engine's to judge."""


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise Denied("body-unreadable", "the body is not a JSON document") from None
    if not isinstance(body, dict):
        raise Denied("body-unreadable", "the body is not a JSON object")
    if raw.count(b"{") + raw.count(b"[") > DEPTH_MAX and _depth(body) > DEPTH_MAX:
        raise Denied("body-unreadable", f"the body nests deeper than {DEPTH_MAX}")
    return body


def _depth(value: object) -> int:
    """How deep a value nests, or one more than `DEPTH_MAX`; counted by level, not by calls."""
    level, depth = [value], 0
    while level and depth <= DEPTH_MAX:
        inner: list[object] = []
        for each in level:
            if isinstance(each, dict):
                inner += each.values()
            elif isinstance(each, list):
                inner += each
        level = [each for each in inner if isinstance(each, dict | list)]
        depth += 1
    return depth


def _wants_usage(body: dict[str, Any], dialect: str) -> bool:
    if dialect != "openai":
        return True
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _check_message(message: object) -> None:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise Denied("field-invalid", "each message needs a `role`", param="messages")
    content = message.get("content")
    if content is None or isinstance(content, str):
        return
    if not isinstance(content, list):
        raise Denied("field-invalid", "`content` must be text or a list of parts", param="messages")
    for part in content:
        if not isinstance(part, dict):
            raise Denied("field-invalid", "a part of `content` must be an object", param="messages")
        _check_part(part)


def _check_part(part: dict[str, Any]) -> None:
    for address in PARTS_OF_ADDRESSES:
        if address in part or part.get("type") == address:
            raise _remote(f"`{address}` is not served", address)
    if "image_url" in part:
        _check_image(part["image_url"])
    if part.get("type") not in PARTS:
        raise Denied(
            "field-invalid", f"a part's `type` must be one of {sorted(PARTS)}", param="messages"
        )
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


def _remote(what: str, param: str) -> Denied:
    return Denied(
        "remote-content-refused",
        f"{what}: this site fetches nothing on a client's behalf",
        rule="remote-content-refused",
        param=param,
    )
