"""Bring a stack about, step by step; each can be repeated, and a second run changes nothing.

    settle      what an earlier run left open is found in the account, or known to be absent
    plan        the engine previews against what stands, and the guard judges every piece
    confirm     a person says yes to the changes (`--yes`); none asks for nothing
    up          the engine makes what is missing
    inventory   the addresses are written down for the playbooks
    playbooks   `python -m playbooks configure`; it ends with a look at each host
    record      what was done stands in the operator's log

A stop at any of them leaves what the steps before it made, and the next run takes it up there:
nothing is remembered but the engine's own state, what is open (`unsettled.py`) and which hosts
were ever configured (`configured.json`), which is what `destroy` asks for.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra import plan as plans
from infra import pulumi_cli, unsettled
from infra import stack as stacks
from infra.clouds import static
from infra.deployment import Deployment, made
from infra.plan import Plan
from infra.shapes import INVENTORY_GROUP, Site, inventory
from sovereign import policy as policies
from sovereign.errors import BadInput, PlannerUnavailable, SovereignError, StackIncomplete
from sovereign.settings import Home

CONFIGURED = "configured.json"
INVENTORY = "inventory.json"
OUT_OF_STOCK = re.compile(r"out of stock|out of capacity|insufficient capacity", re.IGNORECASE)
SAID_AT_MOST = 3

_SAY = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a deployment was asked for."""

    stack: str
    simulated: bool = False
    dry_run: bool = False
    playbooks: bool = True
    found: Mapping[str, str] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    folder: Path = stacks.FOLDER


@dataclass(frozen=True, slots=True)
class Outside:
    """What the flow asks of others: a person, the playbooks, a reader."""

    say: _SAY
    show: Callable[[Plan], None]
    agreed: Callable[[str], bool]
    configure: Callable[[Path], int]


@dataclass(slots=True)
class Done:
    """What a run did. `steps` are name and outcome, in order."""

    plan: Plan | None = None
    steps: list[tuple[str, str]] = field(default_factory=list)
    record: str = ""


def deploy(wanted: Wanted, home: Home, outside: Outside) -> Done:
    """Bring the stack about, as far as the policy and the person let it.

    Returns:
        What was done. When the plan's verdict is not `allow`, nothing was, but for what settling
        an earlier run takes.

    Raises:
        BadInput: the stack makes no sense, or nobody was there to say yes.
        ResidencyRefused: its state may not rest where it would.
        StackLocked: somebody else is at it.
        StackIncomplete: it was made in part; run the same again.
    """
    done = Done()
    stack = stacks.load(wanted.stack, wanted.folder)
    _refuse_here(stack.cloud, wanted.stack)
    policy = policies.load(home.policies, stack.profile, home.own_places)
    plans.refuse_backend(stack, policy)
    engine: Deployment | None = None

    def at(site: Site) -> Deployment:
        nonlocal engine
        engine = deployment(home.root, site, stack.state_backend, wanted, outside.say)
        if not wanted.dry_run:
            engine.hold()
            _step(done, outside, "settle", settle(engine, wanted, outside.say))
        return engine

    try:
        done.plan = plans.make(wanted.stack, home, outside.say, wanted.folder, at)
        plans.record(done.plan, home)
        outside.show(done.plan)
        _step(done, outside, "plan", done.plan.verdict)
        if done.plan.verdict == "allow" and not wanted.dry_run:
            if engine is not None:
                _make(done, engine, outside)
            _hand_on(done, wanted, home, engine, outside)
    finally:
        if engine is not None:
            engine.release()
    return done


def deployment(root: Path, site: Site, backend: str, wanted: Any, say: _SAY) -> Deployment:
    """The engine on what lasts of a stack. `wanted` says whether the account is simulated."""
    cli = pulumi_cli.get(say)
    where = made(root, cli, site.stack, backend, simulated=wanted.simulated)
    return Deployment(cli, site, where, say)


def _refuse_here(cloud: str, name: str) -> None:
    if cloud == "local":
        raise BadInput(
            f"{name} is this machine, where nothing is made",
            accepted="a stack of a cloud, or of machines you have",
            next_step="make deploy, without STACK",
        )


def settle(engine: Deployment, wanted: Any, say: _SAY) -> str:
    """Find what an earlier run left open and take it in.

    Raises:
        StackIncomplete: nobody can say of something whether it was made. Nothing was changed.
    """
    state = engine.export()
    open_ = unsettled.wishes(state, unsettled.kept(engine.folder))
    if not open_ and not state.get("pending_operations"):
        return "nothing was left open"
    look = (
        unsettled.in_books(engine.books)
        if wanted.simulated
        else unsettled.as_told(wanted.found, wanted.absent)
    )
    answers = unsettled.answered(open_, look)
    if answers.open:
        raise _unknown(engine, answers.open)
    unsettled.keep(engine.folder, open_)  # a crash from here on: the next run looks for them again
    engine.clear()  # only one run at a time gets past this
    if answers.found:
        engine.take(unsettled.with_found(engine.export(), open_, answers.found))
        engine.clear()  # completes what was taken in with what the cloud says of it
    unsettled.keep(engine.folder, ())
    for urn in answers.found:
        say(f"  made by a run that was cut off, and taken in: {urn.rpartition('::')[2]}")
    return f"{len(answers.found)} taken in, {len(open_) - len(answers.found)} were never made"


