"""`sovereign weights digest`: what is pinned must be what anybody can compute."""

import hashlib
from pathlib import Path

from tests.cli.conftest import Run


def test_a_file_has_the_digest_that_sha256sum_prints(run: Run, tmp_path: Path) -> None:
    """A publisher's checksum can be pinned as it stands on its page."""
    file = tmp_path / "m.gguf"
    file.write_bytes(b"GGUF")
    expected = "sha256:" + hashlib.sha256(b"GGUF").hexdigest()
    assert run("weights", "digest", str(file)).out.strip() == expected
    assert run("weights", "digest", str(file), "--json").json["digest"] == expected


def test_weights_that_are_not_what_they_must_be_end_in_a_refusal(run: Run, tmp_path: Path) -> None:
    """A script that goes on after a wrong digest would serve anything."""
    file = tmp_path / "m.gguf"
    file.write_bytes(b"GGUF")
    right = run("weights", "digest", str(file)).out.strip()
    assert run("weights", "digest", str(file), "--must-be", right).code == 0
    done = run("weights", "digest", str(file), "--must-be", "sha256:" + "0" * 64)
    assert (done.code, done.error) == (1, "weights-differ")


def test_weights_that_are_not_there_are_a_wrong_question(run: Run, tmp_path: Path) -> None:
    """Nothing has no digest."""
    done = run("weights", "digest", str(tmp_path / "nothing"))
    assert (done.code, done.error) == (2, "bad-input")
    (tmp_path / "empty").mkdir()
    assert run("weights", "digest", str(tmp_path / "empty")).code == 2


def test_a_publishers_checksum_may_be_given_as_it_stands(run: Run, tmp_path: Path) -> None:
    """`sha256sum` prints it bare; some pages print it in capitals."""
    file = tmp_path / "m.gguf"
    file.write_bytes(b"GGUF")
    bare = hashlib.sha256(b"GGUF").hexdigest()
    assert run("weights", "digest", str(file), "--must-be", bare).code == 0
    assert run("weights", "digest", str(file), "--must-be", bare.upper()).code == 0
    assert run("weights", "digest", str(file), "--must-be", "sha256:00").error == "bad-input"
