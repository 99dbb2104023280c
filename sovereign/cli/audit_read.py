"""`sovereign audit tail` and `search`: show records of this site's logs, once that is recorded.

A line is a record, or says which entries cannot be shown: `erased` (a receipt covers them),
`missing` (none does; `sovereign audit verify` says what that means) or `unreadable`.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import chain
from typing import Annotated, Any

import msgspec
import typer

from sovereign import fleet
from sovereign.audit import search as searching
from sovereign.audit.erasures import Receipt
from sovereign.audit.record import RECORD_TYPES
from sovereign.audit.search import Found, Gap, Hit, Source, Wanted
from sovereign.audit.verify import eraser_of
from sovereign.cli.audit_args import chosen, deployed, records_given, time_given
from sovereign.cli.output import UNDETERMINED, HomeOption, JsonFlag, give, policy_of, say, table
from sovereign.cli.reading import (
    Reading,
    ReasonOption,
    reason_of,
    record_readings,
    refuse_restricted,
)
from sovereign.errors import BadInput, UnknownName
from sovereign.keystore import Keystore
from sovereign.settings import Home
from sovereign.subjectkeys import is_about

TAIL_REASON = "operations"
"""Why `tail` reads when nothing else is said: somebody keeps the service running."""
VERDICTS = ("allow", "refuse")
_SHOWN_MAX = 100_000
_NUMBER_MAX = 10**18
_PSEUDONYM = re.compile(r"[0-9a-f]{64}", re.ASCII)
_COLUMNS = ("at", "record", "type", "says")

LogOption = Annotated[
    list[str] | None, typer.Option("--log", help="Only the log with this origin; may be repeated.")
]
SinceOption = Annotated[
    str, typer.Option(help="From this time on: 2026-11-24T12:00:00Z, or an age: 90s, 15m, 6h, 7d.")
]
UntilOption = Annotated[str, typer.Option(help="Before this time, or this age.")]
TenantOption = Annotated[str | None, typer.Option(help="Only records of this tenant.")]
VerdictOption = Annotated[str | None, typer.Option(help="allow or refuse.")]
RuleOption = Annotated[str | None, typer.Option(help="Only what this rule decided.")]
TypeOption = Annotated[str | None, typer.Option("--type", help="Only records of this type.")]


def add_to(app: typer.Typer) -> None:
    """Hang the commands on `sovereign audit`."""
    app.command()(tail)
    app.command()(search)


def tail(
    home: HomeOption = None,
    log: LogOption = None,
    number: Annotated[
        int, typer.Option("--number", "-n", min=1, max=_SHOWN_MAX, help="Records of each log.")
    ] = 10,
    since: SinceOption = "",
    until: UntilOption = "",
    tenant: TenantOption = None,
    verdict: VerdictOption = None,
    rule: RuleOption = None,
    kind: TypeOption = None,
    reason: ReasonOption = TAIL_REASON,
    as_json: JsonFlag = False,
) -> None:
    """The newest records, oldest first. With --json, one record a line.

    Each log is read from its end. That it was read, and for which reason, is recorded in the
    operator's security log before anything is shown; what cannot be recorded is not shown.
    """
    where = deployed(home)
    wanted = _wanted(since, until, tenant=tenant, verdict=verdict, rule=rule, type=kind)
    members = _members(where, log or [], wanted)
    logs = _spans(members, wanted)
    if not wanted.kinds:
        logs = [(source, within[-number:]) for source, within in logs]
    _recorded(where, reason, logs, wanted)
    found = [searching.newest(source, wanted, within, number) for source, within in logs]
    explained = _explained(where, searching.merged(found))
    rows = [*_unsigned(members), *map(_row, explained)]
    if as_json:
        for row in rows:
            _line(row)
    else:
        table(_COLUMNS, map(_cells, rows))
    _end(rows)


def search(
    home: HomeOption = None,
    log: LogOption = None,
    since: SinceOption = "",
    until: UntilOption = "",
    tenant: TenantOption = None,
    verdict: VerdictOption = None,
    rule: RuleOption = None,
    kind: TypeOption = None,
    subject: Annotated[
        str | None, typer.Option(help="Only records of this subject: the pseudonym, not a name.")
    ] = None,
    decision: Annotated[
        int | None,
        typer.Option(min=0, max=_NUMBER_MAX, help="Index of a decision; its completion too."),
    ] = None,
    record: Annotated[
        str, typer.Option(help="A record or some: 17, 17-40, or ORIGIN#17 with its log.")
    ] = "",
    limit: Annotated[
        int | None, typer.Option(min=1, max=_NUMBER_MAX, help="End after so many records.")
    ] = None,
    count: Annotated[bool, typer.Option("--count", help="Only say how many there are.")] = False,
    reason: ReasonOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Every record that matches, oldest first; a log of millions needs no more memory than one.

    Give a --reason out of the policy's list. It is recorded in the operator's security log,
    with the log, the range and what was searched by, before anything is shown; never what for.
    Entries that are gone are shown as such: erased, or missing without a receipt.
    """
    where = deployed(home)
    origin, first, last = records_given(record)
    wanted = _wanted(
        since,
        until,
        tenant=tenant,
        verdict=verdict,
        rule=rule,
        type=kind,
        subject=subject,
        about=None if subject is None else _about(where, subject),
        decision=decision,
        first=first,
        last=last,
    )
    named = [*(log or []), origin] if origin else log or []
    members = _members(where, named, wanted)
    logs = _spans(members, wanted)
    _recorded(where, reason, logs, wanted)
    found = searching.merged(searching.search(source, wanted, within) for source, within in logs)
    explained = _explained(where, _limited(found, limit))
    rows = chain(_unsigned(members), map(_row, explained))
    if count:
        _count(rows, as_json=as_json)
    else:
        _stream(rows, as_json=as_json, width=_widest(logs))


