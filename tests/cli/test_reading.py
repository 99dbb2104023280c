"""`audit tail` and `audit search`: a reason first, then the record of it, and only then the log."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sovereign import settings
from sovereign.audit import record, tiles
from sovereign.audit.trail import Trail
from sovereign.errors import LogUnwritable, RecordInvalid
from sovereign.keystore import Keystore
from sovereign.registry import utcnow
from sovereign.supervisor import deployment
from tests.cli.conftest import Run
from tests.cli.running import Done

KEY = ("key", "create", "--tenant", "hr", "--purpose", "cv-screening")
SEARCH = ("audit", "search", "--reason", "audit")
SECURITY = "local/operator/security"
EVENT = "local/gateway/event"
PERSON = "1087ff26c4f9627eb2310831c16829000dd7abfccdafe1dad180d04ceb420ee6"


def lines(done: Done) -> list[dict[str, Any]]:
    """The lines of a command that answers with JSON, one document each."""
    return [json.loads(line) for line in done.out.splitlines()]


def readings(run: Run) -> list[dict[str, Any]]:
    """What is recorded of readings, this one not included."""
    return lines(run(*SEARCH, "--type", "log-read", "--json"))


def write(site: Path, writer: str, count: int, kind: str, **fields: Any) -> None:
    """Have a writer record something, as its process would."""
    home = settings.load(site)
    with Trail.open(home.audit, home.keys, writer, "local", utcnow) as log:
        for each in [log.record(kind, **fields) for _ in range(count)]:
            each.result(60)


def calls(site: Path, count: int, **changed: Any) -> None:
    """Decisions of a gateway."""
    fields = {
        "request": 1,
        "tenant": "hr",
        "key": "key_1",
        "purpose": "cv-screening",
        "basis": "contract",
        "subject": "pseudonym",
        "data": "personal",
        "verb": "process",
        "model": "m",
        "asked_at": record.written(utcnow()),
        "verdict": "allow",
        "rule": "nothing-leaves-this-host",
        "policy": "0" * 64,
    }
    write(site, "gateway", count, "decision", **{**fields, **changed})


# --- the reason ------------------------------------------------------------------------------


def test_a_search_without_a_reason_shows_the_list_and_nothing_else(run: Run, site: Path) -> None:
    """Whoever looks says why, in words that name nobody."""
    done = run("audit", "search", "--json")
    assert (done.code, done.json["error"]["code"]) == (2, "bad-input")
    for reason in ("incident", "subject-request", "audit", "operations"):
        assert reason in done.json["error"]["accepted"]
    assert readings(run) == []


@pytest.mark.parametrize("verb", ["tail", "search"])
def test_free_text_is_no_reason(run: Run, site: Path, verb: str) -> None:
    """It would carry the name of whoever is looked for into a log that cannot be edited."""
    done = run("audit", verb, "--reason", "Mrs Example asked")
    assert (done.code, done.error) == (2, "unknown-name")
    assert "subject-request" in done.err
    assert readings(run) == []


def test_a_reading_is_recorded_before_it_with_what_it_was_by_and_never_for_whom(
    run: Run, site: Path
) -> None:
    """The record of a search for a person must not be one more trace of that person."""
    calls(site, 3, subject=PERSON, tenant="hr")
    done = run(
        *("audit", "search", "--log", EVENT, "--subject", PERSON, "--tenant", "hr"),
        *("--since", "1h", "--reason", "subject-request", "--json"),
    )
    assert [row["subject"] for row in lines(done)] == [PERSON] * 3
    (told,) = [row for row in readings(run) if row["log"] == EVENT]
    assert (told["by"], told["reason"]) == ("operator", "subject-request")
    assert told["filters"] == "since,tenant,subject"
    assert (told["first"], told["count"]) == (0, 5)  # created, reopened, and three decisions
    assert PERSON not in json.dumps(told)
    assert told["policy"] == run("policy", "digest").out.strip()


def test_tail_reads_for_operations_unless_told_otherwise(run: Run, site: Path) -> None:
    """A runbook at night needs no form, and is recorded all the same."""
    run("audit", "tail", "--log", EVENT)
    run("audit", "tail", "--log", EVENT, "-n", "1", "--reason", "incident")
    told = [(r["reason"], r["first"], r["count"]) for r in readings(run) if r["log"] == EVENT]
    assert told == [("operations", 0, 1), ("incident", 0, 1)]


def test_every_log_that_is_read_is_recorded(run: Run, site: Path) -> None:
    """One record a log, in one group."""
    run("audit", "tail")
    assert len({row["log"] for row in readings(run)}) == 9


@pytest.mark.parametrize("words", [("audit", "tail"), SEARCH, (*SEARCH, "--count")], ids=" ".join)
def test_what_cannot_be_recorded_is_not_shown(
    run: Run, site: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """Fail closed: not one line, while somebody else holds the operator's log."""
    monkeypatch.setattr(deployment, "OPERATOR_WAITS_S", 0.2)
    home = settings.load(site)
    with Trail.open(home.audit, home.keys, "operator", "local", utcnow):
        done = run(*words)
    assert (done.code, done.error, done.out) == (3, "log-locked", "")


