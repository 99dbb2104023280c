"""Remove a stack, when nothing on it has to be kept, so that it costs nothing and holds nothing.

What stands in the way is worked out first, and nothing is removed while anything does:

  * a legal hold of this site is in force, or one of a host's logs that were carried away;
  * a host was ever configured and its logs were not carried away by `playbooks retire`: they have
    a minimum, and would go with the disk. An archive that does not verify is none;
  * what holds data is protected, and the data were not given up: `--erase-data STACK` says the
    stack's name a second time.

Then the engine compares what stands, removes it, and is asked again: only an empty state is done.
The last step removes the state itself, which names every machine. A run that stops before is
repeated.
"""

import json
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from infra import deploy, unsettled
from infra import plan as plans
from infra import stack as stacks
from infra.deployment import Deployment
from infra.guard.types import PROVIDER
from infra.plan import Plan
from sovereign import fleet, holds, settings
from sovereign import policy as policies
from sovereign.audit.erasures import hold_event_of
from sovereign.errors import BadInput, DestroyRefused, SovereignError, StackIncomplete
from sovereign.policy import Policy
from sovereign.settings import Home

ROUNDS_MAX = 3
"""How often the engine is asked to remove what it could not remove at once: deletions lag."""
_REMAINS = ("state", "home", "work", "bin")
_REMAINING_FILES = (deploy.INVENTORY, deploy.CONFIGURED, unsettled.KEPT, "passphrase", "held")


@dataclass(frozen=True, slots=True)
class Wanted:
    """How it was asked for. `erase_data` is the stack's name, said a second time."""

    stack: str
    retired: Path
    simulated: bool = False
    dry_run: bool = False
    erase_data: str = ""
    found: dict[str, str] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    folder: Path = stacks.FOLDER


@dataclass(slots=True)
class Gone:
    """What a run did. `standing` are the resources there were, by URN."""

    standing: tuple[str, ...] = ()
    steps: list[tuple[str, str]] = field(default_factory=list)
    record: str = ""


def destroy(wanted: Wanted, home: Home, outside: deploy.Outside) -> Gone:
    """Remove everything of the stack.

    Raises:
        BadInput: nothing of it was made by us, or nobody said yes.
        DestroyRefused: something has to be kept, or its data were not given up.
        StackLocked: somebody else is at it.
        StackIncomplete: it was removed in part; run the same again.
    """
    stack = stacks.load(wanted.stack, wanted.folder)
    if stack.cloud not in plans.CLOUDS_MADE:
        raise BadInput(
            f"nothing of {wanted.stack} was made, so there is nothing to destroy",
            accepted="a stack of a cloud",
            next_step=f"python -m playbooks retire {wanted.stack}",
        )
    policy = policies.load(home.policies, stack.profile, home.own_places)
    plans.refuse_backend(stack, policy)
    plan = plans.begin(wanted.stack, stack, policy, home)
    engine = deploy.deployment(home.root, plan.site, stack.state_backend, wanted, outside.say)
    try:
        if not wanted.dry_run:
            engine.hold()
        return _destroy(wanted, home, outside, policy, plan, engine)
    finally:
        engine.release()


def _destroy(
    wanted: Wanted,
    home: Home,
    outside: deploy.Outside,
    policy: Policy,
    plan: Plan,
    engine: Deployment,
) -> Gone:
    gone = Gone()
    state = engine.export()
    gone.standing = tuple(
        each["urn"]
        for each in state.get("resources") or ()
        if each.get("id") and not each["type"].startswith(PROVIDER)
    )
    kept = [each["urn"] for each in state.get("resources") or () if each.get("protect")]
    _refuse(wanted, home, policy, engine.folder, kept)
    _step(gone, outside, "look", f"{len(gone.standing)} resource(s) stand, nothing has to be kept")
    if wanted.dry_run:
        return gone
    if gone.standing and not outside.agreed(f"remove {len(gone.standing)} resource(s) for good"):
        raise BadInput(
            "nobody said yes",
            accepted="yes at the question, or --yes",
            next_step=f"python -m infra destroy {wanted.stack} --yes",
        )
    _step(gone, outside, "settle", deploy.settle(engine, wanted, outside.say))
    _remove(gone, engine, outside)
    gone.record = _record(home, plan, gone)
    _step(gone, outside, "record", gone.record or "not recorded: no site is deployed here")
    engine.forget()
    _tidy(engine.folder)
    _step(gone, outside, "state", "removed")
    return gone


