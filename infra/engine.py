"""Drive the real Pulumi engine, and keep what it says.

The program is a Python function that runs in this process (the Automation API), so no
language host is needed. A rehearsal puts two programs of ours on the engine's PATH, under
the names it looks for: the launcher of the guard's policy pack, and the simulator in place
of the cloud's provider. Everything lies under `SOVEREIGN_HOME/infra`:

    bin/         the engine and the two launchers
    STACK/       engine home, state, the simulator's books, the guard's answers
    STACK/made   the same of what was made for real (`deployment.py`)

The engine is told not to ask its maker for news (`PULUMI_SKIP_UPDATE_CHECK`), and where its
state lies even when the operator's shell says otherwise (`PULUMI_BACKEND_URL`). Nothing here
decides; what the guard answered is read back and given on.
"""

import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pulumi
from pulumi import automation
from pulumi.automation import errors
from pulumi.automation.events import EngineEvent, StepEventMetadata

from infra.clouds import hetzner, scaleway
from infra.guard.pack import DECISIONS_VARIABLE, PROFILE_VARIABLE
from infra.guard.rules import Judgement
from infra.shapes import Site, inventory
from infra.stack import FILE_BACKEND
from sovereign.errors import PlannerUnavailable

PROJECT = "sovereign"
GUARD = Path(__file__).with_name("guard")
BOOKS_VARIABLE = "SOVEREIGN_SIMULATOR_BOOKS"
PROGRAMS = {"hetzner": hetzner.outputs, "scaleway": scaleway.outputs}
CREDENTIALS = ("HCLOUD_TOKEN", "SCW_ACCESS_KEY", "SCW_SECRET_KEY")
"""What the SDK would take from the shell into the state. A rehearsal reaches no account."""

_NO_VENV = 'for a do shift; case $a in -virtualenv=*) ;; *) set -- "$@" "$a" ;; esac; done'
"""Drops the one argument that `pulumi.policy` would misread: we name the Python ourselves."""

_CHECKOUT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Announced:
    """A resource as the engine announced it: what it would do, to what, with which inputs."""

    operation: str
    kind: str
    urn: str
    inputs: dict[str, Any]
    parent: str = ""
    provider: str = ""
    protected: bool = False


@dataclass(slots=True)
class Rehearsed:
    """What a run of the engine showed. `finished` is False when the engine refused or failed.

    `done` holds what happened, or what a comparison found; `failed` what was begun and gave an
    error.
    """

    finished: bool = False
    announced: list[Announced] = field(default_factory=list)
    judged: list[Judgement] = field(default_factory=list)
    refused: dict[str, list[str]] = field(default_factory=dict)
    done: list[Announced] = field(default_factory=list)
    failed: list[Announced] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Where:
    """Where a run keeps its things, and which programs and words of the environment it gets.

    `hidden` are variables of the operator's shell that the run must not see.
    """

    root: Path
    folder: Path
    programs: Path
    url: str
    words: Mapping[str, str]
    hidden: tuple[str, ...] = ()


def rehearsed(root: Path, cli: Path, stack: str) -> Where:
    """A rehearsal: the simulated account, and state of its own on this disk."""
    folder = folders(root / "infra" / stack)
    return Where(
        root=root,
        folder=folder,
        programs=launchers(root / "infra" / "bin", cli),
        url=on_disk(folder / "state"),
        words={"PULUMI_CONFIG_PASSPHRASE": kept_passphrase(folder / "passphrase")},
        hidden=CREDENTIALS,
    )


def on_disk(folder: Path) -> str:
    """The backend of a state on this disk.

    Each file is then written beside and renamed. With its metadata, which nobody reads, a second
    file is written in place, and one that a crash cut short makes the whole state unreadable.
    """
    return f"file://{folder}?metadata=skip"


