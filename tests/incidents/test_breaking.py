"""What goes wrong while something has gone wrong: kills, clocks, two people at once, holds."""

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from sovereign import fleet
from sovereign.controller.exposed import of_incidents
from sovereign.incidents.ledger import CLOCK_SLACK, Ledger
from sovereign.incidents.opening import Opening
from sovereign.registry import utcnow
from sovereign.settings import Home, Settings
from tests.cli.conftest import Run, run, site
from tests.incidents.making import DPO, HOUR, NOW, POLICY, home_at, writing
from tests.incidents.test_command import opened, stands
from tests.incidents.test_opening import shut

__all__ = ["run", "site"]
ROOT = Path(__file__).resolve().parents[2]
ENDS_WITHIN_S = 120


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def suspected(home: Home) -> float:
    """What Prometheus sees, and the alarm rings for."""
    known = Ledger(home).look()
    found = {(gauge, labels): value for gauge, labels, value in of_incidents(known, POLICY, NOW)}
    return next(value for (_, labels), value in found.items() if labels == ("suspected",))


@pytest.mark.parametrize("step", ["before", "after"])
def test_a_controller_killed_between_opening_and_telling_leaves_one_incident_that_rings(
    home: Path, step: str
) -> None:
    """The alarm is counted out of the log, so nobody has to be alive to pass it on."""
    where = home_at(home)
    trail = writing(where, "controller")
    trigger = shut(where, trail, "telemetry-on")
    trail.close()
    killed = subprocess.run(
        [sys.executable, "-m", "tests.incidents.killed", str(home), step],
        cwd=ROOT,
        timeout=ENDS_WITHIN_S,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    for _ in range(2):
        trail = writing(where, "controller")
        Opening(where, POLICY, trail).look(NOW + HOUR)
        trail.close()
    (it,) = Ledger(where).look().incidents.values()
    assert (it.trigger, it.noticed_at) == (trigger, NOW), "and no time was won by dying"
    assert suspected(where) == 1


def test_a_clock_that_is_moved_back_stops_no_look_at_the_logs(home: Path) -> None:
    """Else whoever sets it back by a year has a year to cut logs in."""
    where = home_at(home)
    with writing(where, "gateway") as trail:
        trail.record("policy-loaded", policy="p", profile="eea").result(30)
    fleet.verify(where)
    (member,) = [m for m in fleet.members(where) if m.origin == "local/gateway/evidence"]
    trail = writing(where, "controller")
    opening = Opening(where, POLICY, trail)
    opening.look(NOW)
    (member.folder / "checkpoint").unlink()
    for past in (365 * 24 * HOUR, 364 * 24 * HOUR):
        opening.look(NOW - past)
    trail.close()
    assert [each.cause for each in Ledger(where).look().incidents.values()] == ["log-finding"]


def test_time_left_by_a_clock_that_is_behind_the_log_is_not_believed(
    run: Run, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock set back by a day shows a day more than there is."""
    it = opened(run)
    newest = Ledger(Home(site, Settings())).look().newest
    assert newest is not None
    for behind, code in ((CLOCK_SLACK, 0), (timedelta(days=1), 3)):
        monkeypatch.setattr("sovereign.cli.incident.utcnow", lambda now=newest - behind: now)
        for words in (("clock",), ("clock", it), ("list",), ("show", it)):
            done = run("incident", *words)
            assert done.code == code, words
            assert ("86400 s behind the newest record" in done.out) == bool(code)
    monkeypatch.setattr("sovereign.cli.incident.utcnow", lambda: newest + timedelta(days=30))
    assert run("incident", "clock").code == 1, "a clock moved forward makes things late, not done"


def test_two_people_who_say_one_thing_at_once_have_said_it_once(run: Run, site: Path) -> None:
    """Two notifications in the evidence where one was sent would be a false statement."""
    it = opened(run)
    words = ["incident", "add", it, "--done", "gdpr-33-1", "--how", "portal"]
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "sovereign", *words],
            cwd=ROOT,
            env={**os.environ, "SOVEREIGN_HOME": str(site)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]
    codes = sorted(each.wait(ENDS_WITHIN_S) for each in both)
    assert codes in ([0, 2], [0, 3]), "the other is refused, or told that the log is held"
    (found,) = Ledger(Home(site, Settings())).look().incidents.values()
    assert [(each.duty, each.state) for each in found.said] == [("gdpr-33-1", "done")]
    assert found.strange == ()


def test_what_one_closes_the_other_cannot_go_on_with(run: Run, site: Path) -> None:
    """The second decides on what the first left, not on what it saw on its screen."""
    it = opened(run)
    before = run("incident", "show", it, "--json").json
    closing = ("incident", "close", it, "--outcome", "no-incident", "--approver", DPO)
    assert (before["state"], run(*closing).code) == ("suspected", 0)
    for words in (("--confirm",), ("--fact", "nature=integrity"), ("--noticed", "1h")):
        done = run("incident", "add", it, *words, "--why", "told-later", "--approver", DPO)
        assert (done.code, done.error) == (2, "bad-input"), words
    assert run(*closing).code == 2


def test_a_hold_on_the_records_of_an_incident_changes_nothing_about_it(
    run: Run, site: Path
) -> None:
    """A court wants copies; the incident goes on, is closed, and outlives the hold."""
    it = opened(run, "--noticed", "1h")
    ends = (utcnow() + timedelta(days=200)).date().isoformat()
    held = ("--basis", "gdpr-17-3-e", "--approver", DPO, "--log", "local/operator/evidence")
    placed = run("hold", "place", *held, "--expires", ends, "--json")
    (record,) = Ledger(Home(site, Settings())).look().incidents[it].history
    assert placed.code == 0, placed.err
    assert record.name.endswith(f"#{placed.json['records'] - 1}"), "the newest that is held"
    assert stands(run, it)["gdpr-33-1"] == "due"
    closing = ("incident", "close", it, "--outcome", "no-incident", "--approver", DPO)
    assert run(*closing).code == 0
    assert run("hold", "release", placed.json["hold"], "--approver", DPO).code == 0
    shown = run("incident", "show", it, "--json").json
    assert (shown["state"], len(shown["history"]), shown["gaps"]) == ("closed", 2, [])
    assert run("audit", "verify").code == 0
