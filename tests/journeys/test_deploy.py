"""Deploying, again, after a cut, and taking down: what the README promises a first user."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.journeys.deployed import STEPS, Site, site_at

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PROGRAM_TAKES_AT_MOST_S = 60
AGAIN_TAKES_AT_MOST_S = 15
"""A second deployment looks at everything and does nothing; most of this is a busy machine's."""


def blocks(text: str) -> list[str]:
    """The indented code blocks of a page, without their indentation."""
    found = re.findall(r"(?:^(?: {4}.*)?\n)+", text, re.MULTILINE)
    return [re.sub(r"^ {4}", "", b, flags=re.MULTILINE).strip("\n") for b in found if b.strip()]


def test_the_readmes_program_runs_as_it_stands(site: Site) -> None:
    """Copied by a stranger; only the key and the port are hers."""
    (program,) = [b for b in blocks(README.read_text()) if "import Mistral" in b]
    program = program.replace("sov_…", site.key)
    program = program.replace("http://127.0.0.1:8080", site.url)
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=PROGRAM_TAKES_AT_MOST_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()  # it asks for no fixed temperature, so for no fixed answer


def test_every_command_of_the_readme_exists_and_ends_as_it_says(site: Site) -> None:
    """The lines below the program, each as it stands but for the folder of the command."""
    lines = [
        line.partition("#  ")[0].split("   ")[0].strip()
        for block in blocks(README.read_text())
        for line in block.splitlines()
        if line.startswith(".venv/bin/sovereign ")
    ]
    assert len(lines) >= 5
    for line in lines:
        here = str(site.home.parent / "for-the-auditor")  # commands run in /, where nothing is ours
        code, said = site.run(*line.replace("for-the-auditor", here).split()[1:])
        ends = {"decide --place": 1, "decide --all": 3}  # a refusal, and what nobody has said yet
        wanted = next((status for words, status in ends.items() if words in line), 0)
        assert code == wanted, f"{line}: {said}"


def test_the_deployment_shows_what_a_user_needs_next(deployed: Site) -> None:
    """Base URL, key, record, place, and three commands, on a first and on a later run."""
    said = deployed.deploy()
    assert f"base URL    {deployed.url}" in said
    assert "local/gateway/event#" in said
    assert "this-host; country not declared; to declare it: sovereign places declare" in said
    assert said.partition("\nnext\n")[2].count("\n  ") == 2


def test_a_second_deployment_is_quick_and_changes_nothing(site: Site) -> None:
    """It says so, and the files say so; the processes are the same ones."""
    pids = [site.pid(name) for name in ("engine", "gateway", "controller")]
    kept = {p: p.read_bytes() for p in own_files(site)}
    began = time.monotonic()
    said = site.deploy()
    assert time.monotonic() - began < AGAIN_TAKES_AT_MOST_S
    assert "changed: nothing" in said
    assert "sov_" not in said
    assert [site.pid(name) for name in ("engine", "gateway", "controller")] == pids
    assert {p: p.read_bytes() for p in own_files(site)} == kept


def own_files(site: Site) -> list[Path]:
    """What only a command changes: settings, keys, pins, what was deployed."""
    home = site.home
    files = [home / "sovereign.yaml", home / "keys.sqlite", home / "run" / "deployed.json"]
    return files + sorted((home / "keys").rglob("*.key")) + sorted((home / "trust").glob("*.vkey"))


def test_what_is_taken_down_keeps_its_log_and_comes_up_again(site: Site) -> None:
    """Nothing of it runs, what was recorded is still there and sound, and the key still works."""
    record = site.chat().headers["x-sovereign-record"]
    pids = [site.pid(name) for name in ("engine", "gateway", "controller")]
    code, said = site.run("down")
    assert code == 0
    assert "kept:" in said
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert site.run("down")[0] == 0
    assert site.run("status")[0] == 3
    before = {log["origin"]: log["size"] for log in site.asked("audit", "status")["logs"]}
    assert site.record(record)["type"] == "decision"
    assert site.run("audit", "verify")[0] == 0
    site.deploy()
    assert site.chat().status == 200
    after = {log["origin"]: log["size"] for log in site.asked("audit", "status")["logs"]}
    assert all(after[origin] >= size for origin, size in before.items())
    assert [r["ended"] for r in site.records("local/gateway/event") if "ended" in r][-1] == (
        "cleanly"
    )


