"""When each duty runs out: to the instant, at the ends of months, and over a change of clocks."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from sovereign.audit.record import written
from sovereign.errors import BadInput, PolicyUnreadable
from sovereign.incidents import verbs
from sovereign.incidents.case import Entry, applied
from sovereign.incidents.duties import add_months, duties, left_by_duty, warning
from sovereign.policy.shapes import Clock, LawFile
from tests.incidents.making import (
    AI,
    BREACH,
    DAY,
    HOUR,
    NOW,
    POLICY,
    SIGNIFICANT,
    done,
    entry,
    incident,
    saying,
    standing,
    with_law,
)

TICK = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("kinds", "duty", "within"),
    [
        (BREACH, "gdpr-33-1", timedelta(hours=72)),
        (SIGNIFICANT, "nis2-23-4-a", timedelta(hours=24)),
        (SIGNIFICANT, "nis2-23-4-b", timedelta(hours=72)),
        (AI, "aia-73-2", timedelta(days=15)),
        (AI, "aia-73-3", timedelta(days=2)),
        (AI, "aia-73-4", timedelta(days=10)),
    ],
)
def test_a_duty_is_due_until_the_instant_its_time_is_over_and_late_after_it(
    kinds: str, duty: str, within: timedelta
) -> None:
    """GDPR Art. 33(1), NIS2 Art. 23(4), AI Act Art. 73: the figures a lawyer looks for first."""
    it = incident(NOW, kinds)
    at_the_end = standing(it, duty, NOW + within)
    assert (at_the_end.standing, at_the_end.due_at, at_the_end.by_law) == (
        "due",
        NOW + within,
        True,
    )
    assert standing(it, duty, NOW + within + TICK).standing == "late"
    assert standing(done(it, duty, NOW + within), duty, NOW + 90 * DAY).standing == "done"
    late = done(it, duty, NOW + within + TICK)
    assert standing(late, duty, NOW + 90 * DAY).standing == "done-late"


@pytest.mark.parametrize(
    ("kinds", "wanted"),
    [
        (BREACH, {"gdpr-33-1", "gdpr-33-2", "gdpr-34-1"}),
        (SIGNIFICANT, {"nis2-23-1", "nis2-23-4-a", "nis2-23-4-b", "nis2-23-4-d", "nis2-23-4-e"}),
        (AI, {"aia-26-5", "aia-73-2", "aia-73-3", "aia-73-4"}),
    ],
)
def test_a_kind_brings_exactly_its_duties(kinds: str, wanted: set[str]) -> None:
    """One that is missing would be missed; one too many would be done for nothing."""
    found = duties(incident(NOW, kinds), POLICY.law, POLICY.audit.incidents, NOW)
    assert {each.id for each in found} == wanted


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2027-01-31T10:00", "2027-02-28T10:00"),
        ("2028-01-31T10:00", "2028-02-29T10:00"),  # a leap year
        ("2028-02-29T10:00", "2028-03-29T10:00"),
        ("2026-08-31T23:59", "2026-09-30T23:59"),
        ("2026-12-15T10:00", "2027-01-15T10:00"),
        ("2026-02-28T10:00", "2026-03-28T10:00"),
        ("2100-01-30T10:00", "2100-02-28T10:00"),  # no leap year
    ],
)
def test_the_final_report_is_due_a_month_of_the_calendar_after_the_notification(
    start: str, end: str
) -> None:
    """NIS2 Art. 23(4)(d): from the submission of the notification, not from awareness."""
    notified, due = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (start, end))
    it = incident(notified - 2 * DAY, SIGNIFICANT)
    waiting = standing(it, "nis2-23-4-d", notified)
    assert (waiting.standing, waiting.due_at) == ("waiting", None)
    found = standing(done(it, "nis2-23-4-b", notified), "nis2-23-4-d", notified)
    assert (found.standing, found.due_at) == ("due", due)


@pytest.mark.parametrize(
    ("noticed", "due"),
    [
        ("2026-10-24T12:00:00+02:00", "2026-10-27T11:00:00+01:00"),  # summer time ends
        ("2027-03-27T12:00:00+01:00", "2027-03-30T13:00:00+02:00"),  # and begins
    ],
)
def test_72_hours_are_72_hours_when_the_clocks_change(noticed: str, due: str) -> None:
    """Two instants apart, whatever a clock on a wall showed in between."""
    it = incident(datetime.fromisoformat(noticed))
    assert standing(it, "gdpr-33-1").due_at == datetime.fromisoformat(due)


def test_a_month_keeps_its_time_of_day_and_never_ends_after_the_next_month() -> None:
    """A year of days, each a month on."""
    for day in range(366):
        start = datetime(2028, 1, 1, 7, 30, tzinfo=UTC) + day * DAY
        end = add_months(start, 1)
        assert (end.hour, end.minute) == (7, 30)
        assert (end.year * 12 + end.month) - (start.year * 12 + start.month) == 1
        assert end.day <= start.day


def test_where_the_law_says_without_undue_delay_our_own_target_counts_and_is_shown_as_ours() -> (
    None
):
    """A figure of ours must not look like one of the law."""
    found = standing(incident(), "gdpr-33-2")
    assert (found.due_at, found.by_law) == (NOW + 24 * HOUR, False)
    bare = duties(incident(), POLICY.law, type(POLICY.audit.incidents)(), NOW + 900 * DAY)
    (without,) = (each for each in bare if each.id == "gdpr-33-2")
    assert (without.standing, without.due_at) == ("due", None)


@pytest.mark.parametrize(
    ("roles", "duty", "reason"),
    [
        ("", "gdpr-33-1", ""),
        ("", "gdpr-33-2", ""),
        ("gdpr-controller", "gdpr-33-1", ""),
        ("gdpr-controller", "gdpr-33-2", "other-role"),
        ("gdpr-processor", "gdpr-33-1", "other-role"),
        ("gdpr-controller,gdpr-processor", "gdpr-33-2", ""),
        ("nis2-entity", "gdpr-33-1", ""),  # says nothing of the other law
    ],
)
def test_a_duty_of_another_role_does_not_arise_and_an_unsaid_role_has_them_all(
    roles: str, duty: str, reason: str
) -> None:
    """Not knowing is never a pass."""
    more: dict[str, Any] = {"roles": roles} if roles else {}
    found = standing(incident(**more), duty)
    assert (found.standing, found.reason) == ("not-applicable" if reason else "due", reason)


@pytest.mark.parametrize(
    ("harms", "running"),
    [
        ("", {"aia-73-2", "aia-73-3", "aia-73-4"}),
        ("health", {"aia-73-2"}),
        ("death", {"aia-73-2", "aia-73-4"}),
        ("critical-infrastructure", {"aia-73-2", "aia-73-3"}),
        ("widespread,death", {"aia-73-2", "aia-73-3", "aia-73-4"}),
    ],
)
def test_the_harm_says_which_clock_of_the_ai_act_runs(harms: str, running: set[str]) -> None:
    """Art. 73(2) to (4); until somebody says what harm there is, the shortest one runs."""
    more: dict[str, Any] = {"harms": harms} if harms else {}
    found = duties(incident(NOW, AI, **more), POLICY.law, POLICY.audit.incidents, NOW)
    assert {each.id for each in found if each.standing == "due"} == running


@pytest.mark.parametrize(("noticed", "applies"), [("2026-08-01", False), ("2026-08-02", True)])
def test_a_duty_does_not_arise_before_the_day_its_law_applies(noticed: str, applies: bool) -> None:
    """The AI Act's dates moved once already: they are data, and they are looked at."""
    it = incident(datetime.fromisoformat(noticed).replace(tzinfo=UTC), AI)
    found = standing(it, "aia-73-2")
    assert (found.standing == "not-applicable") is not applies
    assert found.reason == ("" if applies else "applies-from-2026-08-02")
    assert standing(it, "aia-26-5").reason == "applies-from-2027-12-02"


