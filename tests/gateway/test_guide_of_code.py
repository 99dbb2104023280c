"""The guide for completing code, run: what a reader copies must work as it stands."""

import asyncio
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sovereign.engines import ENGINES, LaunchSpec
from tests.engines.running import Running, free_port, running
from tests.gateway.reachable import reachable
from tests.gateway.site import site
from tests.simulated.engine import MODEL
from tests.tools import clients, tiny_gguf

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "code.md"
SERVED = "mistral-7b-instruct-v0.3"
ENGINE = ENGINES["llamacpp"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Random weights with the tokenizer of the model that the guide asks for."""
    folder = tmp_path_factory.mktemp("guide")
    spec = LaunchSpec(
        found=ENGINE.find(),
        model=tiny_gguf.write(folder / "tiny.gguf"),
        served_name=SERVED,
        host="127.0.0.1",
        port=free_port(),
        context=512,
        state_dir=folder,
    )
    with running(ENGINE, spec, ready_within_s=60) as it:
        yield it


async def ran(tmp_path: Path, tiny: Running, python: Path, program: str) -> tuple[str, list[Any]]:
    """What the program printed, and what was decided about its calls."""
    async with site(tmp_path) as ours, reachable(ours) as url:
        ours.endpoint(f"127.0.0.1:{tiny.spec.port}", models=(SERVED, MODEL))
        await ours.seen()
        told = {"URL": url, "KEY": ours.secret, "PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        process = await asyncio.create_subprocess_exec(
            *(str(python), "-c", program),
            env=told,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 50)
        assert process.returncode == 0, err.decode()[-2000:]
        return out.decode(), [(d["call"], d["verdict"]) for d in ours.kinds("decision")]


def blocks() -> list[str]:
    """The program of the guide, in the pieces it is told in."""
    found = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert len(found) == 6
    return found


async def test_every_block_of_the_guide_runs_in_its_order(tmp_path: Path, tiny: Running) -> None:
    """One program of all blocks, as a reader who follows the page has it in the end."""
    out, decided = await ran(tmp_path, tiny, Path(sys.executable), "\n".join(blocks()))
    assert "tokens in, 64 out" in out
    assert '400 {"object":"error","message":"FIM is not enabled for this model"' in out
    assert decided == [
        ("fim", "allow"),
        ("fim", "allow"),
        ("chat", "allow"),
        ("completion", "allow"),
        ("fim", "refuse"),
    ]


async def test_the_clients_1_x_fills_in_with_the_import_that_the_guide_names(
    tmp_path: Path, tiny: Running
) -> None:
    """Editors' plug-ins still carry it."""
    program = "\n".join(blocks()[:4])
    ours, theirs = "from mistralai.client import Mistral", "from mistralai import Mistral"
    assert program.count(ours) == program.count(theirs) == 1
    program = program.replace(ours, theirs)
    out, decided = await ran(tmp_path, tiny, clients.python(), program)
    assert "tokens in, 64 out" in out
    assert decided == [("fim", "allow"), ("fim", "allow"), ("chat", "allow")]
