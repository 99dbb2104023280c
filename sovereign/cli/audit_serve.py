"""`sovereign audit serve`: this site's logs, read-only over HTTP."""

import re
import resource
import signal
import socket
from typing import Annotated

import typer

from sovereign import eventlog, fleet
from sovereign.cli.audit_args import deployed
from sovereign.cli.output import HomeOption, policy_of
from sovereign.cli.reading import Reading, reason_of, record_readings
from sovereign.errors import BadInput, ProcessFailed, TileMissing
from sovereign.residency import is_loopback
from sovereign.settings import Home

DEFAULT_LISTEN = "127.0.0.1:8091"
CONNECTIONS_MAX = 128
DRAIN_S = 5
KEEP_ALIVE_S = 15
_ADDRESS = re.compile(r"[0-9A-Fa-f.:\[\]]+:[0-9]{1,5}", re.ASCII)


def add_to(audit: typer.Typer) -> None:
    """Hang the command on `sovereign audit`."""
    audit.command()(serve)


def serve(
    listen: Annotated[str, typer.Option(help="address:port to listen on.")] = DEFAULT_LISTEN,
    with_entries: Annotated[
        bool,
        typer.Option(
            "--with-entries", help="Serve the records too; on loopback only, for --reason."
        ),
    ] = False,
    reason: Annotated[
        str,
        typer.Option("--reason", help="Why records are to be read; an id of the policy's list."),
    ] = "",
    home: HomeOption = None,
) -> None:
    """Serve checkpoints and hashes of every pinned log, in the foreground (C2SP tlog-tiles).

    Records hold personal fields: they are served only with --with-entries, on loopback, behind
    something of yours that knows who may read, and for a reason that is recorded first. Whoever
    verifies without them is told that records were not checked.
    """
    import uvicorn

    from sovereign.audit.folder import Folder
    from sovereign.audit.serve import TileServer
    from sovereign.gateway.listener import BoundedProtocol

    where = deployed(home)
    members = [m for m in fleet.members(where) if m.vkey is not None and m.folder.is_dir()]
    if not members:
        raise TileMissing(f"no log under {where.audit} has a pinned key, so none is served")
    if with_entries:
        _refuse_open(listen)
        _record(where, members, reason)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    eventlog.tame()
    bound = _bound(listen)
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn drains, then asks once more
        signal.signal(number, lambda *_: None)
    logs = {f"{m.writer}/{m.stream}": Folder(m.folder) for m in members}
    eventlog.emit(
        "audit-served", listen=listen, logs=len(logs), entries="yes" if with_entries else "no"
    )
    config = uvicorn.Config(
        TileServer(logs, with_entries),
        loop="uvloop",
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )
    uvicorn.Server(config).run(sockets=[bound])
    eventlog.emit("audit-serving-ended")


def _refuse_open(listen: str) -> None:
    if not is_loopback(listen):
        raise BadInput(
            f"{listen} can be reached from other machines, and records hold personal fields",
            accepted="--with-entries on 127.0.0.1 or [::1], behind a proxy that knows who may read",
        )


def _record(home: Home, members: list[fleet.Member], reason: str) -> None:
    """Whoever can reach the listener may read everything that is there now."""
    policy = policy_of(home)
    why = reason_of(policy, reason)
    readings = [Reading(m.origin, 0, fleet.size_of(m) or 0, ("served",)) for m in members]
    record_readings(home, policy, why, readings)


def _bound(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    if not _ADDRESS.fullmatch(listen) or not 0 < int(port) < 65_536:
        raise BadInput(f"{listen!r} is no address", accepted="127.0.0.1:8091 or [::1]:8091")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), int(port)), family=family)
    except OSError as error:
        raise ProcessFailed(
            f"the logs cannot be served on {listen}",
            found=error.strerror or type(error).__name__,
            next_step=f"ss -ltnp 'sport = :{port}'; end what is there, or choose another --listen",
        ) from None
