"""What goes into a cloud and what comes out: the whole contract of a file in `clouds/`.

A `Site` is plain values, decided before anything is made. `Outputs` holds what a cloud only
knows afterwards, so its addresses may still be promises of the engine; once they are kept,
`inventory` turns them into what the playbooks read.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from infra.stack import Backups, Machine
from sovereign.policy import THIS_HOST

INVENTORY_GROUP = "inference"


@dataclass(frozen=True, slots=True)
class Price:
    """What one machine costs an hour before VAT, on the day that was read."""

    hour: str
    currency: str
    read_on: str
    source: str


@dataclass(frozen=True, slots=True)
class Offer:
    """A machine type as the cloud sells it. `price` is None when we have read none."""

    id: str
    gpus: int
    gpu: str
    gpu_memory_gb: int
    price: Price | None


@dataclass(frozen=True, slots=True)
class Site:
    """Everything a cloud needs to know. `place` is `provider:zone`."""

    stack: str
    cloud: str
    zone: str
    region: str
    place: str
    offer: Offer | None
    nodes: int
    model: str
    engine: str
    profile: str
    environment: str
    allow_from: tuple[str, ...]
    gateway_port: int
    disk_gb: int
    admin_key: str
    backups: Backups | None
    machines: tuple[Machine, ...]


@dataclass(frozen=True, slots=True)
class Host:
    """A machine to configure. `address` may be a `pulumi.Output` until it is made."""

    name: str
    address: Any
    user: str
    port: int
    place: str


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a cloud gives back."""

    hosts: tuple[Host, ...]
    backups: Any = ""


def inventory(site: Site, hosts: Iterable[Host]) -> dict[str, Any]:
    """The hosts as Ansible reads them: one group, and what the playbooks need to know."""
    each = {
        host.name: {**_way_in(host, site.gateway_port), "sovereign_place": host.place}
        for host in hosts
    }
    told: Mapping[str, Any] = {
        "gateway_clients": list(site.allow_from),
        "sovereign_site": site.stack,
        "sovereign_engine": site.engine,
        "sovereign_model": site.model,
        "sovereign_profile": site.profile,
        "sovereign_environment": site.environment,
    }
    return {"all": {"children": {INVENTORY_GROUP: {"hosts": each, "vars": dict(told)}}}}


def _way_in(host: Host, gateway_port: int) -> dict[str, Any]:
    if host.place == THIS_HOST:
        return {"ansible_connection": "local"}
    return {
        "ansible_host": host.address,
        "ansible_user": host.user,
        "ansible_port": host.port,
        "sovereign_listen": f"{{{{ ansible_host }}}}:{gateway_port}",
    }
