"""Places that are not files of the site: a database, a journal, temporary folders, exports.

Each is a real one where this machine can have one; each says so when it could not be searched.
"""

import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import msgspec
import pytest

from sovereign.drills import canary, database, pages, places, processes
from sovereign.drills.places import Search
from sovereign.drills.processes import Process
from sovereign.drills.words import Canaries
from sovereign.registry import utcnow
from sovereign.settings import (
    EndpointSettings,
    GatewaySettings,
    Home,
    Settings,
    TracingSettings,
)
from tests.engines.running import free_port
from tests.tools.postgres import Postgres, postgres


@pytest.fixture
def canaries() -> Canaries:
    it = Canaries()
    it.word("prompt")
    it.go("whole")
    return it


@pytest.fixture
def word(canaries: Canaries) -> str:
    return next(iter(canaries.words))


@pytest.fixture
def search(canaries: Canaries) -> Search:
    return Search(canary.seeker_of(canaries, {}), utcnow() - timedelta(minutes=1))


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as it:
        yield it


def home_of(root: Path, **chosen: object) -> Home:
    return Home(root, msgspec.structs.replace(Settings(), **chosen))


def test_a_row_of_the_shared_database_is_found_whatever_its_type(
    tmp_path: Path, search: Search, word: str, server: Postgres
) -> None:
    """Gateways share limits through it: a name of a user is one careless column away."""
    from psycopg import connect
    from psycopg.sql import SQL, Identifier

    home = home_of(tmp_path, gateway=GatewaySettings(limits_database=server.url))
    with connect(server.url, autocommit=True) as db:
        db.execute("CREATE TABLE counted (who text, raw bytea, more jsonb)")
        db.execute("INSERT INTO counted VALUES ('nobody', '', '{}')")
        assert database.shared(search, home).findings == set()
        for column, value in (("who", word), ("raw", word.encode()), ("more", f'{{"x":"{word}"}}')):
            db.execute("TRUNCATE counted")
            insert = SQL("INSERT INTO counted ({}) VALUES (%s)").format(Identifier(column))
            db.execute(insert, (value,))
            looked = database.shared(search, home)
            assert {each.where for each in looked.findings} == {"public.counted"}, column
            assert looked.unreadable == []
        db.execute("DROP TABLE counted")


def test_a_statement_that_the_database_shows_is_found(
    tmp_path: Path, search: Search, word: str, server: Postgres
) -> None:
    """Whoever may look at the server reads the text of what runs there."""
    from psycopg import connect

    home = home_of(tmp_path, gateway=GatewaySettings(limits_database=server.url))
    with connect(server.url, autocommit=True) as db:
        db.execute(f"SELECT '{word}'")  # the last statement of a session stays in view
        looked = database.shared(search, home)
    assert {each.where for each in looked.findings} == {"pg_stat_activity"}


def test_a_database_that_does_not_answer_is_not_searched_and_says_so(
    tmp_path: Path, search: Search
) -> None:
    """Unknown, and so no pass."""
    url = f"postgresql://sovereign@127.0.0.1:{free_port()}/postgres"
    looked = database.shared(
        search, home_of(tmp_path, gateway=GatewaySettings(limits_database=url))
    )
    assert looked.unreadable == ["gateway.limits_database: OperationalError"]


def test_what_is_sent_elsewhere_is_unknown_until_somebody_brings_it(
    tmp_path: Path, search: Search, word: str
) -> None:
    """Spans are at the target; a drill that ignored them would be blind where it matters."""
    traced = TracingSettings(endpoint="http://127.0.0.1:4318/v1/traces")
    home = home_of(tmp_path, tracing=traced)
    assert pages.elsewhere(search, home, ()).unreadable
    export = tmp_path / "export"
    export.mkdir()
    assert pages.elsewhere(search, home, (export,)).unreadable, "an empty export is none"
    (export / "spans.json").write_text("{}")
    looked = pages.elsewhere(search, home, (export,))
    assert (looked.unreadable, looked.findings) == ([], set())
    (export / "spans.json").write_text(f'{{"attributes": "{word}"}}')
    assert pages.elsewhere(search, home, (export,)).findings
    assert pages.elsewhere(search, home_of(tmp_path), ()).absent


def test_an_engine_on_another_host_is_unknown_until_somebody_brings_what_it_wrote(
    tmp_path: Path, search: Search
) -> None:
    """Its logs are not on this disk."""
    there = EndpointSettings(
        id="far", name="vllm", model="m", address=f"10.255.255.1:{free_port()}", place="x:y"
    )
    looked = pages.elsewhere(search, home_of(tmp_path, endpoints=(there,)), ())
    assert looked.unreadable == ["endpoint far: it runs elsewhere; bring what it wrote: --also"]


def test_a_page_of_metrics_that_is_somebody_elses_is_not_taken_for_ours(
    tmp_path: Path, search: Search
) -> None:
    """A port does not say who listens there."""
    home = home_of(tmp_path, gateway=GatewaySettings(admin_listen=f"127.0.0.1:{free_port()}"))
    looked = pages.metrics(search, home)
    assert len(looked.unreadable) == 2
    assert all("no process of this site" in lack for lack in looked.unreadable)


