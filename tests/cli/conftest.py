"""The command line in this process: its real `main`, with what it printed and how it ended."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sovereign.audit import trail as trails
from sovereign.audit.trail import WRITERS
from sovereign.cli import main
from sovereign.settings import Home, Settings
from tests.cli.running import Done

Run = Callable[..., Done]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home: nothing is deployed here."""
    return tmp_path / "home"


@pytest.fixture
def site(home: Path) -> Path:
    """A home with the logs of every writer, and no process."""
    it = Home(home, Settings())
    for writer in WRITERS:
        trails.create(it.audit, it.keys, it.trust, writer, "local")
    return home


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `sovereign WORDS` for the home of this test."""
    monkeypatch.setenv("SOVEREIGN_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["sovereign", *words])
        capsys.readouterr()
        try:
            main()
            code: object = 0
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        assert isinstance(code, int), code
        return Done(code, out, err)

    return run
