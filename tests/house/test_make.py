"""The door tells the truth: a step that fails ends the target, whatever its shell looks like."""

import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[2] / "Makefile"


@pytest.mark.parametrize(
    ("step", "passes"),
    [
        ("true", True),
        ("true && true", True),
        ("! false", True),
        ("false", False),
        ("false && true", False),
        ("true && false", False),
        ("true && ! true", False),
        ("false | cat", False),
    ],
)
def test_a_step_that_fails_ends_the_target(tmp_path: Path, step: str, passes: bool) -> None:
    """`set -e` looks away inside `A && B`; a lint that failed there was once reported as done."""
    spoilt = tmp_path / "Makefile"
    spoilt.write_text(f"{MAKEFILE.read_text()}\ntried:\n\t$(call timed,it,{step})\n\t@echo on\n")
    run = subprocess.run(
        ["make", "-f", str(spoilt), "tried"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (run.returncode == 0) is passes, run.stdout + run.stderr
    assert ("it: done in" in run.stdout) is passes
    assert ("\non\n" in run.stdout) is passes