# --- what is asked for ---------------------------------------------------------------------


def _wanted(since: str, until: str, **asked: Any) -> Wanted:
    """What was asked for, refused when it can match nothing.

    Raises:
        BadInput: a time is none, or the range is empty.
        UnknownName: no record is of that type, or no verdict is that.
    """
    now = datetime.now(UTC)
    begin, end = time_given(since, now), time_given(until, now)
    if begin is not None and end is not None and begin >= end:
        raise BadInput(
            f"nothing lies between {since} and {until}", accepted="--since before --until"
        )
    kind, verdict = asked.get("type"), asked.get("verdict")
    if kind is not None and kind not in RECORD_TYPES:
        raise UnknownName(f"no record is of type {kind!r}", accepted=", ".join(RECORD_TYPES))
    if verdict is not None and verdict not in VERDICTS:
        raise UnknownName(f"{verdict!r} is no verdict", accepted=", ".join(VERDICTS))
    return Wanted(since=begin, until=end, **asked)


def _about(home: Home, subject: str) -> Callable[[Mapping[str, Any]], bool]:
    """Tells the records of a subject, sealed ones by the keys of this site.

    Raises:
        BadInput: it is no pseudonym.
    """
    if not _PSEUDONYM.fullmatch(subject):
        raise BadInput(
            "this is no pseudonym",
            accepted="64 hexadecimal digits",
            next_step="sovereign subject find, which takes the name on its input",
        )
    keys = Keystore(home.keystore).known().subjects
    return lambda found: is_about(found, subject, keys)


def _members(home: Home, origins: list[str], wanted: Wanted) -> list[fleet.Member]:
    """The logs to read: those named, or all in which such a record can stand.

    Raises:
        UnknownName: no log is called that.
    """
    found = {m.origin: m for origin in origins or [""] for m in chosen(home, origin)}
    stream = RECORD_TYPES[wanted.type].stream if wanted.type else "any"
    return [m for m in found.values() if origins or stream in ("any", m.stream)]


def _spans(members: Iterable[fleet.Member], wanted: Wanted) -> list[tuple[Source, range]]:
    sources = map(fleet.source, members)
    return [(source, searching.span(source, wanted)) for source in sources]


def _unsigned(members: Iterable[fleet.Member]) -> Iterator[dict[str, Any]]:
    """A line for each log of which nothing can be shown: nobody says how long it is."""
    for member in members:
        if fleet.size_of(member) is None:
            says = "no checkpoint that a pinned key signed"
            yield {"record": member.origin, "type": "unreadable", "says": says}


def _recorded(
    home: Home, reason: str, logs: list[tuple[Source, range]], wanted: Wanted
) -> tuple[str, ...]:
    """Record the reading; nothing of it is shown before this returns."""
    policy = policy_of(home)
    named = reason_of(policy, reason)
    if wanted.subject is not None:
        refuse_restricted(policy, Keystore(home.keystore).known(), wanted.subject, named)
    readings = [Reading(s.origin, within.start, len(within), wanted.kinds) for s, within in logs]
    return record_readings(home, policy, named, readings)


# --- what is shown -------------------------------------------------------------------------


def _limited(found: Iterable[Found], limit: int | None) -> Iterator[Found]:
    """Up to so many records; gaps do not count."""
    left = limit
    for each in found:
        yield each
        if left is not None and isinstance(each, Hit):
            left -= 1
            if left == 0:
                return


