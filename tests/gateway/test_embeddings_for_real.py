"""Vectors for real: three engines, a tiny model of Mistral's shape, the official clients."""

import base64
import struct
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from mistralai.client import Mistral

from sovereign.policy import Policy
from tests.engines.running import Running
from tests.gateway import site as sites
from tests.gateway.facts import with_capability
from tests.gateway.reachable import reachable
from tests.gateway.site import site
from tests.gateway.tiny import EVERY, TINY, at, started

TEXTS = ["a text", "another text, which is longer"]
HIDDEN = 128
"""Numbers in a vector of the tiny model."""


@pytest.fixture(scope="module")
def embedding(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """The shipped policy, and the fact that the tiny model makes vectors too."""
    return with_capability(tmp_path_factory.mktemp("policy"), TINY, "embeddings")


@pytest.fixture(scope="module", params=EVERY)
def tiny(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """One engine after the other, each started once, as one of vectors."""
    with started(request.param, tmp_path_factory.mktemp(request.param), embeds=True) as it:
        yield it


async def test_both_clients_get_the_same_vectors_and_they_are_metered(
    tmp_path: Path, tiny: Running, embedding: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenAI's asks for base64 on its own, Mistral's for numbers; they are the same ones."""
    monkeypatch.setattr(sites, "EEA", embedding)
    async with site(tmp_path) as ours, reachable(ours) as url:
        await at(ours, tiny)
        async with Mistral(api_key=ours.secret, server_url=url) as client:
            ours_ = await client.embeddings.create_async(model=TINY, inputs=TEXTS)
        async with openai.AsyncOpenAI(api_key=ours.secret, base_url=f"{url}/v1") as other:
            theirs = await other.embeddings.create(model=TINY, input=TEXTS)
            raw = await other.embeddings.create(
                model=TINY, input=TEXTS[0], encoding_format="base64"
            )
        endings = ours.kinds("completion")
    assert ours_.model == theirs.model == TINY
    assert [each.index for each in ours_.data] == [each.index for each in theirs.data] == [0, 1]
    for mine, other_ in zip(ours_.data, theirs.data, strict=True):
        assert mine.embedding is not None
        assert len(mine.embedding) == HIDDEN
        assert mine.embedding == pytest.approx(other_.embedding, abs=1e-5)
    coded = base64.b64decode(str(raw.data[0].embedding))
    numbers = struct.unpack(f"<{HIDDEN}f", coded)
    assert list(numbers) == pytest.approx(theirs.data[0].embedding, abs=1e-5)
    assert {ending["outcome"] for ending in endings} == {"answered"}
    assert endings[0]["tokens_in"] == ours_.usage.prompt_tokens
    assert int(endings[0]["tokens_in"]) > 4
    assert {ending["tokens_out"] for ending in endings} == {0}


def test_an_engine_of_vectors_is_known_to_be_able_to_answer(tiny: Running) -> None:
    """vLLM has no chats then, and would be quarantined for it."""
    assert tiny.engine.probe(tiny.spec.base_url, TINY, 60).ok
    assert tiny.engine.probe(tiny.spec.base_url, "another", 60).ok is False
