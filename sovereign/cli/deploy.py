"""`sovereign deploy|down|status`: the local site as a whole."""

import shutil
import sys
import time
from contextlib import closing, suppress
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Annotated

import typer

from sovereign import __version__, door, fleet, holds
from sovereign.audit.witnesses import cosigned
from sovereign.cli.output import HomeOption, JsonFlag, facts, give, home_of, policy_of, say, table
from sovereign.errors import BadInput, NotDeployed, SovereignError, SubjectHeld
from sovereign.gateway.tls import Certificate
from sovereign.policy import THIS_HOST, kept
from sovereign.registry import Registry, utcnow
from sovereign.residency import is_loopback
from sovereign.settings import Home, default_root
from sovereign.supervisor import control, deployment
from sovereign.supervisor.watch import State

READY_TIMEOUT_S = 2.0
INTERRUPTED = 130
"""What a shell gives a program that Ctrl-C ended."""


def add_to(app: typer.Typer) -> None:
    """Hang these commands on the root."""
    app.command()(deploy)
    app.command()(up)
    app.command()(down)
    app.command()(status)


def deploy(
    home: HomeOption = None,
    engine: Annotated[str | None, typer.Option(help="llamacpp, vllm or ollama.")] = None,
    model: Annotated[str | None, typer.Option(help="A model of facts/models.yaml.")] = None,
    weights: Annotated[str | None, typer.Option(help="Weights on this machine.")] = None,
    listen: Annotated[str | None, typer.Option(help="address:port of the gateway.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Bring up engine, gateway and controller here, and prove one chat."""
    choices = deployment.Choices(engine, model, weights, listen)
    try:
        _deploy(home or default_root(), choices, as_json=as_json)
    except KeyboardInterrupt:
        print("interrupted; run it again", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


def _deploy(root: Path, choices: deployment.Choices, *, as_json: bool) -> None:
    started = time.monotonic()
    state = deployment.begin(root, choices)
    if state.home.settings.gateway.tls_key:  # before anything is stopped for it
        Certificate(state.home.settings.gateway)
    if as_json:
        steps = {name: step(state) for name, step in deployment.STEPS}
        give(_as_facts(state, steps, time.monotonic() - started))
        return
    _said("settings", started, str(state.home.file))
    _said("policy", started, f"profile {state.policy.profile}, digest {state.policy.digest[:16]}…")
    for name, step in deployment.STEPS:
        begun = time.monotonic()
        detail = _performed(name, step, state)
        _said(name, begun, detail)
        if name == "key" and state.secret:
            say(f"\n  your key, shown this once:  {state.secret}\n")
    _finish(state, time.monotonic() - started)


def _performed(name: str, step: deployment.Step, state: deployment.Deployment) -> str:
    """Take a step; on a terminal its name stands there meanwhile."""
    sys.stdout.flush()  # a key that was said must be seen, whatever ends this step
    if not sys.stdout.isatty():
        return step(state)
    typer.echo(f"  {name:<13}…", nl=False)
    try:
        detail = step(state)
    except BaseException:
        typer.echo()
        raise
    typer.echo("\r", nl=False)
    return detail


def _as_facts(
    state: deployment.Deployment, steps: dict[str, str], seconds: float
) -> dict[str, object]:
    """What `_finish` says, for a program. `key` is empty when none was made in this run."""
    return {
        "url": state.base_url,
        "key": state.secret,
        "id": state.deployed.key_id,
        "record": state.deployed.record,
        "place": state.home.settings.place,
        "changed": state.changed,
        "steps": steps,
        "seconds": round(seconds, 1),
    }


def _said(name: str, begun: float, detail: str) -> None:
    say(f"  {name:<13}{time.monotonic() - begun:6.2f} s  {detail}")


def _finish(state: deployment.Deployment, seconds: float) -> None:
    changed = ", ".join(state.changed) or "nothing"
    say(f"\ndeployed in {seconds:.1f} s; changed: {changed}")
    facts(
        {
            "base URL": state.base_url,
            "key": state.secret or f"{state.deployed.key_id} (shown when it was made)",
            "record": state.deployed.record,
            "place": _place_line(state.home),
        }
    )
    gateway = state.home.settings.gateway
    if not gateway.tls_certificate and not is_loopback(gateway.listen):
        say("\nnot encrypted: set gateway.tls_certificate and gateway.tls_key, see SECURITY.md")
    say("\nnext")
    say("  .venv/bin/sovereign status")
    say(f"  .venv/bin/sovereign audit prove {state.deployed.record}")
    say("  make audit")


def _place_line(home: Home) -> str:
    if home.settings.place != THIS_HOST:
        return home.settings.place
    command = "sovereign places declare --country CC --under CC --entity NAME"
    return f"this-host; country not declared; to declare it: {command}"


def up(home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """Start the processes of a deployed site."""
    where = home_of(home)
    if not where.file.exists() or not where.audit.exists():
        raise NotDeployed(f"there is no site under {where.root}", next_step="make deploy")
    started = control.up(where)
    if not started:
        deployment.refuse_given_up(where)
    if as_json:
        give({"started": started})
        return
    say("started" if started else "running already")


def down(
    home: HomeOption = None,
    erase: Annotated[
        bool, typer.Option(help="Also erase this site's keys, settings and logs of processes.")
    ] = False,
    erase_audit_log: Annotated[
        bool, typer.Option(help="With --erase: erase the audit logs too. Say it twice.")
    ] = False,
    yes_erase_audit_log: Annotated[bool, typer.Option(help="The second time it is said.")] = False,
    dry_run: Annotated[
        bool, typer.Option(help="List what --erase would erase; change nothing.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Stop what was started; the audit log stays unless told otherwise twice."""
    where = home_of(home)
    if erase_audit_log != yes_erase_audit_log or (erase_audit_log and not erase):
        raise BadInput(
            "the audit log is erased only when all three options are given; nothing was changed",
            accepted="--erase --erase-audit-log --yes-erase-audit-log",
        )
    if erase:
        _refuse_held(where)
    there = _erasable(where, with_audit=erase_audit_log)
    if dry_run:
        _foresee(there, up=control.is_up(where), as_json=as_json)
        return
    stopped = control.down(where)
    there = _erasable(where, with_audit=erase_audit_log) if erase else []
    record = _recorded(where) if there and not erase_audit_log else ""
    _erase(there)
    if as_json:
        erased = [str(path) for path in there]
        give({"stopped": stopped, "erased": erased, "audit_log_kept": not erase_audit_log})
        return
    say("stopped" if stopped else "nothing was running")
    for path in there:
        say(f"erased {path}")
    if there and erase and not erase_audit_log:
        say(f"record {record or 'none: the log of the operator cannot be opened'}")
    if not erase:
        say(f"kept: {where.root} (settings, keys and the audit log)")
    elif not erase_audit_log:
        say(f"kept: {where.audit} and {where.trust}, so that it can still be verified;")
        say(f"      {where.keys}, the signing keys of these logs")
        if holds.root(where).exists():
            say(f"      {holds.root(where)}, copies of records that were held")


def _refuse_held(home: Home) -> None:
    """What is held must stay readable: the keys of subjects and the copies of a hold stay."""
    held = [each.facts.hold for each in holds.standing(home) if each.state(utcnow()) == "in-force"]
    if held:
        raise SubjectHeld(
            "records are under a legal hold; nothing was stopped or erased",
            because="what is held must stay readable (GDPR art. 17(3))",
            found=", ".join(held),
            next_step=f"sovereign hold release {held[0]}, once it may end",
        )


def _foresee(there: list[Path], *, up: bool, as_json: bool) -> None:
    if as_json:
        give({"would_stop": up, "would_erase": [str(path) for path in there]})
        return
    say("would stop" if up else "nothing is running")
    for path in there:
        say(f"with --erase, would erase {path}")


def _recorded(home: Home) -> str:
    """Record an erasure before it happens, where the log can be opened; the record's name."""
    with suppress(SovereignError, OSError), deployment.operator_trail(home) as log:
        fields = {"step": "erase", "outcome": "settings-and-keys-erased"}
        return str(log.record("deployment", **fields).result().name)
    return ""


def _erase(paths: list[Path]) -> None:
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _erasable(home: Home, *, with_audit: bool) -> list[Path]:
    """What an erasure takes away, of what is there."""
    paths = [home.registry, home.keystore, home.logs, home.models, home.run]
    paths += [home.own_places, home.exceptions_folder, home.file]
    logs = [home.audit, home.keys, home.trust, cosigned.root_of(home.trust), holds.root(home)]
    logs.append(home.root / kept.FOLDER)  # what records name by digest stays as long as they do
    paths += logs if with_audit else []
    return [path for path in paths if path.exists()]


def status(home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """What runs, where, vouched for until when, and how the log stands.

    Exit 0 when the gateway, and no other program on its port, says that it is ready, else 3.
    """
    where = home_of(home)
    policy = policy_of(where)
    supervisor = control.state(where)
    ready = _is_ready(where)
    engines = [_engine_row(e) for e in Registry(where.registry).snapshot().endpoints]
    logs = fleet.statuses(where)
    answer: dict[str, object] = {
        "version": __version__,
        "home": str(where.root),
        "gateway": {
            "url": deployment.url_of(where.settings.gateway),
            "up": ready is not None,
            "ready": bool(ready),
        },
        "processes": [] if supervisor is None else supervisor.children,
        "engines": engines,
        "audit": {"logs": logs},
        "place": {"code": where.settings.place, "declared": where.settings.place != THIS_HOST},
        "policy": {"digest": policy.digest, "profile": policy.profile},
    }
    if as_json:
        give(answer)
    else:
        _show(where, ready, engines, logs)
        _show_children(supervisor)
    raise typer.Exit(0 if ready else 3)


def _is_ready(home: Home) -> bool | None:
    """What the gateway itself says of a chat sent now; None when it does not answer."""
    if control.is_supervised(home) and not control.serves(
        home, "gateway", home.settings.gateway.listen
    ):
        return None
    try:
        with closing(door.connection(home.settings.gateway, READY_TIMEOUT_S)) as connection:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == HTTPStatus.OK
    except (OSError, HTTPException):
        return None


def _engine_row(endpoint: object) -> dict[str, object]:
    from msgspec import to_builtins

    from sovereign.registry import Endpoint

    assert isinstance(endpoint, Endpoint)
    usable = not endpoint.quarantine and endpoint.is_fresh(utcnow())
    return {**to_builtins(endpoint), "usable": usable}


def _show(
    where: Home,
    ready: bool | None,
    engines: list[dict[str, object]],
    logs: list[dict[str, object]],
) -> None:
    state = {None: "down", False: "up, not ready", True: "up"}[ready]
    say(f"site {where.settings.site}: {state}")
    facts(
        {
            "home": where.root,
            "gateway": deployment.url_of(where.settings.gateway),
            "place": _place_line(where),
        }
    )
    table(
        ("endpoint", "engine", "place", "usable", "until", "why not"),
        [
            (e["id"], e["engine"], e["place"], e["usable"], _second(e), e["reason"] or "")
            for e in engines
        ],
    )
    table(("log", "records"), [(log["origin"], log["size"]) for log in logs])


def _second(engine: dict[str, object]) -> str:
    return str(engine["expires_at"] or "").partition(".")[0].removesuffix("Z")


def _show_children(supervisor: State | None) -> None:
    children = supervisor.children if supervisor else []
    columns = ("process", "state", "pid", "restarts", "last exit")
    rows = [(c.name, c.state, c.pid, c.restarts, c.last_exit) for c in children]
    table(columns, [["" if cell is None else cell for cell in row] for row in rows])
