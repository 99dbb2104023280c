"""What was tried, compared with what is declared: the data-flow map, held against the kernel. Pure.

Three verdicts. `declared-and-seen`: an opening that was used. `declared-not-seen`: one that nobody
used since the ruleset was loaded. `seen-and-undeclared`: a try that no opening covers, whether it
was dropped or, because the loaded ruleset is another than the plan, let out; that is a finding.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal

from sovereign.egress.firewall import Try
from sovereign.egress.plan import Opening, Plan
from sovereign.egress.shapes import HOST

Verdict = Literal["declared-and-seen", "declared-not-seen", "seen-and-undeclared"]
FINDING: Verdict = "seen-and-undeclared"


@dataclass(frozen=True, slots=True)
class Flow:
    """A line of the report. `user` is a number; `dependency` is what is known of the address."""

    verdict: Verdict
    unit: str
    user: str
    dependency: str
    to: str
    packets: int
    outcome: str


def compare(
    plan: Plan,
    opened: Iterable[Try],
    denied: Iterable[Try],
    units: Mapping[int, str],
    known: Mapping[str, str],
) -> tuple[Flow, ...]:
    """Every opening and every try, findings first.

    Args:
        units: the unit of each service's user; any other user is the host. Empty where services
            cannot be told apart: then an opening of any unit covers a try.
        known: dependency by address, for tries that nothing covers.
    """
    used: dict[Opening, int] = {}
    found: list[Flow] = []
    for each in opened:
        covering = [o for o in plan.openings if _covers(o, each, units)]
        for opening in covering:
            used[opening] = used.get(opening, 0) + each.packets
        if not covering:
            found.append(_undeclared(each, units, known, "let out"))
    found += [_undeclared(each, units, known, "dropped") for each in denied]
    for opening in plan.openings:
        seen: Verdict = "declared-and-seen" if opening in used else "declared-not-seen"
        packets = used.get(opening, 0)
        found.append(Flow(seen, opening.unit, "", opening.dependency, opening.to, packets, ""))
    return tuple(sorted(found, key=lambda flow: (flow.verdict != FINDING, flow.verdict, flow.unit)))


def _covers(opening: Opening, tried: Try, units: Mapping[int, str]) -> bool:
    if units and opening.unit != units.get(tried.uid, HOST):
        return False
    there = (opening.port, opening.protocol) == (tried.port, tried.protocol)
    return there and bool(tried.address) and ip_address(tried.address) in opening.network


def _undeclared(
    tried: Try, units: Mapping[int, str], known: Mapping[str, str], outcome: str
) -> Flow:
    host = f"[{tried.address}]" if ":" in tried.address else tried.address
    to = f"{host}:{tried.port}/{tried.protocol}" if tried.address else f"any/{tried.protocol}"
    unit, name = units.get(tried.uid, HOST), known.get(tried.address, "")
    return Flow(FINDING, unit, str(tried.uid), name, to, tried.packets, outcome)
