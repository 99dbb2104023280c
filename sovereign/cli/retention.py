"""`sovereign retention …`: what is kept, for how long, and what the next run will erase.

Only the controller erases; these commands look.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer

from sovereign import holds, sinks
from sovereign.audit.holds import Standing
from sovereign.audit.record import written
from sovereign.cli.audit_args import deployed, time_given
from sovereign.cli.output import HomeOption, JsonFlag, give, policy_of, say, table
from sovereign.policy import Policy
from sovereign.registry import utcnow
from sovereign.retention import Item, due

app = typer.Typer(help="Show what is kept and what goes when.", no_args_is_help=True)
AtOption = Annotated[str, typer.Option("--at", help="As if it were this time; by default now.")]


@app.command()
def status(at: AtOption = "", home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """What each sink keeps: how much, since when, and whether any of it should be gone: then 1."""
    where, now = deployed(home), time_given(at, utcnow()) or utcnow()
    policy = policy_of(where)
    grouped: dict[tuple[str, str], list[Item]] = defaultdict(list)
    for item in sinks.items(where):
        grouped[item.sink, item.retention_class].append(item)
    found = [_standing(policy, *named, items, now) for named, items in sorted(grouped.items())]
    if as_json:
        give({"at": written(now), "sinks": found})
    else:
        table(
            ("sink", "class", "items", "oldest", "at most", "overdue"),
            [
                (f["sink"], f["class"], f["items"], f["oldest"][:19], f["at_most"], f["overdue"])
                for f in found
            ],
        )
    raise typer.Exit(1 if any(each["overdue"] for each in found) else 0)


def _standing(
    policy: Policy, sink: str, kept: str, items: list[Item], now: datetime
) -> dict[str, Any]:
    limits = sinks.rules_of(policy, now).of(kept)
    most = None if limits.max_days is None else timedelta(days=limits.max_days)
    allowed = None if most is None else most + timedelta(hours=limits.interval_hours)
    late = 0 if allowed is None else sum(now - item.oldest > allowed for item in items)
    return {
        "sink": sink,
        "class": kept,
        "items": len(items),
        "oldest": written(min(item.oldest for item in items)),
        "newest": written(max(item.newest for item in items)),
        "at_least": f"{limits.min_days} d",
        "at_most": "unlimited" if limits.max_days is None else f"{limits.max_days} d",
        "overdue": late,
    }


@app.command()
def plan(at: AtOption = "", home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """What a retention run would erase, now or at another time. Nothing is erased.

    An unfinished bundle is listed once its time has come; it waits until its writer seals it.
    """
    where, now = deployed(home), time_given(at, utcnow()) or utcnow()
    erasures = due(policy_of(where), sinks.items(where), now)
    rows = [
        {
            "sink": each.item.sink,
            "item": each.item.id,
            "rule": each.rule,
            "due_since": written(each.due_since),
            "oldest": written(each.item.oldest),
        }
        for each in erasures
    ] + _ending(holds.standing(where), now)
    if as_json:
        give({"at": written(now), "due": rows})
        return
    columns = ("sink", "item", "rule", "due_since")
    table(columns, [[row[name] for name in columns] for row in rows])
    say(f"{len(rows)} would go at {written(now)[:19]}; only the controller erases")


def _ending(standing: Iterable[Standing], now: datetime) -> list[dict[str, str]]:
    """The copies of holds that would be over by then."""
    return [
        {
            "sink": "hold",
            "item": each.facts.hold,
            "rule": f"hold-{each.state(now)}",
            "due_since": written(each.ends),
            "oldest": written(each.facts.oldest),
        }
        for each in standing
        if each.state(now) in ("released", "expired")
    ]
