"""What the simulator knows of Hetzner Cloud: exactly the types that `infra/clouds/hetzner.py` uses.

Places: `location` is a zone of the policy's table, `networkZone` its region. Ids are whole
numbers, as this cloud's are.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

from infra.simulator.shapes import FLAG, PLACE, TEXT, Failure, Field, Kind, Type

NETWORK = "hcloud:index/network:Network"
SUBNET = "hcloud:index/networkSubnet:NetworkSubnet"
FIREWALL = "hcloud:index/firewall:Firewall"
SSH_KEY = "hcloud:index/sshKey:SshKey"
VOLUME = "hcloud:index/volume:Volume"
SERVER = "hcloud:index/server:Server"
SERVER_NETWORK = "hcloud:index/serverNetwork:ServerNetwork"
VOLUME_ATTACHMENT = "hcloud:index/volumeAttachment:VolumeAttachment"

LABELS = Field(Kind.LABELS)
ADDRESSES = Field(Kind.TEXTS)
RANGE = Field(Kind.TEXT, required=True, replaces=True)

TYPES: Mapping[str, Type] = {
    NETWORK: Type("", {"name": TEXT, "ipRange": RANGE, "labels": LABELS}),
    SUBNET: Type(
        "networkZone",
        {
            "networkId": Field(Kind.NUMBER, required=True, replaces=True, refers=NETWORK),
            "ipRange": RANGE,
            "networkZone": Field(Kind.TEXT, required=True, replaces=True),
            "type": Field(Kind.TEXT, required=True, replaces=True, one_of=("cloud",)),
        },
    ),
    FIREWALL: Type(
        "",
        {
            "name": TEXT,
            "labels": LABELS,
            "rules": Field(
                Kind.PARTS,
                fields={
                    "direction": Field(Kind.TEXT, required=True, one_of=("in", "out")),
                    "protocol": Field(
                        Kind.TEXT, required=True, one_of=("tcp", "udp", "icmp", "gre", "esp")
                    ),
                    "port": TEXT,
                    "sourceIps": ADDRESSES,
                    "destinationIps": ADDRESSES,
                },
            ),
        },
    ),
    SSH_KEY: Type(
        "",
        {
            "name": TEXT,
            "labels": LABELS,
            "publicKey": Field(Kind.TEXT, required=True, replaces=True),
        },
    ),
    VOLUME: Type(
        "location",
        {
            "name": TEXT,
            "labels": LABELS,
            "location": PLACE,
            "size": Field(Kind.NUMBER, required=True),
        },
    ),
    SERVER: Type(
        "location",
        {
            "name": TEXT,
            "labels": LABELS,
            "location": PLACE,
            "serverType": Field(Kind.TEXT, required=True),
            "image": Field(Kind.TEXT, replaces=True),
            "backups": FLAG,
            "firewallIds": Field(Kind.NUMBERS, refers=FIREWALL),
            "sshKeys": Field(Kind.TEXTS, replaces=True, refers=SSH_KEY),
            "publicNets": Field(Kind.PARTS, fields={"ipv4Enabled": FLAG, "ipv6Enabled": FLAG}),
        },
    ),
    SERVER_NETWORK: Type(
        "",
        {
            "serverId": Field(Kind.NUMBER, required=True, replaces=True, refers=SERVER),
            "subnetId": Field(Kind.TEXT, replaces=True, refers=SUBNET),
        },
    ),
    VOLUME_ATTACHMENT: Type(
        "",
        {
            "serverId": Field(Kind.NUMBER, required=True, replaces=True, refers=SERVER),
            "volumeId": Field(Kind.NUMBER, required=True, replaces=True, refers=VOLUME),
            "automount": FLAG,
        },
    ),
}

CONFIG = frozenset({"token", "pollInterval", "pollFunction"})
IMAGES = ("debian-12", "debian-13")
VOLUME_MIN_GB, VOLUME_MAX_GB = 10, 10_240


def wrong(kind: str, inputs: Mapping[str, Any]) -> Iterator[Failure]:
    """What the cloud would not accept of values that have the right form."""
    match kind:
        case k if k == SERVER and inputs.get("image") not in IMAGES:
            yield Failure("image", f"there is no image {inputs.get('image')!r}")
        case k if k == VOLUME and not VOLUME_MIN_GB <= inputs["size"] <= VOLUME_MAX_GB:
            yield Failure("size", f"{inputs['size']} is outside {VOLUME_MIN_GB} to {VOLUME_MAX_GB}")
        case k if k == FIREWALL:
            for index, rule in enumerate(inputs.get("rules", [])):
                yield from _wrong_rule(f"rules[{index}]", rule)
        case k if k in (NETWORK, SUBNET) and not _is_private(inputs["ipRange"]):
            yield Failure("ipRange", f"{inputs['ipRange']} is no private network")


def _wrong_rule(where: str, rule: Mapping[str, Any]) -> Iterator[Failure]:
    """Inbound has sources, outbound has destinations, and tcp and udp have a port."""
    needed, other = ("sourceIps", "destinationIps")[:: 1 if rule["direction"] == "in" else -1]
    if not rule.get(needed) or rule.get(other):
        yield Failure(where, f"direction {rule['direction']} takes {needed}, and not {other}")
    for network in rule.get(needed, []):
        if not _is_network(network):
            yield Failure(f"{where}.{needed}", f"{network} is no network")
    if rule["protocol"] in ("tcp", "udp") and not _is_port(rule.get("port", "")):
        yield Failure(f"{where}.port", f"{rule.get('port')!r} is no port, range or `any`")


def _is_port(text: str) -> bool:
    ends = text.split("-")
    numbers = [int(end) for end in ends if end.isdecimal()]
    return text == "any" or (
        len(numbers) == len(ends) <= 2
        and all(0 < number < 65_536 for number in numbers)
        and numbers == sorted(numbers)
    )


def _is_private(text: str) -> bool:
    return _is_network(text) and ipaddress.ip_network(text).is_private


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True
