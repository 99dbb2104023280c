"""What lies in a site and belongs to nobody: it has no class, so it would be kept for ever."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from sovereign.controller import lease
from sovereign.drills import note
from sovereign.holds import FOLDER
from sovereign.settings import EngineSettings, GatewaySettings, Home, Settings
from sovereign.sinks import of_site, standing, undeclared
from sovereign.sinks.ours import DRILLS
from tests.retention.site import POLICY, Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    it = Site(tmp_path / "home")
    yield it
    it.close()


def strays(home: Home) -> set[str]:
    return {str(path.relative_to(home.root)) for path in undeclared.find(home, of_site(home))}


def put(home: Home, name: str) -> Path:
    path = home.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    return path


@pytest.mark.parametrize("weights", ["tiny", ".", "..", ""])
def test_weights_that_the_settings_name_are_declared_and_nothing_around_them(
    tmp_path: Path, weights: str
) -> None:
    """Whoever keeps weights in the site's folder has said so; a whole site is no model."""
    home = Home((tmp_path / "home").resolve(), Settings(engine=EngineSettings(weights=weights)))
    named, other = put(home, "tiny/config.json"), put(home, "other/config.json")
    expected = {other} if weights == "tiny" else {named, other}
    assert strays(home) == {str(path.relative_to(home.root)) for path in expected}


def test_a_site_after_a_year_and_a_run_has_nothing_that_nobody_declared(site: Site) -> None:
    """A finding that every site has would soon be read by nobody."""
    site.decide(600)
    site.pass_days(400)
    site.seal()
    site.run()
    site.settle()
    assert strays(site.home) == set()


@pytest.mark.parametrize(
    "name",
    [
        "prompts.jsonl",
        "logs/requests.jsonl",
        "logs/gateway.2026-01-01.log.gz",
        "run/cache.db",
        "audit/gateway/event/tile/entries/000.bak",
        "audit/gateway/event/tile/entries/x001/copy",
        "audit/gateway/event/entries",
        "audit/old/event.tar",
        "trust/notes.txt",
        "keys/audit/readme",
        "drills/notes",
        "policy-versions/draft.yaml",
        "audit.lost/gateway/event/journal",
    ],
)
def test_a_file_that_somebody_put_there_is_found_wherever_it_is(site: Site, name: str) -> None:
    """Look-alikes too: a copy of a bundle beside the bundles, an old log that was compressed."""
    put(site.home, name)
    assert strays(site.home) == {name}


def test_a_file_in_the_place_of_a_sinks_folder_is_found(tmp_path: Path) -> None:
    """It is no item of that sink."""
    home = Home(tmp_path, Settings())
    put(home, "drills")
    assert strays(home) == {"drills"}


def test_a_link_and_a_hidden_file_are_files_too(site: Site, tmp_path: Path) -> None:
    """Neither hides anything from the walk, which follows no link."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("x")
    (site.home.root / "link").symlink_to(tmp_path / "outside")
    put(site.home, ".hidden/.file")
    assert strays(site.home) == {"link", ".hidden/.file"}


def test_what_a_sink_declares_or_the_settings_name_is_not_found(tmp_path: Path) -> None:
    """It has a class, or it is no data."""
    chosen = GatewaySettings(issuers="providers.yaml")
    home = Home(tmp_path, Settings(gateway=chosen))
    for name in (
        *("logs/gateway.2026-01-01.log", "core.7", "models/ollama/logs/server.log"),
        *("run/used.json", "run/supervisor.json.new", "drills/control/x", ".export.part/logs/y"),
        *("providers.yaml", "keys.sqlite-wal", "registry.sqlite", "models/m/weights.gguf"),
        *("holds/hold_1/manifest", "cosigned/gateway-event/w.note", "trust/gateway-event.standby"),
    ):
        put(home, name)
    assert strays(home) == set()


def test_a_folder_that_cannot_be_read_leaves_it_unknown(site: Site, tmp_path: Path) -> None:
    """What is in it, nobody knows."""
    moved = tmp_path / "moved"
    (site.home.root / "trust").rename(moved)
    home = Home(site.home.root, Settings(paths=type(Settings().paths)(run=str(tmp_path / "run"))))
    (tmp_path / "run").symlink_to(moved)
    with pytest.raises(OSError, match="Not a directory"):
        list(undeclared.find(home, ()))
    seen = standing.of_home(home, POLICY, site.clock.now)
    assert seen.unread
    assert seen.unknown


def test_a_walk_ends_with_the_bound(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A million strays are one finding."""
    monkeypatch.setattr(undeclared, "FOUND_MAX", 3)
    for number in range(9):
        put(site.home, f"stray-{number}")
    assert len(strays(site.home)) == 3


def test_the_walk_calls_folders_as_those_who_make_them_do(tmp_path: Path) -> None:
    """Drills and holds lie in other rooms, which sinks do not import."""
    home = Home(tmp_path, Settings())
    assert note.folder(home) == home.keystore.parent / DRILLS
    assert FOLDER == "holds"
    lease.path_of(home.registry).write_text("x")
    assert strays(home) == set()


@pytest.mark.parametrize(("days", "late"), [(30.9, 0), (31.1, 1)])
def test_a_sink_is_overdue_an_interval_after_the_maximum(
    site: Site, days: float, late: int
) -> None:
    """The same edge for every sink; a receipt for it would be called late from then on."""
    site.home.logs.mkdir()
    day = site.clock.now - timedelta(days=40)
    (site.home.logs / f"gateway.{day:%Y-%m-%d}.log").write_text("x")
    began = day.replace(hour=0, minute=0, second=0, microsecond=0)
    seen = standing.of_home(site.home, POLICY, began + timedelta(days=days))
    (logs,) = [each for each in seen.standings if each.sink == "process-log"]
    assert (logs.items, logs.late, seen.wrong) == (1, late, bool(late))
