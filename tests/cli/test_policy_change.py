"""`sovereign policy diff|apply|rollback`: what would change is shown, answered for, recorded, done
whole, and can be undone."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sovereign import policy as policies
from sovereign import settings
from sovereign.audit import record
from sovereign.audit.trail import Trail
from sovereign.policy import Policy
from sovereign.policy.kept import Versions
from sovereign.registry import utcnow
from tests.cli.conftest import Run
from tests.cli.running import Done
from tests.policy.conftest import SHIPPED

FOR = ("--reason", "review")
BY = ("--widening-approved-by", "data-protection-officer")
CHECKED = "checked_on: 2026-11-22"
TIGHTER = ("rules/retention.yaml", "max_days: 365", "max_days: 300")
LOOSER = ("rules/retention.yaml", "max_days: 365", "max_days: 500")
EVERYWHERE = ("rules/residency.yaml", '"AT", "BE"', '"US", "AT", "BE"')
NO_TESTERS = (
    "access/rules.cedar",
    '@id("weights-that',
    '@id("no-tests") @because("Not here.") @source("test")\n'
    'forbid (principal, action, resource) when { principal.purpose == "tests" };\n'
    '@id("weights-that',
)
Edit = tuple[str, str, str]


@pytest.fixture
def other(tmp_path: Path) -> Callable[..., Path]:
    """The shipped policy in a folder of its own, with these words in place of others."""

    def other(*edits: Edit, name: str = "other") -> Path:
        copy = Path(shutil.copytree(SHIPPED, tmp_path / name))
        for file, old, new in edits:
            text = (copy / file).read_text()
            assert old in text
            (copy / file).write_text(text.replace(old, new, 1))
        return copy

    return other


def in_force(home: Path) -> Policy:
    it = settings.load(home)
    return policies.load(it.policies, it.settings.profile, it.own_places)


def changes(run: Run) -> list[dict[str, Any]]:
    """What is recorded of changes of the policy."""
    done = run("audit", "search", "--reason", "audit", "--type", "policy-applied", "--json")
    return [json.loads(line) for line in done.out.splitlines()]


def code(done: Done) -> str:
    """The code of the error it ended with."""
    return str(done.json["error"]["code"])


def decided(home: Path, count: int, **changed: Any) -> None:
    """Decisions that a gateway recorded."""
    fields: dict[str, Any] = {
        "request": 1,
        "tenant": "hr",
        "key": "key_gone",
        "purpose": "cv-screening",
        "basis": "contract",
        "data": "personal",
        "verb": "process",
        "model": "smollm2-135m-instruct",
        "endpoint": "local-vllm",
        "engine": "vllm",
        "place": "ovh:GRA11",
        "listener": "10.0.0.1:8081",
        "asked_at": record.written(utcnow()),
        "verdict": "allow",
        "rule": "personal-data-stays-in-eea",
        "policy": "0" * 64,
    }
    it = settings.load(home)
    said = {name: value for name, value in (fields | changed).items() if value is not None}
    with Trail.open(it.audit, it.keys, "gateway", "local", utcnow) as log:
        for each in [log.record("decision", **said) for _ in range(count)]:
            each.result(60)


# --- apply and rollback ----------------------------------------------------------------------


def test_a_stricter_policy_is_put_in_force_recorded_and_kept(
    site: Path, run: Run, other: Callable[..., Path]
) -> None:
    """The plain case: nobody has to answer for less, and every record to come names the new one."""
    old = in_force(site)
    done = run("policy", "apply", str(other(TIGHTER)), *FOR, "--json")
    assert done.code == 0, done.out
    new = in_force(site)
    assert new.digest == done.json["new"] != old.digest
    assert new.retention["event"].max_days == 300
    (change,) = changes(run)
    said = {name: change[name] for name in ("old", "new", "verb", "reason", "loosened", "profile")}
    assert said == {
        "old": old.digest,
        "new": new.digest,
        "verb": "applied",
        "reason": "review",
        "loosened": 0,
        "profile": "eea",
    }
    assert "approver" not in change
    assert done.json["record"] == change["record"]
    listed = run("policy", "versions", "--json").json
    assert listed["in_force"] == new.digest
    assert {each["version"] for each in listed["versions"]} == {old.digest, new.digest}


def test_what_is_in_force_is_a_copy_that_later_edits_do_not_reach(
    site: Path, run: Run, other: Callable[..., Path]
) -> None:
    """What was judged is what holds, whatever happens to the folder it came from."""
    folder = other(TIGHTER)
    assert run("policy", "apply", str(folder), *FOR).code == 0
    before = in_force(site).digest
    (folder / "rules/retention.yaml").unlink()
    assert in_force(site).digest == before


@pytest.mark.parametrize("edit", [LOOSER, EVERYWHERE, NO_TESTERS], ids=["kept", "where", "undone"])
def test_what_allows_more_is_refused_until_a_role_of_the_list_answers_for_it(
    site: Path, run: Run, other: Callable[..., Path], edit: Edit
) -> None:
    """A loosening is a decision of somebody, not a side effect of an edit."""
    folder = other(edit)
    if edit is NO_TESTERS:  # the way back allows more than the way there
        assert run("policy", "apply", str(folder), *FOR, "--json").code == 0
        folder = SHIPPED
    before = in_force(site).digest
    done = run("policy", "apply", str(folder), *FOR, "--json")
    assert (done.code, code(done)) == (1, "policy-loosens")
    assert "data-protection-officer" in done.json["error"]["accepted"]
    wrong = run("policy", "apply", str(folder), *FOR, "--widening-approved-by", "me", "--json")
    assert (wrong.code, code(wrong)) == (2, "unknown-name")
    assert in_force(site).digest == before
    done = run("policy", "apply", str(folder), *FOR, *BY, "--json")
    assert done.code == 0, done.out
    assert in_force(site).digest == done.json["new"]
    change = changes(run)[-1]
    assert (change["approver"], change["loosened"] > 0) == ("data-protection-officer", True)


def test_the_new_policy_cannot_say_who_approves_it(
    site: Path, run: Run, other: Callable[..., Path]
) -> None:
    """Otherwise whoever edits the folder would write themselves into it."""
    folder = other(
        LOOSER, ("rules/audit.yaml", "changes:\n  approvers: [", "changes:\n  approvers: [me, ")
    )
    done = run("policy", "apply", str(folder), *FOR, "--widening-approved-by", "me", "--json")
    assert (done.code, code(done)) == (2, "unknown-name")
    done = run("policy", "apply", str(folder), *FOR, *BY, "--json")
    assert done.code == 0
    assert any(each["what"] == "changes.approvers" for each in done.json["loosened"])


def test_rolling_back_puts_the_former_policy_in_force_by_the_same_rules(
    site: Path, run: Run, other: Callable[..., Path]
) -> None:
    """Back to less strict is a loosening like any other; back to stricter is not."""
    old = in_force(site)
    assert run("policy", "apply", str(other(TIGHTER)), *FOR).code == 0
    done = run("policy", "rollback", *FOR, "--json")
    assert (done.code, code(done)) == (1, "policy-loosens")
    done = run("policy", "rollback", "--reason", "incident", *BY, "--json")
    assert done.code == 0, done.out
    assert in_force(site).digest == old.digest
    assert [each["verb"] for each in changes(run)] == ["applied", "rolled-back"]
    done = run("policy", "rollback", *FOR, "--json")
    assert (done.code, code(done)) == (2, "bad-input")


def test_rolling_back_twice_goes_back_two_changes(
    site: Path, run: Run, other: Callable[..., Path]
) -> None:
    """Each version remembers what it replaced, so an incident can be unwound step by step."""
    digests = [in_force(site).digest]
    for number, days in enumerate((300, 290)):
        edit = ("rules/retention.yaml", "max_days: 365", f"max_days: {days}")
        assert run("policy", "apply", str(other(edit, name=f"n{number}")), *FOR).code == 0
        digests.append(in_force(site).digest)
    for digest in reversed(digests[:-1]):
        assert run("policy", "rollback", *FOR, *BY).code == 0
        assert in_force(site).digest == digest


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ((), "unknown-name"),
        (("--reason", "because I can"), "unknown-name"),
    ],
)
def test_a_change_without_a_reason_of_the_list_is_refused(
    site: Path, run: Run, other: Callable[..., Path], words: tuple[str, ...], error: str
) -> None:
    """A sentence would bring personal data into a record that is kept for ever."""
    before = in_force(site).digest
    done = run("policy", "apply", str(other(TIGHTER)), *words, "--json")
    assert (done.code, code(done)) == (2, error)
    assert "review" in done.json["error"]["accepted"]
    assert in_force(site).digest == before


def test_what_does_not_load_or_fails_its_cases_is_never_put_in_force(
    site: Path, run: Run, other: Callable[..., Path]
) -> None:
    """The moment to find a mistake is before it is in force."""
    before = in_force(site).digest
    broken = other(("rules/residency.yaml", "rules:", "rules: ["), name="broken")
    done = run("policy", "apply", str(broken), *FOR, "--json")
    assert (done.code, code(done)) == (2, "policy-unreadable")
    failing = other(("access/cases.yaml", "expect: refuse", "expect: allow"), name="failing")
    done = run("policy", "apply", str(failing), *FOR, *BY, "--json")
    assert (done.code, code(done)) == (1, "access-cases-differ")
    assert (run("policy", "check", "--policies", str(failing)).code) == 1
    assert in_force(site).digest == before
    assert changes(run) == []


def test_a_policy_that_is_in_force_already_changes_nothing(site: Path, run: Run) -> None:
    """A second run of the same command is silent, as every command of ours is."""
    done = run("policy", "apply", str(SHIPPED), *FOR, "--json")
    assert (done.code, done.json["applied"]) == (0, False)
    assert changes(run) == []


def test_a_dry_run_shows_everything_and_leaves_nothing(
    site: Path, run: Run, other: Callable[..., Path]
) -> None:
    """`--dry-run` is how an operator reads what they are about to answer for."""
    before = sorted(site.rglob("*"))
    done = run("policy", "apply", str(other(LOOSER)), *FOR, *BY, "--dry-run", "--json")
    assert (done.code, done.json["applied"]) == (0, False)
    assert [each["what"] for each in done.json["loosened"]] == ["retention of event"]
    assert sorted(site.rglob("*")) == before


def test_a_folder_that_is_edited_in_place_is_not_swapped_under_its_owner(
    site: Path, run: Run, other: Callable[..., Path]
) -> None:
    """Two ways of changing one policy would undo each other."""
    (site / "sovereign.yaml").write_text(f"version: 1\npolicies: {other(name='mine')}\n")
    done = run("policy", "apply", str(other(TIGHTER)), *FOR, "--json")
    assert (done.code, code(done)) == (2, "bad-input")


def test_where_settings_name_a_link_that_link_is_swapped(
    site: Path, run: Run, other: Callable[..., Path], tmp_path: Path
) -> None:
    """Managed hosts keep versions beside each other and point a link at one of them."""
    versions = tmp_path / "versions"
    versions.mkdir()
    shutil.copytree(SHIPPED, versions / "release-1")
    link = tmp_path / "etc-policies"
    link.symlink_to(versions / "release-1")
    (site / "sovereign.yaml").write_text(f"version: 1\npolicies: {link}\n")
    old = in_force(site).digest
    done = run("policy", "apply", str(other(TIGHTER)), *FOR, "--json")
    assert done.code == 0, done.out
    assert link.resolve() == versions / in_force(site).digest
    assert run("policy", "rollback", *FOR, *BY).code == 0
    assert link.resolve() == versions / "release-1"
    assert in_force(site).digest == old


def test_a_policy_in_force_that_cannot_be_read_can_still_be_replaced(
    site: Path, run: Run, other: Callable[..., Path]
) -> None:
    """After an upgrade, say; nothing is known of it, so somebody answers for all of the new one."""
    assert run("policy", "apply", str(other(TIGHTER)), *FOR).code == 0
    (site / "policy-versions/in-force/rules/data.yaml").unlink()
    done = run("policy", "apply", str(SHIPPED), *FOR, "--json")
    assert (done.code, code(done)) == (1, "policy-loosens")
    done = run("policy", "apply", str(SHIPPED), *FOR, *BY, "--json")
    assert (done.code, done.json["old"]) == (0, "unreadable")
    assert in_force(site).digest == done.json["new"]


def test_without_a_log_to_record_it_in_nothing_is_changed(
    home: Path, run: Run, other: Callable[..., Path]
) -> None:
    """What cannot be recorded is not done."""
    done = run("policy", "apply", str(other(TIGHTER)), *FOR, "--json")
    assert (done.code, code(done)) == (3, "log-missing")
    assert settings.load(home).policies is None


def test_killed_between_the_record_and_the_swap_the_old_policy_is_in_force_and_says_so(
    site: Path, run: Run, other: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record comes first; every decision to come names the policy that it was made under."""
    folder, old = other(TIGHTER), in_force(site).digest

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Versions, "put_in_force", killed)
        with pytest.raises(Killed):
            run("policy", "apply", str(folder), *FOR, "--no-replay")
    assert in_force(site).digest == old
    assert [each["verb"] for each in changes(run)] == ["applied"]
    assert run("policy", "apply", str(folder), *FOR, "--no-replay").code == 0
    assert [each["verb"] for each in changes(run)] == ["applied", "applied"]
    assert in_force(site).digest != old


