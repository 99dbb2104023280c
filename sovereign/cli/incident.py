"""`sovereign incident …`: what happened, which clocks run, and what was done about it.

Nothing typed here is recorded as text: codes, numbers, times, digests and file numbers are. Every
change is one record in `operator/evidence`, written while that log is held, so two people cannot
say contradicting things at once.

Exit 1 of `clock` and `list`: a duty of an open incident is late. 3: not every record could be read,
or this clock is behind what was recorded.
"""

from collections.abc import Callable
from datetime import datetime
from hashlib import file_digest
from pathlib import Path
from typing import Annotated

import typer

from sovereign.cli import incident_shown as shown
from sovereign.cli.audit_args import deployed, time_given
from sovereign.cli.output import (
    HomeOption,
    JsonFlag,
    facts,
    give,
    policy_of,
    say,
    write_file,
)
from sovereign.errors import BadInput
from sovereign.incidents import verbs
from sovereign.incidents.case import Incident
from sovereign.incidents.draft import draft
from sovereign.incidents.duties import duties
from sovereign.incidents.ledger import Known, Ledger, new_id
from sovereign.incidents.notice import notice
from sovereign.incidents.verbs import Saying, Wish
from sovereign.policy import Policy
from sovereign.registry import utcnow

app = typer.Typer(
    help="Open, document and close incidents; see which clocks run.", no_args_is_help=True
)
STREAM = ("evidence",)
RECORDED_WITHIN_S = 30.0
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be recorded; do nothing.")]
IncidentArgument = Annotated[str, typer.Argument(help="As in `sovereign incident list`.")]
ApproverOption = Annotated[
    str, typer.Option(help="The role that answers for it: one of the policy's, never a person.")
]
KindOption = Annotated[
    list[str] | None, typer.Option("--kind", help=f"{', '.join(verbs.KINDS)}; may be repeated.")
]
RoleOption = Annotated[
    list[str] | None, typer.Option("--role", help=f"{', '.join(verbs.ROLES)}; not said: all.")
]
HarmOption = Annotated[list[str] | None, typer.Option("--harm", help=f"{', '.join(verbs.HARMS)}.")]
Decide = Callable[[Policy, Known, datetime], Saying]


