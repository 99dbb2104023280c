"""Fill in the middle for real: three engines, a tiny model of Mistral's shape, official clients.

The model has learned nothing, so that what it says is noise; but noise drawn from one seed at no
temperature is the same noise whenever the same tokens went in, and that is what is compared.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from mistralai.client import Mistral
from mistralai.client.errors import SDKError

from sovereign.engines import fillers
from tests.engines.running import CANARY, Running
from tests.gateway.reachable import reachable
from tests.gateway.site import site
from tests.gateway.tiny import CONTEXT, EVERY, TINY, at, started
from tests.simulated.engine import MODEL

PROMPT, SUFFIX = "def f(", "return a + b"
GOLDEN = [1, 13, 1575, 1032, 1416, 1055, 11, 1569, 1053, 29500]
ASKED: dict[str, Any] = {"model": TINY, "temperature": 0, "max_tokens": 8}


@pytest.fixture(scope="module", params=EVERY)
def tiny(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """One engine after the other, each started once."""
    with started(request.param, tmp_path_factory.mktemp(request.param)) as it:
        yield it


def counted(usage: Any) -> tuple[int, int]:
    return usage.prompt_tokens, usage.completion_tokens


async def test_mistrals_client_fills_in_and_streams_the_same(tmp_path: Path, tiny: Running) -> None:
    """The whole promise: `client.fim` against one's own engine, unchanged."""
    async with site(tmp_path) as ours, reachable(ours) as url:
        await at(ours, tiny)
        async with Mistral(api_key=ours.secret, server_url=url) as client:
            whole = await client.fim.complete_async(prompt=PROMPT, suffix=SUFFIX, **ASKED)
            stream = await client.fim.stream_async(prompt=PROMPT, suffix=SUFFIX, **ASKED)
            chunks = [event.data async for event in stream]
        assert whole.choices is not None
        (choice,) = whole.choices
        assert choice.message is not None
        assert choice.message.content
        assert (whole.object, whole.model, choice.finish_reason) == (
            "chat.completion",
            TINY,
            "length",
        )
        text = "".join(str(chunk.choices[0].delta.content or "") for chunk in chunks)
        assert text == choice.message.content
        assert counted(chunks[-1].usage) == counted(whole.usage) == (len(GOLDEN), 8)
        assert chunks[-1].choices[0].finish_reason == "length"
        endings = ours.kinds("completion")
        assert [(e["tokens_in"], e["tokens_out"]) for e in endings] == [(len(GOLDEN), 8)] * 2
        assert {d["call"] for d in ours.kinds("decision")} == {"fim"}


async def test_what_reaches_the_engine_are_the_golden_ids(tmp_path: Path, tiny: Running) -> None:
    """The same ids, given to the engine by hand, draw the same noise; other ids draw another.
    Ollama takes none: what it makes of the text differs in the one token its adapter names."""
    by_hand = {
        "vllm": ("/v1/completions", "max_tokens"),
        "llamacpp": ("/completion", "n_predict"),
    }
    async with site(tmp_path) as ours, reachable(ours) as url:
        await at(ours, tiny)
        async with Mistral(api_key=ours.secret, server_url=url) as client:
            said = await client.fim.complete_async(prompt=PROMPT, suffix=SUFFIX, **ASKED)
    assert said.choices is not None
    assert said.choices[0].message is not None
    if tiny.engine.name == "ollama":
        asked: dict[str, Any] = {"prompt": PROMPT, "suffix": SUFFIX, "stream": False}
        one = {"model": TINY, "options": {"num_predict": 1}, **asked}
        _, raw = tiny.send("/api/generate", json.dumps(one))
        assert json.loads(raw)["context"][:9] == [GOLDEN[1], 1372, *GOLDEN[3:]]
        return
    path, tokens = by_hand[tiny.engine.name]

    def drawn(ids: list[int]) -> str:
        body = {"model": TINY, "prompt": ids, "temperature": 0, tokens: 8}
        status, raw = tiny.send(path, json.dumps(body))
        assert status == 200
        answer = json.loads(raw)
        return str(answer["content"] if "content" in answer else answer["choices"][0]["text"])

    assert drawn(GOLDEN) == said.choices[0].message.content
    assert drawn([*GOLDEN[:-1], 1055]) != said.choices[0].message.content


async def test_markers_in_the_code_stay_text_or_are_refused(tmp_path: Path, tiny: Running) -> None:
    """Counted by the engine itself: as text they are several tokens, as markers one."""
    async with site(tmp_path) as ours, reachable(ours) as url:
        await at(ours, tiny)
        async with Mistral(api_key=ours.secret, server_url=url) as client:
            asked = client.fim.complete_async(prompt="a[PREFIX]b", suffix="c[SUFFIX]d", **ASKED)
            if tiny.engine.name == "ollama":
                with pytest.raises(SDKError) as refused:
                    await asked
                assert json.loads(refused.value.body)["code"] == "fim-not-possible"
                return
            said = await asked
        assert said.usage is not None
        ids = fillers.encoded("v3-spm", "a[PREFIX]b", "c[SUFFIX]d")
        assert said.usage.prompt_tokens == len(ids)


