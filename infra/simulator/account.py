"""One simulated account: what stands in it, and what the cloud would not let into it.

The books are one JSON file, written whole or not at all, so that a rehearsal can be looked
at afterwards. `check` is what the cloud says of a wish before anything is made; `create`
and the others also look at what stands already.
"""

import ipaddress
import json
import threading
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from infra.offers import Shop
from infra.simulator import catalogue, hetzner
from infra.simulator.shapes import Failure, Field, Kind, Type

TYPES: Mapping[str, Type] = {**catalogue.TYPES, **hetzner.TYPES}
CONFIG: Mapping[str, frozenset[str]] = {"scaleway": catalogue.CONFIG, "hetzner": hetzner.CONFIG}

ADDRESSED = {catalogue.IP: "address", hetzner.SERVER: "ipv4Address"}
"""Types that are given a public address, and the property that says it."""

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""How the engine writes a text that is not known before something is made."""


class CloudRefused(Exception):
    """The cloud says no, in words for a person. Nothing was changed."""


class Account:
    """The books of one account. Safe to use from several threads of one process."""

    def __init__(self, books: Path, shop: Shop) -> None:
        self._books = books
        self._shop = shop
        self._lock = threading.Lock()
        self._defaults: Mapping[str, Any] = {}

    def check_config(self, config: Mapping[str, Any]) -> list[Failure]:
        """Say which settings of the provider the cloud does not have."""
        return [
            Failure(name, f"the simulator does not know the setting {name!r}")
            for name in config
            if name not in CONFIG[self._shop.provider] and name != "version"
        ]

    def configure(self, config: Mapping[str, Any]) -> None:
        """Take the provider's defaults.

        The engine asks the guard between `check_config` and this, so a place that does not
        exist is refused by the policy first, and by the cloud all the same.

        Raises:
            CloudRefused: there is no such region or zone, or the zone is in another region.
        """
        for what in ("zone", "region"):
            given = config.get(what)
            if given and given not in self._places(what):
                raise CloudRefused(self._no_such(what, given))
        zone, region = config.get("zone"), config.get("region")
        if zone and region and self._shop.region_of[zone] != region:
            raise CloudRefused(f"{zone} is not in the region {region}")
        self._defaults = dict(config)

    def check(self, kind: str, inputs: Mapping[str, Any]) -> list[Failure]:
        """Say what is wrong with a wish, property by property; empty when nothing is."""
        known = TYPES.get(kind)
        if known is None:
            return [Failure("", f"the simulator does not know the type {kind}")]
        failures = list(_wrong_fields("", known.properties, inputs))
        failures += self._wrong_place(known, inputs)
        return failures or list(self._wrong_values(kind, inputs))

    def _wrong_place(self, known: Type, inputs: Mapping[str, Any]) -> Iterator[Failure]:
        if not known.place:
            return
        place = self._place(known, inputs)
        if place is None:
            yield Failure(known.place, f"no {known.place} is given, here or to the provider")
        elif place != UNKNOWN and place not in self._places(known.place):
            yield Failure(known.place, self._no_such(known.place, place))

    def _place(self, known: Type, inputs: Mapping[str, Any]) -> Any:
        return inputs.get(known.place) or self._defaults.get(known.place)

    def _places(self, what: str) -> set[str]:
        zones = self._shop.region_of
        return set(zones if what in ("zone", "location") else zones.values())

    def _no_such(self, what: str, found: object) -> str:
        return f"there is no {what} {found!r}; known: {', '.join(sorted(self._places(what)))}"

    def _wrong_values(self, kind: str, inputs: Mapping[str, Any]) -> Iterator[Failure]:
        match kind:
            case catalogue.SERVER:
                yield from self._wrong_server(inputs)
            case catalogue.VOLUME:
                yield from _wrong_volume(inputs)
            case catalogue.SECURITY_GROUP:
                for name in ("inboundRules", "outboundRules"):
                    yield from _wrong_rules(name, inputs.get(name, []))
            case catalogue.PRIVATE_NETWORK:
                subnet = inputs.get("ipv4Subnet", {}).get("subnet")
                if subnet and not _is_network(subnet, private=True):
                    yield Failure("ipv4Subnet", f"{subnet} is no private network")
            case hetzner.SERVER:
                yield from self._not_sold("serverType", inputs["location"], inputs)
        yield from hetzner.wrong(kind, inputs)

    def _wrong_server(self, inputs: Mapping[str, Any]) -> Iterator[Failure]:
        yield from self._not_sold("type", self._place(TYPES[catalogue.SERVER], inputs), inputs)
        if inputs.get("image") not in (None, UNKNOWN, *catalogue.IMAGES):
            yield Failure("image", f"there is no image {inputs['image']!r}")

    def _not_sold(self, name: str, zone: str, inputs: Mapping[str, Any]) -> Iterator[Failure]:
        sold = [offer.id for offer in self._shop.sold_in(zone)]
        if inputs[name] not in (*sold, UNKNOWN):
            yield Failure(name, f"{inputs[name]} is not sold in {zone}; sold: {sold}")

    def create(self, kind: str, urn: str, inputs: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Make what was checked; return its id and everything that is known of it.

        Raises:
            CloudRefused: something it refers to is missing or elsewhere, or a quota is full.
        """
        with self._lock:
            books = self._read()
            self._refuse_wrong_references(books, kind, inputs)
            self._refuse_over_quota(books, kind, inputs)
            place = self._place(TYPES[kind], inputs) if TYPES[kind].place else ""
            new = _identity(kind, place, books)
            outputs = {**inputs, **self._given(books, kind, inputs, place)}
            books[new] = {"kind": kind, "urn": urn, "inputs": dict(inputs), "outputs": outputs}
            self._write(books)
        return new, outputs

    def _given(
        self, books: Mapping[str, Any], kind: str, inputs: Mapping[str, Any], place: str
    ) -> dict[str, Any]:
        """What the cloud adds of its own. Addresses are documentation ones (RFC 5737)."""
        given: dict[str, Any] = {TYPES[kind].place: place} if place else {}
        if kind in ADDRESSED:
            name = ADDRESSED[kind]
            used = {entry["outputs"].get(name) for entry in books.values()}
            hosts = ipaddress.ip_network("203.0.113.0/24").hosts()
            given[name] = next(str(host) for host in hosts if str(host) not in used)
        if kind == catalogue.BUCKET:
            storage = next(host for host, region in self._shop.storage.items() if region == place)
            given["endpoint"] = f"https://{inputs.get('name', 'unnamed')}.{storage}"
        return given

    def _refuse_wrong_references(
        self, books: Mapping[str, Any], kind: str, inputs: Mapping[str, Any]
    ) -> None:
        own = self._place(TYPES[kind], inputs) if TYPES[kind].place else None
        for name, wanted, target in _references(kind, inputs):
            entry = books.get(target)
            if entry is None or entry["kind"] != wanted:
                raise CloudRefused(f"{name}: there is no {wanted} {target!r} in this account")
            there = entry["outputs"].get(TYPES[wanted].place)
            own = own or there
            if there is not None and self._region(there) != self._region(own):
                raise CloudRefused(f"{name}: {target!r} is in {there}, not in {own}")
            if kind == hetzner.VOLUME_ATTACHMENT and there != own:
                raise CloudRefused(f"{name}: {target!r} is in {there}, not in {own}")

    def _region(self, place: Any) -> str:
        return self._shop.region_of.get(place, str(place))

    def _refuse_over_quota(
        self, books: Mapping[str, Any], kind: str, inputs: Mapping[str, Any]
    ) -> None:
        if kind == catalogue.BUCKET and inputs.get("name") in {
            entry["inputs"].get("name") for entry in books.values() if entry["kind"] == kind
        }:
            raise CloudRefused(f"name: a bucket {inputs['name']!r} exists already")
        if kind == catalogue.SERVER:
            wished = [*(e["inputs"] for e in books.values() if e["kind"] == kind), inputs]
            gpus = sum(self._gpus(each) for each in wished)
            if gpus > catalogue.QUOTA_GPUS:
                raise CloudRefused(f"quota: {gpus} GPUs, at most {catalogue.QUOTA_GPUS}")

    def _gpus(self, inputs: Mapping[str, Any]) -> int:
        zone = self._place(TYPES[catalogue.SERVER], inputs)
        return next(offer.gpus for offer in self._shop.sold_in(zone) if offer.id == inputs["type"])

    def read(self, known: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Return inputs and outputs of what stands under an id, or None when it is gone."""
        entry = self._read().get(known)
        return (entry["inputs"], entry["outputs"]) if entry else None

    def update(self, known: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Change what stands, and return everything known of it.

        Raises:
            CloudRefused: there is nothing under that id.
        """
        with self._lock:
            books = self._read()
            if known not in books:
                raise CloudRefused(f"there is no {known!r} in this account")
            entry = books[known]
            self._refuse_wrong_references(books, entry["kind"], inputs)
            entry["outputs"] = {**entry["outputs"], **inputs}
            entry["inputs"] = dict(inputs)
            self._write(books)
            return dict(entry["outputs"])

    def delete(self, known: str) -> None:
        """Remove what stands. Silent if it is gone already.

        Raises:
            CloudRefused: something else still uses it.
        """
        with self._lock:
            books = self._read()
            users = [
                entry["urn"]
                for entry in books.values()
                for _, _, target in _references(entry["kind"], entry["inputs"])
                if target == known
            ]
            if users:
                raise CloudRefused(f"{known!r} is still used by {', '.join(users)}")
            books.pop(known, None)
            self._write(books)

    def standing(self) -> dict[str, Any]:
        """Everything in the books, by id."""
        return self._read()

    def _read(self) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads(self._books.read_text())
        except FileNotFoundError:
            return {}
        return content

    def _write(self, books: Mapping[str, Any]) -> None:
        fresh = self._books.with_name(self._books.name + ".new")
        fresh.write_text(json.dumps(books, indent=1, sort_keys=True))
        fresh.replace(self._books)


def _identity(kind: str, place: str, books: Mapping[str, Any]) -> str:
    """A new id in the cloud's own manner."""
    if kind in hetzner.TYPES:
        return str(1 + max((int(known) for known in books), default=0))
    return f"{place}/{uuid.uuid4()}" if place else str(uuid.uuid4())


def replaced_by(kind: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The changed properties that only a new resource can have."""
    return [name for name in changed(old, new) if TYPES[kind].properties[name].replaces]


def changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The properties that are not what they were."""
    return sorted(name for name in {*old, *new} if old.get(name) != new.get(name))


def _wrong_fields(
    where: str, known: Mapping[str, Field], found: Mapping[str, Any]
) -> Iterator[Failure]:
    for name, field in known.items():
        if field.required and found.get(name) is None:
            yield Failure(f"{where}{name}", "is required")
    for name, value in found.items():
        if name not in known:
            yield Failure(f"{where}{name}", "the simulator does not know this property")
        elif value is not None and value != UNKNOWN:
            yield from _wrong_field(f"{where}{name}", known[name], value)


def _wrong_field(where: str, field: Field, value: Any) -> Iterator[Failure]:
    if field.kind is Kind.PART and isinstance(value, Mapping):
        yield from _wrong_fields(f"{where}.", field.fields or {}, value)
    elif field.kind is Kind.PARTS and isinstance(value, list):
        for index, inner in enumerate(value):
            part = Field(Kind.PART, fields=field.fields)
            yield from _wrong_field(f"{where}[{index}]", part, inner)
    elif not _is(field.kind, value):
        yield Failure(where, f"{value!r} is not {field.kind.value}")
    elif field.one_of and value not in field.one_of:
        yield Failure(where, f"{value!r} is none of {', '.join(field.one_of)}")


def _is(kind: Kind, value: Any) -> bool:
    """Numbers travel as floats, so a whole one is told by its value."""
    match kind:
        case Kind.TEXT:
            return isinstance(value, str)
        case Kind.NUMBER:
            return isinstance(value, float | int) and float(value).is_integer()
        case Kind.FLAG:
            return isinstance(value, bool)
        case Kind.TEXTS | Kind.NUMBERS:
            of = Kind.TEXT if kind is Kind.TEXTS else Kind.NUMBER
            return isinstance(value, list) and all(one == UNKNOWN or _is(of, one) for one in value)
        case Kind.LABELS:
            return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())
        case _:
            return False


def _wrong_volume(inputs: Mapping[str, Any]) -> Iterator[Failure]:
    if inputs["iops"] not in catalogue.VOLUME_IOPS:
        yield Failure("iops", f"{inputs['iops']} is none of {catalogue.VOLUME_IOPS}")
    size = inputs.get("sizeInGb", catalogue.VOLUME_MIN_GB)
    if not catalogue.VOLUME_MIN_GB <= size <= catalogue.VOLUME_MAX_GB:
        yield Failure(
            "sizeInGb", f"{size} is outside {catalogue.VOLUME_MIN_GB} to {catalogue.VOLUME_MAX_GB}"
        )


def _wrong_rules(name: str, rules: list[Mapping[str, Any]]) -> Iterator[Failure]:
    for index, rule in enumerate(rules):
        where = f"{name}[{index}]"
        if not 1 <= rule.get("port", 1) <= 65_535:
            yield Failure(f"{where}.port", f"{rule['port']} is no port")
        network = rule.get("ipRange")
        if network is not None and not _is_network(network, private=False):
            yield Failure(f"{where}.ipRange", f"{network} is no network")


def _is_network(text: str, *, private: bool) -> bool:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        return False
    return network.is_private or not private


def _references(kind: str, inputs: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Property, type and id of everything that these inputs point at."""
    for name, field in TYPES[kind].properties.items():
        if field.refers and inputs.get(name):
            value = inputs[name]
            for target in value if isinstance(value, list) else [value]:
                yield name, field.refers, target if isinstance(target, str) else str(int(target))