@app.command("open")
def open_(
    kind: KindOption = None,
    cause: Annotated[
        str, typer.Option(help="What it began with: an id of `incidents` in rules/audit.yaml.")
    ] = "",
    noticed: Annotated[
        str, typer.Option(help="When we became aware: a time with its zone, or an age: 2h.")
    ] = "0s",
    role: RoleOption = None,
    harm: HarmOption = None,
    about: Annotated[str, typer.Option(help="The endpoint or log it is about.")] = "",
    confirmed: Annotated[
        bool, typer.Option("--confirmed", help="It is one; otherwise it is suspected.")
    ] = False,
    home: HomeOption = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Open an incident. Its clocks run from when we became aware, also while it is suspected."""
    name = new_id()

    def decide(policy: Policy, _: Known, now: datetime) -> Saying:
        at = time_given(noticed, now)
        assert at is not None, "an age of nothing is now"
        state = "confirmed" if confirmed else "suspected"
        said = tuple(kind or ()), at, cause, tuple(role or ()), tuple(harm or ()), state, about
        return verbs.opened(policy, name, Wish(*said), now)

    _record(home, [decide], name, dry_run=dry_run, as_json=as_json)


@app.command()
def add(
    incident: IncidentArgument,
    confirm: Annotated[bool, typer.Option("--confirm", help="It is one.")] = False,
    reopen: Annotated[str, typer.Option(help="It is not over: why (a code).")] = "",
    kind: KindOption = None,
    role: RoleOption = None,
    harm: HarmOption = None,
    noticed: Annotated[str, typer.Option(help="We became aware at this time; needs --why.")] = "",
    why: Annotated[str, typer.Option(help=f"{', '.join(verbs.MOVED)}.")] = "",
    fact: Annotated[
        list[str] | None,
        typer.Option(
            help="nature=WORD, subjects=WORD[:COUNT], records=WORD[:COUNT], consequence=WORD or "
            "measure=WORD, of the policy; may be repeated."
        ),
    ] = None,
    done: Annotated[str, typer.Option(help="This duty was done; needs --how.")] = "",
    at: Annotated[str, typer.Option(help="When it was done: a time, or an age.")] = "0s",
    handled: Annotated[
        str, typer.Option(help="When an incident that went on was over: a time, or an age.")
    ] = "",
    how: Annotated[str, typer.Option(help=f"{', '.join(verbs.HOW)}.")] = "",
    document: Annotated[
        Path | None, typer.Option(help="What was sent: its SHA-256 is recorded, nothing of it.")
    ] = None,
    reference: Annotated[str, typer.Option(help="The file number of whoever was told.")] = "",
    not_applicable: Annotated[str, typer.Option(help="This duty does not arise; --ground.")] = "",
    ground: Annotated[str, typer.Option(help="One of the duty's own grounds.")] = "",
    applies: Annotated[str, typer.Option(help="This duty arises after all.")] = "",
    approver: ApproverOption = "",
    home: HomeOption = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Say more about an incident: what is known, what was done, what does not arise and why."""
    digest = _digest(document)
    wanted: list[Callable[[Policy, Incident, datetime], Saying]] = []
    if reopen:
        wanted.append(lambda p, i, _: verbs.reopened(p, i, reopen, approver))
    if confirm:
        wanted.append(lambda p, i, _: verbs.confirmed(p, i))
    if kind or role or harm:
        more = tuple(kind or ()), tuple(role or ()), tuple(harm or ())
        wanted.append(lambda p, i, _: verbs.widened(p, i, *more))
    if noticed:
        wanted.append(lambda p, i, n: verbs.noticed(p, i, _time(noticed, n), why, approver, n))
    wanted += [_fact(each) for each in fact or ()]
    if done:
        papers = digest, reference
        wanted.append(lambda p, i, n: verbs.done(p, i, done, _time(at, n), how, n, *papers))
    if handled:
        wanted.append(lambda p, i, n: verbs.handled(p, i, _time(handled, n), n))
    if not_applicable:
        wanted.append(lambda p, i, n: verbs.excused(p, i, not_applicable, ground, approver, n))
    if applies:
        wanted.append(lambda p, i, n: verbs.applies(p, i, applies, approver, n))
    if not wanted:
        raise BadInput("nothing was said", accepted="--confirm, --fact, --done, … (--help)")
    _record(home, [_of(incident, w) for w in wanted], incident, dry_run=dry_run, as_json=as_json)


def _of(name: str, decide: Callable[[Policy, Incident, datetime], Saying]) -> Decide:
    return lambda policy, known, now: decide(policy, known.named(name), now)


def _time(text: str, now: datetime) -> datetime:
    found = time_given(text, now)
    if found is None:
        raise BadInput("no time was given", accepted="2026-11-24T12:00:00Z, or an age: 2h")
    return found


def _fact(text: str) -> Callable[[Policy, Incident, datetime], Saying]:
    what, equals, rest = text.partition("=")
    word, colon, number = rest.partition(":")
    if not equals or what not in verbs.FACTS:
        raise BadInput(f"{text!r} is no fact", accepted=f"{'|'.join(verbs.FACTS)}=WORD[:COUNT]")
    if colon and not (number.isascii() and number.isdigit()):
        raise BadInput(f"{number!r} is no number", accepted="about how many, in digits")
    count = int(number[:12]) if colon else None
    return lambda policy, incident, _: verbs.fact(policy, incident, what, word, count)


def _digest(document: Path | None) -> str:
    if document is None:
        return ""
    try:
        with document.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"{document} cannot be read", found=error.strerror or "") from None


