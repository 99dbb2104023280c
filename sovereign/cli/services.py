"""`sovereign serve …`: one process each, the same under systemd and under the supervisor."""

import resource
from enum import StrEnum
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
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
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
