"""`sovereign drill …`: things that go wrong on purpose, on a live site, and what was seen then.

Exit 0: the drill passed. 1: it found something. 3: something could not be told. Every drill
leaves a record, undoes what it did, and says what it would do with `--dry-run`.
"""

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sovereign.cli.audit_args import deployed
from sovereign.cli.output import HomeOption, JsonFlag, give, policy_of, say, table
from sovereign.drills import note
from sovereign.drills.result import EXIT, Result
from sovereign.errors import BadInput
from sovereign.settings import Home

if TYPE_CHECKING:
    from sovereign.drills.restore import From

app = typer.Typer(
    help="Drill the live site: canaries, tampering, restoring, killing, cutting off.",
    no_args_is_help=True,
)
DryFlag = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; do nothing.")]
SHOWN_MAX = 30


@app.command()
def canary(
    settle_s: Annotated[
        float | None,
        typer.Option(
            min=0, max=600, help="Wait for what is written late; by default over a minute."
        ),
    ] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(help="Search this too: an export of what was sent elsewhere."),
    ] = None,
    engine_restart: Annotated[
        bool, typer.Option("--engine-restart", help="End the engine in an answer. Disturbs others.")
    ] = False,
    dry_run: DryFlag = False,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Say words nobody else uses to every route, then look for them wherever the site writes."""
    from sovereign.drills import canary as drills

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the words are in our own memory
    where = deployed(home)
    policy = policy_of(where)
    if dry_run:
        _give_plan(drills.plan(where, policy), as_json=as_json)
        return
    settles = drills.SETTLES_S if settle_s is None else settle_s
    wanted = drills.Wanted(settles, tuple(also or ()), engine_restart)
    result = drills.drill(where, policy, wanted, _progress(as_json=as_json))
    if not as_json:
        rows = [_sink_row(sink) for sink in result.facts["sinks"]]
        table(("sink", "searched", "MiB", "found", "note"), rows)
    _end(result, as_json=as_json)


def _sink_row(sink: dict[str, Any]) -> tuple[object, ...]:
    notes = [sink["absent"]] if sink["absent"] else []
    notes += [f"{sink['unchanged']} great files unchanged"] if sink["unchanged"] else []
    notes += sink["unreadable"][:2]
    size = f"{sink['bytes'] / 2**20:.1f}"
    return sink["sink"], sink["items"], size, sink["findings"], "; ".join(notes)


@app.command()
def tamper(dry_run: DryFlag = False, home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """Spoil a copy of the audit logs in every way, and show that verification finds each."""
    from sovereign.drills import tamper as drills

    where = deployed(home)
    policy = policy_of(where)
    if dry_run:
        _give_plan(drills.plan(where, policy), as_json=as_json)
        return
    result = drills.drill(where, policy, _progress(as_json=as_json))
    if not as_json:
        rows = [(each["log"], each["way"], each["found"]) for each in result.facts["ways"]]
        table(("log", "what was done to the copy", "found"), rows)
    _end(result, as_json=as_json)


@app.command()
def restore(
    source: Annotated[
        str, typer.Option("--from", help="A folder of logs; by default the standby that is set.")
    ] = "",
    dry_run: DryFlag = False,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Restore the logs from a copy into a home of the drill's own; measure time and loss."""
    from sovereign.drills import restore as drills

    where = deployed(home)
    policy = policy_of(where)
    copy = source or where.settings.standby.url
    if dry_run:
        _give_plan(drills.plan(where, copy), as_json=as_json)
        return
    with _copy(where, source) as given:
        result = drills.drill(where, policy, given, _progress(as_json=as_json))
    if not as_json and result.facts:
        rows = [(e["log"], e["records"], e["lacks"], e["behind_s"]) for e in result.facts["logs"]]
        table(("log", "records", "lacks", "oldest lost, s"), rows)
        took, lost = result.facts["recovery_time_s"], result.facts["recovery_point_s"]
        say(f"  from {result.facts['from']}: there again after {took} s, {lost} s are lost")
    _end(result, as_json=as_json)


@contextmanager
def _copy(home: Home, source: str) -> Iterator["From | None"]:
    """The folder that was named, or else the standby; None when there is neither."""
    from sovereign.audit.copies.standby_client import Client, Where
    from sovereign.cli.audit_standby import token_in
    from sovereign.drills.restore import From, below

    chosen = home.settings.standby
    if source:
        if not Path(source).is_dir():
            raise BadInput(f"{source} is no folder", accepted="a folder of logs")
        yield From(source, partial(below, Path(source)))
    elif chosen.url:
        files = (Path(p) if p else None for p in (chosen.tls_ca, chosen.tls_cert, chosen.tls_key))
        with Client(Where(chosen.url, token_in(Path(chosen.token_file)), *files)) as client:
            yield From(chosen.url, lambda origin: partial(client.read, origin))
    else:
        yield None


