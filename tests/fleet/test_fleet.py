"""The logs of a site as a set: what is missing, who excuses whom, what is remembered."""

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sovereign import fleet, sinks
from sovereign.audit import journal, remembered, tiles, trail
from sovereign.audit.note import VerifierKey
from sovereign.errors import BadInput, LogMissing, TileDamaged
from sovereign.retention import Item, due
from sovereign.settings import Home
from tests.retention.site import Site

EVENT, ERASER = "local/gateway/event", "local/controller/evidence"
GATEWAY = [f"local/gateway/{stream}" for stream in ("event", "evidence", "security")]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    it = Site(tmp_path)
    yield it
    it.close()


def codes(site: Site) -> dict[str, set[str]]:
    return {
        result.origin: {finding.code for finding in result.findings}
        for result in fleet.verify(site.home)
        if result.findings
    }


def erased(site: Site) -> None:
    """A year passes; a bundle of the gateway's events goes."""
    site.decide(300)
    site.pass_days(2)
    site.seal()
    site.pass_days(398)
    site.seal()
    assert any(e.item.sink == EVENT for e in site.run())


# --- what is read -------------------------------------------------------------------------------


def test_a_bundle_that_is_none_is_damage_with_a_name_to_whoever_reads_records(site: Site) -> None:
    """A command that reads a log somebody damaged says which bundle it is, and no trace."""
    site.decide(300)
    site.seal()
    member = site.member(EVENT)
    bundle = member.folder / tiles.bundle_path(0)
    bundle.write_bytes(bundle.read_bytes()[:-1])
    with pytest.raises(TileDamaged, match="bundle 0 of local/gateway/event"):
        list(fleet.records(member, 0, 300))


# --- what is missing ----------------------------------------------------------------------------


def test_a_log_taken_away_with_its_pinned_key_is_missed(site: Site) -> None:
    """Whoever can remove a folder can remove two; what was remembered beside the key is left."""
    site.settle()
    assert codes(site) == {}
    site.close()
    shutil.rmtree(site.home.audit / "gateway")
    for pin in site.home.trust.glob("gateway-*.vkey"):
        pin.unlink()
    found = codes(site)
    assert set().union(*found.values()) == {"log-gone"}
    assert len(found) == 3


@pytest.mark.parametrize("left", ["vkey", "checkpoint"])
def test_a_log_that_was_here_is_not_begun_anew(site: Site, left: str) -> None:
    """A fresh log under the same key would hide that the old one is gone."""
    site.settle()
    fleet.verify(site.home)
    site.close()
    shutil.rmtree(site.home.audit / "gateway")
    for path in site.home.trust.glob("gateway-*"):
        if path.suffix != f".{left}":
            path.unlink()
    home = site.home
    with pytest.raises(LogMissing):
        trail.create(home.audit, home.keys, home.trust, "gateway", "local")
    assert not (home.audit / "gateway").exists()


def test_a_pinned_key_that_is_none_is_said_by_its_file(site: Site) -> None:
    """Not a trace: the report, the controller and the auditor all read it."""
    pin = trail.pin_path(site.home.trust, "gateway", "event")
    pin.write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match=pin.name):
        fleet.members(site.home)


# --- who excuses whom ---------------------------------------------------------------------------


def test_a_writer_cannot_excuse_what_it_took_out_of_its_own_log(site: Site) -> None:
    """A gateway that was broken into holds its own keys, and could write itself a receipt."""
    site.decide(300)
    site.gateway.record("erasure", log=EVENT, first=0, last=255, rule="event").result(10)
    site.settle()
    (site.home.audit / "gateway/event/tile/entries/000").unlink()
    assert codes(site) == {EVENT: {"bundle-missing"}}


