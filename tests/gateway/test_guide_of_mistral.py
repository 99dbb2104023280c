"""The page on Mistral, run: its Python, by the official client, through the gateway to vLLM."""

import json
import os
import re
import runpy
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from sovereign.settings import AliasSettings
from tests.docs.reading import DOCS, block_lines
from tests.engines.running import Running, free_port
from tests.gateway.tiny import TINY, started
from tests.gateway.web import web
from tests.tools import debian

PAGE = DOCS / "guide/mistral.md"
NAMES = ("mistral-large-latest", "codestral-latest")
pytestmark = pytest.mark.engine


def blocks() -> list[str]:
    """Pieces of one program, in the order of the page; a fence inside a string does not end one."""
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_every_block_runs_as_it_stands_and_in_its_order(
    long_vllm: Running,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Chat, stream, functions, chat about code, fill in the middle: what a reader pastes."""
    address = f"127.0.0.1:{long_vllm.spec.port}"
    aliases = tuple(AliasSettings(name, TINY) for name in NAMES)
    program = [block for block in blocks() if "from vllm" not in block]  # which needs GPUs
    printed, space = [], dict[str, Any]()
    with web(tmp_path, address, aliases=aliases, engine="vllm", models=(TINY,)) as gateway:
        monkeypatch.setenv("SOVEREIGN_URL", gateway.url)
        monkeypatch.setenv("SOVEREIGN_KEY", gateway.key)
        for block in program:
            (tmp_path / "block.py").write_text(block)
            space |= runpy.run_path(str(tmp_path / "block.py"), init_globals=space)
            printed.append(capsys.readouterr().out)
        decided = [(d["call"], d["verdict"]) for d in gateway.site.kinds("decision")]
    assert decided == [("chat", "allow")] * 4 + [("fim", "allow")]
    assert all(text.strip() for text in printed)
    assert re.match(r'[A-Za-z0-9]{9} get_weather {"location":', printed[2])


def ran(words: tuple[str, ...], told: dict[str, str], *, within_s: float) -> str:
    """What a program printed, both ways; nothing that it started is left behind."""
    with subprocess.Popen(
        words,
        env=told,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, _ = process.communicate(timeout=within_s)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, out[-3000:]
    return out


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Docker's own registry, as Debian packages it: `address:port`, until the block ends."""
    program = debian.unpacked("docker-registry").program("/usr/bin/docker-registry")
    address = f"127.0.0.1:{free_port()}"
    settings = {"filesystem": {"rootdirectory": str(folder / "blobs")}}
    http = {"addr": address, "headers": {"Location": ["?"]}}  # the page says why
    config = {"version": "0.1", "storage": settings, "http": http}
    (folder / "registry.yml").write_text(json.dumps(config))
    with (folder / "registry.log").open("w") as log:
        words = (str(program), "serve", str(folder / "registry.yml"))
        process = subprocess.Popen(words, stdout=log, stderr=log)
        try:
            yield address
        finally:
            process.kill()
            process.wait(10)


@pytest.mark.go
def test_ollama_pulls_and_runs_from_a_registry_of_ours(tmp_path: Path) -> None:
    """The words of the page; the registry has no certificate here, so pulling is told so."""
    asked = [line for line in block_lines(PAGE) if line.startswith("ollama ") and "example" in line]
    with registry(tmp_path) as address, started("ollama", tmp_path) as it:
        told = {**it.engine.environment(it.spec), "HOME": str(tmp_path)}
        ours = f"{address}/library/mixtral"
        (tmp_path / "Modelfile").write_text(f"FROM {TINY}\nPARAMETER num_predict 8\n")

        def ollama(*words: str) -> str:
            return ran((str(it.spec.found.program), *words), told, within_s=120)

        ollama("create", ours, "-f", str(tmp_path / "Modelfile"))
        ollama("push", "--insecure", ours)
        ollama("rm", ours, TINY)
        assert "mixtral" not in ollama("list")
        for line in asked:
            verb, *words = shlex.split(line.replace("registry.example:5000", address))[1:]
            out = ollama(verb, *(("--insecure",) if verb == "pull" else ()), *words)
        assert ours in ollama("list")
        assert out.strip()
        assert len(asked) == 2
