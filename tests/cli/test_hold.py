"""`sovereign hold` as a person types it: what it prints, how it ends, and what it refuses."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sovereign.audit.trail import Trail
from sovereign.registry import utcnow
from sovereign.settings import Home, Settings
from tests.cli.conftest import Run
from tests.retention.site import DECISION

TERMS = ("--basis", "gdpr-17-3-e", "--approver", "legal-counsel")


def day(offset: int) -> str:
    return f"{datetime.now(UTC) + timedelta(days=offset):%Y-%m-%d}"


@pytest.fixture
def decided(site: Path) -> Path:
    """A site with two decisions of a tenant and one of another."""
    it = Home(site, Settings())
    with Trail.open(it.audit, it.keys, "gateway", "local", utcnow) as trail:
        for tenant in ("acme", "acme", "beta"):
            trail.record("decision", **{**DECISION, "tenant": tenant}).result(10)
    return site


def place(run: Run, *more: str) -> str:
    done = run("hold", "place", *TERMS, "--expires", day(30), "--tenant", "acme", "--json", *more)
    assert done.code == 0, done.err
    return str(done.json["hold"])


def test_a_hold_is_placed_listed_shown_and_released(decided: Path, run: Run) -> None:
    """The four verbs a data protection officer needs, in the order in which they come."""
    hold = place(run)
    assert re.fullmatch(r"hold_[0-9a-f]{12}", hold)
    (listed,) = run("hold", "list", "--json").json["holds"]
    assert (listed["hold"], listed["state"], listed["records"]) == (hold, "in-force", 2)
    assert listed["scope"] == {"tenant": "acme"}
    shown = run("hold", "show", hold, "--json")
    assert (shown.code, shown.json["findings"]) == (0, [])
    done = run("hold", "release", hold, "--approver", "legal-counsel", "--json")
    assert done.json["record"].startswith("local/operator/evidence#")
    (listed,) = run("hold", "list", "--json").json["holds"]
    assert listed["state"] == "released"
    assert hold in run("hold", "list").out
    assert "gdpr-17-3-e" in run("hold", "show", hold).out


def test_a_dry_run_says_what_it_would_hold_and_leaves_nothing(decided: Path, run: Run) -> None:
    """Whoever approves wants to see the number first."""
    asked = ("hold", "place", *TERMS, "--expires", day(30), "--tenant", "acme", "--dry-run")
    done = run(*asked, "--json")
    assert (done.json["dry_run"], done.json["records"]) == (True, 2)
    assert done.json["logs"] == {"local/gateway/event": 2}
    assert "would hold 2 records" in run(*asked).out
    assert run("hold", "list", "--json").json == {"holds": []}
    assert not (decided / "holds").exists()
    hold = place(run)
    rehearsed = run("hold", "release", hold, "--approver", "legal-counsel", "--dry-run", "--json")
    assert rehearsed.json == {"hold": hold, "dry_run": True, "record": None}
    assert run("hold", "list", "--json").json["holds"][0]["state"] == "in-force"


def test_verify_looks_at_holds_too(decided: Path, run: Run) -> None:
    """One command says whether everything is as it was recorded."""
    hold = place(run)
    done = run("audit", "verify", "--json")
    assert (done.code, f"holds/{hold}" in {log["origin"] for log in done.json["logs"]}) == (0, True)
    (decided / "holds" / hold / "manifest").write_text("")
    done = run("audit", "verify", "--json")
    assert done.code == 1
    (wrong,) = [f for log in done.json["logs"] for f in log["findings"]]
    assert (wrong["code"], wrong["where"]) == ("hold-differs", f"holds/{hold}/manifest")
    assert run("hold", "show", hold).code == 1


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (("--expires", "2027-06-30"), "bad-input"),  # for no case
        (("--expires", "soon", "--tenant", "acme"), "bad-input"),
        (("--expires", "2020-01-01", "--tenant", "acme"), "bad-input"),
        (("--expires", "9999-12-31", "--tenant", "acme"), "bad-input"),
        (("--expires", "DAY", "--tenant", "nobody"), "bad-input"),
        (("--expires", "DAY", "--subject", "Erika Mustermann"), "bad-input"),
        (("--expires", "DAY", "--tenant", "acme", "--from", "1d", "--to", "2d"), "bad-input"),
        (("--expires", "DAY", "--tenant", "acme", "--from", "2026-01-01T00:00:00"), "naive-time"),
        (("--expires", "DAY", "--log", "local/nobody/event"), "unknown-name"),
        (("--expires", "DAY", "--tenant", "acme", "--basis", "because"), "unknown-name"),
        (("--expires", "DAY", "--tenant", "acme", "--approver", "me"), "unknown-name"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_held(
    decided: Path, run: Run, more: tuple[str, ...], code: str
) -> None:
    """Exit 2 and a word that leads to a runbook; never half a hold."""
    words = tuple(day(30) if word == "DAY" else word for word in more)
    done = run("hold", "place", *TERMS, *words)
    assert (done.code, done.error) == (2, code)
    assert not (decided / "holds").exists()


def test_a_hold_that_is_none_cannot_be_shown_or_released(decided: Path, run: Run) -> None:
    """The message names those there are."""
    hold = place(run)
    for words in (("show", "hold_0"), ("release", "hold_0", "--approver", "legal-counsel")):
        done = run("hold", *words)
        assert (done.code, done.error) == (2, "unknown-name")
        assert hold in done.err


def test_without_a_site_there_is_nothing_to_hold(run: Run) -> None:
    """Exit 3: it could not be determined."""
    assert run("hold", "list").code == 3


def test_a_site_with_a_hold_in_force_is_not_erased(decided: Path, run: Run) -> None:
    """What a court may ask for must not go with a cleaning up."""
    hold = place(run)
    for words in ((), ("--erase-audit-log", "--yes-erase-audit-log")):
        done = run("down", "--erase", *words, "--json")
        assert (done.code, done.json["error"]["found"]) == (1, hold)
    assert (decided / "holds" / hold).is_dir()
    assert run("down", "--json").code == 0
    run("hold", "release", hold, "--approver", "legal-counsel")
    done = run("down", "--erase", "--erase-audit-log", "--yes-erase-audit-log", "--json")
    assert done.code == 0, done.err
    assert not (decided / "holds").exists()


def test_what_a_person_is_shown_of_a_hold_is_no_code(decided: Path, run: Run) -> None:
    """Brackets and quotes are for programs."""
    shown = run("hold", "show", place(run)).out
    assert "tenant acme" in shown
    assert "local/gateway/event" in shown
    assert "[" not in shown
