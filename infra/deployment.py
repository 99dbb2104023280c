"""A stack as it is made: the engine's verbs on a state that lasts.

A rehearsal (`engine.Rehearsal`) begins from nothing each time it is asked about a new stack; a
deployment keeps its state where the stack file says, and so can be resumed, compared with what
stands, saved, and removed. Everything else of it lies under `SOVEREIGN_HOME/infra/STACK/made`,
or, of the simulated account, in `practised` beside it.

The account is the real one, through the cloud's own provider, or, for practice and for tests, the
simulated one. The engine never fetches a provider by itself: one that is not on PATH is an error.

Two rules hold:
  * A run that somebody else's run is in the way of changes nothing, and says whose it is. A lock
    of a process of this machine that is gone is taken away first, and that is said.
  * What the engine had asked a cloud to make when it was cut off is settled before anything else
    is made: found and taken in, or known to be absent. It is never forgotten (`unsettled.py`).
"""

import fcntl
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from socket import gethostname
from typing import IO, Any

from pulumi import automation
from pulumi.automation import errors
from pulumi.automation.events import EngineEvent

from infra import unsettled
from infra.engine import (
    CREDENTIALS,
    GUARD,
    Rehearsal,
    Rehearsed,
    Where,
    announced,
    folders,
    kept_passphrase,
    launchers,
    on_disk,
)
from infra.shapes import Site
from infra.stack import FILE_BACKEND
from sovereign.errors import BadInput, PlannerUnavailable, StackLocked

PASSPHRASE = ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE")
MADE, PRACTISED = "made", "practised"
_HOLDER = re.compile(r"created by (\S+)@(\S+) \(pid (\d+)\) at (\S+)")

_SAY = Callable[[str], None]


def made(root: Path, cli: Path, stack: str, backend: str, *, simulated: bool) -> Where:
    """Where a deployment keeps its things.

    Args:
        backend: the stack's `state_backend`, judged before. Its credentials come from the
            environment. So does the passphrase; only for a state on this disk one is made here.
        simulated: in the simulated account, with a state on this disk, whatever `backend` says:
            machines that do not exist have no business in the state of those that do.

    Raises:
        BadInput: the state is elsewhere and no passphrase is named, so nobody else could read it.
    """
    folder = folders(root / "infra" / stack / (PRACTISED if simulated else MADE))
    backend = FILE_BACKEND if simulated else backend
    local = backend == FILE_BACKEND or backend.startswith("file:")
    shell = {name: os.environ[name] for name in PASSPHRASE if os.environ.get(name)}
    if not shell and not local:
        raise BadInput(
            f"the state of {stack} is kept at {backend.partition('?')[0]} and is to be encrypted",
            found="no passphrase",
            accepted=" or ".join(PASSPHRASE),
            next_step="export PULUMI_CONFIG_PASSPHRASE_FILE=…, a file that you keep elsewhere, too",
        )
    if not shell:
        shell = {PASSPHRASE[0]: kept_passphrase(folder / "passphrase")}
    return Where(
        root=root,
        folder=folder,
        programs=launchers(folder / "bin", cli, simulated=simulated),
        url=on_disk(folder / "state") if backend == FILE_BACKEND else backend,
        words=shell,
        hidden=CREDENTIALS if simulated else (),
    )


