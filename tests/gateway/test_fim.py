"""Fill in the middle and text completions through the gateway, whichever way the engine speaks."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign.engines.contract import Answers, Dialect
from sovereign.gateway.kinds.fim import ENCODED_AT_ONCE_CHARS, TOKENS_BY_DEFAULT
from sovereign.gateway.kinds.kind import Kind
from sovereign.gateway.kinds.onetext import AsMessage, AsText, Named, TextRelay
from sovereign.gateway.kinds.table import KINDS
from sovereign.gateway.refusal import Denied
from tests.gateway.site import OPENAI, Reply, Site, site
from tests.simulated.engine import MODEL, Exchange, Script, engine

FIM = "/v1/fim/completions"
COMPLETIONS = "/v1/completions"
TINY = "tiny-mixtral"
IDS = [1, 13, 1575, 1032, 1416, 1055, 11, 1569, 1053, 29500]
USED = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}


async def ask(ours: Site, route: str, **more: Any) -> Reply:
    """A fill in the middle of the tiny model, or what `more` makes of it."""
    headers, secret = more.pop("headers", {}), more.pop("secret", ours.secret)
    body = {"model": TINY, "prompt": "def f(", "suffix": "return a + b", **more}
    asked = {"authorization": f"Bearer {secret}", **headers}
    raw = msgspec.json.encode({name: value for name, value in body.items() if value is not ...})
    return await ours.ask("POST", route, asked, [raw])


def at(ours: Site, address: str, name: str) -> None:
    ours.endpoint(address, engine=name, models=(TINY, MODEL))


def vllm(stream: bool) -> list[bytes]:
    """As the real one was seen to answer: events, usage in one without choices, an end marker."""

    def event(text: str, finish: str | None = None, **more: object) -> bytes:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
        body = {"id": "cmpl-1", "object": "text_completion", "choices": [choice], **more}
        return msgspec.json.encode(body)

    if not stream:
        return [event("a, b):", "stop", usage=USED)]
    parts = [event("a, "), event("b):"), event("", "stop"), event("", choices=[], usage=USED)]
    return [b"data: " + part + b"\n\n" for part in [*parts, b"[DONE]"]]


def llamacpp(stream: bool) -> list[bytes]:
    """Events without an end marker: the last one says that it is."""
    end = {"stop": True, "stop_type": "word", "tokens_evaluated": 10, "tokens_predicted": 4}
    if not stream:
        return [msgspec.json.encode({"content": "a, b):", **end})]
    parts = [{"content": "a, ", "stop": False}, {"content": "b):", "stop": False}]
    return [b"data: " + msgspec.json.encode(e) + b"\n\n" for e in (*parts, {"content": "", **end})]


def ollama(stream: bool) -> list[bytes]:
    """Lines of JSON, and no events at all."""
    end = {"done": True, "done_reason": "stop", "prompt_eval_count": 10, "eval_count": 4}
    if not stream:
        return [msgspec.json.encode({"response": "a, b):", **end})]
    parts = [{"response": "a, ", "done": False}, {"response": "b):", "done": False}]
    return [msgspec.json.encode(e) + b"\n" for e in (*parts, {"response": "", **end})]


SPEAKING: dict[str, Callable[[bool], list[bytes]]] = {
    "vllm": vllm,
    "llamacpp": llamacpp,
    "ollama": ollama,
}
ENGINES = pytest.mark.parametrize("name", SPEAKING)


def kind(stream: bool, name: str = "") -> str:
    lines = "application/x-ndjson" if name == "ollama" else "text/event-stream"
    return lines if stream else "application/json"


def bound(name: str, asked: Exchange) -> int:
    """How many tokens the engine was told to make at most."""
    told = asked.body | asked.body.get("options", {})
    names = {"vllm": "max_tokens", "llamacpp": "n_predict", "ollama": "num_predict"}
    return int(told[names[name]])


def script(name: str) -> Script:
    async def answer(exchange: Exchange) -> None:
        stream = exchange.body["stream"]
        parts = SPEAKING[name](stream)
        if not stream:
            await exchange.answer(b"".join(parts))
            return
        await exchange.head(kind=kind(stream, name))
        for part in parts:
            await exchange.say(part)

    return answer


@ENGINES
async def test_a_fill_in_the_middle_is_answered_as_mistral_answers_it(
    tmp_path: Path, name: str
) -> None:
    """A message, not a text: Mistral's clients parse nothing else. Its record says what it was."""
    async with engine(script(name)) as it, site(tmp_path, it.address) as ours:
        at(ours, it.address, name)
        await ours.seen()
        reply = await ask(ours, FIM, random_seed=3, max_tokens=8)
        assert reply.status == 200
        said = reply.json
        assert len(said.pop("id")) == 32
        assert said.pop("created") > 1_700_000_000
        message = {"role": "assistant", "content": "a, b):", "tool_calls": None, "prefix": False}
        assert said == {
            "object": "chat.completion",
            "model": TINY,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": USED,
        }
        decision, ending = ours.kinds("decision", "completion")
        assert (decision["call"], decision["model"], decision["verdict"]) == ("fim", TINY, "allow")
        assert (ending["outcome"], ending["finish"]) == ("answered", "stop")
        assert (ending["tokens_in"], ending["tokens_out"]) == (10, 4)
        assert reply.headers["x-sovereign-record"].startswith("local/gateway/event#")


