"""`sovereign audit export`: a folder for an auditor, recorded before it gets its name."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from sovereign import fleet
from sovereign.audit import proof
from sovereign.audit.exports import offline_verifier
from sovereign.audit.exports.export import Asked, Draft, Part, bundles_of
from sovereign.audit.keys import rotation
from sovereign.audit.remembered import Places
from sovereign.audit.search import Source
from sovereign.audit.trail import Recorded
from sovereign.audit.verify import eraser_of
from sovereign.audit.witnesses import cosigned
from sovereign.cli.audit_args import chosen, deployed, time_given
from sovereign.cli.audit_read import LogOption
from sovereign.cli.output import HomeOption, JsonFlag, facts, give, policy_of, say
from sovereign.cli.reading import BY, RECORDED_WITHIN_S, STREAM, ReasonOption, reason_of
from sovereign.errors import BadInput, KeyMissing, TileMissing
from sovereign.policy.kept import known_texts
from sovereign.policy.loader import texts
from sovereign.settings import Home
from sovereign.supervisor.deployment import operator_trail

RECORDER = f"operator/{STREAM}"


def add_to(app: typer.Typer) -> None:
    """Hang the command on `sovereign audit`."""
    app.command()(export)


def export(
    output: Annotated[Path, typer.Option(help="The folder to make; it may not hold anything.")],
    from_: Annotated[
        str, typer.Option("--from", help="From this time on: 2026-11-24T12:00:00Z, or 30d.")
    ] = "",
    to: Annotated[str, typer.Option("--to", help="Before this time; by default until now.")] = "",
    log: LogOption = None,
    reason: ReasonOption = "",
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Logs, keys, policies and an offline verifier in a folder that an auditor takes away.

    Give a --reason out of the policy's list; it is recorded with every log and the digest of the
    manifest, in the operator's security log, before the folder gets its name. The log with the
    receipts of erasures comes along. Exit 1 or 3: it was exported, and does not verify.
    """
    where = deployed(home)
    policy = policy_of(where)
    now = datetime.now(UTC)
    since, until = time_given(from_, now), time_given(to, now)
    if since is not None and until is not None and since >= until:
        raise BadInput(f"nothing lies between {from_} and {to}", accepted="--from before --to")
    named = reason_of(policy, reason)
    site = where.settings.site
    asked = Asked(site, since, until, named, policy.digest, now)
    parts = _parts(where, log or [], asked)
    with _drafted(Draft.begin(output, asked, parts)) as draft:
        earlier = known_texts(where.settings.policies, where.root)
        draft.write({**earlier, **texts(where.policies, where.own_places)})
        recorded = _recorded(where, draft)
        draft.finish(_proved(where, recorded[0]))
    pin = offline_verifier.fingerprint(output)
    verdict = offline_verifier.verify(output, pin, [], [])
    _show(output, pin, recorded, offline_verifier.told(verdict), as_json=as_json)
    raise typer.Exit(verdict.exit_code)


@contextmanager
def _drafted(draft: Draft) -> Iterator[Draft]:
    """A draft that leaves nothing unless it was finished."""
    try:
        yield draft
    except BaseException:
        draft.drop()
        raise


def _parts(home: Home, origins: list[str], asked: Asked) -> list[Part]:
    """The logs to export, and those without which they could not be verified.

    Raises:
        UnknownName: no log is called that.
        KeyMissing, TileMissing: nobody vouches for one of them. Nothing was exported.
    """
    known = {member.origin: member for member in fleet.members(home)}
    wanted = {m.origin: m for origin in origins or [""] for m in chosen(home, origin)}
    parts = [_part(home, member, asked, whole=True) for member in wanted.values()]
    beside = {eraser_of(origin) for origin in wanted} | {f"{asked.site}/{RECORDER}"}
    return [
        *parts,
        *(
            _part(home, known[origin], asked, whole=False)
            for origin in sorted(beside - wanted.keys())
            if origin in known
        ),
    ]


def _part(home: Home, member: fleet.Member, asked: Asked, *, whole: bool) -> Part:
    """One log as it stands now; what was kept of it is read first, so that it cannot be newer."""
    if member.vkey is None:
        raise KeyMissing(f"no key is pinned for {member.origin}", next_step="leave it out: --log")
    outside = cosigned.folder_of(home.trust, member.writer, member.stream)
    notes = Places.of(member.folder, member.vkey, home.trust).notes()
    kept = tuple(dict.fromkeys([*notes, *cosigned.everything(outside)]))
    read = fleet.reader(member.folder)
    history, raw = rotation.follow(read, member.vkey)
    signed = history.read(raw) if raw is not None else None
    if raw is None or signed is None:
        raise TileMissing(
            f"{member.origin} has no checkpoint that its pinned key signed",
            next_step="sovereign audit verify",
        )
    source = Source(member.origin, signed.size, read)
    first, last = bundles_of(source, asked.since, asked.until) if whole else (0, 0)
    stamped = {path.name: path.read_bytes() for path in _stamped(outside)}
    return Part(source, member.vkey, signed.root, raw, kept, first, last, stamped)


def _stamped(outside: Path) -> Iterator[Path]:
    """Time stamps, each with the checkpoint it is about; bounded as whoever keeps them bounds."""
    for token in sorted(outside.glob(f"*{cosigned.TOKEN}"))[: cosigned.FILES_MAX]:
        about = token.with_suffix(cosigned.STAMPED)
        if about.is_file():
            yield from (token, about)


def _recorded(home: Home, draft: Draft) -> list[Recorded]:
    """One record a log, acknowledged; what cannot be recorded is not exported."""
    with operator_trail(home, (STREAM,)) as log:
        waiting = [
            log.record(
                "log-exported",
                by=BY,
                reason=draft.asked.reason,
                log=part.origin,
                first=part.entries.start,
                count=len(part.entries),
                manifest=draft.manifest,
                policy=draft.asked.policy,
            )
            for part in draft.parts
        ]
        return [each.result(RECORDED_WITHIN_S) for each in waiting]


def _proved(home: Home, recorded: Recorded) -> bytes:
    """The proof of one of these records: whoever has the operator's key can tie it all to it."""
    (member,) = chosen(home, recorded.name.rpartition("#")[0])
    assert member.vkey is not None
    return proof.prove(fleet.reader(member.folder), member.vkey, recorded.index)


def _show(
    output: Path, pin: str, recorded: list[Recorded], verdict: dict[str, object], *, as_json: bool
) -> None:
    names = [each.name for each in recorded]
    if as_json:
        give({"output": str(output), "pin": pin, "records": names, "verdict": verdict})
        return
    for line in offline_verifier.lines(verdict):
        say(line)
    say(f"\nexported to {output}")
    facts(
        {
            "pin": pin,
            "recorded": names[0] + (f"-{recorded[-1].index}" if len(names) > 1 else ""),
            "to verify": f"python3 -I verify.py --pin {pin}",
            "tell": "the pin to the auditor on another way than the folder",
        }
    )
