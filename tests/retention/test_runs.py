"""Runs of the retention rules over real logs, with the clock moved through more than a year."""

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from sovereign import fleet, sinks
from sovereign.audit import erasures, journal, proof, record
from sovereign.controller import erasing, retain
from sovereign.evidence.checks import Site as Looked
from sovereign.evidence.checks import answer
from sovereign.evidence.verdict import State
from tests.retention.site import DECISION, Site, keeping, noting

EVENT = "local/gateway/event"
RECEIPTS = "local/controller/evidence"
SECURITY = "local/gateway/security"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    it = Site(tmp_path)
    yield it
    it.close()


def a_year_and_more(site: Site) -> tuple[int, int]:
    """300 decisions, a sealed bundle, 400 days, 10 decisions; index of an old and a new one."""
    old = site.decide(300)[0].index
    site.pass_days(2)
    site.seal()
    site.pass_days(398)
    site.seal()
    new = site.decide(10)[-1].index
    site.settle()
    return old, new


def state_of(site: Site, check: str) -> State:
    from sovereign.evidence.verdict import Verdict

    found: Verdict = answer(Looked(site.home, site.policy, site.clock.now), check)
    return found.state


def test_after_the_maximum_whole_bundles_are_gone_and_what_is_younger_stays(site: Site) -> None:
    """The promise to a data protection officer, kept by the clock and not by a person."""
    old, new = a_year_and_more(site)
    erased = site.run()
    left = {index for index, _ in site.records(EVENT)}
    assert old not in left
    assert new in left
    assert {e.item.sink for e in erased} >= {EVENT, SECURITY}
    assert {e.rule for e in erased} == {"event", "security"}


def test_the_rest_still_verifies_and_its_proofs_hold(site: Site) -> None:
    """Erasing must not cost the log its power to prove."""
    _, new = a_year_and_more(site)
    site.run()
    assert site.findings() == set()
    (event,) = [r for r in fleet.verify(site.home) if r.origin == EVENT]
    assert event.erased == 768
    member = site.member(EVENT)
    assert member.vkey is not None
    proven = proof.prove(fleet.reader(member.folder), member.vkey, new)
    shown = proof.check(proven, member.vkey)
    assert shown is not None
    assert (shown.origin, shown.index) == (EVENT, new)


def test_every_erasure_has_a_receipt_with_its_range_and_rule(site: Site) -> None:
    """Who asks what became of entry 7 is answered by a signed record."""
    old, _ = a_year_and_more(site)
    site.run()
    site.settle()
    receipts = [r for _, r in site.records(RECEIPTS) if r["type"] == "erasure"]
    covering = [r for r in receipts if r["log"] == EVENT and r["first"] <= old <= r["last"]]
    assert [(r["rule"], r["last"] - r["first"] + 1) for r in covering] == [("event", 256)]
    runs = [r for _, r in site.records(RECEIPTS) if r["type"] == "retention-run"]
    assert runs[-1]["erased"] == len(receipts)


def test_the_same_deletion_without_a_receipt_is_a_finding(site: Site) -> None:
    """Otherwise anybody with a shell could call a deletion retention."""
    a_year_and_more(site)
    (site.member(EVENT).folder / "tile/entries/000").unlink()
    assert site.findings() == {"bundle-missing"}


@pytest.mark.parametrize("days", [363, 364])
def test_the_day_it_goes_is_one_interval_before_the_maximum(site: Site, days: int) -> None:
    """With a run a day nothing outlives its year; a day earlier it must still be there."""
    site.decide(256)
    site.settle()
    site.pass_days(days)
    erased = {e.item.sink for e in site.run()}
    assert (EVENT in erased) is (days == 364)


