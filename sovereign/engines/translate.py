"""A client's chat body in, an engine's chat body out. Pure; nothing given is changed.

Clients speak Mistral's dialect or OpenAI's; all three engines speak OpenAI's with dialects of
their own. Only fields named here pass: a field nobody listed never reaches an engine, so no
client can pick another tenant's cache salt, a chat template or a queue priority. What a client
asked for and will not get is named in `Upstream.dropped`, so that the gateway can say so.

| client's field                             | engine's field                                      |
|--------------------------------------------|-----------------------------------------------------|
| model                                      | model, as the engine serves it                      |
| random_seed                                | seed                                                |
| max_completion_tokens                      | max_tokens                                          |
| tool_choice: any                           | tool_choice: required                               |
| tool_choice: none, engine cannot choose    | no tools                                            |
| safe_prompt: true                          | Mistral's published safety prompt, ahead of all else|
| stream: true                               | and stream_options.include_usage, always            |
| user, metadata, prompt_cache_key, name …   | nothing: `WITHHELD`, they may say who asks          |
| guardrails, prediction, service_tier …     | nothing: named in `dropped`                         |
| null anywhere                              | as if it had not been sent                          |

Limits, types and which fields a dialect forbids are the gateway's to check, before this.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from sovereign.engines.contract import ChatContext, Upstream

CHAT_PATH = "/v1/chat/completions"

# Every engine of ours understands these, by these names.
COMMON_FIELDS = frozenset(
    {
        "messages",
        "max_tokens",
        "stream",
        "temperature",
        "top_p",
        "stop",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "response_format",
        "tools",
        "reasoning_effort",
    }
)

RENAMED = {"random_seed": "seed", "max_completion_tokens": "max_tokens"}

# These say who asks or tie requests of one person together. Left out without being reported:
# they were heard, by the gateway.
WITHHELD = frozenset(
    {"user", "metadata", "prompt_cache_key", "safety_identifier", "prompt_cache_retention", "store"}
)

# Replaced or acted upon here, hence never `dropped`.
_ANSWERED = frozenset({"model", "stream_options", "safe_prompt"})

# Mistral's documented guardrail text, which its platform puts first when `safe_prompt` is set.
SAFE_PROMPT = (
    "Always assist with care, respect, and truth. Respond with utmost utility yet securely. "
    "Avoid harmful, unethical, prejudiced, or negative content. Ensure replies promote fairness "
    "and positivity."
)


def chat(body: Mapping[str, Any], ctx: ChatContext, *, understood: frozenset[str]) -> Upstream:
    """Return the request for an engine that understands `understood`, `COMMON_FIELDS` included."""
    asked = {name: deepcopy(value) for name, value in body.items() if value is not None}
    renamed = _renamed(asked)
    sent = {name: value for name, value in renamed.items() if name in understood}
    dropped = set(renamed) - understood - WITHHELD - _ANSWERED
    if "tool_choice" in renamed:
        dropped -= _choose(sent, renamed["tool_choice"], can_choose="tool_choice" in understood)
    if asked.get("safe_prompt") is True and "messages" in sent:
        sent["messages"] = _made_safe(sent.get("messages"))
    if sent.get("stream") is True:
        sent["stream_options"] = {"include_usage": True}
    return Upstream(CHAT_PATH, {"model": ctx.served_name, **sent}, tuple(sorted(dropped)))


def _renamed(asked: Mapping[str, Any]) -> dict[str, Any]:
    """When both names are given, the engine's own wins: it is the more exact request."""
    moved = {RENAMED[name]: value for name, value in asked.items() if name in RENAMED}
    kept = {name: value for name, value in asked.items() if name not in RENAMED}
    return {**moved, **kept}


def _choose(sent: dict[str, Any], choice: object, *, can_choose: bool) -> frozenset[str]:
    """Put the tool choice in words of the engine; return the names this settled."""
    if can_choose:
        sent["tool_choice"] = "required" if choice == "any" else choice
    elif choice == "none":
        sent.pop("tools", None)
    elif choice != "auto":  # `auto` is what an engine without the field does
        return frozenset()
    return frozenset({"tool_choice"})


def _made_safe(messages: object) -> object:
    """Put the safety prompt first; into the system message where there is one, since many chat
    templates accept a single one."""
    if not isinstance(messages, list):
        return messages
    if messages and isinstance(messages[0], dict) and messages[0].get("role") == "system":
        content = messages[0].get("content")
        if isinstance(content, str):
            joined = f"{SAFE_PROMPT}\n\n{content}"
            return [{**messages[0], "content": joined}, *messages[1:]]
    return [{"role": "system", "content": SAFE_PROMPT}, *messages]
