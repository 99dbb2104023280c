"""Judge an attestation that somebody handed over: public keys, and nothing of ours.

Signatures are verified, every note it carries is opened and judged again at its own time, and what
comes of it is compared with what it says. Nothing is asked of anybody, and nothing is written.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from sovereign.attestation.kept import again, digest
from sovereign.attestation.papers import Attestation, opened
from sovereign.attestation.signals import Asked
from sovereign.audit import proof as log
from sovereign.audit import record
from sovereign.audit.note import VerifierKey
from sovereign.errors import BadInput, RecordInvalid
from sovereign.policy import Policy

RECORD = "place-attested"


@dataclass(frozen=True, slots=True)
class Trusted:
    """Public keys that somebody keeps outside: of the controller, the host and the attesters; and
    the policy, with the keys of anchors and what their times mean.

    What was not handed over is None or empty; then the attestation is taken by its own word for
    it, which `unpinned` says.
    """

    controller: VerifierKey
    host: VerifierKey | None = None
    attesters: tuple[VerifierKey, ...] = ()
    policy: Policy | None = None


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
    if trusted.policy is not None and not _is_by(outcome, trusted.policy):
        faults.append("it was judged by other rules or points than those of the policy at hand")
    unpinned = [] if trusted.policy is not None else ["rules"]
    unpinned += ["host key"] if trusted.host is None and asked.host_key else []
    unpinned += ["attesters"] if asked.attesters and not trusted.attesters else []
    return Checked(outcome, tuple(faults), tuple(unpinned))


def unrecorded(note: bytes, proof: bytes, keys: Iterable[VerifierKey]) -> str:
    """Why a proof does not show the record of this note in a log under any of the keys; "" if it
    does.

    Raises:
        BadInput: it is no proof at all.
    """
    shown = (log.check(proof, key) for key in keys)
    proven = next((each for each in shown if each is not None), None)
    if proven is None:
        return "the proof of its record does not hold under a pinned key"
    try:
        said = record.parse(proven.entry)
    except RecordInvalid:
        return "what is proved is no record"
    if (said["type"], said.get("attestation")) != (RECORD, digest(note)):
        return f"{proven.origin}#{proven.index} is not the record of this note"
    return ""


def _is_by(outcome: Attestation, policy: Policy) -> bool:
    """Whether the rules are this policy's, and the point of the claim that of its table.

    A place that is not in the table has its point from the settings of the site.
    """
    at, claim = policy.locations.get(outcome.claim.place), outcome.claim
    point = (claim.latitude, claim.longitude, claim.radius_km)
    known = at is None or point == (at.latitude, at.longitude, at.radius_km)
    return known and outcome.rules == policy.attestation


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
