"""Asking others never holds the controller up: an engine must not lose its attestation over it."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from sovereign import outside
from sovereign.audit.witnesses.cosignature import CosignerSecret
from sovereign.audit.witnesses.submit import Reply
from sovereign.audit.witnesses.witnessed import State
from sovereign.controller.cosign import Cosigning
from sovereign.policy import Policy, shapes
from tests.retention.site import POLICY, Site

PATIENCE_S = 20.0
KEY = CosignerSecret.generate("witness.example")


def asking() -> Policy:
    who = shapes.Witness(
        "w", str(KEY.verifier), "http://w.example", "W", own=False, place="scaleway:fr-par-2"
    )
    rules = shapes.Witnesses(1, known=(who,))
    return replace(POLICY, audit=msgspec.structs.replace(POLICY.audit, witnesses=rules))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    it = Site(tmp_path, asking())
    yield it
    it.close()


def until(done: "threading.Event") -> None:
    assert done.wait(PATIENCE_S)


def test_a_round_goes_on_while_a_witness_takes_its_time(site: Site) -> None:
    """The call returns at once, and the next rounds start no second one beside it."""
    reached, released, calls = threading.Event(), threading.Event(), []

    def post(url: str, body: bytes, content_type: str) -> Reply:
        calls.append(url)
        reached.set()
        until(released)
        return Reply(0, "", b"TimeoutError")

    cosigning = Cosigning(site.home, site.policy, post, lambda *_: None)
    began = time.monotonic()
    for _ in range(5):
        cosigning.start_when_due(site.clock.now)
    assert time.monotonic() - began < PATIENCE_S / 2
    until(reached)
    for _ in range(5):
        cosigning.start_when_due(site.clock.now)
    assert len(calls) == 1
    released.set()
    _until_idle()
    assert len(calls) == 9, "one for each log"


def _until_idle() -> None:
    deadline = time.monotonic() + PATIENCE_S
    while any(thread.name == "cosign" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_fails_in_the_thread_ends_there_and_is_told(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """A disk that is full, or logs that cannot be read, must not end the controller."""

    def post(url: str, body: bytes, content_type: str) -> Reply:
        raise PermissionError(13, "not here")

    cosigning = Cosigning(site.home, site.policy, post, lambda *_: None)
    cosigning.start_when_due(site.clock.now)
    _until_idle()
    told = capsys.readouterr().err
    assert '"event":"cosign-failed"' in told
    assert "PermissionError" in told
    cosigning.start_when_due(site.clock.now)
    _until_idle()
    assert capsys.readouterr().err.count("cosign-failed") == 1, "and it is tried again"


def test_without_anybody_to_ask_no_thread_is_started(site: Site) -> None:
    """The shipped policy asks nobody: nothing is opened, nothing leaves."""

    def post(url: str, body: bytes, content_type: str) -> Reply:
        raise AssertionError("nobody was to be asked")

    cosigning = Cosigning(site.home, POLICY, post, lambda *_: None)
    assert not cosigning.is_configured
    cosigning.start_when_due(site.clock.now)
    assert not any(thread.name == "cosign" for thread in threading.enumerate())
    assert cosigning.run(site.clock.now) == ()
    states = {each.witnesses.state for each in outside.standings(site.home, POLICY, site.clock.now)}
    assert states == {State.NOT_CONFIGURED}


def test_one_damaged_log_does_not_keep_the_others_from_being_cosigned(site: Site) -> None:
    """Their witnesses are what is left to compare with."""
    asked = []

    def post(url: str, body: bytes, content_type: str) -> Reply:
        asked.append(body.rpartition(b"\n\n")[0].split(b"\n")[-3])
        return Reply(0, "", b"")

    site.close()
    (site.home.audit / "gateway/event/checkpoint").write_bytes(b"rubbish")
    cosigning = Cosigning(site.home, site.policy, post, lambda *_: None)
    codes = {each.origin: each.code for each in cosigning.run(site.clock.now)}
    assert codes.pop("local/gateway/event") == "tile-missing"
    assert set(codes.values()) == {"witness-silent"}
    assert len(asked) == 8
