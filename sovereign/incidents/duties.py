"""Which duties an incident has, when each runs out, and how it stands with it. Pure.

The duties, their times and the grounds on which they do not arise are facts/law.yaml; hours for
what the law wants done without undue delay are our own targets, of rules/audit.yaml, and are shown
as such. Nothing here is a decision about the law: it counts.

How it counts: from the instant of awareness, to the instant. 72 hours are 72 hours, whatever a
clock on a wall does; days are 24 hours each; a month ends at the same time of the same day of the
month, or on its last day where there is none (31 January, 28 February), in UTC. Regulation (EEC,
Euratom) 1182/71, Art. 3, ends the same periods later: it leaves out the hour or day of the event,
runs to the end of the last day, and passes over a weekend. So what is late here may still be in
time, and what is in time here is. KNOWN: west of Greenwich a month counted in UTC can end up to
three days after the same month on the wall, when awareness falls into the first hours of a month
in UTC; there, report by the 28th day.
"""

import calendar
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from sovereign.incidents.case import Incident, Said
from sovereign.policy.shapes import AWARENESS, HANDLING, MOMENTS, Clock, Incidents, Law

Standing = Literal["due", "late", "done", "done-late", "not-applicable", "waiting"]
OPEN: tuple[Standing, ...] = ("due", "late", "waiting")
"""While a duty is one of these, something is still to be done."""


@dataclass(frozen=True, slots=True)
class Duty:
    """A duty of an incident, and how it stands with it.

    Args:
        since: what its time runs from; None while it waits for another duty.
        due_at: when it runs out; None while it waits, or where there is no time and no target.
        by_law: True when the law names the time, False for a target of ours.
        reason: why it does not arise or waits; "" otherwise.
        done: what was recorded of its being done, the first time; None while it is not.
        excused: what was recorded of its not arising; None where nobody said so.
    """

    id: str
    law: Law
    clock: Clock
    standing: Standing
    since: datetime | None = None
    due_at: datetime | None = None
    by_law: bool = True
    reason: str = ""
    done: Said | None = None
    excused: Said | None = None

    @property
    def is_open(self) -> bool:
        """Something is still to be done."""
        return self.standing in OPEN

    def left(self, now: datetime) -> timedelta | None:
        """Time until it runs out, negative once it has; None when it is over or has no time."""
        return self.due_at - now if self.due_at is not None and self.is_open else None


def duties(
    incident: Incident, law: Mapping[str, Law], rules: Incidents, now: datetime
) -> tuple[Duty, ...]:
    """Every duty that the incident's kinds bring with them, in the order in which they run out.

    Those that do not arise are among them, with the reason; what is not known lets a duty run.
    """
    targets = {each.duty: each.hours for each in rules.targets}
    found: dict[str, Duty] = {}
    for each in _in_order(law):
        if each.clock is not None and set(each.clock.kinds) & set(incident.kinds):
            found[each.id] = _duty(incident, each, each.clock, targets.get(each.id), found, now)
    return tuple(sorted(found.values(), key=_when))


def _when(duty: Duty) -> tuple[bool, float, str]:
    due_at = duty.due_at
    return not duty.is_open, due_at.timestamp() if due_at else float("inf"), duty.id


def _in_order(law: Mapping[str, Law]) -> Iterable[Law]:
    """By id, each after the one that it runs from; the loader has refused circles."""
    placed: list[str] = []

    def place(name: str) -> None:
        each = law.get(name)
        if each is None or each.clock is None or name in placed:
            return
        if each.clock.runs_from not in MOMENTS:
            place(each.clock.runs_from)
        placed.append(name)

    for name in sorted(law):
        place(name)
    return [law[name] for name in placed]


def _duty(
    incident: Incident,
    law: Law,
    clock: Clock,
    target: int | None,
    before: Mapping[str, Duty],
    now: datetime,
) -> Duty:
    mine = _standing_words(incident, law.id)
    done = next((each for each in mine if each.state == "done"), None)
    excused = mine[-1] if mine and mine[-1].state == "not-applicable" else None
    bare = Duty(law.id, law, clock, "not-applicable", done=done, excused=excused)
    why_not = _why_not(incident, law, clock)
    if done is None and (excused is not None or why_not):
        return replace(bare, reason=excused.reason if excused else why_not)
    since, waits = _begun(incident, clock, before)
    if since is None:
        return _not_begun(bare, clock, before, waits)
    by_law = bool(clock.hours or clock.days or clock.months)
    ends = end_of(clock, since) if by_law else _after_hours(since, target)
    known = replace(bare, since=since, due_at=ends, by_law=by_law)
    return replace(known, standing=_standing(done, ends, now))


