"""Drills of a deployed site, by the real command line: killing, and being killed."""

import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.journeys.deployed import CHAT, Site, site_at, wait_until

RECOVERS_WITHIN_S = 60
NOTED_WITHIN_S = 40


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_at(tmp_path_factory.mktemp("drills") / "home") as it:
        yield it


def drill_keys(site: Site) -> list[dict[str, Any]]:
    keys: list[dict[str, Any]] = site.asked("key", "list")["keys"]
    return [key for key in keys if key["tenant"] == "sovereign-drill"]


def drills(site: Site) -> list[tuple[str, str]]:
    """Drill and verdict of every record of one."""
    records = site.records("local/operator/evidence")
    return [(r["drill"], r["verdict"]) for r in records if r["type"] == "drill"]


def test_no_dry_run_makes_a_key_or_a_record(site: Site) -> None:
    """Whoever only wants to know must not have to explain a record."""
    for words in (("canary",), ("tamper",), ("restore",), ("kill",), ("disconnect",), ("clock",)):
        planned = site.asked("drill", *words, "--dry-run")
        assert (planned["dry_run"], planned["drill"]) == (True, words[0])
    planned = site.asked("drill", "canary", "--dry-run")
    assert planned["routes"][CHAT] == "canaries in every field"
    assert {"messages", "tools", "suffix", "user", "metadata"} <= set(planned["fields"])
    assert drill_keys(site) == []
    assert drills(site) == []


@pytest.mark.parametrize("drill", ["kill", "disconnect"])
def test_what_cuts_others_off_asks_first(site: Site, drill: str) -> None:
    """Nobody ends requests of others, or the network of a host, by a typing error."""
    pids = [site.pid(name) for name in ("engine", "gateway", "controller")]
    code, said = site.run("drill", drill)
    assert code == 2
    assert "--yes" in said
    assert [site.pid(name) for name in ("engine", "gateway", "controller")] == pids
    assert drills(site) == []


def test_every_process_is_killed_comes_back_and_no_acknowledged_request_is_lost(
    site: Site,
) -> None:
    """The promise of the audit log, kept through three kills."""
    pids = {name: site.pid(name) for name in ("engine", "gateway", "controller")}
    said = site.asked("drill", "kill", "--yes")
    assert (said["verdict"], said["findings"], said["unknown"]) == ("pass", [], [])
    assert [kill["process"] for kill in said["kills"]] == list(pids)
    assert said["answered"] >= 12
    for name, pid in pids.items():
        assert site.pid(name) != pid, name
    assert drills(site)[-1] == ("kill", "pass")
    assert {key["state"] for key in drill_keys(site)} == {"revoked"}


def test_a_canary_drill_that_is_killed_half_way_is_undone_by_whoever_asks(site: Site) -> None:
    """`drill status` is what an operator types when something looks odd."""
    note = site.home / "drills/note.json"
    with site.start("drill", "canary", "--json", "--settle-s", "600") as process:
        wait_until(lambda: noted_keys(note) == 4, NOTED_WITHIN_S)
        busy = site.asked("drill", "clock", code=3)
        assert busy["error"]["code"] == "drill-running"
        assert site.asked("drill", "status")["state"] == "running"
        wait_until(lambda: len(drill_keys(site)) >= 5, NOTED_WITHIN_S)
        os.kill(process.pid, signal.SIGKILL)
    assert "active" in {key["state"] for key in drill_keys(site)}
    assert site.asked("drill", "status", code=1)["state"] == "left"
    assert {key["state"] for key in drill_keys(site)} == {"revoked"}
    assert site.asked("drill", "status")["state"] == "none"
    assert site.asked("drill", "undo") == {"undone": False, "drill": ""}
    assert drills(site)[-1] == ("canary", "unknown")
    control = next(
        c for c in json.loads(site.run("report", "--json")[1])["controls"] if c["ref"] == "PRV-01"
    )
    assert control["state"] == "unknown", "a drill that showed nothing is no pass"


def noted_keys(note: Any) -> int:
    try:
        return len(json.loads(note.read_text())["keys"])
    except (OSError, ValueError):
        return 0


def test_a_canary_drill_of_a_site_that_does_not_answer_ends_without_a_verdict(site: Site) -> None:
    """Nothing said, nothing shown; and nothing left behind."""
    assert site.run("down")[0] == 0
    time.sleep(0.1)
    said = site.asked("drill", "canary", "--settle-s", "0", code=3)
    assert said["error"]["code"] == "engine-unhealthy"
    assert {key["state"] for key in drill_keys(site)} == {"revoked"}
    assert drills(site)[-1] == ("canary", "unknown")
