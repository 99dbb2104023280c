"""The outcome of a run: judged, signed with the controller's key, kept, and judged again.

An attestation carries all it was made of, so that anybody with the public keys can judge it again
without asking us. On the site it is judged again each round, under the pins and the policy of then:
a pin that was taken away, an anchor that left the policy or a profile that asks for more counts at
once. What speaks against a place does not expire; a newer run has to say otherwise.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from sovereign.attestation import site
from sovereign.attestation.judge import HostPlace, Judged, required, weigh, why
from sovereign.attestation.papers import Attestation, Statement, opened, opened_by_any, sealed
from sovereign.attestation.signals import Asked
from sovereign.audit.note import NOTE_MAX_BYTES, SignerKey, VerifierKey
from sovereign.audit.trail import pin_path
from sovereign.errors import BadInput
from sovereign.policy import Policy
from sovereign.policy.kept import written
from sovereign.settings import Home

WRITER, STREAM = "controller", "evidence"
"""Whose key signs: that of the log in which the run is recorded."""


def attest(
    asked: Asked, evidence: bytes, statements: tuple[bytes, ...], site_name: str, policy: str
) -> Attestation:
    """Judge a run. It ends after `valid_s`, and with the statement it rests on."""
    judged = weigh(asked, evidence, statements)
    ends = [asked.now + timedelta(seconds=asked.rules.valid_s)]
    if any(f.signal == "statement" and f.verdict == "proves" for f in judged.findings):
        ends.append(_statement_ends(asked, statements))
    return Attestation(
        site=site_name,
        claim=asked.claim,
        profile=asked.profile,
        policy=policy,
        rules=asked.rules,
        host_key=str(asked.host_key or ""),
        attesters=tuple(str(key) for key in asked.attesters),
        nonce=asked.nonce,
        at=asked.now,
        expires_at=min(ends),
        verdict=judged.verdict,
        suffices=judged.suffices,
        vouchers=judged.vouchers,
        findings=judged.findings,
        evidence=evidence.decode(errors="replace"),
        statements=tuple(note.decode(errors="replace") for note in statements),
    )


def _statement_ends(asked: Asked, statements: tuple[bytes, ...]) -> datetime:
    """When the last of those that hold ends."""
    found = (opened_by_any(note, asked.attesters, Statement) for note in statements)
    return max(
        each[1].until
        for each in found
        if each is not None
        and (each[1].host, each[1].place) == (asked.claim.host, asked.claim.place)
        and each[1].host_key == str(asked.host_key)
        and each[1].from_ <= asked.now < each[1].until
        and each[1].until - each[1].from_ <= timedelta(days=asked.rules.statement_max_days)
    )


def signed(outcome: Attestation, key: SignerKey) -> bytes:
    """The attestation as a note.

    Raises:
        BadInput: it is too large to be read again: too many anchors or statements.
    """
    note = sealed(outcome, key)
    if len(note) > NOTE_MAX_BYTES:
        raise BadInput(
            f"the attestation of {outcome.claim.host} is larger than a note may be",
            found=f"{len(note)} bytes",
            accepted=f"{NOTE_MAX_BYTES} bytes: fewer anchors, or fewer statements",
        )
    return note


def keep(home: Home, host: str, note: bytes) -> None:
    """Put an attestation in the place of the one before."""
    path = site.note_path(home, host)
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    written(path, note)


def digest(note: bytes) -> str:
    """What records call an attestation by."""
    return f"sha256:{hashlib.sha256(note).hexdigest()}"


def newest(home: Home, host: str) -> Attestation | None:
    """The kept attestation of a host; None when there is none that our own key signed."""
    try:
        note = site.note_path(home, host).read_bytes()
        key = VerifierKey.parse(pin_path(home.trust, WRITER, STREAM).read_text())
    except (OSError, UnicodeDecodeError, BadInput):
        return None
    return opened(note, key, Attestation)


def again(outcome: Attestation, asked: Asked) -> Judged:
    """What the papers of an attestation come to under other rules, pins or claims."""
    statements = tuple(each.encode() for each in outcome.statements)
    return weigh(asked, outcome.evidence.encode(), statements)


# --- what stands on the site ---------------------------------------------------------------------


def standing(home: Home, policy: Policy, host: str, place: str, now: datetime) -> HostPlace | None:
    """What is to be said of a host at `now`; None: nothing besides its operator's word."""
    if place in {each.place for each in policy.attestation.exempt}:
        return None
    outcome = newest(home, host)
    if outcome is None or (outcome.claim.host, outcome.claim.place) != (host, place):
        return _lacking(policy, f"{host} has no attestation of its place that holds")
    asked = asked_of(home, policy, host, place, outcome.nonce, outcome.at)
    return _standing(policy, outcome, again(outcome, asked), now)


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


