"""Gather what a host can bring in answer to a challenge, and sign it with the host's key.

Whatever cannot be had is left out or told as a fault; nothing here is judged. Anchors are asked a
few at a time, so that answering one does not make another's answers late.
"""

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from sovereign.attestation import asking
from sovereign.attestation.clouds import reading
from sovereign.attestation.linklocal import Fetch, fetching
from sovereign.attestation.papers import NONCE_BYTES, Claim, Evidence, sealed
from sovereign.audit.note import SignerKey, VerifierKey
from sovereign.policy.shapes import Anchor, AttestationFile, RoundTrips

TOGETHER_MAX = 4
SAMPLE_MAX_S = 0.5
"""What one sample may take on average before an anchor is given up."""

Ask = Callable[[Anchor, bytes, SignerKey, RoundTrips], bytes | None]


def fresh_nonce() -> str:
    """A challenge that was never given out before."""
    return secrets.token_hex(NONCE_BYTES)


def evidence(
    claim: Claim,
    rules: AttestationFile,
    nonce: str,
    key: SignerKey,
    clock: Callable[[], datetime],
    *,
    fetch: Fetch | None = None,
    ask: Ask | None = None,
) -> bytes:
    """The signed answer of this host. `fetch` and `ask` reach outside; left out, they are real."""
    fetch, ask = fetch or fetching(rules.metadata_wait_ms / 1000), ask or asked
    said = reading(claim.provider, fetch)
    reports = _reports(rules.round_trips, bytes.fromhex(nonce), key, ask)
    return sealed(Evidence(claim.host, nonce, clock(), said, reports), key)


def asked(anchor: Anchor, nonce: bytes, key: SignerKey, rules: RoundTrips) -> bytes | None:
    """The report of one anchor, over the network."""
    wait_s = rules.wait_ms / 1000
    within_s = rules.samples * SAMPLE_MAX_S + asking.TRIES * wait_s
    return asking.ask(anchor.address, VerifierKey.parse(anchor.key), nonce, key, wait_s, within_s)


def _reports(rules: RoundTrips, nonce: bytes, key: SignerKey, ask: Ask) -> tuple[str, ...]:
    if not rules.anchors:
        return ()
    with ThreadPoolExecutor(TOGETHER_MAX) as pool:
        found = pool.map(lambda anchor: ask(anchor, nonce, key, rules), rules.anchors)
        return tuple(note.decode() for note in found if note is not None)
