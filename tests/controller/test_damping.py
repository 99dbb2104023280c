"""What comes and goes is opened more and more carefully, and in the end it is opened."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from sovereign.audit.record import written
from sovereign.controller import damping
from sovereign.controller.damping import LOOKS_MAX, REMEMBERED_MAX, TOLERATED, WINDOW, Looks
from sovereign.controller.past import Past, shut_times
from sovereign.controller.plan import Plan, plan
from tests.controller.seen import NOW, POLICY, SILENT, attested, showing, sight

SECOND = timedelta(seconds=1)
NAME = "local-llamacpp"


def times(count: int, last: datetime = NOW) -> tuple[datetime, ...]:
    return tuple(last - SECOND * n for n in reversed(range(count)))


@pytest.mark.parametrize(
    ("shut", "looks"),
    [(0, 1), (1, 1), (3, 1), (4, 2), (5, 4), (6, 8), (7, 16), (8, 24), (9, 24), (10_000, 24)],
)
def test_each_time_it_is_shut_beyond_the_third_takes_twice_the_good_looks_up_to_a_ceiling(
    shut: int, looks: int
) -> None:
    """One restart is nobody's fault; the tenth in half an hour is."""
    assert damping.needed(times(shut), NOW) == looks


def test_what_is_longer_ago_than_the_window_is_forgiven() -> None:
    """At its edge, to the second."""
    assert damping.needed([NOW - WINDOW + SECOND] * (TOLERATED + 1), NOW) == 2
    assert damping.needed([NOW - WINDOW] * (TOLERATED + 1), NOW) == 1


def test_no_more_times_are_remembered_than_count_for_the_ceiling() -> None:
    """An endpoint that flaps for a year takes no more memory than one that does so for a day."""
    found: tuple[datetime, ...] = ()
    for at in times(1000):
        found = damping.shut(found, at)
    assert len(found) == REMEMBERED_MAX
    assert damping.needed(found, NOW) == LOOKS_MAX


def planned(good: int, needed: int, quarantine: str = "engine-unhealthy") -> Plan:
    before = showing(attested(NOW, quarantine=quarantine, reason="r"))
    return plan(POLICY, (sight(),), before, NOW, looks={NAME: Looks(good, needed)})


@pytest.mark.parametrize(
    ("good", "needed", "opens"), [(0, 1, True), (0, 2, False), (1, 2, True), (6, 8, False)]
)
def test_what_was_shut_opens_at_the_look_that_is_the_last_of_those_needed(
    good: int, needed: int, opens: bool
) -> None:
    """Neither a look early nor a look late."""
    made = planned(good, needed)
    assert [step.verb for step in made.steps] == (["attest", "release"] if opens else [])
    assert made.waiting == (() if opens else (NAME,))
    assert made.well == {NAME}


def test_shutting_is_never_damped_and_a_first_attestation_neither() -> None:
    """Carefulness is for opening only."""
    looks = {NAME: Looks(0, LOOKS_MAX)}
    made = plan(POLICY, (sight(SILENT),), showing(attested(NOW)), NOW, looks=looks)
    assert [step.verb for step in made.steps] == ["quarantine"]
    assert planned(0, LOOKS_MAX, "not-attested").steps
    fresh = plan(POLICY, (sight(),), showing(), NOW, looks=looks)
    assert [step.verb for step in fresh.steps] == ["attest"]


def test_one_bad_look_begins_the_count_anew() -> None:
    """Four in a row are not four in all."""
    good = damping.looked({"a": 3, "b": 3}, {"a"}, ("a", "b", "c"))
    assert good == {"a": 4, "b": 0, "c": 0}


def said(kind: str, at: datetime, endpoint: str = NAME) -> dict[str, Any]:
    return {"type": kind, "at": written(at), "endpoint": endpoint}


def test_the_log_tells_how_often_something_went_from_open_to_shut() -> None:
    """Another reason for one that is shut already is no second time; other records are none."""
    first, second = NOW - SECOND * 9, NOW - SECOND * 2
    found = shut_times(
        [
            said("attestation", NOW - SECOND * 10),
            said("quarantine", first),
            said("quarantine", NOW - SECOND * 8),
            said("observation", NOW - SECOND * 7, "standby"),
            said("attestation", NOW - SECOND * 3),
            said("release", NOW - SECOND * 3),
            said("quarantine", second),
            {"type": "retention-run", "at": written(NOW)},
        ]
    )
    assert found == {NAME: (first, second)}


def test_a_controller_that_began_anew_asks_for_no_less_than_the_one_before() -> None:
    """Being killed must not be the way to be opened sooner."""
    living, records = Past(), []
    shown, at = showing(attested(NOW)), NOW
    for _ in range(TOLERATED + 2):
        made = plan(POLICY, (sight(SILENT),), shown, at)
        living.learn(made, [NAME], shown, at)
        records += [said("quarantine", at), said("attestation", at), said("release", at)]
        at += SECOND
    anew = Past(shut_times(records))
    assert anew.looks(at) == living.looks(at) == {NAME: Looks(0, 4)}
