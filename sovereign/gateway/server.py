"""Run the gateway: open its log, bind its listener, serve until told to stop."""

import asyncio
import os
import signal
import socket
from ipaddress import ip_address
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from sovereign import eventlog
from sovereign.audit.alive import Alive
from sovereign.audit.trail import Trail
from sovereign.errors import PolicySuperseded, ProcessFailed
from sovereign.gateway.app import Gateway
from sovereign.gateway.listener import bounded
from sovereign.gateway.tls import LOOK_EVERY_S, Certificate
from sovereign.policy import Policy
from sovereign.registry import utcnow
from sovereign.settings import Home, refuse_undeclared

if TYPE_CHECKING:
    from sovereign.gateway.seen.admin import Admin
    from sovereign.gateway.seen.tracing import Tracing

DRAIN_S = 20
"""How long a stopping gateway lets running answers finish."""
UNREAD_MAX_S = 60
"""How long a client may take nothing of what is there for it. Every connection inherits it from
the listener (TCP_USER_TIMEOUT, tcp(7)), so it holds when the answer is long over for us, too."""
HEARD_WITHIN_S = 0.25
"""A stopping gateway hears those out that it let in a moment ago: nobody has answered them yet."""
HANDED_OVER = 3
"""The descriptor at which a service manager leaves a listener of its own (sd_listen_fds(3))."""


def serve(home: Home, policy: Policy) -> None:
    """Serve until SIGTERM or SIGINT, then drain and close the log.

    Raises:
        DeclarationMissing: it should listen on more than loopback at an undeclared place.
        LogMissing, LogLocked: there is no log to write to, or another writer holds it.
        SettingsUnreadable: the certificate or its key cannot be used.
        ResidencyRefused: the rules do not let spans be where the tracing target is.
        ProcessFailed: another program listens on its address, or this machine cannot.
        PolicySuperseded: another policy was put in force meanwhile; nothing was cut.
    """
    refuse_undeclared(home.settings)
    certificate = Certificate(home.settings.gateway) if home.settings.gateway.tls_key else None
    tracing = _tracing(home, policy)
    opened = (home.audit, home.keys, "gateway", home.settings.site, utcnow)
    with Trail.open(*opened, trust=home.trust) as trail, Alive(trail, utcnow):
        bound = _listen(home.settings.gateway.listen)
        _outlive_signals()
        gateway = Gateway(home, policy, trail)
        gateway.tracing, gateway.admin = tracing, _admin(gateway, certificate, tracing)
        config = listening(gateway, certificate)
        server = _Server(config, gateway)
        gateway.superseding.end = server.end
        server.run(sockets=[bound])
    eventlog.emit("gateway-log-closed")
    if gateway.superseding.is_superseded:
        raise PolicySuperseded("another policy is in force; this gateway has ended")


def _tracing(home: Home, policy: Policy) -> "Tracing | None":
    """The way to the tracing target, if there is one and the rules allow it."""
    if not home.settings.tracing.endpoint:
        return None
    from sovereign.gateway.seen import tracing  # the libraries are heavy, and it is off by default

    tracing.refuse_elsewhere(policy, home.settings.tracing, utcnow())
    return tracing.Tracing(home.settings.tracing, home.settings.site)


def _admin(
    gateway: Gateway, certificate: Certificate | None, tracing: "Tracing | None"
) -> "Admin | None":
    """The admin listener, if there is to be one."""
    listen = gateway.home.settings.gateway.admin_listen
    if not listen:
        return None
    from sovereign.gateway.seen.admin import Admin
    from sovereign.gateway.seen.exposition import Calls, Exposition, Standing

    def standing() -> Standing:
        return Standing(
            site=gateway.home.settings.site,
            policy=gateway.policy.digest,
            profile=gateway.policy.profile,
            calls_max=gateway.home.settings.gateway.concurrency_max,
            log_failed=gateway.trail.failure is not None,
            view=gateway.view,
            calls=Calls(*gateway.calls()),
            certificate_ends=certificate.ends_at if certificate else None,
            spans=tracing.spans if tracing else None,
        )

    return Admin(listen, Exposition(gateway.counting, standing, utcnow))


def _listen(address: str) -> socket.socket:
    """Listen before uvicorn would: its own words about a taken port are withheld.

    Where systemd listens for us, its listener is taken. It stays when this process ends, so that
    whoever connects before the next one runs waits there and is not refused.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        bound = _handed_over(host, int(port))
        bound = bound or socket.create_server((host, int(port)), family=family)
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MAX_S * 1000)
        return bound
    except OSError as error:
        eventlog.emit("address-taken", address=address, reason=error.strerror)
        raise ProcessFailed(
            f"the gateway cannot listen on {address}",
            found=error.strerror or type(error).__name__,
            next_step=f"ss -ltnp 'sport = :{port}'; end what is there, or set gateway.listen",
        ) from error


def _handed_over(host: str, port: int) -> socket.socket | None:
    """The one listener that was left for this process, if one was.

    Raises:
        OSError: it listens somewhere else than the settings say.
    """
    pid, count = (os.environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS"))
    if (pid, count) != (str(os.getpid()), "1"):
        return None
    given = socket.socket(fileno=HANDED_OVER)
    given.set_inheritable(False)
    at, number = given.getsockname()[:2]
    if (ip_address(at), number) != (ip_address(host), port):
        raise OSError(0, f"the service manager listens at {at}, port {number}")
    return given


def listening(gateway: Gateway, certificate: Certificate | None = None) -> uvicorn.Config:
    """How a gateway is served: nothing of a request is logged, and every wait ends."""
    host, _, port = gateway.home.settings.gateway.listen.rpartition(":")
    return uvicorn.Config(
        gateway,
        host=host.strip("[]"),
        port=int(port),
        loop="sovereign.gateway.loop:BoundedLoop",
        http=bounded(gateway.home.settings.gateway.connections_max, gateway.note_refusal),
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


class _Server(uvicorn.Server):
    """Says that it is not ready from the moment it is told to stop, then drains."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway

    def end(self) -> None:
        """End as if told to."""
        self._gateway.drains = True
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let nobody in any more, hear out who is in, then drain."""
        for server in self.servers:
            server.close()
        await asyncio.sleep(HEARD_WITHIN_S)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._gateway.drains = True
        super().handle_exit(sig, frame)


def _outlive_signals() -> None:
    """uvicorn drains on a signal and then sends itself the same once more: by default that would
    end the process before its log is closed."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