class Rehearsal:
    """One stack on the real engine, against the simulator. Keeps its state between calls."""

    def __init__(
        self,
        root: Path,
        cli: Path,
        site: Site,
        program: Callable[[], None] | None = None,
        where: Where | None = None,
    ) -> None:
        """Prepare the folders under `root`; nothing runs yet.

        Args:
            root: SOVEREIGN_HOME.
            program: what declares the resources; by default the site's own cloud.
            where: by default a rehearsal.
        """
        self.where = where or rehearsed(root, cli, site.stack)
        self.folder = self.where.folder
        self.books = self.folder / "simulated-account.json"
        self._decisions = self.folder / "guard-answers.jsonl"
        self._site = site
        self._program = program or (lambda: declare(site))
        self._selected: automation.Stack | None = None

    def preview(self) -> Rehearsed:
        """Show what would be made, judged by the guard. Nothing is made.

        Raises:
            PlannerUnavailable: the engine could not run at all.
        """
        return self._run(
            lambda stack, on_event: stack.preview(policy_packs=[str(GUARD)], on_event=on_event)
        )

    def up(self) -> Rehearsed:
        """Make it in the simulated account, if the guard lets it.

        Raises:
            PlannerUnavailable: the engine could not run at all.
        """
        return self._run(
            lambda stack, on_event: stack.up(policy_packs=[str(GUARD)], on_event=on_event)
        )

    def destroy(self) -> Rehearsed:
        """Remove it from the simulated account. What is protected stays, and makes this fail.

        Raises:
            PlannerUnavailable: the engine could not run at all.
        """
        return self._run(lambda stack, on_event: stack.destroy(on_event=on_event))

    def unprotect(self) -> None:
        """Let the next `destroy` remove even what holds data."""
        stack = self._stack()
        stack._run_pulumi_cmd_sync(["state", "unprotect", "--all", "--yes"])

    def _run(
        self, verb: Callable[[automation.Stack, Callable[[EngineEvent], None]], object]
    ) -> Rehearsed:
        self._decisions.write_bytes(b"")
        shown = Rehearsed()
        try:
            with _without(self.where.hidden):
                verb(self._stack(), lambda event: _keep(shown, event))
            shown.finished = True
        except errors.ConcurrentUpdateError:
            raise
        except errors.CommandError as error:
            if not shown.said and not shown.refused:
                shown.said.append(str(error))
        except OSError as error:
            raise PlannerUnavailable(f"the Pulumi engine does not start: {error}") from error
        lines = self._decisions.read_bytes().splitlines()
        shown.judged = [msgspec.json.decode(line, type=Judgement) for line in lines]
        return shown

    def _stack(self) -> automation.Stack:
        """Selected once; selecting again would start the engine four times more."""
        if self._selected is None:
            self._selected = self._select()
        return self._selected

    def _select(self) -> automation.Stack:
        return automation.create_or_select_stack(
            stack_name=self._site.stack,
            project_name=PROJECT,
            program=self._program,
            opts=_workspace(self.folder, self.where.programs, self.where.url, self._environment()),
        )

    def _environment(self) -> dict[str, str]:
        return {
            **self.where.words,
            "PATH": f"{self.where.programs}{os.pathsep}{os.environ.get('PATH', '')}",
            "SOVEREIGN_HOME": str(self.where.root),
            BOOKS_VARIABLE: str(self.books),
            DECISIONS_VARIABLE: str(self._decisions),
            PROFILE_VARIABLE: self._site.profile,
        }


def made_inventory(root: Path, cli: Path, site: Site, backend: str) -> dict[str, Any]:
    """Return the inventory that a stack exported when it was made for real.

    Args:
        backend: the stack's `state_backend`. Its credentials and the passphrase come from the
            environment, as with the engine's own command line, unless a deployment kept one here.

    Raises:
        PlannerUnavailable: nothing of this stack was made there, or the state cannot be read.
    """
    folder = folders(root / "infra" / site.stack / "made")
    url = on_disk(folder / "state") if backend == FILE_BACKEND else backend
    kept = folder / "passphrase"
    shell = {"PULUMI_CONFIG_PASSPHRASE": kept.read_text()} if kept.exists() else {}
    options = _workspace(folder, launchers(root / "infra" / "bin", cli), url, shell)
    try:
        stack = automation.select_stack(
            stack_name=site.stack,
            project_name=PROJECT,
            program=lambda: declare(site),
            opts=options,
        )
        found = stack.outputs().get("inventory")
    except errors.CommandError as error:
        raise _nothing_made(site, url, str(error)[-300:].strip()) from error
    if found is None:
        raise _nothing_made(site, url, "the stack exports no inventory")
    exported: dict[str, Any] = found.value
    return exported