def test_a_temporary_file_is_found_when_it_is_new_and_ours(
    tmp_path: Path, search: Search, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lay there before the drill began cannot hold a word of it."""
    monkeypatch.setattr(places, "TEMPORARY", (tmp_path / "t",))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    (tmp_path / "t/upload").write_text(word)
    home, us = home_of(tmp_path / "home"), [Process("gateway", os.getpid())]
    monkeypatch.setattr(processes, "environment_of", lambda *_: "")
    assert {e.where for e in places.temporary(search, home, us).findings} == {"t/upload"}
    later = replace(search, since=utcnow() + timedelta(minutes=5))
    assert places.temporary(later, home, us).findings == set()


def test_shared_memory_is_searched_once_nobody_has_it_any_more(
    tmp_path: Path, search: Search, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM's processes pass calls through it: memory while they run, a file on the machine when one
    of them crashed. Its times are of no use, for what is written to it changes none."""
    root = Path("/", processes.SHARED)
    monkeypatch.setattr(places, "TEMPORARY", (root,))
    monkeypatch.setattr(tempfile, "tempdir", str(root))
    monkeypatch.setattr(processes, "environment_of", lambda *_: "")
    home, us = home_of(tmp_path / "home"), [Process("engine", os.getpid())]
    later = replace(search, since=utcnow() + timedelta(minutes=5))
    segment = SharedMemory(create=True, size=places.GREAT_BYTES)
    try:
        segment.buf[: len(word)] = word.encode()
        assert places.temporary(later, home, us).findings == set()
        assert places.held_open(search, home, us).findings == set()
        segment.close()
        found = {each.where for each in places.temporary(later, home, us).findings}
        assert found == {f"shm/{segment.name}"}
    finally:
        segment.unlink()


@pytest.mark.parametrize("kind", ["folder", "link", "target", "pipe"])
def test_a_name_is_searched_whatever_it_is_the_name_of(
    tmp_path: Path, search: Search, word: str, kind: str
) -> None:
    """An empty folder named after a user says as much as a file."""
    named = tmp_path / f"of-{word}"
    if kind == "folder":
        named.mkdir()
    elif kind == "link":
        named.symlink_to("nowhere")
    elif kind == "target":
        (tmp_path / "link").symlink_to(named)
    else:
        os.mkfifo(named)
    looked = places.files(search, home_of(tmp_path))
    assert {each.where for each in looked.findings} == {"the name of a file"}


def test_a_file_that_cannot_be_read_is_unknown_and_one_that_went_away_is_not(
    tmp_path: Path, search: Search
) -> None:
    """The difference between a locked drawer and an empty one."""
    home = home_of(tmp_path)
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked/file").write_text("x")
    (tmp_path / "locked").chmod(0)
    try:
        looked = places.files(search, home)
        if os.geteuid() != 0:
            assert any("locked" in lack for lack in looked.unreadable)
    finally:
        (tmp_path / "locked").chmod(stat.S_IRWXU)
    looked = places.Looked("files")
    search.file(looked, tmp_path / "gone", "gone")
    assert (looked.items, looked.unreadable) == (0, [])
    search.file(looked, tmp_path, "a folder")
    assert looked.unreadable == ["a folder: Is a directory"]


def test_a_great_file_that_did_not_change_is_counted_and_not_read(
    tmp_path: Path, search: Search, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights have hundreds of gigabytes; what changed since is read whatever its size."""
    monkeypatch.setattr(places, "GREAT_BYTES", 10)
    (tmp_path / "weights").write_text(word)
    later = replace(search, since=utcnow() + timedelta(minutes=5))
    looked = places.files(later, home_of(tmp_path))
    assert (looked.unchanged, looked.findings) == (1, set())
    looked = places.files(search, home_of(tmp_path))
    assert (looked.unchanged, len(looked.findings)) == (0, 1)


def test_a_full_log_of_today_is_unknown(tmp_path: Path) -> None:
    """What is printed now is dropped, so a leak would not be seen."""
    home = home_of(tmp_path)
    home.logs.mkdir()
    log = home.logs / f"gateway.{utcnow():%Y-%m-%d}.log"
    with log.open("wb") as file:
        file.truncate(16 * 1024 * 1024)
    assert any("full" in lack for lack in places.output(home, []).unreadable)


def test_a_machine_without_a_journal_says_so_and_one_with_it_is_read(
    tmp_path: Path, search: Search, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a managed host the services print there; `journalctl` here is a stand-in of a line."""
    monkeypatch.setattr(places, "JOURNAL_SOCKET", tmp_path / "none")
    assert places.journal(search, []).absent
    monkeypatch.setattr(places, "JOURNAL_SOCKET", tmp_path)
    said = tmp_path / "journalctl"
    said.write_text(f'#!/bin/sh\necho "MESSAGE={word}"\n')
    said.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert {each.where for each in places.journal(search, []).findings} == {"journalctl"}
    said.write_text("#!/bin/sh\nexit 1\n")
    assert places.journal(search, []).unreadable == ["journalctl: it ended with 1"]
    said.unlink()
    assert places.journal(search, []).unreadable == ["journalctl: FileNotFoundError"]