@ENGINES
async def test_a_streamed_one_ends_with_its_usage_on_the_chunk_that_finishes(
    tmp_path: Path, name: str
) -> None:
    """In Mistral's form, whatever the engine's was; the end marker only after the record."""
    async with engine(script(name)) as it, site(tmp_path, it.address) as ours:
        at(ours, it.address, name)
        await ours.seen()
        reply = await ask(ours, FIM, stream=True)
        assert reply.status == 200
        assert reply.headers["content-type"] == "text/event-stream"
        *events, end = reply.events
        assert end == "[DONE]"
        chunks = [msgspec.json.decode(event) for event in events]
        assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
        assert len({chunk["id"] for chunk in chunks}) == 1
        (first, *_, last) = (chunk["choices"][0] for chunk in chunks)
        assert first["delta"] == {"role": "assistant", "content": ""}
        assert "".join(c["choices"][0]["delta"]["content"] for c in chunks) == "a, b):"
        assert last["finish_reason"] == "stop"
        assert [chunk.get("usage") for chunk in chunks] == [None] * (len(chunks) - 1) + [USED]
        (ending,) = ours.kinds("completion")
        assert (ending["tokens_in"], ending["tokens_out"], ending["finish"]) == (10, 4, "stop")
        assert bound(name, it.asked[0]) == TOKENS_BY_DEFAULT
        before = [r["type"] for r in reply.moments[-2].on_disk]
        assert "completion" not in before


async def test_vllm_gets_the_golden_ids_and_nothing_else_of_the_client(tmp_path: Path) -> None:
    """Markers as ids, code as the ids of its text: known answers, at the engine's own door."""
    async with engine(script("vllm")) as it, site(tmp_path, it.address) as ours:
        at(ours, it.address, "vllm")
        await ours.seen()
        assert (await ask(ours, FIM, metadata={"who": "CANARY"})).status == 200
        (asked,) = it.asked
        assert asked.path == "/v1/completions"
        assert asked.body["prompt"] == IDS
        assert asked.body["max_tokens"] == TOKENS_BY_DEFAULT
        assert len(asked.body["cache_salt"]) == 64
        assert b"CANARY" not in asked.raw
        assert b"return" not in asked.raw


