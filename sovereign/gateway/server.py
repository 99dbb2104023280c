"""Run the gateway: open its log, bind its listener, serve until told to stop."""

import uvicorn

from sovereign import eventlog
from sovereign.audit.trail import Trail
from sovereign.errors import DeclarationMissing
from sovereign.gateway.app import Gateway
from sovereign.policy import THIS_HOST, Policy
from sovereign.registry import utcnow
from sovereign.residency import is_loopback
from sovereign.settings import Home

DRAIN_S = 20
"""How long a stopping gateway lets running answers finish."""


def serve(home: Home, policy: Policy) -> None:
    """Serve until SIGTERM or SIGINT, then drain and close the log.

    Raises:
        DeclarationMissing: it should listen on more than loopback at an undeclared place.
        LogMissing, LogLocked: there is no log to write to, or another writer holds it.
    """
    bounds = home.settings.gateway
    refuse_undeclared(home, bounds.listen)
    host, _, port = bounds.listen.rpartition(":")
    with Trail.open(home.audit, home.keys, "gateway", home.settings.site, utcnow) as trail:
        config = uvicorn.Config(
            Gateway(home, policy, trail),
            host=host.strip("[]"),
            port=int(port),
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=DRAIN_S,
        )
        uvicorn.Server(config).run()
    eventlog.emit("gateway-log-closed")


def refuse_undeclared(home: Home, listen: str) -> None:
    """Listening where others can connect needs the operator's word about where this host is."""
    if home.settings.place == THIS_HOST and not is_loopback(listen):
        raise DeclarationMissing(
            f"{listen} can be reached from other machines, and this host's place is not declared",
            found="place: this-host",
            accepted="a listener on loopback, or a declared place",
            next_step="sovereign places declare --country CC --under CC --entity NAME",
        )
