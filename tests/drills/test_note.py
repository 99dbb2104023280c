"""A drill is undone: at its end, by the next one, by hand, and however it was killed."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from sovereign import fleet
from sovereign.drills import client, note
from sovereign.drills.note import noted
from sovereign.errors import DrillRunning, EngineUnhealthy, NotDeployed
from sovereign.keystore import Keystore
from sovereign.registry import utcnow
from sovereign.settings import Home, Settings

POLICY = "0" * 64
WITHIN_S = 30


def states(home: Home) -> list[str]:
    return [key.state(utcnow()) for key in Keystore(home.keystore).known().keys.values()]


def kinds(home: Home, stream: str) -> list[tuple[str, str]]:
    """Types of the operator's records, with what a drill's says."""
    (member,) = [m for m in fleet.members(home) if (m.writer, m.stream) == ("operator", stream)]
    entries = fleet.records(member, 0, fleet.size_of(member) or 0)
    return [(entry["type"], entry.get("verdict", "")) for _, entry in entries]


def begin_and_die(root: Path, after: str) -> None:
    """A drill that is killed as hard as a process can be."""
    home = Home(root, Settings())
    with noted(home, "canary", POLICY) as mine:
        if after == "the note":
            os.kill(os.getpid(), signal.SIGKILL)
        if after == "a key was noted":
            mine.key("key_never_made")
            os.kill(os.getpid(), signal.SIGKILL)
        client.make_keys(home, mine, "drill-canary", ("none", "header"))
        (mine.folder("control") / "planted").write_text("x")
        os.kill(os.getpid(), signal.SIGKILL)


def killed(home: Home, after: str) -> None:
    drill = multiprocessing.get_context("spawn").Process(
        target=begin_and_die, args=(home.root, after)
    )
    drill.start()
    drill.join(WITHIN_S)
    assert drill.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("after", ["the note", "a key was noted", "everything"])
def test_what_a_killed_drill_left_is_undone_and_on_record(home: Home, after: str) -> None:
    """Half a drill must not leave a key in the world, or a canary on the disk."""
    killed(home, after)
    assert note.standing(home).state == "left"
    assert states(home) == (["active", "active"] if after == "everything" else [])
    left = note.undo_left(home)
    assert left is not None
    assert left.drill == "canary"
    assert set(states(home)) <= {"revoked"}
    assert [path.name for path in note.folder(home).iterdir()] == ["lock"]
    assert ("drill", "unknown") in kinds(home, "evidence")
    revoked = [kind for kind, _ in kinds(home, "security") if kind == "key-revoked"]
    assert len(revoked) == (2 if after == "everything" else 0)
    assert note.undo_left(home) is None, "undoing twice does no harm"
    assert note.standing(home).state == "none"


def test_the_next_drill_undoes_what_a_killed_one_left_before_it_begins(home: Home) -> None:
    """Nobody has to remember to tidy up."""
    killed(home, "everything")
    with noted(home, "tamper", POLICY):
        assert set(states(home)) == {"revoked"}
        assert not (note.folder(home) / "control").exists()
        assert note.standing(home).drill == "tamper"
    assert note.standing(home).state == "none"


def test_a_drill_that_fails_undoes_what_it_did(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that is not there is no reason to leave keys behind."""

    def fails() -> None:
        with noted(home, "canary", POLICY) as mine:
            client.make_keys(home, mine, "drill-canary", ("none",))
            client.wait_until_known(home, {"none": "nobody listens"})

    monkeypatch.setattr(client, "KNOWN_WITHIN_S", 0.1)
    with pytest.raises(EngineUnhealthy):
        fails()
    assert states(home) == ["revoked"]


def test_a_drill_has_keys_on_a_site_that_never_had_one(home: Home) -> None:
    """A site whose callers all come with tokens has no key file until somebody needs one."""
    home.keystore.unlink()
    with noted(home, "disconnect", POLICY) as mine:
        assert client.make_keys(home, mine, "drill-disconnect", ("none",))["none"]
        assert states(home) == ["active"]
    assert states(home) == ["revoked"]


def test_two_drills_do_not_run_at_the_same_time(home: Home) -> None:
    """Each would find the other's words."""
    with noted(home, "canary", POLICY):
        assert note.standing(home).state == "running"
        with pytest.raises(DrillRunning) as refused, noted(home, "kill", POLICY):
            pass
        with pytest.raises(DrillRunning):
            note.undo_left(home)
        assert note.standing(home).drill == "canary", "the one that runs is not disturbed"
    assert "canary" in refused.value.message


def test_a_drill_needs_a_site(tmp_path: Path) -> None:
    """And makes none."""
    with (
        pytest.raises(NotDeployed),
        noted(Home(tmp_path / "nothing", Settings()), "canary", POLICY),
    ):
        pass
    assert not (tmp_path / "nothing").exists()


def test_a_note_names_no_folder_but_the_drills_own(home: Home, tmp_path: Path) -> None:
    """Whoever can write the note must not get anything else removed by it."""
    mine = tmp_path / "precious"
    mine.mkdir()
    killed(home, "the note")
    path = note.folder(home) / "note.json"
    path.write_bytes(path.read_bytes().replace(b'"folders":[]', f'"folders":["{mine}"]'.encode()))
    note.undo_left(home)
    assert mine.is_dir()
