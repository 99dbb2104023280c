"""Read a chat request: what the client wants, checked field by field.

Fields are a closed list per dialect, as in Mistral's public OpenAPI (unknown fields are
422 there) and OpenAI's chat API. Content is looked at for one thing only: an `image_url`
that is not a `data:` URL would make the engine fetch from anywhere, so it is refused.
"""

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
MESSAGES_MAX = 4096
CHOICES_MAX = 16
DATA_URL_MAX_CHARS = 2_000_000


@dataclass(frozen=True, slots=True)
class Wish:
    """A checked request. `body` is the client's own JSON object, unchanged."""

    model: str
    stream: bool
    wants_usage: bool
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
    model, messages = body.get("model"), body.get("messages")
    if not isinstance(model, str) or not model:
        raise Denied("field-invalid", "`model` must be the name of a model", param="model")
    if not isinstance(messages, list) or not 0 < len(messages) <= MESSAGES_MAX:
        raise Denied(
            "field-invalid", f"`messages` must be a list of 1 to {MESSAGES_MAX}", param="messages"
        )
    for message in messages:
        _check_message(message)
    choices = body.get("n")
    if choices is not None and not (isinstance(choices, int) and 1 <= choices <= CHOICES_MAX):
        raise Denied("field-invalid", f"`n` must be 1 to {CHOICES_MAX}", param="n")
    stream = body.get("stream") or False
    if not isinstance(stream, bool):
        raise Denied("field-invalid", "`stream` must be true or false", param="stream")
    return Wish(model, stream, _wants_usage(body, dialect), body)


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise Denied("body-unreadable", "the body is not a JSON document") from None
    if not isinstance(body, dict):
        raise Denied("body-unreadable", "the body is not a JSON object")
    return body


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
        if "image_url" in part:
            _check_image(part["image_url"])


def _check_image(image: object) -> None:
    url = image.get("url") if isinstance(image, dict) else image
    if not isinstance(url, str) or not url[:5].lower() == "data:":
        raise Denied(
            "remote-content-refused",
            "`image_url` must be a data: URL; this site fetches nothing on a client's behalf",
            rule="remote-content-refused",
            param="image_url",
        )
    if len(url) > DATA_URL_MAX_CHARS:
        raise Denied("field-invalid", "the data: URL is too long", param="image_url")
