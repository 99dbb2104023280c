"""`sovereign subject restrict`: a person's data are kept, and else left alone."""

from typing import Any

import pytest

from sovereign import fleet
from sovereign.keystore import Keystore
from sovereign.settings import Home
from sovereign.subjects import pseudonym
from tests.cli.conftest import Run
from tests.cli.running import Done
from tests.cli.test_subject import Ask, ask, find, recorded

__all__ = ["ask", "recorded"]
"""Fixtures of the test beside this one."""
LIFT = ("unrestrict", "--why", "ground-gone", "--told", "1h")


def restrict(ask: Ask, name: str = "ann", *more: str) -> Done:
    return ask(name, "restrict", "--ground", "accuracy-contested", *more)


def standing(home: Home) -> list[str]:
    found = Keystore(home.keystore).known().restricted.values()
    return [each.id for every in found for each in every]


def evidence(home: Home) -> list[dict[str, Any]]:
    member = next(m for m in fleet.members(home) if m.origin == "local/operator/evidence")
    found = [r for _, r in fleet.records(member, 0, 10_000)]
    return [r for r in found if "restriction" in r]


def test_a_restriction_stands_is_recorded_and_the_record_does_not_say_whose(
    recorded: Home, ask: Ask
) -> None:
    """Evidence is kept for years; who asked for something is not for it to know."""
    done = restrict(ask)
    assert (done.code, [done.json["restriction"]]) == (0, standing(recorded))
    (said,) = evidence(recorded)
    assert (said["type"], said["ground"]) == ("subject-restricted", "accuracy-contested")
    assert pseudonym(Keystore(recorded.keystore).known().secrets["acme"], "ann") not in str(said)


def test_restricting_twice_is_one_restriction(recorded: Home, ask: Ask) -> None:
    """An answer that was lost on the way is asked for again, and a killed command is."""
    first, second = restrict(ask).json, restrict(ask).json
    assert first["restriction"] == second["restriction"]
    assert len(standing(recorded)) == 1


def test_her_records_are_looked_for_only_for_reasons_that_the_policy_lists(
    recorded: Home, ask: Ask, run: Run
) -> None:
    """GDPR Art. 18(2); that she asks herself is one of them."""
    restrict(ask)
    refused = ask("ann", "find", "--reason", "operations")
    assert (refused.code, refused.json["error"]["code"]) == (1, "subject-restricted")
    hers = pseudonym(Keystore(recorded.keystore).known().secrets["acme"], "ann")
    search = ("audit", "search", "--subject", hers, "--json", "--reason")
    assert run(*search, "billing").code == 1
    assert run(*search, "subject-request").code == 0
    assert ask("ben", "find", "--reason", "operations").code == 0
    assert len(find(ask, "ann")) == 6


def test_whoever_wants_data_kept_is_not_erased(recorded: Home, ask: Ask) -> None:
    """Art. 18(1)(b) and (c): she asked for this instead of that."""
    restrict(ask)
    assert ask("ann", "erase").json["error"]["code"] == "subject-restricted"
    assert ask("ann", *LIFT).code == 0
    assert ask("ann", "erase").code == 0


def test_a_restriction_ends_after_she_was_told_and_not_before(recorded: Home, ask: Ask) -> None:
    """GDPR Art. 18(3)."""
    name = restrict(ask).json["restriction"]
    for told in ("2999-01-01T00:00:00Z", ""):
        done = ask("ann", "unrestrict", "--why", "ground-gone", "--told", told)
        assert (done.code, standing(recorded)) == (2, [name])
    assert ask("ann", *LIFT).json["restriction"] == name
    assert standing(recorded) == []
    assert [r["type"] for r in evidence(recorded)] == ["subject-restricted", "subject-unrestricted"]
    assert ask("ann", *LIFT).code == 2, "there is nothing left to lift"


def test_a_dry_run_changes_nothing(recorded: Home, ask: Ask) -> None:
    """What it would do is looked at first."""
    assert restrict(ask, "ann", "--dry-run").json["dry_run"]
    assert standing(recorded) == []
    restrict(ask)
    assert ask("ann", *LIFT, "--dry-run").code == 0
    assert len(standing(recorded)) == 1
    assert len(evidence(recorded)) == 1


@pytest.mark.parametrize(
    "words",
    [("--ground", "because"), ("--ground", "unlawful", "--purpose", "no-such-purpose")],
)
def test_grounds_and_purposes_come_out_of_lists(
    recorded: Home, ask: Ask, words: tuple[str, ...]
) -> None:
    """A purpose with a slip in it would restrict nothing, and say that it did."""
    assert ask("ann", "restrict", *words).code == 2
    assert standing(recorded) == []
