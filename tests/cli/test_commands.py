"""Every command: help, exit code, JSON, and the words of its refusals."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
import typer

from sovereign import __version__, cli
from sovereign.cli import deploy, output
from sovereign.cli.output import fail
from sovereign.errors import BadInput, SovereignError, raised
from sovereign.settings import GatewaySettings, Home, Settings
from tests.cli.conftest import Run
from tests.cli.running import sovereign
from tests.controller.seen import POLICY
from tests.engines.running import free_port
from tests.supervisor.test_ports import foreign

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
OF_NO_SITE = {
    ("attest", "sign"),
    ("attest", "serve"),
    ("audit", "check"),
    ("policy", "sign"),
    ("weights", "digest"),
}
"""Commands about a file that somebody hands over."""


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
    assert "--home" in options or path in OF_NO_SITE
    assert "--json" in options or path[-1] in NO_DOCUMENT


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
        (["key", "show", "key_1"], 3, "not-deployed"),
        (["key", "rotate", "key_1"], 3, "not-deployed"),
        (["key", "expire", "key_1", "--in", "1h"], 3, "not-deployed"),
        (["tenant", "list"], 3, "not-deployed"),
        (["tenant", "create", "hr"], 3, "not-deployed"),
        (["tenant", "suspend", "hr"], 3, "not-deployed"),
        (["issuer", "list"], 2, "bad-input"),
        (["issuer", "check"], 2, "bad-input"),
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
        (["deploy", "--listen", "28580"], 2, "bad-input"),
        (["deploy", "--weights", "/nonexistent"], 2, "bad-input"),
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


@pytest.mark.parametrize(
    ("left", "ready"),
    [
        ((), False),
        (("sovereign.yaml", "run/supervisor.lock"), False),
        (("sovereign.yaml", "run/deployed.json"), False),
        (("sovereign.yaml",), True),
    ],
    ids=["nothing-deployed", "stopped", "deployment-begun", "managed-host"],
)
def test_a_program_that_answers_on_our_port_is_not_our_site(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, left: tuple[str, ...], ready: bool
) -> None:
    """A monitor that asks us must not be told that somebody else is well.

    On a managed host there is no supervisor of ours, so the answer is all there is to go by.
    """
    with foreign() as (port, _):
        chosen = GatewaySettings(f"127.0.0.1:{port}")
        where = Home(home, Settings(gateway=chosen))
        for name in left:
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).touch()
        monkeypatch.setattr("sovereign.cli.deploy.home_of", lambda _: where)
        done = run("status", "--json")
    assert done.json["gateway"]["up"] is ready
    assert done.json["gateway"]["ready"] is ready
    assert done.code == (0 if ready else 3)


def test_a_gateway_whose_port_is_taken_says_so_and_ends(site: Path) -> None:
    """The library's own words about it are withheld, so ours must be enough."""
    with foreign() as (port, _):
        (site / "sovereign.yaml").write_text(
            f'version: 1\ngateway: {{listen: "127.0.0.1:{port}"}}\n'
        )
        done = sovereign(site, "serve", "gateway")
    assert done.code == 3
    (said,) = [line for line in done.err.splitlines() if '"address-taken"' in line]
    assert msgspec.json.decode(said)["address"] == f"127.0.0.1:{port}"
    assert "in use" in msgspec.json.decode(said)["reason"]
    assert f"process-failed: the gateway cannot listen on 127.0.0.1:{port}" in done.err


