"""A gateway that forgets is quick; the benchmark must not give it figures."""

from pathlib import Path

import pytest

from bench.figures import CheckFailed
from bench.gateway import account
from sovereign.audit import tiles
from tests.bench.recorded import head, written


def test_answers_with_both_records_are_accounted_for(tmp_path: Path) -> None:
    """The yes: without it the refusals below would prove nothing."""
    home, names = written(tmp_path, ("allow", "answered"), ("allow", "answered"))
    checks = account(home, [head(name) for name in names])
    assert checks == {
        "answers": 2,
        "decisions": 2,
        "completions": 2,
        "answers_without_both_records": 0,
    }


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (("allow", ""), "its completion was never recorded"),
        (("allow", "engine-failed"), "the log says that it was not answered"),
        (("refuse", ""), "the log says that it was refused"),
        (("refuse", "answered"), "what was refused cannot be answered"),
    ],
)
def test_an_answer_without_both_records_fails_the_run(
    tmp_path: Path, call: tuple[str, str], why: str
) -> None:
    """One forgotten answer among many is what a hurried gateway would be caught at."""
    home, names = written(tmp_path, ("allow", "answered"), call)
    with pytest.raises(CheckFailed, match=f"1 of 2 answers .* {names[1]}$"):
        account(home, [head(name) for name in names])
    assert account(home, [head(names[0])])["answers"] == 1, why


def test_an_answer_that_names_no_record_fails_the_run(tmp_path: Path) -> None:
    """A gateway that drops the header must not thereby escape the accounting."""
    home, names = written(tmp_path, ("allow", "answered"))
    with pytest.raises(CheckFailed, match="no record named"):
        account(home, [head(names[0]), b"HTTP/1.1 200 OK\r\ncontent-length: 2"])


def test_two_answers_that_name_one_record_fail_the_run(tmp_path: Path) -> None:
    """Otherwise one record could stand for any number of answers."""
    home, names = written(tmp_path, ("allow", "answered"))
    with pytest.raises(CheckFailed, match="1 of 2 answers"):
        account(home, [head(names[0])] * 2)


def test_a_log_that_does_not_verify_fails_the_run(tmp_path: Path) -> None:
    """Records count only while the log that holds them is sound."""
    home, names = written(tmp_path, ("allow", "answered"))
    bundle = next((home.audit / "gateway/event" / tiles.bundle_path(0)).parent.glob("*.p/*"))
    bundle.write_bytes(bundle.read_bytes().replace(b"answered", b"Answered"))
    with pytest.raises(CheckFailed, match="does not verify"):
        account(home, [head(names[0])])