def test_a_clock_of_the_law_that_changes_in_the_facts_changes_every_deadline() -> None:
    """96 hours are proposed; when they are law, one line of a file says so."""
    clock = POLICY.law["gdpr-33-1"].clock
    assert clock is not None
    policy = with_law("gdpr-33-1", clock=msgspec.structs.replace(clock, hours=96))
    assert standing(incident(), "gdpr-33-1", policy=policy).due_at == NOW + 96 * HOUR


def said(duty: str, state: str, **more: Any) -> Entry:
    return entry("incident-duty", duty=duty, state=state, **more)


def test_a_duty_that_does_not_arise_takes_what_runs_from_it_along() -> None:
    """No notification, no final report."""
    it = incident(NOW, SIGNIFICANT)
    it = applied(it, said("nis2-23-4-b", "not-applicable", reason="not-significant"))
    found = standing(it, "nis2-23-4-d")
    assert (found.standing, found.reason) == ("not-applicable", "not-significant")
    after = applied(it, said("nis2-23-4-b", "applies"))
    assert standing(after, "nis2-23-4-b").standing == "due"
    assert standing(after, "nis2-23-4-d").standing == "waiting"


def test_what_was_done_stays_done_whatever_is_said_of_the_duty_later() -> None:
    """The first time counts; only `applies` says that it was wrong."""
    it = done(done(incident(), "gdpr-33-1", NOW + HOUR), "gdpr-33-1", NOW + 90 * HOUR)
    it = applied(it, said("gdpr-33-1", "not-applicable", reason="risk-unlikely"))
    found = standing(it, "gdpr-33-1", NOW + 100 * HOUR)
    assert found.standing == "done"
    assert found.done is not None
    assert found.done.done_at == NOW + HOUR
    again = applied(it, said("gdpr-33-1", "applies"))
    assert standing(again, "gdpr-33-1", NOW + 100 * HOUR).standing == "late"