def _standing_words(incident: Incident, duty: str) -> list[Said]:
    """What was said of a duty since somebody last said that it arises after all."""
    mine = [each for each in incident.said if each.duty == duty]
    last = max((n for n, each in enumerate(mine) if each.state == "applies"), default=-1)
    return mine[last + 1 :]


def _standing(done: Said | None, ends: datetime | None, now: datetime) -> Standing:
    when = now if done is None else done.done_at or done.at
    late = ends is not None and when > ends
    if done is None:
        return "late" if late else "due"
    return "done-late" if late else "done"


def _why_not(incident: Incident, law: Law, clock: Clock) -> str:
    """Why a duty does not arise by what is known: another role, no such harm, not law yet."""
    if law.applies_from is not None and incident.noticed_at.date() < law.applies_from:
        return f"applies-from-{law.applies_from.isoformat()}"
    roles = set(incident.roles) & _roles_beside(clock.role)
    if roles and clock.role not in incident.roles:
        return "other-role"
    if clock.after_progress and not _went_on(incident, clock.after_progress):
        return "no-progress-report"
    if clock.harms and incident.harms and not set(clock.harms) & set(incident.harms):
        return "no-such-harm"
    return ""


def _went_on(incident: Incident, duty: str) -> bool:
    """Whether a duty was done by a progress report, because the incident was not over yet."""
    done = (each for each in _standing_words(incident, duty) if each.state == "done")
    first = next(done, None)
    return first is not None and first.how == "progress-report"


def _roles_beside(role: str) -> set[str]:
    """The roles of the same law: saying one of them says that we were not in the others."""
    laws = (
        {"gdpr-controller", "gdpr-processor"},
        {"nis2-entity"},
        {"ai-provider", "ai-deployer"},
    )
    return next(each for each in laws if role in each)


def _begun(
    incident: Incident, clock: Clock, before: Mapping[str, Duty]
) -> tuple[datetime | None, str]:
    """From when a duty's time runs; None, and what it waits for, while that has not happened."""
    if clock.runs_from == AWARENESS:
        return incident.noticed_at, ""
    if clock.runs_from == HANDLING:
        return incident.handled_at, HANDLING
    first = before.get(clock.runs_from)
    if first is None or first.done is None:
        return None, clock.runs_from
    return first.done.done_at or first.done.at, ""


def _not_begun(bare: Duty, clock: Clock, before: Mapping[str, Duty], waits: str) -> Duty:
    """Done before its time began, or with the duty it waits for, which may not arise at all."""
    if bare.done is not None:
        return replace(bare, standing="done")
    first = before.get(clock.runs_from)
    if first is not None and first.standing == "not-applicable":
        return replace(bare, reason=first.reason)
    return replace(bare, standing="waiting", reason=f"runs-from-{waits}")


def end_of(clock: Clock, start: datetime) -> datetime:
    """The instant at which a time of the law is over."""
    if clock.months:
        return add_months(start, clock.months)
    return start + timedelta(hours=clock.hours, days=clock.days)


def _after_hours(start: datetime, hours: int | None) -> datetime | None:
    return None if hours is None else start + timedelta(hours=hours)


def add_months(start: datetime, months: int) -> datetime:
    """The same time and day so many months on; the last day of a month that has no such day."""
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    day = min(start.day, calendar.monthrange(year, month + 1)[1])
    return start.replace(year=year, month=month + 1, day=day)


def warning(duty: Duty, warn_hours: Iterable[int], now: datetime) -> int | None:
    """The shortest warning time that a duty is inside of, in hours; 0 once it is late.

    None while nothing needs to be said of it: it is over, has no time, or has enough left.
    """
    left = duty.left(now)
    if left is None:
        return None
    if left < timedelta(0):
        return 0
    inside = [hours for hours in warn_hours if left <= timedelta(hours=hours)]
    return min(inside, default=None)


def left_by_duty(
    incidents: Iterable[Incident], law: Mapping[str, Law], rules: Incidents, now: datetime
) -> dict[str, float]:
    """Seconds until each duty runs out, of the open incident in which it does first."""
    found: dict[str, float] = {}
    for incident in incidents:
        for duty in duties(incident, law, rules, now) if incident.is_open else ():
            left = duty.left(now)
            if left is not None:
                found[duty.id] = min(left.total_seconds(), found.get(duty.id, float("inf")))
    return found
