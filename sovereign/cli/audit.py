"""`sovereign audit …`: create, verify and prove the audit logs.

Other verbs stand in modules of their own beside this one, each with an `add_to(app)` that
`sovereign/cli/tree.py` calls: `audit_read.py` (tail, search), `audit_export.py` (export).
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from sovereign import fleet
from sovereign.audit import proof, trail
from sovereign.audit.erasures import Rules
from sovereign.audit.trail import WRITERS
from sovereign.audit.verify import eraser_of
from sovereign.cli import audit_cosign, audit_exported, ruling
from sovereign.cli.audit_args import (
    VkeyOption,
    bytes_of,
    chosen,
    deployed,
    key_given,
    keys_given,
    place_given,
)
from sovereign.cli.output import (
    HomeOption,
    JsonFlag,
    facts,
    give,
    home_of,
    policy_of,
    say,
    table,
    write_file,
)
from sovereign.cli.ruling import PoliciesOption
from sovereign.errors import BadInput, KeyMissing, UnknownName
from sovereign.outside import Outside

app = typer.Typer(help="Create, read, verify and prove the audit logs.", no_args_is_help=True)


@app.command()
def create(
    writer: Annotated[list[str], typer.Option(help="gateway, controller or operator.")],
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Make the logs of a writer that are not there yet. Nothing else ever creates one."""
    where = home_of(home)
    made = {}
    for name in writer:
        if name not in WRITERS:
            raise UnknownName(f"{name!r} is no writer", accepted=", ".join(WRITERS))
        site = where.settings.site
        made[name] = trail.create(where.audit, where.keys, where.trust, name, site)
    if as_json:
        give({"created": made})
        return
    for name, new in made.items():
        say(f"{name}: {'created' if new else 'in place'} under {where.audit / name}")


@app.command()
def status(home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """Each log, its size, and the key it is verified with."""
    logs = fleet.statuses(deployed(home))
    if as_json:
        give({"logs": logs})
        return
    table(
        ("log", "records", "verifier key", "folder"),
        [(log["origin"], _known(log["size"]), _known(log["vkey"]), log["dir"]) for log in logs],
    )


@app.command("verify")
def verify_(
    folder: Annotated[
        list[str] | None,
        typer.Argument(help="Logs to verify: folders or URLs; by default this site's."),
    ] = None,
    vkey: Annotated[
        list[str] | None,
        typer.Option(help="Verifier key, or a file that holds one; may be repeated."),
    ] = None,
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="A checkpoint kept from earlier; may be repeated.")
    ] = None,
    part: Annotated[
        bool, typer.Option("--part", help="These are not all logs of their site; miss no other.")
    ] = False,
    policies: PoliciesOption = None,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Verify logs: 0 sound, 1 a finding, 3 not determined (no key was pinned).

    A key is never taken from a log's own folder. Without FOLDER every log of this site is
    verified with its pinned key; with FOLDERs, give the key that each must verify under. A log
    that entries were erased from is verified together with its site's controller/evidence,
    which holds the receipts. That log also holds the register of the site's logs: the other
    keys follow from its own, and when several are given, one that it names and that is not
    there is a finding. A URL is one that `sovereign audit serve` or any other C2SP tlog-tiles
    server answers. What `sovereign audit export` made is one FOLDER.

    Erasures and holds of this site are judged by its policy and the clock: what went too early
    or too late, what should be gone, and what is held. With FOLDERs, --policies says by which.
    """
    if folder and audit_exported.is_export(folder):
        given_vkeys, kept = vkey or [], checkpoint or []
        raise typer.Exit(audit_exported.verdict(folder[0], given_vkeys, kept, as_json=as_json))
    seen: tuple[Outside, ...] = ()
    if folder:
        judged = ruling.rules(home_of(home), policies) if policies else None
        results = _verify_folders(folder, vkey or [], checkpoint or [], judged, part=part)
        if policies:
            given = keys_given(vkey or []), [*map(bytes_of, checkpoint or [])]
            results, seen = audit_cosign.with_given(home_of(home), results, policies, *given)
    else:
        if vkey or checkpoint or part:
            raise BadInput(
                "--vkey, --checkpoint and --part belong to a FOLDER", accepted="a folder too"
            )
        results = ruling.of_site(deployed(home), policies)
        results, seen = audit_cosign.with_outside(home_of(home), results, policies)
    _show(results, seen, as_json=as_json)
    if any(result.findings for result in results):
        raise typer.Exit(1)
    if not results or not all(result.determined for result in results):
        raise typer.Exit(3)


@app.command()
def prove(
    record: Annotated[str, typer.Argument(help="ORIGIN#INDEX, as in x-sovereign-record.")],
    home: HomeOption = None,
    output: Annotated[Path | None, typer.Option(help="Write the proof here.")] = None,
    witnessed: Annotated[
        bool, typer.Option("--witnessed", help="Under the newest checkpoint that others signed.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """A self-contained proof of one record (C2SP tlog-proof), checked before it is given."""
    where = deployed(home)
    origin, _, number = record.rpartition("#")
    if not origin or not (number.isascii() and number.isdecimal()):
        raise BadInput(f"{record!r} names no record", accepted="ORIGIN#INDEX, as in tail")
    (member,) = chosen(where, origin)
    if member.vkey is None:
        raise KeyMissing(f"no key is pinned for {origin}", found=f"nothing in {where.trust}")
    read = audit_cosign.reading(where, member, int(number) if witnessed else None)
    proven = proof.prove(read, member.vkey, int(number))
    if output is not None:
        write_file(output, proven)
    if as_json:
        give({"record": record, "vkey": str(member.vkey), "proof": proven.decode()})
        return
    if output is None:
        say(proven.decode().removesuffix("\n"))
        return
    say(f"written {output}")
    named = policy_of(where).audit.witnesses.known if witnessed else ()
    keys = "".join(f" --witness {each.key}" for each in named if not each.own)
    facts({"to check it": f"sovereign audit check {output} --vkey {member.vkey}{keys}"})


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="What `sovereign audit prove` wrote.")],
    vkey: VkeyOption = None,
    witness: Annotated[
        list[str] | None,
        typer.Option(help="Verifier key of a witness that must have signed too; may be repeated."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check a proof offline: 0 and the record when it holds, 1 when it does not."""
    shown = proof.check(bytes_of(file), key_given(vkey))
    shown = audit_cosign.if_witnessed(shown, bytes_of(file), witness or [])
    if as_json:
        give({"ok": shown is not None, "record": _proven(shown)})
    elif shown is None:
        say("this proof does not hold under that key")
    else:
        say(f"ok: {shown.origin}#{shown.index}, in a log of {shown.size} records")
        say(shown.entry.decode())
    raise typer.Exit(0 if shown else 1)


