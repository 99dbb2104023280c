"""`sovereign usage`: what each key used in a month, out of the audit log, and what it costs.

The sums are those the gateway's budgets are made of: every completion counts for the day on which
its call was decided. Reading the log for them is recorded first, as every reading is.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

import typer

from sovereign import fleet
from sovereign.audit import search as searching
from sovereign.audit.search import Gap, Source, Wanted
from sovereign.cli.audit_args import deployed
from sovereign.cli.output import UNDETERMINED, HomeOption, JsonFlag, give, policy_of, say, table
from sovereign.cli.reading import Reading, ReasonOption, reason_of, record_readings
from sovereign.errors import BadInput
from sovereign.limits.money import Prices, euros
from sovereign.limits.tally import Counting, Row, Tally, Used, spent
from sovereign.limits.windows import days_of
from sovereign.registry import utcnow

REASON = "billing"
WRITER, STREAM = "gateway", "event"
LONGEST_CALL = timedelta(hours=2)
"""How much later than the end of the month completions of its calls are looked for."""
COLUMNS = ("tenant", "key", "model", "requests", "tokens_in", "tokens_out", "eur")


def add_to(app: typer.Typer) -> None:
    """Hang the command on `sovereign`."""
    app.command()(usage)


def usage(
    home: HomeOption = None,
    tenant: Annotated[str | None, typer.Option(help="Only what this tenant used.")] = None,
    month: Annotated[str, typer.Option(help="Which month: 2026-11; by default this one.")] = "",
    reason: ReasonOption = REASON,
    as_json: JsonFlag = False,
) -> None:
    """What each key used in a month, by model, and what it costs at the site's prices."""
    where = deployed(home)
    policy = policy_of(where)
    first = _month(month)
    days = range(*days_of("month", first.toordinal()))
    wanted = Wanted(since=_midnight(days.start), until=_midnight(days.stop) + LONGEST_CALL)
    members = [m for m in fleet.members(where) if (m.writer, m.stream) == (WRITER, STREAM)]
    logs = [(source, searching.span(source, wanted)) for source in map(fleet.source, members)]
    filters = (*wanted.kinds, *(("tenant",) if tenant else ()))
    readings = [Reading(s.origin, within.start, len(within), filters) for s, within in logs]
    record_readings(where, policy, reason_of(policy, reason), readings)
    tally, gaps = _counted(logs, wanted)
    sums = sorted(_by_key(tally.among(days, tenant=tenant)).items())
    prices = Prices(policy.limits.prices)
    rows = [_row(prices, name, parts) for name, parts in sums]
    total = spent(prices, tally.among(days, tenant=tenant))
    if as_json:
        gone = [{"record": gap.name, "state": gap.state} for gap in gaps]
        give({"month": f"{first:%Y-%m}", "rows": rows, "eur": euros(total), "lacking": gone})
    else:
        table(COLUMNS, [[row[name] for name in COLUMNS] for row in rows])
        say(f"{first:%Y-%m}: {euros(total)} EUR" + ("" if prices else ", for no model has a price"))
        for gap in gaps:
            say(f"not counted: {gap.name} is {gap.state}")
    if gaps or any(fleet.size_of(member) is None for member in members):
        raise typer.Exit(UNDETERMINED)


def _month(given: str) -> date:
    """The first day of the month that was given, or of this one.

    Raises:
        BadInput: it is no month.
    """
    if not given:
        return utcnow().date().replace(day=1)
    try:
        return datetime.strptime(given, "%Y-%m").replace(tzinfo=UTC).date()
    except ValueError:
        raise BadInput(f"{given!r} is no month", accepted="--month 2026-11") from None


def _midnight(day: int) -> datetime:
    return datetime.combine(date.fromordinal(day), datetime.min.time(), UTC)


def _counted(logs: Iterable[tuple[Source, range]], wanted: Wanted) -> tuple[Tally, list[Gap]]:
    """The sums of these logs, and what of them cannot be read."""
    tally, gaps = Tally(), []
    for source, within in logs:
        counting = Counting(tally)
        for found in searching.search(source, wanted, within):
            if isinstance(found, Gap):
                gaps.append(found)
            else:
                counting.see(found.index, found.fields)
    return tally, gaps


def _by_key(
    sums: Iterable[tuple[Row, Used]],
) -> dict[tuple[str, str, str], list[tuple[Row, Used]]]:
    found: dict[tuple[str, str, str], list[tuple[Row, Used]]] = {}
    for row, used in sums:
        found.setdefault((row.tenant, row.key, row.model), []).append((row, used))
    return found


def _row(
    prices: Prices, name: tuple[str, str, str], parts: list[tuple[Row, Used]]
) -> dict[str, Any]:
    total = Used()
    for _, used in parts:
        total = total.plus(used)
    return dict(zip(COLUMNS, (*name, *total, euros(spent(prices, parts))), strict=True))