async def test_a_long_text_is_encoded_beside_the_loop_with_the_same_ids(tmp_path: Path) -> None:
    """A file of a megabyte must not keep every other answer waiting while it is encoded."""
    async with engine(script("vllm")) as it, site(tmp_path, it.address) as ours:
        at(ours, it.address, "vllm")
        await ours.seen()
        line = "def f(x): return x\n"
        short = line * (ENCODED_AT_ONCE_CHARS // len(line))
        for text in (short, short + line * 2):
            assert (await ask(ours, FIM, prompt=text, suffix=...)).status == 200
        few, many = (asked.body["prompt"] for asked in it.asked)
        assert few[:3] == many[:3] == [1, 13, 11]
        assert many[: len(few)] == few
        assert len(many) > len(few)


async def test_a_model_that_cannot_fill_in_is_refused_as_mistral_refuses_it(
    tmp_path: Path,
) -> None:
    """Error 3051, word for word; editors look for it. OpenAI's clients get our own word."""
    async with engine(script("llamacpp")) as it, site(tmp_path, it.address) as ours:
        reply = await ask(ours, FIM, model=MODEL)
        assert reply.status == 400
        assert reply.json == {
            "object": "error",
            "message": "FIM is not enabled for this model",
            "type": "invalid_request_invalid_args",
            "param": None,
            "code": "3051",
        }
        (decision,) = ours.kinds("decision")
        assert decision["verdict"] == "refuse"
        assert decision["rule"] == "fim-not-enabled"
        assert (decision["call"], decision["model"]) == ("fim", MODEL)
        index = ours.records().index(decision) + 1  # the log's first entry is in its tiles
        assert reply.headers["x-sovereign-record"].endswith(f"#{index}")
        other = await ask(ours, COMPLETIONS, model=MODEL, headers=OPENAI)
        assert (other.status, other.error["code"]) == (400, "fim-not-enabled")
        assert it.asked == []


UNREADABLE: dict[str, tuple[dict[str, Any], int, str, str]] = {
    "an unknown field": ({"seed": 1}, 422, "field-unknown", "seed"),
    "messages": ({"messages": []}, 422, "field-unknown", "messages"),
    "no prompt": ({"prompt": ...}, 422, "field-invalid", "prompt"),
    "no model": ({"model": ...}, 422, "field-invalid", "model"),
    "a model of no name": ({"model": ""}, 422, "field-invalid", "model"),
    "a list of prompts": ({"prompt": ["x"]}, 422, "field-invalid", "prompt"),
    "a suffix of ids": ({"suffix": [1]}, 422, "field-invalid", "suffix"),
    "tokens below none": ({"max_tokens": -1}, 422, "field-invalid", "max_tokens"),
    "a hot temperature": ({"temperature": "hot"}, 422, "field-invalid", "temperature"),
    "a stop of ids": ({"stop": [1]}, 422, "field-invalid", "stop"),
    "many stops": ({"stop": ["x"] * 65}, 422, "field-invalid", "stop"),
    "a stream of words": ({"stream": "yes"}, 422, "field-invalid", "stream"),
}


@pytest.mark.parametrize("case", UNREADABLE)
async def test_what_is_not_one_of_mistrals_fields_is_refused_in_its_words(
    tmp_path: Path, case: str
) -> None:
    """Before anything is decided, with the field's name and nothing else of the client's."""
    more, status, code, param = UNREADABLE[case]
    async with site(tmp_path) as ours:
        reply = await ask(ours, FIM, **more)
        assert (reply.status, reply.error["code"], reply.error["param"]) == (status, code, param)
        assert reply.json["detail"][0]["loc"] == ["body", param]
        assert ours.kinds("decision") == []


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'"x"', b"null", b"\xff", b"[" * 9000])
@pytest.mark.parametrize("route", [FIM, COMPLETIONS, "/v1/embeddings"])
async def test_what_is_no_object_is_refused_on_every_route(
    tmp_path: Path, route: str, raw: bytes
) -> None:
    """None of it is an error of ours."""
    async with site(tmp_path) as ours:
        key = {"authorization": f"Bearer {ours.secret}"}
        reply = await ours.ask("POST", route, key, [raw])
        assert (reply.status, reply.error["code"]) == (400, "body-unreadable")


