"""Sets that nothing serves go, and nothing else does."""

import mmap
from pathlib import Path

import pytest

from sovereign import fleet, settings
from sovereign.weights import prune, store
from tests.cli.conftest import Run
from tests.weights.making import TENSORS, pin_of, published, tensors

MODEL = "mistral-7b-instruct-v0.3"
NOW = ("weights", "prune", "--kept-days", "0")


@pytest.fixture
def sets(site: Path, run: Run, tmp_path: Path) -> list[Path]:
    """Two sets of one model, as fetched."""
    for number in (1, 2):
        folder = published(tmp_path / f"set-{number}", **{TENSORS: tensors(1000 * number)})
        done = run("weights", "fetch", MODEL, "--from", str(folder), "--digest", pin_of(folder))
        assert done.code == 0, done.err
    return there(site)


def there(site: Path) -> list[Path]:
    return [each.path for each in store.stored(settings.load(site))]


def removals(site: Path) -> list[object]:
    log = next(
        m for m in fleet.members(settings.load(site)) if m.origin == "local/operator/evidence"
    )
    every = (entry for _, entry in fleet.records(log, 0, 1000))
    return [entry["digest"] for entry in every if entry["type"] == "weights-removed"]


def test_what_nothing_serves_is_removed_and_recorded(
    site: Path, run: Run, sets: list[Path]
) -> None:
    """Terabytes that nobody reads; that they are gone is evidence like that they came."""
    done = run(*NOW, "--json")
    assert (done.code, len(done.json["sets"])) == (0, 2)
    assert there(site) == []
    assert removals(site) == [f"sha256:{path.name}" for path in sets]
    assert not [*(store.folder_of(settings.load(site)) / prune.GOING).iterdir()]


def test_what_the_settings_name_or_a_process_has_open_stays(
    site: Path, run: Run, sets: list[Path]
) -> None:
    """Garbage collection that removes what runs is an outage at the next start."""
    (site / settings.FILE_NAME).write_text(f"version: 1\nengine: {{weights: '{sets[0]}'}}\n")
    with (sets[1] / TENSORS).open("rb"):
        assert run(*NOW, "--json").json["sets"] == []
    assert there(site) == sets
    assert [row["path"] for row in run(*NOW, "--json").json["sets"]] == [str(sets[1])]
    assert there(site) == sets[:1]


def test_what_just_came_in_and_a_dry_run_remove_nothing(
    site: Path, run: Run, sets: list[Path]
) -> None:
    """Who fetches tonight deploys tomorrow."""
    assert run("weights", "prune", "--json").json["sets"] == []
    assert len(run(*NOW, "--dry-run", "--json").json["sets"]) == 2
    assert (there(site), removals(site)) == (sets, [])


def test_a_removal_that_was_interrupted_is_ended_by_the_next(
    site: Path, run: Run, sets: list[Path]
) -> None:
    """Half a set has no name any more, so nothing can serve it."""
    going = store.folder_of(settings.load(site)) / prune.GOING
    going.mkdir()
    sets[0].rename(going / sets[0].name)
    assert there(site) == sets[1:]
    assert run("weights", "prune").code == 0
    assert ([*going.iterdir()], there(site)) == ([], sets[1:])


def test_a_file_that_is_mapped_and_closed_is_in_use(site: Path, run: Run, sets: list[Path]) -> None:
    """That is how engines hold their weights: the file is closed once it is mapped."""
    with (sets[0] / TENSORS).open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        assert [row["path"] for row in run(*NOW, "--json").json["sets"]] == [str(sets[1])]
    finally:
        mapped.close()