def test_an_earlier_awareness_makes_a_report_late_that_was_in_time() -> None:
    """That is why it is asked for, and why both are kept."""
    it = done(incident(NOW), "gdpr-33-1", NOW + 70 * HOUR)
    assert standing(it, "gdpr-33-1", NOW + 80 * HOUR).standing == "done"
    moved: dict[str, Any] = {
        "noticed_at": "2026-11-25T07:00:00.000000Z",
        "reason": "r",
        "approver": "a",
    }
    earlier = applied(it, entry("incident-noticed", **moved))
    assert standing(earlier, "gdpr-33-1", NOW + 80 * HOUR).standing == "done-late"


@pytest.mark.parametrize(
    ("left", "hours"),
    [
        (24 * HOUR + TICK, None),
        (24 * HOUR, 24),
        (6 * HOUR + TICK, 24),
        (6 * HOUR, 6),
        (HOUR, 1),
        (timedelta(0), 1),
        (-TICK, 0),
    ],
)
def test_a_warning_comes_24_6_and_1_hours_before(left: timedelta, hours: int | None) -> None:
    """Before each clock runs out, and once it has."""
    now = NOW + 72 * HOUR - left
    found = standing(incident(NOW), "gdpr-33-1", now)
    assert warning(found, POLICY.audit.incidents.warn_hours, now) == hours


def test_nothing_is_left_of_a_duty_that_is_done_and_of_an_incident_that_is_closed() -> None:
    """An alarm about what is over would be switched off, with all others."""
    it = done(incident(NOW), "gdpr-33-1", NOW)
    left = left_by_duty([it], POLICY.law, POLICY.audit.incidents, NOW)
    assert left == {"gdpr-33-2": 24 * 3600, "gdpr-34-1": 72 * 3600}
    gone = applied(it, entry("incident-state", verb="close", reason="no-incident"))
    assert left_by_duty([gone], POLICY.law, POLICY.audit.incidents, NOW) == {}