class Deployment(Rehearsal):
    """One stack on the real engine, with the state that lasts."""

    def __init__(
        self,
        cli: Path,
        site: Site,
        where: Where,
        say: _SAY,
        program: Callable[[], None] | None = None,
    ) -> None:
        """Nothing runs yet. `say` is told when a dead lock is taken away."""
        super().__init__(where.root, cli, site, program, where)
        self._say = say
        self._held: IO[str] | None = None

    def refresh(self, *, only_look: bool) -> Rehearsed:
        """Compare what stands with the state; unless `only_look`, take it into the state.

        Raises:
            PlannerUnavailable, StackLocked: nothing was compared.
        """
        return self._alone(lambda stack, hear: stack.refresh(preview_only=only_look, on_event=hear))

    def up(self) -> Rehearsed:
        """Make what is missing, change what differs, if the guard lets it.

        A creation that gives an error is remembered at once: it may stand all the same.

        Raises:
            PlannerUnavailable, StackLocked: nothing was made.
        """

        def run(stack: automation.Stack, hear: Callable[[EngineEvent], None]) -> object:
            def heard(event: EngineEvent) -> None:
                hear(event)
                if event.res_op_failed_event is not None:
                    failed = unsettled.of_failed([announced(event.res_op_failed_event.metadata)])
                    unsettled.keep(self.folder, (*unsettled.kept(self.folder), *failed))

            return stack.up(policy_packs=[str(GUARD)], on_event=heard)

        return self._alone(run)

    def destroy(self) -> Rehearsed:
        """Look at what stands, and remove it all; with something protected, nothing.

        Raises:
            PlannerUnavailable, StackLocked: nothing was removed.
        """
        return self._alone(lambda stack, hear: stack.destroy(refresh=True, on_event=hear))

    def clear(self) -> None:
        """Read what stands again, and forget the creations that were cut off.

        Raises:
            PlannerUnavailable, StackLocked: nothing was forgotten.
        """
        words = ["refresh", "--yes", "--skip-preview", "--clear-pending-creates"]
        self._ask(lambda: self._stack()._run_pulumi_cmd_sync(words))

    def export(self) -> dict[str, Any]:
        """The whole state, secrets encrypted."""
        state: dict[str, Any] = self._ask(lambda: self._stack().export_stack().deployment)
        return state

    def take(self, state: Mapping[str, Any]) -> None:
        """Put a state in the place of the present one."""
        self._ask(
            lambda: self._stack().import_stack(automation.Deployment(version=3, deployment=state))
        )

    def outputs(self) -> dict[str, Any]:
        """What the program exported; empty before anything was made."""
        found = self._ask(lambda: self._stack().outputs())
        return {name: output.value for name, output in found.items()}

    def forget(self) -> None:
        """Remove the state itself, with its history. What stands is not asked after."""
        self._ask(lambda: self._stack().workspace.remove_stack(self._site.stack, force=False))

    def hold(self) -> None:
        """Keep other runs of this machine away until this one ends. Others meet the engine's lock.

        Raises:
            StackLocked: one is at it.
        """
        path = self.folder / "held"
        held = path.open("a+")
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            held.close()
            raise self._locked(f"process {path.read_text() or '?'} of this machine") from error
        held.truncate(0)
        held.write(str(os.getpid()))
        held.flush()
        self._held = held

    def release(self) -> None:
        """Let others in."""
        if self._held is not None:
            self._held.close()

    def _alone(
        self, verb: Callable[[automation.Stack, Callable[[EngineEvent], None]], object]
    ) -> Rehearsed:
        shown: Rehearsed = self._once_more(lambda: self._run(verb))
        return shown

    def _once_more(self, ask: Callable[[], Any]) -> Any:
        """Ask, and once more when only a lock of a process that is gone was in the way."""
        try:
            return ask()
        except errors.ConcurrentUpdateError as error:
            self._unlock(error)
        try:
            return ask()
        except errors.ConcurrentUpdateError as error:
            raise self._locked(_holders(error)) from error

    def _unlock(self, error: errors.CommandError) -> None:
        """Take away a lock whose process ran on this machine and is gone.

        KNOWN: two containers that share a host name and a state, but not their processes, look
        alike; give each a host name of its own.
        """
        holders = _HOLDER.findall(str(error))
        ours = [(int(pid), since) for _, host, pid, since in holders if host == gethostname()]
        if len(ours) < len(holders) or not holders or any(_runs(pid) for pid, _ in ours):
            raise self._locked(_holders(error)) from error
        for pid, since in ours:
            self._say(f"process {pid} held the stack since {since} and is gone: lock taken away")
        self._stack().cancel()

    def _locked(self, found: str) -> StackLocked:
        return StackLocked(
            f"somebody else changes the stack {self._site.stack}",
            found=found,
            accepted="one at a time",
            next_step="wait for it and run the same again; nothing was changed by this run",
        )

    def _ask(self, question: Callable[[], Any]) -> Any:
        try:
            return self._once_more(question)
        except (errors.CommandError, OSError) as error:
            raise PlannerUnavailable(
                f"the engine cannot read or write the state of {self._site.stack}",
                found=str(error)[-600:].strip(),
                next_step="look whether the state backend answers, and the passphrase is the same",
            ) from error


def _holders(error: errors.CommandError) -> str:
    """Who holds a lock, in the engine's words."""
    named = [
        f"{user}@{host}, process {pid}, since {since}"
        for user, host, pid, since in _HOLDER.findall(str(error))
    ]
    return "; ".join(named) or "a lock that does not say whose it is"


def _runs(pid: int) -> bool:
    """True when a process of that number runs, whoever's it is."""
    with suppress(ProcessLookupError):
        try:
            os.kill(pid, 0)
        except PermissionError:
            return True
        return True
    return False
