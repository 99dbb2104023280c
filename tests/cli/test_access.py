"""`sovereign access …`: who may, why, what the cases say, and what a change would open."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from sovereign.keystore import Key, Keystore
from sovereign.registry import utcnow
from sovereign.settings import Home, Settings
from tests.cli.conftest import Run
from tests.policy.conftest import SHIPPED

MODEL, OTHER = "smollm2-135m-instruct", "tiny-mixtral"
ASK = ("--key", "key_1", "--model", MODEL)


@pytest.fixture
def keyed(home: Path) -> Path:
    """A home with one key, bound to another model."""
    store = Keystore(Home(home, Settings()).keystore)
    store.create()
    store.add(
        Key(
            id="key_1",
            tenant="acme",
            purpose="tests",
            basis="contract",
            data="personal",
            subject="none",
            created_at=utcnow(),
            models=(OTHER,),
        )
    )
    return home


def opened(
    folder: Path, rule: str = 'permit (principal in Tenant::"acme", action, resource);'
) -> Path:
    copy = Path(shutil.copytree(SHIPPED, folder / "opened"))
    said = f'@id("open") @because("They may.") @source("test")\n{rule}\n'
    (copy / "access/own.cedar").write_text(said)
    return copy


def test_a_key_is_told_yes_or_no_by_the_exit_code(keyed: Path, run: Run) -> None:
    """A script asks before it hands a key to somebody."""
    done = run("access", "check", *ASK)
    assert done.code == 1
    assert "refuse: key_1 chat smollm2-135m-instruct at local-llamacpp" in done.out
    assert "access-default-deny" in done.out
    done = run("access", "check", "--key", "key_1", "--model", OTHER, "--action", "fim", "--json")
    assert (done.code, done.json["allowed"]) == (0, True)
    (answer,) = done.json["answers"]
    assert answer["rule"] == "keys-use-the-models-they-are-bound-to"
    assert set(answer) == {
        *("action", "endpoint", "place", "verdict", "rule", "because", "source", "policy")
    }


def test_explaining_names_every_rule_with_its_reason_and_source(
    keyed: Path, run: Run, tmp_path: Path
) -> None:
    """`computer says no` is what this is instead of."""
    folder = opened(tmp_path, 'forbid (principal in Tenant::"acme", action, resource);')
    words = ("access", "explain", "--key", "key_1", "--model", OTHER, "--policies", str(folder))
    done = run(*words, "--action", "chat")
    assert "refuse: chat at local-llamacpp, by open" in done.out
    assert "permits  keys-use-the-models-they-are-bound-to" in done.out
    assert "forbids  open" in done.out
    assert "They may." in done.out
    answers: list[dict[str, Any]] = run(*words, "--json").json["answers"]
    assert [each["action"] for each in answers] == ["chat", "fim", "completion", "embed", "list"]
    assert {rule["effect"] for rule in answers[0]["applying"]} == {"permit", "forbid"}


@pytest.mark.parametrize(
    ("words", "accepted"),
    [
        (("--key", "key_2", "--model", MODEL), "key_1"),
        (("--key", "key_1", "--model", "gpt"), MODEL),
        ((*ASK, "--action", "delete"), "chat"),
    ],
)
def test_a_name_that_is_none_is_refused_with_those_there_are(
    keyed: Path, run: Run, words: tuple[str, ...], accepted: str
) -> None:
    """A typo must not look like a refusal of the policy."""
    done = run("access", "check", *words, "--json")
    assert done.code == 2
    assert accepted in done.json["error"]["accepted"]


def test_the_cases_are_asked_and_the_one_that_differs_is_shown(
    home: Path, run: Run, tmp_path: Path
) -> None:
    """The command whoever edits a rule runs after every edit."""
    assert run("access", "test").code == 0
    done = run("access", "test", "--policies", str(opened(tmp_path)), "--json")
    assert done.code == 1
    assert {each["found"] for each in done.json["differing"]} == {"allow by open"}
    check = run("policy", "check", "--policies", str(tmp_path / "opened"), "--json")
    assert (check.code, check.json["ok"]) == (1, False)


def test_a_diff_shows_exactly_what_becomes_possible_and_to_whom(
    keyed: Path, run: Run, tmp_path: Path
) -> None:
    """A change that widens access is shown as that, not as two texts."""
    what = f'action == Action::"fim", resource in Model::"{MODEL}"'
    folder = opened(tmp_path, f'permit (principal == Key::"key_1", {what});')
    done = run("access", "diff", str(SHIPPED), str(folder), "--json")
    assert (done.code, done.json["widens"]) == (1, True)
    (change,) = done.json["changes"]
    assert (change["becomes"], change["who"], change["action"], change["model"]) == (
        "possible",
        "key_1",
        "fim",
        MODEL,
    )
    assert (change["before"], change["after"]) == ("access-default-deny", "open")
    back = run("access", "diff", str(folder), str(SHIPPED))
    assert back.code == 0
    assert "0 become possible" in back.out
    assert "1 become impossible" in back.out