def test_receipts_are_published_before_anything_is_deleted(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who verifies at that moment must find either what is there or why it is not."""
    seen: set[str] = set()
    real = sinks.erase

    def erase(item: Item, home: Home) -> None:
        seen.update(code for found in codes(site).values() for code in found)
        real(item, home)
        seen.update(code for found in codes(site).values() for code in found)

    monkeypatch.setattr(fleet, "ERASURE_WITHIN_S", 0.0)
    monkeypatch.setattr(sinks, "erase", erase)
    erased(site)
    assert seen == {"erasure-incomplete"}, "still there although a receipt says otherwise, no gap"


def test_an_erasure_under_way_is_given_time_before_it_is_called_incomplete(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retention and verification run beside each other every day."""
    found: list[dict[str, set[str]]] = []
    real = sinks.erase

    def erase(item: Item, home: Home) -> None:
        with monkeypatch.context() as patch:  # while verification waits, retention goes on
            patch.setattr(fleet.time, "sleep", lambda _: _erase_all(site, real))
            found.append(codes(site))

    monkeypatch.setattr(fleet, "ERASURE_WITHIN_S", 60.0)
    monkeypatch.setattr(sinks, "erase", erase)
    erased(site)
    assert found
    assert all(each == {} for each in found)


def _erase_all(site: Site, erase: Callable[[Item, Home], None]) -> None:
    for item in _due(site):
        if sinks.is_whole_bundle(item):
            erase(item, site.home)


def _due(site: Site) -> list[Item]:
    return [e.item for e in due(site.policy, sinks.items(site.home), site.clock.now)]


# --- handed over --------------------------------------------------------------------------------


def handed(site: Site, *origins: str) -> tuple[list[Path], list[VerifierKey]]:
    chosen = [site.member(origin) for origin in origins]
    return [m.folder for m in chosen], [m.vkey for m in chosen if m.vkey is not None]


def test_a_log_with_erased_entries_verifies_elsewhere_beside_the_receipts(site: Site) -> None:
    """A year on, every auditor would otherwise be told of an offence that is none."""
    erased(site)
    site.settle()
    folders, keys = handed(site, EVENT, ERASER)
    for order in (1, -1):
        results = fleet.verify_folders(folders[::order], keys, [])
        assert all(r.determined and not r.findings for r in results)
    alone, key = handed(site, EVENT)
    (result,) = fleet.verify_folders(alone, key, [])
    assert (result.findings, result.determined) == ((), False)
    assert result.open_gaps


def test_a_folder_whose_name_no_key_was_given_for_is_not_determined(site: Site) -> None:
    """Nothing is verified with a key that came out of the log itself."""
    site.settle()
    folders, _ = handed(site, EVENT, ERASER)
    _, keys = handed(site, ERASER, "local/operator/event")
    event, eraser = fleet.verify_folders(folders, keys, [])
    assert (event.origin, event.determined) == (EVENT, False)
    assert (eraser.determined, eraser.findings) == (True, ())


def test_a_kept_checkpoint_of_a_log_that_was_not_given_is_a_mistake(site: Site) -> None:
    """Quietly leaving it out would skip the check that was asked for."""
    site.settle()
    folders, keys = handed(site, EVENT, ERASER)
    stray = (site.home.audit / "operator/event/checkpoint").read_bytes()
    with pytest.raises(BadInput, match="local/operator/event"):
        fleet.verify_folders(folders, keys, [stray])


# --- what is remembered -------------------------------------------------------------------------


def test_a_slow_verification_does_not_take_a_newer_checkpoint_back(site: Site) -> None:
    """Between the two a log could be cut, and nobody would know."""
    site.settle()
    member = site.member(EVENT)
    fleet.verify(site.home)
    old = member.kept.read_bytes()
    site.decide(40)
    site.settle()
    fleet.verify(site.home)
    new = member.kept.read_bytes()
    assert new != old
    assert member.vkey is not None
    stale = fleet.inspect(lambda path: _earlier(member.folder, path, old), member.vkey)
    fleet._keep(member, fleet.judge_all([stale])[EVENT])
    assert member.kept.read_bytes() == new


def _earlier(folder: Path, path: str, checkpoint: bytes) -> bytes | None:
    return checkpoint if path == "checkpoint" else fleet.reader(folder)(path)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_an_auditor_without_write_access_still_gets_a_verdict(
    site: Site, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Remembering is for the machine; verifying is for everybody."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    site.settle()
    monkeypatch.setattr(remembered.fcntl, "flock", refuse)
    assert codes(site) == {}
    assert not site.member(EVENT).kept.exists()


# --- a writer that died -------------------------------------------------------------------------


def test_nothing_is_erased_that_its_dead_writers_journal_still_holds(
    site: Site, tmp_path: Path
) -> None:
    """It would erase nothing, and the writer could never take its log up again."""
    site.decide(600)
    folder, copy = site.home.audit / "gateway/event", tmp_path / "as-the-crash-left-it"
    _wait(lambda: (fleet.size_of(site.member(EVENT)) or 0) > 600)
    shutil.copytree(folder, copy)
    site.gateway.close()
    shutil.rmtree(folder)
    shutil.copytree(copy, folder)
    base = journal.parse((folder / journal.PATH).read_bytes()).base
    site.pass_days(400)
    assert EVENT in {item.sink for item in _due(site)}
    went = [e.item for e in site.run() if e.item.sink == EVENT]
    assert all(sinks.entries_of(item)[1] < base for item in went)
    assert EVENT in {item.sink for item in _due(site)}, "what its journal holds is still due"
    site.gateway = site.open("gateway")
    site.settle()
    assert codes(site) == {}
    assert EVENT in {e.item.sink for e in site.run()}, "and goes once its writer is back"


def _wait(done: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not done():
        assert time.monotonic() < until
        time.sleep(0.01)
