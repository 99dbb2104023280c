"""The first key: whatever a crash interrupts, the log names every key that could knock."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sovereign.fleet import members, records
from sovereign.keystore import Keystore
from sovereign.registry import utcnow
from sovereign.settings import Home, Settings
from sovereign.supervisor import deployment
from sovereign.supervisor.deployment import Choices, Deployed, Deployment, create_first_key
from tests.controller.seen import POLICY


class Killed(Exception):
    """The process ended here."""


class Boundaries:
    """Counts the moments before and after each lasting change, and ends the process at one."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.passed = 0
        self.last = -1
        for where, name in (
            (deployment, "_save"),
            (deployment, "_record_key"),
            (Keystore, "add"),
            (Keystore, "revoke"),
        ):
            patch.setattr(where, name, self._around(getattr(where, name)))

    def _around(self, change: Callable[..., Any]) -> Callable[..., Any]:
        def changing(*args: Any) -> Any:
            self._moment()
            result = change(*args)
            self._moment()
            return result

        return changing

    def _moment(self) -> None:
        self.passed += 1
        if self.passed == self.last:
            raise Killed


def run(home: Home) -> Deployment:
    """The step as a new process runs it: it knows what the files say, and nothing more."""
    again = Deployment(home, Choices(), POLICY, deployment._deployed(home))
    create_first_key(again)
    return again


def made(root: Path) -> Home:
    home = Home(root, Settings())
    deployment.create_logs(Deployment(home, Choices(), POLICY, Deployed()))
    return home


def recorded(home: Home, kind: str) -> list[str]:
    """Ids of the keys that the operator's log names in records of this type."""
    (member,) = [
        m for m in members(home) if m.stream == "security" and m.folder.parent.name == "operator"
    ]
    return [f["key"] for _, f in records(member, 0, 10_000) if f["type"] == kind]


def in_state(home: Home, state: str) -> set[str]:
    keys = Keystore(home.keystore).known().keys.values()
    return {key.id for key in keys if key.state(utcnow()) == state}


@pytest.mark.parametrize("earlier", [0, 1], ids=["first-run", "after-one-that-never-answered"])
def test_a_first_key_that_a_crash_interrupts_is_made_once_and_recorded_always(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, earlier: int
) -> None:
    """A key that no record names, or that nobody knows to revoke, would be a door left open."""
    boundaries = Boundaries(monkeypatch)
    at, survived = 0, False
    while not survived:
        at += 1
        home = made(tmp_path / str(at))
        boundaries.last = -1
        for _ in range(earlier):
            run(home)
        boundaries.passed, boundaries.last = 0, at
        try:
            run(home)
            survived = True
        except Killed:
            assert in_state(home, "active") <= set(recorded(home, "key-created")), at
        boundaries.last = -1
        last = run(home)
        assert in_state(home, "active") == {last.deployed.key_id}, at
        revoked = in_state(home, "revoked")
        assert revoked | {last.deployed.key_id} <= set(recorded(home, "key-created")), at
        assert revoked <= set(recorded(home, "key-revoked")), at
        assert last.secret
    moments = 2 * (3 + 2 * earlier)  # before and after each of: save, record, add; revoke, record
    assert at == moments + 1


def test_a_key_that_answered_once_is_left_alone(tmp_path: Path) -> None:
    """A second deployment must not lock out the clients of the first."""
    home = made(tmp_path)
    first = run(home)
    first.deployed.record = "local/gateway/event#1"
    deployment._save(first)
    second = run(home)
    assert second.secret == ""
    assert in_state(home, "active") == {first.deployed.key_id}
    assert recorded(home, "key-created") == [first.deployed.key_id]