async def test_a_subject_comes_from_where_its_key_says(tmp_path: Path) -> None:
    """A fill in the middle is about somebody's code, and is found again when they ask."""
    async with engine(script("llamacpp")) as it, site(tmp_path, it.address) as ours:
        at(ours, it.address, "llamacpp")
        secret = ours.key(subject="metadata")
        await ours.seen()
        assert (await ask(ours, FIM, secret=secret, metadata={"subject": "ann"})).status == 200
        assert "subject" in ours.kinds("decision")[0]
        reply = await ask(ours, FIM, secret=secret)
        assert (reply.status, reply.error["code"]) == (403, "subject-missing")


BROKEN: dict[str, list[bytes]] = {
    "cut off": [b'data: {"content":"a","stop":false}\n\n'],
    "an error": [b'data: {"content":"a","stop":false}\n\n', b'data: {"error":{"code":500}}\n\n'],
    "an end without one": [b'data: {"content":"a","stop":false}\n\n', b"data: [DONE]\n\n"],
    "no JSON": [b"data: CANARY\n\n"],
    "no object": [b"data: [1]\n\n"],
    "of another engine": [b'data: {"response":"a","done":true}\n\n'],
    "nothing": [],
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_an_answer_that_goes_wrong_is_never_taken_for_one(
    tmp_path: Path, case: str, stream: bool
) -> None:
    """An editor would paste half a line and call it done."""

    async def broken(exchange: Exchange) -> None:
        await exchange.head(kind=kind(stream))
        for part in BROKEN[case]:
            await exchange.say(part)

    async with engine(broken) as it, site(tmp_path, it.address) as ours:
        at(ours, it.address, "llamacpp")
        await ours.seen()
        reply = await ask(ours, FIM, stream=stream)
        assert b"[DONE]" not in reply.body
        assert b"CANARY" not in reply.body
        if stream:
            assert '"code":"engine-failed"' in reply.events[-1]
        else:
            assert (reply.status, reply.error["code"]) == (502, "engine-failed")
        (ending,) = ours.kinds("completion")
        assert ending["outcome"] == "engine-failed"


@ENGINES
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_openais_completions_are_texts_and_a_suffix_fills_in(
    tmp_path: Path, name: str, stream: bool
) -> None:
    """The same way to the engine as Mistral's route, and OpenAI's form on the way back."""
    async with engine(script(name)) as it, site(tmp_path, it.address) as ours:
        at(ours, it.address, name)
        await ours.seen()
        more: dict[str, Any] = {"stream_options": {"include_usage": True}} if stream else {}
        reply = await ask(ours, COMPLETIONS, headers=OPENAI, stream=stream, **more)
        assert reply.status == 200
        if stream:
            *events, end = reply.events
            *chunks, counted = [msgspec.json.decode(event) for event in events]
            assert end == "[DONE]"
            assert (counted["choices"], counted["usage"]) == ([], USED)
        else:
            chunks = [reply.json]
            assert reply.json["usage"] == USED
        assert {chunk["object"] for chunk in chunks} == {"text_completion"}
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "a, b):"
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
        assert ours.kinds("decision")[0]["call"] == "completion"
        assert ("suffix" in it.asked[0].body) == (name == "ollama")


@ENGINES
async def test_a_text_without_a_suffix_goes_as_the_text_it_is(tmp_path: Path, name: str) -> None:
    """No template, no markers; sixteen tokens where the client does not say, as at OpenAI."""
    async with engine(script(name)) as it, site(tmp_path, it.address) as ours:
        at(ours, it.address, name)
        await ours.seen()
        for prompt in ("Once upon", ["Once upon"]):
            reply = await ask(
                ours, COMPLETIONS, headers=OPENAI, prompt=prompt, suffix=..., model=MODEL
            )
            assert reply.status == 200
        for asked in it.asked:
            assert asked.body["prompt"] == "Once upon"
            assert asked.body.get("raw", True) is True
            assert bound(name, asked) == 16


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 2}, "n"),
        ({"best_of": 2}, "best_of"),
        ({"echo": True}, "echo"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"stream_options": {"odd": 1}}, "odd"),
    ],
)
async def test_what_openai_offers_and_we_do_not_is_refused_by_name(
    tmp_path: Path, more: dict[str, Any], param: str
) -> None:
    """Half of what was asked for, without a word, would be worse."""
    async with site(tmp_path) as ours:
        reply = await ask(ours, COMPLETIONS, headers=OPENAI, **more)
        assert (reply.status, reply.error["param"]) == (422, param)


