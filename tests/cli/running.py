"""Run the command as a person would: a process of its own, its exit code and what it printed."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

COMMAND_TAKES_AT_MOST_S = 300


@dataclass(frozen=True)
class Done:
    """How a command ended. `json` parses its output, which must then be one document."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.out)

    @property
    def error(self) -> str:
        """The code of the error it ended with: the first word of its last words."""
        return self.err.partition(":")[0]


def sovereign(
    home: Path, *words: str, environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Done:
    """Run `sovereign WORDS` for a home, in an environment that holds little else."""
    passed = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-m", "sovereign", *words],
        env={**passed, "SOVEREIGN_HOME": str(home), **(environment or {})},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_TAKES_AT_MOST_S,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def write_settings(home: Path, engine: int, gateway: int, more: str = "") -> None:
    """Settings that differ from the defaults in the ports only, and in what `more` says."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "sovereign.yaml").write_text(
        "version: 1\n"
        f'engine: {{listen: "127.0.0.1:{engine}"}}\n'
        f'gateway: {{listen: "127.0.0.1:{gateway}"}}\n'
        f"{more}"
    )
