"""`sovereign serve …`: one process each, the same under systemd and under the supervisor."""

import resource
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sovereign import eventlog
from sovereign.cli.output import HomeOption, give, home_of, policy_of


class Service(StrEnum):
    """What can be served."""

    ENGINE = "engine"
    GATEWAY = "gateway"
    CONTROLLER = "controller"
    OBSERVE = "observe"
    ALL = "all"


def add_to(app: typer.Typer) -> None:
    """Hang the command on the root."""
    app.command()(serve)


def serve(
    service: Annotated[Service, typer.Argument(help="Which process to be.")],
    home: HomeOption = None,
) -> None:
    """Become one of this site's processes, in the foreground.

    `observe` answers once: it writes what only root may see of the engine's process.
    """
    _forbid_dumps()
    eventlog.tame()
    where = home_of(home)
    if service is Service.ALL:
        from sovereign.supervisor import watch

        raise typer.Exit(watch.main(where))
    if service is Service.OBSERVE:
        from sovereign import host
        from sovereign.engines import ENGINES

        rules = ENGINES[where.settings.engine.name].required_environment()
        give(host.observe(where.settings.engine.listen, [rule.name for rule in rules]))
        return
    policy = policy_of(where)
    if service is Service.ENGINE:
        from sovereign.supervisor import engine

        engine.become(where, policy)
    elif service is Service.GATEWAY:
        from sovereign.gateway import server

        server.serve(where, policy)
    else:
        from sovereign.controller import loop

        loop.serve(where, policy)


def _forbid_dumps() -> None:
    """A core dump would hold what people said: none is written, by us or by what we start.

    The kernel does not ask the limit where it pipes dumps to a program; there a dump holds no
    memory at all (core(5)). A sandbox in which that cannot be set has LimitCORE and its own host.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):
        Path("/proc/self/coredump_filter").write_text("0")