def _explained(home: Home, found: Iterable[Found]) -> Iterator[tuple[Found, str]]:
    """Each with the receipt that covers it, if it is a gap and there is one.

    Receipts are looked up when the first gap is met: most readings meet none.
    """
    known: dict[str, list[Receipt]] = {}
    for each in found:
        if isinstance(each, Hit) or each.state != "gone":
            yield each, ""
            continue
        eraser = eraser_of(each.origin)
        if eraser not in known:
            known[eraser] = _receipts(home, eraser)
        yield from _parted(each, known[eraser])


def _receipts(home: Home, eraser: str) -> list[Receipt]:
    members = [m for m in fleet.members(home) if m.origin == eraser]
    return [each for m in members for each in searching.receipts(fleet.source(m))]


def _parted(gap: Gap, receipts: list[Receipt]) -> Iterator[tuple[Gap, str]]:
    """A gap in parts: those a receipt covers, each with it, and the rest without."""
    at = gap.first
    about = [r for r in receipts if r.log == gap.origin and r.last >= gap.first]
    for each in sorted(about, key=lambda r: (r.first, r.last)):
        if each.first > gap.last:
            break
        if each.last < at:
            continue
        if at < each.first:
            yield Gap(gap.origin, at, each.first - 1, gap.state), ""
        start, end = max(at, each.first), min(each.last, gap.last)
        yield Gap(gap.origin, start, end, gap.state), each.record
        at = end + 1
    if at <= gap.last:
        yield Gap(gap.origin, at, gap.last, gap.state), ""


def _row(explained: tuple[Found, str]) -> dict[str, Any]:
    """A line of output: the record's fields, or what there is instead of records."""
    found, receipt = explained
    if isinstance(found, Hit):
        return {"record": found.name, **found.fields}
    state = found.state if found.state != "gone" else "erased" if receipt else "missing"
    said = {"record": found.name, "type": state, "first": found.first, "last": found.last}
    return {**said, "receipt": receipt} if receipt else said


def _is_record(row: dict[str, Any]) -> bool:
    return "v" in row


def _cells(row: dict[str, Any]) -> tuple[str, str, str, str]:
    hidden = ("v", "at", "salt", "type", "policy", "record")
    said = ", ".join(f"{name} {value}" for name, value in row.items() if name not in hidden)
    return str(row.get("at", ""))[:19], str(row["record"]), str(row["type"]), said


def _stream(rows: Iterable[dict[str, Any]], *, as_json: bool, width: int) -> None:
    """Line by line, so that memory does not grow with what is found."""
    seen: Counter[str] = Counter()
    for row in rows:
        seen["records" if _is_record(row) else str(row["type"])] += 1
        if as_json:
            _line(row)
            continue
        at, name, kind, said = _cells(row)
        say(f"{at:<19}  {name:<{width}}  {kind:<14}  {said}")
    if not as_json:
        say(f"{seen['records']} found" + _not_shown(seen))
    _exit(seen)


def _count(rows: Iterable[dict[str, Any]], *, as_json: bool) -> None:
    seen: Counter[str] = Counter()
    logs: Counter[str] = Counter()
    for row in rows:
        if _is_record(row):
            seen["records"] += 1
            logs[str(row["record"]).rpartition("#")[0]] += 1
        else:
            seen[str(row["type"])] += row.get("last", 0) - row.get("first", 0) + 1
    gone = {state: seen[state] for state in ("erased", "missing", "unreadable")}
    if as_json:
        give({"count": seen["records"], "logs": dict(sorted(logs.items())), **gone})
    else:
        for origin, number in sorted(logs.items()):
            say(f"{origin}: {number}")
        say(f"{seen['records']} found" + _not_shown(seen))
    _exit(seen)


def _not_shown(seen: Counter[str]) -> str:
    told = [f"{seen[s]} {s}" for s in ("erased", "missing", "unreadable") if seen[s]]
    return f"; not shown: {', '.join(told)}" if told else ""


def _end(rows: list[dict[str, Any]]) -> None:
    _exit(Counter("records" if _is_record(row) else str(row["type"]) for row in rows))


def _exit(seen: Counter[str]) -> None:
    """0, unless something should be there and is not: then the answer is not known to be whole."""
    if seen["missing"] or seen["unreadable"]:
        raise typer.Exit(UNDETERMINED)


def _widest(logs: list[tuple[Source, range]]) -> int:
    return max((len(f"{source.origin}#{within.stop}") for source, within in logs), default=0)


def _line(value: dict[str, Any]) -> None:
    say(msgspec.json.encode(value).decode())
