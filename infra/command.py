"""What each command does, and how its result looks to a person and to a program."""

import argparse
import sys
from collections.abc import Callable
from typing import Any

from infra import offers, plan, pulumi_cli, resolve
from infra import stack as stacks
from infra.clouds import local, static
from infra.plan import Plan
from infra.shapes import Site, inventory
from sovereign import policy as policies
from sovereign import settings
from sovereign.cli.output import facts, give, say, table

EXIT = {"allow": 0, "refuse": 1, "unknown": 3}
WORDS = {"allow": "allowed", "refuse": "refused", "unknown": "could not be determined"}
NAMED_AT_MOST = 6


def plan_stack(asked: argparse.Namespace) -> int:
    """Show what a stack would create, what it costs, and what the guard says."""
    home = settings.load()
    made = plan.make(asked.stack, home, _tell)
    plan.record(made, home)
    if asked.json:
        give(as_facts(made))
    else:
        show(made)
    return EXIT[made.verdict]


def show_inventory(asked: argparse.Namespace) -> int:
    """Print the hosts of a stack as an Ansible inventory (JSON, which is YAML)."""
    home = settings.load()
    stack = stacks.load(asked.stack)
    policy = policies.load(home.policies, stack.profile, home.own_places)
    shop = offers.shop(stack.cloud) if stack.cloud in offers.CLOUDS else None
    site = resolve.site(asked.stack, stack, policy, shop)
    if stack.cloud in plan.CLOUDS_MADE:
        from infra.engine import made_inventory

        plan.refuse_backend(stack, policy)
        give(made_inventory(home.root, pulumi_cli.get(_tell), site, stack.state_backend))
        return 0
    hosts = static.outputs(site).hosts if stack.cloud == "static" else local.outputs(site).hosts
    give(inventory(site, hosts))
    return 0


def get_engine(asked: argparse.Namespace) -> int:
    """Make sure the Pulumi engine is here, building it if need be, and print where."""
    path = str(pulumi_cli.get(_tell))
    if asked.json:
        give({"engine": path})
    else:
        say(path)
    return 0


VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "plan": plan_stack,
    "inventory": show_inventory,
    "get-engine": get_engine,
}


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


REHEARSED = "The real engine, against a simulated account: nothing was asked of a cloud."
REAL = "The real engine and the cloud's own provider, against what stands there."


def show(made: Plan, against: str = REHEARSED) -> None:
    """Print a plan for a person. `against` says what the engine looked at."""
    site, stack = made.site, made.stack
    what = f"{site.model}{f' in {stack.precision}' if stack.precision else ''} by {site.engine}"
    facts({"stack": f"{site.stack}: {what}, {_where(site)}", "policy": _policy(made)})
    if made.resources:
        say(f"\n  {against}\n")
        table(
            ("would", "resource", "name", "place", "verdict", "rule"),
            [(r.operation, r.kind, r.name, r.place, r.verdict, r.rule) for r in made.resources],
        )
    others = [a for a in made.answers if not a.resource.startswith("urn:")]
    if others:
        say("")
        table(
            ("asked about", "place", "verb", "data", "verdict", "rule"),
            [(a.resource, a.place, a.verb, a.data, a.verdict, a.rule) for a in others],
        )
    say("")
    facts({"machines": _memory(made), "cost": _cost(made), "licence": made.licence})
    if made.sized:
        facts({"laid out": made.sized})
    if made.elsewhere:
        facts({"or at": f"{', '.join(made.elsewhere)}, should stock run out"})
    say("\n  Outside of the plan, and what the policy says to it:\n")
    table(
        ("dependency", "place", "verdict", "rule", "instead"),
        [(d.id, d.place, d.verdict, d.rule, d.instead) for d in made.dependencies],
    )
    say("")
    for answer in list(dict.fromkeys(_reason(a) for a in made.refused))[:NAMED_AT_MOST]:
        say(answer)
    for reason in made.unclear[:NAMED_AT_MOST]:
        facts({"unclear" if made.verdict == "unknown" else "also": reason.replace("\n", " ")})
    if made.refused:
        accepted = {"allowed": ", ".join(made.accepted)} if made.accepted else {}
        name = site.stack
        facts({**accepted, "next": f"edit infra/stacks/{name}.yaml, then: make plan STACK={name}"})
    facts({"verdict": WORDS[made.verdict], "record": _records(made)})


def _where(site: Site) -> str:
    if site.machines:
        return f"{site.nodes} machines you have"
    kind = f" x {site.offer.id}" if site.offer else " machine"
    return f"{site.nodes}{kind} at {site.place}"


def _policy(made: Plan) -> str:
    return f"{made.site.profile}, digest {made.policy[:16]}…"


def _memory(made: Plan) -> str:
    need = f"the model needs {made.needed_gb} GB" if made.needed_gb else "its need is not stated"
    offer = made.site.offer
    if offer is None:
        return need
    if not offer.gpus:
        return f"without a GPU; {need}"
    return f"{offer.gpus} x {offer.gpu}, {offer.gpu_memory_gb} GB of GPU memory; {need}"


def _cost(made: Plan) -> str:
    if made.site.offer is None:
        return "nothing is bought"
    if made.cost is None:
        return f"no price of {made.site.offer.id} is known to us"
    cost = made.cost
    return (
        f"{cost.hour} {cost.currency} an hour, about {cost.month} a month of "
        f"{plan.HOURS_A_MONTH} h, before VAT, machines only (read {cost.read_on}, {cost.source})"
    )


def _reason(answer: Any) -> str:
    name = answer.resource.rpartition("::")[2]
    lines = {"rule": answer.rule, "because": answer.because, "found": answer.found}
    shown = "\n".join(f"  {word:<12}{text}" for word, text in lines.items() if text)
    return f"  refused     {answer.kind if answer.kind != name else 'place of'} {name}\n{shown}\n"


def _records(made: Plan) -> str:
    if not made.records:
        return "not recorded: no site is deployed here"
    if len(made.records) == 1:
        return made.records[0]
    return f"{made.records[0]} … {made.records[-1].rpartition('#')[2]}"


def as_facts(made: Plan) -> dict[str, Any]:
    """The same plan for a program."""
    offer = made.site.offer
    return {
        "verdict": made.verdict,
        "stack": made.site.stack,
        "cloud": made.site.cloud,
        "place": made.site.place,
        "profile": made.site.profile,
        "policy": made.policy,
        "model": made.site.model,
        "engine": made.site.engine,
        "nodes": made.site.nodes,
        "shape": offer.id if offer else "",
        "gpu_memory_gb": offer.gpu_memory_gb if offer else 0,
        "needed_gb": made.needed_gb,
        "sized": made.sized,
        "licence": made.licence,
        "cost": _cost_facts(made),
        "resources": made.resources,
        "answers": made.answers,
        "accepted": made.accepted,
        "elsewhere": made.elsewhere,
        "rules_refusing": sorted({answer.rule for answer in made.refused}),
        "dependencies": made.dependencies,
        "unclear": made.unclear,
        "records": made.records,
    }


def _cost_facts(made: Plan) -> dict[str, str] | None:
    cost = made.cost
    if cost is None:
        return None
    return {
        "hour": str(cost.hour),
        "month": str(cost.month),
        "currency": cost.currency,
        "read_on": cost.read_on,
        "source": cost.source,
    }
