"""`sovereign deploy` for real, with llama.cpp: up, again, changed, killed, stopped.

Runs in the order written: it is one site's life.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sovereign import settings
from sovereign.engines.llamacpp import packaged_model
from sovereign.supervisor.watch import ENDS_MAX
from tests.cli.running import Done, sovereign, write_settings
from tests.engines.running import free_port
from tests.supervisor.test_watch import alive


class Life:
    """A site from its first deployment to its end; `key` and `record` are of the first."""

    def __init__(self, home: Path) -> None:
        self.home = home
        write_settings(home, free_port(), free_port(), "controller: {interval_s: 1}\n")
        self.key = ""

    def run(self, *words: str, cwd: Path | None = None) -> Done:
        return sovereign(self.home, *words, cwd=cwd)

    def deploy(self, *words: str, cwd: Path | None = None) -> Any:
        done = self.run("deploy", "--json", *words, cwd=cwd)
        assert done.code == 0, done.out + done.err
        return done.json

    def status(self) -> Any:
        return self.run("status", "--json").json

    def pids(self) -> dict[str, int]:
        return {child["name"]: child["pid"] for child in self.status()["processes"]}

    def supervisor(self) -> int:
        return int(msgspec.json.decode((self.home / "run/supervisor.json").read_bytes())["pid"])

    def until(self, done: Callable[[], bool], within_s: float = 40) -> None:
        deadline = time.monotonic() + within_s
        while not done():
            assert time.monotonic() < deadline, self.status()
            time.sleep(0.2)

    def ask(self) -> int:
        host, _, port = settings.load(self.home).settings.gateway.listen.rpartition(":")
        connection = HTTPConnection(host, int(port), timeout=60)
        body = {
            "model": "smollm2-135m-instruct",
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 2,
        }
        try:
            headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
            connection.request("POST", "/v1/chat/completions", msgspec.json.encode(body), headers)
            return connection.getresponse().status
        finally:
            connection.close()


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    it = Life(tmp_path_factory.mktemp("life") / "home")
    yield it
    it.run("down")


def test_the_first_deployment_ends_with_an_answer_a_record_and_a_log_that_verifies(
    life: Life,
) -> None:
    """The promise of the README's first command."""
    done = life.deploy()
    life.key = done["key"]
    assert done["key"].startswith("sov_")
    assert done["record"].startswith("local/gateway/event#")
    assert set(done["changed"]) == {"logs", "key", "processes"}
    assert list(done["steps"])[-1] == "log verifies"
    assert life.run("status").code == 0
    assert life.run("audit", "verify").code == 0
    assert life.run("audit", "prove", done["record"]).code == 0
    report = life.run("report", "--json")
    states = {control["id"]: control["state"] for control in report.json["controls"]}
    for drill in ("canary", "disconnect", "restore"):
        assert states.pop(f"{drill}-drilled") == "unknown"  # until somebody drills, and it says so
    assert states.pop("dependencies-placed") == "unknown"  # nobody has said where they are
    assert states.pop("egress-closed") == "unknown"  # no firewall of ours was asked for here
    assert (report.code, set(states.values()) - {"not_applicable"}) == (3, {"pass"})
    assert life.ask() == 200


def test_the_second_changes_nothing_and_says_so(life: Life) -> None:
    """Running it again is the way to find out whether all is well."""
    before = life.pids()
    started = time.monotonic()
    said = life.run("deploy")
    assert time.monotonic() - started < 10
    assert said.code == 0
    assert "changed: nothing" in said.out
    assert "sov_" not in said.out
    for words in ("base URL", "record", "this-host; country not declared", "audit prove"):
        assert words in said.out
    assert life.pids() == before


def test_the_key_that_was_shown_is_in_no_file(life: Life) -> None:
    """Shown once means shown once."""
    for path in life.home.rglob("*"):
        assert not path.is_file() or life.key.encode() not in path.read_bytes(), path


def test_an_engine_that_is_killed_is_started_again_and_the_others_go_on(life: Life) -> None:
    """Nobody gets up at night for one crash."""
    before = life.pids()
    os.kill(before["engine"], signal.SIGKILL)
    life.until(lambda: life.pids()["engine"] != before["engine"])
    life.until(lambda: life.ask() == 200)
    after = {child["name"]: child for child in life.status()["processes"]}
    assert (after["engine"]["restarts"], after["engine"]["last_exit"]) == (1, -signal.SIGKILL)
    assert {name: after[name]["pid"] for name in ("gateway", "controller")} == {
        name: before[name] for name in ("gateway", "controller")
    }


