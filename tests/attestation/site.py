"""A site with logs, a declared place and a bound host, of which others can be asked to vouch."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import msgspec

from sovereign import policy as policies
from sovereign import settings as settings_files
from sovereign.attestation import site as places
from sovereign.attestation.gather import Ask
from sovereign.attestation.linklocal import Fetch, Get, NoAnswer
from sovereign.attestation.papers import Report, sealed
from sovereign.audit import trail as trails
from sovereign.audit.note import SignerKey, VerifierKey
from sovereign.audit.trail import WRITERS
from sovereign.policy import Policy
from sovereign.policy.shapes import Anchor, RoundTrips
from sovereign.registry import utcnow
from sovereign.settings import Home, Settings
from tests.attestation.making import ANCHOR_KEYS, FACILITY, HOST, statement, trips

PLACE = "hetzner:fsn1"
SHIPPED = Path(__file__).resolve().parents[2] / "policies"
IMMUNE = policies.load(SHIPPED, "immune")
EEA = policies.load(SHIPPED, "eea")


def made(root: Path, *, bound: bool = True, **chosen: object) -> Home:
    """A home with the logs of every writer; `bound`: its host has a key, which is pinned."""
    settings = Settings(**({"place": PLACE} | chosen))
    home = Home(root, settings)
    for writer in WRITERS:
        trails.create(home.audit, home.keys, home.trust, writer, settings.site)
    home.file.write_text(settings_files.render(settings))
    if bound:
        bind(home)
    return home


def bind(home: Home, key: SignerKey | None = None) -> SignerKey:
    """What `sovereign attest bind` leaves behind."""
    key = key or SignerKey("local", HOST.private)
    path = places.host_key_path(home)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(key.dump())
    pin(places.pin_path(home.trust, "local"), key.verifier)
    return key


def pin(path: Path, key: VerifierKey) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{key}\n")


def attested_by_facility(home: Home, **more: object) -> Path:
    """A statement of somebody whose key is pinned; it is for this host unless told otherwise."""
    key = SignerKey("local", HOST.private).verifier
    said = {"host": "local", "host_key": str(key), "place": PLACE} | more
    pin(home.trust / "attesters/facility.vkey", FACILITY.verifier)
    path = places.folder(home) / "statements/facility.note"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(statement(**said))
    return path


def signed_now(home: Home, **more: object) -> Path:
    """The same, from an hour ago on, for some days."""
    now = utcnow()
    span = {"from_": now - timedelta(hours=1), "until": now + timedelta(days=20)}
    return attested_by_facility(home, **(span | more))


def anchored(policy: Policy, *cities: str) -> Policy:
    """The policy with anchors of others in these cities, and at least one voucher asked for."""
    given: RoundTrips = trips(*cities)
    asks = tuple(
        msgspec.structs.replace(each, vouchers=max(each.vouchers, 1))
        for each in policy.attestation.required
    )
    rules = msgspec.structs.replace(policy.attestation, round_trips=given, required=asks)
    return replace(policy, attestation=rules)


def saying(zone: str) -> Fetch:
    """The provider's metadata service, as it would answer here."""

    def fetch(asked: Get) -> bytes:
        assert asked.path == "/hetzner/v1/metadata/availability-zone"
        return f"{zone}-dc14".encode()

    return fetch


def silent(_: Get) -> bytes:
    """No metadata service."""
    raise NoAnswer("no answer in time")


def measuring(times_ms: Mapping[str, float]) -> Ask:
    """Anchors that answer with these least times, each signed by its real key."""

    def ask(anchor: Anchor, nonce: bytes, key: SignerKey, rules: RoundTrips) -> bytes | None:
        least_us = int(times_ms[anchor.id] * 1000)
        said = (anchor.key.split("+")[0], str(key.verifier), nonce.hex(), utcnow(), rules.samples)
        return sealed(Report(*said, least_us, least_us + 400), ANCHOR_KEYS[anchor.id])

    return ask


NEAR_MS = {"frankfurt": 3.0, "paris": 8.0, "warsaw": 9.0}
"""What a host in Falkenstein would be measured at."""
