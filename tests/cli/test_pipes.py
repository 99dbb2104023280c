"""What a command says when nobody reads it to the end."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("words", [("models", "list", "--json"), ("places", "list", "--json")])
def test_an_answer_nobody_reads_is_no_finding_and_no_yes(words: tuple[str, ...]) -> None:
    """`| head` closes the pipe; 1 would be a finding, and 0 would be a verdict nobody heard."""
    with subprocess.Popen(
        [sys.executable, "-m", "sovereign", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(60) == 3
