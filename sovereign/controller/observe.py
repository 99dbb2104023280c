"""Observe what the settings want and what is really there, as values for `plan`.

The only part of a round that waits for others: a one-token request to each engine, and a
look at the process behind its port. Nothing is judged here.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sovereign import host
from sovereign.engines import ENGINES, Probe
from sovereign.host import EngineProcess
from sovereign.policy import Policy
from sovereign.settings import Home

Look = Callable[["Wanted"], EngineProcess]
Knock = Callable[["Wanted"], Probe]
TOGETHER_MAX = 32
"""Endpoints looked at in the same moment."""


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


def observe(endpoints: tuple[Wanted, ...], knock: Knock, look: Look) -> tuple[Seen, ...]:
    """Knock at each endpoint and look at its process; at several together, so that one that does
    not answer does not let what is known of the others grow old."""

    def see(endpoint: Wanted) -> Seen:
        return Seen(endpoint, knock(endpoint), look(endpoint))

    if len(endpoints) == 1:
        return (see(endpoints[0]),)
    with ThreadPoolExecutor(min(len(endpoints), TOGETHER_MAX)) as pool:
        return tuple(pool.map(see, endpoints))


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