def test_a_report_where_nothing_runs_is_not_known(run: Run, site: Path) -> None:
    """3, not 0: some controls could not be answered, and none may pass by silence."""
    (site / "sovereign.yaml").write_text(
        f'version: 1\nengine: {{listen: "127.0.0.1:{free_port()}"}}\n'
    )
    done = run("report", "--json")
    assert done.code == 3
    states = {control["id"]: control["state"] for control in done.json["controls"]}
    assert states == {
        "canary-drilled": "unknown",
        "dependencies-placed": "unknown",
        "disconnect-drilled": "unknown",
        "egress-closed": "unknown",
        "log-verifies": "pass",
        "logs-witnessed": "not_applicable",
        "places-fresh": "unknown",
        "places-vouched": "unknown",
        "ports-closed": "unknown",
        "requests-answered": "pass",
        "restrictions-stand": "pass",
        "restore-drilled": "unknown",
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


@pytest.mark.parametrize(
    ("words", "accepted"),
    [
        (("--listen", "28580"), "127.0.0.1:8080"),
        (("--listen", "localhost:8080"), "127.0.0.1:8080"),
        (("--engine", "llamacp"), "llamacpp, ollama, vllm"),
    ],
)
def test_a_wish_that_means_nothing_is_answered_with_one_that_does(
    run: Run, words: tuple[str, str], accepted: str
) -> None:
    """A regular expression is no help to somebody who forgot a colon."""
    done = run("deploy", *words)
    assert accepted in done.err
    assert words[1] in done.err
    assert "regex" not in done.err


def test_the_version_is_said(run: Run) -> None:
    """The first thing a maintainer asks for."""
    done = run("--version")
    assert (done.code, done.out) == (0, f"sovereign {__version__}\n")


@pytest.mark.parametrize(("under", "verdict"), [("US", "refuse"), ("DE", "allow")])
def test_declaring_says_what_the_policy_makes_of_it(run: Run, under: str, verdict: str) -> None:
    """Whoever learns it at the next deployment has waited for nothing."""
    words = ("places", "declare", "--country", "DE", "--under", under, "--entity", "Example")
    assert f"{verdict}: process personal data there" in run(*words).out
    said = run(*words, "--json").json
    assert (said["verdict"], said["rule"]) == (verdict, "personal-data-stays-in-eea")
    deployed = run("deploy", "--weights", "/nonexistent")  # the place is asked about first
    assert deployed.error == ("residency-refused" if under == "US" else "bad-input")


def test_a_site_whose_settings_were_erased_is_not_started(run: Run, site: Path) -> None:
    """It would come up with every default, which nobody chose."""
    assert run("up").error == "not-deployed"
    assert not (site / "run").exists()


def test_an_erasure_is_recorded_before_it_happens_and_says_what_stays(run: Run, site: Path) -> None:
    """An auditor who finds a log and no site must not have to guess."""
    (site / "sovereign.yaml").write_text("version: 1\n")
    foreseen = run("down", "--dry-run", "--json").json
    assert foreseen == {"would_stop": False, "would_erase": [str(site / "sovereign.yaml")]}
    assert str(site / "sovereign.yaml") in run("down", "--dry-run").out
    assert (site / "sovereign.yaml").exists()
    said = run("down", "--erase").out
    assert not (site / "sovereign.yaml").exists()
    assert f"{site / 'keys/audit'}, the signing keys of these logs" in said
    tail = run("audit", "tail", "--log", "local/operator/evidence", "-n", "1", "--json").out
    record = msgspec.json.decode(tail)
    assert (record["type"], record["step"], record["outcome"]) == (
        "deployment",
        "erase",
        "settings-and-keys-erased",
    )
    assert f"record {record['record']}" in said
    run("down", "--erase")
    assert run("audit", "tail", "--log", "local/operator/evidence", "-n", "1", "--json").out == tail


def test_a_log_that_cannot_be_opened_does_not_keep_a_site_from_being_erased(
    run: Run, home: Path
) -> None:
    """A right to erase does not depend on a disk that is half gone; but it is said."""
    home.mkdir()
    (home / "sovereign.yaml").write_text("version: 1\n")
    said = run("down", "--erase")
    assert said.code == 0
    assert "record none: the log of the operator cannot be opened" in said.out
    assert list(home.iterdir()) == []


def test_a_deployment_that_is_interrupted_says_what_to_do(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C is no finding, and running it again is the whole cure."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(deploy.deployment, "begin", interrupted)
    done = run("deploy")
    assert (done.code, done.out, done.err) == (130, "", "interrupted; run it again\n")


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("works", [True, False])
def test_a_step_is_announced_on_a_terminal_alone_and_an_error_begins_a_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    terminal: bool,
    works: bool,
) -> None:
    """In a log of a pipeline, half lines and carriage returns are noise."""

    def step(_: object) -> str:
        if not works:
            raise BadInput("no")
        return "done"

    monkeypatch.setattr(deploy.sys.stdout, "isatty", lambda: terminal)
    state: Any = None
    if works:
        assert deploy._performed("key", step, state) == "done"
    else:
        with pytest.raises(BadInput):
            deploy._performed("key", step, state)
    end = "\r" if works else "\n"
    assert capsys.readouterr().out == (f"  key          …{end}" if terminal else "")


@pytest.mark.parametrize(("listen", "said"), [("0.0.0.0:8080", True), ("127.0.0.1:8080", False)])
def test_a_listener_beyond_loopback_is_told_that_nothing_is_encrypted(
    capsys: pytest.CaptureFixture[str], listen: str, said: bool
) -> None:
    """The key travels in every request; somebody has to put TLS in front."""
    where = Home(Path("/x"), Settings(place="own:lab", gateway=GatewaySettings(listen)))
    choices = deploy.deployment.Choices()
    state = deploy.deployment.Deployment(where, choices, POLICY, deploy.deployment.Deployed())
    deploy._finish(state, 1.0)
    out = capsys.readouterr().out
    assert ("not encrypted: set gateway.tls_certificate" in out) is said
    assert ("base URL    http://HOST:8080" in out) is said


@pytest.mark.parametrize("width", [80, 30])
def test_a_table_cuts_no_name_in_two_however_narrow_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """An id is there to be copied."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(deploy.sys.stdout, "isatty", lambda: True)
    row = ("key_1a66de4de1b6", "legitimate-interests", "cv-screening", "word " * 30)
    output.table(("id", "basis", "purpose", "says"), [row, ("key_2", "", "", "")])
    lines = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out).splitlines()
    assert all(name in lines[1] for name in row[:3])
    assert len(lines) > 3
    assert max(map(len, lines)) <= max(width, 72)


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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["audit", "search", "--nope"], "--nope"),
        (["audit", "nope"], "nope"),
        (["key", "create"], "--tenant"),
        (["places", "show"], "code"),
    ],
)
def test_a_command_that_was_misspelled_says_so_in_json_too(
    run: Run, words: list[str], said: str
) -> None:
    """A script that asked for JSON must not have to read the picture a person is shown."""
    done = run(*words, "--json")
    assert (done.code, done.json["error"]["code"]) == (2, "bad-input")
    assert said in done.json["error"]["message"]
