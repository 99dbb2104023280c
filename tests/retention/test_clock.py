"""A clock that is not believed: nothing is erased on its word, and it is said."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sovereign.controller import clock
from sovereign.controller.clock import doubt
from sovereign.controller.retain import Retaining
from sovereign.supervisor.deployment import operator_trail
from tests.retention.site import DAY, Site

EVENT = "local/gateway/event"
LAST = datetime(2026, 11, 25, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    it = Site(tmp_path)
    yield it
    it.close()


@pytest.mark.parametrize(
    ("ahead", "synchronised", "stops", "said"),
    [
        (DAY, None, False, False),
        (DAY + SECOND, None, True, True),
        (DAY + SECOND, False, True, True),
        (DAY + SECOND, True, False, False),
        (31 * DAY, True, False, False),
        (31 * DAY + SECOND, True, True, True),
        (3650 * DAY, True, True, True),
        (-timedelta(hours=1), False, False, False),
        (-timedelta(hours=1, seconds=1), False, False, True),
        (-3650 * DAY, True, False, True),
    ],
)
def test_a_clock_is_doubted_by_how_far_it_is_from_the_last_run(
    ahead: timedelta, synchronised: bool | None, stops: bool, said: bool
) -> None:
    """Ahead stops deletions; behind stops none, and is said, for it would keep data for longer."""
    found = doubt(LAST + ahead, LAST, synchronised=synchronised)
    assert (found.stops, bool(found.why)) == (stops, said)


def test_a_site_that_begins_has_nothing_to_doubt_by() -> None:
    """Its first run has nothing old to erase either."""
    assert doubt(LAST, None, synchronised=None) == clock.NONE


def started(site: Site) -> Retaining:
    """A controller that has just been started: it remembers nothing but what is published."""
    site.settle()
    return Retaining(site.home, site.policy, site.controller, site.clock.ticks)


def rounds(site: Site, retaining: Retaining, count: int = 3) -> None:
    for _ in range(count):
        retaining.run_when_due(site.clock.now)
        site.clock.now += timedelta(seconds=5)


def is_there(site: Site) -> bool:
    return (site.member(EVENT).folder / "tile/entries/000").exists()


@pytest.fixture
def kept(site: Site) -> Site:
    """A whole bundle, and a controller that has run once."""
    site.decide(256)
    site.settle()
    rounds(site, started(site))
    return site


def test_a_controller_started_years_later_erases_nothing_however_often_it_is_started(
    kept: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock moved while it was off; its own new records must not vouch for that clock."""
    monkeypatch.setattr(clock, "synchronised", lambda: True)
    kept.pass_days(3 * 365)
    for _ in range(3):
        retaining = started(kept)
        rounds(kept, retaining)
        assert retaining.doubt
        assert is_there(kept)
    kept.clock.now -= 3 * 365 * DAY
    retaining = started(kept)
    rounds(kept, retaining)
    assert (retaining.doubt, is_there(kept)) == ("", True)


@pytest.mark.parametrize("right", [True, False])
def test_a_person_who_vouches_for_the_clock_is_believed_and_one_who_only_asks_is_not(
    kept: Site, right: bool
) -> None:
    """A machine that was off for a year is real, too; and the word stands in a signed log."""
    kept.pass_days(400)
    retaining = started(kept)
    rounds(kept, retaining)
    assert is_there(kept)
    ask(kept, "right" if right else "unsaid")
    rounds(kept, retaining)
    assert is_there(kept) is not right
    assert bool(retaining.doubt) is not right
    assert kept.findings() == set()


def ask(site: Site, word: str) -> None:
    """What `sovereign retention run` writes, at the site's own time."""
    trail = site.open("operator")
    try:
        trail.record("retention-asked", by="operator", clock=word).result(10)
    finally:
        trail.close()


def test_a_word_for_another_time_vouches_for_nothing(kept: Site) -> None:
    """Who said a year ago that the clock was right did not speak of today."""
    ask(kept, "right")
    kept.pass_days(400)
    retaining = started(kept)
    rounds(kept, retaining)
    assert retaining.doubt
    assert is_there(kept)


def test_a_run_that_is_asked_for_comes_in_the_next_round(kept: Site) -> None:
    """And not after half a day; each asking once."""
    retaining = started(kept)
    rounds(kept, retaining)
    before = retaining.ran_at
    rounds(kept, retaining)
    assert retaining.ran_at == before
    ask(kept, "unsaid")
    asked_at = kept.clock.now
    rounds(kept, retaining)
    assert retaining.ran_at == asked_at
    rounds(kept, retaining)
    assert retaining.ran_at == asked_at


def test_a_clock_set_back_goes_on_erasing_what_is_due_and_says_that_it_is_behind(
    kept: Site,
) -> None:
    """Otherwise setting a clock back would be a way to keep data that nobody sees."""
    kept.clock.now -= 2 * DAY
    retaining = started(kept)
    rounds(kept, retaining)
    assert "behind" in retaining.doubt
    assert retaining.overdue == 0


def test_the_last_run_is_found_across_bundles(site: Site) -> None:
    """Receipts of a large run may fill hundreds of them."""
    assert clock.last_run(site.home) is None
    rounds(site, started(site))
    site.settle()
    last = clock.last_run(site.home)
    assert last is not None
    for _ in range(600):
        site.controller.record("log-seen", log=EVENT, size=1, root="00")
    site.settle()
    assert clock.last_run(site.home) == last
    with operator_trail(site.home, ("evidence",)):
        pass
    assert clock.last_run(site.home) == last


def test_the_kernel_says_whether_its_clock_is_synchronised_or_nothing() -> None:
    """Three answers, and no exception where it may not be asked."""
    assert clock.synchronised() in (True, False, None)
