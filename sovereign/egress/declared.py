"""Every destination that a site declares, and what the policy says to each. Pure.

A dependency is reached where the settings say (its listener or URL), where the policy says (the
addresses of rules/dependencies.yaml) or where the site says (`egress.yaml`). Whoever uses it, by
its kind, is the unit that gets an opening; nobody else does.

Sources: GDPR Art. 32(1)(b) and 44, in force since 25 May 2018. Self-assessment, not legal advice.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from sovereign import dependencies
from sovereign.dependencies import NONE, SEES, Dependency, Judged
from sovereign.egress.shapes import HOST, Destination, File, Protocol, Unit, network_of
from sovereign.policy import THIS_HOST, Policy
from sovereign.residency import is_loopback
from sovereign.settings import Home

USED_BY: dict[str, tuple[Unit, ...]] = {
    "engine": ("gateway", "controller"),
    "identity-provider": ("gateway",),
    "limits-database": ("gateway",),
    "tracing": ("gateway",),
    "witness": ("controller",),
    "time-stamps": ("controller",),
    "anchor": ("controller",),
}
"""Which units connect to a kind of dependency; a kind that is not here is the host's own."""
HERE = ("gateway", "log-sink")
"""Kinds that are on this host when no address elsewhere is said."""
PROTOCOLS: dict[int, tuple[Protocol, ...]] = {53: ("tcp", "udp"), 123: ("udp",)}
"""How a port of rules/dependencies.yaml is spoken to, where it is not TCP."""
ANCHORED: tuple[Protocol, ...] = ("udp",)
"""How an anchor is spoken to, at whatever port: docs/formats/attestation.md."""


@dataclass(frozen=True, slots=True)
class Declared:
    """A dependency with the policy's answer, and where it is reached: nowhere is a gap."""

    judged: Judged
    destinations: tuple[Destination, ...]

    @property
    def id(self) -> str:
        return self.judged.dependency.id


def of_site(home: Home, policy: Policy, said: File, now: datetime) -> tuple[Declared, ...]:
    """Everything the site declares that is reached over a network, by id.

    What is on this host, or is said not to exist, is not in it. A dependency that `said` names
    and nobody declares is the policy's of that id, or else unknown.
    """
    found = dependencies.of_site(home, policy)
    named = {each.id for each in found}
    more = dict.fromkeys(s.dependency for s in said.destinations if s.dependency not in named)
    judged = dependencies.judge(policy, [*found, *(_unnamed(policy, i) for i in more)], now)
    own = home.settings.gateway.listen
    declared = (Declared(j, tuple(_destinations(policy, j.dependency, said, own))) for j in judged)
    return tuple(sorted((each for each in declared if _is_elsewhere(each)), key=lambda d: d.id))


def _unnamed(policy: Policy, name: str) -> Dependency:
    """An entry of the policy that the settings do not mention; without one, nothing is known."""
    known = policy.dependencies.get(name)
    if known is None:
        data, verbs = SEES["other"]
        return Dependency(name, "other", "", data, verbs, "", "nowhere")
    where = "rules/dependencies.yaml"
    return Dependency(name, "other", known.place, known.data, known.verbs, "", where)


def _is_elsewhere(each: Declared) -> bool:
    asked = each.judged.dependency
    if each.destinations:
        return True
    if asked.place in (THIS_HOST, NONE) or is_loopback(asked.listener):
        return False
    return asked.kind not in HERE and each.judged.verdict != "unknown"


def _destinations(policy: Policy, asked: Dependency, said: File, own: str) -> Iterable[Destination]:
    """Without doubles, in order."""
    units = USED_BY.get(asked.kind, (HOST,))
    found = [d for unit in units for d in _at(asked, unit, asked.listener, own)]
    known = policy.dependencies.get(asked.id)
    if known is not None and asked.said_in == "rules/dependencies.yaml":
        mine = [s for s in said.destinations if s.dependency == asked.id]
        addresses = () if mine else known.addresses  # a mirror of one's own replaces the public
        found += [d for unit in units for each in addresses for d in _at(asked, unit, each, own)]
    found += [
        Destination(asked.id, s.unit, s.address, s.port, s.protocol)
        for s in said.destinations
        if s.dependency == asked.id
    ]
    return dict.fromkeys(sorted(found, key=lambda d: (d.unit, d.host, d.port, d.protocol)))


def _at(asked: Dependency, unit: Unit, address: str, own: str) -> Iterator[Destination]:
    """One destination a protocol, unless it is this host or nothing is said."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]").lower()
    if not host or not port.isdigit() or address == own or is_loopback(address):
        return
    network = network_of(host)
    if network is not None and (network.is_loopback or network.network_address.is_unspecified):
        return
    spoken = PROTOCOLS.get(int(port), ("tcp",))
    for protocol in ANCHORED if asked.kind == "anchor" else spoken:
        yield Destination(asked.id, unit, host, int(port), protocol)


def names(declared: Iterable[Declared]) -> tuple[str, ...]:
    """The names that an opening would need the address of: of what is allowed, no other."""
    found = (
        d.host
        for each in declared
        if each.judged.verdict == "allow"
        for d in each.destinations
        if network_of(d.host) is None
    )
    return tuple(sorted(set(found)))
