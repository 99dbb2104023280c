"""`sovereign hold …`: keep copies of records past their class, on a ground and until a date."""

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any

import typer

from sovereign import holds
from sovereign.audit.holds import Facts, Standing
from sovereign.audit.record import written
from sovereign.cli.audit_args import deployed, time_given
from sovereign.cli.output import HomeOption, JsonFlag, facts, give, policy_of, say, table
from sovereign.errors import BadInput
from sovereign.holds import Chosen, Scope, Terms
from sovereign.keystore import Keystore
from sovereign.registry import utcnow
from sovereign.supervisor.deployment import operator_trail

app = typer.Typer(help="Place, list and release legal holds.", no_args_is_help=True)
_PSEUDONYM = re.compile(r"[0-9a-f]{64}", re.ASCII)
_STREAM = ("evidence",)
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen; do nothing.")]
ApproverOption = Annotated[
    str, typer.Option(help="The role that approved it: one of the policy's, never a person's name.")
]


@app.command()
def place(
    basis: Annotated[str, typer.Option(help="The ground: an id of `holds` in retention.yaml.")],
    approver: ApproverOption,
    expires: Annotated[
        str, typer.Option(help="Ends at the start of this day, in UTC: 2027-06-30.")
    ],
    log: Annotated[
        list[str] | None, typer.Option("--log", help="Only this log; may be repeated.")
    ] = None,
    since: Annotated[str, typer.Option("--from", help="From this time on, or an age: 90d.")] = "",
    until: Annotated[str, typer.Option("--to", help="Before this time, or this age.")] = "",
    tenant: Annotated[str, typer.Option(help="Only records of this tenant.")] = "",
    subject: Annotated[
        str, typer.Option(help="Only records of this subject: the pseudonym, not a name.")
    ] = "",
    home: HomeOption = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Copy records with a proof of each, and keep the copies until the hold ends.

    Without --log every log of class event is looked through. A decision's completion is held
    with it. The originals go when their class says so; records that come later are not held.
    """
    where, now = deployed(home), utcnow()
    policy = policy_of(where)
    scope = _scope(log or [], since, until, tenant, subject, now)
    terms = Terms(basis, approver, _day(expires))
    rules = holds.refuse(policy, terms, now)
    keys = Keystore(where.keystore).known().subjects if subject else {}
    chosen = holds.choose(where, scope, rules.records_max, keys)
    if dry_run:
        _tell_chosen(chosen, terms, as_json=as_json)
        return
    with operator_trail(where, _STREAM) as trail:
        placed, recorded = holds.place(where, policy, scope, chosen, terms, trail, now)
    if as_json:
        give({"hold": placed.hold, "record": recorded.name, **_counts(chosen)})
        return
    say(f"{placed.hold}: {placed.records} records held until {written(placed.expires_at)}")
    facts({"basis": basis, "approver": approver, "record": recorded.name})


def _scope(
    logs: list[str], since: str, until: str, tenant: str, subject: str, now: datetime
) -> Scope:
    if not (logs or tenant or subject):
        raise BadInput("a hold is for a case", accepted="at least one --log, --tenant or --subject")
    if subject and not _PSEUDONYM.fullmatch(subject):
        raise BadInput(
            "a subject is held by its pseudonym, so that no name stands in a command",
            accepted="64 hexadecimal digits, as in the records",
        )
    begins, ends = time_given(since, now), time_given(until, now)
    if begins and ends and begins >= ends:
        raise BadInput("--from is not before --to", accepted="an earlier --from, or a later --to")
    return Scope(tuple(logs), begins, ends, tenant, subject)


def _day(given: str) -> datetime:
    try:
        return datetime.combine(date.fromisoformat(given), datetime.min.time(), UTC)
    except ValueError:
        raise BadInput(f"{given!r} is no day", accepted="a day as 2027-06-30") from None


def _counts(chosen: Chosen) -> dict[str, Any]:
    logs = {member.origin: len(indexes) for member, indexes in chosen.logs.items()}
    return {
        "records": chosen.count,
        "logs": logs,
        "oldest": written(chosen.oldest),
        "newest": written(chosen.newest),
    }


def _tell_chosen(chosen: Chosen, terms: Terms, *, as_json: bool) -> None:
    if as_json:
        give({"dry_run": True, "expires_at": written(terms.expires_at), **_counts(chosen)})
        return
    say(f"would hold {chosen.count} records until {written(terms.expires_at)}; nothing was done")
    table(("records", "log"), [(len(found), m.origin) for m, found in chosen.logs.items()])


@app.command("list")
def list_(home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """Every hold whose copies are still there."""
    now = utcnow()
    found = list(holds.standing(deployed(home)))
    if as_json:
        give({"holds": [_as_facts(each, now) for each in found]})
        return
    table(
        ("hold", "state", "records", "ends", "approver", "basis"),
        [
            (f.hold, each.state(now), f.records, written(each.ends)[:19], f.approver, f.basis)
            for each in found
            for f in [each.facts]
        ],
    )


@app.command()
def show(
    hold: Annotated[str, typer.Argument(help="As in `sovereign hold list`.")],
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """What a hold is about, where its copies lie, and whether they are right: 1 when not."""
    where, now = deployed(home), utcnow()
    found = holds.named(where, hold)
    result = next(r for r in holds.verify(where, now) if r.origin == holds.name_of(hold))
    wrong = [{"code": f.code, "where": f.where, "says": f.says} for f in result.findings]
    if as_json:
        give({**_as_facts(found, now), "dir": str(result.folder), "findings": wrong})
    else:
        shown = _as_facts(found, now)
        scope = ", ".join(f"{name} {value}" for name, value in shown["scope"].items())
        facts({**shown, "logs": ", ".join(shown["logs"]), "scope": scope, "dir": result.folder})
        for finding in result.findings:
            say(str(finding))
    raise typer.Exit(1 if wrong else 0)


@app.command()
def release(
    hold: Annotated[str, typer.Argument(help="As in `sovereign hold list`.")],
    approver: ApproverOption,
    home: HomeOption = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """End a hold. The controller erases its copies at its next retention run, with a receipt."""
    where, now = deployed(home), utcnow()
    if dry_run:
        found = holds.releasable(where, policy_of(where), hold, approver, now)
        _tell_release(found.facts, "", as_json=as_json)
        return
    with operator_trail(where, _STREAM) as trail:
        recorded = holds.release(where, policy_of(where), hold, approver, trail, now)
    _tell_release(holds.named(where, hold).facts, recorded.name, as_json=as_json)


def _tell_release(found: Facts, record: str, *, as_json: bool) -> None:
    if as_json:
        give({"hold": found.hold, "dry_run": not record, "record": record or None})
        return
    done = f"released {found.hold}; record {record}" if record else f"would release {found.hold}"
    say(f"{done}; {found.records} copies {'go' if record else 'would go'} at the next run")


def _as_facts(standing: Standing, now: datetime) -> dict[str, Any]:
    held = standing.facts
    return {
        "hold": held.hold,
        "state": standing.state(now),
        "basis": held.basis,
        "approver": held.approver,
        "placed_at": written(held.placed_at),
        "expires_at": written(held.expires_at),
        "ends": written(standing.ends),
        "records": held.records,
        "oldest": written(held.oldest),
        "newest": written(held.newest),
        "logs": list(held.logs),
        "scope": dict(held.scope),
        "record": standing.recorded or None,
    }