def test_a_crash_between_receipt_and_deletion_is_found_and_the_next_run_mends_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receipt that lies is worse than none; it must not stay unnoticed, nor stay."""
    a_year_and_more(site)

    def killed(*_: object) -> None:
        raise OSError("the machine stopped here")

    with monkeypatch.context() as patch:
        patch.setattr(erasing.sinks, "erase", killed)
        with pytest.raises(OSError, match="stopped here"):
            site.run()
    assert site.findings() == {"erasure-incomplete"}
    site.run()
    assert site.findings() == set()
    assert 0 not in {index for index, _ in site.records(EVENT)}


def test_a_receipt_that_is_not_acknowledged_erases_nothing(site: Site) -> None:
    """The order is receipt, then deletion; without the first there is no second."""
    a_year_and_more(site)
    site.controller.close()
    whole = {path for path in site.files_with(b"decision") if ".p/" not in path}
    with pytest.raises(Exception, match="takes no more"):
        site.run()
    assert whole <= set(site.files_with(b"decision"))
    assert site.findings() == set()


def test_a_run_twice_erases_once(site: Site) -> None:
    """A run every day over a log of years must not write the same receipts every day."""
    a_year_and_more(site)
    assert site.run()
    assert site.run() == ()


def test_an_erased_entry_is_in_no_file_of_the_site_any_more(site: Site) -> None:
    """Not in a partial bundle, not in the journal, not in a copy beside it."""
    old = site.decide(3)[0].index
    site.settle()
    salt = dict(site.records(EVENT))[old]["salt"].encode()
    assert site.files_with(salt)
    site.pass_days(2)
    site.seal()
    assert site.files_with(salt) == ["audit/gateway/event/tile/entries/000"]
    site.pass_days(398)
    site.run()
    assert site.files_with(salt) == []
    assert site.findings() == set()


def test_a_quiet_stream_is_filled_up_so_that_little_traffic_expires_too(site: Site) -> None:
    """Three entries a year would else stay in one open bundle for ever."""
    site.decide(3)
    site.pass_days(1)
    site.seal()
    kinds = [r["type"] for _, r in site.records(EVENT)]
    assert kinds[:256].count("filler") == 256 - 1 - 1 - 3  # log-created, log-reopened, decisions
    assert set(kinds[256:]) <= {"log-reopened"}  # the next writer's first word may be there already
    assert fleet.size_of(site.member(EVENT)) >= 256


def test_a_writer_that_never_stops_empties_its_journal_too(site: Site) -> None:
    """A gateway runs for months: what it erases must not live on in its journal until then."""
    old = site.decide(3)[0].index
    site.settle()
    salt = dict(site.records(EVENT))[old]["salt"].encode()
    assert "audit/gateway/event/journal" not in site.files_with(salt)  # reopened: settled
    waiting = site.gateway.record("decision", **DECISION).result(10)
    entry = _last_salt(site)
    site.pass_days(1)
    site.gateway.seal_older(site.policy.bundle_spans())
    until = time.monotonic() + 10
    only = ["audit/gateway/event/tile/entries/000"]
    while site.files_with(entry) != only and time.monotonic() < until:
        time.sleep(0.02)
    assert site.files_with(entry) == only
    assert waiting.index > old


def _last_salt(site: Site) -> bytes:
    """The salt of the newest acknowledged entry, out of the journal."""
    raw = (site.member(EVENT).folder / journal.PATH).read_bytes()
    return str(record.parse(journal.parse(raw).groups[-1].entries[-1])["salt"]).encode()


def test_a_bundle_younger_than_its_span_is_left_open(site: Site) -> None:
    """Sealing at every look would turn each record into 256."""
    site.decide(3)
    site.pass_days(1)
    site.clock.now -= timedelta(seconds=1)
    site.seal()
    assert "filler" not in {r["type"] for _, r in site.records(EVENT)}


def test_the_operators_log_is_sealed_by_the_run_for_nobody_else_would(site: Site) -> None:
    """The command line is no process that could look at its own log once a day."""
    site.pass_days(2)
    site.run()
    operator = site.records("local/operator/security")
    assert {r["type"] for _, r in operator[:256]} == {"log-created", "log-reopened", "filler"}


def test_receipts_in_a_bundle_that_goes_are_carried_over_first(tmp_path: Path) -> None:
    """What an erased receipt excuses must stay excused, without end."""
    site = Site(tmp_path, keeping(event=50, security=50, evidence=100))
    try:
        site.decide(300)
        site.pass_days(2)
        site.seal()
        for _ in range(6):
            site.pass_days(49)
            site.run()
            site.pass_days(2)
            site.seal()
            assert site.findings() == set()
        rules = {r["rule"] for _, r in site.records(RECEIPTS) if r["type"] == "erasure"}
        assert erasures.CARRIED_OVER in rules
        left = [i for i, _ in site.records(RECEIPTS)]
        assert 0 not in left
    finally:
        site.close()


def test_process_logs_go_by_their_day(site: Site) -> None:
    """The name says the day, so that age does not depend on who touched the file."""
    site.home.logs.mkdir()
    now = site.clock.now
    for age in (0, 28, 29, 40):
        path = site.home.logs / f"gateway.{now - timedelta(days=age):%Y-%m-%d}.log"
        path.write_text("x\n")
        os.utime(path, (now.timestamp(), (now - timedelta(days=age)).timestamp()))
    erased = [e.item.id for e in site.run()]
    gone = [f"gateway.{now - timedelta(days=age):%Y-%m-%d}.log" for age in (40, 29)]
    assert erased == gone
    assert not [name for name in gone if (site.home.logs / name).exists()]
    assert len(list(site.home.logs.iterdir())) == 2
    site.settle()
    receipts = [r for _, r in site.records(RECEIPTS) if r["type"] == "erasure"]
    assert [(r["log"], r["item"]) for r in receipts] == [(sinks.PROCESS_LOG, g) for g in gone]


def test_what_is_overdue_fails_the_control_until_the_run_has_been(site: Site) -> None:
    """The check looks at what is there, not at whether a timer is configured."""
    site.decide(300)
    site.settle()
    assert state_of(site, "retention_met") is State.PASS
    site.pass_days(366)
    assert state_of(site, "retention_met") is State.FAIL


def test_after_the_run_the_control_passes_again(site: Site) -> None:
    """From failing to passing by nothing but doing what the policy says."""
    a_year_and_more(site)
    assert state_of(site, "retention_met") is State.FAIL
    site.run()
    site.settle()
    assert state_of(site, "retention_met") is State.PASS


def test_a_log_whose_key_is_not_pinned_leaves_the_control_unknown(site: Site) -> None:
    """How much is in it cannot be told, so it cannot be called young."""
    (site.home.trust / "gateway-event.vkey").unlink()
    assert state_of(site, "retention_met") is State.UNKNOWN


def test_a_bundle_that_cannot_be_read_stops_the_run_and_not_the_rounds(site: Site) -> None:
    """Its age is not known, so it is not guessed; and an engine keeps its attestation."""
    a_year_and_more(site)
    (site.member(EVENT).folder / "tile/entries/000").write_bytes(b"\0\5abc")
    retaining = retain.Retaining(site.home, site.policy, site.controller, site.clock.ticks)
    retaining.run_when_due(site.clock.now)
    assert site.records(SECURITY)[0][0] == 0
    assert state_of(site, "retention_met") is State.UNKNOWN


def test_a_run_comes_once_an_interval_and_a_failed_one_again_after_a_minute(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk at midnight must not cost a day."""
    runs: list[object] = []
    retaining = retain.Retaining(site.home, site.policy, site.controller, site.clock.ticks)

    def failing(_: object) -> None:
        runs.append("failed")
        raise OSError("full")

    with monkeypatch.context() as patch:
        patch.setattr(retaining, "batches", failing)
        for seconds in (0, 59, 1):
            site.clock.now += timedelta(seconds=seconds)
            retaining.run_when_due(site.clock.now)
    assert runs == ["failed", "failed"]
    site.clock.now += retain.AGAIN_AFTER
    monkeypatch.setattr(retaining, "batches", noting(runs))
    for hours in (0, 1, 22.9, 0.1):
        site.clock.now += timedelta(hours=hours)
        retaining.run_when_due(site.clock.now)
    assert len(runs[2:]) == 2


