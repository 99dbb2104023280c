"""What a site says about where its dependencies are reached: `egress.yaml`, and who uses what.

The file says where, never that something is allowed: what it names is put to the same question as
any other dependency. Without a file nothing is said, and a site that is all loopback needs none.
"""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from sovereign.errors import PolicyUnreadable, SettingsUnreadable
from sovereign.policy.yamlfile import read_as

FILE_NAME = "egress.yaml"
SSH_PORT = 22
Protocol = Literal["tcp", "udp"]
Unit = Literal["host", "engine", "gateway", "controller"]
Port = Annotated[int, Meta(ge=1, le=65535)]
HOST: Unit = "host"
SERVICES: tuple[Unit, ...] = ("engine", "gateway", "controller")
"""Units that are users of their own on a managed host; `host` is everybody else."""
_NAME = re.compile(
    r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*"
)
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Said(Struct, frozen=True, forbid_unknown_fields=True):
    """One destination of a dependency: an address, a network in CIDR form, or a name."""

    dependency: Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9.-]{0,79}$")]
    address: str
    port: Port
    protocol: Protocol = "tcp"
    unit: Unit = HOST

    def __post_init__(self) -> None:
        """Refuse what is neither an address nor a name.

        Raises:
            ValueError: nothing could be opened for it.
        """
        if network_of(self.address) is None and not _NAME.fullmatch(self.address):
            raise ValueError(f"{self.address!r} is neither an address nor a name in lower case")


class File(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of egress.yaml. `users` are those of units that run under other names."""

    version: Literal[1] = 1
    destinations: tuple[Said, ...] = ()
    ssh_port: Port = SSH_PORT
    users: dict[Unit, Annotated[str, Meta(pattern="^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}$")]] = {}

    def __post_init__(self) -> None:
        """Refuse a user for everybody else.

        Raises:
            ValueError: `host` is whoever is no service.
        """
        if HOST in self.users or len(set(self.users.values())) < len(self.users):
            raise ValueError("users: one of its own for engine, gateway and controller, no other")


@dataclass(frozen=True, slots=True)
class Destination:
    """Where one unit reaches a dependency. `host` is an address, a network or a name."""

    dependency: str
    unit: Unit
    host: str
    port: int
    protocol: Protocol

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}/{self.protocol}"


def network_of(text: str) -> Network | None:
    """The network of an address or a CIDR form; None when it is neither.

    A network with bits of a host, 192.0.2.5/24, is none: what was meant cannot be told.
    """
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None


def read(path: Path) -> File:
    """What the site says; nothing where there is no file.

    Raises:
        SettingsUnreadable: it says something we do not accept, with its line.
    """
    return read_given(path) if path.exists() else File()


def read_given(path: Path, raw: bytes | None = None) -> File:
    """As `read`, for a file that must be there, or for its content, read already.

    Raises:
        SettingsUnreadable: as there, or it cannot be read.
    """
    try:
        return read_as(path, File, raw)
    except PolicyUnreadable as error:
        raise _refused(error) from error


def _refused(error: PolicyUnreadable) -> SettingsUnreadable:
    accepted = error.accepted or "docs/guide/egress.md"
    return SettingsUnreadable(error.message, found=error.found, accepted=accepted)


def encoded(value: object) -> bytes:
    """JSON that a person can read, and that is the same for the same value."""
    return msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=2) + b"\n"