def test_of_two_incidents_the_one_that_runs_out_first_is_shown() -> None:
    """One series a duty, however many incidents."""
    older, newer = incident(NOW - 50 * HOUR), incident(NOW)
    left = left_by_duty([newer, older], POLICY.law, POLICY.audit.incidents, NOW)
    assert left["gdpr-33-1"] == 22 * 3600


def law_file(*pairs: tuple[str, str]) -> bytes:
    """Laws whose clocks run from each other."""
    return msgspec.json.encode(
        {
            "version": 1,
            "laws": [
                {
                    "id": name,
                    "law": "L",
                    "article": "1",
                    "says": "A duty.",
                    "source": "s",
                    "checked_on": "2026-11-25",
                    "clock": {
                        "kinds": [BREACH],
                        "role": "gdpr-controller",
                        "to": "somebody",
                        "hours": 1,
                        "runs_from": runs_from,
                    },
                }
                for name, runs_from in pairs
            ],
        }
    )


@pytest.mark.parametrize("pairs", [[("a", "b")], [("a", "a")], [("a", "b"), ("b", "a")]])
def test_a_clock_that_could_never_begin_is_refused_when_the_policy_is_loaded(
    pairs: list[tuple[str, str]],
) -> None:
    """It would wait for ever, and nobody would be warned."""
    with pytest.raises((msgspec.ValidationError, PolicyUnreadable), match="runs from"):
        msgspec.json.decode(law_file(*pairs), type=LawFile)
    good = msgspec.json.decode(law_file(("a", "b"), ("b", "awareness")), type=LawFile)
    assert len(good.laws) == 2


def test_a_duty_with_two_times_is_refused() -> None:
    """Which would count?"""
    with pytest.raises(ValueError, match="at most one"):
        Clock(kinds=(BREACH,), role="gdpr-controller", to="somebody", hours=1, days=1)  # type: ignore[arg-type]


def test_every_target_and_every_code_of_a_quarantine_in_the_policy_is_one_that_there_is() -> None:
    """A target for a duty that does not exist would look like care."""
    rules = POLICY.audit.incidents
    clocks = {name: each.clock for name, each in POLICY.law.items() if each.clock is not None}
    assert {each.duty for each in rules.targets} == {
        name for name, clock in clocks.items() if not (clock.hours or clock.days or clock.months)
    }


def test_the_final_report_of_an_incident_that_went_on_is_due_a_month_after_it_was_handled() -> None:
    """NIS2 Art. 23(4)(e): a progress report in its place, and then a month from the end."""
    it = done(incident(NOW, SIGNIFICANT), "nis2-23-4-b", NOW)
    assert standing(it, "nis2-23-4-e").standing == "not-applicable"
    final = done(it, "nis2-23-4-d", NOW + 20 * DAY)
    assert standing(final, "nis2-23-4-e").reason == "no-progress-report"
    said = {"duty": "nis2-23-4-d", "state": "done", "done_at": written(NOW + 20 * DAY)}
    on = applied(it, entry("incident-duty", NOW, **said, how="progress-report"))
    waits = standing(on, "nis2-23-4-e", NOW + 90 * DAY)
    assert (waits.standing, waits.due_at) == ("waiting", None)
    over = saying(on, verbs.handled(POLICY, on, NOW + 60 * DAY, NOW + 61 * DAY))
    found = standing(over, "nis2-23-4-e", NOW + 61 * DAY)
    assert (found.standing, found.since) == ("due", NOW + 60 * DAY)
    assert found.due_at == add_months(NOW + 60 * DAY, 1)
    assert standing(over, "nis2-23-4-e", NOW + 92 * DAY).standing == "late"
    assert standing(done(over, "nis2-23-4-e", NOW + 70 * DAY), "nis2-23-4-e").standing == "done"
    for at in (NOW - HOUR, NOW + 62 * DAY):
        with pytest.raises(BadInput):
            verbs.handled(POLICY, on, at, NOW + 61 * DAY)
