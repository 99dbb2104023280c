"""`sovereign incident` as a person types it: what it prints, records, and refuses."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from tests.cli.conftest import Run, home, run, site
from tests.incidents.making import BREACH, DPO

__all__ = ["home", "run", "site"]
OPEN = (
    "incident",
    "open",
    "--kind",
    BREACH,
    "--cause",
    "content-found",
    "--role",
    "gdpr-controller",
)
DOCUMENTED = ("nature=integrity", "consequence=none-known", "measure=data-erased")


def opened(run: Run, *more: str) -> str:
    done = run(*OPEN, *more, "--json")
    assert done.code == 0, done.err
    return str(done.json["incident"])


def facts() -> list[str]:
    return [word for fact in DOCUMENTED for word in ("--fact", fact)]


def stands(run: Run, incident: str) -> dict[str, str]:
    (shown,) = run("incident", "clock", incident, "--json").json["incidents"]
    return {duty["duty"]: duty["standing"] for duty in shown["duties"]}


def test_an_incident_is_opened_confirmed_reported_and_closed(
    run: Run, site: Path, tmp_path: Path
) -> None:
    """The whole story of a breach, in the order in which it is told."""
    it = opened(run, "--noticed", "2h")
    assert stands(run, it) == {
        "gdpr-33-1": "due",
        "gdpr-33-2": "not-applicable",
        "gdpr-34-1": "due",
    }
    assert run("incident", "close", it, "--outcome", "handled", "--approver", DPO).code == 2
    assert run("incident", "add", it, "--confirm", *facts()).code == 0
    refused = run("incident", "close", it, "--outcome", "handled", "--approver", DPO)
    assert (refused.code, refused.error) == (1, "incident-incomplete")
    report = tmp_path / "report.md"
    drafted = run("incident", "report", it, "--out", str(report), "--json")
    assert (drafted.code, report.read_text()) == (3, drafted.json["markdown"])
    assert drafted.json["blanks"]
    sent = ("--done", "gdpr-33-1", "--how", "portal", "--document", str(report))
    assert run("incident", "add", it, *sent, "--reference", "AZ-2026/1").code == 0
    excuse = ("--not-applicable", "gdpr-34-1", "--ground", "high-risk-unlikely")
    assert run("incident", "add", it, *excuse, "--approver", DPO).code == 0
    assert run("incident", "close", it, "--outcome", "handled", "--approver", DPO).code == 0
    shown = run("incident", "show", it, "--json").json
    assert (shown["state"], shown["outcome"]) == ("closed", "handled")
    duty = next(each for each in shown["duties"] if each["duty"] == "gdpr-33-1")
    assert duty["document"] == sha256(report.read_bytes()).hexdigest()
    assert len(shown["history"]) == 8
    assert run("incident", "list", "--json").json == {"incidents": [], "gaps": []}
    assert [
        each["incident"] for each in run("incident", "list", "--all", "--json").json["incidents"]
    ] == [it]
    assert run("audit", "verify").code == 0


def test_a_late_duty_ends_with_1_and_says_by_how_much(run: Run, site: Path) -> None:
    """A script that looks every hour needs no more."""
    it = opened(run, "--noticed", "73h")
    for words in (("clock",), ("clock", it), ("list",)):
        done = run("incident", *words)
        assert done.code == 1
        assert "late by 1 h 0 min" in done.out
    in_time = f"{datetime.now(UTC) - timedelta(hours=20):%Y-%m-%dT%H:%M:%SZ}"
    said = ("--done", "gdpr-33-1", "--at", in_time, "--how", "portal")
    assert run("incident", "add", it, *said).code == 0
    assert stands(run, it)["gdpr-33-1"] == "done"


def test_what_is_refused_leaves_no_record_of_what_was_said_with_it(run: Run, site: Path) -> None:
    """Half of what somebody said is not what they said."""
    it = opened(run)
    before = run("incident", "show", it, "--json").json["history"]
    done = run("incident", "add", it, "--confirm", "--fact", "nature=Erika Mustermann")
    assert (done.code, done.error) == (2, "unknown-name")
    assert run("incident", "show", it, "--json").json["history"] == before
    for path in (site / "audit").rglob("*"):
        assert not path.is_file() or b"Mustermann" not in path.read_bytes()


def test_a_dry_run_says_what_it_would_record_and_records_nothing(run: Run, site: Path) -> None:
    """Evidence cannot be taken back."""
    done = run(*OPEN, "--dry-run", "--json").json
    assert (done["dry_run"], done["said"][0]["type"], done["records"]) == (
        True,
        "incident-opened",
        [],
    )
    assert "nothing was recorded" in run(*OPEN, "--dry-run").out
    it = opened(run)
    closing = ("incident", "close", it, "--outcome", "no-incident", "--approver", DPO)
    assert run(*closing, "--dry-run").code == 0
    assert [each["state"] for each in run("incident", "list", "--json").json["incidents"]] == [
        "suspected"
    ]


def test_awareness_that_was_moved_is_shown_with_both_times(run: Run, site: Path) -> None:
    """And with the role that answers for it."""
    it = opened(run, "--noticed", "5h")
    moved = ("--noticed", "1h", "--why", "suspicion-only")
    assert run("incident", "add", it, *moved).code == 2
    assert run("incident", "add", it, *moved, "--approver", DPO).code == 0
    first, last = run("incident", "show", it, "--json").json["noticed"]
    assert (first["reason"], last["reason"], last["approver"]) == (None, "suspicion-only", DPO)
    assert first["noticed_at"] < last["noticed_at"]


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (("open", "--cause", "content-found"), 2, "bad-input"),
        (("open", "--kind", "breach", "--cause", "content-found"), 2, "unknown-name"),
        ((*OPEN[1:], "--noticed", "2026-11-24T12:00:00"), 2, "naive-time"),
        ((*OPEN[1:], "--noticed", "2999-01-01T00:00:00Z"), 2, "bad-input"),
        (("add", "IT"), 2, "bad-input"),
        (("add", "IT", "--fact", "nature"), 2, "bad-input"),
        (("add", "IT", "--fact", "records=prompts:many"), 2, "bad-input"),
        (
            ("add", "IT", "--done", "gdpr-33-1", "--how", "portal", "--document", "/x"),
            2,
            "bad-input",
        ),
        (("add", "inc_0", "--confirm"), 2, "unknown-name"),
        (("show", "inc_0"), 2, "unknown-name"),
        (("report", "inc_0"), 2, "unknown-name"),
        (
            ("close", "IT", "--outcome", "duplicate", "--of", "inc_0", "--approver", DPO),
            2,
            "unknown-name",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_would(
    run: Run, site: Path, words: tuple[str, ...], code: int, error: str
) -> None:
    """Exit 2 and a word that leads to a runbook."""
    it = opened(run)
    done = run("incident", *(it if word == "IT" else word for word in words))
    assert (done.code, done.error) == (code, error), done.err


def test_without_a_site_there_is_no_incident(run: Run) -> None:
    """Exit 3: it could not be determined."""
    for words in (("list",), ("clock",), ("show", "inc_0"), OPEN[1:]):
        assert run("incident", *words).code == 3