def test_a_clock_that_jumps_ahead_puts_the_run_off_and_one_set_back_does_not(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A year that passed in a second would erase a year of evidence, for good."""
    passed = 0.0
    retaining = retain.Retaining(site.home, site.policy, site.controller, lambda: passed)
    runs: list[object] = []
    monkeypatch.setattr(retaining, "batches", noting(runs))
    began = site.clock.now
    retaining.run_when_due(began)
    assert runs == [began]
    passed += 5
    ahead = began + timedelta(days=365)
    retaining.run_when_due(ahead)
    assert runs == [began], "put off"
    passed += 5
    back = began + timedelta(seconds=10)
    retaining.run_when_due(back)
    assert runs == [began, back], "the right time came back, and with it the next run"
    for hours in (11.9, 0.2):
        passed += hours * 3600
        back += timedelta(hours=hours)
        retaining.run_when_due(back)
    assert runs[2:] == [back]


@pytest.mark.parametrize(("ahead", "count"), [(timedelta(hours=1), 2), (timedelta(hours=1.01), 1)])
def test_a_jump_is_more_than_a_correction_and_is_believed_after_half_an_interval(
    site: Site, monkeypatch: pytest.MonkeyPatch, ahead: timedelta, count: int
) -> None:
    """A machine restored from a snapshot is really late: it must not wait for ever."""
    passed = 0.0
    retaining = retain.Retaining(site.home, site.policy, site.controller, lambda: passed)
    runs: list[object] = []
    monkeypatch.setattr(retaining, "batches", noting(runs))
    now = site.clock.now
    retaining.run_when_due(now)
    passed += 12 * 3600
    now += timedelta(hours=12) + ahead
    retaining.run_when_due(now)
    assert len(runs) == count
    passed += 12 * 3600
    retaining.run_when_due(now + timedelta(hours=12))
    assert len(runs) == count + 1


@pytest.mark.parametrize("step", range(1, 7))
def test_a_run_that_is_cut_off_at_any_deletion_is_found_and_mended(
    site: Site, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Whatever was gone by then, nothing is unexplained, and the next run ends the work."""
    a_year_and_more(site)
    monkeypatch.setattr(fleet, "ERASURE_WITHIN_S", 0.0)
    real, calls = sinks.logs.RealDisk.sync, 0

    def cut_off(disk: sinks.logs.RealDisk, path: str) -> None:
        nonlocal calls
        if "tile/entries" in str(disk.root):  # after the bundle went, before that is durable
            calls += 1
            if calls == step:
                raise OSError("the machine stopped here")
        real(disk, path)

    with monkeypatch.context() as patch:
        patch.setattr(sinks.logs.RealDisk, "sync", cut_off)
        with pytest.raises(OSError, match="stopped here"):
            site.run()
    assert site.findings() <= {"erasure-incomplete"}
    site.run()
    assert site.findings() == set()
    assert 0 not in {index for index, _ in site.records(EVENT)}
    assert 0 not in {index for index, _ in site.records(SECURITY)}
