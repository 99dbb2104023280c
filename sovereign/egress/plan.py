"""From what is declared and what was pinned to what is opened, and what is not and why. Pure.

An opening is an address, a port, a protocol and the unit that may use it. What the policy refuses,
what nobody could place, a name that nobody pinned and a dependency whose address nobody said get
none: each is a gap, with the reason.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from sovereign.egress.declared import Declared
from sovereign.egress.pins import Pins
from sovereign.egress.shapes import Destination, Network, Protocol, Unit, network_of

Why = Literal["refused", "unknown", "not-pinned", "no-address"]


@dataclass(frozen=True, slots=True)
class Opening:
    """What one unit may connect to. `name` is the pinned name, "" where an address was said."""

    unit: Unit
    dependency: str
    network: Network
    port: int
    protocol: Protocol
    name: str = ""

    @property
    def to(self) -> str:
        """As a person writes it: a single address without its length."""
        single = self.network.prefixlen == self.network.max_prefixlen
        text = str(self.network.network_address) if single else str(self.network)
        return f"[{text}]:{self.port}/{self.protocol}" if ":" in text else self._plain(text)

    def _plain(self, text: str) -> str:
        return f"{text}:{self.port}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class Gap:
    """What is declared and not opened. `rule` is the one that refuses; `to` may be nothing."""

    dependency: str
    to: str
    why: Why
    rule: str = ""
    found: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is opened and what is not, in an order that only the content decides."""

    openings: tuple[Opening, ...]
    gaps: tuple[Gap, ...]

    def of(self, unit: Unit) -> tuple[Opening, ...]:
        return tuple(each for each in self.openings if each.unit == unit)


def plan(declared: Iterable[Declared], pins: Pins) -> Plan:
    """Decide what is opened. Order of the declarations does not matter."""
    openings: list[Opening] = []
    gaps: list[Gap] = []
    for each in declared:
        refused = _refused(each)
        if refused:
            gaps += refused
            continue
        if not each.destinations:
            gaps.append(Gap(each.id, "", "no-address"))
        for destination in each.destinations:
            found = list(_openings(destination, pins))
            openings += found
            if not found:
                gaps.append(Gap(each.id, str(destination), "not-pinned"))
    return Plan(
        tuple(sorted(set(openings), key=_key)),
        tuple(sorted(set(gaps), key=lambda gap: (gap.dependency, gap.to, gap.why))),
    )


def _refused(each: Declared) -> list[Gap]:
    """What the policy does not allow; a destination that is not allowed is named."""
    verdict, answer = each.judged.verdict, each.judged.decision
    if verdict == "allow":
        return []
    told = [str(destination) for destination in each.destinations] or [""]
    if answer is None:  # nobody has said where it is, or that there is such a thing
        return [Gap(each.id, to, "unknown") for to in told]
    return [Gap(each.id, to, "refused", answer.rule, answer.found) for to in told]


def _openings(wanted: Destination, pins: Pins) -> Iterator[Opening]:
    network = network_of(wanted.host)
    if network is not None:
        yield _opening(wanted, network, "")
        return
    for address in pins.by_name.get(wanted.host, ()):
        pinned = network_of(address)
        if pinned is not None:
            yield _opening(wanted, pinned, wanted.host)


def _opening(wanted: Destination, network: Network, name: str) -> Opening:
    return Opening(wanted.unit, wanted.dependency, network, wanted.port, wanted.protocol, name)


def _key(each: Opening) -> tuple[object, ...]:
    address = each.network
    where = (address.version, int(address.network_address), address.prefixlen)
    return (each.unit, where, each.port, each.protocol, each.dependency, each.name)
