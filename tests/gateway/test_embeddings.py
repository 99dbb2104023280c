"""Embeddings through the gateway: both dialects, both encodings, and models that have none."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from sovereign.gateway.kinds.embeddings import TEXTS_MAX
from sovereign.policy import Policy
from tests.gateway import site as sites
from tests.gateway.facts import with_capability
from tests.gateway.site import OPENAI, Reply, Site, site
from tests.simulated.engine import MODEL, engine, saying

ROUTE = "/v1/embeddings"
FLOATS = {
    "object": "list",
    "model": "what the engine calls it",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -1.5e-05]}],
    "usage": {"prompt_tokens": 5, "total_tokens": 5},
}


@pytest.fixture(scope="module")
def embedding(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """The shipped policy, and the fact that the default model makes vectors too."""
    return with_capability(tmp_path_factory.mktemp("policy"), MODEL, "embeddings")


async def ask(ours: Site, **more: Any) -> Reply:
    headers, secret = more.pop("headers", {}), more.pop("secret", ours.secret)
    body = {"model": MODEL, "input": "a text", **more}
    asked = {"authorization": f"Bearer {secret}", **headers}
    return await ours.ask("POST", ROUTE, asked, [msgspec.json.encode(body)])


@pytest.mark.parametrize("headers", [{}, OPENAI], ids=["mistral", "openai"])
async def test_vectors_pass_as_the_engine_wrote_them_and_are_metered(
    tmp_path: Path,
    embedding: Policy,
    monkeypatch: pytest.MonkeyPatch,
    headers: dict[str, str],
) -> None:
    """A number rewritten is a number changed; what is around them is in both dialects' form."""
    monkeypatch.setattr(sites, "EEA", embedding)
    async with engine(saying(FLOATS)) as it, site(tmp_path, it.address) as ours:
        reply = await ask(ours, headers=headers)
        assert reply.status == 200
        assert b'"embedding": [0.25, -1.5e-05]' in reply.body
        said = reply.json
        assert len(said.pop("id")) == 32
        assert said == {**FLOATS, "model": MODEL}
        decision, ending = ours.kinds("decision", "completion")
        assert (decision["call"], decision["verdict"]) == ("embed", "allow")
        assert (ending["tokens_in"], ending["tokens_out"], ending["finish"]) == (5, 0, "none")
        assert it.asked[0].path == ROUTE
        assert it.asked[0].body == {"model": MODEL, "input": "a text"}


async def test_an_encoding_and_a_list_go_to_the_engine_and_dimensions_are_accounted_for(
    tmp_path: Path, embedding: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenAI's own client asks for base64 unless told otherwise."""
    monkeypatch.setattr(sites, "EEA", embedding)
    encoded = FLOATS | {"data": [{"object": "embedding", "index": 0, "embedding": "AACAPg=="}]}
    async with engine(saying(encoded)) as it, site(tmp_path, it.address) as ours:
        more = {"input": ["a", "b"], "encoding_format": "base64"}
        first = await ask(ours, headers=OPENAI, dimensions=64, user="ann", **more)
        second = await ask(ours, output_dimension=64, output_dtype="float", **more)
        for reply, field in ((first, "dimensions"), (second, "output_dimension")):
            assert reply.json["data"][0]["embedding"] == "AACAPg=="
            assert reply.headers["x-sovereign-dropped"] == field
        for asked in it.asked:
            assert asked.body == {"model": MODEL, **more}


@pytest.mark.parametrize("headers", [{}, OPENAI], ids=["mistral", "openai"])
async def test_a_model_without_vectors_is_refused_and_the_engine_never_asked(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    """A model of chats answers with numbers, too; they mean nothing."""
    async with engine(saying(FLOATS)) as it, site(tmp_path, it.address) as ours:
        reply = await ask(ours, headers=headers)
        assert (reply.status, reply.error["code"]) == (400, "embeddings-not-enabled")
        (decision,) = ours.kinds("decision")
        assert (decision["verdict"], decision["rule"]) == ("refuse", "embeddings-not-enabled")
        assert decision["call"] == "embed"
        assert it.asked == []


UNREADABLE: list[tuple[dict[str, Any], dict[str, str], str]] = [
    ({"dimensions": 64}, {}, "dimensions"),
    ({"output_dimension": 64}, OPENAI, "output_dimension"),
    ({"input": []}, {}, "input"),
    ({"input": ["x"] * (TEXTS_MAX + 1)}, {}, "input"),
    ({"input": [[1, 2]]}, OPENAI, "input"),
    ({"encoding_format": "hex"}, {}, "encoding_format"),
    ({"output_dtype": "int8"}, {}, "output_dtype"),
    ({"output_dimension": 0}, {}, "output_dimension"),
    ({"stream": True}, {}, "stream"),
]


@pytest.mark.parametrize(("more", "headers", "param"), UNREADABLE)
async def test_what_is_not_in_the_dialect_is_refused_by_its_name(
    tmp_path: Path, more: dict[str, Any], headers: dict[str, str], param: str
) -> None:
    """A stream of vectors, vectors of ids, formats nobody here can make."""
    async with site(tmp_path) as ours:
        reply = await ask(ours, headers=headers, **more)
        assert (reply.status, reply.error["param"]) == (422, param)


@pytest.mark.parametrize("said", [b"[]", b"{}", b"CANARY", {"data": [], "usage": 7}])
async def test_an_answer_that_is_none_of_vectors_has_failed(
    tmp_path: Path, embedding: Policy, monkeypatch: pytest.MonkeyPatch, said: object
) -> None:
    """And nothing of it is passed on."""
    monkeypatch.setattr(sites, "EEA", embedding)
    async with engine(saying(said)) as it, site(tmp_path, it.address) as ours:
        reply = await ask(ours)
        assert (reply.status, reply.error["code"]) == (502, "engine-failed")
        assert b"CANARY" not in reply.body
