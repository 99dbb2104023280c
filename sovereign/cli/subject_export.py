"""`sovereign subject export`: everything that is recorded of a person, for that person to read.

A folder with `README.md`, for people, and `data.json`, for programs, or one document on standard
output. Only the owner of the folder can read it. Exit 3 while something in it is not known: it is
written all the same, and says what it lacks.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from sovereign.audit.record import written
from sovereign.audit.search import Gap, Hit
from sovereign.cli.audit_args import deployed
from sovereign.cli.output import HomeOption, JsonFlag, facts, give, policy_of, say
from sovereign.cli.reading import ReasonOption, reason_of
from sovereign.cli.register import live_of
from sovereign.cli.subject_of import PseudonymOption, TenantOption, found_of, held_of, person
from sovereign.errors import BadInput
from sovereign.evidence.dossier import Dossier, Entry, Source, dossier
from sovereign.evidence.register import register
from sovereign.keystore import Keystore

NOTE = "Made of the live state of this site. Self-assessment, not legal advice."
README, DATA = "README.md", "data.json"


def add_to(app: typer.Typer) -> None:
    """Hang the verb into the tree."""
    app.command()(export)


def export(
    tenant: TenantOption,
    reason: ReasonOption = "",
    pseudonym_: PseudonymOption = "",
    out: Annotated[
        Path | None, typer.Option(help="Write a folder of this name; it must not be there yet.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Everything recorded of a person, with why, for how long and who receives it: 3 with blanks.

    Answers GDPR Art. 15 and 20. Reading is recorded first, with its reason; never who it was for.
    """
    where = deployed(home)
    policy, known = policy_of(where), Keystore(where.keystore).known()
    named = person(known, tenant, pseudonym_)
    if out is not None and out.exists():
        raise BadInput(f"{out} is there already", accepted="a folder that is not there yet")
    found = list(found_of(where, policy, known, tenant, named, reason_of(policy, reason)))
    sources = [Source(each.name, each.fields) for each in found if isinstance(each, Hit)]
    sources += [Source(hit.name, hit.fields, hold) for hold, hit in held_of(where, known, named)]
    gaps = [each.name for each in found if isinstance(each, Gap)]
    made = dossier(
        *(register(*live_of(where, measured=False)), policy.retention, (tenant, named)),
        *(sources, gaps),
        restricted=(tenant, named) in known.restricted,
    )
    document = {"note": NOTE, **msgspec.to_builtins(made), "at": written(made.at)}
    if out is not None:
        _write(out, "\n".join(_page(made)) + "\n", document)
    if as_json:
        give({**document, "written_to": str(out)} if out else document)
    elif out is None:
        say("\n".join(_page(made)))
    else:
        facts({"written to": out, "records": len(made.entries), "unknown": len(made.unknown)})
    raise typer.Exit(3 if made.unknown else 0)


def _write(out: Path, page: str, document: dict[str, Any]) -> None:
    """Both files, readable by their owner alone.

    Raises:
        BadInput: the folder cannot be made, or not written to.
    """
    try:
        out.mkdir(mode=0o700)
        data = msgspec.json.format(msgspec.json.encode(document), indent=2)
        for name, content in ((README, page.encode()), (DATA, data)):
            (out / name).touch(mode=0o600)
            (out / name).write_bytes(content)
    except OSError as error:
        raise BadInput(
            f"{out} cannot be written", found=error.strerror or "", accepted="a folder to be made"
        ) from None


def _page(made: Dossier) -> Iterator[str]:
    """The answer as a page for the person."""
    yield from ("# What is recorded about you", "", NOTE, "")
    yield f"- as of: {written(made.at)}"
    yield f"- you are known here only as: {made.pseudonym}"
    yield f"- by: {made.tenant}, on {made.site}"
    yield from (f"- {name}: {value}" for name, value in made.organisation.items())
    if made.restricted:
        yield "- use of your data is restricted (Art. 18)"
    yield from ("", "## Why (Art. 15(1)(a) and (b))", "")
    yield from _rows(
        ("purpose", "legal basis", "data", "answered for by", "reached at"),
        (
            (a.purpose, ", ".join(a.bases), ", ".join(a.data), a.controller, a.controller_contact)
            for a in made.purposes
        ),
    )
    yield from ("", f"Never kept: {made.never_kept}.", "", "## Who receives it (Art. 15(1)(c))", "")
    yield from _rows(
        ("recipient", "what it is", "place", "country", "law", "what a transfer rests on"),
        (
            (r.id, r.kind, r.place, r.country, r.under, r.transfer or "none: inside the EEA")
            for r in made.recipients
        ),
    )
    yield from ("", "## For how long (Art. 15(1)(d))", "")
    for each in made.limits:
        most = "no end" if each.max_days is None else f"{each.max_days} days"
        yield f"- {each.id}: {each.min_days} days at least, {most} at most. {each.because}"
    yield from (f"- kept for longer by {hold}, a legal hold" for hold in made.holds)
    yield from ("", "## Your rights, the source, and automated decisions", "")
    yield from (f"- You have the right {made.rights}.", f"- Source: {made.source}.")
    yield from (f"- Automated decisions: {made.automated}.", "", "## The records", "")
    yield from _rows(
        ("when", "record", "what it is", "purpose", "basis", "kept until", "yours to take", "says"),
        map(_row, made.entries),
    )
    yield from ("", "## What is not known", "")
    yield from (f"- {each}" for each in made.unknown or ("nothing",))


def _row(each: Entry) -> tuple[str, ...]:
    said = ", ".join(f"{name} {value}" for name, value in each.said.items())
    until = f"the end of {each.hold}" if each.hold else each.until or "nothing says"
    portable = "yes" if each.portable else "no"
    return each.at[:19], each.record, each.what, each.purpose, each.basis, until, portable, said


def _rows(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        cells = (cell.replace("|", "\\|").replace("\n", " ") for cell in row)
        yield f"| {' | '.join(cells)} |"
