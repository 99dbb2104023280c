"""Whole answers put together out of streams: those of the real llama.cpp, and what may be in them.

That the two are the same is asked of llama.cpp itself: once for a whole answer, once for a stream.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign.engines import ENGINES, ChatContext, LaunchSpec, Upstream, gathered, texts
from sovereign.engines.gathered import EVENT_MAX_BYTES, Gathered
from sovereign.engines.llamacpp import packaged_model
from tests.engines.running import Running, free_port, question, running

CTX = ChatContext(served_name="smollm2-135m", dialect="mistral", tenant_salt="x")
ENGINE = ENGINES["llamacpp"]
NONSENSE = (ValueError, LookupError, TypeError, AttributeError)


@pytest.fixture(scope="module")
def smol(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    spec = LaunchSpec(
        found=ENGINE.find(),
        model=packaged_model(),
        served_name="smollm2-135m",
        host="127.0.0.1",
        port=free_port(),
        context=1024,
        state_dir=tmp_path_factory.mktemp("gathered"),
    )
    with running(ENGINE, spec, ready_within_s=60) as it:
        yield it


SCHEMA = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
FORM = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": SCHEMA}}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Oslo", "Rome"]}},
            "required": ["city"],
        },
    },
}
BEGUN = [
    {"role": "user", "content": "Write a line about the sea."},
    {"role": "assistant", "content": "The sea is", "prefix": True},
]
CHATS: dict[str, dict[str, Any]] = {
    "cut at its length": {"max_tokens": 8},
    "a stop word": {"max_tokens": 40, "stop": ["Paris"]},
    "several": {"max_tokens": 6, "n": 2, "temperature": 0.9},
    "log probabilities": {"max_tokens": 4, "logprobs": True, "top_logprobs": 2},
    "begun": {"max_tokens": 6, "messages": BEGUN},
    "a form": {"max_tokens": 60, "response_format": FORM},
    "tools": {"max_tokens": 80, "tools": [TOOL], "tool_choice": "any"},
    "no token": {"max_tokens": 1, "stop": ["The", "the", "Paris", "Capital", " "]},
    "not ASCII": {"max_tokens": 30, "messages": [{"role": "user", "content": "Repeat: 🦊 ü 漢字"}]},
}


def both(smol: Running, upstream: Upstream) -> tuple[Any, Any]:
    """What llama.cpp answers whole, and what is gathered of its stream, without what no two
    answers share: their names and times."""
    status, whole = smol.send(upstream.path, json.dumps(upstream.body))
    streamed = gathered.asked(upstream)
    other, raw = smol.send(streamed.path, json.dumps(streamed.body))
    assert (status, other) == (200, 200), (whole[:300], raw[:300])
    assert raw.startswith(b"data:")
    gathering = Gathered(upstream.answers)
    gathering.feed(raw)
    assert (gathering.done, gathering.failed) == (True, False)
    return _comparable(json.loads(whole)), _comparable(json.loads(gathering.whole()))


def _comparable(answer: dict[str, Any]) -> dict[str, Any]:
    left = ("id", "created", "timings")
    for choice in answer.get("choices", []):
        for call in choice["message"].get("tool_calls") or ():
            assert call.pop("id", "") is not None
    return {name: value for name, value in answer.items() if name not in left}


@pytest.mark.parametrize("case", CHATS)
def test_a_chat_gathered_is_the_chat_that_llamacpp_would_have_given(
    smol: Running, case: str
) -> None:
    """A client must not be able to tell how it was asked."""
    body = question("The capital of France is") | CHATS[case]
    whole, put_together = both(smol, ENGINE.chat(body, CTX))
    assert put_together == whole


@pytest.mark.parametrize("more", [{"max_tokens": 8}, {"max_tokens": 60, "stop": [","]}])
def test_a_text_gathered_says_what_is_read_of_a_whole_one(
    smol: Running, more: Mapping[str, Any]
) -> None:
    """The fields that `said.py` looks at; of others llama.cpp has dozens, of its own settings."""
    body = {"prompt": "One, two, three", "temperature": 0, **more}
    whole, put_together = both(smol, texts.llamacpp(body, CTX, body["prompt"]))
    for name in ("content", "stop", "stop_type", "tokens_evaluated", "tokens_predicted"):
        assert put_together[name] == whole[name], name


def test_what_llamacpp_refuses_it_refuses_before_a_stream_begins(smol: Running) -> None:
    """So that its status can be the client's."""
    refused = ENGINE.chat(question("x " * 3000), CTX)
    for upstream in (refused, gathered.asked(refused)):
        status, raw = smol.send(upstream.path, json.dumps(upstream.body))
        assert status == 400
        assert "error" in json.loads(raw)