@app.command()
def close(
    incident: IncidentArgument,
    outcome: Annotated[str, typer.Option(help="handled, no-incident or duplicate.")],
    approver: ApproverOption = "",
    of: Annotated[str, typer.Option(help="The other incident, of a duplicate.")] = "",
    home: HomeOption = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Close an incident: 1 while a duty is open, or facts, effects and remedy are not known."""

    def decide(policy: Policy, known: Known, now: datetime) -> Saying:
        if of:
            known.named(of)
        return verbs.closed(policy, known.named(incident), outcome, approver, now, of)

    _record(home, [decide], incident, dry_run=dry_run, as_json=as_json)


def _record(
    home: Path | None, decide: list[Decide], name: str, *, dry_run: bool, as_json: bool
) -> None:
    """Decide and record step by step, while nobody else can write to the log.

    Each step is decided on what the ones before it left, and all are decided before the first is
    recorded; so a word that is refused leaves nothing behind.
    """
    from sovereign.supervisor.deployment import operator_trail  # it imports every room

    where = deployed(home)
    policy = policy_of(where)
    if dry_run:
        sayings = _decided(decide, policy, Ledger(where).look(), utcnow())
        shown.sayings(name, sayings, (), as_json=as_json)
        return
    with operator_trail(where, STREAM) as trail:
        sayings = _decided(decide, policy, Ledger(where).look(), utcnow())
        names = [
            trail.record(each.type, **each.fields).result(RECORDED_WITHIN_S).name
            for each in sayings
        ]
    shown.sayings(name, sayings, names, as_json=as_json)


def _decided(decide: list[Decide], policy: Policy, known: Known, now: datetime) -> list[Saying]:
    found: list[Saying] = []
    for each in decide:
        saying = each(policy, known, now)
        found.append(saying)
        known = known.after(saying.type, saying.fields, now)
    return found


@app.command("list")
def list_(
    everything: Annotated[bool, typer.Option("--all", help="Closed ones, too.")] = False,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Incidents and the duty of each that runs out first: 1 when one is late, 3 in doubt."""
    where, now = deployed(home), utcnow()
    policy, known = policy_of(where), Ledger(where).look()
    doubts = known.doubts(now)
    wanted = [each for each in known.incidents.values() if everything or each.is_open]
    rows = [shown.Row(each, _duties(policy, each, now)) for each in wanted]
    shown.listed(rows, doubts, now, as_json=as_json)
    raise typer.Exit(shown.exit_code(rows, doubts))


@app.command()
def show(incident: IncidentArgument, home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """Everything that is recorded of an incident, in the order in which it was said."""
    where, now = deployed(home), utcnow()
    policy, known = policy_of(where), Ledger(where).look()
    doubts = known.doubts(now)
    found = known.named(incident)
    shown.whole(found, _duties(policy, found, now), doubts, now, as_json=as_json)
    raise typer.Exit(3 if doubts else 0)


@app.command()
def clock(
    incident: Annotated[str, typer.Argument(help="One incident; left out: every open one.")] = "",
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Each duty, when it runs out, and how it stands: 1 when one is late, 3 in doubt."""
    where, now = deployed(home), utcnow()
    policy, known = policy_of(where), Ledger(where).look()
    doubts = known.doubts(now)
    wanted = [known.named(incident)] if incident else list(known.incidents.values())
    rows = [
        shown.Row(each, _duties(policy, each, now)) for each in wanted if incident or each.is_open
    ]
    shown.clocks(rows, doubts, policy.audit.incidents.warn_hours, now, as_json=as_json)
    raise typer.Exit(shown.exit_code(rows, doubts))


@app.command()
def report(
    incident: IncidentArgument,
    people: Annotated[
        bool, typer.Option("--people", help="To the people concerned (GDPR Art. 34(2)).")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Write it to this file; otherwise it is printed.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Draft a report with the fields of GDPR Art. 33(3), in Markdown: 3 while it has blanks.

    With --people it is what the people concerned are told, in plain words. Nothing is sent.
    """
    where, now = deployed(home), utcnow()
    policy, known = policy_of(where), Ledger(where).look()
    found = known.named(incident)
    rules, site, who = policy.audit.incidents, where.settings.site, where.settings.organisation
    made = (
        notice(found, rules, who)
        if people
        else draft(found, _duties(policy, found, now), rules, site, now, who)
    )
    if out is not None:
        write_file(out, made.text.encode())
    if as_json:
        give({"incident": found.id, "blanks": made.blanks, "markdown": made.text})
    elif out is None:
        say(made.text.rstrip("\n"))
    else:
        facts({"written to": out, "blanks": len(made.blanks)})
    raise typer.Exit(3 if made.blanks or known.doubts(now) else 0)


def _duties(policy: Policy, incident: Incident, now: datetime) -> shown.Duties:
    return duties(incident, policy.law, policy.audit.incidents, now)
