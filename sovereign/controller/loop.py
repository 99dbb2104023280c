"""Run the rounds. The only `while` that watches the world."""

import signal
import sqlite3
import threading

from sovereign import eventlog
from sovereign.audit.alive import Alive
from sovereign.audit.trail import Trail
from sovereign.controller.act import act
from sovereign.controller.cosign import Cosigning
from sovereign.controller.observe import Knock, Look, knocking, looking, observe, wanted
from sovereign.controller.plan import plan
from sovereign.controller.retain import Retaining
from sovereign.controller.watching import Watching
from sovereign.policy import Policy
from sovereign.registry import Registry, utcnow
from sovereign.settings import Home


def serve(home: Home, policy: Policy) -> None:
    """Round after round until SIGTERM or SIGINT.

    Raises:
        LogMissing, LogLocked: there is no log to write to, or another writer holds it.
        LogUnwritable: the log has stopped. Only opening it again recovers it, so this process
            ends and is started anew; what it vouched for expires meanwhile.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    chosen = home.settings.controller
    knock, look = knocking(chosen.probe_timeout_s), looking(chosen.observe_socket)
    opened = (home.audit, home.keys, "controller", home.settings.site, utcnow)
    with Trail.open(*opened, trust=home.trust) as trail, Alive(trail, utcnow):
        registry = Registry(home.registry, writable=True)
        trail.record("policy-loaded", policy=policy.digest, profile=policy.profile).result()
        registry.remove_all_but(endpoint.id for endpoint in wanted(home, policy))
        retaining, watching = Retaining(home, policy, trail), Watching(home, trail)
        cosigning = Cosigning(home, policy)
        eventlog.emit("controller-started", policy=policy.digest)
        while not stop.is_set():
            run_round(home, policy, registry, trail, knock, look)
            watching.look(utcnow())
            retaining.run_when_due(utcnow())
            cosigning.start_when_due(utcnow())
            trail.seal_older(policy.bundle_spans())
            if trail.failure is not None:
                raise trail.failure
            stop.wait(chosen.interval_s)
    eventlog.emit("controller-stopped")


def run_round(
    home: Home, policy: Policy, registry: Registry, trail: Trail, knock: Knock, look: Look
) -> None:
    """Observe, plan, act and record once. A registry that is busy is left for the next round."""
    try:
        snapshot = registry.snapshot()
        seen = observe(wanted(home, policy), knock, look)
        act(plan(policy, seen, snapshot, utcnow()), registry, trail)
    except sqlite3.OperationalError as error:
        eventlog.emit("registry-busy", exception=type(error).__name__)
