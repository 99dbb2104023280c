"""`sovereign subject received|extend|answered|requests`: what people asked for, and by when.

The log has the request's id, its kind and its times. Who asked stands with whoever answers, never
here. Counted by GDPR Art. 12(3), in force since 25 May 2018. Self-assessment, not legal advice.
"""

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from sovereign.audit.record import written
from sovereign.cli.audit_args import deployed, time_given
from sovereign.cli.output import HomeOption, JsonFlag, facts, give, policy_of, say, table
from sovereign.errors import BadInput
from sovereign.policy import Policy
from sovereign.policy.shapes import Term
from sovereign.registry import utcnow
from sovereign.rights import requests as asked
from sovereign.rights.book import Book, Known
from sovereign.rights.requests import Request, Saying

STREAM = ("evidence",)
RECORDED_WITHIN_S = 30.0
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be recorded.")]
RequestArgument = Annotated[str, typer.Argument(help="The request's id: req_…")]
Decide = Callable[[Policy, Known, datetime], Saying]


def add_to(app: typer.Typer) -> None:
    """Hang the verbs into the tree."""
    for verb in (received, extend, answered, requests):
        app.command()(verb)


def received(
    kind: Annotated[str, typer.Argument(help=f"{', '.join(asked.KINDS)}.")],
    at: Annotated[str, typer.Option(help="When it came: a time, or an age such as 2d.")] = "0s",
    home: HomeOption = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """A person asked for something: from its receipt on its month runs. Prints the request's id."""
    name = f"req_{secrets.token_hex(6)}"
    _record(
        *(home, name, lambda p, _, n: asked.received(p, name, kind, _time(at, n), n)),
        dry_run=dry_run,
        as_json=as_json,
    )


def extend(
    request: RequestArgument,
    why: Annotated[str, typer.Option(help=f"{', '.join(asked.EXTENSIONS)}.")],
    told: Annotated[
        str, typer.Option(help="When the person was told of it and why: a time, or an age.")
    ],
    home: HomeOption = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Take two more months; the person was told why within the first (GDPR Art. 12(3))."""
    _record(
        *(home, request),
        lambda p, k, n: asked.extended(p, k.named(request), why, _time(told, n), n),
        dry_run=dry_run,
        as_json=as_json,
    )


def answered(
    request: RequestArgument,
    outcome: Annotated[str, typer.Option(help=f"{', '.join(asked.OUTCOMES)}.")],
    ground: Annotated[
        str, typer.Option(help=f"Of a refusal: {', '.join(asked.GROUNDS)}, as the kind allows.")
    ] = "",
    at: Annotated[str, typer.Option(help="When the person was told: a time, or an age.")] = "0s",
    home: HomeOption = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """The person was answered; a refusal says on which ground (GDPR Art. 12(4) and (5))."""
    _record(
        *(home, request),
        lambda p, k, n: asked.answered(p, k.named(request), outcome, ground, _time(at, n), n),
        dry_run=dry_run,
        as_json=as_json,
    )


def requests(
    everything: Annotated[bool, typer.Option("--all", help="Answered ones, too.")] = False,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Each request, when its time is over, and how it stands: 1 when one is late, 3 in doubt."""
    where, now = deployed(home), utcnow()
    term, known = asked.term_of(policy_of(where)), Book(where).look()
    wanted = [each for each in known.requests.values() if everything or each.is_open]
    wanted.sort(key=lambda each: (not each.is_open, each.due_at(term)))
    doubts = known.doubts(now)
    rows = [_row(each, term, now) for each in wanted]
    if as_json:
        give({"requests": rows, "doubts": doubts})
    else:
        columns = ("request", "kind", "received", "due", "stands", "left")
        table(columns, [[row[name] for name in columns] for row in rows])
        for doubt in doubts:
            say(f"in doubt: {doubt}")
    late = any(row["stands"] == "late" for row in rows)
    raise typer.Exit(3 if doubts else 1 if late else 0)


def _row(request: Request, term: Term, now: datetime) -> dict[str, Any]:
    left = request.left(term, now)
    days = abs(left) // timedelta(days=1)
    return {
        "request": request.id,
        "kind": request.kind,
        "received": written(request.received_at),
        "due": written(request.due_at(term)),
        "stands": request.standing(term, now),
        "left": "" if not request.is_open else f"{'-' if left < timedelta(0) else ''}{days} d",
        "extension": request.extension,
        "outcome": request.outcome,
        "ground": request.ground,
    }


def _time(text: str, now: datetime) -> datetime:
    found = time_given(text, now)
    if found is None:
        raise BadInput("no time was given", accepted="2026-11-24T12:00:00Z, or an age: 2d")
    return found


def _record(home: Path | None, name: str, decide: Decide, *, dry_run: bool, as_json: bool) -> None:
    """Decide and record while nobody else can write to the log."""
    from sovereign.supervisor.deployment import operator_trail  # it imports every room

    where = deployed(home)
    policy = policy_of(where)
    if dry_run:
        _tell(name, decide(policy, Book(where).look(), utcnow()), "", as_json=as_json)
        return
    with operator_trail(where, STREAM) as trail:
        saying = decide(policy, Book(where).look(), utcnow())
        receipt = trail.record(saying.type, **saying.fields).result(RECORDED_WITHIN_S)
    _tell(name, saying, receipt.name, as_json=as_json)


def _tell(name: str, saying: Saying, receipt: str, *, as_json: bool) -> None:
    said = {key: value for key, value in saying.fields.items() if key != "policy"}
    if as_json:
        given = {"dry_run": not receipt, "type": saying.type}
        give({**given, **said, "request": name, "record": receipt or None})
        return
    facts({**said, "record": receipt or "none: a dry run"})
