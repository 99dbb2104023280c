"""What we predict beside what real engines print of their own memory."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sovereign.engines import ENGINES, Found, LaunchSpec, openmp
from sovereign.engines.llamacpp import packaged_model
from sovereign.policy.shapes import Architecture
from sovereign.sizing.formats import weight_format
from sovereign.sizing.found import believed, disagreements, own_format
from sovereign.sizing.memory import Layout, Load, kv, kv_bytes_a_token, on_fullest_gpu, weights
from sovereign.sizing.parameters import total
from sovereign.sizing.reading import read
from tests.engines.running import free_port, running
from tests.needs import need
from tests.sizing import tiny_gguf
from tests.tools import vllm_cpu

Of = Callable[[str], Architecture]

MIB = 1024**2
LLAMA = """
import sys, xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.n_ctx, p.n_parallel = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
p.port, p.verbosity, p.warmup, p.fit_params, p.offline, p.ui = 0, 4, False, False, True, False
xllamacpp.Server(p)
"""
SHARING = {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}
"""Threads that wait must not take the processor from those who work, on a busy machine."""
BUFFER = re.compile(r"(model|KV|compute|output) buffer size = +([0-9.]+) MiB")
TAKES_AT_MOST_S = 120


@pytest.fixture
def libraries(tmp_path: Path) -> dict[str, str]:
    """Where the loader finds OpenMP on a machine that has none of its own."""
    carried = openmp.find()
    if carried is None:
        return {}
    openmp.link(carried, tmp_path / "libraries")
    return {"LD_LIBRARY_PATH": str(tmp_path / "libraries")}


def printed(model: Path, context: int, slots: int, libraries: dict[str, str]) -> dict[str, float]:
    """MiB of each buffer that llama.cpp says it made; it is ended once it has said all four."""
    process = subprocess.Popen(
        [sys.executable, "-c", LLAMA, str(model), str(context * slots), str(slots)],
        env={**os.environ, **SHARING, **libraries},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = threading.Timer(TAKES_AT_MOST_S, process.kill)
    end.start()
    sizes: dict[str, float] = {}
    try:
        assert process.stderr is not None
        for line in process.stderr:
            for name, size in BUFFER.findall(line):
                sizes[name] = sizes.get(name, 0.0) + float(size)
            if sizes.keys() == {"model", "KV", "compute", "output"}:
                break
    finally:
        end.cancel()
        process.kill()
        process.wait()
    assert sizes.keys() == {"model", "KV", "compute", "output"}, sizes
    return sizes


@pytest.mark.parametrize(("context", "slots"), [(2048, 1), (2048, 4), (8192, 1)])
def test_llama_cpp_makes_the_buffers_we_predict_within_three_percent(
    context: int, slots: int, architecture: Of, libraries: dict[str, str]
) -> None:
    """The engine's own words, for one conversation, for four, and for a long one."""
    seen = printed(packaged_model(), context, slots, libraries)
    a, fmt, load = architecture("smollm2"), weight_format("q4_1"), Load(context, slots)
    terms = {t.name: t.likely for t in on_fullest_gpu(a, fmt, load, "fp16", Layout())}
    assert terms["weights"] / MIB == pytest.approx(seen["model"], rel=0.03)
    assert terms["cache"] / MIB == pytest.approx(seen["KV"], rel=0.03)
    beside = seen["compute"] + seen["output"]
    assert terms["compute buffer"] / MIB == pytest.approx(beside, rel=0.03)


@pytest.mark.parametrize(("context", "slots"), [(1024, 1), (4096, 3)])
def test_a_mixture_that_no_table_knows_is_predicted_from_its_header_alone(
    context: int, slots: int, tmp_path: Path, libraries: dict[str, str]
) -> None:
    """Six experts of an odd width: what is right here was not looked up."""
    model = tiny_gguf.write(tmp_path / "moe.gguf")
    seen = printed(model, context, slots, libraries)
    found = read(model)
    a = believed(found, None)
    fmt = own_format(found, a)
    assert fmt is not None
    assert found.parameters == total(a)
    load = Load(context, slots)
    terms = {t.name: t.likely for t in on_fullest_gpu(a, fmt, load, "fp16", Layout())}
    beside = seen["compute"] + seen["output"]
    for name, mib in (("weights", seen["model"]), ("cache", seen["KV"])):
        assert terms[name] / MIB == pytest.approx(mib, rel=0.03)
    assert terms["compute buffer"] / MIB == pytest.approx(beside, rel=0.03)


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str, int]]:
    """A tiny Mixtral in the real vLLM: its folder, what vLLM printed, and bytes it was given."""
    lacking = vllm_cpu.missing()
    need(not lacking, f"vLLM's CPU build needs {', '.join(lacking)}", "make setup-all; free disk")
    program = vllm_cpu.program()
    folder = tmp_path_factory.mktemp("tiny")
    script = Path(__file__).parents[1] / "tools" / "tiny_mixtral.py"
    python = program.parent / "python"
    subprocess.run(
        [str(python), "-I", str(script), str(folder / "model")],
        check=True,
        capture_output=True,
        timeout=TAKES_AT_MOST_S,
    )
    engine = ENGINES["vllm"]
    spec = LaunchSpec(
        found=Found(program, f"{vllm_cpu.VERSION}+cpu"),
        model=folder / "model",
        served_name="tiny-mixtral",
        host="127.0.0.1",
        port=free_port(),
        context=1024,
        state_dir=folder / "state",
    )
    words = engine.command(spec)
    given = int(words[words.index("--kv-cache-memory-bytes") + 1])
    with running(engine, spec, ready_within_s=240) as it:
        yield folder / "model", it.printed(), given


@pytest.mark.engine
def test_vllm_finds_room_for_as_many_tokens_as_we_say(
    vllm: tuple[Path, str, int], architecture: Of
) -> None:
    """Its report of the cache is what an operator plans conversations by."""
    _, said, given = vllm
    tokens = re.search(r"KV cache size: ([0-9,]+) tokens", said)
    assert tokens, said[-2000:]
    a = architecture("tiny-mixtral")
    count = int(tokens[1].replace(",", ""))
    assert given / kv_bytes_a_token(a, "bf16") == pytest.approx(count, rel=0.03)
    assert kv(a, Load(count, 1), "bf16").likely == pytest.approx(given, rel=0.03)


@pytest.mark.engine
def test_the_real_header_counts_what_the_table_adds_up_to(
    vllm: tuple[Path, str, int], architecture: Of
) -> None:
    """A mixture of experts saved by the real library: every tensor, to the last parameter."""
    found = read(vllm[0])
    a = architecture("tiny-mixtral")
    assert disagreements(a, found, 4096) == ()
    assert found.parameters == total(a)
    assert found.weight_bytes == weights(a, weight_format("bf16")).likely
    fmt = own_format(found, a)
    assert fmt is not None
    assert weights(a, fmt).likely == found.weight_bytes
