"""`sovereign subject find|erase`: what is recorded about a person, and how to make it unreadable.

`subject_of.py` says how the person is named; the other verbs stand in modules of their own.
"""

from typing import Annotated, Any

import typer

from sovereign.audit.search import Gap, Hit
from sovereign.cli.audit_args import deployed
from sovereign.cli.output import HomeOption, JsonFlag, facts, give, policy_of, say, table
from sovereign.cli.reading import ReasonOption, reason_of
from sovereign.cli.subject_of import (
    PseudonymOption,
    TenantOption,
    found_of,
    held_of,
    person,
    refuse_held,
    refuse_restricted_erasure,
)
from sovereign.errors import UnknownName
from sovereign.keystore import Keystore
from sovereign.rights.book import Book
from sovereign.rights.requests import refuse_unasked
from sovereign.subjectkeys import SEALED
from sovereign.supervisor.deployment import operator_trail

app = typer.Typer(help="Answer a person: find, export, restrict, erase.", no_args_is_help=True)
ERASURE_REASON = "subject-request"
"""Why the log is read before an erasure: an id of `reading` in rules/audit.yaml."""
RECORDED_WITHIN_S = 30.0


@app.command()
def find(
    tenant: TenantOption,
    reason: ReasonOption = "",
    pseudonym_: PseudonymOption = "",
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Every record about a person, with its completion; the person is read from input.

    That the logs were read, and for which reason, is recorded before anything is shown; never
    who was looked for. Records sealed under a key that was destroyed are not found.
    """
    where = deployed(home)
    policy, known = policy_of(where), Keystore(where.keystore).known()
    named = person(known, tenant, pseudonym_)
    everything = list(found_of(where, policy, known, tenant, named, reason_of(policy, reason)))
    found = [each for each in everything if isinstance(each, Hit)]
    gaps = [each.name for each in everything if isinstance(each, Gap)]
    held = sorted({hold for hold, _ in held_of(where, known, named)})
    restricted = [each.id for each in known.restricted.get((tenant, named), ())]
    if as_json:
        rows = [{"record": hit.name, **hit.fields} for hit in found]
        give(
            {
                "pseudonym": named,
                "records": rows,
                "holds": held,
                "restricted": restricted,
                "unreadable": gaps,
            }
        )
        raise typer.Exit(3 if gaps else 0)
    table(
        ("at", "record", "type", "model", "verdict"),
        [
            (
                hit.fields["at"][:19],
                hit.name,
                hit.fields["type"],
                hit.fields.get("model", ""),
                hit.fields.get("verdict", hit.fields.get("outcome", "")),
            )
            for hit in found
        ],
    )
    facts({"pseudonym": named, "records": len(found), "held in": ", ".join(held) or "no hold"})
    facts({"restricted": ", ".join(restricted) or "no"})
    if gaps:
        say(f"cannot be read, and may be about this person: {', '.join(gaps)}")
        raise typer.Exit(3)


@app.command()
def erase(
    tenant: TenantOption,
    pseudonym_: PseudonymOption = "",
    request: Annotated[
        str, typer.Option(help="The request it answers: req_…; one that was refused is not done.")
    ] = "",
    home: HomeOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Destroy a person's key: what names them in the log becomes unreadable, and no hash changes.

    Refused by a hold in force over a record of theirs, by a --request that was refused on a
    ground (GDPR art. 17(3)), and while the use of their data is restricted. A copy of the key
    store, such as a backup, still has the key. Self-assessment, not legal advice.
    """
    where = deployed(home)
    policy, store = policy_of(where), Keystore(where.keystore)
    if request:
        refuse_unasked(Book(where).look().named(request), "erasure")
    known = store.known()
    named = person(known, tenant, pseudonym_)
    reason = reason_of(policy, ERASURE_REASON)
    found = found_of(where, policy, known, tenant, named, reason)
    about = [hit for hit in found if isinstance(hit, Hit) and "subject" in hit.fields]
    plain = sum(not hit.fields["subject"].startswith(SEALED) for hit in about)
    refuse_restricted_erasure(known, tenant, named)
    refuse_held(where, known, named)
    if not about:
        raise UnknownName(
            "no readable record is about this person; nothing was changed",
            found=f"pseudonym {named}",
            accepted="the name exactly as the client sent it, or a person not erased yet",
            next_step=f"sovereign subject find --tenant {tenant} --reason {ERASURE_REASON}",
        )
    if dry_run:
        _tell("would erase", len(about) - plain, plain, "", as_json=as_json)
        return
    store.destroy(tenant, named)
    with operator_trail(where, ("evidence",)) as trail:
        receipt = trail.record(
            "subject-erased",
            tenant=tenant,
            records=len(about) - plain,
            plain=plain,
            policy=policy.digest,
            **({"request": request} if request else {}),
        ).result(RECORDED_WITHIN_S)
    _tell("erased", len(about) - plain, plain, receipt.name, as_json=as_json)


def _tell(done: str, records: int, plain: int, receipt: str, *, as_json: bool) -> None:
    if as_json:
        facts_: dict[str, Any] = {"dry_run": not receipt, "records": records, "plain": plain}
        give({**facts_, "record": receipt or None})
        return
    counted = "1 record" if records == 1 else f"{records} records"
    say(f"{done} the person in {counted}" + (f"; record {receipt}" if receipt else ""))
    if plain:
        say(f"  named in the clear by {plain} older records, which go with their class")
