"""`sovereign subject`: a person's request, from the name on standard input to the receipt."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sovereign import fleet
from sovereign.audit.trail import Trail
from sovereign.keystore import Key, Keystore, new_id
from sovereign.registry import utcnow
from sovereign.settings import Home, Settings
from sovereign.subjects import pseudonym
from tests.cli.conftest import Run
from tests.cli.running import Done
from tests.cli.test_hold import TERMS, day
from tests.retention.site import DECISION

Ask = Callable[..., Done]
ENDED: dict[str, Any] = {
    "outcome": "answered",
    "status": 200,
    "tokens_in": 1,
    "tokens_out": 1,
    "latency_us": 1,
    "finish": "stop",
}


@pytest.fixture
def recorded(site: Path) -> Home:
    """Two sealed records of ann, one of ben, and one of ann from before there were keys."""
    it = Home(site, Settings())
    store = Keystore(it.keystore)
    store.create()
    store.add(Key(new_id(), "acme", "tests", "contract", "personal", "header", utcnow()))
    known = store.known()
    with Trail.open(it.audit, it.keys, "gateway", "local", utcnow) as trail:
        ann, ben = (pseudonym(known.secrets["acme"], name) for name in ("ann", "ben"))
        for found in (*(known.sealed("acme", name) for name in (ann, ann, ben)), ann):
            decision = trail.record("decision", **{**DECISION, "subject": found}).result(10)
            trail.record("completion", decision=decision.index, **ENDED).result(10)
    return it


@pytest.fixture
def ask(run: Run, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Run a command with a name on standard input."""

    def ask(name: str, *words: str) -> Done:
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{name}\n" if name else ""))
        return run("subject", *words, "--tenant", "acme", "--json")

    return ask


def find(ask: Ask, name: str) -> list[str]:
    done = ask(name, "find", "--reason", "subject-request")
    assert done.code == 0, done.err
    return [row["type"] for row in done.json["records"]]


def test_a_persons_records_are_found_with_what_completed_them(recorded: Home, ask: Ask) -> None:
    """GDPR Art. 15: everything about her, and nothing about him."""
    assert sorted(find(ask, "ann")) == ["completion"] * 3 + ["decision"] * 3
    assert sorted(find(ask, "ben")) == ["completion", "decision"]
    assert find(ask, "nobody") == []


def test_that_the_logs_were_read_is_recorded_and_never_who_was_looked_for(
    recorded: Home, ask: Ask, run: Run
) -> None:
    """A list of who was looked up would be personal data of its own."""
    find(ask, "ann")
    member = next(m for m in fleet.members(recorded) if m.origin == "local/operator/security")
    read = [r for _, r in fleet.records(member, 0, 10_000) if r["type"] == "log-read"]
    assert (read[-1]["reason"], read[-1]["filters"]) == ("subject-request", "tenant,subject")
    ann = pseudonym(Keystore(recorded.keystore).known().secrets["acme"], "ann")
    assert ann not in str(read)
    assert "ann" not in str(read)


def test_reading_needs_a_reason(recorded: Home, ask: Ask) -> None:
    """As everywhere else."""
    assert ask("ann", "find").json["error"]["code"] == "bad-input"
    assert ask("ann", "find", "--reason", "curiosity").code == 2


def test_erasing_makes_records_unreadable_changes_no_hash_and_leaves_a_receipt(
    recorded: Home, ask: Ask, run: Run
) -> None:
    """GDPR Art. 17, in a log in which nothing can be changed."""
    before = {r["origin"]: r for r in run("audit", "status", "--json").json["logs"]}
    done = ask("ann", "erase")
    assert (done.code, done.json["records"], done.json["plain"]) == (0, 2, 1)
    assert sorted(find(ask, "ann")) == ["completion", "decision"], (
        "the old form goes with its class"
    )
    assert sorted(find(ask, "ben")) == ["completion", "decision"]
    after = {r["origin"]: r for r in run("audit", "status", "--json").json["logs"]}
    event = "local/gateway/event"
    assert before[event]["checkpoint"] == after[event]["checkpoint"]
    assert run("audit", "verify").code == 0
    origin, _, index = done.json["record"].rpartition("#")
    member = next(m for m in fleet.members(recorded) if m.origin == origin)
    said = dict(fleet.records(member, 0, 10_000))[int(index)]
    assert (said["type"], said["records"], said["plain"]) == ("subject-erased", 2, 1)
    assert "subject" not in said