def _unknown(engine: Deployment, open_: tuple[unsettled.Wish, ...]) -> StackIncomplete:
    first, name = open_[0], engine.folder.parent.name
    return StackIncomplete(
        f"of {len(open_)} resource(s) nobody knows whether the cloud made them",
        found="; ".join(wish.urn for wish in open_),
        accepted="--found URN=ID for what stands in the account, --absent URN for what does not",
        next_step=f"look into the account for {first.type} with the tag sovereign-site:{name}",
    )


def _make(done: Done, engine: Deployment, outside: Outside) -> None:
    assert done.plan is not None
    changes = [each for each in done.plan.resources if each.operation != "same"]
    if not changes:
        _step(done, outside, "up", "nothing to change")
        return
    if not outside.agreed(f"{len(changes)} change(s) at {done.plan.site.place}"):
        raise BadInput(
            f"nobody said yes to {len(changes)} change(s)",
            accepted="yes at the question, or --yes",
            next_step=f"python -m infra deploy {done.plan.site.stack} --yes",
        )
    shown = engine.up()
    if not shown.finished:
        raise _stopped(done.plan, shown.said, shown.judged)
    _step(done, outside, "up", f"{len(changes)} change(s) made")


def _stopped(plan: Plan, said: list[str], judged: list[Any]) -> SovereignError:
    """Why the engine stopped, and what to do about it."""
    name = plan.site.stack
    reasons = "; ".join(line.splitlines()[0] for line in said[:SAID_AT_MOST] if line)
    reasons = reasons or "; ".join(sorted({a.rule for a in judged if not a.allowed}))
    if any(OUT_OF_STOCK.search(line) for line in said):
        return StackIncomplete(
            f"{plan.site.place} has no {plan.site.offer.id if plan.site.offer else 'machine'} left",
            found=reasons,
            accepted=", ".join(plan.elsewhere) or "no other place that is allowed sells it",
            next_step=f"try again later; or python -m infra destroy {name}, set another zone in "
            f"infra/stacks/{name}.yaml, and deploy again",
        )
    return StackIncomplete(
        f"{name} was made in part",
        found=reasons or "the engine gave no reason",
        next_step=f"remove the cause, then: python -m infra deploy {name}",
    )


def _hand_on(
    done: Done, wanted: Wanted, home: Home, engine: Deployment | None, outside: Outside
) -> None:
    assert done.plan is not None
    site = done.plan.site
    folder = engine.folder if engine else home.root / "infra" / site.stack / "made"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if engine is None:
        found = inventory(site, static.outputs(site).hosts)
    else:
        found = engine.outputs().get("inventory") or {}
        if not found:
            raise PlannerUnavailable(f"the state of {site.stack} exports no inventory")
    path = folder / INVENTORY
    _step(done, outside, "inventory", _written(path, found))
    if wanted.playbooks:
        _configured(folder, found)
        code = outside.configure(path)
        if code != 0:
            raise StackIncomplete(
                f"the machines of {site.stack} are there, and were not all configured",
                found=f"the playbooks ended with {code}",
                next_step=f"see what they said, then: python -m infra deploy {site.stack}",
            )
        _step(done, outside, "playbooks", "every host is configured")
    done.record = recorded(home, done.plan, "deploy")
    _step(done, outside, "record", done.record or "not recorded: no site is deployed here")


def _written(path: Path, found: Mapping[str, Any]) -> str:
    """Write the inventory if it is not there just so."""
    text = json.dumps(found, indent=1, sort_keys=True) + "\n"
    if path.exists() and path.read_text() == text:
        return f"{path}, unchanged"
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)
    return str(path)


def _configured(folder: Path, found: Mapping[str, Any]) -> None:
    """Remember, before the first play, that these hosts will hold data."""
    path = folder / CONFIGURED
    known = set(json.loads(path.read_text())) if path.exists() else set()
    hosts = known | set(found["all"]["children"][INVENTORY_GROUP]["hosts"])
    path.write_text(json.dumps(sorted(hosts)))


def recorded(home: Home, plan: Plan, verb: str) -> str:
    """Write down that a stack was made or removed; "" where no site is deployed."""
    if not home.audit.exists():
        return ""
    from sovereign.supervisor.deployment import operator_trail

    changes = [each.operation for each in plan.resources]
    with operator_trail(home) as log:
        waiting = log.record(
            "stack-changed",
            stack=plan.site.stack,
            verb=verb,
            place=plan.site.place or "none",
            created=changes.count("create"),
            changed=sum(each not in ("create", "delete", "same") for each in changes),
            deleted=changes.count("delete"),
            policy=plan.policy,
        )
        return str(waiting.result().name)


def _step(done: Done, outside: Outside, name: str, outcome: str) -> None:
    done.steps.append((name, outcome))
    outside.say(f"{name}: {outcome}")
