"""`sovereign audit …`: create, read, verify and prove the audit logs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sovereign import fleet
from sovereign.audit import proof, trail
from sovereign.audit.note import VerifierKey
from sovereign.audit.trail import WRITERS
from sovereign.audit.verify import eraser_of
from sovereign.cli.output import HomeOption, JsonFlag, facts, give, home_of, say, table
from sovereign.errors import BadInput, KeyMissing, NotDeployed, TileMissing, UnknownName
from sovereign.settings import Home

app = typer.Typer(help="Create, read, verify and prove the audit logs.", no_args_is_help=True)
VkeyOption = Annotated[
    str | None, typer.Option("--vkey", help="Verifier key, or a file that holds one.")
]
_SHOWN_MAX = 100_000


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
    logs = fleet.statuses(_deployed(home))
    if as_json:
        give({"logs": logs})
        return
    table(
        ("log", "records", "verifier key", "folder"),
        [(log["origin"], _known(log["size"]), _known(log["vkey"]), log["dir"]) for log in logs],
    )


@app.command()
def tail(
    home: HomeOption = None,
    log: Annotated[str, typer.Option(help="Only the log with this origin.")] = "",
    number: Annotated[
        int, typer.Option("--number", "-n", min=1, max=_SHOWN_MAX, help="Records of each log.")
    ] = 10,
    as_json: JsonFlag = False,
) -> None:
    """The newest records, oldest first. With --json, one record a line."""
    rows = []
    for member in _chosen(_deployed(home), log):
        size = fleet.size_of(member) or 0
        for index, fields in fleet.records(member, max(0, size - number), size):
            rows.append((f"{member.origin}#{index}", fields))
    rows.sort(key=lambda row: str(row[1]["at"]))
    if as_json:
        for name, fields in rows:
            _line({"record": name, **fields})
        return
    table(
        ("at", "record", "type", "says"),
        [(f["at"][:19], name, f["type"], _said(f)) for name, f in rows],
    )


@app.command("verify")
def verify_(
    folder: Annotated[
        list[Path] | None, typer.Argument(help="Logs to verify; by default this site's.")
    ] = None,
    vkey: Annotated[
        list[str] | None,
        typer.Option(help="Verifier key, or a file that holds one; one for each folder."),
    ] = None,
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="A checkpoint kept from earlier; may be repeated.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Verify logs: 0 sound, 1 a finding, 3 not determined (no key was pinned).

    A key is never taken from a log's own folder. Without FOLDER every log of this site is
    verified with its pinned key; with FOLDERs, give the key that each must verify under. A log
    that entries were erased from is verified together with its site's controller/evidence,
    which holds the receipts.
    """
    if folder:
        results = _verify_folders(folder, vkey or [], checkpoint or [])
    else:
        if vkey or checkpoint:
            raise BadInput("--vkey and --checkpoint belong to a FOLDER", accepted="a folder too")
        results = fleet.verify(_deployed(home))
    _show(results, as_json=as_json)
    if any(result.findings for result in results):
        raise typer.Exit(1)
    if not results or not all(result.determined for result in results):
        raise typer.Exit(3)


@app.command()
def prove(
    record: Annotated[str, typer.Argument(help="ORIGIN#INDEX, as in x-sovereign-record.")],
    home: HomeOption = None,
    output: Annotated[Path | None, typer.Option(help="Write the proof here.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """A self-contained proof of one record (C2SP tlog-proof), checked before it is given."""
    where = _deployed(home)
    origin, _, number = record.rpartition("#")
    if not origin or not (number.isascii() and number.isdecimal()):
        raise BadInput(f"{record!r} names no record", accepted="ORIGIN#INDEX, as in tail")
    (member,) = _chosen(where, origin)
    if member.vkey is None:
        raise KeyMissing(f"no key is pinned for {origin}", found=f"nothing in {where.trust}")
    proven = proof.prove(fleet.reader(member.folder), member.vkey, int(number))
    if output is not None:
        output.write_bytes(proven)
    if as_json:
        give({"record": record, "vkey": str(member.vkey), "proof": proven.decode()})
        return
    if output is None:
        say(proven.decode().removesuffix("\n"))
        return
    say(f"written {output}")
    facts({"to check it": f"sovereign audit check {output} --vkey {member.vkey}"})


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="What `sovereign audit prove` wrote.")],
    vkey: VkeyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Check a proof offline: 0 and the record when it holds, 1 when it does not."""
    shown = proof.check(_bytes(file), _key(vkey))
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
    folders: list[Path], vkeys: list[str], kept: list[Path]
) -> tuple[fleet.Result, ...]:
    keys = [_key(given) for given in vkeys or [""]]
    for folder in folders:
        if not folder.is_dir():
            raise BadInput(f"{folder} is no folder", accepted="the folder of a log")
    return fleet.verify_folders(folders, keys, [_bytes(path) for path in kept])


def _key(given: str | None) -> VerifierKey:
    if not given:
        raise KeyMissing(
            "nothing can be said without a pinned key",
            accepted="--vkey KEY, from somewhere else than the log's folder",
            next_step="sovereign audit status, on the machine of the log, shows its key",
        )
    path = Path(given)
    try:
        return VerifierKey.parse(path.read_text() if path.is_file() else given)
    except UnicodeDecodeError:
        raise BadInput(f"{path} holds no verifier key", accepted="one line of text") from None


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read", found=error.strerror or "") from None


def _show(results: tuple[fleet.Result, ...], *, as_json: bool) -> None:
    if as_json:
        logs = [_as_facts(result) for result in results]
        give({"ok": all(log["state"] == "sound" for log in logs) and bool(logs), "logs": logs})
        return
    table(
        ("log", "records", "erased", "state"),
        [(r.origin, r.size, r.erased, _state(r)) for r in results],
    )
    for result in results:
        for finding in result.findings:
            say(f"{result.origin}: {finding}")
        for gap in result.open_gaps:
            say(f"{result.origin}: {gap} are gone; only {eraser_of(result.origin)} can say why")
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
    }


def _state(result: fleet.Result) -> str:
    if result.findings:
        return "finding"
    if result.determined:
        return "sound"
    return "not determined: " + ("erased entries" if result.open_gaps else "no pinned key")


def _deployed(home: Path | None) -> Home:
    where = home_of(home)
    if not where.audit.exists() and not where.trust.exists():
        raise NotDeployed(f"there is no site under {where.root}", next_step="make deploy")
    return where


def _chosen(home: Home, origin: str) -> list[fleet.Member]:
    found = [m for m in fleet.members(home) if not origin or m.origin == origin]
    if not found:
        known = ", ".join(m.origin for m in fleet.members(home))
        raise (
            UnknownName(f"no log is called {origin!r}", accepted=known)
            if known
            else TileMissing(f"there is no log under {home.audit}")
        )
    return found


def _known(value: object) -> str:
    return "unknown" if value is None else str(value)


def _said(fields: dict[str, Any]) -> str:
    shown = {k: v for k, v in fields.items() if k not in ("v", "at", "salt", "type", "policy")}
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def _line(value: dict[str, Any]) -> None:
    import msgspec

    say(msgspec.json.encode(value).decode())
