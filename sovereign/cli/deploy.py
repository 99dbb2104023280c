"""`sovereign deploy|down|status`: the local site as a whole."""

import shutil
import time
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Annotated

import typer

from sovereign import __version__, fleet
from sovereign.cli.output import HomeOption, JsonFlag, facts, give, home_of, policy_of, say, table
from sovereign.errors import BadInput, NotDeployed
from sovereign.policy import THIS_HOST
from sovereign.registry import Registry, utcnow
from sovereign.settings import Home, default_root
from sovereign.supervisor import control, deployment
from sovereign.supervisor.watch import State

READY_TIMEOUT_S = 2.0


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
    started = time.monotonic()
    choices = deployment.Choices(engine, model, weights, listen)
    state = deployment.begin(home or default_root(), choices)
    if as_json:
        steps = {name: step(state) for name, step in deployment.STEPS}
        give(_as_facts(state, steps, time.monotonic() - started))
        return
    _said("settings", started, str(state.home.file))
    _said("policy", started, f"profile {state.policy.profile}, digest {state.policy.digest[:16]}…")
    for name, step in deployment.STEPS:
        begun = time.monotonic()
        typer.echo(f"  {name:<13}…", nl=False)
        detail = step(state)
        typer.echo("\r", nl=False)
        _said(name, begun, detail)
        if name == "key" and state.secret:
            say(f"\n  your key, shown this once:  {state.secret}\n")
    _finish(state, time.monotonic() - started)


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
    if not where.audit.exists():
        raise NotDeployed(f"there is no site under {where.root}", next_step="make deploy")
    started = control.up(where)
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
    as_json: JsonFlag = False,
) -> None:
    """Stop what was started; the audit log stays unless told otherwise twice."""
    where = home_of(home)
    if erase_audit_log != yes_erase_audit_log or (erase_audit_log and not erase):
        raise BadInput(
            "the audit log is erased only when all three options are given; nothing was changed",
            accepted="--erase --erase-audit-log --yes-erase-audit-log",
        )
    stopped = control.down(where)
    erased = _erase(where, with_audit=erase_audit_log) if erase else []
    if as_json:
        give({"stopped": stopped, "erased": erased, "audit_log_kept": not erase_audit_log})
        return
    say("stopped" if stopped else "nothing was running")
    for path in erased:
        say(f"erased {path}")
    if not erase:
        say(f"kept: {where.root} (settings, keys and the audit log)")
    elif not erase_audit_log:
        say(f"kept: {where.audit} and {where.trust}, so that it can still be verified")


def _erase(home: Home, *, with_audit: bool) -> list[str]:
    """Erase a stopped site's files; return those that were there."""
    paths = [home.registry, home.keystore, home.logs, home.models, home.run]
    paths += [home.own_places, home.file]
    paths += [home.audit, home.keys, home.trust] if with_audit else []
    there = [path for path in paths if path.exists()]
    for path in there:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return [str(path) for path in there]


def status(home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """What runs, where, vouched for until when, and how the log stands.

    Exit 0 when the gateway answers that it is ready, else 3.
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
            "url": f"http://{where.settings.gateway.listen}",
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
    host, _, port = home.settings.gateway.listen.rpartition(":")
    connection = HTTPConnection(host.strip("[]"), int(port), timeout=READY_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


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
            "gateway": f"http://{where.settings.gateway.listen}",
            "place": _place_line(where),
        }
    )
    table(
        ("endpoint", "engine", "place", "usable", "until", "why not"),
        [
            (e["id"], e["engine"], e["place"], e["usable"], e["expires_at"], e["reason"] or "")
            for e in engines
        ],
    )
    table(("log", "records"), [(log["origin"], log["size"]) for log in logs])


def _show_children(supervisor: State | None) -> None:
    children = supervisor.children if supervisor else []
    columns = ("process", "state", "pid", "restarts", "last exit")
    rows = [(c.name, c.state, c.pid, c.restarts, c.last_exit) for c in children]
    table(columns, [["" if cell is None else cell for cell in row] for row in rows])
