"""`sovereign policy exceptions|sign|except|unexcept`: let one place do something for some days.

An exception is signed by the role that approves it, with a key of its own whose public half is
pinned on the site: `trust/approvers/ROLE.vkey`. What is expired, unsigned, or not allowed by the
policy is as if it were not there, and is said so.
"""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from sovereign.audit import excepting
from sovereign.audit.note import SignerKey
from sovereign.cli.output import HomeOption, JsonFlag, facts, give, home_of, policy_of, say, table
from sovereign.cli.policy_change import DryOption, WhyOption
from sovereign.errors import BadInput, UnknownName
from sovereign.policy import Policy, excepted
from sovereign.policy.kept import remember, written
from sovereign.policy.shapes import SiteException
from sovereign.registry import utcnow
from sovereign.settings import Home
from sovereign.supervisor import policychange as changing

EXCEPTED, ENDED = "excepted", "exception-ended"
FileArgument = Annotated[Path, typer.Argument(help="The file of the exception.")]


def add_to(app: typer.Typer) -> None:
    """Hang the commands on `sovereign policy`."""
    app.command()(exceptions)
    app.command()(sign)
    app.command("except")(except_)
    app.command()(unexcept)


def exceptions(home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """Every exception here, whether it holds today, and if not, why."""
    where = home_of(home)
    rows = standing(where, policy_of(where))
    if as_json:
        give({"exceptions": rows})
        return
    say(f"{sum(row['state'] == 'in-force' for row in rows)} in force")
    if rows:
        columns = ("exception", "state", "place", "until", "approver", "says")
        table(columns, [[row.get(name, "") for name in columns] for row in rows])


def sign(
    file: FileArgument,
    key: Annotated[Path, typer.Option(help="The private key of the approver.")],
    new_key_of: Annotated[
        str, typer.Option(help="Make the key first, for this role; its public half is shown.")
    ] = "",
    as_json: JsonFlag = False,
) -> None:
    """Sign an exception as its approver. Needs no site: do it where the approver keeps the key."""
    if new_key_of:
        _make(key, new_key_of)
    try:
        signer, raw = SignerKey.parse(key.read_text()), file.read_bytes()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{key} or {file} cannot be read", found=str(error)) from None
    to = file.with_name(file.name + excepting.SIGNED)
    written(to, excepting.signature(raw, signer))
    said = {"signature": str(to), "vkey": str(signer.verifier)}
    if as_json:
        give(said)
        return
    facts(said)
    say(f"  pin the vkey on the site as trust/approvers/{signer.name}{excepting.PIN}")


def except_(
    file: FileArgument,
    reason: WhyOption = "",
    home: HomeOption = None,
    dry_run: DryOption = False,
    as_json: JsonFlag = False,
) -> None:
    """Put a signed exception in force; recorded. Its signature lies beside it, as FILE.sig."""
    where = home_of(home)
    policy = policy_of(where)
    found = excepting.judged(file, where.approvers)
    each = found.exception
    fault = found.fault if each is None else _fault(policy, each)
    if each is None or fault:
        raise BadInput(f"{file} is no exception here", found=fault, accepted="see docs/formats")
    _reason(policy, reason)
    to = where.exceptions_folder / f"{each.id}.yaml"
    if to.exists():
        raise BadInput(
            f"{each.id} is here already", next_step=f"sovereign policy unexcept {each.id}, first"
        )
    beside = file.with_name(file.name + excepting.SIGNED)

    def place() -> None:
        where.exceptions_folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        written(to.with_name(to.name + excepting.SIGNED), beside.read_bytes())
        written(to, file.read_bytes())

    new = policy.digest if dry_run else ""
    record = "" if dry_run else _recorded(where, policy, EXCEPTED, reason, each, (each,), place)
    _said(each, record, new, as_json=as_json)


def unexcept(
    name: Annotated[str, typer.Argument(help="Id of the exception.")],
    reason: WhyOption = "",
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """End an exception before its day; recorded."""
    where = home_of(home)
    policy = policy_of(where)
    found = {each.id: each for each in where.exceptions}
    if name not in found:
        raise UnknownName(f"{name!r} is no exception here", accepted=", ".join(sorted(found)))
    _reason(policy, reason)
    (path,) = [
        each.path
        for each in excepting.read(where.exceptions_folder, where.approvers)
        if each.exception is not None and each.exception.id == name
    ]
    record = _recorded(where, policy, ENDED, reason, found[name], (), path.unlink)
    _said(found[name], record, "", as_json=as_json)


# --- what others show, too -------------------------------------------------------------------


def standing(home: Home, policy: Policy) -> list[dict[str, Any]]:
    """Every file of the exceptions with its state: in-force, not-yet, expired, or not-counted."""
    today = utcnow().date()
    rows: list[dict[str, Any]] = []
    for found in excepting.read(home.exceptions_folder, home.approvers):
        each = found.exception
        fault = found.fault if each is None else _fault(policy, each)
        if each is None or fault:
            name = found.path.stem if each is None else each.id
            rows.append({"exception": name, "state": "not-counted", "says": fault})
            continue
        late, early = today >= each.until, today < each.from_
        state = "expired" if late else "not-yet" if early else "in-force"
        rows.append(
            {
                "exception": each.id,
                "state": state,
                "place": each.place,
                "data": list(each.data),
                "verbs": list(each.verbs),
                "rules": list(each.rules),
                "from": each.from_.isoformat(),
                "until": each.until.isoformat(),
                "approver": each.approver,
                "says": each.because,
            }
        )
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """A line each, for reports that are about something else."""
    for row in rows:
        until = f" until {row['until']}" if "until" in row else ""
        say(f"exception {row['exception']}: {row['state']}{until}: {row['says']}")


# --- doing -----------------------------------------------------------------------------------


def _fault(policy: Policy, each: SiteException) -> str:
    return excepted.fault(each, policy.residency, policy.data, policy.audit.changes)


def _reason(policy: Policy, reason: str) -> None:
    known = [each.id for each in policy.audit.changes.reasons]
    if reason not in known:
        raise UnknownName(
            f"{reason!r} is no reason to change the policy", accepted=", ".join(known)
        )


def _recorded(
    home: Home,
    policy: Policy,
    verb: str,
    reason: str,
    each: SiteException,
    added: tuple[SiteException, ...],
    change: Any,
) -> str:
    """Record it, then do it; the name of the record."""
    left = [e for e in home.exceptions if e.id != each.id]
    new = changing.load_excepting(home, (*left, *added))
    remember(home.root, new.policy.digest, new.text)
    said = changing.Change(
        old=policy.digest,
        new=new.policy.digest,
        profile=policy.profile,
        verb=verb,
        reason=reason,
        approver=each.approver if verb == EXCEPTED else "",
        loosened=len(added),
        possible=0,
        impossible=0,
    )
    return changing.recorded(home, said, change)


def _make(path: Path, name: str) -> None:
    if path.exists():
        raise BadInput(f"{path} is there already", accepted="a file that is not there yet")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(SignerKey.generate(name).dump())


def _said(each: SiteException, record: str, dry: str, *, as_json: bool) -> None:
    said = {"exception": each.id, "place": each.place, "until": each.until.isoformat()}
    if as_json:
        give({**said, "record": record, "dry_run": bool(dry)})
        return
    facts({**said, "record": record or "none: this was a dry run"})
