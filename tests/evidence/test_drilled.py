"""What the control `canary-drilled` believes: a pass, lately, of this version; nothing else."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sovereign import __version__
from sovereign.audit import trail as trails
from sovereign.audit.merkle import TILE_WIDTH
from sovereign.audit.trail import Trail
from sovereign.evidence import drilled
from sovereign.evidence.checks import Site, answer
from sovereign.evidence.verdict import State
from sovereign.registry import utcnow
from sovereign.settings import Home, Settings
from tests.controller.seen import POLICY

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
SAID: dict[str, Any] = {
    "type": "drill",
    "drill": "canary",
    "verdict": "pass",
    "cases": 561,
    "findings": 0,
    "unknown": 0,
    "version": __version__,
    "at": "2026-11-24T12:00:00.000000Z",
}


@pytest.mark.parametrize(
    ("more", "state", "told"),
    [
        ({}, State.PASS, "561 cases"),
        ({"at": "2026-10-25T12:00:00.000000Z"}, State.PASS, "561 cases"),  # 31 days to the second
        ({"at": "2026-10-25T11:59:59.000000Z"}, State.UNKNOWN, "older than 31 days"),
        ({"at": "2026-11-25T12:00:01.000000Z"}, State.UNKNOWN, "ahead of this machine's clock"),
        ({"verdict": "finding", "findings": 2}, State.FAIL, "2 findings"),
        ({"verdict": "unknown", "unknown": 3}, State.UNKNOWN, "3 things could not be told"),
        ({"verdict": "splendid"}, State.UNKNOWN, "could not be told"),
        ({"version": "0.0.1"}, State.UNKNOWN, "of version 0.0.1"),
        ({"verdict": "finding", "at": "2020-01-01T00:00:00.000000Z"}, State.FAIL, "findings"),
    ],
)
def test_a_record_of_a_drill_is_worth_what_it_says_for_a_month(
    more: dict[str, Any], state: State, told: str
) -> None:
    """A drill of last year, or of other software, says nothing of what runs today."""
    found = drilled.verdict("canary", 31, {**SAID, **more}, NOW)
    assert found.state is state
    assert told in found.found


def test_a_site_that_was_never_drilled_is_not_known_and_is_told_how() -> None:
    """The next command stands in the verdict."""
    found = drilled.verdict("canary", 31, None, NOW)
    assert found.state is State.UNKNOWN
    assert "sovereign drill canary" in found.found


@pytest.fixture
def home(tmp_path: Path) -> Home:
    it = Home(tmp_path, Settings())
    trails.create(it.audit, it.keys, it.trust, "operator", "local")
    return it


def record(home: Home, *rows: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"took_s": 1, "policy": POLICY.digest}
    with Trail.open(home.audit, home.keys, "operator", "local", utcnow) as log:
        for row in rows:
            kept = {name: value for name, value in row.items() if name not in ("type", "at")}
            last = log.record("drill", **kept, **fields)
        last.result(10)


def test_the_newest_record_of_that_drill_counts_however_many_lie_after_it(home: Home) -> None:
    """The log is read from its end, bundle by bundle, and other drills are passed over."""
    record(home, SAID, {**SAID, "verdict": "finding", "findings": 1})
    site = Site(home, POLICY, utcnow() + timedelta(seconds=1))
    assert answer(site, "canary_drilled").state is State.FAIL
    record(home, SAID)
    assert answer(site, "canary_drilled").state is State.PASS
    record(home, *[{**SAID, "drill": "clock", "verdict": "finding"}] * (2 * TILE_WIDTH))
    assert answer(site, "canary_drilled").state is State.PASS
    found = drilled.newest(home, "kill")
    assert found is None


@pytest.mark.parametrize(("drill", "days"), [("disconnect", 184), ("restore", 92)])
def test_cutting_off_and_restoring_are_asked_for_as_often_as_the_policy_says(
    home: Home, drill: str, days: int
) -> None:
    """A drill of an earlier version shows that a copy can be put back; last year's does not."""
    check, now = f"{drill}_drilled", utcnow()
    assert answer(Site(home, POLICY, now), check).state is State.UNKNOWN
    record(home, {**SAID, "drill": drill, "version": "0.0.1"})
    then = utcnow() + timedelta(seconds=1)
    assert answer(Site(home, POLICY, then), check).state is State.PASS
    late = answer(Site(home, POLICY, then + timedelta(days=days)), check)
    assert (late.state, f"older than {days} days" in late.found) == (State.UNKNOWN, True)
    record(home, {**SAID, "drill": drill, "verdict": "finding", "findings": 1})
    assert answer(Site(home, POLICY, utcnow()), check).state is State.FAIL


def test_a_drill_that_the_policy_does_not_ask_for_does_not_apply(home: Home) -> None:
    """Where there is no copy to restore from, the policy says so, and the report does."""
    found = drilled.verdict("restore", 0, None, NOW)
    assert found.state is State.NOT_APPLICABLE
