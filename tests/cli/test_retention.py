"""`sovereign retention`: what a data protection officer asks before anything is erased."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sovereign import policy as policies
from sovereign.audit.trail import Trail
from sovereign.controller.retain import Retaining
from sovereign.registry import utcnow
from sovereign.settings import Home, Settings
from tests.cli.conftest import Run
from tests.cli.test_hold import TERMS, day
from tests.retention.site import DECISION

EVENT = "local/gateway/event"


@pytest.fixture
def decided(site: Path) -> Home:
    """One whole bundle and a part of the next."""
    it = Home(site, Settings())
    with Trail.open(it.audit, it.keys, "gateway", "local", utcnow) as trail:
        for future in [trail.record("decision", **DECISION) for _ in range(300)]:
            future.result(10)
    return it


def at(days: float) -> str:
    return f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"


def test_the_status_says_how_much_since_when_and_for_how_long(decided: Home, run: Run) -> None:
    """Exit 0 means that nothing is there that should not be."""
    done = run("retention", "status", "--json")
    assert done.code == 0
    (event,) = [each for each in done.json["sinks"] if each["sink"] == EVENT]
    assert (event["class"], event["items"], event["at_most"]) == ("event", 2, "365 d")
    assert EVENT in run("retention", "status").out


@pytest.mark.parametrize(("days", "code"), [(365.9, 0), (366.1, 1)])
def test_the_status_of_another_day_says_what_would_be_overdue(
    decided: Home, run: Run, days: float, code: int
) -> None:
    """The edge is the one that verification has."""
    done = run("retention", "status", "--at", at(days), "--json")
    assert done.code == code
    late = {each["sink"]: each["overdue"] for each in done.json["sinks"]}
    assert late[EVENT] == (2 if code else 0)
    assert late["local/gateway/evidence"] == 0


@pytest.mark.parametrize(("days", "items"), [(363.9, set()), (364.1, {"tile/entries/000"})])
def test_a_plan_lists_what_a_run_would_erase_and_erases_nothing(
    decided: Home, run: Run, days: float, items: set[str]
) -> None:
    """The same decision as the controller's, so it cannot promise something else."""
    done = run("retention", "plan", "--at", at(days), "--json")
    listed = {row["item"] for row in done.json["due"] if row["sink"] == EVENT}
    assert {item for item in listed if ".p/" not in item} == items
    assert (decided.audit / "gateway/event/tile/entries/000").exists()
    assert "only the controller erases" in run("retention", "plan", "--at", at(days)).out


def test_a_plan_lists_holds_that_would_be_over(decided: Home, run: Run) -> None:
    """What is kept longer goes too, and is asked about the same way."""
    placed = run("hold", "place", *TERMS, "--expires", day(9), "--tenant", "acme", "--json").json
    held = [r for r in run("retention", "plan", "--json").json["due"] if r["sink"] == "hold"]
    assert held == []
    (row,) = [
        r
        for r in run("retention", "plan", "--at", at(10), "--json").json["due"]
        if r["sink"] == "hold"
    ]
    assert (row["item"], row["rule"]) == (placed["hold"], "hold-expired")


def test_a_run_is_asked_for_in_the_log_and_waited_for(decided: Home, run: Run) -> None:
    """Only the controller erases; who has no controller running learns that in time."""
    done = run("retention", "run", "--wait", "0")
    assert (done.code, done.error) == (3, "process-failed")
    policy = policies.load(None, "eea")
    with Trail.open(decided.audit, decided.keys, "controller", "local", utcnow) as trail:
        end, retaining = threading.Event(), Retaining(decided, policy, trail)

        def rounds() -> None:
            while not end.wait(0.05):
                retaining.run_when_due(utcnow())

        thread = threading.Thread(target=rounds)
        thread.start()
        try:
            (decided.root / "core.1").write_text("x")
            done = run("retention", "run", "--json")
        finally:
            end.set()
            thread.join(20)
    assert (done.code, done.json["unseen"], done.json["refused"]) == (0, 0, 0)
    assert not (decided.root / "core.1").exists()


def test_a_dry_run_is_the_plan_and_asks_for_nothing(decided: Home, run: Run) -> None:
    """What deletes can be looked at first."""
    (decided.root / "core.1").write_text("x")
    done = run("retention", "run", "--dry-run", "--json")
    assert [row["item"] for row in done.json["due"]] == ["core.1"]
    assert (decided.root / "core.1").exists()


def test_the_status_names_what_nobody_declared(decided: Home, run: Run) -> None:
    """A sink behind the controller's back is a finding, not a footnote."""
    (decided.root / "prompts.jsonl").write_text("x")
    done = run("retention", "status", "--json")
    assert (done.code, done.json["undeclared"]) == (1, [str(decided.root / "prompts.jsonl")])
    assert "prompts.jsonl" in run("retention", "status").out


def test_a_time_that_is_none_is_refused(decided: Home, run: Run) -> None:
    """A plan for another day than was meant would reassure for nothing."""
    assert run("retention", "plan", "--at", "soon").error == "bad-input"
    assert run("retention", "plan", "--at", "2026-01-01T00:00:00").error == "naive-time"
