"""Streams in, streams out: usage where the client expects it, and never the end too early."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign.engines.callids import CallIds
from sovereign.gateway.kinds.relay import Relay


def chunk(**fields: object) -> bytes:
    return b"data: " + msgspec.json.encode({"id": "1", "object": "x", **fields}) + b"\n\n"


def delta(text: str, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
STREAM = (
    chunk(**delta("Par"))
    + chunk(**delta("is"))
    + chunk(**delta("", "stop"))
    + chunk(choices=[], usage=USAGE)
    + b"data: [DONE]\n\n"
)


def events(data: bytes) -> list[Any]:
    return [msgspec.json.decode(event[5:]) for event in data.split(b"\n\n") if event]


def relayed(
    dialect: str, *, wants_usage: bool, cut: list[int] | None = None
) -> tuple[Relay, bytes]:
    relay = Relay(dialect, wants_usage=wants_usage)
    edges = sorted({0, len(STREAM), *(c % len(STREAM) for c in cut or [])})
    out = b"".join(relay.feed(STREAM[a:b]) for a, b in pairwise(edges))
    return relay, out + relay.rest()


def test_mistrals_clients_get_usage_on_the_chunk_that_finishes() -> None:
    """Their SDK reads usage from the last chunk with a choice; a chunk without one breaks it."""
    relay, out = relayed("mistral", wants_usage=True)
    assert relay.done
    assert [e.get("usage") for e in events(out)] == [None, None, USAGE]
    assert all(e["choices"] for e in events(out))


@pytest.mark.parametrize(("wants_usage", "chunks"), [(True, 4), (False, 3)])
def test_openais_clients_get_the_usage_chunk_only_when_they_asked(
    wants_usage: bool, chunks: int
) -> None:
    """We always ask the engine for it, to meter; the client sees only what it asked for."""
    relay, out = relayed("openai", wants_usage=wants_usage)
    assert len(events(out)) == chunks
    assert relay.usage == USAGE


@given(st.lists(st.integers(0, 10_000), max_size=12), st.sampled_from(["mistral", "openai"]))
def test_it_does_not_matter_where_the_network_cuts_the_stream(cut: list[int], dialect: str) -> None:
    """Packets end anywhere, also in the middle of a word."""
    assert relayed(dialect, wants_usage=True, cut=cut)[1] == relayed(dialect, wants_usage=True)[1]


def test_the_end_marker_is_never_relayed() -> None:
    """It may leave only after the completion is on disk, which is the caller's to know."""
    assert b"[DONE]" not in relayed("mistral", wants_usage=True)[1]


def test_an_engines_error_in_the_stream_is_noticed_and_not_passed_on() -> None:
    """Its text may hold parts of the prompt."""
    relay = Relay("mistral", wants_usage=True)
    assert relay.feed(chunk(error={"message": "CANARY"}, code=500)) == b""
    assert relay.failed


def test_words_that_look_like_fields_in_the_text_change_nothing() -> None:
    """A model may write JSON about itself."""
    text = '"finish_reason":null "usage":{'
    relay = Relay("mistral", wants_usage=True)
    out = relay.feed(chunk(**delta(text)))
    assert events(out)[0]["choices"][0]["delta"]["content"] == text


def piece(at: int = 0, finish: str | None = None, **fields: object) -> dict[str, Any]:
    delta_ = {"tool_calls": [{"index": at, **fields}]}
    return {"choices": [{"index": 0, "delta": delta_, "finish_reason": finish}]}


FIRST: dict[str, Any] = {
    "id": "chatcmpl-tool-1",
    "type": "function",
    "function": {"name": "f", "arguments": ""},
}
SECOND: dict[str, Any] = {
    "id": "chatcmpl-tool-2",
    "type": "function",
    "function": {"name": "g", "arguments": "{"},
}
CALLING = (
    chunk(**delta(""))
    + chunk(**piece(0, **FIRST))
    + chunk(**piece(0, function={"arguments": '{"a":'}))
    + chunk(**piece(0, function={"arguments": "1}"}))
    + chunk(**piece(1, **SECOND))
    + chunk(**piece(1, "stop", function={"arguments": "}"}))
    + chunk(choices=[], usage=USAGE)
    + b"data: [DONE]\n\n"
)


def through(stream: bytes, dialect: str = "mistral", **more: Any) -> list[Any]:
    relay = Relay(dialect, wants_usage=True, **more)
    return events(relay.feed(stream) + relay.rest())


