"""Keys, rules and documents of attestations, good unless a test spoils them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from sovereign.attestation.globe import Point
from sovereign.attestation.papers import Claim, Evidence, Reading, Report, Statement, sealed
from sovereign.attestation.signals import Asked
from sovereign.audit.note import SignerKey
from sovereign.policy.shapes import (
    Anchor,
    AttestationFile,
    PlaceRequired,
    PlaceSignal,
    RoundTrips,
)

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
NONCE = "ab" * 32
HOST = SignerKey.generate("gpu1")
OTHER_HOST = SignerKey.generate("gpu1")
FACILITY = SignerKey.generate("facility")
STRANGER = SignerKey.generate("facility")
CITIES = {
    "frankfurt": Point(50.11, 8.68),
    "paris": Point(48.86, 2.35),
    "warsaw": Point(52.23, 21.01),
    "stockholm": Point(59.33, 18.07),
    "new-york": Point(40.71, -74.01),
    "sydney": Point(-33.87, 151.21),
}
ANCHOR_KEYS = {city: SignerKey.generate(f"anchor.{city}.example") for city in CITIES}
CLAIM = Claim("gpu1", "ionos:de/fra", "ionos", "de/fra", "de/fra", "50.11", "8.68", 50)
"""Frankfurt, at a place of the table."""


def anchor(city: str, *, own: bool = False, address: str = "192.0.2.1:7411") -> Anchor:
    at, key = CITIES[city], ANCHOR_KEYS[city]
    return Anchor(
        id=city,
        key=str(key.verifier),
        address=address,
        organisation=f"Exchange of {city}",
        own=own,
        place="ionos:de/fra",
        latitude=str(at.latitude),
        longitude=str(at.longitude),
    )


def trips(*cities: str, **more: object) -> RoundTrips:
    anchors = tuple(anchor(city) for city in cities or ("frankfurt", "paris", "warsaw"))
    return RoundTrips(**({"anchors": anchors} | more))


def rules(
    vouchers: int = 2, must: tuple[str, ...] = ("host-key",), **more: object
) -> AttestationFile:
    said = {
        "version": 1,
        "signals": (
            PlaceSignal("metadata", "provider", "It started it."),
            PlaceSignal("statement", "operator", "They signed."),
            PlaceSignal("round-trip", "anchors", "Light is that fast."),
        ),
        "required": (
            PlaceRequired("immune", vouchers, "Nobody alone.", must),
            PlaceRequired("eea", 0, "As before."),
        ),
        "round_trips": trips(),
    }
    return AttestationFile(**(said | more))


def asked(**more: object) -> Asked:
    said = {
        "claim": CLAIM,
        "profile": "immune",
        "rules": rules(),
        "nonce": NONCE,
        "now": NOW,
        "host_key": HOST.verifier,
        "attesters": (FACILITY.verifier,),
    }
    return Asked(**(said | more))


def report(city: str, least_ms: float, *, samples: int = 20, **more: object) -> str:
    """What the anchor of a city signed."""
    said = {
        "anchor": ANCHOR_KEYS[city].name,
        "host_key": str(HOST.verifier),
        "nonce": NONCE,
        "at": NOW,
        "samples": samples,
        "least_us": int(least_ms * 1000),
        "middle_us": int(least_ms * 1000) + 300,
    }
    return sealed(Report(**(said | more)), ANCHOR_KEYS[city]).decode()


NEAR = (("frankfurt", 1.2), ("paris", 9.0), ("warsaw", 16.0))
"""What a host in Frankfurt would be measured at, in milliseconds."""


def reports(times: Sequence[tuple[str, float]] = NEAR) -> tuple[str, ...]:
    return tuple(report(city, least_ms) for city, least_ms in times)


def evidence(signer: SignerKey = HOST, **more: object) -> bytes:
    """What the host answered: good metadata, good times."""
    said = {
        "host": "gpu1",
        "nonce": NONCE,
        "at": NOW,
        "reading": Reading("ionos", "de/fra", "de/fra"),
        "reports": reports(),
    }
    return sealed(Evidence(**(said | more)), signer)


def statement(signer: SignerKey = FACILITY, **more: object) -> bytes:
    """Somebody signed for Frankfurt for a month, since a week ago."""
    said = {
        "host": "gpu1",
        "host_key": str(HOST.verifier),
        "place": CLAIM.place,
        "from_": NOW - timedelta(days=7),
        "until": NOW + timedelta(days=23),
        "because": "rack 4",
    }
    return sealed(Statement(**(said | more)), signer)


def changed(value: msgspec.Struct, **more: object) -> msgspec.Struct:
    return msgspec.structs.replace(value, **more)
