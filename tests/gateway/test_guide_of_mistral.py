"""The page on Mistral, run: its Python, by the official client, through the gateway to vLLM."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from sovereign.settings import AliasSettings
from tests.docs.reading import DOCS
from tests.engines.running import Running
from tests.gateway.tiny import TINY
from tests.gateway.web import web

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
    printed, space = [], dict[str, Any]()
    with web(tmp_path, address, aliases=aliases, engine="vllm", models=(TINY,)) as gateway:
        monkeypatch.setenv("SOVEREIGN_URL", gateway.url)
        monkeypatch.setenv("SOVEREIGN_KEY", gateway.key)
        for block in blocks():
            (tmp_path / "block.py").write_text(block)
            space |= runpy.run_path(str(tmp_path / "block.py"), init_globals=space)
            printed.append(capsys.readouterr().out)
        decided = [(d["call"], d["verdict"]) for d in gateway.site.kinds("decision")]
    assert decided == [("chat", "allow")] * 4 + [("fim", "allow")]
    assert all(text.strip() for text in printed)
    assert re.match(r'[A-Za-z0-9]{9} get_weather {"location":', printed[2])
