"""A program like an application's, on Mistral's own client: `URL KEY MODEL` in, JSON out.

Tools, forms of an answer and what else a chat can ask for. Run with 3.x by our own Python and with
1.x by that of tests/tools/clients.py, so it imports nothing of ours.
"""

import json
import sys
from typing import Any

from pydantic import BaseModel

try:
    from mistralai.client import Mistral  # type: ignore[attr-defined,unused-ignore]  # 2 and 3
except ImportError:
    from mistralai import Mistral  # type: ignore[attr-defined,no-redef,unused-ignore]  # 1.x

QUESTION = {"role": "user", "content": "What is the weather in Paris?"}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "",
            "parameters": {
                "type": "object",
                "properties": {"celsius": {"type": "boolean"}},
                "required": ["celsius"],
                "additionalProperties": False,
            },
        },
    }
    for name in ("weather", "forecast")
]
NAMED = {"type": "function", "function": {"name": "forecast"}}


class Verdict(BaseModel):
    """What the answer is to be."""

    model_config = {"extra": "forbid"}
    warm: bool


def main(url: str, key: str, model: str) -> dict[str, Any]:
    """Everything this program does, and what it sees."""
    client: Any = Mistral(api_key=key, server_url=url)
    asked: dict[str, Any] = {"model": model, "temperature": 0, "random_seed": 1}
    return {
        "any": calling(client, asked, tool_choice="any"),
        "named": calling(client, asked, tool_choice=NAMED),
        "one": calling(client, asked, tool_choice="required", parallel_tool_calls=False),
        "streamed": streaming(client, asked),
        "none": plain(client, asked, tools=TOOLS, tool_choice="none"),
        "auto": plain(client, asked, tools=TOOLS, tool_choice="auto"),
        "parsed": parsing(client, asked),
        "object": plain(client, asked, response_format={"type": "json_object"}),
        "prefix": beginning(client, asked),
        "card": carding(client, model),
    }


def calling(client: Any, asked: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Ask for calls, answer them, and ask what follows."""
    said = client.chat.complete(**asked, messages=[QUESTION], tools=TOOLS, max_tokens=200, **more)
    (choice,) = said.choices
    return {
        "finish": choice.finish_reason,
        "model": said.model,
        "calls": calls(choice.message.tool_calls),
        "then": going_on(client, asked, choice.message),
    }


def calls(made: Any) -> list[dict[str, Any]]:
    return [
        {"id": call.id, "name": call.function.name, "arguments": call.function.arguments}
        for call in made
    ]


def going_on(client: Any, asked: dict[str, Any], message: Any) -> str:
    """The conversation as the client's own objects, each call with its result."""
    results = [
        {"role": "tool", "tool_call_id": call.id, "name": call.function.name, "content": "12"}
        for call in message.tool_calls
    ]
    messages = [QUESTION, message, *results]
    said = client.chat.complete(**asked, messages=messages, tools=TOOLS, max_tokens=4)
    return str(said.choices[0].finish_reason)


def streaming(client: Any, asked: dict[str, Any]) -> dict[str, Any]:
    """Calls out of a stream, put together as the client's documentation says: as they come."""
    events = client.chat.stream(
        **asked, messages=[QUESTION], tools=TOOLS, tool_choice="any", max_tokens=200
    )
    made: list[Any] = []
    finish, usage = None, 0
    for event in events:
        choice = event.data.choices[0]
        made += choice.delta.tool_calls or []
        finish = choice.finish_reason or finish
        usage += event.data.usage.completion_tokens if event.data.usage else 0
    results = [{"role": "tool", "tool_call_id": c.id, "content": "12"} for c in made]
    replayed = {"role": "assistant", "content": "", "tool_calls": made}
    messages = [QUESTION, replayed, *results]
    then = client.chat.complete(**asked, messages=messages, tools=TOOLS, max_tokens=4)
    return {
        "finish": finish,
        "calls": calls(made),
        "usage": usage,
        "then": then.choices[0].finish_reason,
    }


def plain(client: Any, asked: dict[str, Any], **more: Any) -> dict[str, Any]:
    said = client.chat.complete(**asked, messages=[QUESTION], max_tokens=8, **more)
    (choice,) = said.choices
    return {"finish": choice.finish_reason, "text": choice.message.content}


def parsing(client: Any, asked: dict[str, Any]) -> Any:
    said = client.chat.parse(Verdict, **asked, messages=[QUESTION], max_tokens=100)
    return said.choices[0].message.parsed.model_dump()


def beginning(client: Any, asked: dict[str, Any]) -> list[str]:
    """The same answer whole and streamed, begun by us."""
    messages = [QUESTION, {"role": "assistant", "content": "It is", "prefix": True}]
    whole = client.chat.complete(**asked, messages=messages, max_tokens=4)
    events = client.chat.stream(**asked, messages=messages, max_tokens=4)
    streamed = "".join(event.data.choices[0].delta.content or "" for event in events)
    return [whole.choices[0].message.content, streamed]


def carding(client: Any, model: str) -> dict[str, Any]:
    card = client.models.retrieve(model_id=model)
    return {
        "id": card.id,
        "aliases": card.aliases,
        "context": card.max_context_length,
        "calls": card.capabilities.function_calling,
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
