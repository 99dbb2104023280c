"""Cut this host off from every network but loopback, for a time that the kernel keeps.

The rules drop what is of a family in a set, and the elements of the set run out. So nobody has to
be alive to lift the cut: not this process, not ssh, not a supervisor. What is left then is a table
that matches nothing, which `lift` removes.

It comes before any other filter, so that what is counted here is what would have left.
"""

import json
import socket
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

from sovereign.egress import firewall

TABLE = "sovereign_drill_cut"
BEFORE_ANY_FILTER = -300
AT_MOST_S = 600
_SET = "families"
NOWHERE = (
    (socket.AF_INET, "192.0.2.1"),
    (socket.AF_INET6, "2001:db8::1"),
)
"""Addresses of documentation (RFC 5737, RFC 3849): nobody has them, nothing is sent to anybody."""
_DISCARD = 9
Outcome = Literal["sent", "refused", "no way"]


def text(for_s: int) -> str:
    """The table, for `nft --file`: loading it again begins the time anew.

    Args:
        for_s: seconds until the kernel lets everything pass again, 1 to `AT_MOST_S`.
    """
    elements = f"ipv4 timeout {for_s}s, ipv6 timeout {for_s}s"
    lines = [
        "# Made by `sovereign drill disconnect`; it runs out by itself.",
        f"table inet {TABLE}",
        f"delete table inet {TABLE}",
        f"table inet {TABLE} {{",
        f"  set {_SET} {{ typeof meta nfproto; flags timeout; elements = {{ {elements} }}; }}",
        *_chain("output", 'oifname != "lo" '),
        *_chain("input", 'iifname != "lo" '),
        *_chain("forward", ""),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _chain(hook: str, elsewhere: str) -> Iterable[str]:
    yield f"  chain {hook} {{"
    yield f"    type filter hook {hook} priority {BEFORE_ANY_FILTER}; policy accept;"
    yield f"    {elsewhere}meta nfproto @{_SET} counter drop"
    yield "  }"


def begin(for_s: int) -> None:
    """From now on nothing leaves or comes in, until the time is over.

    Raises:
        FirewallUnreadable: nothing was cut.
    """
    if not 1 <= for_s <= AT_MOST_S:
        raise ValueError(f"{for_s} s is not between 1 and {AT_MOST_S}")
    firewall.need()
    firewall.run("nft", "--file", "-", given=text(for_s))


def lift() -> None:
    """Let everything pass and leave no table. Lifting twice does no harm.

    Raises:
        FirewallUnreadable: it could not be removed; it runs out by itself all the same.
    """
    firewall.need()
    if firewall.loaded(TABLE) is not None:
        firewall.run("nft", "delete", "table", "inet", TABLE)


@dataclass(frozen=True, slots=True)
class State:
    """What the kernel says: the seconds left, rounded up, 0 when it is over; what it dropped."""

    left_s: int
    dropped: int


def state() -> State:
    """Look at the cut; one that is not there has ended and dropped nothing.

    Raises:
        FirewallUnreadable: it cannot be read here.
    """
    if firewall.loaded(TABLE) is None:
        return State(0, 0)
    entries = json.loads(firewall.run("nft", "--json", "list", "table", "inet", TABLE))["nftables"]
    held = [e["elem"] for s in entries if "set" in s for e in s["set"].get("elem", ())]
    parts = [part for entry in entries for part in entry.get("rule", {}).get("expr", ())]
    dropped = sum(part["counter"]["packets"] for part in parts if "counter" in part)
    return State(max((each["expires"] + 1 for each in held), default=0), dropped)


def tries() -> dict[str, Outcome]:
    """Send one datagram over each family to an address that nobody has."""
    return {to: _try(family, to) for family, to in NOWHERE}


def _try(family: socket.AddressFamily, to: str) -> Outcome:
    try:
        with closing(socket.socket(family, socket.SOCK_DGRAM)) as one:
            one.sendto(b"\0", (to, _DISCARD))
    except PermissionError:
        return "refused"
    except OSError:
        return "no way"
    return "sent"
