"""Run the gateway: open its log, bind its listener, serve until told to stop."""

import signal
import socket

import uvicorn

from sovereign import eventlog
from sovereign.audit.alive import Alive
from sovereign.audit.trail import Trail
from sovereign.errors import ProcessFailed
from sovereign.gateway.app import Gateway
from sovereign.gateway.listener import BoundedProtocol
from sovereign.gateway.tls import LOOK_EVERY_S, Certificate
from sovereign.policy import Policy
from sovereign.registry import utcnow
from sovereign.settings import Home, refuse_undeclared

DRAIN_S = 20
"""How long a stopping gateway lets running answers finish."""


def serve(home: Home, policy: Policy) -> None:
    """Serve until SIGTERM or SIGINT, then drain and close the log.

    Raises:
        DeclarationMissing: it should listen on more than loopback at an undeclared place.
        LogMissing, LogLocked: there is no log to write to, or another writer holds it.
        SettingsUnreadable: the certificate or its key cannot be used.
        ProcessFailed: another program listens on its address, or this machine cannot.
    """
    refuse_undeclared(home.settings)
    certificate = Certificate(home.settings.gateway) if home.settings.gateway.tls_key else None
    opened = (home.audit, home.keys, "gateway", home.settings.site, utcnow)
    with Trail.open(*opened, trust=home.trust) as trail, Alive(trail, utcnow):
        bound = _listen(home.settings.gateway.listen)
        _outlive_signals()
        config = listening(Gateway(home, policy, trail), certificate)
        uvicorn.Server(config).run(sockets=[bound])
    eventlog.emit("gateway-log-closed")


def _listen(address: str) -> socket.socket:
    """Listen before uvicorn would: its own words about a taken port are withheld."""
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), int(port)), family=family)
    except OSError as error:
        eventlog.emit("address-taken", address=address, reason=error.strerror)
        raise ProcessFailed(
            f"the gateway cannot listen on {address}",
            found=error.strerror or type(error).__name__,
            next_step=f"ss -ltnp 'sport = :{port}'; end what is there, or set gateway.listen",
        ) from error


def listening(gateway: Gateway, certificate: Certificate | None = None) -> uvicorn.Config:
    """How a gateway is served: nothing of a request is logged, and every wait ends."""
    host, _, port = gateway.home.settings.gateway.listen.rpartition(":")
    return uvicorn.Config(
        gateway,
        host=host.strip("[]"),
        port=int(port),
        loop="uvloop",
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=DRAIN_S,
        ssl_context_factory=(lambda *_: certificate.context) if certificate else None,
        callback_notify=certificate.look if certificate else None,
        timeout_notify=LOOK_EVERY_S,
    )


def _outlive_signals() -> None:
    """uvicorn drains on a signal and then sends itself the same once more: by default that would
    end the process before its log is closed."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
