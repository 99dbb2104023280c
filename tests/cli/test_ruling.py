"""`sovereign audit verify` judges erasures by a policy and the clock, here and elsewhere."""

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from sovereign.audit.trail import Trail
from sovereign.cli import ruling
from sovereign.registry import utcnow
from sovereign.settings import Home, Settings
from tests.cli.conftest import Run
from tests.retention.site import DECISION

EVENT = "local/gateway/event"
POLICIES = str(Path(__file__).resolve().parents[2] / "policies")
LOGS = ("gateway/event", "controller/evidence")


@pytest.fixture
def decided(site: Path) -> Home:
    it = Home(site, Settings())
    with Trail.open(it.audit, it.keys, "gateway", "local", utcnow) as trail:
        trail.record("decision", **DECISION).result(10)
    return it


def later(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    """The command runs so many days from now."""
    now = utcnow() + timedelta(days=days)
    monkeypatch.setattr(ruling, "utcnow", lambda: now)


@pytest.mark.parametrize(("days", "code"), [(365.9, 0), (366.1, 1)])
def test_a_site_is_judged_by_its_own_policy_now(
    decided: Home, run: Run, monkeypatch: pytest.MonkeyPatch, days: float, code: int
) -> None:
    """Nobody has to remember an option for data to be called overdue."""
    later(monkeypatch, days)
    done = run("audit", "verify", "--json")
    found = [(f["code"], log["origin"]) for log in done.json["logs"] for f in log["findings"]]
    assert done.code == code
    overdue = {("erasure-overdue", log["origin"]) for log in done.json["logs"]}
    assert set(found) <= overdue
    assert (("erasure-overdue", EVENT) in found) is (code == 1)
    assert not [each for each in found if each[1].endswith("evidence")], "kept without end"


def test_logs_taken_away_are_judged_by_the_policy_that_is_given(
    decided: Home, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An auditor brings the policy she was shown, not the one she finds."""
    folders, keys = [], []
    for name in LOGS:
        folder = tmp_path / "taken" / name
        shutil.copytree(decided.audit / name, folder)
        folders.append(str(folder))
        keys += ["--vkey", str(decided.trust / f"{name.replace('/', '-')}.vkey")]
    later(monkeypatch, 400)
    asked = ("audit", "verify", *folders, *keys, "--part", "--json")
    assert run(*asked).code == 0, "without a policy nothing is late"
    done = run(*asked, "--policies", POLICIES)
    assert done.code == 1
    assert {f["code"] for log in done.json["logs"] for f in log["findings"]} == {"erasure-overdue"}


def test_a_policy_that_cannot_be_loaded_is_said_and_not_passed_over(
    decided: Home, run: Run, tmp_path: Path
) -> None:
    """A judgement that was skipped would look like one that was made."""
    done = run("audit", "verify", "--policies", str(tmp_path))
    assert (done.code, done.error) == (2, "policy-unreadable")
