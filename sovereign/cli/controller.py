"""`sovereign controller …`: what the next round would change, and who looks after the site."""

from dataclasses import asdict
from typing import Any

import typer

from sovereign.acknowledged import standing_or_none
from sovereign.attestation import standing
from sovereign.cli.output import HomeOption, JsonFlag, facts, give, home_of, policy_of, say, table
from sovereign.controller import lease
from sovereign.controller.observe import bounds, knock_at, knocking, look_at, looking, wanted
from sovereign.controller.past import Past
from sovereign.controller.plan import Plan
from sovereign.controller.plan import plan as planned
from sovereign.dependencies import judge, of_site
from sovereign.registry import Registry, utcnow

app = typer.Typer(help="Look at the loop without running it.", no_args_is_help=True)


@app.command()
def plan(home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """What a round of the controller would change now. Nothing is changed or recorded.

    Looks at every endpoint as the controller does, so it asks each engine for one token. Exit 1
    when an endpoint is to be shut or to stay shut.
    """
    where = home_of(home)
    policy, registry = policy_of(where), Registry(where.registry)
    snapshot = registry.snapshot()
    wait_s, asked_for = where.settings.controller.probe_timeout_s, wanted(where, policy)
    within = bounds(wait_s)
    probes, now = knock_at(asked_for, knocking(wait_s), within), utcnow()
    seen = look_at(asked_for, probes, looking(), within)
    touched = judge(policy, of_site(where, policy), now)
    looks = Past.out_of_the_log(where, now).looks(now)
    terms = standing_or_none(where, policy, *(each.model for each in asked_for))
    made = planned(
        *(policy, seen, snapshot, now, touched),
        licences=terms,
        places=standing.of_site(where, policy, now),
        looks=looks,
    )
    shut = sorted({each.id for each in asked_for} - made.well | set(made.waiting))
    holder = lease.holder_in(lease.path_of(where.registry))
    found = _shown(made) | {"shut": shut, "lease": None if holder is None else holder.number}
    if as_json:
        give(found)
    else:
        say(f"plan {made.number} under policy {policy.digest[:12]}, {len(made.steps)} steps")
        columns = ("number", "verb", "endpoint", "code", "reason")
        table(columns, [[step[name] for name in columns] for step in found["steps"]])
        facts({"shut after it": ", ".join(shut) or "none"})
        for name in made.waiting:
            say(f"  {name} looks well; it opens after {looks[name].needed} good looks in a row")
    raise typer.Exit(1 if shut else 0)


@app.command()
def host(home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """What this host says of itself: disk, clock, swap, core dumps, GPUs. Read-only.

    Judged by `host` of rules/audit.yaml. Exit 1 when one is not as it must be, 3 when one could
    not be seen: a host that shows no GPU has none, or one that nobody sees.
    """
    from sovereign.observations import judge as judging
    from sovereign.observations import seen

    where = home_of(home)
    judged = judging.judge(policy_of(where).audit.host, seen.look(where))
    verdicts = {each.verdict for each in judged}
    if as_json:
        give([asdict(each) for each in judged])
    else:
        columns = ("what", "verdict", "found", "accepted")
        table(columns, [[getattr(each, name) for name in columns] for each in judged])
    raise typer.Exit(1 if "fail" in verdicts else 3 if "unknown" in verdicts else 0)


def _shown(made: Plan) -> dict[str, Any]:
    return {
        "number": made.number,
        "generation": made.generation,
        "waiting": list(made.waiting),
        "steps": [
            {
                "number": step.number,
                "verb": step.verb,
                "endpoint": step.endpoint.id,
                "place": step.endpoint.place,
                "code": step.endpoint.quarantine,
                "reason": step.endpoint.reason,
                "rule": step.decision.rule,
                "verdict": step.decision.verdict,
            }
            for step in made.steps
        ],
    }
