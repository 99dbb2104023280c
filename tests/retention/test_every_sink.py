"""A run over the sinks that are no logs: batches, refusals, and a stop at every step."""

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sovereign.audit.trail import Trail
from sovereign.controller import erasing, retain
from sovereign.controller.retain import Retaining
from sovereign.errors import LogUnwritable
from sovereign.sinks import files
from sovereign.sinks.told import digest
from tests.retention.site import Site

RECEIPTS = "local/controller/evidence"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    it = Site(tmp_path)
    yield it
    it.close()


def put(site: Site, name: str, days: float) -> Path:
    """A file of the site, last changed so long ago."""
    path = site.home.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    when = (site.clock.now - timedelta(days=days)).timestamp()
    os.utime(path, (when, when))
    return path


def written(site: Site, kind: str) -> list[dict[str, Any]]:
    """Records of a kind about what is no log."""
    site.settle()
    found = [r for _, r in site.records(RECEIPTS) if r["type"] == kind]
    return [r for r in found if "/" not in r.get("log", "")]


def test_every_sink_is_emptied_of_what_is_due_with_a_receipt_for_each_item(site: Site) -> None:
    """The promise is about a site, not about its logs."""
    old = [put(site, "core.7", 0), put(site, "run/x.new", 7), put(site, "models/a.log", 30)]
    young = [put(site, "run/y.new", 5), put(site, "logs/a.log", 28)]
    erased = site.run()
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in young)
    receipts = written(site, "erasure")
    assert {(r["log"], r["class"]) for r in receipts} == {
        ("core", "content"),
        ("temporary", "temporary"),
        ("engine-log", "process-log"),
    }
    assert len(receipts) == len(erased) == 3
    assert site.findings() == set()


def test_a_receipt_does_not_say_what_somebody_else_called_a_file(site: Site) -> None:
    """A file may be called after a person, and evidence is kept without end."""
    put(site, "models/Jean Dupont.log", 40)
    site.run()
    (receipt,) = written(site, "erasure")
    assert receipt["item"] == digest("Jean Dupont.log")
    assert site.files_with(b"Dupont") == []


def test_a_second_run_has_nothing_to_do(site: Site) -> None:
    """And writes no receipt for it."""
    put(site, "core", 1)
    assert len(site.run()) == 1
    assert site.run() == ()
    assert len(written(site, "erasure")) == 1


class Stopped(Exception):
    """The machine stopped here."""


@pytest.mark.parametrize("step", range(1, 8))
def test_a_run_that_is_stopped_at_any_step_leaves_what_the_next_one_completes(
    site: Site, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Every receipt, every wait, every deletion and every sync of four files in two sinks."""
    monkeypatch.setattr(erasing, "BATCH", 1)
    paths = [put(site, f"logs/{name}.log", 40) for name in "ab"]
    paths += [put(site, "run/c.new", 40), put(site, "core.1", 40)]
    calls = 0

    def counted(real: Any) -> Any:
        def call(*args: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == step:
                raise Stopped
            return real(*args, **named)

        return call

    with monkeypatch.context() as patch:
        for name in ("erase", "sync"):
            patch.setattr(files.Files, name, counted(getattr(files.Files, name)))
        wait = erasing.Erasing._wait_until_published
        patch.setattr(erasing.Erasing, "_wait_until_published", counted(wait))
        with pytest.raises(Stopped):
            site.run()
    site.settle()
    site.run()
    assert not any(path.exists() for path in paths)
    named = {r["item"] for r in written(site, "erasure")}
    assert {"a.log", "b.log", digest("c.new"), digest("core.1")} == named
    assert site.findings() == set()


def test_without_a_receipt_nothing_of_any_sink_is_erased(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk must not turn retention into deletion that nobody can explain."""
    path = put(site, "core", 1)
    real = Trail.record

    def record(trail: Trail, kind: str, **fields: Any) -> Any:
        if kind == "erasure":
            raise LogUnwritable("full")
        return real(trail, kind, **fields)

    monkeypatch.setattr(Trail, "record", record)
    with pytest.raises(LogUnwritable):
        site.run()
    assert path.exists()


def test_what_changes_while_its_receipt_is_written_stays_and_the_log_says_so(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receipt that lies is taken back, and another process's file is not lost."""
    path, other = put(site, "run/x.new", 9), put(site, "run/y.new", 9)
    real = erasing.Erasing._wait_until_published

    def waits(it: erasing.Erasing, last: Any, *logs: Any) -> None:
        real(it, last, *logs)
        if last is not None:
            path.write_text("written again")

    monkeypatch.setattr(erasing.Erasing, "_wait_until_published", waits)
    site.run()
    assert path.exists()
    assert not other.exists()
    (refused,) = written(site, "erasure-refused")
    assert (refused["log"], refused["item"]) == ("temporary", digest("x.new"))
    (ran,) = written(site, "retention-run")
    assert (ran["due"] - ran["erased"], ran["refused"], ran["unseen"]) == (1, 1, 0)


def test_a_sink_that_refuses_holds_up_no_other_and_gets_no_receipt(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read-only file system is known before anything is promised."""
    refusing, going = put(site, "logs/a.log", 40), put(site, "core", 1)

    def refusal(sink: files.Files, _: object) -> str:
        return "the file system is read-only" if sink.root == site.home.logs else ""

    monkeypatch.setattr(files.Files, "refusal", refusal)
    retaining = Retaining(site.home, site.policy, site.controller)
    retaining.run(site.clock.now)
    assert (refusing.exists(), going.exists()) == (True, False)
    assert retaining.overdue == 1
    assert [r["log"] for r in written(site, "erasure")] == ["core"]


def test_a_sink_that_cannot_be_read_is_counted_and_holds_up_no_other(site: Site) -> None:
    """Nobody knows is an answer, and not the answer that all is well."""
    (site.home.root / "elsewhere").mkdir()
    site.home.logs.symlink_to(site.home.root / "elsewhere")
    path = put(site, "core", 1)
    site.run()
    assert not path.exists()
    (ran,) = written(site, "retention-run")
    assert ran["unseen"] == 2, "its process logs, and core files in it"


def test_a_long_run_is_taken_up_by_the_next_round(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Engines are attested between two batches; a million files must not close a site."""
    monkeypatch.setattr(retain, "ERASES_A_ROUND_S", 0.0)
    paths = [put(site, name, 40) for name in ("core", "logs/a.log", "run/c.new")]
    retaining = Retaining(site.home, site.policy, site.controller, site.clock.ticks)
    left = []
    for _ in range(40):
        retaining.run_when_due(site.clock.now)
        left.append(sum(path.exists() for path in paths))
        if retaining.ran_at is not None:
            break
        site.clock.now += timedelta(seconds=5)
    assert left[-1] == 0
    assert {1, 2} & set(left), "it was stopped on the way"
    assert len(written(site, "retention-run")) == 1


def test_a_jump_of_the_clock_ends_a_run_that_is_under_way(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is due by the right clock goes later; what is due by the wrong one does not."""
    monkeypatch.setattr(retain, "ERASES_A_ROUND_S", 0.0)
    passed = 0.0
    path = put(site, "run/c.new", 40)
    retaining = Retaining(site.home, site.policy, site.controller, lambda: passed)
    retaining.run_when_due(site.clock.now)
    for _ in range(40):
        passed += 5
        retaining.run_when_due(site.clock.now + timedelta(days=365, seconds=passed))
    assert path.exists()
    assert retaining.ran_at is None
