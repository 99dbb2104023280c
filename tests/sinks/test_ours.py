"""The sinks of a site's own folders: what counts as an item, and how old it is."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sovereign.settings import Home, Settings
from sovereign.sinks import of_site, ours
from sovereign.sinks.model import NotErased, Sink
from tests.retention.site import POLICY

WHEN = datetime(2026, 3, 31, 22, 30, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, Settings())


def put(path: Path) -> Path:
    """A file last changed at `WHEN`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    os.utime(path, (WHEN.timestamp(), WHEN.timestamp()))
    return path


def found(home: Home) -> set[tuple[str, str, str]]:
    """Name, class and item of everything in every sink that is there."""
    return {
        (item.sink, item.retention_class, item.id)
        for sink in of_site(home)
        if sink.look().state == "present"
        for item in sink.items()
    }


def test_each_kind_of_leftover_is_an_item_of_the_sink_it_belongs_to(home: Home) -> None:
    """Exactly these, and nothing a site needs."""
    for path in (
        *("logs/gateway.2026-03-31.log", "models/ollama/logs/server.log", "models/core.123"),
        *("core", "run/used.json", "run/supervisor.new", "trust/gateway-event.checkpoint.new"),
        *("policy-versions/.in-force.new", "policy-versions/.staged-7/rules.yaml"),
        *("audit.restoring/gateway/event/journal", ".export.part/logs/x", "drills/control/x"),
        # what stays, whatever its age
        *(
            "audit.lost/gateway/event/journal",
            "sovereign.yaml",
            "sovereign.yaml.new",
            "keys.sqlite",
        ),
        *("drills/lock", "models/llamacpp/m.gguf", "trust/gateway-event.vkey", "run/standby.json"),
    ):
        put(home.root / path)
    assert found(home) == {
        ("process-log", "process-log", "gateway.2026-03-31.log"),
        ("engine-log", "process-log", "ollama/logs/server.log"),
        ("core", "content", "core.123"),
        ("core", "content", "core"),
        ("usage", "limits", "used.json"),
        ("temporary", "temporary", "supervisor.new"),
        ("temporary", "temporary", "gateway-event.checkpoint.new"),
        ("temporary", "temporary", ".in-force.new"),
        ("temporary", "temporary", ".staged-7"),
        ("temporary", "temporary", "audit.restoring"),
        ("temporary", "temporary", ".export.part"),
        ("drill", "temporary", "control"),
    }


def test_every_sink_has_a_class_in_the_shipped_policy(home: Home) -> None:
    """One without would be erased at once, which nobody meant."""
    assert {sink.kept for sink in of_site(home)} <= POLICY.retention.keys()


def test_an_item_without_a_day_in_its_name_is_as_old_as_its_last_change(home: Home) -> None:
    """And the sums of a month are as old as the month, however often they are written."""
    put(home.run / "used.json")
    put(home.logs / "supervisor.start.log")
    (used,) = ours.usage(home).items()
    (log,) = ours.process_logs(home).items()
    assert (used.oldest, used.newest) == (datetime(2026, 3, 1, tzinfo=UTC), WHEN)
    assert (log.oldest, log.newest) == (WHEN, WHEN)


def test_a_folder_is_as_old_as_the_last_that_was_put_into_it(home: Home) -> None:
    """A drill that runs must not lose what it works on."""
    put(home.root / "drills/control/old")
    fresh = home.root / "drills/control/fresh"
    fresh.write_text("x")
    (item,) = ours.drills(home).items()
    assert item.newest.timestamp() == pytest.approx(fresh.stat().st_mtime, abs=1e-3)


def test_a_sink_that_is_a_link_is_unknown_and_nothing_of_it_is_listed(
    home: Home, tmp_path: Path
) -> None:
    """Nobody knows whose files those are."""
    put(tmp_path / "elsewhere/gateway.2026-03-31.log")
    home.logs.symlink_to(tmp_path / "elsewhere")
    sink = ours.process_logs(home)
    assert sink.look().state == "unknown"
    with pytest.raises(OSError, match="Not a directory"):
        list(sink.items())


def test_a_sink_whose_folder_is_not_there_is_absent_and_empty(home: Home) -> None:
    """Most sites have no drill and no engine log."""
    sink: Sink = ours.engine_logs(home)
    assert sink.look().state == "absent"
    assert list(sink.items()) == []


def test_a_file_that_was_written_to_after_it_was_listed_is_not_erased(home: Home) -> None:
    """Between a listing and its deletion lies the wait for a receipt."""
    path = put(home.logs / "gateway.2026-03-31.log")
    sink = ours.process_logs(home)
    (item,) = sink.items()
    path.write_text("more")
    with pytest.raises(NotErased):
        sink.erase(item)
    assert path.exists()
