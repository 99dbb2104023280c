"""What each name was resolved to, once, by whoever looked: kept, recorded and never followed.

A name is somebody else's: what it leads to changes without anybody here being asked. So an opening
is for addresses that were pinned. When a name leads elsewhere that is a difference to be looked at
(`changes`); pinning anew is a verb, with a record.
"""

import ipaddress
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from sovereign.audit.disk import RealDisk
from sovereign.egress.shapes import encoded
from sovereign.errors import StateUnreadable

FILE_NAME = "egress-pins.json"
ADDRESSES_MAX = 64
"""So many addresses of one name are taken; more would be a network, and is declared as one."""


class Pin(msgspec.Struct, frozen=True):
    """A name and where it led at that time; addresses in order, IPv4 first."""

    name: str
    addresses: tuple[str, ...]
    resolved_at: datetime


class Pins(msgspec.Struct, frozen=True):
    """Every pin of a site, by name."""

    version: int = 1
    pins: tuple[Pin, ...] = ()

    @property
    def by_name(self) -> dict[str, tuple[str, ...]]:
        return {pin.name: pin.addresses for pin in self.pins}


@dataclass(frozen=True, slots=True)
class Change:
    """A name that leads elsewhere than it was pinned to. `now` is empty where nothing answers."""

    name: str
    pinned: tuple[str, ...]
    now: tuple[str, ...]

    @property
    def added(self) -> tuple[str, ...]:
        return tuple(each for each in self.now if each not in self.pinned)

    @property
    def gone(self) -> tuple[str, ...]:
        return tuple(each for each in self.pinned if each not in self.now)


def changes(pinned: Pins, resolved: Mapping[str, tuple[str, ...]]) -> tuple[Change, ...]:
    """Names that were not pinned, or lead elsewhere now. Pure.

    A name of which nothing answers is none: it was there, and nothing new is.
    """
    known = pinned.by_name
    found = (Change(name, known.get(name, ()), resolved[name]) for name in sorted(resolved))
    return tuple(each for each in found if each.now and set(each.now) != set(each.pinned))


def renewed(
    pinned: Pins, names: Iterable[str], resolved: Mapping[str, tuple[str, ...]], now: datetime
) -> Pins:
    """The pins of `names`: as they were resolved now, or as before where nothing answered. Pure."""
    before = {pin.name: pin for pin in pinned.pins}
    found = []
    for name in sorted(set(names)):
        old, new = before.get(name), resolved.get(name, ())
        if new and (old is None or set(old.addresses) != set(new)):
            found.append(Pin(name, new, now))
        elif old is not None:
            found.append(old)
    return Pins(pins=tuple(found))


def resolve(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Ask this host's resolver, once a name; its own time limits bound the wait.

    A name that it does not know has no addresses.
    """
    return {name: _addresses(name) for name in sorted(set(names))}


def _addresses(name: str) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return ()
    usable = {ipaddress.ip_address(str(info[4][0]).partition("%")[0]) for info in found}
    kept = [a for a in usable if not (a.is_unspecified or a.is_multicast or a.is_link_local)]
    ordered = sorted(kept, key=lambda address: (address.version, int(address)))
    return tuple(str(address) for address in ordered[:ADDRESSES_MAX])


def read(path: Path) -> Pins:
    """The pins of a site; none where nobody has pinned any.

    Raises:
        StateUnreadable: the file cannot be read, or is no file of ours.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Pins)
    except FileNotFoundError:
        return Pins()
    except (OSError, msgspec.MsgspecError) as error:
        raise StateUnreadable(
            f"{path} cannot be read",
            found=type(error).__name__,
            accepted="what sovereign egress pin has written",
            next_step="remove it and pin anew",
        ) from None


def write(path: Path, pins: Pins) -> None:
    """Replace the file; a crash leaves the old one or the new one."""
    disk = RealDisk(path.parent)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(encoded(pins))
    fresh.chmod(0o644)
    disk.sync(fresh.name)
    disk.rename(fresh.name, path.name)
    disk.sync(".")
