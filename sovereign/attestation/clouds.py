"""What the metadata service of each cloud says about where a machine is.

One small reader a cloud: which address and path, which header, and where in the answer the zone or
region stands, spelled as facts/places.yaml spells it. To add one: docs/guide/attestation.md. What a
service answers is the word of the provider as this host hears it: whoever is root here can answer
in its place, and none of these answers is signed.

A service that answers something else than its own form has said nothing, and neither has one whose
marks are those of another cloud; several share an address.
"""

import re
from collections.abc import Callable

import msgspec
from msgspec import Struct, field

from sovereign.attestation.linklocal import Fetch, Get, NoAnswer
from sovereign.attestation.papers import Reading

SHARED = "169.254.169.254"
SCALEWAY = "169.254.42.42"
SAYS_NO_PLACE = {
    "ovh": "its OpenStack names the availability zone `nova` everywhere",
    "ionos": "no metadata service that names a location was found",
    "nebius": "no metadata service that names a region was found documented",
    "verda": "no metadata service that names a location was found documented",
    "seeweb": "no metadata service that names a location was found documented",
}
"""Clouds of the table for which there is no reader, and why."""
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9/_.-]{0,63}")
_LEGACY_SCALEWAY = {"par1": "fr-par-1", "ams1": "nl-ams-1"}

Read = Callable[[Fetch], tuple[str, str]]


def reading(provider: str, fetch: Fetch) -> Reading:
    """The zone and region that a provider's service says this machine is in; never raises for what
    it may answer."""
    reader = READERS.get(provider)
    if reader is None:
        why = SAYS_NO_PLACE.get(provider, "there is no reader for this provider")
        return Reading(provider, fault=f"metadata of {provider or 'no provider'}: {why}")
    try:
        zone, region = reader(fetch)
    except NoAnswer as error:
        return Reading(provider, fault=f"metadata of {provider}: {error}")
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
        return Reading(provider, fault=f"metadata of {provider}: not in the form it answers in")
    if any(each and not _CODE.fullmatch(each) for each in (zone, region)):
        return Reading(provider, fault=f"metadata of {provider}: what it names is no code")
    return Reading(provider, zone, region)


# --- one cloud each ------------------------------------------------------------------------------


class _ScalewayLocation(Struct, frozen=True):
    zone_id: str


class _Scaleway(Struct, frozen=True):
    location: _ScalewayLocation


def _scaleway(fetch: Fetch) -> tuple[str, str]:
    said = msgspec.json.decode(fetch(Get(SCALEWAY, "/conf?format=json")), type=_Scaleway)
    zone = _LEGACY_SCALEWAY.get(said.location.zone_id, said.location.zone_id)
    return zone, _but_last(zone)


def _hetzner(fetch: Fetch) -> tuple[str, str]:
    """`fsn1-dc14` is a building in the location `fsn1`, which is what the table knows."""
    said = _line(fetch(Get(SHARED, "/hetzner/v1/metadata/availability-zone")))
    location, dash, _ = said.partition("-dc")
    if not dash or not location:
        raise NoAnswer("not the name of one of its data centres")
    return location, ""


class _UpCloud(Struct, frozen=True):
    cloud_name: str
    region: str


def _upcloud(fetch: Fetch) -> tuple[str, str]:
    said = msgspec.json.decode(fetch(Get(SHARED, "/metadata/v1.json")), type=_UpCloud)
    if said.cloud_name != "upcloud":
        raise NoAnswer("the service is another cloud's")
    return said.region, ""


def _outscale(fetch: Fetch) -> tuple[str, str]:
    """`placement/cluster` is there at this cloud alone; the rest is as at another one."""
    fetch(Get(SHARED, "/latest/meta-data/placement/cluster"))
    zone = _line(fetch(Get(SHARED, "/latest/meta-data/placement/availability-zone")))
    return zone, zone[:-1] if zone[-1:].islower() else zone


def _exoscale(fetch: Fetch) -> tuple[str, str]:
    return _line(fetch(Get(SHARED, "/latest/meta-data/availability-zone"))), ""


