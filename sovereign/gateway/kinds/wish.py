"""Read a chat request: what the client wants, checked field by field.

Fields are a closed list per dialect, as in Mistral's public OpenAPI (unknown fields are
422 there) and OpenAI's chat API. Messages are checked in `messages.py`, tools and the form of
the answer in `tools.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from sovereign.engines.contract import Dialect
from sovereign.gateway.kinds import messages, tools
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
    "top_prompt_logprobs",
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
    "ignore_eos",  # not OpenAI's: vLLM's own load generator adds it
}
SAID_BY_OPENAIS = frozenset({"max_completion_tokens", "stream_options"})
"""Whoever says both speaks OpenAI's dialect, whatever its headers say: a load generator, say."""
DEPTH_MAX = 64
"""How deep objects and lists may nest; what is deeper would exhaust the stack of who copies it."""
CHOICES_MAX = 16


@dataclass(frozen=True, slots=True)
class Wish:
    """A checked request. `body` is the client's own JSON object, unchanged.

    `choices` is how many answers it asks for, 1 to `CHOICES_MAX`. `dialect` is the one it turned
    out to be in; "" leaves it at what the headers said.
    """

    model: str
    stream: bool
    wants_usage: bool
    choices: int
    body: dict[str, Any]
    dialect: Dialect | Literal[""] = ""


def read(raw: bytes, dialect: Dialect) -> Wish:
    """Parse and check a chat request.

    Raises:
        Denied: not a JSON object, a field unknown or of the wrong kind, or remote content.
    """
    body = _object(raw)
    if body.keys() >= SAID_BY_OPENAIS:
        dialect = "openai"
    allowed = OPENAI_FIELDS if dialect == "openai" else MISTRAL_FIELDS
    for name in body:
        if name not in allowed:
            raise Denied(
                "field-unknown",
                f"extra_forbidden: no field is called {name[:64]!r}",
                param=name[:64],
            )
    for name, (wanted, holds) in FIELD_KINDS.items():
        if body.get(name) is not None and not holds(body[name]):
            raise Denied("field-invalid", f"`{name}` must be {wanted}", param=name)
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise Denied("field-invalid", "`model` must be the name of a model", param="model")
    messages.check(body.get("messages"), dialect)
    tools.check(body, dialect)
    _check_lengths(body)
    choices = 1 if body.get("n") is None else body["n"]
    if not 1 <= choices <= CHOICES_MAX:
        raise Denied("field-invalid", f"`n` must be 1 to {CHOICES_MAX}", param="n")
    streams, wants_usage = body.get("stream") is True, _wants_usage(body, dialect)
    return Wish(model, streams, wants_usage, choices, body, dialect)


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


def _is_word(value: object) -> bool:
    return isinstance(value, str)


def _is_choice(value: object) -> bool:
    return isinstance(value, str | dict)


FIELD_KINDS: dict[str, tuple[str, Callable[[object], bool]]] = {
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
            "top_prompt_logprobs",
        ),
        ("a whole number", _is_whole),
    ),
    **dict.fromkeys(
        ("stream", "parallel_tool_calls", "safe_prompt", "logprobs", "store", "ignore_eos"),
        ("true or false", _is_switch),
    ),
    **dict.fromkeys(
        ("metadata", "response_format", "stream_options", "logit_bias"), ("an object", _is_object)
    ),
    "prompt_logprobs": ("true or false, or a whole number", lambda v: isinstance(v, int)),
    "reasoning_effort": ("a word", _is_word),
    "prompt_mode": ("a word", _is_word),
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


def _check_lengths(body: dict[str, Any]) -> None:
    shortest, longest = body.get("min_tokens"), body.get("max_tokens")
    if shortest is not None and not 0 <= shortest <= (shortest if longest is None else longest):
        raise Denied("field-invalid", "`min_tokens` must be 0 to `max_tokens`", param="min_tokens")
