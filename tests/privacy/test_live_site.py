"""Nothing a client says is kept by a site as it is deployed: the drill, and what it must not do.

First `sovereign drill canary` runs as an auditor runs it. Then canaries meet what no drill may do
to a live site: an engine that is held still, killed or gone, a log that cannot be written, a
gateway that is killed. After each of these every place is searched again.
"""

import json
import os
import resource
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sovereign import settings
from sovereign.drills import canary, places
from sovereign.drills.push import HUNG_UP, Pusher
from sovereign.drills.result import Result
from sovereign.drills.words import Canaries
from sovereign.registry import utcnow
from sovereign.settings import Home
from tests.engines.running import free_port
from tests.journeys.deployed import CHAT, MODEL, Site, stopped, wait_until

RECOVERS_WITHIN_S = 60
SETTLES_S = "2"
SINKS = [
    "files",
    "process output",
    "processes",
    "open files",
    "temporary files",
    "journal",
    "metrics",
    "database",
    "sent elsewhere",
    "core dumps",
]


@dataclass
class Run:
    """A deployed site, what its drill said, and the canaries it met afterwards."""

    site: Site
    drilled: Any = None
    canaries: Canaries = field(default_factory=Canaries)
    keys: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    wrote: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Home:
        return settings.load(self.site.home)

    @property
    def pusher(self) -> Pusher:
        return Pusher(self.home.settings.gateway, self.keys, self.canaries, {CHAT: MODEL})

    def met(self, outcome: str, pusher: Pusher) -> None:
        """Keep how the requests of an outcome were answered, and what was written."""
        self.statuses[outcome] = [case.status for case in pusher.pushed.cases]
        self.wrote |= pusher.pushed.wrote

    def ask(self, outcome: str) -> None:
        """A chat, whole and streamed."""
        pusher, word = self.pusher, self.canaries.word
        for stream in (False, True):
            body = {"model": MODEL, "max_tokens": 2, "stream": stream}
            messages = [{"role": "user", "content": word("prompt")}]
            pusher.send(outcome, CHAT, {**body, "messages": messages})
        self.met(outcome, pusher)

    def findings(self) -> list[str]:
        """What every place holds of it now."""
        result = Result("canary", utcnow())
        looked = canary.look(self.home, self.canaries, self.wrote, result, (), lambda _: None)
        return [canary.shown(each) for sink in looked for each in sorted(sink.findings)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Everything is done once; the tests look at what is left, the last at the site taken down."""
    site = Site(tmp_path_factory.mktemp("private") / "home")
    site.prepare()
    file = site.home / settings.FILE_NAME
    chosen = json.loads(file.read_text())
    chosen["gateway"]["admin_listen"] = f"127.0.0.1:{free_port()}"
    chosen["controller"]["metrics_listen"] = f"127.0.0.1:{free_port()}"
    file.write_text(json.dumps(chosen))
    try:
        site.deploy()
        it = Run(site)
        words = ("drill", "canary", "--json", "--settle-s", SETTLES_S, "--engine-restart")
        code, said = site.run(*words)
        site.out.clear()
        it.drilled = {"exit": code, **json.loads(said)}
        for source in ("none", "header", "user", "metadata"):
            more = ("--tenant", "acme", "--purpose", "tests", "--subject", source)
            it.keys[source] = site.asked("key", "create", *more)["key"]
        time.sleep(1)  # the gateway looks for keys twice a second
        trouble(it)
        yield it
    finally:
        code, said = site.run("down")
        assert code == 0, said


def trouble(it: Run) -> None:
    """What goes wrong behind the gateway, and in it."""
    site = it.site
    pusher = it.pusher
    pusher.answers(CHAT)
    it.met("answers", pusher)
    pusher = it.pusher
    long = {"model": MODEL, "messages": [{"role": "user", "content": it.canaries.word("x") * 400}]}
    pusher.send("longer than the context", CHAT, long)
    it.met("too long", pusher)
    with stopped(site.pid("engine")):
        pusher = it.pusher
        pusher.hang_up(CHAT, 1)  # long enough to be handed on to an engine that does not move
        it.met("held still", pusher)
    engine = site.pid("engine")
    it.pusher.broken_off("killed in the answer", CHAT, lambda: end(engine))
    comes_back(site, "engine", engine)
    engine = site.pid("engine")
    with stopped(site.supervisor()):
        end(engine)
        it.ask("gone")
    comes_back(site, "engine", engine)
    log_unwritable(it)
    gateway = site.pid("gateway")
    it.pusher.broken_off("the gateway is killed", CHAT, lambda: end(gateway))
    comes_back(site, "gateway", gateway)
    it.ask("again")


def comes_back(site: Site, name: str, old: int) -> None:
    """Another process of that name runs, and the site answers."""
    wait_until(lambda: site.pid(name) != old and site.is_ready(), RECOVERS_WITHIN_S)
    wait_until(lambda: site.chat().status == 200, RECOVERS_WITHIN_S)


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def log_unwritable(it: Run) -> None:
    """The disk takes no more: a limit on the size of files, put on the running gateway, is as
    good as a full one, and it hits root as well."""
    pid, unlimited = it.site.pid("gateway"), resource.RLIM_INFINITY
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, unlimited))
    it.ask("unwritable")
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))


def test_the_drill_passes_on_a_site_as_it_is_deployed(run: Run) -> None:
    """The product's own claim, as an auditor has it checked."""
    said = run.drilled
    assert said["findings"] == []
    assert said["unknown"] == []
    assert (said["exit"], said["verdict"], said["control"]) == (0, "pass", "found")
    assert said["cases"] > 200
    assert [sink["sink"] for sink in said["sinks"]] == SINKS
    looked_at = {sink["sink"]: sink["items"] for sink in said["sinks"]}
    assert looked_at["files"] > 40, "the audit logs, databases and process logs are that many"
    assert looked_at["processes"] >= 12
    assert looked_at["metrics"] == 2


def test_the_drill_met_the_outcomes_it_promises(run: Run) -> None:
    """A canary that met no outcome proves nothing about it."""
    statuses = run.drilled["statuses"]
    assert {"200", "400", "401", "403", "404", "405", "413", "422", "hung up"} <= set(statuses)


def test_the_drill_is_on_record_and_undid_what_it_did(run: Run) -> None:
    """An auditor asks when it last passed; nobody may be left with a key of it."""
    site = run.site
    record = site.record(run.drilled["record"])
    assert (record["type"], record["drill"], record["verdict"]) == ("drill", "canary", "pass")
    assert (record["findings"], record["unknown"]) == (0, 0)
    assert record["cases"] == run.drilled["cases"]
    keys = [k for k in site.asked("key", "list")["keys"] if k["tenant"] == "sovereign-drill"]
    assert len(keys) == 4
    assert {key["state"] for key in keys} == {"revoked"}
    assert sorted(path.name for path in (site.home / "drills").iterdir()) == ["lock"]
    (control,) = [
        c for c in json.loads(site.run("report", "--json")[1])["controls"] if c["ref"] == "PRV-01"
    ]
    assert control["state"] == "pass", control["found"]


def test_every_trouble_was_met(run: Run) -> None:
    """As above, for what no drill may do."""
    assert run.statuses["answers"].count(200) >= 9
    assert run.statuses["too long"] == [400]
    assert run.statuses["held still"] == [HUNG_UP] * 3
    assert set(run.statuses["gone"]) == {503}
    assert set(run.statuses["unwritable"]) == {503}
    assert run.statuses["again"] == [200, 200]
    assert any(run.wrote.values())
    endings = {r["outcome"] for r in completions(run)}
    assert {"answered", "client-gone", "engine-failed", "engine-unhealthy"} <= endings


def completions(run: Run) -> list[dict[str, Any]]:
    records = run.site.records("local/gateway/event", 1000)
    return [record for record in records if record["type"] == "completion"]


def test_nothing_a_client_said_stayed_anywhere(run: Run) -> None:
    """Logs, journals, databases, process output, memory maps of the dead: everything."""
    assert run.findings() == []


def test_a_word_that_was_kept_would_be_found_there(run: Run) -> None:
    """In a log of a process, in the middle of a database, and in a name."""
    word = run.canaries.word("planted")
    run.canaries.go("planted")
    logs = run.site.home / "logs"
    text, named, database = logs / "planted.log", logs / f"{word}.log", logs / "planted.sqlite"
    try:
        text.write_bytes(b"\0" * 5000 + word.encode())
        named.touch()
        with closing(sqlite3.connect(database)) as db, db:
            db.execute("CREATE TABLE kept (word TEXT)")
            db.execute("INSERT INTO kept VALUES (?)", (word,))
        found = run.findings()
    finally:
        for path in (text, named, database):
            path.unlink(missing_ok=True)
    assert found == [
        "files: logs/planted.log: as text, from planted, sent as: planted",
        "files: logs/planted.sqlite: as text, from planted, sent as: planted",
        "files: the name of a file: as text, from planted, sent as: planted",
    ]


def test_no_command_prints_it(run: Run) -> None:
    """What operators see, paste into tickets and mail around."""
    site = run.site
    for words in (
        ("status", "--json"),
        ("audit", "tail", "--json", "-n", "1000"),
        ("audit", "status", "--json"),
        ("audit", "verify", "--json"),
        ("key", "list", "--json"),
        ("report", "--json"),
        ("drill", "status", "--json"),
    ):
        site.run(*words)
    assert len(site.out) >= 7
    seeker = canary.seeker_of(run.canaries, run.wrote)
    assert seeker.seek([text.encode() for text in site.out]).finds == set()


def test_no_secret_of_a_key_is_in_any_file(run: Run) -> None:
    """They are stored hashed; a file that leaks must not open the door."""
    secrets = [secret.encode() for secret in (run.site.key, *run.keys.values())]
    for root in places.folders(run.home):
        for path in (p for p in root.rglob("*") if p.is_file()):
            data = path.read_bytes()
            assert not any(secret in data for secret in secrets), path


def test_the_records_hold_only_what_the_tables_name(run: Run) -> None:
    """And the subjects in them are sealed, each text another: nothing links two records."""
    records = run.site.records("local/gateway/event", 1000)
    subjects = [record["subject"] for record in records if "subject" in record]
    assert len(set(subjects)) == len(subjects) >= 3
    assert all(subject.startswith("sealed1.") for subject in subjects)
    models = {record["model"] for record in records if record["type"] == "decision"}
    assert models == {MODEL, "unknown"}


def test_nothing_of_it_is_there_after_the_site_was_taken_down(run: Run) -> None:
    """Closing a log writes its last files; a core dump would be written now."""
    assert run.site.run("down")[0] == 0
    search = places.Search(canary.seeker_of(run.canaries, run.wrote), utcnow())
    looked = places.files(search, run.home)
    assert (looked.findings, looked.unreadable) == (set(), [])
    assert run.site.run("audit", "verify")[0] == 0
    assert list(Path("/").glob("core*")) == [], "a core dump of a process whose folder is /"
