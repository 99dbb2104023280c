"""`sovereign policy diff|apply|rollback|versions`: see what another policy changes, and change.

Judging is `policy_judged.py`, showing `policy_shown.py`; the steps of a change, and what a crash
leaves behind each, are in `supervisor/policychange.py` and `policy/kept.py`.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from sovereign.cli.output import HomeOption, JsonFlag, give, home_of, say, table
from sovereign.cli.policy_judged import (
    READ_FOR,
    asked_again,
    change_of,
    judge,
    may_be_read,
    permit,
)
from sovereign.cli.policy_shown import as_facts, replay_facts, show, show_replay, shown, unchanged
from sovereign.errors import BadInput
from sovereign.supervisor import policychange as changing

NewArgument = Annotated[Path, typer.Argument(help="The folder with the other policy.")]
ReplayOption = Annotated[
    bool,
    typer.Option(
        "--replay/--no-replay",
        help="Ask the recorded questions again; that they were read is recorded.",
    ),
]
WhyOption = Annotated[
    str, typer.Option("--reason", help="Why: an id of `changes` in rules/audit.yaml; recorded.")
]
ApproverOption = Annotated[
    str,
    typer.Option(
        "--widening-approved-by", help="The role that answers for what is allowed from now on."
    ),
]
DryOption = Annotated[bool, typer.Option(help="Show what it would do; change nothing.")]


def add_to(app: typer.Typer) -> None:
    """Hang the commands on `sovereign policy`."""
    app.command()(diff)
    app.command()(apply)
    app.command()(rollback)
    app.command()(versions)


def diff(
    new: NewArgument,
    home: HomeOption = None,
    reason: Annotated[
        str, typer.Option("--reason", help="Why the records are read: an id of `reading`.")
    ] = READ_FOR,
    replayed: ReplayOption = True,
    days: Annotated[
        int, typer.Option(min=0, max=366, help="Of so many days; 0: as the policy says.")
    ] = 0,
    as_json: JsonFlag = False,
) -> None:
    """What another policy says and answers differently. Exit 1 when it allows more.

    Questions recorded in the last days are asked again of both. That they were read, and for
    which reason, is recorded in the operator's security log first.
    """
    where = home_of(home)
    judged = judge(where, changing.load(where, new))
    old = judged.old
    done = None
    if replayed and old is not None and judged.names[0] != judged.names[1]:
        done = asked_again(where, old, judged.new, reason, days)
    if as_json:
        give({**as_facts(judged), "replayed": None if done is None else replay_facts(done)})
    else:
        show(judged)
        show_replay(done)
    raise typer.Exit(1 if judged.loosens or judged.cases else 0)


def apply(
    new: NewArgument,
    reason: WhyOption = "",
    approver: ApproverOption = "",
    home: HomeOption = None,
    replayed: ReplayOption = True,
    dry_run: DryOption = False,
    as_json: JsonFlag = False,
) -> None:
    """Put another policy in force: keep a copy under its digest, record the change, swap.

    What allows more than before needs --widening-approved-by and a role that the policy in force
    lists. The gateway and the controller take it up by themselves.
    """
    where = home_of(home)
    if dry_run:
        judged = judge(where, changing.load(where, new))
        permit(judged, reason, approver)
        shown(judged, "", None, as_json=as_json, dry=True)
        return
    store = where.policy_versions
    with store.locked():
        it = changing.staged(where, store, new)
        judged = judge(where, it)
        if judged.names[0] == judged.names[1]:
            unchanged(judged.new, as_json=as_json)
            return
        permit(judged, reason, approver)
        done = None
        if replayed and judged.old is not None and may_be_read(judged.old):
            done = asked_again(where, judged.old, judged.new, READ_FOR, 0)
        changing.keep(where, store, it)
        before = store.in_force()
        if not before and judged.loaded is not None:
            before = changing.keep_shipped(where, store, judged.loaded)
        change = change_of(judged, changing.APPLIED, reason, approver)
        record = changing.swap(where, store, change, change.new, before)
    shown(judged, record, changing.taken_up(where, judged.new.digest), done, as_json=as_json)


def rollback(
    reason: WhyOption = "",
    approver: ApproverOption = "",
    home: HomeOption = None,
    dry_run: DryOption = False,
    as_json: JsonFlag = False,
) -> None:
    """Put the policy back in force that was before the present one. The same rules hold."""
    where = home_of(home)
    store = where.policy_versions
    with ExitStack() as stack:
        if not dry_run:
            stack.enter_context(store.locked())
        name = store.before(store.in_force())
        if not name:
            raise BadInput(
                "no policy is known that was in force before this one",
                found=store.in_force() or "the shipped policy is in force",
                next_step="sovereign policy versions",
            )
        folder = store.folder / name
        judged = judge(where, changing.load(where, folder))
        permit(judged, reason, approver)
        if dry_run:
            shown(judged, "", None, as_json=as_json, dry=True)
            return
        change = change_of(judged, changing.ROLLED_BACK, reason, approver)
        record = changing.swap(where, store, change, name)
    shown(judged, record, changing.taken_up(where, judged.new.digest), as_json=as_json)


def versions(home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """Every policy that is kept here, and which one is in force."""
    where = home_of(home)
    store = where.policy_versions
    now = store.in_force()
    rows = [
        {"version": name, "in_force": name == now, "replaced": store.before(name)}
        for name in store.names()
    ]
    if as_json:
        give({"in_force": now or "shipped", "versions": rows})
        return
    say(f"in force: {now or 'the shipped policy'}")
    if rows:
        table(("", "version", "replaced"), [_cells(row) for row in rows])


def _cells(row: dict[str, Any]) -> tuple[str, str, str]:
    return "*" if row["in_force"] else "", row["version"], row["replaced"]
