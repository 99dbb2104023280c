"""`sovereign subject …`: what is recorded about a person, and how to make it unreadable.

The person is named on standard input, as clients name them, never in a command's words: those
are kept by shells. Or by the pseudonym, where somebody has it.
"""

import re
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from sovereign import fleet, holds
from sovereign.audit import proof, record, search
from sovereign.audit.search import Hit, Wanted
from sovereign.cli.audit_args import deployed
from sovereign.cli.output import HomeOption, JsonFlag, facts, give, policy_of, say, table
from sovereign.cli.reading import Reading, ReasonOption, reason_of, record_readings
from sovereign.errors import BadInput, SubjectHeld, UnknownName
from sovereign.keystore import Keystore, Known
from sovereign.policy import Policy
from sovereign.registry import utcnow
from sovereign.settings import Home
from sovereign.subjectkeys import SEALED, is_about
from sovereign.subjects import SUBJECT_MAX_CHARS, pseudonym
from sovereign.supervisor.deployment import operator_trail

app = typer.Typer(help="Find and erase what is recorded of a person.", no_args_is_help=True)
ERASURE_REASON = "subject-request"
"""Why the log is read before an erasure: an id of `reading` in rules/audit.yaml."""
RECORDED_WITHIN_S = 30.0
_PSEUDONYM = re.compile(r"[0-9a-f]{64}", re.ASCII)
TenantOption = Annotated[str, typer.Option(help="The tenant whose client named the person.")]
PseudonymOption = Annotated[
    str, typer.Option("--pseudonym", help="64 hex digits; left out, a name is read from input.")
]


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
    named = _named(known, tenant, pseudonym_)
    found = list(_found(where, policy, known, tenant, named, reason_of(policy, reason)))
    held = _holds_of(where, known, named)
    if as_json:
        rows = [{"record": hit.name, **hit.fields} for hit in found]
        give({"pseudonym": named, "records": rows, "holds": held})
        return
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


@app.command()
def erase(
    tenant: TenantOption,
    pseudonym_: PseudonymOption = "",
    home: HomeOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Destroy a person's key: what names them in the log becomes unreadable, and no hash changes.

    A hold in force over a record of theirs refuses it (GDPR art. 17(3)). A copy of the key
    store, such as a backup, still has the key. Self-assessment, not legal advice.
    """
    where = deployed(home)
    policy, store = policy_of(where), Keystore(where.keystore)
    known = store.known()
    named = _named(known, tenant, pseudonym_)
    reason = reason_of(policy, ERASURE_REASON)
    found = _found(where, policy, known, tenant, named, reason)
    about = [hit for hit in found if "subject" in hit.fields]
    plain = sum(not hit.fields["subject"].startswith(SEALED) for hit in about)
    _refuse_held(where, known, named)
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


def _named(known: Known, tenant: str, given: str) -> str:
    """The pseudonym asked for.

    Raises:
        UnknownName: there is no such tenant.
        BadInput: neither a pseudonym nor a name on standard input.
    """
    if tenant not in known.secrets:
        raise UnknownName(f"no tenant is called {tenant!r}", accepted=", ".join(known.secrets))
    if given:
        if not _PSEUDONYM.fullmatch(given):
            raise BadInput("this is no pseudonym", accepted="64 hexadecimal digits")
        return given
    said = sys.stdin.readline(SUBJECT_MAX_CHARS + 3).removesuffix("\n").removesuffix("\r")
    if said != said.strip():
        raise BadInput(
            "a blank stands before or behind the name",
            accepted="the name exactly as the client sends it; HTTP lets no blank through",
        )
    if not 0 < len(said) <= SUBJECT_MAX_CHARS:
        raise BadInput(
            "nobody was named on standard input",
            accepted=f"one line of at most {SUBJECT_MAX_CHARS} characters, or --pseudonym",
        )
    return pseudonym(known.secrets[tenant], said)


def _found(
    home: Home, policy: Policy, known: Known, tenant: str, named: str, reason: str
) -> Iterator[Hit]:
    """Records about the person, and what completed them; that they are read is recorded first."""
    logs = [m for m in fleet.members(home) if m.vkey is not None and m.stream == "event"]
    sources = [fleet.source(member) for member in logs]
    readings = [Reading(s.origin, 0, s.size, ("tenant", "subject")) for s in sources if s.size]
    record_readings(home, policy, reason, readings)
    for source in sources:
        decisions = set()
        for each in search.search(source, Wanted(tenant=tenant), range(source.size)):
            if isinstance(each, Hit) and is_about(each.fields, named, known.subjects):
                decisions.add(each.index)
                yield each
        ends = search.search(source, Wanted(type="completion"), range(source.size))
        for each in ends if decisions else ():
            if isinstance(each, Hit) and each.fields["decision"] in decisions:
                yield each


def _refuse_held(home: Home, known: Known, named: str) -> None:
    held = _holds_of(home, known, named)
    if held:
        raise SubjectHeld(
            "records of this person are under a legal hold",
            because="what is held must stay readable (GDPR art. 17(3))",
            found=", ".join(held),
            next_step=f"sovereign hold show {held[0]}",
        )


def _holds_of(home: Home, known: Known, named: str) -> list[str]:
    """The holds in force that hold a record of this person."""
    now = utcnow()
    standing = [each.facts.hold for each in holds.standing(home) if each.state(now) == "in-force"]
    return [hold for hold in standing if _is_held(home, known, named, hold)]


def _is_held(home: Home, known: Known, named: str, hold: str) -> bool:
    for path in sorted((holds.root(home) / hold).rglob("*.proof")):
        _, entry, _, _ = proof.parse(path.read_bytes())
        if is_about(record.parse(entry), named, known.subjects):
            return True
    return False
