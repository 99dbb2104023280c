"""`sovereign licence …`: accept the terms of weights as a role, until a day; list and end it."""

from datetime import UTC, date, datetime
from typing import Annotated, Any

import typer

from sovereign import acknowledged, catalogue
from sovereign import licence as terms
from sovereign.audit.record import written
from sovereign.cli.audit_args import deployed
from sovereign.cli.output import (
    HomeOption,
    JsonFlag,
    facts,
    give,
    home_of,
    policy_of,
    say,
    table,
)
from sovereign.errors import BadInput
from sovereign.licence import Acknowledgement
from sovereign.policy import Policy
from sovereign.registry import utcnow
from sovereign.supervisor.deployment import operator_trail

app = typer.Typer(
    help="Acknowledge the terms of weights, list what was acknowledged, revoke it.",
    no_args_is_help=True,
)
_STREAM = ("evidence",)
NameArgument = Annotated[str, typer.Argument(help="Id, alias or short name of a model.")]
ApproverOption = Annotated[
    str, typer.Option(help="The role that answers for it: one of the policy's, never a name.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen; do nothing.")]


@app.command()
def acknowledge(
    name: NameArgument,
    approver: ApproverOption,
    purpose: Annotated[str, typer.Option(help="What for: one of rules/licences.yaml.")],
    expires: Annotated[
        str, typer.Option(help="Ends at the start of this day, in UTC: 2027-06-30.")
    ],
    home: HomeOption = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Accept the terms of a model's weights for what this site is, until a day; recorded.

    Read them first: `sovereign models licence`. Where the policy refuses the terms nothing can be
    acknowledged.
    """
    where, now = deployed(home), utcnow()
    policy = policy_of(where)
    model = catalogue.with_weights(policy, name)
    until = _day(expires)
    if dry_run:
        given = acknowledged.check(where, policy, model, approver, purpose, until, now)
        _tell(given, "", as_json=as_json)
        return
    with operator_trail(where, _STREAM) as trail:
        given, recorded = acknowledged.acknowledge(
            where,
            policy,
            model,
            approver=approver,
            purpose=purpose,
            expires_at=until,
            trail=trail,
            now=now,
        )
    _tell(given, recorded.name, as_json=as_json)


@app.command("list")
def list_(home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """Every acknowledgement of the log, whether it is in force, and if not, why."""
    where, now = deployed(home), utcnow()
    policy, environment = policy_of(where), where.settings.environment
    rows = [_row(policy, environment, each, now) for each in acknowledged.everything(where)]
    if as_json:
        give({"environment": environment, "acknowledgements": rows})
        return
    say(f"{sum(row['state'] == 'in-force' for row in rows)} in force; this site is {environment}")
    if rows:
        columns = ("acknowledgement", "state", "model", "purpose", "approver", "ends", "says")
        table(columns, [[str(row[name])[:80] for name in columns] for row in rows])


@app.command()
def check(name: NameArgument, home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """Whether a model may serve here, by which rule, and until when: exit 1 when not."""
    where, now = home_of(home), utcnow()
    policy = policy_of(where)
    model = catalogue.with_weights(policy, name)
    answer = terms.decide(policy, model.id, acknowledged.standing(where, policy, model.id), now)
    said = {
        "model": answer.model,
        "verdict": answer.verdict,
        "environment": answer.environment,
        "rule": answer.rule,
        "because": answer.because,
        "source": answer.source,
        "found": answer.found,
        "until": written(answer.until) if answer.until else "",
        "warning": answer.warning,
        "fix": answer.fix,
    }
    if as_json:
        give(said)
    else:
        facts({key: value for key, value in said.items() if value})
        say("Self-assessment, not legal advice.")
    raise typer.Exit(0 if answer.allowed else 1)


@app.command()
def revoke(
    acknowledgement: Annotated[str, typer.Argument(help="As in `sovereign licence list`.")],
    approver: ApproverOption,
    home: HomeOption = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """End an acknowledgement. What it let serve is shut in the controller's next round."""
    where, now = deployed(home), utcnow()
    policy = policy_of(where)
    if dry_run:
        given, recorded = acknowledged.revoke(
            where, policy, acknowledgement, approver=approver, trail=None, now=now
        )
    else:
        with operator_trail(where, _STREAM) as trail:
            given, recorded = acknowledged.revoke(
                where, policy, acknowledgement, approver=approver, trail=trail, now=now
            )
    name = recorded.name if recorded else None
    if as_json:
        give({"acknowledgement": given.id, "model": given.model, "record": name})
        return
    done = f"revoked {given.id}; record {name}" if name else f"would revoke {given.id}"
    say(f"{done}; {given.model} {'is' if name else 'would be'} shut in the next round")


def _day(given: str) -> datetime:
    try:
        return datetime.combine(date.fromisoformat(given), datetime.min.time(), UTC)
    except ValueError:
        raise BadInput(f"{given[:40]!r} is no day", accepted="a day as 2027-06-30") from None


def _row(policy: Policy, environment: str, given: Acknowledgement, now: datetime) -> dict[str, Any]:
    model = policy.models.get(given.model)
    wrong = (
        terms.fault(policy, model, given, environment, now)
        if model is not None
        else "no fact describes this model"
    )
    return {
        "acknowledgement": given.id,
        "state": "not-in-force" if wrong else "in-force",
        "model": given.model,
        "licence": given.licence,
        "environment": given.environment,
        "purpose": given.purpose,
        "approver": given.approver,
        "made": written(given.made_at),
        "ends": written(terms.ends(policy, given))[:10],
        "says": wrong,
        "record": given.record,
    }


def _tell(given: Acknowledgement, record: str, *, as_json: bool) -> None:
    said = {
        "acknowledgement": given.id if record else "",
        "model": given.model,
        "licence": given.licence,
        "environment": given.environment,
        "purpose": given.purpose,
        "approver": given.approver,
        "expires_at": written(given.expires_at),
    }
    if as_json:
        give({**said, "record": record or None, "dry_run": not record})
        return
    shown = {key: value for key, value in said.items() if key != "acknowledgement"}
    facts({"id": given.id if record else "-", **shown, "record": record or "none: a dry run"})
    say("Self-assessment, not legal advice.")
