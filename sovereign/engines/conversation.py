"""The messages of a conversation, from either dialect into the form all our engines read.

| client's message                               | engine's                                       |
|------------------------------------------------|------------------------------------------------|
| role `developer`                               | role `system`                                  |
| ids of tool calls, of any form                 | nine letters and digits (`callids.py`)         |
| `arguments` as an object                       | as the JSON text of it                         |
| parts `thinking`, field `reasoning_content`    | the engine's own field, if the model thinks    |
| parts `text` of an assistant or a tool         | one text                                       |
| parts `reference`                              | nothing: they point at what is not here        |
| `prefix`, on the last message                  | the adapter's: `is_begun` tells it |
| `name` of who speaks                           | nothing, but of a tool: it may say who asks    |

Only fields named here pass. What a message must hold is the gateway's to check, before this; what
is not as it must be passes as it is, for the engine to refuse. Pure; nothing given is changed,
and what needs no change is shared with what was given.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from sovereign.engines.callids import CallIds

_PASSING = ("role", "content", "refusal")
_THOUGHTS = ("reasoning_content", "reasoning")


@dataclass(frozen=True, slots=True)
class Conversation:
    """The messages to send; `unthought` is True when thoughts were left out of them."""

    messages: list[Any]
    unthought: bool


def read(messages: Sequence[Any], thoughts_as: str) -> Conversation:
    """Put the messages in words of the engines.

    Args:
        messages: as the client sent them.
        thoughts_as: the field that the engine reads an earlier answer's thoughts from; "" when
            they are to be left out.
    """
    ids = CallIds(_ids_of(messages))
    written, unthought = [], False
    for message in messages:
        if not isinstance(message, Mapping):
            written.append(message)
            continue
        said = _message(message, ids)
        thoughts = said.pop("thoughts", "")
        if thoughts and thoughts_as:
            said[thoughts_as] = thoughts
        unthought = unthought or bool(thoughts and not thoughts_as)
        written.append(said)
    return Conversation(written, unthought)


def is_begun(messages: object) -> bool:
    """Is the last message an answer begun, to be gone on with? Mistral's `prefix` says so."""
    last = messages[-1] if isinstance(messages, list) and messages else None
    return isinstance(last, dict) and last.get("prefix") is True and last.get("role") == "assistant"


def _ids_of(messages: Sequence[Any]) -> list[str]:
    """Every name of a call in the conversation, in the order of their first use."""
    found = []
    for message in messages:
        if not isinstance(message, Mapping):
            continue
        if isinstance(message.get("tool_call_id"), str):
            found.append(message["tool_call_id"])
        calls = message.get("tool_calls")
        if isinstance(calls, list):
            named = [call.get("id") for call in calls if isinstance(call, Mapping)]
            found += [name for name in named if isinstance(name, str)]
    return found


def ids_in(messages: object) -> CallIds:
    """The ids of calls that a conversation holds, so that a new one can be none of them."""
    return CallIds(_ids_of(messages) if isinstance(messages, list) else ())


def _message(message: Mapping[str, Any], ids: CallIds) -> dict[str, Any]:
    """One message; its thoughts, if any, stand in `thoughts`."""
    said = {name: message[name] for name in _PASSING if message.get(name) is not None}
    role = said.get("role")
    if role == "developer":
        said["role"] = "system"
    elif role == "assistant":
        _assistant(said, message, ids)
    elif role == "tool":
        _tool(said, message, ids)
    return said


def _assistant(said: dict[str, Any], message: Mapping[str, Any], ids: CallIds) -> None:
    thoughts = next((message[n] for n in _THOUGHTS if isinstance(message.get(n), str)), "")
    if isinstance(said.get("content"), list):
        said["content"], told = _flat(said["content"])
        thoughts = told or thoughts
    if thoughts:
        said["thoughts"] = thoughts
    calls = message.get("tool_calls")
    if isinstance(calls, list) and calls:
        said["tool_calls"] = [_call(call, ids) for call in calls]
        said.setdefault("content", "")


def _tool(said: dict[str, Any], message: Mapping[str, Any], ids: CallIds) -> None:
    content = said.get("content")
    if isinstance(content, list) and all(_is_text(part) for part in content):
        said["content"] = "".join(part["text"] for part in content)
    said.setdefault("content", "")
    if isinstance(message.get("name"), str):
        said["name"] = message["name"]
    if isinstance(message.get("tool_call_id"), str):
        said["tool_call_id"] = ids.of(message["tool_call_id"])


def _flat(parts: Sequence[Any]) -> tuple[object, str]:
    """An assistant's parts as one text, and its thoughts; parts that are neither stay parts."""
    texts, thoughts, others = [], [], []
    for part in parts:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "thinking":
            thoughts.append(_thought(part.get("thinking")))
        elif kind == "refusal" and isinstance(part.get("refusal"), str):
            texts.append(part["refusal"])
        elif _is_text(part):
            texts.append(part["text"])
        elif kind != "reference":
            others.append(part)
    content: object = "".join(texts)
    if others:
        content = [{"type": "text", "text": content}, *others]
    return content, "".join(thoughts)


def _thought(thinking: object) -> str:
    """The text of a `thinking` part: Mistral's is a list of parts, others' a text."""
    if isinstance(thinking, str):
        return thinking
    parts = thinking if isinstance(thinking, list) else ()
    return "".join(part["text"] for part in parts if _is_text(part))


def _call(call: object, ids: CallIds) -> object:
    if not isinstance(call, Mapping):
        return call
    said = {"type": "function", **{n: v for n, v in call.items() if n in ("type", "function")}}
    if isinstance(call.get("id"), str):
        said["id"] = ids.of(call["id"])
    function = call.get("function")
    if isinstance(function, Mapping):
        arguments = function.get("arguments")
        if isinstance(arguments, Mapping):
            arguments = msgspec.json.encode(arguments).decode()
        said["function"] = {"name": function.get("name"), "arguments": arguments}
    return said


def _is_text(part: object) -> bool:
    return isinstance(part, Mapping) and isinstance(part.get("text"), str)
