"""`sovereign policy …`: what the policy says, and whether it can be loaded."""

from pathlib import Path
from typing import Annotated

import typer

from sovereign.cli.output import HomeOption, JsonFlag, facts, give, home_of, policy_of, say, table

app = typer.Typer(help="Check, show and name the policy.", no_args_is_help=True)
RootOption = Annotated[Path | None, typer.Option("--policies", help="A policy folder.")]
ProfileOption = Annotated[str | None, typer.Option(help="eea, immune or adequate.")]


@app.command()
def check(
    home: HomeOption = None,
    policies: RootOption = None,
    profile: ProfileOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Load every file; say on which line it fails."""
    policy = policy_of(home_of(home), profile, policies)
    counts = {
        "places": len(policy.places),
        "rules": len(policy.residency),
        "models": len(policy.models),
        "controls": len(policy.controls),
    }
    if as_json:
        give({"ok": True, "digest": policy.digest, "profile": policy.profile, **counts})
        return
    say(f"ok: {', '.join(f'{n} {what}' for what, n in counts.items())}")
    facts({"profile": policy.profile, "digest": policy.digest})


@app.command()
def digest(
    home: HomeOption = None,
    policies: RootOption = None,
    profile: ProfileOption = None,
    as_json: JsonFlag = False,
) -> None:
    """The name of this policy: the same on every machine."""
    policy = policy_of(home_of(home), profile, policies)
    if as_json:
        give({"digest": policy.digest, "profile": policy.profile})
        return
    say(policy.digest)


@app.command()
def show(
    home: HomeOption = None,
    policies: RootOption = None,
    profile: ProfileOption = None,
    as_json: JsonFlag = False,
) -> None:
    """The residency and retention rules in force."""
    policy = policy_of(home_of(home), profile, policies)
    rules = [
        {
            "id": rule.id,
            "kind": rule.kind,
            "verbs": sorted(rule.verbs),
            "data": sorted(rule.data),
            "countries": sorted(rule.countries),
            "under": sorted(rule.under),
            "because": rule.because,
            "source": rule.source,
        }
        for rule in policy.residency
    ]
    if as_json:
        name = {"digest": policy.digest, "profile": policy.profile}
        give({**name, "residency": rules, "retention": list(policy.retention.values())})
        return
    facts({"profile": policy.profile, "digest": policy.digest})
    table(("rule", "kind", "because"), [(r["id"], r["kind"], r["because"]) for r in rules])
    table(
        ("kept", "at least", "at most", "because"),
        [
            (kept.id, f"{kept.min_days} d", f"{kept.max_days} d", kept.because)
            for kept in policy.retention.values()
        ],
    )
