"""Versions of a policy: whole, unchanged once they have a name, and one of them in force."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sovereign.errors import BadInput, PolicyUnreadable, StateUnreadable
from sovereign.policy import kept
from sovereign.policy.kept import Versions, chosen

OLD, NEW = "a" * 64, "b" * 64


def folder(root: Path, name: str, says: str) -> Path:
    """A policy of two files in two folders, as far as this module is concerned."""
    for path in ("rules/one.yaml", "facts/two.yaml"):
        (root / name / path).parent.mkdir(parents=True)
        (root / name / path).write_text(f"{says} {path}")
    return root / name


def content(it: Path | None) -> dict[str, str]:
    assert it is not None
    return {str(p.relative_to(it)): p.read_text() for p in it.rglob("*") if p.is_file()}


def apply(versions: Versions, source: Path, digest: str) -> None:
    """Put a folder in force, with each step of the real story but the record."""
    with versions.locked():
        staged = versions.stage(source)
        versions.keep(staged, digest, source.name.encode())
        versions.put_in_force(digest, versions.in_force())


def rollback(versions: Versions) -> None:
    with versions.locked():
        versions.put_in_force(versions.before(versions.in_force()))


class Killed(BaseException):
    """The process is gone."""


@contextmanager
def killed_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Let `step` operations of this module on the disk happen, and no other."""
    seen: list[str] = []

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*given: Any, **named: Any) -> Any:
            if sys._getframe(1).f_globals["__name__"] == kept.__name__:
                if len(seen) >= step:
                    raise Killed
                seen.append(name)
            return real(*given, **named)

        return operation

    with monkeypatch.context() as patch:
        for name in ("rename", "mkdir", "symlink_to", "unlink", "chmod", "open"):
            patch.setattr(Path, name, counted(name, getattr(Path, name)))
        patch.setattr(os, "fsync", counted("fsync", os.fsync))
        patch.setattr(shutil, "rmtree", counted("rmtree", shutil.rmtree))
        yield seen


@pytest.mark.parametrize("verb", ["apply", "rollback"])
def test_killed_at_any_step_the_old_or_the_new_version_is_in_force_and_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """There is no moment at which a reader could meet a mixture, or nothing at all."""
    old, new = folder(tmp_path, "old", "old"), folder(tmp_path, "new", "new")
    both, outcomes, step, ended = [content(old), content(new)], [], 0, False
    while not ended:
        home = tmp_path / f"home-{step}"
        versions = Versions.of("", home)
        apply(versions, old, OLD)
        if verb == "rollback":
            apply(versions, new, NEW)

        def change(it: Versions = versions) -> None:
            rollback(it) if verb == "rollback" else apply(it, new, NEW)

        with killed_at(step, monkeypatch):
            try:
                change()
                ended = True
            except Killed:
                pass
        found = content(chosen("", home))
        assert found in both
        outcomes.append(both.index(found))
        if not ended and found == both[verb == "rollback"]:
            change()
            assert content(chosen("", home)) == both[verb == "apply"]
        step += 1
    assert outcomes == sorted(outcomes, reverse=verb == "rollback"), "once new, it stays new"
    assert set(outcomes) == {0, 1}
    assert len(outcomes) > (5 if verb == "rollback" else 25)


def test_a_reader_that_began_before_a_change_reads_one_version_to_its_end(tmp_path: Path) -> None:
    """A policy is many files; half of each version would be a policy that nobody wrote."""
    home = tmp_path / "home"
    versions = Versions.of("", home)
    old, new = folder(tmp_path, "old", "old"), folder(tmp_path, "new", "new")
    apply(versions, old, OLD)
    reading = chosen("", home)
    apply(versions, new, NEW)
    assert content(reading) == content(old)
    assert content(chosen("", home)) == content(new)


def test_a_site_that_never_changed_its_policy_has_the_shipped_one(tmp_path: Path) -> None:
    """Nothing is copied until somebody asks for another policy."""
    assert chosen("", tmp_path) is None
    assert Versions.of("", tmp_path).in_force() == ""
    assert chosen(str(tmp_path), tmp_path) == tmp_path


def test_a_link_that_leads_nowhere_is_not_taken_for_the_shipped_policy(tmp_path: Path) -> None:
    """A version that was deleted must stop everything, not quietly change what is allowed."""
    versions = Versions.of("", tmp_path)
    apply(versions, folder(tmp_path, "old", "old"), OLD)
    shutil.rmtree(versions.folder / OLD)
    found = chosen("", tmp_path)
    assert found is not None
    assert not found.exists()


def test_two_changes_at_a_time_are_one_too_many(tmp_path: Path) -> None:
    """The second would be judged against a policy that is not in force any more."""
    versions = Versions.of("", tmp_path)
    with versions.locked(), pytest.raises(StateUnreadable), versions.locked():
        pass
    with versions.locked():
        pass


def test_what_is_kept_cannot_be_a_way_out_of_the_folder(tmp_path: Path) -> None:
    """A link inside a policy could change what it says after it was judged."""
    source = folder(tmp_path, "old", "old")
    (source / "rules/three.yaml").symlink_to("/etc/hostname")
    versions = Versions.of("", tmp_path)
    with versions.locked(), pytest.raises(PolicyUnreadable, match=r"three\.yaml"):
        versions.stage(source)
    (source / "rules/three.yaml").unlink()
    os.mkfifo(source / "rules/pipe")
    with versions.locked(), pytest.raises(PolicyUnreadable, match="pipe"):
        versions.stage(source)


def test_what_a_killed_change_left_is_cleared_away_by_the_next(tmp_path: Path) -> None:
    """Otherwise every accident would leave a copy for ever."""
    versions = Versions.of("", tmp_path)
    with versions.locked():
        versions.stage(folder(tmp_path, "old", "old"))
    assert list(versions.folder.glob(".staged-*"))
    with versions.locked():
        assert list(versions.folder.glob(".staged-*")) == []


def test_every_version_stays_and_says_what_it_said(tmp_path: Path) -> None:
    """A record of last year names a digest; whoever reads it can read that policy."""
    versions = Versions.of("", tmp_path)
    apply(versions, folder(tmp_path, "old", "old"), OLD)
    apply(versions, folder(tmp_path, "new", "new"), NEW)
    assert versions.names() == (OLD, NEW)
    assert versions.texts() == {OLD: b"old", NEW: b"new"}
    assert (versions.before(NEW), versions.before(OLD)) == (OLD, "")


def test_a_folder_edited_in_place_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """There is nothing to swap; the operator is told which setting stands in the way."""
    with pytest.raises(BadInput) as refusal:
        Versions.of(str(folder(tmp_path, "mine", "x")), tmp_path)
    assert "take `policies` out of sovereign.yaml" in refusal.value.next_step