async def test_without_a_suffix_it_goes_on_from_the_code(tmp_path: Path, tiny: Running) -> None:
    """No chat template gets in: the engine counts what stands before the cursor, and markers."""
    async with site(tmp_path) as ours, reachable(ours) as url:
        await at(ours, tiny)
        async with Mistral(api_key=ours.secret, server_url=url) as client:
            said = await client.fim.complete_async(prompt=PROMPT, random_seed=3, **ASKED)
        assert said.usage is not None
        markers = 1 if tiny.engine.name == "ollama" else 3  # BOS, and two where ids are taken
        assert said.usage.prompt_tokens == markers + 3


async def test_a_model_without_it_gives_mistrals_client_error_3051(
    tmp_path: Path, tiny: Running
) -> None:
    """Editors look for the code; nothing reaches the engine."""
    async with site(tmp_path) as ours, reachable(ours) as url:
        await at(ours, tiny)
        async with Mistral(api_key=ours.secret, server_url=url) as client:
            with pytest.raises(SDKError) as refused:
                await client.fim.complete_async(model=MODEL, prompt=PROMPT)
    assert refused.value.status_code == 400
    assert json.loads(refused.value.body)["code"] == "3051"


async def test_openais_client_goes_on_from_a_text_and_fills_in(
    tmp_path: Path, tiny: Running
) -> None:
    """`/v1/completions`, whole and streamed, with a suffix and without."""
    async with site(tmp_path) as ours, reachable(ours) as url:
        await at(ours, tiny)
        async with openai.AsyncOpenAI(api_key=ours.secret, base_url=f"{url}/v1") as client:
            asked: dict[str, Any] = {"model": TINY, "prompt": PROMPT, "temperature": 0, "seed": 3}
            filled = await client.completions.create(suffix=SUFFIX, max_tokens=8, **asked)
            whole = await client.completions.create(**asked)
            stream = await client.completions.create(
                stream=True, stream_options={"include_usage": True}, **asked
            )
            chunks = [chunk async for chunk in stream]
        assert filled.usage is not None
        assert filled.usage.prompt_tokens == len(GOLDEN)
        assert (whole.object, whole.choices[0].finish_reason) == ("text_completion", "length")
        assert counted(whole.usage) == counted(chunks[-1].usage) == (4, 16)
        assert "".join(c.choices[0].text for c in chunks if c.choices) == whole.choices[0].text


async def test_without_a_bound_of_the_clients_ours_holds(tmp_path: Path, tiny: Running) -> None:
    """Left to itself vLLM stops after 16 tokens. The others go on; what bounds them is compared
    with the rest of what they are told, and not waited for here."""
    if tiny.engine.name != "vllm":
        return
    async with site(tmp_path) as ours, reachable(ours) as url:
        await at(ours, tiny)
        async with Mistral(api_key=ours.secret, server_url=url) as client:
            said = await client.fim.complete_async(model=TINY, prompt=PROMPT, temperature=0)
        assert said.usage is not None
        assert said.choices is not None
        if said.choices[0].finish_reason == "length":
            assert CONTEXT - 16 <= int(said.usage.total_tokens or 0) <= CONTEXT + 1
        assert int(said.usage.completion_tokens or 0) > 16


async def test_a_stop_and_an_unheeded_field_are_said(tmp_path: Path, tiny: Running) -> None:
    """What ends an answer is told apart, and what an engine cannot do is named in a header."""
    async with site(tmp_path) as ours:
        await at(ours, tiny)
        body = {"prompt": PROMPT, "suffix": SUFFIX, "min_tokens": 1, **ASKED}
        key = {"authorization": f"Bearer {ours.secret}"}
        first = await ours.ask("POST", "/v1/fim/completions", key, [json.dumps(body).encode()])
        assert first.status == 200
        dropped = first.headers.get("x-sovereign-dropped", "")
        assert dropped == ("" if tiny.engine.name == "vllm" else "min_tokens")
        text = first.json["choices"][0]["message"]["content"]
        raw = json.dumps({**body, "stop": text[-4:-1], "stream": True}).encode()
        second = await ours.ask("POST", "/v1/fim/completions", key, [raw])
        assert json.loads(second.events[-2])["choices"][0]["finish_reason"] == "stop"
        assert ours.kinds("completion")[-1]["finish"] == "stop"


async def test_nothing_of_anybodys_code_is_printed_by_the_engine(
    tmp_path: Path, tiny: Running
) -> None:
    """Answered, refused, too long or broken off: its output is a file on a disk."""
    bodies: list[dict[str, Any]] = [
        {"prompt": CANARY, "suffix": CANARY, "stop": [CANARY]},
        {"prompt": CANARY, "suffix": CANARY, "stream": True},
        {"prompt": f"{CANARY} " * 2000, "suffix": CANARY},
        {"prompt": CANARY, "top_p": 7.5, "stop": [CANARY]},
        {"prompt": "", "suffix": CANARY},
    ]
    if tiny.engine.name == "vllm":
        bodies.append({"prompt": CANARY, "max_tokens": 9_999_999})  # it refuses; others go on
    async with site(tmp_path) as ours:
        await at(ours, tiny)
        key = {"authorization": f"Bearer {ours.secret}"}
        for body in bodies:
            for route in ("/v1/fim/completions", "/v1/completions"):
                raw = json.dumps({**ASKED, **body}).encode()
                reply = await ours.ask("POST", route, key, [raw])
                assert reply.status != 500
        assert CANARY not in str(ours.records())
    assert CANARY not in tiny.printed()