class Killed(BaseException):
    """The process is gone."""


def test_where_the_policy_in_force_lists_no_such_reason_a_change_reads_no_records(
    site: Path, run: Run, other: Callable[..., Path]
) -> None:
    """A policy of before this command must not be the one that can never be replaced."""
    unlisted = ("rules/audit.yaml", "    - id: policy-change", "    - id: something-else")
    assert run("policy", "apply", str(other(unlisted)), *FOR, *BY, "--no-replay").code == 0
    done = run("policy", "apply", str(other(unlisted, TIGHTER, name="next")), *FOR, "--json")
    assert (done.code, done.json["replayed"]) == (0, None)


# --- diff ------------------------------------------------------------------------------------


def test_a_diff_says_what_differs_by_entry_and_in_what_ways_it_allows_more(
    site: Path, run: Run, other: Callable[..., Path]
) -> None:
    """A lawyer reads entries, not lines; and wants to know what it comes to."""
    moved = ("facts/places.yaml", CHECKED, "checked_on: 2026-11-23")
    done = run("policy", "diff", str(other(LOOSER, moved)), "--json")
    assert done.code == 1
    said = {(each["file"], each["where"], each["verb"]) for each in done.json["differences"]}
    assert said == {
        ("rules/retention.yaml", "classes[event].max_days", "changed"),
        ("facts/places.yaml", "providers[scaleway].checked_on", "changed"),
    }
    assert "retention of event" in {each["what"] for each in done.json["loosened"]}
    assert in_force(site).digest == done.json["old"]