# --- any pieces, any nonsense --------------------------------------------------------------------


def event(content: object) -> bytes:
    return (
        b"data: "
        + (content if isinstance(content, bytes) else msgspec.json.encode(content))
        + b"\n\n"
    )


def piece(at: int, finish: str | None = None, **delta: object) -> dict[str, object]:
    return {
        "id": "c",
        "object": "chat.completion.chunk",
        "choices": [{"index": at, "delta": delta, "finish_reason": finish}],
    }


def call(at: int, **more: object) -> list[dict[str, object]]:
    return [{"index": at, **more}]


def named(name: str, arguments: str) -> dict[str, str]:
    return {"name": name, "arguments": arguments}


STREAM = b"".join(
    map(
        event,
        [
            piece(0, role="assistant", content=None),
            piece(1, role="assistant", content="ü"),
            piece(0, tool_calls=call(0, id="a", type="function", function=named("f", ""))),
            piece(0, tool_calls=call(0, function={"arguments": '{"x"'})),
            piece(0, tool_calls=call(1, id="b", type="function", function=named("g", "{}"))),
            piece(0, tool_calls=call(0, function={"arguments": ":1}"})),
            piece(1, content=" 漢"),
            piece(1, "stop"),
            piece(0, "tool_calls"),
            {"id": "c", "choices": [], "usage": {"completion_tokens": 9}},
            b"[DONE]",
        ],
    )
)  # fmt: skip


def gather(raw: bytes) -> bytes:
    gathering = Gathered("chat")
    gathering.feed(raw)
    assert not gathering.done
    return gathering.whole()


@given(places=st.lists(st.integers(0, len(STREAM)), max_size=40))
def test_it_is_the_same_however_the_stream_is_cut(places: list[int]) -> None:
    """Also in the middle of a letter, and between two calls that are written in turns."""
    edges, gathering = sorted({0, len(STREAM), *places}), Gathered("chat")
    for begin, end in pairwise(edges):
        gathering.feed(STREAM[begin:end])
    answer = json.loads(gathering.whole())
    assert (answer["id"], answer["object"]) == ("c", "chat.completion")
    assert answer["usage"] == {"completion_tokens": 9}
    first, second = answer["choices"]
    assert first["message"] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
        ],
    }
    assert (first["finish_reason"], second["finish_reason"]) == ("tool_calls", "stop")
    assert second["message"] == {"role": "assistant", "content": "ü 漢"}


@given(end=st.integers(0, STREAM.index(b"[DONE]") + 5))
def test_half_a_stream_is_never_an_answer(end: int) -> None:
    """An engine that dies in it must not be taken at its word."""
    with pytest.raises(NONSENSE):
        gather(STREAM[:end])


@pytest.mark.parametrize(
    "said",
    [b"data: {", b"data: []", b'data: {"choices":[{}]}', b'data: {"choices":3}', b"data: \xff"],
)
def test_what_is_no_stream_is_nonsense(said: bytes) -> None:
    """The caller makes one answer of all of it: the engine has failed."""
    gathering = Gathered("chat")
    with pytest.raises(NONSENSE):
        gathering.feed(said + b"\n\n")


def test_an_event_has_a_bound() -> None:
    """Memory is the bound, not the engine's patience."""
    gathering = Gathered("infill")
    for _ in range(EVENT_MAX_BYTES // 65_536):
        gathering.feed(b"x" * 65_536)
    with pytest.raises(ValueError, match="too large"):
        gathering.feed(b"x")


@pytest.mark.parametrize("said", [b'data: {"error":{"code":500}}', b'error: {"code":500}'])
def test_an_error_within_a_stream_is_noticed(said: bytes) -> None:
    """It comes when the status is out already."""
    gathering = Gathered("chat")
    gathering.feed(event(piece(0, content="x")) + said + b"\n\n")
    assert gathering.failed


def test_vectors_are_asked_for_as_they_are() -> None:
    """There is no stream of them."""
    upstream = ENGINE.embed({"model": "m", "input": ["x"]}, CTX)
    assert gathered.asked(upstream) is upstream