def _standing(
    policy: Policy, outcome: Attestation, judged: Judged, now: datetime
) -> HostPlace | None:
    reason = why(judged.verdict, judged.suffices, judged.vouchers, judged.findings)
    if "contradicts" in (judged.verdict, outcome.verdict):
        told = outcome if judged.verdict != "contradicts" else judged
        return HostPlace("disagrees", why("contradicts", False, told.vouchers, told.findings))
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


# --- what anybody can check ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trusted:
    """Public keys that somebody keeps outside: of the controller, the host and the attesters.

    `host` is None and `attesters` empty where they were not handed over; then the attestation is
    taken by its own word for them, which `unpinned` says.
    """

    controller: VerifierKey
    host: VerifierKey | None = None
    attesters: tuple[VerifierKey, ...] = ()


@dataclass(frozen=True, slots=True)
class Checked:
    """An attestation that was judged again. `faults` are findings; `unpinned` was not compared."""

    outcome: Attestation | None
    faults: tuple[str, ...]
    unpinned: tuple[str, ...] = ()


def check(note: bytes, trusted: Trusted) -> Checked:
    """Verify a note with public keys only: signatures, and that the verdict follows from them."""
    outcome = opened(note, trusted.controller, Attestation)
    if outcome is None:
        return Checked(None, ("it is no attestation that this controller's key signed",))
    try:
        asked = _as_asked(outcome)
        judged = again(outcome, asked)
    except (BadInput, ValueError):
        return Checked(outcome, ("it names a key or a point that is none",))
    said = (outcome.verdict, outcome.suffices, outcome.vouchers, outcome.findings)
    faults = []
    if said != (judged.verdict, judged.suffices, judged.vouchers, judged.findings):
        faults.append("what it says does not follow from what it carries")
    if outcome.expires_at > outcome.at + timedelta(seconds=outcome.rules.valid_s):
        faults.append("it lasts longer than its rules let it")
    if trusted.host is not None and asked.host_key != trusted.host:
        faults.append("the host key it names is not the pinned one")
    if trusted.attesters and not set(asked.attesters) <= set(trusted.attesters):
        faults.append("it counts an attester whose key is not pinned")
    unpinned = ["host key"] if trusted.host is None and asked.host_key else []
    unpinned += ["attesters"] if asked.attesters and not trusted.attesters else []
    return Checked(outcome, tuple(faults), tuple(unpinned))


def _as_asked(outcome: Attestation) -> Asked:
    """The question as the attestation itself tells it."""
    return Asked(
        claim=outcome.claim,
        profile=outcome.profile,
        rules=outcome.rules,
        nonce=outcome.nonce,
        now=outcome.at,
        host_key=VerifierKey.parse(outcome.host_key) if outcome.host_key else None,
        attesters=tuple(VerifierKey.parse(each) for each in outcome.attesters),
    )


def as_json(outcome: Attestation) -> dict[str, object]:
    """What an attestation says, for a program; the papers it carries are left out."""
    said: dict[str, object] = msgspec.to_builtins(outcome)
    return {name: value for name, value in said.items() if name not in _CARRIED}


_CARRIED = ("rules", "evidence", "statements", "attesters")