@app.command()
def kill(
    yes: Annotated[
        bool, typer.Option("--yes", help="Requests of others that run then are cut off: do it.")
    ] = False,
    dry_run: DryFlag = False,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Kill each process under a trickle of requests; every answer must be on record."""
    from sovereign.drills import kill as drills

    where = deployed(home)
    policy = policy_of(where)
    if dry_run:
        _give_plan(drills.plan(where, policy), as_json=as_json)
        return
    if not yes:
        raise BadInput(
            "this cuts off requests of others; nothing was done",
            accepted="--yes, at a time when that does no harm",
            next_step="sovereign drill kill --dry-run",
        )
    result = drills.drill(where, policy, _progress(as_json=as_json))
    if not as_json:
        rows = [(each["process"], each["back_s"]) for each in result.facts["kills"]]
        table(("killed", "ready again after, s"), rows)
        say(f"  {result.facts['answered']} answered, each with both records unless found below")
    _end(result, as_json=as_json)


@app.command()
def disconnect(
    for_s: Annotated[
        int, typer.Option(min=5, max=600, help="Seconds until the kernel lifts the cut.")
    ] = 60,
    yes: Annotated[
        bool, typer.Option("--yes", help="Whoever is connected from elsewhere is cut off: do it.")
    ] = False,
    dry_run: DryFlag = False,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Cut this host off from every network but loopback for a time, and go on serving."""
    from sovereign.drills import disconnect as drills

    where = deployed(home)
    policy = policy_of(where)
    if dry_run:
        _give_plan(drills.plan(where, policy, for_s), as_json=as_json)
        return
    if not yes:
        raise BadInput(
            f"this cuts everybody off for {for_s} s, your own ssh too; nothing was done",
            accepted="--yes, at a time when that does no harm, with nohup or systemd-run over ssh",
            next_step="sovereign drill disconnect --dry-run",
        )
    result = drills.drill(where, policy, for_s, _progress(as_json=as_json))
    if not as_json:
        told = f"{result.facts['cut_s']} s cut off, {result.facts['dropped']} packets dropped"
        say(f"  {told}, {result.facts['answered while cut off']} requests answered")
    _end(result, as_json=as_json)


@app.command()
def clock(dry_run: DryFlag = False, home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """Ask the policy what would be due, and refused, at other times. No clock is moved."""
    from sovereign.drills import clock as drills

    where = deployed(home)
    policy = policy_of(where)
    if dry_run:
        _give_plan(drills.plan(where, policy), as_json=as_json)
        return
    result = drills.drill(where, policy, _progress(as_json=as_json))
    if not as_json:
        rows = [
            (e["when"], e["at"], e["due"], len(e["answering"]), "; ".join(e["refused"]))
            for e in result.facts["times"]
        ]
        table(("if it were", "UTC", "due", "answering", "refused"), rows)
    _end(result, as_json=as_json)


@app.command()
def undo(home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """Undo what a killed drill left: keys are revoked, its files removed."""
    left = note.undo_left(deployed(home))
    if as_json:
        give({"undone": left is not None, "drill": left.drill if left else ""})
    else:
        say(f"undid the drill {left.drill}" if left else "there is nothing to undo")


@app.command()
def status(home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """Whether a drill runs or a killed one left something, which is undone: then 1."""
    where = deployed(home)
    found = note.standing(where)
    left = note.undo_left(where) if found.state == "left" else None
    if as_json:
        started = found.started_at.isoformat() if found.started_at else ""
        give({"state": found.state, "drill": found.drill, "started_at": started})
    else:
        say({"none": "no drill runs", "running": f"{found.drill} runs"}.get(found.state, ""))
        if left is not None:
            say(f"{left.drill} was killed half-way; it is undone now")
    raise typer.Exit(1 if found.state == "left" else 0)


def _progress(*, as_json: bool) -> Any:
    """Where a drill says what it does: beside its result, and not into a program's document."""
    if as_json:
        return lambda _: None
    return lambda text: print(f"  {text}", file=sys.stderr, flush=True)


def _give_plan(plan: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        give({"dry_run": True, **plan})
        return
    say("nothing was done; this would be:")
    for name, value in plan.items():
        told = [f"{k}: {v}" for k, v in value.items()] if isinstance(value, dict) else value
        lines = told if isinstance(told, list) else [told]
        say(f"  {name}")
        for line in lines:
            say(f"    {line}")


def _end(result: Result, *, as_json: bool) -> None:
    """Show what came of a drill, and exit with its verdict."""
    if as_json:
        give(
            {
                "drill": result.drill,
                "verdict": result.verdict.value,
                "cases": result.cases,
                "findings": result.findings,
                "unknown": result.unknown,
                "record": result.record,
                **result.facts,
            }
        )
    else:
        for sort, lines in (("found", result.findings), ("unknown", result.unknown)):
            for line in lines[:SHOWN_MAX]:
                say(f"{sort:<9}{line}")
            if len(lines) > SHOWN_MAX:
                say(f"{sort:<9}and {len(lines) - SHOWN_MAX} more: --json")
        say(f"{result.drill}: {result.verdict.value}; {result.cases} cases; record {result.record}")
    raise typer.Exit(EXIT[result.verdict])
