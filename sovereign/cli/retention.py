"""`sovereign retention …`: what is kept, for how long, and what the next run will erase.

Only the controller erases; these commands look, and ask it to.
"""

import time
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

import typer

from sovereign import holds, sinks
from sovereign.audit.holds import Standing as Held
from sovereign.audit.record import written
from sovereign.cli.audit_args import deployed, time_given
from sovereign.cli.output import HomeOption, JsonFlag, give, policy_of, say, table
from sovereign.controller import clock
from sovereign.errors import ProcessFailed
from sovereign.policy import Policy
from sovereign.registry import utcnow
from sovereign.retention import due
from sovereign.settings import Home
from sovereign.sinks import standing
from sovereign.sinks.standing import Standing
from sovereign.supervisor.deployment import operator_trail

app = typer.Typer(help="Show what is kept and what goes when.", no_args_is_help=True)
STRAYS_SHOWN = 20
RECORD_TIMEOUT_S, POLL_S = 10, 0.5
MORE = ("refused", "unseen")
AtOption = Annotated[str, typer.Option("--at", help="As if it were this time; by default now.")]


@app.command()
def status(at: AtOption = "", home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """What each sink keeps, and whether anything is overdue, or declared by nobody: then 1.

    Exit 3 when a sink could not be read, or the clock is doubted: then nobody knows.
    """
    where, now = deployed(home), time_given(at, utcnow()) or utcnow()
    policy = policy_of(where)
    site = standing.of_home(where, policy, now)
    rows = [_row(policy, each, now) for each in site.standings]
    doubt = "" if at else _why_not(where)
    if as_json:
        strays = [str(path) for path in site.strays]
        more = {"undeclared": strays, "unread": site.unread, "clock": doubt}
        give({"at": written(now), "sinks": rows, **more})
    else:
        _tell(site, rows, doubt)
    raise typer.Exit(1 if site.wrong else 3 if site.unknown or doubt else 0)


def _row(policy: Policy, each: Standing, now: datetime) -> dict[str, Any]:
    limits = sinks.rules_of(policy, now).of(each.kept)
    return {
        "sink": each.sink,
        "class": each.kept,
        "state": each.state,
        "why": each.why,
        "items": each.items,
        "oldest": written(each.oldest) if each.oldest else "",
        "newest": written(each.newest) if each.newest else "",
        "at_least": f"{limits.min_days} d",
        "at_most": "unlimited" if limits.max_days is None else f"{limits.max_days} d",
        "overdue": each.late,
        "faults": list(each.faults),
    }


def _tell(site: standing.Site, rows: list[dict[str, Any]], doubt: str) -> None:
    """Sinks that hold something or cannot be read, then what is wrong, then what is not known."""
    table(
        ("sink", "class", "items", "oldest", "at most", "overdue"),
        [
            (r["sink"], r["class"], r["items"], r["oldest"][:19], r["at_most"], r["overdue"])
            for r in rows
            if r["items"] or r["state"] == "unknown"
        ],
    )
    for said in (*standing.found(site), *standing.unclear(site), *([doubt] if doubt else [])):
        say(f"  {said}")
    for path in site.strays[:STRAYS_SHOWN]:
        say(f"    {path}")


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


def _ending(held: Iterable[Held], now: datetime) -> list[dict[str, str]]:
    """The copies of holds that would be over by then."""
    return [
        {
            "sink": "hold",
            "item": each.facts.hold,
            "rule": f"hold-{each.state(now)}",
            "due_since": written(each.ends),
            "oldest": written(each.facts.oldest),
        }
        for each in held
        if each.state(now) in ("released", "expired")
    ]


@app.command()
def run(
    clock_is_right: Annotated[
        bool, typer.Option("--clock-is-right", help="You vouch for the time it is now, by now.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be erased; ask for nothing.")
    ] = False,
    wait: Annotated[int, typer.Option(help="Longest wait for the controller, in seconds.")] = 60,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Ask the controller for a run now, and wait until it was.

    Exit 1 when something stayed that was due, 3 when a sink could not be read.

    A controller that does not believe its clock erases nothing until somebody vouches for it.
    """
    if dry_run:
        plan(home=home, as_json=as_json)
        return
    where = deployed(home)
    before, _ = clock.newest_run(where)
    with operator_trail(where, ("evidence",)) as trail:
        said = clock.RIGHT if clock_is_right else "unsaid"
        asked = trail.record(clock.ASKED, by="operator", clock=said).result(RECORD_TIMEOUT_S)
    ran = _waited(where, before, wait)
    if as_json:
        give({"asked": asked.name, **ran})
    else:
        say(f"{ran['erased']} of {ran['due']} erased; {ran['kept']} kept, {ran['unseen']} unseen")
    raise typer.Exit(1 if ran["due"] > ran["erased"] else 3 if ran["unseen"] else 0)


def _waited(home: Home, before: int, wait_s: int) -> dict[str, Any]:
    """How the first run went whose record stands behind this index.

    Raises:
        ProcessFailed: there was none in this time.
    """
    deadline = time.monotonic() + wait_s
    while True:
        index, ran = clock.newest_run(home)
        if index > before:
            return {name: ran.get(name, 0) for name in ("due", "erased", "kept", *MORE)}
        if time.monotonic() > deadline:
            raise ProcessFailed(
                f"the controller has not run retention within {wait_s} s",
                found=_why_not(home) or "it does not run, or is at work still",
                next_step="sovereign status, then: sovereign retention run",
            )
        time.sleep(POLL_S)


def _why_not(home: Home) -> str:
    """What speaks against the clock, as a controller that starts now would see it."""
    return clock.doubt(utcnow(), clock.last_run(home), synchronised=clock.synchronised()).why
