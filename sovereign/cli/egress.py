"""`sovereign egress …`: what this site may connect to, and what it tried. Changes no firewall."""

import pwd
import sys
from pathlib import Path
from typing import Annotated

import typer

from sovereign.cli.output import HomeOption, JsonFlag, give, home_of, policy_of, say, table
from sovereign.egress import declared, firewall, flows, pins, ruleset, shapes, site
from sovereign.egress.plan import Gap, Opening
from sovereign.egress.site import Site
from sovereign.policy import Policy
from sovereign.registry import utcnow

app = typer.Typer(help="What this site may connect to, and what it tried.", no_args_is_help=True)
ADDRESSES_MAX_CHARS = 1000
DestinationsOption = Annotated[
    str, typer.Option("--destinations", help="Another egress.yaml, or - for standard input.")
]


def _asked(home: Path | None, destinations: str = "") -> Site:
    where, said = home_of(home), None
    if destinations == "-":
        said = shapes.read_given(Path("standard input"), sys.stdin.buffer.read())
    elif destinations:
        said = shapes.read_given(Path(destinations))
    return site.of(where, policy_of(where), utcnow(), said)


@app.command("plan")
def plan_(
    destinations: DestinationsOption = "", home: HomeOption = None, as_json: JsonFlag = False
) -> None:
    """What would be opened, and what not and why. Exit 1 when something is refused, 3 on a gap."""
    asked = _asked(home, destinations)
    opened, why = [_opening(each) for each in asked.plan.openings], {g.why for g in asked.plan.gaps}
    if as_json:
        give({"openings": opened, **_text(asked)})
    else:
        columns = ("unit", "dependency", "to", "name")
        table(columns, [[row[name] for name in columns] for row in opened])
        for gap in asked.plan.gaps:
            say(f"{gap.why:<12}{gap.dependency} {gap.to} {gap.rule}".rstrip())
        if not asked.users:
            say("services run as one user here: each may use what any of them may")
    raise typer.Exit(1 if "refused" in why else 3 if why else 0)


def _text(asked: Site) -> dict[str, object]:
    """What a host is given, and what is declared and left out of it."""
    units = ruleset.drop_ins(asked.plan, asked.users)
    gaps = [{name: getattr(gap, name) for name in Gap.__slots__} for gap in asked.plan.gaps]
    return {"gaps": gaps, "ruleset": asked.text, "drop_ins": units}


def _opening(each: Opening) -> dict[str, str]:
    return {name: getattr(each, name) for name in ("unit", "dependency", "to", "name")}


@app.command("ruleset")
def ruleset_(
    destinations: DestinationsOption = "", home: HomeOption = None, as_json: JsonFlag = False
) -> None:
    """The table for `nft --file`, of what the plan opens. Nothing is loaded."""
    asked = _asked(home, destinations)
    if as_json:
        give(_text(asked))
    else:
        say(asked.text.rstrip())