class _Nova(Struct, frozen=True):
    availability_zone: str


def _openstack(fetch: Fetch) -> tuple[str, str]:
    said = msgspec.json.decode(fetch(Get(SHARED, "/openstack/latest/meta_data.json")), type=_Nova)
    return said.availability_zone, _but_last(said.availability_zone)


class _Ec2(Struct, frozen=True):
    region: str
    zone: str = field(name="availabilityZone")


def _aws(fetch: Fetch) -> tuple[str, str]:
    """The second form of its service: a token first, which no redirected request can have."""
    asks = (("X-aws-ec2-metadata-token-ttl-seconds", "60"),)
    token = _line(fetch(Get(SHARED, "/latest/api/token", asks, "PUT")))
    shows = (("X-aws-ec2-metadata-token", token),)
    raw = fetch(Get(SHARED, "/latest/dynamic/instance-identity/document", shows))
    said = msgspec.json.decode(raw, type=_Ec2)
    return said.zone, said.region


def _gcp(fetch: Fetch) -> tuple[str, str]:
    asks = (("Metadata-Flavor", "Google"),)
    said = _line(fetch(Get(SHARED, "/computeMetadata/v1/instance/zone", asks)))
    zone = said.rpartition("/zones/")[2]
    return zone, _but_last(zone)


class _Azure(Struct, frozen=True):
    location: str


def _azure(fetch: Fetch) -> tuple[str, str]:
    asks = (("Metadata", "true"),)
    path = "/metadata/instance/compute?api-version=2021-02-01"
    return "", msgspec.json.decode(fetch(Get(SHARED, path, asks)), type=_Azure).location


class _Oracle(Struct, frozen=True):
    region: str = field(name="canonicalRegionName")


def _oracle(fetch: Fetch) -> tuple[str, str]:
    asks = (("Authorization", "Bearer Oracle"),)
    return "", msgspec.json.decode(
        fetch(Get(SHARED, "/opc/v2/instance/", asks)), type=_Oracle
    ).region


class _IbmToken(Struct, frozen=True):
    access_token: str


class _IbmZone(Struct, frozen=True):
    name: str


class _Ibm(Struct, frozen=True):
    zone: _IbmZone


def _ibm(fetch: Fetch) -> tuple[str, str]:
    asks = (("Metadata-Flavor", "ibm"), ("Content-Type", "application/json"))
    wanted = Get(
        *(SHARED, "/instance_identity/v1/token?version=2022-03-01", asks, "PUT"),
        body=b'{"expires_in": 300}',
    )
    token = _one_line(msgspec.json.decode(fetch(wanted), type=_IbmToken).access_token)
    shows = (("Authorization", f"Bearer {token}"),)
    raw = fetch(Get(SHARED, "/metadata/v1/instance?version=2022-03-01", shows))
    zone = msgspec.json.decode(raw, type=_Ibm).zone.name
    return zone, _but_last(zone)


READERS: dict[str, Read] = {
    "scaleway": _scaleway,
    "hetzner": _hetzner,
    "upcloud": _upcloud,
    "outscale": _outscale,
    "exoscale": _exoscale,
    "otc": _openstack,
    "stackit": _openstack,
    "aws": _aws,
    "aws-eusc": _aws,
    "gcp": _gcp,
    "azure": _azure,
    "oracle": _oracle,
    "ibm": _ibm,
}
"""By the provider's id in facts/places.yaml."""


def _but_last(zone: str) -> str:
    """`fr-par-2` is in the region `fr-par`; a name of one part has none."""
    return zone.rpartition("-")[0]


def _line(raw: bytes) -> str:
    return _one_line(raw.decode("ascii").strip())


def _one_line(text: str) -> str:
    """What goes into a header, or is a name: printable, one line, not endless.

    Raises:
        NoAnswer: it is something else.
    """
    if not text or not text.isprintable() or not text.isascii() or len(text) > 4096:
        raise NoAnswer("not a line of text")
    return text
