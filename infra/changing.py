"""What `deploy`, `destroy` and `drift` do, and how it looks to a person and to a program."""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra import command, plan
from infra import stack as stacks
from infra.plan import Plan
from sovereign import policy as policies
from sovereign import settings
from sovereign.cli.output import facts, give, say, table
from sovereign.errors import BadInput

if TYPE_CHECKING:
    from infra.deploy import Outside  # it imports the engine, which few verbs need

RETIRED = Path(__file__).resolve().parents[1] / "retired"
"""Where `playbooks retire` puts the logs that it carries away, unless told otherwise."""
PLAYBOOKS = Path(__file__).resolve().parents[1] / "playbooks"
PLAYS_TAKE_AT_MOST_S = 2 * 3600
UNCHANGED = ("same", "refresh", "read")


def deploy_stack(asked: argparse.Namespace) -> int:
    """Make a stack and configure its hosts: plan, confirm, up, inventory, playbooks, record."""
    from infra import deploy

    found, absent = _told(asked)
    wanted = deploy.Wanted(
        stack=asked.stack,
        simulated=asked.simulated,
        dry_run=asked.dry_run,
        playbooks=not asked.without_playbooks,
        found=found,
        absent=absent,
    )
    done = deploy.deploy(wanted, settings.load(), _outside(asked))
    assert done.plan is not None
    if asked.json:
        steps = [{"step": name, "outcome": outcome} for name, outcome in done.steps]
        give({**command.as_facts(done.plan), "steps": steps, "record": done.record})
    elif asked.dry_run and done.plan.verdict == "allow":
        say("  then        up, inventory, playbooks, record; nothing was done")
    return command.EXIT[done.plan.verdict]


def destroy_stack(asked: argparse.Namespace) -> int:
    """Remove everything a stack has, once nothing of it has to be kept any more."""
    from infra import destroy

    found, absent = _told(asked)
    wanted = destroy.Wanted(
        stack=asked.stack,
        simulated=asked.simulated,
        dry_run=asked.dry_run,
        erase_data=asked.erase_data,
        retired=asked.retired,
        found=found,
        absent=absent,
    )
    gone = destroy.destroy(wanted, settings.load(), _outside(asked))
    if asked.json:
        steps = [{"step": name, "outcome": outcome} for name, outcome in gone.steps]
        give({"stack": asked.stack, "standing": gone.standing, "steps": steps,
              "record": gone.record})  # fmt: skip
    elif asked.dry_run:
        for urn in gone.standing:
            facts({"would remove": urn.rpartition("::")[2]})
    return 0


def drift_stack(asked: argparse.Namespace) -> int:
    """Compare what stands with what was made; exit 1 when somebody changed it."""
    from infra import deploy

    home, stack = settings.load(), stacks.load(asked.stack)
    if stack.cloud not in plan.CLOUDS_MADE:
        raise BadInput(f"nothing of {asked.stack} was made", accepted="a stack of a cloud")
    policy = policies.load(home.policies, stack.profile, home.own_places)
    plan.refuse_backend(stack, policy)
    site = plan.begin(asked.stack, stack, policy, home).site
    engine = deploy.deployment(home.root, site, stack.state_backend, asked, _tell)
    shown = engine.refresh(only_look=True)
    drifted = [step for step in shown.done if step.operation not in UNCHANGED]
    verdict = "unknown" if not shown.finished else "refuse" if drifted else "allow"
    rows = [(step.operation, step.kind, step.urn.rpartition("::")[2]) for step in drifted]
    if asked.json:
        named = [dict(zip(("found", "resource", "name"), row, strict=True)) for row in rows]
        give({"stack": asked.stack, "drifted": named, "unclear": shown.said})
    else:
        if rows:
            table(("found", "resource", "name"), rows)
        said = {"allow": "as it was made", "refuse": "changed behind our back"}
        facts({"drift": said.get(verdict, "; ".join(shown.said) or "could not be determined")})
    return command.EXIT[verdict]


def _told(asked: argparse.Namespace) -> tuple[dict[str, str], tuple[str, ...]]:
    """What the operator saw in the account: `URN=ID`, and URNs of what is not there."""
    found = {}
    for word in asked.found:
        urn, mark, own = word.rpartition("=")
        if not mark or not urn or not own:
            raise BadInput(f"--found {word}", accepted="--found URN=ID")
        found[urn] = own
    return found, tuple(asked.absent)


def _outside(asked: argparse.Namespace) -> "Outside":
    from infra.deploy import Outside

    def show(made: Plan) -> None:
        if not asked.json:
            command.show(made, command.REHEARSED if asked.simulated else command.REAL)

    def agreed(what: str) -> bool:
        if asked.yes:
            return True
        if asked.json or not sys.stdin.isatty():
            return False
        return input(f"{what}: yes? ").strip() == "yes"

    def configure(inventory: Path) -> int:
        return configured(asked.stack, inventory)

    return Outside(say=_tell, show=show, agreed=agreed, configure=configure)


def configured(stack: str, inventory: Path) -> int:
    """Run the playbooks on the hosts of an inventory; their exit code. They say what they do."""
    words = [sys.executable, "-m", "playbooks", *playbooks_words(stack, inventory)]
    done = subprocess.run(
        words, check=False, cwd=PLAYBOOKS.parent, stdout=sys.stderr, timeout=PLAYS_TAKE_AT_MOST_S
    )
    return done.returncode


def playbooks_words(stack: str, inventory: Path) -> list[str]:
    """The words of `python -m playbooks`, with what the operator wrote down for this stack."""
    site = PLAYBOOKS / "sites" / f"{stack}.yaml"
    known = ["--site", str(site)] if site.is_file() else []
    return ["configure", "--inventory", str(inventory), *known]


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def arguments(verb: str, one: Any) -> None:
    """The words that each of these verbs takes."""
    one.add_argument("--simulated", action="store_true", help="a simulated account, for practice")
    if verb == "drift":
        return
    one.add_argument("--yes", action="store_true", help="do it without a question")
    one.add_argument("--dry-run", action="store_true", help="say what would be done, do nothing")
    one.add_argument("--found", action="append", default=[], metavar="URN=ID",
                     help="what a run that was cut off made, as seen in the account")  # fmt: skip
    one.add_argument("--absent", action="append", default=[], metavar="URN",
                     help="what it did not make, as seen in the account")  # fmt: skip
    if verb == "deploy":
        one.add_argument("--without-playbooks", action="store_true", help="stop before them")
    else:
        one.add_argument("--erase-data", default="", metavar="STACK",
                         help="the stack's name once more: its data are given up")  # fmt: skip
        one.add_argument("--retired", type=Path, default=RETIRED,
                         help="where `playbooks retire` put the logs")  # fmt: skip


VERBS = {"deploy": deploy_stack, "destroy": destroy_stack, "drift": drift_stack}