def test_the_audit_log_is_erased_only_when_it_is_said_twice(tmp_path: Path) -> None:
    """A slip of the finger must not destroy evidence."""
    with site_at(tmp_path / "home") as site:
        log = site.home / "audit" / "gateway" / "event" / "checkpoint"
        assert site.run("down", "--erase", "--erase-audit-log")[0] == 2
        assert site.run("down", "--erase", "--yes-erase-audit-log")[0] == 2
        assert site.run("down", "--erase-audit-log", "--yes-erase-audit-log")[0] == 2
        assert site.is_ready()
        assert site.run("down", "--erase")[0] == 0
        assert log.exists()
        assert not (site.home / "keys.sqlite").exists()
        assert site.run("audit", "verify")[0] == 0
        assert site.run("down", "--erase", "--erase-audit-log", "--yes-erase-audit-log")[0] == 0
        assert not log.exists()


def test_a_deployment_killed_after_any_step_is_finished_by_the_next(tmp_path: Path) -> None:
    """Power goes, a laptop closes, somebody presses Ctrl-C: running it again is the whole cure.

    Killed as soon as each step says it is done, which is in the middle of the next one.
    """
    with site_at(tmp_path / "home", deploy=False) as site:
        for step in STEPS:
            killed_after(site, step)
        said = site.deploy()
        assert "deployed in" in said
        answer = site.chat()
        assert answer.status == 200, answer.body
        keys = site.asked("key", "list")["keys"]
        assert [k["state"] for k in keys].count("active") == 1
        verified = site.asked("audit", "verify")
        assert verified["ok"] is True
        assert "changed: nothing" in site.deploy()


def killed_after(site: Site, step: str) -> None:
    """Deploy, and kill it when `step` is done. Its key is kept: it may be the one that stays."""
    with site.start("deploy") as process:
        assert process.stdout is not None
        for line in process.stdout:
            site.out.append(line)
            site.key = next((w for w in line.split() if w.startswith("sov_")), site.key)
            if re.match(rf"(.*\r)?  {step} +[0-9]+\.", line):
                break
        else:
            pytest.fail(f"it never said that {step} was done:\n{''.join(site.out)}")
        os.kill(process.pid, signal.SIGKILL)


def test_a_deployment_stopped_by_ctrl_c_says_what_to_do(tmp_path: Path) -> None:
    """130, as for any program, and no word of a fault."""
    with (
        site_at(tmp_path / "home", deploy=False) as site,
        site.start("deploy") as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("  processes"):
                break
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "interrupted; run it again\n"
        assert process.wait(30) == 130


@pytest.mark.parametrize("target", ["plan", "configure"])
def test_a_stack_that_is_not_named_is_asked_for_before_anything_is_installed(
    tmp_path: Path, target: str
) -> None:
    """Two minutes of installing are a long way to a question."""
    done = subprocess.run(
        ["make", target, f"VENV={tmp_path / 'venv'}", "STACK="],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PROGRAM_TAKES_AT_MOST_S,
        check=False,
    )
    assert done.returncode == 2
    assert f"make {target} STACK=" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_first_pages_name_a_folder_only_after_saying_where_it_is() -> None:
    """A page is copied from the top; a variable nobody set is an empty word."""
    page = (ROOT / "docs" / "first-deployment.md").read_text()
    assert page.index("export SOVEREIGN_HOME=") < page.index("$SOVEREIGN_HOME")
    assert page.index("export SOVEREIGN_HOME=") < page.index("$ sovereign ")


@pytest.mark.parametrize("after_s", [0.5, 1.5])
def test_a_deployment_killed_at_any_time_is_finished_by_the_next(
    tmp_path: Path, after_s: float
) -> None:
    """And between the steps' own words, wherever that is."""
    with site_at(tmp_path / "home", deploy=False) as site:
        with site.start("deploy") as process:
            time.sleep(after_s)
            process.kill()
            assert process.stdout is not None
            said = process.stdout.read()
        site.key = next((w for w in said.split() if w.startswith("sov_")), "")
        site.deploy()
        assert site.chat().status == 200
        assert site.run("audit", "verify")[0] == 0


def test_a_port_that_is_taken_is_said_and_nothing_is_left_half_done(
    deployed: Site, tmp_path: Path
) -> None:
    """The commonest first failure: something of the user's own listens there.

    Here it is the worst case, a program that answers each request as ours would.
    """
    with site_at(tmp_path / "home", deploy=False) as second:
        second.port = deployed.port
        second.prepare()
        code, said = second.run("deploy")
        assert code == 3, said
        assert f"process-failed: nothing of ours can listen on 127.0.0.1:{deployed.port}" in said
        assert "gateway.listen" in said
        assert f"ss -ltnp 'sport = :{deployed.port}'" in said
        code, said = second.run("status")
        assert (code, said.splitlines()[0]) == (3, "site local: down")
        code, said = second.run("up")
        assert code == 3, said
        assert not (second.home / "run" / "supervisor.json").exists()
    assert json.loads(deployed.http("GET", "/healthz").body) == {"status": "alive"}