def test_mistrals_clients_get_tool_calls_whole_on_the_chunk_that_finishes() -> None:
    """Its SDK cannot read a piece without a name, and its interface never sends one."""
    first, last = through(CALLING)
    assert first["choices"][0]["delta"] == {"content": ""}
    (choice,) = last["choices"]
    assert choice["finish_reason"] == "tool_calls"
    made = choice["delta"]["tool_calls"]
    assert [(c["index"], c["function"]) for c in made] == [
        (0, {"name": "f", "arguments": '{"a":1}'}),
        (1, {"name": "g", "arguments": "{}"}),
    ]
    assert [c["id"] for c in made] == [CallIds().of(f"chatcmpl-tool-{n}") for n in (1, 2)]
    assert last["usage"] == USAGE


def test_openais_clients_get_tool_calls_in_pieces_as_the_engine_wrote_them() -> None:
    """As OpenAI sends them, byte by byte."""
    relay = Relay("openai", wants_usage=True)
    assert relay.feed(CALLING[: CALLING.index(b'{"id":"1","object":"x","choices":[],')]).startswith(
        CALLING[: CALLING.index(b'"finish_reason":"stop"')]
    )


def test_a_new_call_has_no_id_that_the_conversation_holds() -> None:
    """The next request would carry two calls under one id."""
    taken = CallIds().of("chatcmpl-tool-1")
    messages = [{"role": "tool", "tool_call_id": taken, "content": "x"}]
    (call, _) = through(CALLING, messages=messages)[-1]["choices"][0]["delta"]["tool_calls"]
    assert call["id"] != taken


def test_each_choice_has_its_own_calls() -> None:
    """Of two answers asked for at once, their pieces come mixed."""
    stream = b""
    for index in (0, 1):
        stream += chunk(
            choices=[
                {
                    "index": index,
                    "delta": {"tool_calls": [{"index": 0, **FIRST}]},
                    "finish_reason": None,
                }
            ]
        )
    for index in (0, 1):
        stream += chunk(choices=[{"index": index, "delta": {}, "finish_reason": "tool_calls"}])
    out = through(stream + b"data: [DONE]\n\n")
    assert [e["choices"][0]["index"] for e in out] == [0, 1]
    ids = [e["choices"][0]["delta"]["tool_calls"][0]["id"] for e in out]
    assert len(set(ids)) == 2


def test_text_beside_the_pieces_of_a_call_is_not_held_back() -> None:
    """A model may say what it is about to do."""
    said = {"content": "Let me look.", "tool_calls": [{"index": 0, **FIRST}]}
    stream = chunk(choices=[{"index": 0, "delta": said, "finish_reason": None}])
    (event,) = through(stream)
    assert event["choices"][0]["delta"] == {"content": "Let me look."}


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_thoughts_are_parts_for_mistrals_clients_and_a_field_for_openais(field: str) -> None:
    """While they come, each in the form its client shows them in."""
    stream = chunk(choices=[{"index": 0, "delta": {field: "hm"}, "finish_reason": None}])
    (event,) = through(stream)
    part = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    assert event["choices"][0]["delta"] == {"content": [part]}
    (event,) = through(stream, "openai")
    assert event["choices"][0]["delta"] == {"reasoning_content": "hm"}


@pytest.mark.parametrize(
    ("ended", "mistral", "openai"),
    [("abort", "error", "abort"), ("model_length", "model_length", "length")],
)
def test_how_a_stream_ended_is_said_in_the_clients_words(
    ended: str, mistral: str, openai: str
) -> None:
    """As in a whole answer; what is recorded is the engine's own word."""
    for dialect, word in (("mistral", mistral), ("openai", openai)):
        (event,) = through(chunk(**delta("", ended)), dialect)
        assert event["choices"][0]["finish_reason"] == word
    relay = Relay("mistral", wants_usage=True)
    relay.feed(chunk(**delta("", ended)))
    assert relay.finish == ended


