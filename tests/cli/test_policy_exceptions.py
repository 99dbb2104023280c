"""Exceptions: signed by a role that approves, for named rules, a place and some days; and seen."""

import shutil
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from sovereign import policy as policies
from sovereign import settings
from sovereign.audit.note import SignerKey
from sovereign.policy import Policy
from sovereign.policy.kept import known_texts
from sovereign.registry import utcnow
from sovereign.settings import Home, following
from tests.cli.conftest import Run
from tests.cli.test_policy_change import changes, code

ROLE, PLACE, RULE = "data-protection-officer", "aws:eu-central-1", "personal-data-stays-in-eea"
FOR = ("--reason", "new-service")
DECIDE = ("decide", "--place", PLACE, "--json")
Write = Callable[..., Path]


def day(offset: int) -> date:
    return utcnow().date() + timedelta(days=offset)


def under(site: Path) -> Policy:
    it = settings.load(site)
    return policies.load(it.policies, it.settings.profile, it.own_places, it.exceptions)


@pytest.fixture
def key(tmp_path: Path) -> SignerKey:
    """The approver's key; its public half is pinned nowhere yet."""
    made = SignerKey.generate(ROLE)
    (tmp_path / "key").write_text(made.dump())
    return made


@pytest.fixture
def pinned(site: Path, key: SignerKey) -> Path:
    """A site on which the approver's key is pinned."""
    folder = Home(site, settings.Settings()).approvers
    folder.mkdir(parents=True)
    (folder / f"{ROLE}.vkey").write_text(str(key.verifier))
    return site


@pytest.fixture
def write(tmp_path: Path, run: Run, key: SignerKey) -> Write:
    """A file of an exception, signed unless it is said otherwise."""

    def write(*, signed: bool = True, **changed: Any) -> Path:
        said = {
            "version": 1,
            "id": "frankfurt-until-the-move",
            "place": PLACE,
            "data": "[personal]",
            "verbs": "[process]",
            "rules": f"[{RULE}]",
            "approver": ROLE,
            "because": "The move to another operator takes until then.",
            "source": "risk note 7",
            "from": day(0),
            "until": day(30),
        } | changed
        path = tmp_path / "exception.yaml"
        path.write_text("".join(f"{name}: {value}\n" for name, value in said.items()))
        if signed:
            assert run("policy", "sign", str(path), "--key", str(tmp_path / "key")).code == 0
        return path

    return write


def test_a_signed_exception_lets_that_place_do_that_and_every_answer_says_so(
    pinned: Path, run: Run, write: Write
) -> None:
    """The one way of loosening that ends by itself, and that nobody can overlook."""
    assert run(*DECIDE).code == 1
    before = under(pinned).digest
    done = run("policy", "except", str(write()), *FOR, "--json")
    assert done.code == 0, done.out
    answer = run(*DECIDE)
    assert (answer.code, answer.json["rule"]) == (0, "frankfurt-until-the-move")
    assert f"approved by {ROLE} until {day(30)}" in answer.json["because"]
    assert RULE in answer.json["because"]
    assert run(*DECIDE[:3], "--class", "special-category", "--json").code == 1
    assert run(*DECIDE[:3], "--verb", "store", "--json").code == 1
    assert run("decide", "--place", "aws:us-east-1", "--json").code == 1
    (change,) = changes(run)
    assert (change["verb"], change["approver"]) == ("excepted", ROLE)
    assert (change["old"], change["new"]) == (before, under(pinned).digest)
    assert change["new"] in known_texts("", pinned)
    (shown,) = run("policy", "check", "--json").json["exceptions"]
    assert (shown["exception"], shown["state"]) == ("frankfurt-until-the-move", "in-force")
    assert "exception frankfurt-until-the-move: in-force" in run("report").out


@pytest.mark.parametrize(
    ("offset", "allowed"), [(-1, False), (0, True), (29, True), (30, False), (400, False)]
)
def test_it_holds_from_its_first_day_to_the_day_before_its_last(
    pinned: Path, run: Run, write: Write, offset: int, allowed: bool
) -> None:
    """An exception that outlives its day is the rule that nobody wrote."""
    assert run("policy", "except", str(write()), *FOR).code == 0
    done = run(*DECIDE, "--at", f"{day(offset)}T12:00:00+00:00")
    assert (done.code == 0) is allowed