def _refuse(wanted: Wanted, home: Home, policy: Policy, folder: Path, kept: Iterable[str]) -> None:
    now = datetime.now(UTC)
    held = [*_held(home, now)]
    hosts = _hosts(folder)
    reasons = [f"a legal hold is in force: {hold}" for hold in held]
    for host in hosts:
        reasons += of_host(wanted.retired / f"sovereign-{host}.tar.gz", host, policy, now)
    if reasons:
        raise DestroyRefused(
            f"{wanted.stack} holds what has to be kept",
            rule="retention",
            because="the minimum of a class of logs, or a hold, outlasts the machine it lies on",
            found="; ".join(reasons),
            accepted="logs that were carried away and verify; holds that ended",
            next_step=f"python -m playbooks retire {wanted.stack} -- -e retire_consent=true"
            if hosts and not held
            else "sovereign hold list",
        )
    data = sorted(urn.rpartition("::")[2] for urn in kept)
    if data and wanted.erase_data != wanted.stack:
        raise DestroyRefused(
            f"{wanted.stack} has {len(data)} resource(s) that hold data and are protected",
            found=", ".join(data),
            accepted=f"--erase-data {wanted.stack}, which gives the data up for good",
            next_step=f"python -m infra destroy {wanted.stack} --erase-data {wanted.stack}",
        )


def _held(home: Home, now: datetime) -> Iterator[str]:
    """The holds of this site that are in force, or of which nobody knows."""
    for each in holds.standing(home):
        if each.state(now) in ("in-force", "unrecorded"):
            yield each.facts.hold


def _hosts(folder: Path) -> list[str]:
    path = folder / deploy.CONFIGURED
    hosts: list[str] = json.loads(path.read_text()) if path.exists() else []
    return hosts


def of_host(archive: Path, host: str, policy: Policy, now: datetime) -> list[str]:
    """Why a host may not go: its logs are not here, do not verify, or are held."""
    if not archive.is_file():
        days = max((kept.min_days for kept in policy.retention.values()), default=0)
        return [f"the logs of {host} were not carried away; some have to be kept {days} days"]
    with tempfile.TemporaryDirectory() as workshop:
        try:
            _unpack(archive, Path(workshop))
            there = settings.load(Path(workshop))
            results = fleet.verify(there)
            placed = _held_in(there, now)
        except (OSError, tarfile.TarError, SovereignError) as error:
            return [f"{archive.name} cannot be read: {type(error).__name__}"]
    if not results:
        return [f"{archive.name} holds no log"]
    wrong = [
        f"{archive.name}: {result.origin} does not verify"
        for result in results
        if result.findings or not result.determined
    ]
    return [*wrong, *(f"a legal hold of {host} is in force: {hold}" for hold in placed)]


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")


def _held_in(home: Home, now: datetime) -> list[str]:
    """Holds that the host's own evidence places and does not release."""
    ends: dict[str, datetime] = {}
    for member in fleet.members(home):
        if member.stream != "evidence":
            continue
        for _, fields in fleet.records(member, 0, fleet.size_of(member) or 0):
            if fields.get("type") in ("hold-placed", "hold-released"):
                event = hold_event_of(fields, "")
                ends[event.hold] = min(event.ends, ends.get(event.hold, event.ends))
    return sorted(hold for hold, at in ends.items() if at > now)


def _remove(gone: Gone, engine: Deployment, outside: deploy.Outside) -> None:
    engine.unprotect()
    said: list[str] = []
    for _ in range(ROUNDS_MAX):
        shown = engine.destroy()
        left = [each["urn"] for each in engine.export().get("resources") or ()]
        if shown.finished and not left:
            _step(gone, outside, "destroy", f"{len(gone.standing)} resource(s) removed")
            return
        said = shown.said
    raise StackIncomplete(
        f"{len(left)} resource(s) still stand",
        found="; ".join(line.splitlines()[0] for line in said[: deploy.SAID_AT_MOST] if line),
        next_step="the same again; what is gone stays gone",
    )


def _record(home: Home, plan: Plan, gone: Gone) -> str:
    plan.resources = [plans.Resource("", urn, "delete", "", "", "") for urn in gone.standing]
    return deploy.recorded(home, plan, "destroy")


def _tidy(folder: Path) -> None:
    """What is left names machines, or opens a state that is gone."""
    for name in _REMAINS:
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in _REMAINING_FILES:
        (folder / name).unlink(missing_ok=True)


def _step(gone: Gone, outside: deploy.Outside, name: str, outcome: str) -> None:
    gone.steps.append((name, outcome))
    outside.say(f"{name}: {outcome}")
