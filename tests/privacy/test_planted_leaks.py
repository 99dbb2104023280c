"""Leaks are planted in a real gateway, one at a time, and the drill must find each.

A suite that has never failed proves nothing. Beside them stand the mistakes that must leak
nothing: a bug of ours, every debug switch, a kill in the middle of a request, a full disk.
"""

import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sovereign.drills import places
from sovereign.drills.places import Finding, Looked
from tests.needs import need
from tests.privacy.leaking import ON_BODY
from tests.privacy.rig import ANSWER, CHAT, Rig, rig

CLEAN = {"none", "bug"}
PROMPT, ANSWERED = "messages.user", "what the model wrote"
LEAKS: dict[str, tuple[str, str, str, str]] = {
    # fault: sink, where it begins with, spelling begins with, field
    "log-line": ("files", "logs/gateway.log", "text", PROMPT),
    "exception-text": ("files", "logs/gateway.log", "text", PROMPT),
    "metric-label": ("metrics", "gateway.admin_listen", "text", PROMPT),
    "record-field": ("files", "audit/gateway/event/", "text", PROMPT),
    "temporary-file": ("temporary files", "", "text", PROMPT),
    "argument": ("processes", "cmdline of gateway", "text", PROMPT),
    "environment": ("processes", "environ of gateway", "text", PROMPT),
    "deleted-file": ("open files", "", "text", PROMPT),
    "packed-file": ("files", "logs/gateway.1.gz", "packed, UTF-16", PROMPT),
    "database": ("files", "cache.sqlite", "base64", PROMPT),
    "core-limit": ("core dumps", "gateway: its limit", "a core dump", "memory"),
    "answer-in-a-log": ("files", "logs/gateway.log", "", ANSWERED),
}


@pytest.fixture
def it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """A rig. Only its own temporary folder is searched: others write to the machine's."""
    monkeypatch.setattr(places, "TEMPORARY", (tmp_path / "tmp",))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    with rig(tmp_path) as made:
        yield made


def findings(looked: list[Looked]) -> list[Finding]:
    return sorted(finding for sink in looked for finding in sink.findings)


def unread(looked: list[Looked]) -> list[str]:
    """What could not be searched, but for the processes that no rig has."""
    lacks = [lack for sink in looked for lack in sink.unreadable]
    return [lack for lack in lacks if "no process of it was seen" not in lack]


def dumps_can_be_planted() -> bool:
    """Whether a process started here could dump core; a shell or a container may forbid it."""
    return resource.getrlimit(resource.RLIMIT_CORE)[1] != 0


def test_every_fault_that_can_be_planted_is_expected_somewhere() -> None:
    """A fault that no test plants would rot."""
    assert {*LEAKS, *CLEAN} == set(ON_BODY)
    assert len(LEAKS) >= 6


@pytest.mark.parametrize("fault", sorted(LEAKS))
def test_a_planted_leak_is_found_where_it_is_and_in_the_field_it_came_from(
    it: Rig, fault: str
) -> None:
    """This is how we know that a pass means something."""
    sink, where, spelling, field = LEAKS[fault]
    with it.gateway(fault):
        wrote = it.push()
        found = findings(it.searched(wrote))
    if fault == "core-limit" and not dumps_can_be_planted():
        assert found == [], "the gateway no longer forbids it, but whoever started it does"
        return
    hits = [
        each
        for each in found
        if (each.sink, each.find.field) == (sink, field)
        and each.where.startswith(where)
        and each.find.spelling.startswith(spelling)
    ]
    assert hits, found
    assert {each.sink for each in found} == {sink}, "and nowhere else"
    assert ANSWER[:12] not in repr(found), "what stands around a find is never told"


@pytest.mark.parametrize(
    ("fault", "environment", "words"),
    [
        ("none", {}, ()),
        ("bug", {}, ()),
        ("bug", {"PYTHONASYNCIODEBUG": "1", "PYTHONDEVMODE": "1"}, ("-X", "dev")),
    ],
    ids=["as it is", "a bug of ours", "a bug, with every debug switch"],
)
def test_neither_a_bug_of_ours_nor_a_debug_switch_makes_it_leak(
    it: Rig, fault: str, environment: dict[str, str], words: tuple[str, ...]
) -> None:
    """An exception carries its text; whoever looks for a fault must not find prompts instead."""
    with it.gateway(fault, environment, *words):
        wrote = it.push()
        looked = it.searched(wrote)
    assert findings(looked) == []
    assert unread(looked) == []
    assert (fault == "none") is bool(any(wrote.values())), "the bug is in the way of every answer"


def test_a_gateway_that_is_killed_in_the_middle_of_a_request_leaves_nothing(it: Rig) -> None:
    """Half a request, half an answer, and no time to tidy up; then the next one takes it up."""
    with it.gateway("none") as process:
        wrote = it.push()
        it.pusher.broken_off("the gateway is killed", CHAT, process.kill)
        process.wait(10)
        assert findings(it.searched(wrote)) == []
    with it.gateway("none"):
        wrote |= it.push()
        assert findings(it.searched(wrote)) == []


def test_a_full_disk_refuses_and_leaves_nothing(tmp_path: Path, it: Rig) -> None:
    """What cannot be written to the log must not be written anywhere else in its place."""
    need(os.geteuid() == 0, "mounting a small disk needs root", "run as root")
    audit = it.home.audit / "gateway"
    small = tmp_path / "small"
    small.mkdir()
    options = ["-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)]
    made = subprocess.run(["mount", *options], capture_output=True, check=False)
    need(made.returncode == 0, "this machine lets nobody mount", "a machine of your own")
    try:
        subprocess.run(["cp", "-a", f"{audit}/.", str(small)], check=True)
        subprocess.run(["mount", "--bind", str(small), str(audit)], check=True)
        with it.gateway("none"):
            with suppress(OSError):
                (small / "filler").write_bytes(b"." * 10_000_000)
            wrote = it.push()
            statuses = {case.status for case in it.last.cases}
            looked = it.searched(wrote)
        assert 503 in statuses
        assert findings(looked) == []
    finally:
        subprocess.run(["umount", str(audit)], check=False)
        subprocess.run(["umount", str(small)], check=False)
