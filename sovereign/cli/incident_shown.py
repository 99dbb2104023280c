"""How incidents, their duties and their clocks are shown. Decides nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sovereign.audit.record import written
from sovereign.cli.output import facts, give, say, table
from sovereign.incidents.case import Entry, Incident
from sovereign.incidents.duties import Duty, warning
from sovereign.incidents.verbs import Saying

Duties = tuple[Duty, ...]
_COMMON = ("v", "type", "at", "salt", "incident", "policy")


@dataclass(frozen=True, slots=True)
class Row:
    """An incident with its duties as they stand."""

    incident: Incident
    duties: Duties

    @property
    def is_late(self) -> bool:
        """Something of an open one was not done in time, and still is not."""
        return self.incident.is_open and any(each.standing == "late" for each in self.duties)

    @property
    def first(self) -> Duty | None:
        """The open duty that runs out first."""
        return next((each for each in self.duties if each.is_open and each.due_at), None)


def exit_code(rows: Iterable[Row], gaps: Sequence[str]) -> int:
    """1 when anything is late, 3 when there is a doubt about what is shown, else 0."""
    return 1 if any(row.is_late for row in rows) else 3 if gaps else 0


def sayings(name: str, said: Sequence[Saying], records: Sequence[str], *, as_json: bool) -> None:
    """What was recorded, or would be."""
    if as_json:
        steps = [{"type": each.type, **each.fields} for each in said]
        give({"incident": name, "dry_run": not records, "said": steps, "records": list(records)})
        return
    for number, each in enumerate(said):
        record = records[number] if records else "nothing was recorded"
        say(f"{name}: {_sentence(each.type, each.fields)} ({record})")


def _sentence(kind: str, fields: Mapping[str, Any]) -> str:
    said = [f"{key} {value}" for key, value in fields.items() if key not in _COMMON]
    return f"{kind.removeprefix('incident-')}: {', '.join(said)}"


def listed(rows: Sequence[Row], gaps: Sequence[str], now: datetime, *, as_json: bool) -> None:
    """One line an incident."""
    if as_json:
        give({"incidents": [_as_facts(row, now) for row in rows], "gaps": list(gaps)})
        return
    table(
        ("incident", "state", "aware since", "cause", "kinds", "next duty"),
        [
            (it.id, it.state, _short(it.noticed_at), it.cause, ", ".join(it.kinds), _next(row, now))
            for row in rows
            for it in [row.incident]
        ],
    )
    _tell_gaps(gaps)


def _next(row: Row, now: datetime) -> str:
    first = row.first
    if first is None or first.due_at is None or not row.incident.is_open:
        return row.incident.outcome or "none"
    return f"{first.id} {_left(first.due_at - now)}"


def clocks(
    rows: Sequence[Row],
    gaps: Sequence[str],
    warn_hours: Sequence[int],
    now: datetime,
    *,
    as_json: bool,
) -> None:
    """One line a duty."""
    if as_json:
        said = [_as_facts(row, now, warn_hours) for row in rows]
        give({"incidents": said, "gaps": list(gaps)})
        return
    for row in rows:
        it = row.incident
        say(f"{it.id} ({it.state}), aware since {written(it.noticed_at)}")
        table(
            ("duty", "article", "stands", "until", "left", "note"),
            [_duty_row(each, now) for each in row.duties],
        )
    _tell_gaps(gaps)
    say("Self-assessment, not legal advice. Times are counted from the instant, in UTC.")


def _duty_row(duty: Duty, now: datetime) -> tuple[object, ...]:
    left = duty.left(now)
    until = "" if duty.due_at is None else _short(duty.due_at)
    article = f"{duty.law.law} {duty.law.article}".replace(
        "Directive (EU) 2022/2555 (NIS2)", "NIS2"
    )
    return duty.id, article, duty.standing, until, _left(left) if left else "", _note(duty)


def _note(duty: Duty) -> str:
    if duty.reason:
        return duty.reason
    if duty.done is not None:
        return f"{duty.done.how} {_short(duty.done.done_at or duty.done.at)} ({duty.done.record})"
    if not duty.by_law:
        return "without undue delay; the time is our own target"
    return duty.clock.to


def whole(
    it: Incident, duties: Duties, gaps: Sequence[str], now: datetime, *, as_json: bool
) -> None:
    """An incident with its history."""
    row = Row(it, duties)
    if as_json:
        give(
            {
                **_as_facts(row, now),
                "history": [_as_line(e) for e in it.history],
                "gaps": list(gaps),
            }
        )
        return
    facts(
        {
            "incident": it.id,
            "state": f"{it.state} {it.outcome}".strip(),
            "kinds": ", ".join(it.kinds),
            "roles": ", ".join(it.roles) or "not said: every duty runs",
            "harms": ", ".join(it.harms) or "not said",
            "cause": it.cause,
            "about": it.about or "not said",
            "aware since": written(it.noticed_at),
            "opened by": it.by,
        }
    )
    for each in it.history:
        say(f"  {_short(each.at)}  {_sentence(each.fields['type'], each.fields)}  ({each.name})")
    for name in it.strange:
        say(f"  {name} says what could not be, and changed nothing")
    _tell_gaps(gaps)


def _as_line(entry: Entry) -> dict[str, Any]:
    said = {key: value for key, value in entry.fields.items() if key not in ("v", "salt")}
    return {"record": entry.name, **said}


def _as_facts(row: Row, now: datetime, warn_hours: Sequence[int] = ()) -> dict[str, Any]:
    it = row.incident
    return {
        "incident": it.id,
        "state": it.state,
        "outcome": it.outcome or None,
        "kinds": it.kinds,
        "roles": it.roles,
        "harms": it.harms,
        "cause": it.cause,
        "about": it.about or None,
        "trigger": it.trigger or None,
        "by": it.by,
        "opened_at": written(it.opened_at),
        "noticed_at": written(it.noticed_at),
        "noticed": [
            {
                "noticed_at": written(each.noticed_at),
                "said_at": written(each.said_at),
                "reason": each.reason or None,
                "approver": each.approver or None,
                "record": each.record,
            }
            for each in it.notices
        ],
        "facts": [
            {"what": f.what, "word": f.word, "count": f.count, "record": f.record} for f in it.facts
        ],
        "late": row.is_late,
        "duties": [_duty_facts(each, now, warn_hours) for each in row.duties],
        "strange": it.strange,
    }


def _duty_facts(duty: Duty, now: datetime, warn_hours: Sequence[int]) -> dict[str, Any]:
    left = duty.left(now)
    return {
        "duty": duty.id,
        "law": duty.law.law,
        "article": duty.law.article,
        "to": duty.clock.to,
        "role": duty.clock.role,
        "standing": duty.standing,
        "since": None if duty.since is None else written(duty.since),
        "due_at": None if duty.due_at is None else written(duty.due_at),
        "by_law": duty.by_law,
        "left_s": None if left is None else int(left.total_seconds()),
        "warning_h": warning(duty, warn_hours, now),
        "reason": duty.reason or None,
        "done_at": duty.done and written(duty.done.done_at or duty.done.at),
        "how": duty.done and duty.done.how,
        "document": duty.done and (duty.done.document or None),
        "reference": duty.done and (duty.done.reference or None),
        "record": (duty.done and duty.done.record) or (duty.excused and duty.excused.record),
        "pending": duty.law.pending or None,
    }


def _tell_gaps(gaps: Sequence[str]) -> None:
    if gaps:
        say(f"this may not be all, or not so: {', '.join(gaps[-5:])}")
        say("  next     sovereign audit verify")


def _short(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"


def _left(left: timedelta) -> str:
    """`in 2 d 3 h`, or `late by 5 min`."""
    minutes = int(abs(left.total_seconds()) // 60)
    days, hours = divmod(minutes // 60, 24)
    said = f"{days} d {hours} h" if days else f"{hours} h {minutes % 60} min"
    return f"late by {said}" if left < timedelta(0) else f"in {said}"
