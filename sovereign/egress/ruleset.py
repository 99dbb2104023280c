"""A plan as the text of an nftables table, and as drop-ins of systemd. Pure.

The table is one of its own: no rule of anybody else is touched, and none of theirs can allow what
is dropped here. Its only base chain drops what no rule accepts. Services go to a chain of their
own by the user they run as (`meta skuid`), and never come back from it; everybody else is the host.

What is opened and what is denied is kept in sets with counters, by user, address and port, so that
`nft list` can say who tried what: no line of a log is needed for it. The log gets a few lines a
minute for whoever is on call.

KNOWN: services that run as one user cannot be told apart; then everybody may use every opening.
KNOWN: what is forwarded (containers, guests) is not filtered; see the guide.
"""

from collections.abc import Iterator, Mapping

from sovereign.egress.plan import Opening, Plan
from sovereign.egress.shapes import HOST, SERVICES, SSH_PORT, Unit

TABLE = "sovereign_egress"
TRIED_MAX = 4096
"""So many different tries are kept; what comes on top is counted and dropped all the same."""
LOGGED_PER_MINUTE = 10
LOG_PREFIX = "sovereign-egress denied "
COMMENT_MAX_CHARS = 120
_PORTS = "meta l4proto { tcp, udp }"
_KEYS = {
    "{}": "meta skuid . ip daddr . meta l4proto . th dport",
    "{}6": "meta skuid . ip6 daddr . meta l4proto . th dport",
}
OTHER = "denied_other"
_OTHER_KEY = "meta skuid . meta l4proto"
Users = Mapping[Unit, str]


def text(plan: Plan, users: Users, kept_days: int, ssh_port: int = SSH_PORT) -> str:
    """The whole table, for `nft --file`; loading it twice is loading it once.

    Args:
        users: the user each service runs as, a name or a number; empty: they cannot be told apart.
        kept_days: days after its last try that one is forgotten, at least 1.
    """
    return "\n".join(_lines(plan, users, kept_days, ssh_port)) + "\n"


def _lines(plan: Plan, users: Users, kept_days: int, ssh_port: int) -> Iterator[str]:
    yield "# Made by `sovereign egress ruleset`; do not edit."
    yield f"table inet {TABLE}"
    yield f"delete table inet {TABLE}"
    yield f"table inet {TABLE} {{"
    for kind in ("opened", "denied"):
        for name, key in _KEYS.items():
            yield _set(name.format(kind), key, kept_days)
    yield _set(OTHER, _OTHER_KEY, kept_days)
    yield from _chain("output", _output(plan, users, ssh_port))
    for unit in SERVICES:
        if unit in users:
            yield from _chain(unit, [*map(_rule, plan.of(unit)), "goto refuse"])
    yield from _chain("open", [*_kept("opened"), "accept"])
    yield from _chain("refuse", _refuse())
    yield "}"


def _set(name: str, key: str, kept_days: int) -> str:
    kept = f"flags dynamic, timeout; timeout {kept_days}d; size {TRIED_MAX}; counter;"
    return f"  set {name} {{ typeof {key}; {kept} }}"


def _chain(name: str, rules: Iterator[str] | list[str]) -> Iterator[str]:
    yield f"  chain {name} {{"
    yield from (f"    {rule}" for rule in rules)
    yield "  }"


def _output(plan: Plan, users: Users, ssh_port: int) -> Iterator[str]:
    """What every unit may, then each service to its chain, then the host's own openings."""
    yield "type filter hook output priority filter; policy drop;"
    yield 'ct state established,related accept comment "answers"'
    yield 'oifname "lo" accept comment "this host itself"'
    yield f'tcp sport {ssh_port} accept comment "ssh, whatever is known of the connection"'
    neighbours = "nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit"
    yield f'icmpv6 type {{ {neighbours} }} accept comment "neighbours"'
    yield 'udp sport 68 udp dport 67 accept comment "an address of its own"'
    yield 'udp sport 546 udp dport 547 accept comment "an address of its own"'
    for unit in SERVICES:
        if unit in users:
            yield f'meta skuid {_user(users[unit])} goto {unit} comment "{unit}"'
    hosts = (each for each in plan.openings if each.unit == HOST or each.unit not in users)
    yield from dict.fromkeys(map(_rule, hosts))
    yield "goto refuse"


def _user(name: str) -> str:
    return name if name.isdigit() else f'"{name}"'


def _rule(each: Opening) -> str:
    """Ends in `open`, where an accept follows whether or not the try could be kept."""
    family = "ip" if each.network.version == 4 else "ip6"
    single = each.network.prefixlen == each.network.max_prefixlen
    to = each.network.network_address if single else each.network
    comment = f"to {each.dependency}"[:COMMENT_MAX_CHARS]
    match = f"{family} daddr {to} {each.protocol} dport {each.port}"
    return f'{match} goto open comment "{comment}"'


def _kept(kind: str) -> Iterator[str]:
    """One rule a set: where one cannot keep a try, the next rules go on."""
    for name, key in _KEYS.items():
        yield f"{_PORTS} update @{name.format(kind)} {{ {key} }}"


def _refuse() -> Iterator[str]:
    yield from _kept("denied")
    yield f"meta l4proto != {{ tcp, udp }} update @{OTHER} {{ {_OTHER_KEY} }}"
    logged = f"limit rate {LOGGED_PER_MINUTE}/minute burst 5 packets"
    yield f'{logged} log prefix "{LOG_PREFIX}" level info flags skuid'
    yield 'counter drop comment "dropped"'


def drop_ins(plan: Plan, users: Users) -> dict[str, str]:
    """What each service's unit lets it talk to, by path below /etc/systemd/system.

    Only where there is something to allow: the sandbox of all units says `IPAddressDeny=any`.
    Addresses only, because systemd knows no ports.
    """
    found = {}
    for unit in SERVICES:
        allowed = dict.fromkeys(str(each.network) for each in plan.of(unit))
        if unit in users and allowed:
            lines = ["# Made by `sovereign egress ruleset`; do not edit.", "[Service]"]
            lines += ["IPAddressDeny=any", f"IPAddressAllow={' '.join(allowed)}"]
            found[f"sovereign-{unit}.service.d/30-egress.conf"] = "\n".join(lines) + "\n"
    return found
