"""What a run's receipts say, what verification makes of them, and what a run has to read."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sovereign import fleet, sinks
from sovereign.audit import erasures, record, tiles
from sovereign.audit.merkle import Tree, leaf_hash
from sovereign.controller import retain
from sovereign.controller.retain import Retaining
from sovereign.errors import TileDamaged
from tests.retention.site import DAY, Site, keeping, noting

EVENT = "local/gateway/event"
RECEIPTS = "local/controller/evidence"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    it = Site(tmp_path)
    yield it
    it.close()


def a_year(site: Site, days: int = 362) -> None:
    """300 decisions in sealed bundles, and so many days more."""
    site.decide(300)
    site.pass_days(2)
    site.seal()
    site.pass_days(days)
    site.seal()


def entries_of(site: Site) -> list[bytes]:
    read = fleet.reader(site.member(EVENT).folder)
    found: list[bytes] = []
    for number in sinks.present(site.member(EVENT)):
        found += tiles.unpack(read(tiles.bundle_path(number)) or b"")
    return found


def judged(site: Site, *, later: timedelta = timedelta(0), policy: Any = None) -> set[str]:
    """Codes of all findings, judged by the site's policy at its own time."""
    site.settle()
    rules = sinks.rules_of(policy or site.policy, site.clock.now + later)
    return {f.code for result in fleet.verify(site.home, rules) for f in result.findings}


def receipts(site: Site) -> list[dict[str, Any]]:
    site.settle()
    found = [r for _, r in site.records(RECEIPTS) if r["type"] == "erasure"]
    return [r for r in found if r["log"] == EVENT]


def test_a_receipt_says_what_was_erased_of_which_tree_and_by_which_limits(site: Site) -> None:
    """Whoever has the receipt and the tiles can tell later whether it was on time."""
    a_year(site)
    before = entries_of(site)
    times = [record.parse(entry)["at"] for entry in before]
    site.run()
    first, second, *_ = receipts(site)
    kept = site.policy.retention["event"]
    assert {k: first[k] for k in ("form", "class", "count", "first", "last", "rule")} == {
        "form": 2,
        "class": "event",
        "count": 256,
        "first": 0,
        "last": 255,
        "rule": "event",
    }
    assert (first["from"], first["to"]) == (times[0], times[255])
    assert (second["from"], second["to"]) == (times[256], times[511])
    assert (first["min_days"], first["max_days"], first["interval_hours"]) == (
        kept.min_days,
        kept.max_days,
        kept.interval_hours,
    )
    assert first["policy"] == site.policy.digest


def test_the_tree_in_a_receipt_is_the_same_before_and_after(site: Site) -> None:
    """Erasing entries moves no hash: one root says both."""
    a_year(site)
    before = entries_of(site)
    site.run()
    said = receipts(site)[0]
    tree = Tree()
    for entry in before:
        tree.append(leaf_hash(entry))
    assert said["size"] >= tree.size
    if said["size"] == tree.size:
        assert said["root"] == tree.root().hex()
    assert judged(site) == set()
    site.decide(700)
    assert judged(site) == set(), "and the log has grown since"


@pytest.mark.parametrize(("days", "found"), [(362, set()), (364, {"erasure-late"})])
def test_a_run_that_came_too_late_is_told_by_its_own_receipts(
    site: Site, days: int, found: set[str]
) -> None:
    """A controller that stood still for a week kept data for a week too long."""
    a_year(site, days)
    site.pass_days(1)
    site.run()
    assert judged(site) == found


def test_what_no_run_took_away_is_overdue_and_late_once_it_is_gone(site: Site) -> None:
    """Nothing is missing and nothing is signed wrongly: the data should not be there."""
    a_year(site, 360)
    assert judged(site) == set()
    assert judged(site, later=4 * DAY - timedelta(minutes=1)) == set()
    site.pass_days(4)
    site.clock.now += timedelta(seconds=1)
    assert judged(site) == {"erasure-overdue"}
    site.run()
    assert judged(site) == {"erasure-late"}
    assert {f.code for r in fleet.verify(site.home) for f in r.findings} == set(), "no policy given"


def test_a_deletion_under_the_minimum_is_found_though_its_receipt_is_in_order(
    tmp_path: Path,
) -> None:
    """Whoever runs the controller with a milder policy leaves that policy in the receipts."""
    site = Site(tmp_path, keeping(event=60))
    try:
        a_year(site, 58)
        site.run()
        assert judged(site) == set(), "it was the policy then"
        strict = sinks.rules_of(keeping(event=365), site.clock.now)
        stated = sinks.rules_of(site.policy, site.clock.now)
        forged = type(strict)(stated.policy, strict.classes, strict.now)
        found = {f.code for r in fleet.verify(site.home, forged) for f in r.findings}
        assert found == {"receipt-differs"}, "the policy of that digest sets other limits"
    finally:
        site.close()


