"""llama.cpp's own way to fill in, for models whose facts name no tokenizer of Mistral's."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from sovereign.engines import ENGINES, LaunchSpec, fillers
from tests.engines.running import Running, free_port, running
from tests.gateway import site as sites
from tests.gateway.site import EEA, Reply, Site, site
from tests.gateway.tiny import CONTEXT, TINY, at
from tests.tools import tiny_gguf

ENGINE = ENGINES["llamacpp"]
ASKED = {"model": TINY, "prompt": "a[PREFIX]b", "suffix": "c", "max_tokens": 4, "temperature": 0}


@pytest.fixture(scope="module", params=["with markers", "without"])
def tiny(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """A GGUF file that names three markers, as those of other families do, and one without."""
    folder = tmp_path_factory.mktemp("infill")
    markers = tiny_gguf.MARKERS if request.param == "with markers" else {}
    spec = LaunchSpec(
        found=ENGINE.find(),
        model=tiny_gguf.write(folder / "tiny.gguf", markers),
        served_name=TINY,
        host="127.0.0.1",
        port=free_port(),
        context=CONTEXT,
        state_dir=folder / request.param.replace(" ", "-"),
    )
    spec.state_dir.mkdir()
    with running(ENGINE, spec, ready_within_s=60) as it:
        yield it


@pytest.fixture(autouse=True)
def _no_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The facts say that the model fills in, and not by which tokenizer."""
    fact = msgspec.structs.replace(EEA.models[TINY], fim_tokenizer="")
    monkeypatch.setattr(sites, "EEA", replace(EEA, models={**EEA.models, TINY: fact}))


async def ask(ours: Site, **more: object) -> Reply:
    key = {"authorization": f"Bearer {ours.secret}"}
    raw = json.dumps({**ASKED, **more}).encode()
    return await ours.ask("POST", "/v1/fim/completions", key, [raw])


async def test_infill_answers_where_the_file_names_its_markers_and_is_refused_where_not(
    tmp_path: Path, tiny: Running
) -> None:
    """What the file lacks no repetition brings: it is no fault of the engine's, and no 5xx."""
    async with site(tmp_path) as ours:
        await at(ours, tiny)
        whole, streamed = await ask(ours), await ask(ours, stream=True)
        if tiny.spec.state_dir.name == "without":
            for reply in (whole, streamed):
                assert (reply.status, reply.error["code"]) == (400, "engine-refused")
                assert "token is missing" in reply.error["message"]
            return
        assert whole.status == streamed.status == 200
        before = len(fillers.encoded("v3-spm", str(ASKED["prompt"]), "")) - 3  # as text
        assert whole.json["usage"]["prompt_tokens"] == 1 + 3 + before + 1  # BOS, markers, a letter
        text = whole.json["choices"][0]["message"]["content"]
        chunks = [json.loads(event) for event in streamed.events[:-1]]
        assert "".join(c["choices"][0]["delta"]["content"] for c in chunks) == text
        assert chunks[-1]["usage"] == whole.json["usage"]
