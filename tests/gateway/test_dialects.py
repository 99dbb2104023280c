"""What an engine says and what a client hears, through the whole gateway, with an engine made of a
script: what a real one says only when it pleases."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from sovereign.engines.callids import CallIds, is_short
from tests.gateway.site import OPENAI, Reply, site
from tests.simulated.engine import MODEL, USAGE, Exchange, Script, chunk, completion, engine, saying

LONG = "chatcmpl-tool-6f0c"
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {}}}
CALL = {"id": LONG, "type": "function", "function": {"name": "weather", "arguments": "{}"}}
USER = {"role": "user", "content": "Weather?"}
DIALECTS = pytest.mark.parametrize("headers", [{}, OPENAI], ids=["mistral", "openai"])


def answer(finish: str = "stop", **message: Any) -> dict[str, Any]:
    said: dict[str, Any] = completion("")
    said["choices"][0] = {
        "index": 0,
        "message": {"role": "assistant", "content": "Paris.", **message},
        "finish_reason": finish,
    }
    return said


def streaming(*deltas: dict[str, Any], finish: str = "stop") -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.head(kind="text/event-stream")
        for delta in deltas:
            choice = {"index": 0, "delta": delta, "finish_reason": None}
            await exchange.event({**chunk(""), "choices": [choice]})
        await exchange.event(chunk("", finish))
        await exchange.event({**chunk(""), "choices": [], "usage": USAGE})
        await exchange.event(b"[DONE]")

    return script


def choices(reply: Reply) -> list[dict[str, Any]]:
    """The first choice of every chunk that has one."""
    events = [msgspec.json.decode(event) for event in reply.events[:-1]]
    return [event["choices"][0] for event in events if event["choices"]]


async def test_an_id_an_engine_made_comes_back_as_what_the_client_was_told(tmp_path: Path) -> None:
    """The whole round: whoever stored the conversation in either dialect goes on with it in both,
    and the engine hears the same id each time."""
    script = saying(answer(content=None, tool_calls=[CALL]))
    async with engine(script) as it, site(tmp_path, it.address) as ours:
        told = []
        for headers in ({}, OPENAI):
            reply = await ours.chat(messages=[USER], tools=[TOOL], headers=headers)
            told.append(reply.json["choices"][0]["message"])
        assert is_short(told[0]["tool_calls"][0]["id"])
        assert told[1]["tool_calls"][0]["id"] == LONG
        for message in told:
            name = message["tool_calls"][0]["id"]
            result = {"role": "tool", "tool_call_id": name, "content": "12"}
            for headers in ({}, OPENAI):
                messages = [USER, message, result]
                assert (await ours.chat(messages=messages, headers=headers)).status == 200
        heard = [asked.body["messages"] for asked in it.asked[2:]]
        ids = {m[1]["tool_calls"][0]["id"] for m in heard} | {m[2]["tool_call_id"] for m in heard}
        assert ids == {CallIds().of(LONG)}


@DIALECTS
async def test_a_streamed_call_is_the_same_call(tmp_path: Path, headers: dict[str, str]) -> None:
    """Whole for Mistral's clients, in pieces for OpenAI's; recorded as what it was."""
    first = {"index": 0, **CALL, "function": {"name": "weather", "arguments": ""}}
    script = streaming(
        {"role": "assistant", "content": ""},
        {"tool_calls": [first]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]},
        finish="tool_calls",
    )
    async with engine(script) as it, site(tmp_path, it.address) as ours:
        reply = await ours.chat(stream=True, tools=[TOOL], headers=headers)
        said = choices(reply)
        made = [c for each in said for c in each["delta"].get("tool_calls", ())]
        assert "".join(c["function"].get("arguments", "") for c in made) == '{"a":1}'
        assert len(made) == (3 if headers else 1)
        assert made[0]["id"] == (LONG if headers else CallIds().of(LONG))
        assert said[-1]["finish_reason"] == "tool_calls"
        assert ours.kinds("completion")[0]["finish"] == "tool_calls"


@DIALECTS
@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
async def test_thoughts_are_where_each_client_looks_for_them(
    tmp_path: Path, headers: dict[str, str], field: str
) -> None:
    """Engines have two names for them, clients two places."""
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "Paris."},
    ]
    async with engine(saying(answer(**{field: "hm"}))) as it, site(tmp_path, it.address) as ours:
        message = (await ours.chat(headers=headers)).json["choices"][0]["message"]
        assert message["content"] == ("Paris." if headers else parts)
        assert message.get("reasoning_content") == ("hm" if headers else None)
        it.script = streaming({field: "hm"}, {"content": "Paris."})
        first, second, _ = choices(await ours.chat(stream=True, headers=headers))
        told = {"reasoning_content": "hm"} if headers else {"content": parts[:1]}
        assert first["delta"] == told
        assert second["delta"] == {"content": "Paris."}


@DIALECTS
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_an_answer_that_was_begun_is_given_back_with_its_beginning(
    tmp_path: Path, headers: dict[str, str], stream: bool
) -> None:
    """vLLM says what follows; the client hears all of it, once."""
    script = streaming({"role": "assistant", "content": ""}, {"content": " wide."})
    begun = {"role": "assistant", "content": "The sea is", "prefix": True}
    async with engine(script) as it, site(tmp_path, it.address) as ours:
        if not stream:
            it.script = saying(answer(content=" wide."))
        ours.endpoint(it.address, id="local-llamacpp", engine="vllm")
        await ours.seen()
        reply = await ours.chat(messages=[USER, begun], stream=stream, headers=headers)
        if stream:
            text = "".join(c["delta"].get("content", "") for c in choices(reply))
        else:
            text = reply.json["choices"][0]["message"]["content"]
        assert text == "The sea is wide."
        assert it.asked[0].body["continue_final_message"] is True


async def test_an_engine_that_ends_in_a_way_of_its_own_is_not_taken_for_a_whole_answer(
    tmp_path: Path,
) -> None:
    """Mistral's clients know five ends; a program branches on them."""
    async with engine(saying(answer("abort"))) as it, site(tmp_path, it.address) as ours:
        assert (await ours.chat()).json["choices"][0]["finish_reason"] == "error"
        assert ours.kinds("completion")[0]["finish"] == "abort"


@DIALECTS
async def test_a_conversation_out_of_order_is_refused_before_anything_is_decided(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    """With 422 and a sentence, where engines say 400, 500, or make something up."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        result = {"role": "tool", "tool_call_id": LONG, "content": "12"}
        reply = await ours.chat(messages=[USER, result], headers=headers)
        assert (reply.status, reply.error["code"]) == (422, "field-invalid")
        assert LONG not in reply.body.decode()
        assert it.asked == []
        assert ours.kinds("decision") == []


async def test_what_a_model_cannot_do_is_named_in_the_answer(tmp_path: Path) -> None:
    """Tools for a model that was taught none, thoughts for one that has none."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
        before = {"role": "assistant", "content": [thought, {"type": "text", "text": "12"}]}
        reply = await ours.chat(
            messages=[USER, before, USER], tools=[TOOL], tool_choice="any", reasoning_effort="high"
        )
        assert reply.status == 200
        assert reply.headers["x-sovereign-dropped"] == "reasoning_effort, thinking, tools"
        assert not {"tools", "tool_choice", "reasoning_effort"} & set(it.asked[0].body)
        assert it.asked[0].body["model"] == MODEL
