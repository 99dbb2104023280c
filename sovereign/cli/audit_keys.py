"""`sovereign audit key …`: which keys sign the logs of this site, and replacing them."""

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from sovereign import fleet
from sovereign.audit import trail
from sovereign.audit.keys import custody, handover, rotation
from sovereign.audit.keys.handover import FILE, Rotated, Site
from sovereign.audit.record import STREAMS
from sovereign.audit.trail import WRITERS
from sovereign.cli.audit_args import deployed
from sovereign.cli.output import HomeOption, JsonFlag, give, home_of, say, table
from sovereign.errors import BadInput, LogKeyUnusable, LogLocked, SovereignError, UnknownName
from sovereign.settings import Home

app = typer.Typer(help="Keys that sign the audit logs: list, make, replace.", no_args_is_help=True)
WriterOption = Annotated[str, typer.Option(help="gateway, controller or operator.")]
StreamOption = Annotated[
    list[str] | None, typer.Option(help="event, security or evidence; all of them by default.")
]
MakeOption = Annotated[
    bool, typer.Option("--make", help="Make the key in its token, if it is not there yet.")
]
SourceArgument = Annotated[
    str, typer.Argument(help="credential:NAME, env:SOVEREIGN_LOG_KEY_NAME or pkcs11:URI.")
]


class Why(StrEnum):
    """Why a key is replaced; `suspected`: somebody else may know the old one."""

    SCHEDULED = "scheduled"
    SUSPECTED = "suspected"
    MOVED = "moved"


def add_to(audit: typer.Typer) -> None:
    """Hang the commands on `sovereign audit`."""
    audit.add_typer(app, name="key")


@app.command("list")
def list_(home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """Every log, the key that signs it, where that comes from, and the keys it had before."""
    where = deployed(home)
    logs = [_listed(where, member) for member in fleet.members(where)]
    if as_json:
        give({"logs": logs})
        return
    table(
        ("log", "from", "earlier keys", "signing key"),
        [
            (log["log"], log["from"], len(log["earlier"]), log["vkey"] or "none is pinned")
            for log in logs
        ],
    )
    for log in logs:
        if log["rotation"] != "none":
            say(f"{log['log']}: {log['rotation']}; sovereign audit key rotate ends it")


def _listed(home: Home, member: fleet.Member) -> dict[str, Any]:
    site = _site(home, member.writer, member.stream)
    known = rotation.history(site.log.read, member.vkey) if member.vkey else None
    return {
        "log": member.origin,
        "vkey": None if member.vkey is None else str(member.vkey),
        "from": _said_source(site),
        "rotation": _pending(site),
        "earlier": [
            {"vkey": str(each.old), "until": each.index}
            for each in (known.handovers if known else ())
        ],
    }


def _said_source(site: Site) -> str:
    """Where the key comes from; an auditor may not read it, and need not."""
    try:
        return site.source() or "not here"
    except (LogKeyUnusable, PermissionError) as error:
        return "exposed" if isinstance(error, LogKeyUnusable) else "not readable"


def _pending(site: Site) -> str:
    try:
        return "none" if site.source(handover.NEXT) is None else "a rotation was cut short"
    except (LogKeyUnusable, PermissionError):
        return "none"


@app.command()
def rotate(
    writer: WriterOption,
    stream: StreamOption = None,
    to: Annotated[
        str,
        typer.Option(
            help="Where the new key comes from: file (it is made), or as `key use` takes."
        ),
    ] = FILE,
    why: Annotated[Why, typer.Option(help="Recorded in the log.")] = Why.SCHEDULED,
    make: MakeOption = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Replace the key of a log by one that the old key vouches for, in the log itself.

    Only while the writer does not run. Whoever pinned the old key follows to the new one; the
    old private key, if it was a file, is destroyed. Run again, it ends a rotation that was cut
    short, and begins no other.
    """
    where = deployed(home)
    done = []
    _made(to, make=make, dry=dry_run)
    for name in _streams(writer, stream):
        site = _site(where, writer, name)
        try:
            done.append(
                handover.plan(site, FILE if make else to)
                if dry_run
                else handover.rotate(site, to, why.value, lambda: datetime.now(UTC))
            )
        except SovereignError as error:
            for each in done if not as_json else ():
                _tell(each, dry=dry_run)
            raise _stopped(error, writer) from None
    if as_json:
        give({"dry_run": dry_run, "rotated": [_as_facts(each) for each in done]})
        return
    for each in done:
        _tell(each, dry=dry_run)


def _made(source: str, *, make: bool, dry: bool) -> None:
    """Make the key in its token. It never comes out, and one that is there stays as it is."""
    if make and not source.startswith(custody.TOKEN):
        raise BadInput(f"{source[:80]!r} is in no token", accepted="--make with a pkcs11: URI")
    if make and not dry:
        from sovereign.audit.witnesses import token

        token.make(source, custody.secret_of)


def _stopped(error: SovereignError, writer: str) -> SovereignError:
    """A writer that runs has a command that stops it."""
    if isinstance(error, LogLocked):
        error.found = f"a running {writer}"
        error.next_step = (
            f"stop it: sovereign down, or systemctl stop sovereign-{writer}; then run this again"
            if writer != "operator"
            else "another command of the operator's is at work; run this again"
        )
    return error


def _tell(each: Rotated, *, dry: bool) -> None:
    if dry:
        end = "would end the rotation that was begun" if each.resumed else "would be replaced"
        say(f"{each.origin}: {end}\n  old      {each.old}\n  new      {each.new}")
        return
    end = "the rotation that was begun is done" if each.resumed else "replaced"
    say(
        f"{each.origin}: {end} at #{each.index}\n  old      {each.old}\n  new      {each.new}\n"
        "  next     give the new key to whoever verifies this log; the old one leads to it"
    )


def _as_facts(each: Rotated) -> dict[str, Any]:
    return {
        "log": each.origin,
        "old": each.old,
        "new": each.new,
        "record": None if each.index is None else f"{each.origin}#{each.index}",
        "resumed": each.resumed,
    }


@app.command()
def use(
    source: SourceArgument,
    writer: WriterOption,
    stream: Annotated[str, typer.Option(help="event, security or evidence.")],
    make: MakeOption = False,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Let a log that does not exist yet be signed with a key from elsewhere.

    Afterwards `sovereign audit create`. The key of a log that exists is replaced with
    `sovereign audit key rotate --to`.
    """
    where = home_of(home)
    (name,) = _streams(writer, [stream])
    site = _site(where, writer, name)
    if site.source() is not None:
        raise BadInput(
            f"{site.origin} has a key already",
            found=site.source() or "",
            next_step=f"sovereign audit key rotate --writer {writer} --stream {name} --to …",
        )
    _made(source, make=make, dry=False)
    where.keys.mkdir(parents=True, exist_ok=True)
    vkey = str(handover.settle_source(site, source))
    if as_json:
        give({"log": site.origin, "vkey": vkey, "from": source})
        return
    say(f"{site.origin} will be signed with {vkey}")


def _streams(writer: str, chosen: list[str] | None) -> Iterator[str]:
    if writer not in WRITERS:
        raise UnknownName(f"{writer!r} is no writer", accepted=", ".join(WRITERS))
    for name in chosen or STREAMS:
        if name not in STREAMS:
            raise UnknownName(f"{name!r} is no stream", accepted=", ".join(STREAMS))
        yield name


def _site(home: Home, writer: str, stream: str) -> Site:
    folder = home.audit / writer / stream
    origin = trail.origin_of(home.settings.site, writer, stream)
    return Site.of(folder, home.keys, home.trust, f"{writer}-{stream}", origin)