def test_a_changed_setting_is_taken_up_by_a_restart(life: Life) -> None:
    """The file says where it listens; what runs must be what the file says."""
    port = free_port()
    before = life.pids()
    done = life.deploy("--listen", f"127.0.0.1:{port}")
    assert set(done["changed"]) == {"settings", "processes"}
    assert done["url"] == f"http://127.0.0.1:{port}"
    assert not [pid for pid in before.values() if alive(pid)]
    assert life.ask() == 200


def test_weights_named_from_where_one_stands_are_found_from_everywhere(
    life: Life, tmp_path: Path
) -> None:
    """The processes are started in another folder than the one the word was typed in."""
    (tmp_path / "mine.gguf").symlink_to(packaged_model())
    done = life.deploy("--weights", "mine.gguf", cwd=tmp_path)
    assert "settings" in done["changed"]
    assert settings.load(life.home).settings.engine.weights == str(tmp_path / "mine.gguf")
    assert life.ask() == 200
    assert life.status()["engines"][0]["model_digest"] == ""


def test_a_refused_wish_leaves_what_runs_and_what_is_written_as_it_was(life: Life) -> None:
    """A typing error on a Friday must not take the site down on Monday."""
    before, text = life.pids(), (life.home / "sovereign.yaml").read_text()
    for words, code in (
        (("--model", "gpt-5"), 2),
        (("--engine", "gpt"), 2),
        (("--listen", "0.0.0.0:8080"), 1),
    ):
        assert life.run("deploy", *words).code == code
    assert (life.home / "sovereign.yaml").read_text() == text
    assert life.pids() == before
    assert life.ask() == 200


def test_a_key_never_shown_working_is_replaced_and_revoked(life: Life) -> None:
    """A deployment that was interrupted after the key may have shown it to nobody."""
    path = life.home / "run/deployed.json"
    kept = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode({**kept, "record": ""}))
    done = life.deploy()
    assert done["changed"] == ["key"]
    assert done["steps"]["key"].endswith(f"; it replaces {kept['key_id']}, which never answered")
    listed = life.run("key", "list", "--json").json["keys"]
    assert [key["state"] for key in listed] == ["revoked", "active"]
    life.key = done["key"]
    assert life.ask() == 200


def test_a_process_that_was_given_up_is_started_again_by_the_next_deployment(life: Life) -> None:
    """ "Run it again" is what every page says; it must not answer that all is as it was."""
    ended: set[int] = set()
    for _ in range(ENDS_MAX):
        life.until(lambda: life.pids()["engine"] not in ended and alive(life.pids()["engine"]))
        ended.add(life.pids()["engine"])
        os.kill(life.pids()["engine"], signal.SIGKILL)
    life.until(lambda: "given-up" in {child["state"] for child in life.status()["processes"]})
    done = life.deploy()
    assert done["changed"] == ["processes"]
    assert done["steps"]["processes"] == "restarted: engine was given up"
    assert life.ask() == 200


def test_after_the_supervisor_was_killed_the_site_comes_up_again(life: Life) -> None:
    """Whatever the kernel's memory killer picks: the next deploy finds ports and log free."""
    before = life.pids()
    os.kill(life.supervisor(), signal.SIGKILL)
    life.until(lambda: not any(alive(pid) for pid in before.values()))
    assert life.deploy()["changed"] == ["processes"]
    assert life.ask() == 200
    assert life.run("audit", "verify").code == 0


def test_stopping_stops_everything_and_twice_is_as_good_as_once(life: Life) -> None:
    """And the log is whole, settled and closed by a record that says so at the next opening."""
    before = life.pids()
    assert life.run("down", "--json").json["stopped"] is True
    assert life.run("down", "--json").json["stopped"] is False
    assert not [pid for pid in before.values() if alive(pid)]
    assert life.run("audit", "verify").code == 0
    assert life.run("status").code == 3


def test_it_comes_up_again_by_up_alone(life: Life) -> None:
    """What was deployed once needs no deployment to be started."""
    assert life.run("up", "--json").json == {"started": True}
    assert life.run("up", "--json").json == {"started": False}
    life.until(lambda: life.run("status").code == 0 and life.ask() == 200)
