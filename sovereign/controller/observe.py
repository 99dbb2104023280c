"""Observe what the settings want and what is really there, as values for `plan`.

The only part of a round that waits for others: a one-token request to each engine, then a look at
the process behind its port, each within a bound. Nothing is judged here.

All are knocked at before any is looked at: an engine may take its time to answer, and what an
attestation rests on, the look, should not grow old meanwhile.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from sovereign import host
from sovereign.controller.bounded import Bounded
from sovereign.engines import ENGINES, Probe
from sovereign.host import SOCKET_TIMEOUT_S, EngineProcess
from sovereign.policy import Policy
from sovereign.settings import Home

Look = Callable[["Wanted"], EngineProcess]
Knock = Callable[["Wanted"], Probe]
TOGETHER_MAX = 32
"""Endpoints looked at in the same moment."""
SPARE_S = 5.0
"""What a knock or a look may take beyond its own time limit."""
DEFAULT_KNOCK_S = 60.0
UNANSWERED = Probe(False, 0, "timed-out", "")


@dataclass(frozen=True, slots=True)
class Wanted:
    """An endpoint as the settings name it. `place` is a code, `address` is `address:port`.

    `model_digest` is the pinned one, which the engine was held to at its start; "" for weights
    that the settings name, of which no digest is pinned. `observe_socket` is where its host is
    asked about its process; "" when that can be read here, directly.
    """

    id: str
    engine: str
    address: str
    model: str
    place: str
    model_digest: str
    observe_socket: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found behind one wanted endpoint."""

    wanted: Wanted
    probe: Probe
    process: EngineProcess


def wanted(home: Home, policy: Policy) -> tuple[Wanted, ...]:
    """The endpoints this site should have: the engine it starts, and those that others start."""
    engine = home.settings.engine
    model = policy.models.get(engine.model)
    package = model.sources.package if model is not None and not engine.weights else None
    digest = f"sha256:{package.sha256}" if package is not None else ""
    own = Wanted(
        home.settings.own_endpoint,
        engine.name,
        engine.listen,
        engine.model,
        home.settings.place,
        digest,
        home.settings.controller.observe_socket,
    )
    others = home.settings.endpoints
    return own, *(
        Wanted(e.id, e.name, e.address, e.model, e.place, "", e.observe_socket) for e in others
    )


@dataclass(frozen=True, slots=True)
class Bounds:
    """What bounds the knocks and looks of a process, and knows from round to round which of them
    have not come back."""

    knocks: Bounded[Probe] = field(
        default_factory=lambda: Bounded(DEFAULT_KNOCK_S + SPARE_S, TOGETHER_MAX)
    )
    looks: Bounded[EngineProcess] = field(
        default_factory=lambda: Bounded(SOCKET_TIMEOUT_S + SPARE_S, TOGETHER_MAX)
    )


def bounds(probe_timeout_s: float) -> Bounds:
    """For knocks of such a time limit."""
    return Bounds(Bounded(probe_timeout_s + SPARE_S, TOGETHER_MAX))


def knock_at(endpoints: tuple[Wanted, ...], knock: Knock, within: Bounds) -> dict[str, Probe]:
    """Knock at several together, so that one that does not answer holds no other up."""
    return within.knocks.run({each.id: partial(knock, each) for each in endpoints})


def look_at(
    endpoints: tuple[Wanted, ...], probes: Mapping[str, Probe], look: Look, within: Bounds
) -> tuple[Seen, ...]:
    """Look at the process of each; what did not come back in time is not answering, or not seen."""
    found = within.looks.run({each.id: partial(look, each) for each in endpoints})
    return tuple(
        Seen(each, probes.get(each.id, UNANSWERED), found.get(each.id, EngineProcess()))
        for each in endpoints
    )


def knocking(timeout_s: float) -> Knock:
    """A one-token request through the engine's own adapter."""

    def knock(endpoint: Wanted) -> Probe:
        engine = ENGINES[endpoint.engine]
        return engine.probe(f"http://{endpoint.address}", endpoint.model, timeout_s)

    return knock


def looking() -> Look:
    """Read this host directly, or ask an observer: where only root may see, or of another host."""

    def look(endpoint: Wanted) -> EngineProcess:
        if endpoint.observe_socket:
            return host.ask(endpoint.observe_socket)
        names = [rule.name for rule in ENGINES[endpoint.engine].required_environment()]
        return host.observe(endpoint.address, names)

    return look
