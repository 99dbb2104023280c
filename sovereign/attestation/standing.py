"""What stands about the places of this site's hosts now.

The kept attestation of a host is judged again each time, under the pins and the policy of now: a
pin that was taken away, an anchor that left the policy, or a profile that asks for more counts at
once. What speaks against a place does not expire, and silence does not end it: the signal that
contradicted has to say otherwise.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from sovereign.attestation import site
from sovereign.attestation.judge import HostPlace, Judged, required, why
from sovereign.attestation.kept import again, newest, read
from sovereign.attestation.papers import Attestation, Signal
from sovereign.attestation.signals import Asked
from sovereign.policy import Policy
from sovereign.settings import Home

SIGNALS: tuple[Signal, ...] = ("host-key", "metadata", "statement", "round-trip")


def of_site(home: Home, policy: Policy, now: datetime) -> Mapping[str, HostPlace]:
    """By endpoint, what stands about the place of its host; nothing of those that only their
    operator speaks for, where the policy asks for no more."""
    found: dict[tuple[str, str], HostPlace | None] = {}
    by_endpoint = site.hosts(home)
    for host, place in dict.fromkeys(by_endpoint.values()):
        found[host, place] = standing(home, policy, host, place, now)
    return {name: at for name, which in by_endpoint.items() if (at := found[which]) is not None}


def standing(home: Home, policy: Policy, host: str, place: str, now: datetime) -> HostPlace | None:
    """What is to be said of a host at `now`; None: nothing besides its operator's word."""
    if place in {each.place for each in policy.attestation.exempt}:
        return None
    outcome = newest(home, host)
    if outcome is not None and (outcome.claim.host, outcome.claim.place) != (host, place):
        outcome = None
    judged = _again(home, policy, outcome) if outcome is not None else None
    against = _unanswered(home, policy, host, place, judged)
    if against:
        return HostPlace("disagrees", against)
    if outcome is None or judged is None:
        return _lacking(policy, f"{host} has no attestation of its place that holds")
    return _standing(policy, outcome, judged, now)


def asked_of(home: Home, policy: Policy, host: str, place: str, nonce: str, now: datetime) -> Asked:
    """The question about a host, with the pins and rules of this site."""
    return Asked(
        claim=site.claim_of(home, policy, host, place),
        profile=policy.profile,
        rules=policy.attestation,
        nonce=nonce,
        now=now,
        host_key=site.pinned(home.trust, host),
        attesters=site.attesters(home.trust),
    )


def _again(home: Home, policy: Policy, outcome: Attestation) -> Judged:
    """What the papers of an attestation come to, under the pins and the policy of now."""
    claim = outcome.claim
    return again(
        outcome, asked_of(home, policy, claim.host, claim.place, outcome.nonce, outcome.at)
    )


def _unanswered(home: Home, policy: Policy, host: str, place: str, judged: Judged | None) -> str:
    """What a signal had against the place, that has said nothing since; "" when there is none."""
    spoke = {f.signal for f in judged.findings if f.verdict != "unknown"} if judged else set()
    for signal in SIGNALS:
        before = None if signal in spoke else read(home, site.against_path(home, host, signal))
        if before is None or (before.claim.host, before.claim.place) != (host, place):
            continue
        for finding in _again(home, policy, before).findings:
            if finding.signal == signal and finding.verdict == "contradicts":
                when = before.at.isoformat(timespec="seconds")
                return f"{signal}: {finding.reason} (at {when}; it has said nothing since)"
    return ""


def _standing(
    policy: Policy, outcome: Attestation, judged: Judged, now: datetime
) -> HostPlace | None:
    reason = why(judged.verdict, judged.suffices, judged.vouchers, judged.findings)
    if judged.verdict == "contradicts":
        return HostPlace("disagrees", reason)
    until = min(outcome.expires_at, outcome.at + timedelta(seconds=policy.attestation.valid_s))
    early = outcome.at - timedelta(seconds=policy.attestation.skew_s)
    if not early <= now < until:
        when = "ended" if now >= until else "is of the future"
        return _lacking(policy, f"the attestation of {outcome.claim.host} {when}")
    if not judged.suffices:
        return HostPlace("unproven", reason)
    return HostPlace("vouched", reason, until) if judged.vouchers else None


def _lacking(policy: Policy, reason: str) -> HostPlace | None:
    """Nothing is known: a fault where the profile asks for more than the operator's word."""
    wanted = required(policy.attestation, policy.profile)
    return HostPlace("unproven", reason) if wanted.vouchers or wanted.must else None
