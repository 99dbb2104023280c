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
    """Load every file, and say on which line it fails; ask the cases of the access rules.

    Exit 1 when the access rules answer a case otherwise than it says.
    """
    from sovereign.cli import policy_exceptions as excepting  # they need this module, too
    from sovereign.cli.access import differing_cases, show_cases

    where = home_of(home)
    policy = policy_of(where, profile, policies)
    wrong, standing = differing_cases(policy), excepting.standing(where, policy)
    counts = {
        "places": len(policy.places),
        "rules": len(policy.residency),
        "models": len(policy.models),
        "controls": len(policy.controls),
        "access_rules": len(policy.access.rules),
        "access_cases": len(policy.access.cases),
    }
    named = {"profile": policy.profile, "digest": policy.digest}
    if as_json:
        give({"ok": not wrong, **named, **counts, "differing": wrong, "exceptions": standing})
    else:
        show_cases(wrong)
        verdict = "differs" if wrong else "ok"
        said = (f"{number} {what.replace('_', ' ')}" for what, number in counts.items())
        say(f"{verdict}: {', '.join(said)}")
        facts(named)
        excepting.show(standing)
    raise typer.Exit(1 if wrong else 0)


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
    """The rules in force: residency, access and retention."""
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
        access = [
            {"id": r.id, "effect": r.effect, "because": r.because, "source": r.source}
            for r in policy.access.rules
        ]
        kept = list(policy.retention.values())
        give({**name, "residency": rules, "retention": kept, "access": access})
        return
    facts({"profile": policy.profile, "digest": policy.digest})
    table(("rule", "kind", "because"), [(r["id"], r["kind"], r["because"]) for r in rules])
    table(
        ("access rule", "effect", "because"),
        [(rule.id, rule.effect, rule.because) for rule in policy.access.rules],
    )
    table(
        ("kept", "at least", "at most", "because"),
        [
            (kept.id, f"{kept.min_days} d", f"{kept.max_days} d", kept.because)
            for kept in policy.retention.values()
        ],
    )