def _proven(shown: proof.Proven | None) -> dict[str, object] | None:
    if shown is None:
        return None
    return {"origin": shown.origin, "index": shown.index, "entry": shown.entry.decode()}


def _verify_folders(
    folders: list[str],
    vkeys: list[str],
    kept: list[Path],
    rules: Rules | None,
    *,
    part: bool,
) -> tuple[fleet.Result, ...]:
    keys = keys_given(vkeys)
    places = [place_given(folder) for folder in folders]
    return fleet.verify_folders(places, keys, [bytes_of(path) for path in kept], rules, part=part)


def _show(results: tuple[fleet.Result, ...], seen: tuple[Outside, ...], *, as_json: bool) -> None:
    if as_json:
        logs = [_as_facts(result) for result in results]
        ok = all(log["state"] == "sound" for log in logs) and bool(logs)
        give({"ok": ok, "logs": logs, "outside": audit_cosign.as_facts(seen)})
        return
    table(
        ("log", "records", "erased", "state"),
        [(r.origin, r.size, r.erased, _state(r)) for r in results],
    )
    for result in results:
        for finding in result.findings:
            say(f"{result.origin}: {finding}")
        for note in result.notes:
            say(f"{result.origin}: {note}")
        for gap in result.open_gaps if not result.withheld else ():
            say(f"{result.origin}: {gap} are gone; only {eraser_of(result.origin)} can say why")
    audit_cosign.show_outside(seen)
    if any(result.findings for result in results):
        say("more: docs/runbooks/audit-finding.md")


def _as_facts(result: fleet.Result) -> dict[str, Any]:
    findings = [{"code": f.code, "where": f.where, "says": f.says} for f in result.findings]
    return {
        "origin": result.origin,
        "dir": str(result.folder),
        "size": result.size,
        "erased": result.erased,
        "state": _state(result),
        "findings": findings,
        "open_gaps": list(result.open_gaps),
        "notes": list(result.notes),
    }


def _state(result: fleet.Result) -> str:
    if result.findings:
        return "finding"
    if result.determined:
        return "sound"
    if result.withheld:
        return "not determined: entries are not served"
    return "not determined: " + ("erased entries" if result.open_gaps else "no pinned key")


def _known(value: object) -> str:
    return "unknown" if value is None else str(value)
