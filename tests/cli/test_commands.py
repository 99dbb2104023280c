"""Every command: help, exit code, JSON, and the words of its refusals."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
import typer

from sovereign import cli
from sovereign.cli.output import fail
from sovereign.errors import SovereignError, raised
from tests.cli.conftest import Run
from tests.cli.running import sovereign
from tests.engines.running import free_port

NO_DOCUMENT = {"serve"}
"""Commands that become a process and give no answer, so that there is nothing to format."""


def commands(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    command = command or typer.main.get_command(cli.app)
    for name, each in sorted(getattr(command, "commands", {}).items()):
        if hasattr(each, "commands"):
            yield from commands(each, (*path, name))
        else:
            yield (*path, name)


def command_at(path: tuple[str, ...]) -> click.Command:
    found: Any = typer.main.get_command(cli.app)
    for name in path:
        found = found.commands[name]
    return found  # type: ignore[no-any-return]  # typer builds its commands dynamically


EVERY = sorted(commands())


@pytest.mark.parametrize("path", [(), *EVERY], ids=" ".join)
def test_every_command_explains_itself(run: Run, path: tuple[str, ...]) -> None:
    """Help is the page that is always at hand."""
    done = run(*path, "--help")
    assert done.code == 0
    assert "Usage: " in done.out


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_every_command_has_json_and_a_home(path: tuple[str, ...]) -> None:
    """A program drives this command line too, and names the site it means."""
    options = {option for param in command_at(path).params for option in param.opts}
    assert "--home" in options or path == ("audit", "check")
    assert "--json" in options or path[0] in NO_DOCUMENT


@pytest.mark.parametrize(
    "words",
    [
        ["no-such-command"],
        ["decide"],
        ["decide", "--place", "x", "--colour", "red"],
        ["audit", "tail", "-n", "0"],
        ["audit", "tail", "-n", "many"],
        ["key", "create", "--tenant", "t"],
        ["key", "create", "--tenant", "t", "--purpose", "p", "--days", "0"],
        ["serve", "nothing"],
    ],
    ids=" ".join,
)
def test_asking_wrongly_ends_with_2(run: Run, words: list[str]) -> None:
    """A script must be able to tell its own mistake from a finding."""
    assert run(*words).code == 2


@pytest.mark.parametrize(
    ("words", "code", "name"),
    [
        (["audit", "status"], 3, "not-deployed"),
        (["audit", "verify"], 3, "not-deployed"),
        (["audit", "tail"], 3, "not-deployed"),
        (["audit", "prove", "local/gateway/event#1"], 3, "not-deployed"),
        (["key", "list"], 3, "not-deployed"),
        (["key", "create", "--tenant", "t", "--purpose", "p"], 3, "not-deployed"),
        (["key", "revoke", "key_1"], 3, "not-deployed"),
        (["up"], 3, "not-deployed"),
        (["serve", "controller"], 3, "log-missing"),
        (["serve", "gateway"], 3, "log-missing"),
        (["audit", "create", "--writer", "nobody"], 2, "unknown-name"),
        (["places", "show", "no:where"], 2, "unknown-name"),
        (["policy", "check", "--profile", "atlantis"], 2, "policy-unreadable"),
        (["decide", "--place", "x", "--class", "rumours"], 2, "unknown-name"),
        (["decide", "--place", "x", "--verb", "burn"], 2, "unknown-name"),
        (["decide", "--place", "x", "--at", "yesterday"], 2, "bad-input"),
        (["decide", "--place", "x", "--at", "2026-11-23T12:00:00"], 2, "naive-time"),
        (["deploy", "--engine", "gpt"], 2, "bad-input"),
        (["deploy", "--listen", "localhost:80"], 2, "bad-input"),
        (["deploy", "--model", "gpt-5"], 2, "unknown-name"),
        (["deploy", "--listen", "0.0.0.0:8080"], 1, "place-undeclared"),
        (["down", "--erase", "--erase-audit-log"], 2, "bad-input"),
        (["down", "--erase", "--yes-erase-audit-log"], 2, "bad-input"),
        (["down", "--erase-audit-log", "--yes-erase-audit-log"], 2, "bad-input"),
        (["audit", "check", "/nowhere"], 2, "bad-input"),
        (["audit", "verify", "--vkey", "x"], 2, "bad-input"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_every_refusal_has_its_exit_code_its_word_and_changes_nothing(
    run: Run, home: Path, words: list[str], code: int, name: str
) -> None:
    """The word names the runbook; the same refusal is said to a person and to a program."""
    done = run(*words)
    assert (done.code, done.error) == (code, name), done.err
    assert f"  more     docs/runbooks/{name}.md" in done.err
    assert not home.exists()
    if "serve" not in words:
        as_json = run(*words, "--json")
        assert (as_json.code, as_json.json["error"]["code"]) == (code, name)
        assert as_json.err == ""
    assert not home.exists()


@pytest.mark.parametrize("kind", sorted(raised(), key=lambda k: k.code), ids=lambda k: k.code)
def test_an_error_is_a_headline_and_named_parts_one_a_line(
    kind: type[SovereignError], capsys: pytest.CaptureFixture[str]
) -> None:
    """At three in the morning the eye finds `next` in the same place every time."""
    error = kind(
        "said", rule="r", because="b", found="f", accepted="a", next_step="n", record="o#1"
    )
    assert fail(error, as_json=False) == kind.exit_code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"{kind.code}: said",
        "  rule     r",
        "  because  b",
        "  found    f",
        "  accepted a",
        "  next     n",
        "  record   o#1",
        f"  more     docs/runbooks/{kind.code}.md",
    ]
    assert kind.exit_code in (1, 2, 3, 70)


@pytest.mark.parametrize(
    ("error", "code", "name"),
    [
        (PermissionError(13, "Permission denied"), 3, "state-unreadable"),
        (KeyError("x"), 70, "broken"),
        (ZeroDivisionError("x"), 70, "broken"),
    ],
)
def test_what_nobody_foresaw_is_never_taken_for_a_finding(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, name: str
) -> None:
    """Python ends with 1 at a trace, which here would say that a log does not verify."""

    def fault(_: object) -> None:
        raise error

    monkeypatch.setattr(cli.policy, "home_of", fault)
    done = run("policy", "check")
    *_, said, more = done.err.splitlines()
    assert (done.code, said.partition(":")[0]) == (code, name)
    assert more == f"  more     docs/runbooks/{name}.md"
    assert run("policy", "check", "--json").json["error"]["code"] == name


def test_the_installed_command_says_the_same_as_the_module(home: Path) -> None:
    """One real process: exit code, standard error and an empty standard output."""
    done = sovereign(home, "deploy", "--listen", f"0.0.0.0:{free_port()}")
    assert (done.code, done.error, done.out) == (1, "place-undeclared", "")
    assert "places declare" in done.err
    assert not home.exists()


def test_a_pipe_that_closes_early_is_no_fault_of_ours(home: Path) -> None:
    """`sovereign places list | head -1` is an everyday thing."""
    import subprocess
    import sys

    command = f"{sys.executable} -m sovereign places list | head -1"
    done = subprocess.run(
        ["/bin/sh", "-c", command], capture_output=True, text=True, check=True, timeout=60
    )
    assert "Traceback" not in done.stderr


def test_a_decision_is_explained_with_all_that_an_auditor_needs(run: Run) -> None:
    """The names a program relies on: verdict, rule, because, source."""
    allowed = run("decide", "--place", "scaleway:fr-par-2", "--json")
    assert (allowed.code, allowed.json["verdict"]) == (0, "allow")
    refused = run("decide", "--place", "aws:eu-central-1", "--class", "personal", "--json")
    assert (refused.code, refused.json["verdict"]) == (1, "refuse")
    for answer in (allowed.json, refused.json):
        assert all(answer[name] for name in ("rule", "because", "source", "found", "policy"))
    assert "scaleway:fr-par-2" in refused.json["allowed"]
    said = run("decide", "--place", "aws:eu-central-1")
    assert said.code == 1
    assert said.out.startswith("refuse: process personal data at aws:eu-central-1\n")


def test_a_decision_is_judged_at_the_time_asked_about(run: Run) -> None:
    """Facts go stale; the same question later is another question."""
    words = ["decide", "--place", "scaleway:fr-par-2", "--at"]
    assert run(*words, "2026-11-24T12:00:00+00:00").code == 0
    assert run(*words, "2029-11-24T12:00:00+00:00").code == 1


def test_explaining_is_not_recorded(run: Run, site: Path) -> None:
    """Anybody may ask what if, as often as they like."""
    before = run("audit", "status", "--json").json
    run("decide", "--place", "aws:eu-central-1")
    assert run("audit", "status", "--json").json == before


def test_the_policy_commands_agree_with_each_other(run: Run) -> None:
    """One digest, whoever says it."""
    digest = run("policy", "digest").out.strip()
    assert len(digest) == 64
    for command in ("digest", "check", "show"):
        assert run("policy", command, "--json").json["digest"] == digest
    other = run("policy", "digest", "--profile", "immune", "--json").json
    assert (other["profile"], other["digest"] == digest) == ("immune", False)


def test_a_site_that_is_down_says_so_with_3_and_all_its_names(run: Run, site: Path) -> None:
    """The names a program relies on are there whether anything runs or not."""
    port = free_port()
    (site / "sovereign.yaml").write_text(f'version: 1\ngateway: {{listen: "127.0.0.1:{port}"}}\n')
    done = run("status", "--json")
    assert done.code == 3
    assert done.json["gateway"] == {
        "url": f"http://127.0.0.1:{port}",
        "up": False,
        "ready": False,
    }
    assert {log["origin"] for log in done.json["audit"]["logs"]} == {
        f"local/{writer}/{stream}"
        for writer in ("gateway", "controller", "operator")
        for stream in ("event", "security", "evidence")
    }
    assert done.json["place"] == {"code": "this-host", "declared": False}
    assert done.json["engines"] == []
    assert "places declare" in run("status").out


def test_a_report_where_nothing_runs_is_not_known(run: Run, site: Path) -> None:
    """3, not 0: four controls could not be answered, and none may pass by silence."""
    (site / "sovereign.yaml").write_text(
        f'version: 1\nengine: {{listen: "127.0.0.1:{free_port()}"}}\n'
    )
    done = run("report", "--json")
    assert done.code == 3
    states = {control["id"]: control["state"] for control in done.json["controls"]}
    assert states == {
        "log-verifies": "pass",
        "places-fresh": "unknown",
        "ports-closed": "unknown",
        "retention-met": "pass",
        "telemetry-off": "unknown",
    }
    assert done.json["note"] == "self-assessment, not legal advice"
    assert "not legal advice" in run("report").out


def test_an_engine_that_is_not_here_is_missing_with_the_way_to_get_it(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Before anything is written: the next `make deploy` must not fail over a wish."""
    for variable in ("PATH", "SOVEREIGN_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path))
    for engine in ("ollama", "vllm"):
        done = run("deploy", "--engine", engine, "--weights", str(tmp_path))
        assert (done.code, done.error) == (3, "engine-missing")
        assert "docs/runbooks/engine-missing.md, Fix" in done.err
    assert not home.exists()


def test_a_damaged_settings_file_is_named_with_its_line(run: Run, site: Path) -> None:
    """Whatever the command, the file is read first and never repaired."""
    (site / "sovereign.yaml").write_text("version: 1\nplaice: x\n")
    for words in (["status"], ["report"], ["down"], ["key", "list"]):
        done = run(*words)
        assert (done.code, done.error) == (2, "settings-unreadable")
        assert "sovereign.yaml" in done.err


def test_json_is_one_document_and_nothing_else(run: Run, site: Path) -> None:
    """A log line or a table in between would break the program that reads it."""
    for words in (
        ["status"],
        ["report"],
        ["policy", "check"],
        ["places", "list"],
        ["places", "show", "scaleway:fr-par-2"],
        ["key", "list"],
        ["audit", "status"],
        ["audit", "verify"],
        ["audit", "create", "--writer", "gateway"],
        ["down"],
    ):
        done = run(*words, "--json")
        msgspec.json.decode(done.out)
        assert done.err == ""