def test_a_diff_asks_the_recorded_questions_again_and_groups_what_changes(
    site: Path, run: Run, other: Callable[..., Path]
) -> None:
    """The question an operator has before a change: whose calls will be refused tomorrow?"""
    decided(site, 3)
    decided(site, 2, purpose="tests")
    decided(site, 1, place=None, endpoint=None, engine=None, listener=None, model="unknown")
    done = run("policy", "diff", str(other(NO_TESTERS)), "--json")
    assert done.code == 0, done.out
    asked = done.json["replayed"]
    assert (asked["asked"], asked["changed"], asked["placeless"]) == (5, 2, 1)
    (kind,) = asked["kinds"]
    assert (kind["before"], kind["after"]) == (
        "allow by personal-data-stays-in-eea",
        "refuse by no-tests",
    )
    assert (kind["count"], kind["record"]) == (2, "local/gateway/event#6")


def test_asking_recorded_questions_again_is_reading_and_is_recorded(
    site: Path, run: Run, other: Callable[..., Path]
) -> None:
    """Whoever replays thirty days of calls has read thirty days of calls."""
    decided(site, 3)
    assert run("policy", "diff", str(other(TIGHTER)), "--json").code == 0
    search = run("audit", "search", "--reason", "audit", "--type", "log-read", "--json")
    read = [json.loads(line) for line in search.out.splitlines()]
    assert [(each["log"], each["reason"], each["filters"]) for each in read] == [
        ("local/gateway/event", "policy-change", "since,type")
    ]
    done = run("policy", "diff", str(other(name="same")), "--reason", "curiosity", "--json")
    assert done.code == 0  # the same policy: nothing is read
    done = run("policy", "diff", str(other(LOOSER, name="b")), "--reason", "curiosity", "--json")
    assert (done.code, code(done)) == (2, "unknown-name")


def test_a_person_is_shown_the_same_as_a_program(
    site: Path, run: Run, other: Callable[..., Path]
) -> None:
    """The table is what is read before somebody signs."""
    decided(site, 1, purpose="tests")
    done = run("policy", "diff", str(other(NO_TESTERS)))
    assert "1 recorded questions asked again, 1 answered otherwise" in done.out
    assert "added   access/rules.cedar  rules[no-tests]" in done.out
    assert "allows more in 0 ways" in done.out
    assert "refuse by no-tests" in done.out