def _nothing_made(site: Site, url: str, found: str) -> PlannerUnavailable:
    return PlannerUnavailable(
        f"there is no inventory of {site.stack} in {url}",
        found=found,
        accepted="a stack that was made, with its state and PULUMI_CONFIG_PASSPHRASE at hand",
        next_step="docs/add/a-cloud.md, section: make it for real",
    )


def declare(site: Site) -> None:
    """The Pulumi program: the site's cloud declares its resources, and we export the way in."""
    made = PROGRAMS[site.cloud](site)
    pulumi.export("inventory", inventory(site, made.hosts))
    pulumi.export("backups", made.backups)


@contextmanager
def _without(names: Iterable[str]) -> Iterator[None]:
    """Take variables out of this process's environment for a while."""
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def _keep(shown: Rehearsed, event: EngineEvent) -> None:
    if event.resource_pre_event is not None:
        shown.announced.append(announced(event.resource_pre_event.metadata))
    if event.res_outputs_event is not None:
        shown.done.append(announced(event.res_outputs_event.metadata))
    if event.res_op_failed_event is not None:
        shown.failed.append(announced(event.res_op_failed_event.metadata))
    if event.policy_event is not None:
        urn = event.policy_event.resource_urn or ""
        shown.refused.setdefault(urn, []).append(event.policy_event.message)
    if event.diagnostic_event is not None and event.diagnostic_event.severity == "error":
        shown.said.append(event.diagnostic_event.message.strip())


def announced(step: StepEventMetadata) -> Announced:
    """A step as we keep it."""
    new = step.new
    known = (str(step.op.value), step.type, step.urn)
    if new is None:
        return Announced(*known, {})
    inputs = dict(new.inputs or {})
    return Announced(*known, inputs, new.parent, new.provider, bool(new.protect))


def _workspace(
    folder: Path, programs: Path, url: str, environment: dict[str, str]
) -> automation.LocalWorkspaceOptions:
    """The engine told where everything lies, whatever the operator's shell says."""
    return automation.LocalWorkspaceOptions(
        work_dir=str(folder / "work"),
        pulumi_command=_command(programs, folder),
        project_settings=automation.ProjectSettings(
            name=PROJECT, runtime="python", backend=automation.ProjectBackend(url=url)
        ),
        secrets_provider="passphrase",  # pragma: allowlist secret - the name of a method
        env_vars={
            "PULUMI_HOME": str(folder / "home"),
            "PULUMI_BACKEND_URL": url,
            "PULUMI_ACCESS_TOKEN": "",
            "PULUMI_SKIP_UPDATE_CHECK": "1",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "AWS_EC2_METADATA_DISABLED": "true",
            **environment,
        },
    )


def _command(programs: Path, folder: Path) -> automation.PulumiCommand:
    """Asked for its version at once, before it is told where its home is; so tell it here."""
    before = os.environ.get("PULUMI_HOME")
    os.environ["PULUMI_HOME"] = str(folder / "home")
    try:
        return automation.PulumiCommand(root=str(programs.parent))
    finally:
        os.environ.pop("PULUMI_HOME")
        if before is not None:
            os.environ["PULUMI_HOME"] = before


def folders(folder: Path) -> Path:
    for name in ("state", "home", "work"):
        (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.rmtree(folder / "home" / "logs", ignore_errors=True)  # the engine never erases its own
    return folder


def launchers(folder: Path, cli: Path, *, simulated: bool = True) -> Path:
    """Put the engine and our programs where the engine looks; return the folder.

    Args:
        simulated: with the simulator under the name of the cloud's own provider.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    link = folder / "pulumi"
    if link.resolve() != cli.resolve():
        link.unlink(missing_ok=True)
        link.symlink_to(cli)
    python = f'PYTHONPATH="{_CHECKOUT}" exec "{sys.executable}" -u'
    _script(folder / "pulumi-analyzer-policy-python", f"{_NO_VENV}\n{python} -m pulumi.policy")
    if simulated:
        for name in ("hcloud", "scaleway"):
            _script(folder / f"pulumi-resource-{name}", f"{python} -m infra.simulator {name}")
    return folder


def _script(path: Path, line: str) -> None:
    path.write_text(f'#!/bin/sh\n{line} "$@"\n')
    path.chmod(0o755)


def kept_passphrase(path: Path) -> str:
    """Encrypts secrets in a state on this disk; made once and kept beside it."""
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(32))
    return path.read_text()