async def test_openais_own_route_refuses_in_openais_envelope_whoever_asks(tmp_path: Path) -> None:
    """A script without a name parses what the route is known for."""
    async with site(tmp_path) as ours:
        reply = await ask(ours, COMPLETIONS, n=2)
        assert set(reply.json) == {"error"}
        other = await ask(ours, FIM, n=2)
        assert other.json["object"] == "error"


async def test_a_stream_of_usage_is_only_for_those_who_asked(tmp_path: Path) -> None:
    """OpenAI's clients index `choices[0]` of every chunk unless they asked for one without."""
    async with engine(script("vllm")) as it, site(tmp_path, it.address) as ours:
        at(ours, it.address, "vllm")
        await ours.seen()
        reply = await ask(ours, COMPLETIONS, headers=OPENAI, stream=True)
        chunks = [msgspec.json.decode(event) for event in reply.events[:-1]]
        assert all(chunk["choices"] for chunk in chunks)
        assert not any("usage" in chunk for chunk in chunks)


async def test_calls_of_all_kinds_share_the_slots_there_are(tmp_path: Path) -> None:
    """A bound on chats alone would be none."""
    free = asyncio.Event()

    async def waiting(exchange: Exchange) -> None:
        await free.wait()
        await script("llamacpp")(exchange)

    async with (
        engine(waiting) as it,
        site(tmp_path, it.address, concurrency_max=1) as ours,
    ):
        at(ours, it.address, "llamacpp")
        await ours.seen()
        first = asyncio.create_task(ask(ours, FIM))
        await it.was_asked()
        for route in (FIM, COMPLETIONS, "/v1/embeddings"):
            assert (await ask(ours, route)).error["code"] == "too-many-requests"
        free.set()
        assert (await first).status == 200


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=9,
)
FIELDS = st.sampled_from(["model", "prompt", "suffix", "input", "stop", "stream", "stream_options"])


@given(
    raw=st.binary(max_size=60) | st.dictionaries(FIELDS, VALUES).map(msgspec.json.encode),
    dialect=st.sampled_from(["mistral", "openai"]),
)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_no_bytes_at_all_can_do_more_than_be_refused(
    kind: Kind, raw: bytes, dialect: Dialect
) -> None:
    """Whoever has a key may send anything; a refusal repeats nothing but the name of a field."""
    with suppress(Denied):
        wish = kind.read(raw, dialect)
        assert wish.model
        assert kind.needs(wish) in ("", "fim", "embeddings")


NAMED = Named("0" * 32, 1, TINY)
ANSWERS: dict[str, Answers] = {"vllm": "texts", "llamacpp": "infill", "ollama": "generate"}


@given(data=st.data())
@pytest.mark.parametrize("name", SPEAKING)
@pytest.mark.parametrize("form", [AsMessage, AsText])
def test_it_does_not_matter_where_the_network_cuts_the_stream(
    name: str, form: type[AsMessage | AsText], data: st.DataObject
) -> None:
    """Packets end anywhere, in the middle of a letter too."""
    stream = b"".join(SPEAKING[name](True))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))

    def relayed(parts: list[bytes]) -> bytes:
        relay = TextRelay(ANSWERS[name], form(), NAMED, wants_usage=True)
        out = b"".join(relay.feed(part) for part in parts)
        assert relay.done
        return out + relay.rest()

    edges = [0, *cuts, len(stream)]
    parts = [stream[a:b] for a, b in pairwise(edges)]
    assert relayed(parts) == relayed([stream])
