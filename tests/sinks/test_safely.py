"""Erasing below one folder: what was listed goes, and nothing else, whatever is changed since."""

import os
from pathlib import Path

import pytest

from sovereign.sinks import safely
from sovereign.sinks.model import NotErased


@pytest.fixture
def root(tmp_path: Path) -> Path:
    it = tmp_path / "sink"
    it.mkdir()
    return it


def listed(root: Path, name: str) -> safely.Entry:
    (found,) = [each for each in safely.listed(root) if each.path == name]
    return found


def test_what_was_listed_is_erased_and_its_neighbours_are_not(root: Path) -> None:
    """The everyday case, a file and a folder with something in it."""
    (root / "old").write_text("x")
    (root / "young").write_text("x")
    (root / "folder/below").mkdir(parents=True)
    (root / "folder/below/file").write_text("x")
    for name in ("old", "folder"):
        safely.erase(root, name, listed(root, name).mark)
    assert [path.name for path in root.iterdir()] == ["young"]


def test_a_link_goes_as_a_link(root: Path, tmp_path: Path) -> None:
    """Whoever may write into a sink must not choose what retention deletes elsewhere."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    (root / "link").symlink_to(outside)
    (root / "folder").mkdir()
    (root / "folder/link").symlink_to(outside)
    for name in ("link", "folder"):
        safely.erase(root, name, listed(root, name).mark)
    assert (outside / "kept").exists()
    assert list(root.iterdir()) == []


def test_a_folder_on_the_way_that_became_a_link_is_not_followed(root: Path, tmp_path: Path) -> None:
    """The same, between the listing and the deletion."""
    (root / "folder").mkdir()
    (root / "folder/file").write_text("x")
    (entry,) = safely.walked(root)
    outside = tmp_path / "outside"
    (root / "folder").rename(outside)
    (root / "folder").symlink_to(outside)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        safely.erase(root, entry.path, entry.mark)
    assert (outside / "file").exists()


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "a/../../b", "..", "", "a\0b"])
def test_a_path_that_leads_out_is_refused(root: Path, path: str) -> None:
    """No item of a sink is called so."""
    (root.parent / "outside").write_text("x")
    with pytest.raises((NotErased, ValueError)):
        safely.erase(root, path, (0, 0, 0, 0))
    assert (root.parent / "outside").exists()


def test_what_was_written_to_since_it_was_listed_stays(root: Path) -> None:
    """It is younger now than its receipt would say."""
    path = root / "file"
    path.write_text("x")
    mark = listed(root, "file").mark
    os.utime(path, (1, 1))
    with pytest.raises(NotErased, match="changed"):
        safely.erase(root, "file", mark)
    assert path.exists()


def test_another_file_of_the_same_name_stays(root: Path) -> None:
    """A log that was rotated in between is another log."""
    path = root / "file"
    path.write_text("x")
    mark, when = listed(root, "file").mark, path.stat().st_mtime_ns
    fresh = root / "fresh"
    fresh.write_text("x")
    os.utime(fresh, ns=(when, when))
    fresh.replace(path)
    with pytest.raises(NotErased):
        safely.erase(root, "file", mark)
    assert path.exists()


def test_what_is_gone_already_is_fine(root: Path) -> None:
    """A run that was killed is done again."""
    (root / "file").write_text("x")
    mark = listed(root, "file").mark
    for _ in range(2):
        safely.erase(root, "file", mark)


def test_a_folder_that_was_half_erased_is_ended_by_the_next_run(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of an export under its own name would look like an export."""
    (root / "folder").mkdir()
    for name in ("one", "two"):
        (root / "folder" / name).write_text("x")
    mark = listed(root, "folder").mark
    real, calls = os.unlink, 0

    def killed(*args: object, **named: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError("the machine stopped here")
        real(*args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", killed)
        with pytest.raises(OSError, match="stopped here"):
            safely.erase(root, "folder", mark)
    assert not (root / "folder").exists()
    (root / ".erasing.7").mkdir()  # somebody else's name for a folder of their own
    safely.settle(root)
    assert [path.name for path in root.iterdir()] == [".erasing.7"]


def test_folders_deeper_than_the_bound_are_refused_and_stay(root: Path) -> None:
    """A tree without end must not hold up a run."""
    path = root
    for _ in range(safely.DEPTH_MAX + 2):
        path /= "d"
    path.mkdir(parents=True)
    with pytest.raises(OSError, match="deep"):
        list(safely.walked(root))
    with pytest.raises(NotErased, match="deep"):
        safely.erase(root, "d", listed(root, "d").mark)
