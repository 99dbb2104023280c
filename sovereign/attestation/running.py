"""One run: challenge a host, judge what it brings, sign and keep the outcome.

This host answers here and now. Another one is given a challenge that is noted, answers where it is
(`sovereign attest answer`), and its answer is brought back; a challenge is good once and for a few
minutes. Recording is for whoever runs it, before anything is kept.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec

from sovereign.attestation import gather, kept, site
from sovereign.attestation.gather import Ask
from sovereign.attestation.linklocal import Fetch
from sovereign.attestation.papers import Attestation, Nonce, Paper, Time
from sovereign.attestation.standing import asked_of
from sovereign.audit import record
from sovereign.audit.keys import custody
from sovereign.audit.note import SignerKey
from sovereign.audit.trail import KEY_SUFFIX, origin_of
from sovereign.errors import BadInput, KeyMissing
from sovereign.policy import Policy
from sovereign.policy.kept import written
from sovereign.policy.shapes import AttestationFile
from sovereign.residency import Question, decide
from sovereign.settings import Home

DATA = "operational"
"""The class of what an anchor learns: that a host asks, and from which address."""
CHALLENGE_LASTS = timedelta(minutes=10)


class Challenge(Paper, frozen=True):
    """A challenge that was given out."""

    nonce: Nonce
    at: Time


def run_here(
    home: Home,
    policy: Policy,
    clock: Callable[[], datetime],
    *,
    fetch: Fetch | None = None,
    ask: Ask | None = None,
) -> Attestation:
    """Challenge this host and judge its answer; nothing is kept yet.

    Raises:
        KeyMissing, LogKeyUnusable, BadInput: this host has no usable key to answer with.
    """
    host, key, nonce = site.host_of(home), site.host_signer(home), gather.fresh_nonce()
    claim = site.claim_of(home, policy, host, home.settings.place)
    rules = permitted(policy, clock())
    evidence = gather.evidence(claim, rules, nonce, key, clock, fetch=fetch, ask=ask)
    return judged(home, policy, host, nonce, evidence, clock())


def judged(
    home: Home, policy: Policy, host: str, nonce: str, evidence: bytes, now: datetime
) -> Attestation:
    """What an answer to the challenge `nonce` comes to."""
    asked = asked_of(home, policy, host, site.place_of(home, host), nonce, now)
    signed_by_others = site.statements(home)
    return kept.attest(asked, evidence, signed_by_others, home.settings.site, policy.digest)


def permitted(policy: Policy, now: datetime) -> AttestationFile:
    """The rules, with those anchors only that may be told what an anchor learns."""
    rules = policy.attestation
    anchors = tuple(
        each
        for each in rules.round_trips.anchors
        if decide(policy, Question(each.place, DATA, "send", now)).allowed
    )
    trips = msgspec.structs.replace(rules.round_trips, anchors=anchors)
    return msgspec.structs.replace(rules, round_trips=trips)


def signing_key(home: Home) -> SignerKey:
    """The key that attestations of this site are signed with.

    Raises:
        KeyMissing: the controller has no log here.
        LogKeyUnusable: its key cannot be had.
    """
    path = home.keys / f"{kept.WRITER}-{kept.STREAM}{KEY_SUFFIX}"
    try:
        return custody.load(path, origin_of(home.settings.site, kept.WRITER, kept.STREAM))
    except FileNotFoundError:
        raise KeyMissing(
            "there is no key to sign an attestation with",
            found=f"{path} is not there",
            next_step="sovereign audit create --writer controller",
        ) from None


def fields(outcome: Attestation, note: bytes) -> dict[str, str | int]:
    """What is recorded of a run."""
    proofs = [each.signal for each in outcome.findings if each.verdict == "proves"]
    against = [each.signal for each in outcome.findings if each.verdict == "contradicts"]
    return {
        "host": outcome.claim.host,
        "place": outcome.claim.place,
        "verdict": outcome.verdict,
        "vouchers": len(outcome.vouchers),
        "signals": ",".join(proofs) or "none",
        "against": ",".join(against) or "none",
        "expires_at": record.written(outcome.expires_at),
        "attestation": kept.digest(note),
        "profile": outcome.profile,
        "policy": outcome.policy,
    }


# --- another host --------------------------------------------------------------------------------


def give_challenge(home: Home, host: str, now: datetime) -> Challenge:
    """Draw a challenge for another host and note it; one of before is good no more."""
    site.place_of(home, host)
    given = Challenge(gather.fresh_nonce(), now)
    path = site.folder(home) / f"{host}{site.CHALLENGE}"
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    written(path, msgspec.json.encode(given))
    return given


def take_challenge(home: Home, host: str, now: datetime) -> Challenge:
    """The challenge that was given to a host. It is gone afterwards: an answer counts once.

    Raises:
        BadInput: none was given, or too long ago.
    """
    path = site.folder(home) / f"{host}{site.CHALLENGE}"
    try:
        raw = path.read_bytes()
        path.unlink()
        given = msgspec.json.decode(raw, type=Challenge)
    except (FileNotFoundError, msgspec.DecodeError):
        raise _no_challenge(host, "none was given, or it was answered") from None
    if not timedelta(0) <= now - given.at <= CHALLENGE_LASTS:
        raise _no_challenge(host, f"it was given at {given.at.isoformat()}")
    return given


def _no_challenge(host: str, found: str) -> BadInput:
    return BadInput(
        f"no challenge to {host} is open",
        found=found,
        accepted=f"an answer within {CHALLENGE_LASTS.seconds // 60} minutes, once",
        next_step=f"sovereign attest challenge {host}",
    )
