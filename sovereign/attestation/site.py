"""What of a site matters here: names of hosts, keys, statements, and where a host is said to be.

`attestation/` is beside the registry, where the controller writes; the rest is below the home.

| file | holds |
|---|---|
| `keys/host.key` | the private key this host answers with |
| `trust/hosts/NAME.vkey` | the key of a host, pinned when it was set up |
| `trust/attesters/NAME.vkey` | keys of those whose statements count |
| `attestation/statements/*.note` | what they signed |
| `attestation/NAME.note` | the newest attestation of a host |
| `attestation/NAME.SIGNAL.against.note` | the last one in which this signal contradicted |
| `attestation/NAME.challenge` | a challenge that was given out and not answered yet |
"""

import re
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from sovereign.attestation.papers import Claim
from sovereign.audit.keys import custody
from sovereign.audit.keys.custody import KeyFolder
from sovereign.audit.note import SignerKey, VerifierKey
from sovereign.errors import BadInput, KeyMissing
from sovereign.policy import Policy
from sovereign.settings import Home

PIN, NOTE, AGAINST, CHALLENGE = ".vkey", ".note", ".against.note", ".challenge"
HOST_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
STATEMENTS_MAX = 100
OWN_RADIUS_KM = 5
"""How far from its point a machine room of one's own may be."""
_SSH = b"-----BEGIN OPENSSH PRIVATE KEY-----"  # pragma: allowlist secret


def host_of(home: Home) -> str:
    """The name of this host."""
    return home.settings.attestation.host or home.settings.site


def hosts(home: Home) -> dict[str, tuple[str, str]]:
    """Of every endpoint by its id: the name of its host, and the place that is said to be."""
    settings = home.settings
    others = {each.id: (each.host or each.id, each.place) for each in settings.endpoints}
    return {settings.own_endpoint: (host_of(home), settings.place), **others}


def place_of(home: Home, host: str) -> str:
    """The place a host is said to be at.

    Raises:
        BadInput: no host of the settings is called so.
    """
    known = {host_of(home): home.settings.place, **dict(hosts(home).values())}
    if host not in known:
        raise BadInput(f"{host!r} is no host of this site", accepted=", ".join(sorted(known)))
    return known[host]


def claim_of(home: Home, policy: Policy, host: str, place: str) -> Claim:
    """What is said about a host, with the point of its place where that is known."""
    row, at = policy.places.get(place), policy.locations.get(place)
    own = home.settings.attestation
    provider, zone, region = (row.provider, row.zone, row.region) if row else ("", "", "")
    if at is not None:
        point = (at.latitude, at.longitude, at.radius_km)
    elif host == host_of(home) and own.latitude:
        point = (own.latitude, own.longitude, OWN_RADIUS_KM)
    else:
        point = ("", "", 0)
    return Claim(host, place, provider, zone, region, *point)


def folder(home: Home) -> Path:
    """Where attestations and statements lie."""
    return home.registry.parent / "attestation"


def note_path(home: Home, host: str) -> Path:
    """The newest attestation of a host."""
    return folder(home) / f"{host}{NOTE}"


def against_path(home: Home, host: str, signal: str) -> Path:
    """The last attestation in which this signal contradicted, while it has not said otherwise."""
    return folder(home) / f"{host}.{signal}{AGAINST}"


def host_key_path(home: Home) -> Path:
    """The private key this host answers with."""
    chosen = home.settings.attestation.host_key
    return Path(chosen) if chosen else home.keys.parent / "host.key"


def host_signer(home: Home) -> SignerKey:
    """The private key of this host, out of either kind of file.

    Raises:
        KeyMissing: there is none.
        LogKeyUnusable: others can read it.
        BadInput: the file holds no Ed25519 key.
    """
    path, name = host_key_path(home), host_of(home)
    raw = KeyFolder(path.parent).read(path.name)
    if raw is None:
        raise KeyMissing(
            f"this host has no key to answer with: {path} is not there",
            accepted="an OpenSSH host key (Ed25519), or one made here",
            next_step="sovereign attest bind",
        )
    if raw.startswith(_SSH):
        return SignerKey(name, _ssh_key(raw, path))
    return custody.signer(raw, name)


def _ssh_key(raw: bytes, path: Path) -> Ed25519PrivateKey:
    try:
        key = load_ssh_private_key(raw, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadInput(f"{path} cannot be read as an OpenSSH key without a passphrase") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise BadInput(f"{path} is no Ed25519 key", accepted="/etc/ssh/ssh_host_ed25519_key")
    return key


def pin_path(trust: Path, host: str) -> Path:
    """Where the key of a host is pinned."""
    return trust / "hosts" / f"{host}{PIN}"


def pinned(trust: Path, host: str) -> VerifierKey | None:
    """The pinned key of a host; None when none is, or it is none."""
    return _key(pin_path(trust, host))


def attesters(trust: Path) -> tuple[VerifierKey, ...]:
    """The pinned keys of those whose statements count."""
    found = (_key(path) for path in sorted((trust / "attesters").glob(f"*{PIN}")))
    return tuple(key for key in found if key is not None)


def _key(path: Path) -> VerifierKey | None:
    try:
        return VerifierKey.parse(path.read_text())
    except (BadInput, OSError, UnicodeDecodeError):
        return None  # a pin that is none vouches for nobody


def statements(home: Home) -> tuple[bytes, ...]:
    """What was signed, by file name; at most `STATEMENTS_MAX` are looked at."""
    paths = sorted((folder(home) / "statements").glob(f"*{NOTE}"))[:STATEMENTS_MAX]
    return tuple(path.read_bytes() for path in paths)
