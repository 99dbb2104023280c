"""`sovereign subject received|extend|answered|requests`, and the controls of people's rights."""

from datetime import timedelta
from typing import Any

import pytest

from sovereign import fleet
from sovereign.cli.output import policy_of
from sovereign.controller import exposed
from sovereign.evidence.checks import Site, answer
from sovereign.evidence.verdict import State, Verdict
from sovereign.keystore import Keystore, Restriction
from sovereign.registry import utcnow
from sovereign.rights.book import Book
from sovereign.settings import Home
from tests.cli.conftest import Run
from tests.cli.test_subject import Ask, ask, recorded

__all__ = ["ask", "recorded"]
"""Fixtures of the test beside this one."""


def listed(run: Run, *more: str) -> tuple[int, list[dict[str, Any]]]:
    done = run("subject", "requests", "--json", *more)
    return done.code, done.json["requests"]


def verdict(home: Home, check: str) -> Verdict:
    return answer(Site(home, policy_of(home), utcnow()), check)


def test_a_request_goes_from_receipt_to_answer(recorded: Home, run: Run) -> None:
    """Its id is all that the answer, the file and the log have in common."""
    name = run("subject", "received", "erasure", "--at", "20d", "--json").json["request"]
    code, (row,) = listed(run)
    assert (code, row["request"], row["stands"], row["kind"]) == (0, name, "due", "erasure")
    assert run("subject", "extend", name, "--why", "complexity", "--told", "1d").code == 0
    longer = listed(run)[1][0]["due"]
    assert longer > row["due"]
    said = ("subject", "answered", name, "--outcome", "refused", "--ground")
    assert run(*said, "rights-of-others").code == 2, "no ground of Art. 17"
    assert run(*said, "legal-claims").code == 0
    assert listed(run) == (0, [])
    assert listed(run, "--all")[1][0]["ground"] == "legal-claims"
    assert run(*said, "legal-claims").code == 2, "it is answered"


def test_what_was_refused_on_a_ground_is_not_erased_and_what_was_not_says_which_it_answers(
    recorded: Home, ask: Ask, run: Run
) -> None:
    """GDPR Art. 17(3): the answer was no, and whoever runs the command later is told so."""
    no, yes, other = (
        run("subject", "received", kind, "--json").json["request"]
        for kind in ("erasure", "erasure", "access")
    )
    run("subject", "answered", no, "--outcome", "refused", "--ground", "legal-duty")
    refused = ask("ann", "erase", "--request", no)
    assert (refused.code, refused.json["error"]["code"]) == (1, "erasure-excepted")
    assert "legal-duty" in refused.json["error"]["message"]
    assert ask("ann", "erase", "--request", other).code == 2
    assert ask("ann", "erase", "--request", "req_0").code == 2
    done = ask("ann", "erase", "--request", yes)
    assert done.json["records"] == 2, "none of those before has erased anything"
    member = next(m for m in fleet.members(recorded) if m.origin == "local/operator/evidence")
    said = [r for _, r in fleet.records(member, 0, 10_000) if r["type"] == "subject-erased"]
    assert [r["request"] for r in said] == [yes]


def test_a_late_request_is_a_finding_and_the_control_fails(recorded: Home, run: Run) -> None:
    """GDPR Art. 12(3); the list, the control and the alarm say the same."""
    assert verdict(recorded, "requests_answered").state is State.PASS
    name = run("subject", "received", "access", "--at", "40d", "--json").json["request"]
    code, (row,) = listed(run)
    assert (code, row["stands"]) == (1, "late")
    found = verdict(recorded, "requests_answered")
    assert (found.state, name in found.found) == (State.FAIL, True)
    known, policy = Book(recorded).look(), policy_of(recorded)
    (shown,) = exposed.of_requests(known, policy, utcnow())
    assert shown[1] == ("access",)
    assert shown[2] < 0
    run("subject", "answered", name, "--outcome", "done")
    assert verdict(recorded, "requests_answered").state is State.PASS
    assert list(exposed.of_requests(Book(recorded).look(), policy, utcnow())) == []


def test_what_cannot_be_read_is_in_doubt_and_no_pass(recorded: Home, run: Run) -> None:
    """A request may stand in the part that is gone."""
    run("subject", "received", "access")
    member = next(m for m in fleet.members(recorded) if m.origin == "local/operator/evidence")
    for path in (member.folder / "tile" / "entries").rglob("*"):
        if path.is_file():
            path.unlink()
    assert run("subject", "requests", "--json").code == 3
    assert verdict(recorded, "requests_answered").state is State.UNKNOWN


def test_a_clock_that_was_moved_back_is_in_doubt(recorded: Home, run: Run) -> None:
    """It would show a month that is over as one that runs."""
    run("subject", "received", "access")
    known = Book(recorded).look()
    assert known.doubts(utcnow()) == ()
    assert known.doubts(utcnow() - timedelta(days=2))


def test_a_dry_run_records_nothing(recorded: Home, run: Run) -> None:
    """It is decided as if, and that is all."""
    assert run("subject", "received", "access", "--dry-run").code == 0
    assert listed(run, "--all") == (0, [])


@pytest.mark.parametrize(
    "words",
    [
        ("received", "complaint"),
        ("received", "access", "--at", "2999-01-01T00:00:00Z"),
        ("extend", "req_0", "--why", "number", "--told", "1d"),
        ("answered", "req_0", "--outcome", "done"),
    ],
)
def test_what_does_not_mean_anything_is_refused(
    recorded: Home, run: Run, words: tuple[str, ...]
) -> None:
    """Nothing is recorded of it."""
    assert run("subject", *words).code == 2
    assert listed(run, "--all") == (0, [])


def test_a_key_store_that_has_forgotten_a_restriction_is_found(recorded: Home, ask: Ask) -> None:
    """It was put back from a copy, and the gateway would serve what it must not."""
    assert verdict(recorded, "restrictions_stand").state is State.PASS
    done = ask("ann", "restrict", "--ground", "unlawful")
    assert verdict(recorded, "restrictions_stand").state is State.PASS
    Keystore(recorded.keystore).lift([done.json["restriction"]])
    found = verdict(recorded, "restrictions_stand")
    assert (found.state, done.json["restriction"] in found.found) == (State.FAIL, True)


def test_a_restriction_without_its_record_is_found(recorded: Home) -> None:
    """A command was killed between the two; it is run again."""
    Keystore(recorded.keystore).restrict(Restriction("res_1", "acme", "0" * 64))
    assert "res_1" in verdict(recorded, "restrictions_stand").found
    assert verdict(recorded, "restrictions_stand").state is State.FAIL