def test_a_dry_run_destroys_nothing(recorded: Home, ask: Ask) -> None:
    """The number is looked at before the deed."""
    done = ask("ann", "erase", "--dry-run")
    assert done.json == {"dry_run": True, "records": 2, "plain": 1, "record": None}
    assert len(find(ask, "ann")) == 6


def test_erasing_twice_is_fine_and_says_that_nothing_was_left(recorded: Home, ask: Ask) -> None:
    """An answer that was lost on the way is asked for again."""
    ask("ann", "erase")
    assert ask("ann", "erase").json["records"] == 0


def test_a_person_under_a_hold_is_not_erased(recorded: Home, ask: Ask, run: Run) -> None:
    """GDPR Art. 17(3): what a claim needs must stay readable."""
    ann = pseudonym(Keystore(recorded.keystore).known().secrets["acme"], "ann")
    words = ("hold", "place", *TERMS, "--expires", day(9), "--subject", ann, "--json")
    placed = run(*words).json
    assert placed["records"] == 6
    for more in ((), ("--dry-run",)):
        done = ask("ann", "erase", *more)
        assert (done.code, done.json["error"]["code"]) == (1, "subject-held")
        assert placed["hold"] in done.json["error"]["found"]
    assert ask("ann", "find", "--reason", "subject-request").json["holds"] == [placed["hold"]]
    assert ask("ben", "erase").code == 0
    run("hold", "release", placed["hold"], "--approver", "legal-counsel")
    assert ask("ann", "erase").code == 0


def test_a_pseudonym_may_be_given_instead_of_a_name(recorded: Home, ask: Ask) -> None:
    """Somebody who has a record has no name."""
    ann = pseudonym(Keystore(recorded.keystore).known().secrets["acme"], "ann")
    done = ask("", "find", "--pseudonym", ann, "--reason", "subject-request")
    assert (len(done.json["records"]), done.json["pseudonym"]) == (6, ann)


@pytest.mark.parametrize(
    ("name", "more"), [("", ()), ("x" * 513, ()), ("ann", ("--pseudonym", "ann"))]
)
def test_nobody_too_long_and_no_pseudonym_are_refused(
    recorded: Home, ask: Ask, name: str, more: tuple[str, ...]
) -> None:
    """Nothing is read, and nothing destroyed, for a person who was not named."""
    done = ask(name, "erase", *more)
    assert (done.code, done.json["error"]["code"]) == (2, "bad-input")


def test_a_tenant_that_is_none_is_refused(recorded: Home, run: Run) -> None:
    """Each tenant names its own persons."""
    done = run("subject", "find", "--tenant", "nobody", "--reason", "audit")
    assert (done.code, done.error) == (2, "unknown-name")


def test_a_name_as_a_file_from_elsewhere_ends_its_lines_is_the_same_name(
    recorded: Home, ask: Ask
) -> None:
    """A carriage return that is taken for a part of the name would find nobody, and say so."""
    assert len(find(ask, "ann\r")) == 6
    assert ask(" ann", "find", "--reason", "subject-request").code == 2


def test_erasing_somebody_of_whom_nothing_is_there_is_no_success(
    recorded: Home, ask: Ask, run: Run
) -> None:
    """A typing error must not become a receipt for an erasure that did not happen."""
    done = ask("anne", "erase")
    assert (done.code, done.json["error"]["code"]) == (2, "unknown-name")
    member = next(m for m in fleet.members(recorded) if m.origin == "local/operator/evidence")
    types = [r["type"] for _, r in fleet.records(member, 0, 10_000)]
    assert "subject-erased" not in types