@pytest.mark.parametrize("dialect", ["mistral", "openai"])
def test_a_chunk_of_text_is_never_decoded(dialect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand of them a second pass through one core; the model may write any word it likes."""

    def decode(_: bytes) -> object:
        pytest.fail("decoded")

    monkeypatch.setattr(msgspec.json, "decode", decode)
    text = chunk(**delta('"tool_calls" "reasoning": "logprobs":{ "usage":{'))
    assert Relay(dialect, wants_usage=True).feed(text) == text


PARTS = st.lists(
    st.sampled_from(
        [
            delta("Pa"),
            delta('"tool_calls"'),
            piece(0, **FIRST),
            piece(0, function={"arguments": "{}"}),
            {"choices": [{"index": 0, "delta": {"reasoning": "hm"}, "finish_reason": None}]},
        ]
    ),
    max_size=8,
)


@given(PARTS, st.lists(st.integers(0, 10_000), max_size=6))
def test_nothing_of_a_stream_is_lost_on_its_way_to_mistrals_client(
    parts: list[dict[str, Any]], cut: list[int]
) -> None:
    """Text, thoughts and arguments arrive whole, wherever the network cuts."""
    stream = b"".join(chunk(**part) for part in parts) + chunk(**delta("", "stop"))
    relay = Relay("mistral", wants_usage=True)
    edges = sorted({0, len(stream), *(c % len(stream) for c in cut)})
    out = events(b"".join(relay.feed(stream[a:b]) for a, b in pairwise(edges)) + relay.rest())
    wanted = [part["choices"][0]["delta"] for part in parts]
    said = [event["choices"][0]["delta"] for event in out]
    texts = [d["content"] for d in said if isinstance(d.get("content"), str)]
    assert "".join(texts) == "".join(d.get("content", "") for d in wanted)
    assert sum(isinstance(d.get("content"), list) for d in said) == sum(
        "reasoning" in d for d in wanted
    )
    pieces = [c["function"]["arguments"] for d in wanted for c in d.get("tool_calls", ())]
    made = [c["function"]["arguments"] for d in said for c in d.get("tool_calls", ())]
    assert "".join(made) == "".join(pieces)


@pytest.mark.parametrize("dialect", ["mistral", "openai"])
def test_a_colon_that_vllm_leaves_before_arguments_is_taken_away(dialect: str) -> None:
    """And no other: in the middle of an object it belongs there."""
    said = ['"a"', ":", '{"b":', "1}}"]
    stream = chunk(**piece(0, **{**FIRST, "function": {"name": "f"}}))
    stream += b"".join(chunk(**piece(0, function={"arguments": a})) for a in (":{", *said))
    stream += chunk(**piece(1, **{**SECOND, "function": {"name": "g", "arguments": ":{}"}}))
    stream += chunk(**delta("", "tool_calls"))
    arguments = {0: "", 1: ""}
    for event in through(stream, dialect):
        for call in event["choices"][0]["delta"].get("tool_calls", ()):
            arguments[call["index"]] += call["function"].get("arguments", "")
    assert arguments == {0: '{"a":{"b":1}}', 1: "{}"}


@pytest.mark.parametrize("dialect", ["mistral", "openai"])
@pytest.mark.parametrize("first", [{"role": "assistant", "content": ""}, {"content": " is"}])
def test_the_beginning_that_the_client_gave_comes_first_and_once(
    dialect: str, first: dict[str, Any]
) -> None:
    """In each of the answers that were asked for."""
    stream = b"".join(
        chunk(choices=[{"index": at, "delta": said, "finish_reason": finish}])
        for said, finish in (
            (first, None),
            ({"content": " wide"}, None),
            ({"content": "."}, "stop"),
        )
        for at in (0, 1)
    )
    texts = {0: "", 1: ""}
    for event in through(stream, dialect, begun="The sea", choices=2):
        (choice,) = event["choices"]
        texts[choice["index"]] += choice["delta"].get("content", "")
    assert texts == dict.fromkeys((0, 1), f"The sea{first['content']} wide.")


@pytest.mark.parametrize("dialect", ["mistral", "openai"])
def test_an_engine_that_does_not_count_its_calls_is_understood(dialect: str) -> None:
    """The place of a piece in its chunk is then the place of its call."""
    calls = [{"id": "a", "function": {"name": n, "arguments": "{}"}} for n in ("f", "g")]
    stream = chunk(choices=[{"delta": {"tool_calls": calls}, "finish_reason": None}])
    stream += chunk(choices=[{"delta": {}, "finish_reason": "tool_calls"}])
    made = [
        c for e in through(stream, dialect) for c in e["choices"][0]["delta"].get("tool_calls", ())
    ]
    assert [call["function"]["name"] for call in made] == ["f", "g"]