def test_ended_early_it_is_as_if_it_had_never_been(pinned: Path, run: Run, write: Write) -> None:
    """What turns out to be wrong must not wait for its day."""
    before = under(pinned).digest
    assert run("policy", "except", str(write()), *FOR).code == 0
    again = run("policy", "except", str(write()), *FOR, "--json")
    assert (again.code, code(again)) == (2, "bad-input")
    assert run("policy", "unexcept", "frankfurt-until-the-move", *FOR).code == 0
    assert under(pinned).digest == before
    assert [each["verb"] for each in changes(run)] == ["excepted", "exception-ended"]
    assert run(*DECIDE).code == 1


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"signed": False}, "unsigned"),
        ({"until": day(91)}, "it lasts 91 days"),
        ({"until": day(0)}, "it lasts 0 days"),
        ({"approver": "legal-counsel"}, "not signed by legal-counsel"),
        ({"rules": "[place-is-known]"}, "no exception can be made from place-is-known"),
        ({"rules": "[no-such-rule]"}, "no exception can be made from no-such-rule"),
        ({"data": "[personl]"}, "personl is no class of data"),
        ({"id": RULE}, "is the id of a rule"),
        ({"verbs": "[]"}, "verbs"),
        ({"reason": "x"}, "unknown field"),
    ],
)
def test_one_that_the_policy_does_not_allow_is_refused_and_where_it_lies_counts_for_nothing(
    pinned: Path, run: Run, write: Write, changed: dict[str, Any], fault: str
) -> None:
    """Whoever can write into the folder loosens nothing by it; and a check says what lies there."""
    before = under(pinned).digest
    path = write(**changed)
    done = run("policy", "except", str(path), *FOR, "--json")
    assert done.code == 2
    assert fault in done.json["error"]["found"]
    folder = Home(pinned, settings.Settings()).exceptions_folder
    folder.mkdir()
    for each in path.parent.glob("exception.yaml*"):
        shutil.copy(each, folder)
    assert under(pinned).digest == before
    assert run(*DECIDE).code == 1
    (shown,) = run("policy", "check", "--json").json["exceptions"]
    assert shown["state"] == "not-counted"
    assert fault in shown["says"]


def test_a_word_changed_after_signing_undoes_the_exception(
    pinned: Path, run: Run, write: Write
) -> None:
    """The signature is over what it says, so a longer day is nobody's approval."""
    assert run("policy", "except", str(write()), *FOR).code == 0
    path = Home(pinned, settings.Settings()).exceptions_folder / "frankfurt-until-the-move.yaml"
    path.write_text(path.read_text().replace(str(day(30)), str(day(60))))
    assert run(*DECIDE).code == 1
    (shown,) = run("policy", "exceptions", "--json").json["exceptions"]
    assert shown["says"] == "no pinned key signed what it says"


def test_a_key_that_is_pinned_nowhere_signs_nothing(site: Path, run: Run, write: Write) -> None:
    """Anybody can make a key with the name of a role."""
    done = run("policy", "except", str(write()), *FOR, "--json")
    assert "no pinned key" in done.json["error"]["found"]


def test_a_place_that_nobody_knows_cannot_be_excepted(pinned: Path, run: Run, write: Write) -> None:
    """Unknown means no, whoever signs."""
    path = write(place="nowhere:x", rules=f"[{RULE}, place-facts-are-fresh]")
    assert run("policy", "except", str(path), *FOR).code == 0
    assert run("decide", "--place", "nowhere:x").code == 1


def test_all_rules_that_refuse_must_be_named(pinned: Path, run: Run, write: Write) -> None:
    """An approval of one thing is no approval of the other."""
    immune = ("--profile", "immune")
    assert run("policy", "except", str(write()), *FOR).code == 0
    assert run(*DECIDE, *immune).code == 1


def test_a_running_process_notices_an_exception_as_it_does_another_policy(
    pinned: Path, run: Run, write: Write
) -> None:
    """It holds at once, and it ends at once."""
    it = Home(pinned, settings.Settings())
    follows = following(it, under(pinned).digest)
    assert follows.look() is None
    assert run("policy", "except", str(write()), *FOR).code == 0
    fresh = follows.look()
    assert fresh is not None
    assert fresh.digest == under(pinned).digest
    assert follows.look() is None
    assert run("policy", "unexcept", "frankfurt-until-the-move", *FOR).code == 0
    assert follows.look() is not None


def test_a_dry_run_and_a_missing_reason_change_nothing(
    pinned: Path, run: Run, write: Write
) -> None:
    """As with every other change of the policy."""
    before = under(pinned).digest
    assert run("policy", "except", str(write()), *FOR, "--dry-run").code == 0
    assert run("policy", "except", str(write()), "--json").code == 2
    assert under(pinned).digest == before
    assert changes(run) == []


def test_an_approver_makes_a_key_that_only_they_can_read(run: Run, tmp_path: Path) -> None:
    """The private half never comes to the site; the command says what to pin there."""
    file, key = tmp_path / "x.yaml", tmp_path / "approver.key"
    file.write_text("version: 1\n")
    words = ("policy", "sign", str(file), "--key", str(key), "--new-key-of", ROLE, "--json")
    done = run(*words)
    assert done.code == 0, done.out
    assert done.json["vkey"].startswith(f"{ROLE}+")
    assert key.stat().st_mode & 0o077 == 0
    assert run(*words).code == 2
