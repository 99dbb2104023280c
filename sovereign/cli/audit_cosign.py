"""`sovereign audit cosign` and `timestamp`: ask others now; and what they said, for `verify`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sovereign import fleet, outside
from sovereign.audit.log import utcnow
from sovereign.audit.note import VerifierKey
from sovereign.audit.proof import Proven
from sovereign.audit.scan import Read
from sovereign.audit.witnesses import cosignature, cosigned, tlog_policy
from sovereign.audit.witnesses.cosignature import CosignerKey
from sovereign.audit.witnesses.witnessed import Standing
from sovereign.cli.audit_args import deployed
from sovereign.cli.output import HomeOption, JsonFlag, give, policy_of, say, table, write_file
from sovereign.outside import Outside
from sovereign.settings import Home

if TYPE_CHECKING:
    from sovereign.controller.cosign import Asked

NOBODY = "nobody is configured: see witnesses and timestamps in the policy's rules/audit.yaml"
NOT_ANSWERED = 3
AHEAD = "witness-ahead"


def add_to(app: typer.Typer) -> None:
    """Hang the commands on `sovereign audit`."""
    app.command()(cosign)
    app.command("timestamp")(timestamp_)
    app.command("tlog-policy")(tlog_policy_)


def cosign(home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """Ask every witness of the policy to cosign every log now.

    Exit 1 when a witness has seen more of a log than there is, or another history; 3 when one
    did not answer, or none is configured.
    """
    from sovereign.controller.cosign import Cosigning

    where = deployed(home)
    policy = policy_of(where)
    cosigning = Cosigning(where, policy)
    asked = cosigning.run(utcnow(), only_due=False, stamps=False)
    _end(asked, bool(policy.audit.witnesses.known), as_json=as_json)


def timestamp_(home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """Have every time-stamping authority of the policy certify every log's checkpoint now.

    Exit 3 when one gave no good token, or none is configured.
    """
    from sovereign.controller.cosign import Cosigning

    where = deployed(home)
    policy = policy_of(where)
    cosigning = Cosigning(where, policy)
    asked = cosigning.run(utcnow(), only_due=False, witnesses=False)
    _end(asked, bool(policy.audit.timestamps.authorities), as_json=as_json)


def tlog_policy_(
    output: Annotated[Path | None, typer.Option(help="Write it here.")] = None,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """The quorum of the policy and this site's logs, for other people's verifiers (tlog-policy)."""
    where = deployed(home)
    keys = [member.vkey for member in fleet.members(where) if member.vkey is not None]
    text = tlog_policy.render(policy_of(where).audit.witnesses, keys)
    if output is not None:
        write_file(output, text.encode())
    if as_json:
        give({"tlog_policy": text})
    else:
        say(f"written {output}" if output is not None else text.removesuffix("\n"))


def _end(asked: "tuple[Asked, ...]", configured: bool, *, as_json: bool) -> None:
    if as_json:
        give(
            {
                "configured": configured,
                "asked": [
                    {
                        "origin": each.origin,
                        "asked": each.who,
                        "size": each.size,
                        "code": each.code or None,
                        "reason": each.reason or None,
                    }
                    for each in asked
                ],
            }
        )
    elif not configured:
        say(NOBODY)
    else:
        table(
            ("log", "asked", "records", "answer"),
            [
                (e.origin, e.who, e.size, f"{e.code}: {e.reason}" if e.code else "good")
                for e in asked
            ],
        )
    if any(each.code == AHEAD for each in asked):
        raise typer.Exit(1)
    if not configured or any(each.code for each in asked):
        raise typer.Exit(NOT_ANSWERED)


def reading(home: Home, member: fleet.Member, index: int | None) -> Read:
    """How a log is read for a proof: as it is, or as others last signed it, beyond `index`."""
    read = fleet.reader(member.folder)
    if index is None:
        return read
    return cosigned.as_cosigned(
        read, cosigned.folder_of(home.trust, member.writer, member.stream), index
    )


def if_witnessed(shown: Proven | None, proof: bytes, witnesses: list[str]) -> Proven | None:
    """What a proof shows, None when one of these witnesses has not signed its checkpoint."""
    keys = [CosignerKey.parse(each) for each in witnesses]
    signed = proof.partition(b"\n\n")[2]
    return shown if all(cosignature.read(signed, key) for key in keys) else None


Joined = tuple[tuple[fleet.Result, ...], tuple[Outside, ...]]


def with_outside(home: Home, results: tuple[fleet.Result, ...], policies: Path | None) -> Joined:
    """What `verify` found, with what the policy misses in the word of others added to it."""
    return _joined(results, outside.standings(home, policy_of(home, root=policies), utcnow()))


def with_given(
    home: Home,
    results: tuple[fleet.Result, ...],
    policies: Path,
    keys: list[VerifierKey],
    notes: list[bytes],
) -> Joined:
    """The same for logs that were handed over, by the cosigned checkpoints given with them.

    Judged are the logs whose keys were given: of a key out of a register nobody outside spoke.
    """
    policy, now = policy_of(home, root=policies), utcnow()
    named = {key.name: key for key in keys}
    seen = [
        outside.standing_of(fleet.read_of(result.folder), named[result.origin], notes, policy, now)
        for result in results
        if result.origin in named and result.determined
    ]
    return _joined(results, tuple(seen))


def _joined(results: tuple[fleet.Result, ...], seen: tuple[Outside, ...]) -> Joined:
    named = {each.origin: each.findings for each in seen}
    joined = tuple(replace(r, findings=(*r.findings, *named.get(r.origin, ()))) for r in results)
    return joined, seen


def as_facts(seen: tuple[Outside, ...]) -> list[dict[str, Any]]:
    """For `--json`: the state of each log's witnesses and time stamps, and who said what."""
    return [
        {
            "origin": each.origin,
            **{
                name: {
                    "state": standing.state.value,
                    "found": standing.found,
                    "held_at": standing.at.isoformat() if standing.at else None,
                    "said": [
                        {
                            "id": said.id,
                            "organisation": said.organisation,
                            "own": said.own,
                            "at": said.at.isoformat(),
                            "size": said.size,
                        }
                        for said in standing.said
                    ],
                }
                for name, standing in (
                    ("witnesses", each.witnesses),
                    ("timestamps", each.timestamps),
                )
            },
        }
        for each in seen
    ]


def show_outside(seen: tuple[Outside, ...]) -> None:
    """One line each for witnesses and time stamps, however many logs there are."""
    pick: tuple[tuple[str, Callable[[Outside], Standing]], ...] = (
        ("witnesses", lambda each: each.witnesses),
        ("time stamps", lambda each: each.timestamps),
    )
    for name, of in pick:
        states: dict[str, list[Standing]] = {}
        for each in seen:
            states.setdefault(of(each).state.value, []).append(of(each))
        told = [
            f"{state} for {len(those)} of {len(seen)} logs ({those[0].found})"
            for state, those in sorted(states.items())
        ]
        if told:
            say(f"{name}: {'; '.join(told)}")