@app.command()
def pin(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be pinned; write nothing.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Resolve the names of what is allowed and keep their addresses, with a record of each."""
    asked = _asked(home)
    names = declared.names(asked.declared)
    resolved = pins.resolve(names)
    changed = pins.changes(asked.pins, resolved)
    silent = [name for name in names if not resolved[name]]
    if not dry_run and changed:
        _record(asked, changed)
    kept = pins.renewed(asked.pins, names, resolved, utcnow())
    if not dry_run and kept != asked.pins:
        pins.write(asked.home.root / pins.FILE_NAME, kept)
    if as_json:
        give({"dry_run": dry_run, "pinned": [_change(c) for c in changed], "silent": silent})
    else:
        for each in changed:
            say(f"{each.name}: {', '.join(each.now)} (before: {', '.join(each.pinned) or 'none'})")
        for name in silent:
            say(f"{name}: nothing answers; what was pinned stands")
        say(f"{len(changed)} of {len(names)} names {'would be ' if dry_run else ''}pinned anew")
    raise typer.Exit(3 if silent else 0)


def _record(asked: Site, changed: tuple[pins.Change, ...]) -> None:
    """Recorded before they are in force."""
    from sovereign.cli.audit_args import deployed
    from sovereign.supervisor.deployment import operator_trail

    deployed(asked.home.root)
    with operator_trail(asked.home, ("evidence",)) as log:
        for each in changed:
            log.record(
                "egress-pinned",
                name=each.name,
                addresses=" ".join(each.now)[:ADDRESSES_MAX_CHARS],
                before=" ".join(each.pinned)[:ADDRESSES_MAX_CHARS],
                policy=asked.policy.digest,
            ).result()


def _change(each: pins.Change) -> dict[str, object]:
    return {"name": each.name, "before": list(each.pinned), "now": list(each.now)}


@app.command()
def diff(home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """Names that lead elsewhere than pinned, and how the loaded rules differ. Exit 1 if any."""
    asked = _asked(home)
    changed = pins.changes(asked.pins, pins.resolve(declared.names(asked.declared)))
    missing = firewall.lacking()
    lines = [] if missing else _differences(asked)
    if as_json:
        names = [_change(each) for each in changed]
        give({"names": names, "ruleset": lines, "unknown": missing})
    else:
        for each in changed:
            added, gone = " +".join(("", *each.added)), " -".join(("", *each.gone))
            say(f"{each.name}:{added}{gone}")
        for line in lines:
            say(line)
        for lack in missing:
            say(f"unknown  the loaded ruleset cannot be read: it lacks {lack}")
    raise typer.Exit(1 if changed or lines else 3 if missing else 0)


def _differences(asked: Site) -> list[str]:
    """All of the plan, where nothing is loaded."""
    found = site.differences(asked)
    return [f"+ {line}" for line in asked.text.splitlines()] if found is None else found


@app.command()
def check(home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """Whether this host enforces exactly the plan. Asks no resolver. Exit 3 where it cannot see."""
    asked = _asked(home)
    firewall.need()
    lines = _differences(asked)
    gaps = [f"{gap.dependency}: {gap.why}" for gap in asked.plan.gaps]
    if as_json:
        give({"enforced": not lines, "ruleset": lines, "gaps": gaps})
    else:
        say("the plan is enforced" if not lines else "the loaded rules are not the plan")
        for line in (*lines, *gaps):
            say(f"  {line}")
    raise typer.Exit(1 if lines else 3 if gaps else 0)


@app.command()
def report(
    names: Annotated[
        bool,
        typer.Option("--names", help="Resolve the names of the policy, to say whom."),
    ] = False,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """What was tried since the rules were loaded, against what is declared. Exit 1 on a finding."""
    asked = _asked(home)
    units = {_uid(user): str(unit) for unit, user in asked.users.items()}
    opened, denied = firewall.tries("opened"), firewall.tries("denied")
    found = flows.compare(asked.plan, opened, denied, units, _known(asked.policy, resolve=names))
    rows = [{name: getattr(each, name) for name in flows.Flow.__slots__} for each in found]
    if as_json:
        give({"flows": rows})
    else:
        columns = ("verdict", "unit", "user", "dependency", "to", "packets", "outcome")
        table(columns, [[row[name] for name in columns] for row in rows])
    raise typer.Exit(1 if any(each.verdict == flows.FINDING for each in found) else 0)


def _uid(user: str) -> int:
    return int(user) if user.isdigit() else pwd.getpwnam(user).pw_uid


def _known(policy: Policy, *, resolve: bool) -> dict[str, str]:
    """Which dependency of the policy an address is, as far as its file says or its name leads."""
    hosts: dict[str, str] = {}
    for each in policy.dependencies.values():
        for address in each.addresses:
            hosts.setdefault(address.rpartition(":")[0].strip("[]"), each.id)
    found = {host: name for host, name in hosts.items() if shapes.network_of(host) is not None}
    if resolve:
        led = pins.resolve(host for host in hosts if host not in found)
        found |= {address: hosts[name] for name, to in led.items() for address in to}
    return found
