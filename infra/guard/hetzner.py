"""Hetzner Cloud's types, for `types.py`, and what of them is refused wherever it stands.

The package is called `hcloud` and the provider of the policy's places `hetzner`. Its provider
has no region of its own, so every type that has a place has to state it.
"""

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

PACKAGE, CLOUD = "hcloud", "hetzner"

DOOR_CLOSED = "guard-door-closed"
KEYS_ONLY = "guard-keys-only"
COPIES_STAY = "guard-copies-stay"
DATA_TAGGED = "guard-data-tagged"
TAGS = ("cost", "data")


def _types(words: str) -> frozenset[str]:
    """`server` is short for `hcloud:index/server:Server`."""
    return frozenset(
        f"{PACKAGE}:index/{word}:{word[0].upper()}{word[1:]}" for word in words.split()
    )


(SERVER,), (VOLUME,), (FIREWALL,) = _types("server"), _types("volume"), _types("firewall")
KEPT = _types("volume storageBox")

PLACED: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(_types("loadBalancer primaryIp server storageBox volume"), ("location",)),
    **dict.fromkeys(_types("floatingIp"), ("homeLocation",)),
    **dict.fromkeys(_types("networkSubnet"), ("networkZone",)),
}

PLACELESS: Mapping[str, str] = {
    f"pulumi:providers:{PACKAGE}": "a token; it has no region, and each type states its own",
    **dict.fromkeys(_types("sshKey"), "the public half of a key, in the account's directory"),
    **dict.fromkeys(
        _types("network networkRoute"), "addresses only; each subnet states its network zone"
    ),
    **dict.fromkeys(
        _types("firewall firewallAttachment placementGroup"), "rules and names, and no data"
    ),
    **dict.fromkeys(
        _types("floatingIpAssignment serverNetwork volumeAttachment"),
        "joins two things that have places of their own",
    ),
    **dict.fromkeys(
        _types("loadBalancerNetwork loadBalancerService loadBalancerTarget"),
        "part of a load balancer, which has a place of its own",
    ),
    **dict.fromkeys(
        _types("storageBoxSnapshot storageBoxSubaccount"),
        "part of a storage box, which has a place of its own",
    ),
    **dict.fromkeys(
        _types("rdns zone zoneRecord zoneRrset"), "a public name; its content is public"
    ),
}

UNPLACEABLE: Mapping[str, str] = {
    **dict.fromkeys(
        _types("snapshot"), "a copy of a whole disk would rest where the cloud does not say"
    ),
    **dict.fromkeys(
        _types("certificate managedCertificate uploadedCertificate"),
        "a private key would be kept in a directory whose place is not stated",
    ),
}

_Refusal = tuple[str, str, str]
"""Rule, because, found."""


def refusals(kind: str, inputs: Mapping[str, Any]) -> Iterator[_Refusal]:
    """What is wrong with these inputs, wherever the resource stands."""
    if "password" in inputs:
        yield KEYS_ONLY, "A password can be guessed and handed on; use a key.", "password is set"
    if kind == SERVER:
        yield from _server(inputs)
    if kind == FIREWALL:
        yield from _firewall(inputs.get("rules"))
    if kind in (SERVER, *KEPT):
        yield from _tags(inputs.get("labels"))


def _server(inputs: Mapping[str, Any]) -> Iterator[_Refusal]:
    if not inputs.get("sshKeys"):
        because = "Without a key the cloud makes a root password and sends it by mail."
        yield KEYS_ONLY, because, "sshKeys is not set"
    if not inputs.get("firewallIds"):
        because = "A machine without a firewall answers the whole internet."
        yield DOOR_CLOSED, because, "firewallIds is not set"
    if inputs.get("backups", False) is not False:
        because = "The cloud's own backups rest where nothing names; the site makes its own."
        yield COPIES_STAY, because, "backups is not false"


def _firewall(rules: Any) -> Iterator[_Refusal]:
    """Inbound without a rule is closed here, so only what is opened is looked at."""
    because = "Only the networks that the stack names may open a connection."
    if rules is not None and not isinstance(rules, Sequence):
        yield DOOR_CLOSED, because, "its rules are not known before they are made"
        return
    for rule in rules or ():
        if not isinstance(rule, Mapping) or rule.get("direction") not in ("in", "out"):
            yield DOOR_CLOSED, because, "a rule whose direction is not known"
        elif rule["direction"] == "in" and not _narrow(rule.get("sourceIps")):
            yield DOOR_CLOSED, because, f"port {_word(rule.get('port'))} is open to every address"


def _narrow(networks: Any) -> bool:
    """True when each is a network, and none is all of them."""
    if not isinstance(networks, list | tuple) or not networks:
        return False
    try:
        return all(ipaddress.ip_network(network).prefixlen > 0 for network in networks)
    except (TypeError, ValueError):
        return False


def _tags(labels: Any) -> Iterator[_Refusal]:
    for name in TAGS:
        if not isinstance(labels, Mapping) or not isinstance(labels.get(name), str):
            because = "Whoever looks at the account must see what data this holds, and who pays."
            yield DATA_TAGGED, because, f"the label {name} is not set"


def _word(value: Any) -> str:
    return value if isinstance(value, str) else "unknown"
