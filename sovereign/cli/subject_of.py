"""Whom a `sovereign subject` command is about, and what is recorded of that person.

The person is named on standard input, as clients name them, never in a command's words: those
are kept by shells. Or by the pseudonym, where somebody has it. Whatever is read for it is recorded
first, with its reason.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from sovereign import fleet, holds
from sovereign.audit import proof, record, search
from sovereign.audit.search import Found, Gap, Hit, Wanted
from sovereign.cli.reading import Reading, record_readings, refuse_restricted
from sovereign.errors import BadInput, SubjectHeld, SubjectRestricted, UnknownName
from sovereign.keystore import Known
from sovereign.policy import Policy
from sovereign.registry import utcnow
from sovereign.settings import Home
from sovereign.subjectkeys import is_about
from sovereign.subjects import SUBJECT_MAX_CHARS, pseudonym

_PSEUDONYM = re.compile(r"[0-9a-f]{64}", re.ASCII)
TenantOption = Annotated[str, typer.Option(help="The tenant whose client named the person.")]
PseudonymOption = Annotated[
    str, typer.Option("--pseudonym", help="64 hex digits; left out, a name is read from input.")
]


def person(known: Known, tenant: str, given: str) -> str:
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


def found_of(
    home: Home, policy: Policy, known: Known, tenant: str, named: str, reason: str
) -> Iterator[Found]:
    """Records about the person, and what completed them; that they are read is recorded first.

    Entries that cannot be read are among them: nobody can tell whether they are about the person.
    """
    refuse_restricted(policy, known, named, reason)
    logs = [m for m in fleet.members(home) if m.vkey is not None and m.stream == "event"]
    sources = [fleet.source(member) for member in logs]
    readings = [Reading(s.origin, 0, s.size, ("tenant", "subject")) for s in sources if s.size]
    record_readings(home, policy, reason, readings)
    for source in sources:
        decisions = set()
        for each in search.search(source, Wanted(tenant=tenant), range(source.size)):
            if isinstance(each, Gap):
                if each.state != "gone":
                    yield each
            elif is_about(each.fields, named, known.subjects):
                decisions.add(each.index)
                yield each
        ends = search.search(source, Wanted(type="completion"), range(source.size))
        for each in ends if decisions else ():
            if isinstance(each, Hit) and each.fields["decision"] in decisions:
                yield each


def refuse_held(home: Home, known: Known, named: str) -> None:
    """Refuse an erasure while a record of the person is held.

    Raises:
        SubjectHeld: a hold in force has one. Nothing was erased.
    """
    held = sorted({hold for hold, _ in held_of(home, known, named)})
    if held:
        raise SubjectHeld(
            "records of this person are under a legal hold",
            because="what is held must stay readable (GDPR art. 17(3))",
            found=", ".join(held),
            next_step=f"sovereign hold show {held[0]}",
        )


def refuse_restricted_erasure(known: Known, tenant: str, named: str) -> None:
    """Refuse an erasure while the person wants the data kept, and not used (GDPR Art. 18(1)).

    Raises:
        SubjectRestricted: there is a restriction. Nothing was erased.
    """
    standing = known.restricted.get((tenant, named), ())
    if standing:
        raise SubjectRestricted(
            "the use of this person's data is restricted",
            because="whoever has their data restricted has them kept (GDPR art. 18(1))",
            found=", ".join(each.id for each in standing),
            next_step="sovereign subject unrestrict, once the person has been told",
        )


def held_of(home: Home, known: Known, named: str) -> Iterator[tuple[str, Hit]]:
    """The records about this person that holds in force have, each with its hold.

    Completions are held beside their decisions, and are found by them.
    """
    now = utcnow()
    for each in holds.standing(home):
        if each.state(now) == "in-force":
            folder = holds.root(home) / each.facts.hold
            copies = [_copy(path) for path in sorted(folder.rglob("*.proof"))]
            about = {hit.name for hit in copies if is_about(hit.fields, named, known.subjects)}
            for hit in copies:
                ends = f"{hit.origin}#{hit.fields.get('decision')}"
                if hit.name in about or ends in about:
                    yield each.facts.hold, hit


def _copy(path: Path) -> Hit:
    """A record out of the copy that a hold has; the note under its proof says of which log."""
    index, entry, _, note = proof.parse(path.read_bytes())
    return Hit(note.split(b"\n", 1)[0].decode(), index, record.parse(entry))
