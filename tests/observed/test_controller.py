"""What the controller shows: when facts get old, what is shut, and nothing it could not read."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from sovereign.controller import exposed
from sovereign.controller.exposed import Exposed, Gauge, of_places, relied_on, stale_from
from sovereign.controller.retain import Retaining
from sovereign.registry import Registry, utcnow
from sovereign.residency import Question, decide
from sovereign.settings import (
    Home,
    Round,
    Settings,
    StandbySettings,
    TracingSettings,
    standby_file,
)
from tests.fleet.test_outside import World, asking, listed
from tests.gateway.site import EEA, Site, site
from tests.simulated.engine import engine

PLACE = "scaleway:fr-par-2"


def home_at(root: Path, **chosen: object) -> Home:
    """A home with some settings; nothing lies in it."""
    return Home(root, Settings(**chosen))  # type: ignore[arg-type]


def values(found: exposed.Found, gauge: Gauge) -> dict[tuple[str, ...], float]:
    """The values of one metric, by its labels."""
    return {labels: value for each, labels, value in found if each is gauge}


def shown(ours: Site, home: Home | None = None) -> dict[str, dict[tuple[str, ...], float]]:
    """Everything on the page, by name and label values."""
    where = home or ours.home
    it = Exposed(where, EEA, Retaining(where, EEA, ours.trail), utcnow)
    return {
        family.name: {tuple(s.labels.values()): s.value for s in family.samples}
        for family in it.collect()
    }


def test_the_day_a_place_gets_stale_is_the_day_the_rules_refuse_it() -> None:
    """An alarm for another day than that of the refusal would be no use."""
    until = stale_from(EEA, PLACE)
    assert until is not None
    for at, allowed in ((until - timedelta(seconds=1), True), (until, False)):
        assert decide(EEA, Question(PLACE, "personal", "process", at)).allowed is allowed


@pytest.mark.parametrize(
    ("days_left", "counted"),
    [(91, ()), (90, (90,)), (30, (30, 90)), (7, (7, 30, 90)), (0, (0, 7, 30, 90)), (-5, (0, 90))],
)
def test_places_are_counted_90_30_and_7_days_ahead(
    tmp_path: Path, days_left: int, counted: tuple[int, ...]
) -> None:
    """Nobody may learn of it from a fleet that stands still."""
    now = datetime(2026, 11, 25, tzinfo=UTC)
    checked = date(2026, 11, 25) + timedelta(days=days_left - 366)
    policy = replace(
        EEA,
        places={PLACE: replace(EEA.places[PLACE], checked_on=checked)},
        dependencies={},
    )
    found = values(of_places(home_at(tmp_path, place=PLACE), policy, now), exposed.PLACES_STALE)
    assert {int(days) for (days,), count in found.items() if count} >= set(counted)
    assert found[("90",)] == (1 if days_left <= 90 else 0)


def test_places_relied_on_are_the_sites_its_targets_and_what_it_may_talk_to(
    tmp_path: Path,
) -> None:
    """A place the policy lists only to refuse it needs no fresh facts."""
    home = home_at(
        tmp_path,
        place=PLACE,
        tracing=TracingSettings(endpoint="https://traces.example/v1/traces", place="ovh:GRA"),
    )
    found = relied_on(home, EEA)
    assert {PLACE, "ovh:GRA", "ptb:braunschweig"} <= found
    assert not {"pulumi:cloud", "docker:hub", "this-host"} & found
    assert "ovh:GRA" not in relied_on(home_at(tmp_path, place=PLACE), replace(EEA, dependencies={}))


async def test_shut_endpoints_are_counted_by_why(tmp_path: Path) -> None:
    """The reason is a code, which leads to a runbook."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        assert shown(ours)["sovereign_controller_endpoints"] == {(): 1}
        assert "sovereign_controller_endpoints_quarantined" not in shown(ours)
        ours.endpoint(it.address, quarantine="telemetry-on", reason="r")
        page = shown(ours)
    assert page["sovereign_controller_endpoints_quarantined"] == {("telemetry-on",): 1}


async def test_what_cannot_be_read_is_not_shown_and_the_rest_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A zero nobody measured would end an alarm."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        path = ours.home.registry
        path.rename(path.with_suffix(".away"))
        path.mkdir()
        page = shown(ours)
        path.rmdir()
    assert "sovereign_controller_endpoints" not in page
    assert "sovereign_places_stale" in page
    assert '"event":"metrics-unreadable"' in capsys.readouterr().err


async def test_how_far_the_standby_is_behind_is_what_its_sender_said(tmp_path: Path) -> None:
    """Without a standby there is nothing to show; without a word, nothing either."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        assert "sovereign_standby_behind_seconds" not in shown(ours)
        chosen = StandbySettings(url="https://standby.example:8420", recovery_point_s=15)
        home = Home(ours.home.root, Settings(standby=chosen))
        assert "sovereign_standby_behind_seconds" not in shown(ours, home)
        standby_file(home).parent.mkdir(parents=True, exist_ok=True)
        standby_file(home).write_bytes(msgspec.json.encode(Round(utcnow(), "", 42)))
        page = shown(ours, home)
    assert page["sovereign_standby_behind_seconds"] == {(): 42}
    assert page["sovereign_standby_recovery_point_seconds"] == {(): 15}


async def test_a_retention_run_is_shown_once_there_was_a_whole_one(tmp_path: Path) -> None:
    """A run that fails must not look like one."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        retaining = Retaining(ours.home, EEA, ours.trail)
        it_shows = Exposed(ours.home, EEA, retaining, utcnow)
        assert not any("retention" in family.name for family in it_shows.collect())
        retaining.ran_at, retaining.overdue = utcnow(), 2
        page = {family.name: family.samples[0].value for family in it_shows.collect()}
    assert page["sovereign_retention_overdue_items"] == 2
    assert Registry(ours.home.registry).snapshot().endpoints


def test_a_log_that_witnesses_have_not_seen_lately_is_shown_until_they_have(
    tmp_path: Path,
) -> None:
    """A real witness signs it; then it goes down, and the age of its word tells."""
    policy = asking(listed("w1", "Other"), quorum=1)
    world = World(tmp_path, policy)
    world.known_to("w1")

    def seen() -> tuple[dict[tuple[str, ...], float], dict[tuple[str, ...], float]]:
        found = list(exposed.of_outside(world.site.home, policy, world.now))
        return values(iter(found), exposed.UNSEEN), values(iter(found), exposed.SEEN_AT)

    unseen, at = seen()
    assert unseen
    assert set(unseen.values()) == {1}
    assert at == {}
    world.cosigning.run(world.now)
    unseen, at = seen()
    assert set(unseen.values()) == {0}
    assert at.keys() == unseen.keys()
    assert set(at.values()) == {world.now.timestamp()}
    world.site.clock.now += timedelta(hours=2)
    unseen, _ = seen()
    assert set(unseen.values()) == {1}


def test_where_nobody_is_asked_there_is_nothing_to_show(tmp_path: Path) -> None:
    """A zero would say that all is well; nobody knows."""
    world = World(tmp_path, EEA)
    assert list(exposed.of_outside(world.site.home, EEA, world.now)) == []
