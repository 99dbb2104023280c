"""Run the rounds. The only `while` that watches the world."""

import signal
import sqlite3
import threading
import time
from collections.abc import Callable

from sovereign import eventlog
from sovereign.acknowledged import Reading
from sovereign.attestation import standing
from sovereign.audit import trail as trails
from sovereign.audit.alive import Alive
from sovereign.audit.trail import Trail
from sovereign.controller import attesting, lease
from sovereign.controller.act import act
from sovereign.controller.cosign import Cosigning
from sovereign.controller.exposed import Exposed
from sovereign.controller.observe import (
    Bounds,
    Knock,
    Look,
    bounds,
    knock_at,
    knocking,
    look_at,
    looking,
    wanted,
)
from sovereign.controller.past import Past
from sovereign.controller.plan import plan
from sovereign.controller.retain import Retaining, ticks
from sovereign.controller.watching import Watching
from sovereign.dependencies import judge, of_site
from sovereign.errors import PolicySuperseded, SovereignError
from sovereign.incidents.opening import Opening
from sovereign.policy import Policy
from sovereign.policy.following import Following
from sovereign.registry import Registry, utcnow
from sovereign.settings import Home, following


def serve(home: Home, policy: Policy) -> None:
    """Round after round until SIGTERM or SIGINT.

    Raises:
        LeaseHeld: another controller looks after this site. Nothing was done.
        LeaseLost: another one has taken over meanwhile.
        LogMissing, LogLocked: there is no log to write to, or another writer holds it.
        LogUnwritable: the log has stopped. Only opening it again recovers it, so this process
            ends and is started anew; what it vouched for expires meanwhile.
        PolicySuperseded: another policy was put in force; this process is started anew under it.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    chosen = home.settings.controller
    knock, look = knocking(chosen.probe_timeout_s), looking()
    opened = (home.audit, home.keys, "controller", home.settings.site, utcnow)
    trails.expect(home.audit, "controller", home.settings.site)  # or a wrong home gets a registry
    registry = Registry(home.registry, writable=True)
    with (
        lease.held(lease.path_of(home.registry), registry) as turn,
        Trail.open(*opened, trust=home.trust) as trail,
        Alive(trail, utcnow),
    ):
        past, within = Past.out_of_the_log(home, utcnow()), bounds(chosen.probe_timeout_s)
        trail.record("policy-loaded", policy=policy.digest, profile=policy.profile).result()
        registry.remove_all_but(endpoint.id for endpoint in wanted(home, policy))
        retaining, watching = Retaining(home, policy, trail), Watching(home, trail)
        cosigning, exposed = Cosigning(home, policy), Exposed(home, policy, retaining, utcnow)
        licences = Reading(home, policy)
        vouching = attesting.Attesting(home, policy, trail, utcnow)
        opening = Opening(home, policy, trail)
        eventlog.emit("controller-started", policy=policy.digest)
        under = following(home, policy.digest)
        retaining.before_serving(utcnow, stop.is_set)
        while not stop.is_set():
            if not _is_in_force(under):
                stop.wait(chosen.interval_s)
                continue
            began = time.monotonic()
            run_round(
                *(home, policy, registry, trail, knock, look, licences),
                past=past,
                turn=turn.number,
                within=within,
                overdue=retaining.shutting,
            )
            exposed.note_round(utcnow(), time.monotonic() - began)
            watching.look(utcnow())
            opening.look(utcnow())
            retaining.run_when_due(utcnow())
            cosigning.start_when_due(utcnow())
            vouching.start_when_due(utcnow())
            trail.seal_older(policy.bundle_spans())
            if trail.failure is not None:
                raise trail.failure
            stop.wait(chosen.interval_s)
    eventlog.emit("controller-stopped")


def _is_in_force(under: Following) -> bool:
    """True while this process is under the policy in force; False when nobody can tell.

    Then nothing is vouched for any more, so that what was said ends by itself.

    Raises:
        PolicySuperseded: another policy is in force, and loads.
    """
    try:
        fresh = under.look()
    except (SovereignError, OSError) as error:
        eventlog.emit("policy-superseded", exception=type(error).__name__)
        return False
    if fresh is not None:
        eventlog.emit("policy-superseded", policy=fresh.digest)
        raise PolicySuperseded("another policy is in force; this controller has ended")
    return True


def run_round(
    home: Home,
    policy: Policy,
    registry: Registry,
    trail: Trail,
    knock: Knock,
    look: Look,
    licences: Reading | None = None,
    *,
    past: Past | None = None,
    turn: int | None = None,
    within: Bounds | None = None,
    overdue: tuple[str, ...] = (),
    ticking: Callable[[], float] = ticks,
) -> None:
    """Observe, plan, act and record once. A registry that is busy is left for the next round.

    What was looked at longer ago than an attestation is good for is thrown away: the process was
    stopped, or the machine slept, and the next round looks again.

    Args:
        licences: remembers what was acknowledged between rounds.
        past: how often each endpoint was shut and has looked well since; it learns from the round.
        turn: the number of the lease under which the registry is written.
        within: what bounds each knock and look, and knows which have not come back.
        overdue: classes of which something should be gone before anything is served.
        ticking: counts seconds that nobody can set, those of a sleep too.

    Raises:
        LeaseLost: another controller has begun since.
    """
    past, within, asked_for = past or Past(), within or Bounds(), wanted(home, policy)
    licences = licences or Reading(home, policy)
    try:
        snapshot = registry.snapshot()
        probes = knock_at(asked_for, knock, within)
        now, began = utcnow(), ticking()
        seen = look_at(asked_for, probes, look, within)
        touched = judge(policy, of_site(home, policy), now)
        terms = licences.standing(each.model for each in asked_for)
        stands = standing.of_site(home, policy, now)
        made = plan(
            *(policy, seen, snapshot, now, touched),
            licences=terms,
            places=stands,
            looks=past.looks(now),
            overdue=overdue,
        )
        if ticking() - began >= policy.audit.attestation_valid_s:
            eventlog.emit("plan-stale", generation=made.generation)
            return
        if act(made, registry, trail, lease=turn):
            past.learn(made, (each.id for each in asked_for), snapshot, now)
    except sqlite3.OperationalError as error:
        eventlog.emit("registry-busy", exception=type(error).__name__)
