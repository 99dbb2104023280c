"""What a process says of itself: one event a line, and never what somebody asked."""

import json
import logging
from collections.abc import Iterator

import pytest

from sovereign import eventlog

CANARY = "zirkonfalter-7731"


@pytest.fixture
def _tamed() -> Iterator[None]:
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    eventlog.tame()
    yield
    root.handlers = before[0]
    root.setLevel(before[1])


def test_an_event_is_one_line_of_named_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """A program reads it line by line; a line break inside a value would forge another event."""
    eventlog.emit("engine-starting", model='a\n{"event":"forged"}', number=3)
    (line,) = capsys.readouterr().err.splitlines()
    said = json.loads(line)
    assert (said["event"], said["number"]) == ("engine-starting", 3)
    assert said["at"].endswith("+00:00")


@pytest.mark.usefixtures("_tamed")
def test_a_library_that_logs_what_was_asked_is_heard_without_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Libraries fill bodies and headers into their messages; the template alone gets through."""
    log = logging.getLogger("some.library")
    log.warning("bad request %s from %s", CANARY, CANARY)
    log.error(f"bad request {CANARY}")
    try:
        raise ValueError(CANARY)
    except ValueError:
        log.exception("it failed for %s", CANARY)
    log.info("chatter %s", CANARY)
    err = capsys.readouterr().err
    assert CANARY not in err
    said = [json.loads(line) for line in err.splitlines()]
    assert [each["template"] for each in said] == [
        "bad request %s from %s",
        "(message withheld)",
        "it failed for %s",
    ]
    assert [each["exception"] for each in said] == [None, None, "ValueError"]
