"""The digest of weights is one that an auditor can compute with coreutils."""

import subprocess
from pathlib import Path

import pytest

from sovereign.engines import model_digest
from sovereign.errors import BadInput


def test_a_file_has_the_digest_that_sha256sum_prints(tmp_path: Path) -> None:
    """No tool of ours is needed to check a pinned digest."""
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF weights")
    assert model_digest(file) == "sha256:" + _shell(f"sha256sum {file}")


def test_a_folder_has_the_digest_of_its_manifest(tmp_path: Path) -> None:
    """The command stands in the module's docstring; here it is run."""
    (tmp_path / "sub").mkdir()
    for name in ("b.safetensors", "a.json", "sub/c", "B"):
        (tmp_path / name).write_text(name)
    line = "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs sha256sum | sha256sum"
    assert model_digest(tmp_path) == "sha256:" + _shell(f"cd {tmp_path} && {line}")


def test_a_renamed_file_is_another_model(tmp_path: Path) -> None:
    """A tokenizer under another name is read, or not read, differently."""
    (tmp_path / "tekken.json").write_text("{}")
    before = model_digest(tmp_path)
    (tmp_path / "tekken.json").rename(tmp_path / "other.json")
    assert model_digest(tmp_path) != before


def test_nothing_has_no_digest(tmp_path: Path) -> None:
    """An empty folder must not pass for a model with a digest of its own."""
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BadInput):
            model_digest(path)


def _shell(line: str) -> str:
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
    return done.stdout.split()[0]