def test_a_clock_set_ahead_erases_early_and_set_right_again_cannot_hide_it(site: Site) -> None:
    """The receipts carry the false time: by a right clock they are from the future."""
    a_year(site)
    site.run()
    assert judged(site) == set()
    assert judged(site, later=-erasures.CLOCK_SLACK) == set(), "clocks differ by a little"
    assert judged(site, later=-363 * DAY) == {"receipt-differs"}


# --- what a run reads -------------------------------------------------------------------------


class Counting:
    """Counts the bundles whose times are read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths: list[str] = []
        real = sinks.logs._ages_at

        def ages_at(member: fleet.Member, path: str) -> Any:
            self.paths.append(path)
            return real(member, path)

        monkeypatch.setattr(sinks.logs, "_ages_at", ages_at)

    def whole(self) -> int:
        """How many whole bundles were read since the last time."""
        count = sum(sinks.logs.PARTIAL not in path for path in self.paths)
        self.paths.clear()
        return count


def test_a_run_reads_each_whole_bundle_once_in_its_life(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log of 40,000 bundles cost five seconds a run, in a loop that attests engines."""
    site.decide(3 * 256)
    site.settle()
    reads = Counting(monkeypatch)
    retaining = Retaining(site.home, site.policy, site.controller)
    retaining.run(site.clock.now)
    assert reads.whole() >= 3
    retaining.run(site.clock.now)
    assert reads.whole() == 0
    site.decide(256)
    time_of_publication(site)
    retaining.run(site.clock.now)
    assert reads.whole() == 1


def time_of_publication(site: Site) -> None:
    """Wait until what was acknowledged is published: at most a second."""
    site.gateway.close()
    site.gateway = site.open("gateway")


def test_a_run_that_knows_erases_what_one_that_reads_everything_does(site: Site) -> None:
    """What is remembered must never decide."""
    a_year(site, 300)
    retaining = Retaining(site.home, site.policy, site.controller)
    assert retaining.run(site.clock.now) == ()
    site.pass_days(62)
    known = [e.item for e in retaining.run(site.clock.now)]
    assert {item.sink for item in known} >= {EVENT}
    assert list(sinks.items(site.home, sinks.Ages())) == list(sinks.items(site.home))
    assert site.run() == ()


def test_bundles_out_of_the_order_of_their_times_are_due_each_on_its_own(site: Site) -> None:
    """A clock that was ahead for a day must not keep everything behind it for years."""
    site.clock.now += 1000 * DAY
    site.decide(256)
    site.clock.now -= 1000 * DAY
    site.decide(256)
    site.pass_days(2)
    site.seal()
    site.pass_days(362)
    erased = {e.item.id for e in site.run() if e.item.sink == EVENT}
    assert "tile/entries/001" in erased or "tile/entries/002" in erased


def test_a_controller_that_starts_reads_a_part_in_each_round_and_runs_when_it_knows(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine must not lose its attestation while a large log is read."""
    site.decide(5 * 256)
    site.settle()
    monkeypatch.setattr(retain, "LEARNED_A_ROUND", 2)
    reads = Counting(monkeypatch)
    retaining = Retaining(site.home, site.policy, site.controller)
    runs: list[object] = []
    monkeypatch.setattr(retaining, "batches", noting(runs))
    rounds = []
    while not runs:
        retaining.run_when_due(site.clock.now)
        rounds.append(reads.whole())
        assert len(rounds) < 10
    assert all(count <= 2 for count in rounds)
    assert sum(rounds) == 5
    assert len(runs) == 1


def test_a_bundle_that_cannot_be_read_is_not_remembered_as_known(site: Site) -> None:
    """Once it is restored, its age must be looked at."""
    site.decide(256)
    site.settle()
    ages, path = sinks.Ages(), site.member(EVENT).folder / "tile/entries/000"
    good = path.read_bytes()
    path.write_bytes(b"\0\5abc")
    with pytest.raises(TileDamaged):
        ages.learn(site.home, 100)
    path.write_bytes(good)
    assert ages.learn(site.home, 100)
    path.unlink()
    assert [i for i in sinks.items(site.home, ages) if i.id == "tile/entries/000"] == []


def test_only_whole_bundles_below_the_checkpoint_are_present(site: Site) -> None:
    """A crash leaves newer files beside an older checkpoint; nobody has signed those."""
    site.decide(2 * 256)
    site.settle()
    member = site.member(EVENT)
    for stray in ("tile/entries/009", "tile/entries/x001/000", "tile/entries/junk"):
        (member.folder / stray).parent.mkdir(exist_ok=True)
        (member.folder / stray).write_bytes(b"")
    assert sinks.present(member) == [0, 1]


@pytest.mark.parametrize("number", [0, 7, 999, 1000, 1001, 65_536, 999_999, 1_234_067])
def test_the_names_of_bundles_are_read_as_they_are_written(tmp_path: Path, number: int) -> None:
    """One digit read wrongly would erase another bundle."""
    path = tmp_path / tiles.bundle_path(number)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    assert list(sinks.logs._numbers(tmp_path / "tile/entries", 0)) == [number]
