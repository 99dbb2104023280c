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
| tool_choice: one function, by its name     | the same; an engine that cannot: that tool alone    |
| tool_choice: none, engine cannot choose    | no tools                                            |
| tool_choice without tools                  | nothing: there is none to choose                    |
| messages                                   | messages, see `conversation.py`                     |
| stop: "" or an empty one in a list         | nothing: it stops nothing                           |
| safe_prompt: true                          | Mistral's published safety prompt, ahead of all else|
| stream: true                               | and stream_options.include_usage, always            |
| user, metadata, prompt_cache_key, name …   | nothing: `WITHHELD`, they may say who asks          |
| guardrails, prediction, service_tier …     | nothing: named in `dropped`                         |
| null anywhere                              | as if it had not been sent                          |

Limits, types and which fields a dialect forbids are the gateway's to check, before this.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sovereign.engines import conversation
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


_FOR_THINKERS = "reasoning_effort"
_OF_TOOLS = ("tool_choice", "parallel_tool_calls")


def chat(
    body: Mapping[str, Any],
    ctx: ChatContext,
    *,
    understood: frozenset[str],
    thoughts_as: str = "reasoning",
    names_a_tool: bool = True,
) -> Upstream:
    """Return the request for an engine that understands `understood`, `COMMON_FIELDS` included.

    Args:
        body: the client's own, not changed; what needs no change is shared with it.
        ctx: what the gateway says about the call.
        understood: the engine's fields.
        thoughts_as: the engine's name for the thoughts of an earlier answer.
        names_a_tool: whether its `tool_choice` may be one function.
    """
    asked = {name: _own(value) for name, value in body.items() if value is not None}
    renamed = _renamed(asked)
    sent = {name: value for name, value in renamed.items() if name in understood}
    dropped = set(renamed) - understood - WITHHELD - _ANSWERED
    dropped -= _choose(sent, renamed, "tool_choice" in understood, names_a_tool)
    if not ctx.thinks and sent.pop(_FOR_THINKERS, None) is not None:
        dropped.add(_FOR_THINKERS)
    if isinstance(sent.get("messages"), list):
        said = conversation.read(sent["messages"], thoughts_as if ctx.thinks else "")
        sent["messages"] = said.messages
        dropped |= {"thinking"} if said.unthought else set()
    if asked.get("safe_prompt") is True and "messages" in sent:
        sent["messages"] = _made_safe(sent.get("messages"))
    if "stop" in sent:
        _stop(sent)
    if sent.get("stream") is True:
        sent["stream_options"] = {"include_usage": True}
    return Upstream(CHAT_PATH, {"model": ctx.served_name, **sent}, tuple(sorted(dropped)))


def _own(value: object) -> object:
    """A list or object of its own, so that putting something in changes nothing of the client's."""
    if isinstance(value, list):
        return list(value)
    return dict(value) if isinstance(value, dict) else value


def _renamed(asked: Mapping[str, Any]) -> dict[str, Any]:
    """When both names are given, the engine's own wins: it is the more exact request."""
    moved = {RENAMED[name]: value for name, value in asked.items() if name in RENAMED}
    kept = {name: value for name, value in asked.items() if name not in RENAMED}
    return {**moved, **kept}


def _choose(
    sent: dict[str, Any], renamed: Mapping[str, Any], can_choose: bool, names_a_tool: bool
) -> frozenset[str]:
    """Put the tool choice in words of the engine; return the names this settled."""
    choice = renamed.get("tool_choice")
    if not renamed.get("tools"):
        for name in _OF_TOOLS:
            sent.pop(name, None)
        return frozenset(_OF_TOOLS) if choice in (None, "auto", "none") else frozenset()
    settled = frozenset({"tool_choice"})
    if choice is None:
        return frozenset()
    if isinstance(choice, dict) and not names_a_tool and isinstance(sent.get("tools"), list):
        sent["tools"] = [tool for tool in sent["tools"] if _named(tool) == _named(choice)]
        choice = "required"
    if can_choose:
        sent["tool_choice"] = "required" if choice == "any" else choice
    elif choice == "none":
        sent.pop("tools", None)
    elif choice != "auto":  # `auto` is what an engine without the field does
        return frozenset()
    return settled


def _named(holder: object) -> object:
    """The name of the function in a tool or in a choice of one."""
    function = holder.get("function") if isinstance(holder, dict) else None
    return function.get("name") if isinstance(function, dict) else None


def _stop(sent: dict[str, Any]) -> None:
    """Leave out what stops nothing; vLLM refuses it."""
    if sent["stop"] == "":
        del sent["stop"]
    elif isinstance(sent["stop"], list):
        sent["stop"] = [word for word in sent["stop"] if word != ""]


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


def without_switch(sent: Upstream, name: str) -> Upstream:
    """Leave out a field that is true or false in Mistral's dialect and a number to the engine; what
    the engine answers to it has another form, too."""
    value = sent.body.get(name)
    if not isinstance(value, bool):
        return sent
    body = {field: held for field, held in sent.body.items() if field != name}
    return replace(sent, body=body, dropped=_with(sent.dropped, name) if value else sent.dropped)


def beginning(sent: Upstream) -> Upstream:
    """The same request to an engine that does not repeat the beginning it was given. vLLM could,
    but counts the probability of every token of the prompt for it."""
    begun = sent.body["messages"][-1].get("content")
    return replace(sent, begun=begun) if isinstance(begun, str) else sent


def without_tools(sent: Upstream) -> Upstream:
    """Leave the tools out and say so."""
    left = ("tools", *_OF_TOOLS)
    body = {name: value for name, value in sent.body.items() if name not in left}
    return replace(sent, body=body, dropped=_with(sent.dropped, "tools"))


def dropping(sent: Upstream, name: str) -> Upstream:
    """The same request, with one more thing named that it will not do."""
    return replace(sent, dropped=_with(sent.dropped, name))


def _with(dropped: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(sorted({*dropped, name}))