def test_a_log_that_stops_at_the_record_shows_nothing(
    run: Run, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is no way to read unseen."""

    class Stopped:
        def result(self, timeout: float) -> None:
            raise LogUnwritable("the log stopped: No space left on device")

    monkeypatch.setattr(Trail, "record", lambda *_, **__: Stopped())
    done = run(*SEARCH)
    assert (done.code, done.error, done.out) == (3, "log-unwritable", "")


def test_where_the_operator_has_no_log_nothing_is_read(run: Run, home: Path) -> None:
    """Creating a log is an explicit verb, never a side effect of reading one."""
    assert run("audit", "create", "--writer", "gateway").code == 0
    done = run("audit", "tail")
    assert (done.code, done.error, done.out) == (3, "log-missing", "")
    assert not (home / "audit/operator").exists()


@pytest.mark.parametrize("words", [("search",), ("export", "--output", "x")], ids=" ".join)
def test_where_nothing_is_deployed_there_is_nothing_to_read(
    run: Run, home: Path, words: tuple[str, ...]
) -> None:
    """No site, no record of a reading: an auditor with folders has other verbs."""
    done = run("audit", *words, "--reason", "audit")
    assert (done.code, done.error) == (3, "not-deployed")
    assert not home.exists()


def test_a_policy_without_reasons_lets_nobody_read(run: Run, site: Path, tmp_path: Path) -> None:
    """Silence means no."""
    policies = tmp_path / "policies"
    _copy(Path(__file__).resolve().parents[2] / "policies", policies)
    rules = policies / "rules/audit.yaml"
    rules.write_text(rules.read_text().partition("\nreading:")[0] + "\n")
    (site / "sovereign.yaml").write_text(f"version: 1\npolicies: {policies}\n")
    done = run("audit", "tail")
    assert (done.code, done.error, done.out) == (2, "unknown-name", "")
    assert "lists no reason" in done.err


def _copy(source: Path, target: Path) -> None:
    for path in source.rglob("*"):
        if path.is_file():
            (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            (target / path.relative_to(source)).write_bytes(path.read_bytes())


# --- what is asked ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "error", "helps"),
    [
        (("--since", "yesterday"), "bad-input", "15m"),
        (("--since", "2026-11-24"), "naive-time", "2026-11-24T12:00:00Z"),
        (("--since", "2026-11-24T12:00:00"), "naive-time", "2026-11-24T12:00:00Z"),
        (("--since", "99999999999d"), "bad-input", "7d"),
        (("--since", "1h", "--until", "2h"), "bad-input", "--since before --until"),
        (("--since", "2026-13-01T00:00:00Z"), "bad-input", "2026-11-24T12:00:00Z"),
        (("--until", "-5m"), "bad-input", "15m"),
        (("--type", "prompt"), "unknown-name", "decision"),
        (("--verdict", "maybe"), "unknown-name", "allow, refuse"),
        (("--log", "local/nobody/event"), "unknown-name", "local/gateway/event"),
        (("--subject", "Mrs Example"), "bad-input", "64 hexadecimal digits"),
        (("--record", "x"), "bad-input", "17-40"),
        (("--record", "40-17"), "bad-input", "17-40"),
        (("--record", "local/gateway/event#"), "bad-input", "x-sovereign-record"),
        (("--record", "nobody#1"), "unknown-name", "local/gateway/event"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else words,
)
def test_a_question_that_means_nothing_is_answered_with_what_would(
    run: Run, site: Path, words: tuple[str, ...], error: str, helps: str
) -> None:
    """Nothing is read for it, so nothing is recorded either."""
    done = run(*SEARCH, *words)
    assert (done.code, done.error) == (2, error), done.err
    assert helps in done.err
    assert readings(run) == []


@pytest.mark.parametrize("words", [("--decision", "-1"), ("--limit", "0"), ("--decision", "many")])
def test_numbers_have_bounds(run: Run, site: Path, words: tuple[str, str]) -> None:
    """Asking wrongly, in the words of the command line itself."""
    assert run(*SEARCH, *words).code == 2


def test_ages_and_times_with_any_zone_mean_the_same(run: Run, site: Path) -> None:
    """An operator in Lisbon and one in Tallinn read the same records."""
    calls(site, 2)
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    tallinn = hour_ago + timedelta(hours=2)
    for since in ("1h", "60m", "3600s", f"{hour_ago:%Y-%m-%dT%H:%M:%SZ}",
                  f"{tallinn:%Y-%m-%dT%H:%M:%S}+02:00"):  # fmt: skip
        found = lines(
            run(*SEARCH, "--log", EVENT, "--type", "decision", "--since", since, "--json")
        )
        assert len(found) == 2, since
    assert lines(run(*SEARCH, "--log", EVENT, "--until", "1h", "--json")) == []


def test_a_sealed_subject_is_found_while_their_key_is_there(run: Run, site: Path) -> None:
    """By pseudonym; and not any more once the key is destroyed, for nobody can tell then."""
    run(*KEY)
    store = Keystore(site / "keys.sqlite")
    sealed = store.known().sealed("hr", PERSON)
    assert sealed != PERSON
    calls(site, 2, subject=sealed)
    calls(site, 1, subject=store.known().sealed("hr", "f" * 64))
    asked = (*SEARCH, "--subject", PERSON, "--count", "--json")
    assert run(*asked).json["count"] == 2
    store.destroy("hr", PERSON)
    assert run(*asked).json["count"] == 0


# --- what is shown ----------------------------------------------------------------------------


def test_search_filters_counts_and_limits(run: Run, site: Path) -> None:
    """The same records whichever way they are asked for."""
    calls(site, 3, tenant="hr")
    calls(site, 2, tenant="legal", verdict="refuse", rule="default-deny")
    for words, number in (
        (("--tenant", "hr"), 3),
        (("--verdict", "refuse"), 2),
        (("--rule", "default-deny"), 2),
        (("--tenant", "hr", "--verdict", "refuse"), 0),
        (("--type", "decision"), 5),
        (("--record", f"{EVENT}#2-3"), 2),
        (("--record", "2"), 1),
        (("--type", "decision", "--limit", "4"), 4),
    ):
        rows = lines(run(*SEARCH, "--log", EVENT, *words, "--json"))
        assert len(rows) == number, words
    tenant = (*SEARCH, "--tenant", "legal")
    assert {row["tenant"] for row in lines(run(*tenant, "--json"))} == {"legal"}
    nothing = {"erased": 0, "missing": 0, "unreadable": 0}
    counted = {"count": 2, "logs": {EVENT: 2}, **nothing}
    assert run(*tenant, "--count", "--json").json == counted
    assert "2 found" in run(*tenant, "--count").out
    assert "2 found" in run(*tenant).out


def test_a_log_is_named_once_or_more_and_all_are_merged_by_time(run: Run, site: Path) -> None:
    """An incident is a story across processes."""
    calls(site, 1)
    run(*KEY)
    calls(site, 1)
    found = lines(run(*SEARCH, "--log", EVENT, "--log", SECURITY, "--json"))
    assert [row["at"] for row in found] == sorted(row["at"] for row in found)
    kinds = [row["type"] for row in found if row["type"] in ("decision", "key-created")]
    assert kinds == ["decision", "key-created", "decision"]


def test_a_type_is_looked_for_only_where_it_can_stand(run: Run, site: Path) -> None:
    """Fewer logs are read, and fewer readings recorded."""
    run(*KEY)
    assert [row["type"] for row in lines(run(*SEARCH, "--type", "key-created", "--json"))] == [
        "key-created"
    ]
    assert {row["log"].rpartition("/")[2] for row in readings(run)} == {"security"}


def erase(site: Path, run: Run, *, receipt: bool) -> None:
    """Take the first bundle of the gateway's events away, with a receipt or without."""
    calls(site, 300)
    (site / "audit/gateway/event" / tiles.bundle_path(0)).unlink()
    if receipt:
        write(site, "controller", 1, "erasure", log=EVENT, first=0, last=255, rule="event")


def test_erased_records_are_said_with_their_receipt(run: Run, site: Path) -> None:
    """ "Nothing found" and "no longer there" are different answers to a data subject."""
    erase(site, run, receipt=True)
    done = run(*SEARCH, "--log", EVENT, "--json")
    assert done.code == 0
    gap = lines(done)[0]
    assert (gap["type"], gap["first"], gap["last"]) == ("erased", 0, 255)
    assert gap["receipt"].startswith("local/controller/evidence#")
    assert gap["record"] == f"{EVENT}#0-255"
    shown = run(*SEARCH, "--log", EVENT)
    assert "erased" in shown.out
    assert "not shown: 1 erased" in shown.out
    assert run(*SEARCH, "--log", EVENT, "--count", "--json").json["erased"] == 256
    assert [r["type"] for r in lines(run("audit", "tail", "--log", EVENT, "-n", "900", "--json"))][
        :1
    ] == ["erased"]
    assert "erased" not in run("audit", "tail", "--log", EVENT, "-n", "9").out


def test_missing_records_are_not_called_erased_and_leave_the_answer_open(
    run: Run, site: Path
) -> None:
    """Without a receipt somebody took them; a program sees it in the exit code."""
    erase(site, run, receipt=False)
    done = run(*SEARCH, "--log", EVENT, "--json")
    assert (done.code, lines(done)[0]["type"]) == (3, "missing")
    assert "receipt" not in lines(done)[0]
    assert len(lines(done)) == 1 + 302 - 256
    (site / "audit/gateway/event" / tiles.bundle_path(0)).write_bytes(b"\x00")
    done = run(*SEARCH, "--log", EVENT, "--json")
    assert (done.code, lines(done)[0]["type"]) == (3, "unreadable")


def test_a_receipt_of_some_excuses_those_alone(run: Run, site: Path) -> None:
    """A gap is shown in its parts: what a receipt names, and what none does."""
    calls(site, 600)
    for number in (0, 1):
        (site / "audit/gateway/event" / tiles.bundle_path(number)).unlink()
    write(site, "controller", 1, "erasure", log=EVENT, first=256, last=511, rule="event")
    done = run(*SEARCH, "--log", EVENT, "--json")
    told = [(row["type"], row["first"], row["last"]) for row in lines(done)[:2]]
    assert told == [("missing", 0, 255), ("erased", 256, 511)]


@pytest.mark.parametrize("verb", [("tail",), ("search", "--reason", "audit")], ids=" ".join)
def test_a_log_without_a_pinned_key_is_said_not_passed_over(
    run: Run, site: Path, verb: tuple[str, ...]
) -> None:
    """Its length is what it says itself, and nobody vouches for that."""
    (site / "trust/gateway-event.vkey").unlink()
    done = run("audit", *verb, "--json")
    (told,) = [row for row in lines(done) if row["type"] == "unreadable"]
    assert (done.code, told["record"]) == (3, "gateway/event")


def test_a_reading_takes_the_one_log_it_is_recorded_in(
    run: Run, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading waits for nobody who writes another of the operator's logs, and changes none."""
    monkeypatch.setattr(deployment, "OPERATOR_WAITS_S", 0.2)
    home = settings.load(site)
    opened = (home.audit, home.keys, "operator", "local", utcnow, 0.0, home.trust)
    before = fleet_sizes(run)
    with Trail.open(*opened, ("event", "evidence")) as log:
        with pytest.raises(RecordInvalid):
            log.record("key-created", key="k", tenant="t", purpose="p", by="operator")
        assert run("audit", "tail", "--log", EVENT).code == 0
    after = fleet_sizes(run)
    grown = {origin for origin, size in after.items() if size != before[origin]}
    assert grown == {SECURITY, "local/operator/event", "local/operator/evidence"}
    assert after["local/operator/evidence"] == before["local/operator/evidence"] + 1
    assert after[SECURITY] == before[SECURITY] + 2


def fleet_sizes(run: Run) -> dict[str, int]:
    """How many records each log has."""
    return {log["origin"]: log["size"] for log in run("audit", "status", "--json").json["logs"]}
