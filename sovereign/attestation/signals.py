"""What each signal says about a claim, taken alone. Pure.

Every function gives one `Finding`. Objections are told in the order in which they are looked for,
and the first is the one that is said; a signal with none proves the claim.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sovereign.attestation import roundtrip
from sovereign.attestation.globe import Disk, Point
from sovereign.attestation.papers import (
    Claim,
    Evidence,
    Finding,
    Reading,
    Report,
    Statement,
    Verdict,
    opened,
    opened_by_any,
)
from sovereign.attestation.roundtrip import Measured
from sovereign.audit.note import VerifierKey
from sovereign.policy.shapes import Anchor, AttestationFile

Objection = tuple[Verdict, str]
NOT_PINNED: Objection = ("unknown", "no key of this host is pinned")
SILENT: Objection = ("unknown", "the host did not answer")
FORGED: Objection = ("contradicts", "the answer is not signed with the pinned key")
REASONS_MAX = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """The question: is this host where the claim says, at `now`?

    Args:
        nonce: the challenge of this run, 64 hex digits; an answer to another one is a replay.
        host_key: pinned when the host was set up; None when none is.
        attesters: keys of those whose statements count.
    """

    claim: Claim
    profile: str
    rules: AttestationFile
    nonce: str
    now: datetime
    host_key: VerifierKey | None
    attesters: tuple[VerifierKey, ...] = ()


def disk_of(claim: Claim) -> Disk | None:
    """Where on earth the claim says; None when nobody knows."""
    try:
        return Disk(Point(float(claim.latitude), float(claim.longitude)), float(claim.radius_km))
    except ValueError:
        return None


def identity(asked: Asked, evidence: bytes) -> tuple[Finding, Evidence | None]:
    """Whether the pinned key answered this challenge now; what it said, only when it did."""
    if asked.host_key is None or not evidence:
        return Finding("host-key", *(SILENT if asked.host_key else NOT_PINNED)), None
    said = opened(evidence, asked.host_key, Evidence)
    if said is None:
        return Finding("host-key", *FORGED), None
    against = next(_against_answer(asked, said), None)
    if against is not None:
        return Finding("host-key", *against), None
    return Finding("host-key", "proves", "the pinned key answered this challenge"), said


def _against_answer(asked: Asked, said: Evidence) -> Iterator[Objection]:
    if said.host != asked.claim.host:
        yield "contradicts", "the answer is one of another host"
    if said.nonce != asked.nonce:
        yield "contradicts", "the answer is one to another challenge"
    if _is_off(asked, said.at):
        yield "unknown", _clocks("the host", asked, said.at)


def _is_off(asked: Asked, at: datetime) -> bool:
    return abs(at - asked.now) > timedelta(seconds=asked.rules.skew_s)


def _clocks(who: str, asked: Asked, at: datetime) -> str:
    off = (at - asked.now).total_seconds()
    return f"the clock of {who} is {off:+.0f} s off ours, and {asked.rules.skew_s} s are allowed"


# --- what the provider says ----------------------------------------------------------------------


def metadata(claim: Claim, said: Evidence | None) -> Finding:
    """Whether the provider's service names the zone of the claim."""
    reading = said.reading if said else None
    if reading is None:
        return Finding("metadata", "unknown", "no metadata service was asked")
    answered = f"{reading.provider}:{reading.zone or reading.region}"
    against = next(_against_reading(claim, reading, answered), None)
    if against is not None:
        return Finding("metadata", *against)
    return Finding("metadata", "proves", f"the provider says {answered}")


def _against_reading(claim: Claim, reading: Reading, answered: str) -> Iterator[Objection]:
    if reading.fault or not (reading.zone or reading.region):
        yield "unknown", reading.fault or "the metadata service names no zone and no region"
    if reading.provider != claim.provider:
        yield "contradicts", f"the metadata are those of {answered}"
    if reading.zone and claim.zone not in (reading.zone, reading.region):
        yield "contradicts", f"the provider says {answered}"
    if not reading.zone and reading.region not in (claim.zone, claim.region):
        yield "contradicts", f"the provider says {answered}"
    if not reading.zone and reading.region != claim.zone:
        yield "consistent", f"the provider names the region {answered} and no zone"


# --- what somebody signed ------------------------------------------------------------------------


def statement(asked: Asked, statements: Sequence[bytes]) -> Finding:
    """Whether somebody whose key is pinned signed for it; who signed against it comes first."""
    judged = [_one_statement(asked, note) for note in sorted(statements)]
    for verdict in ("contradicts", "proves"):
        for each in judged:
            if each.verdict == verdict:
                return each
    return judged[-1] if judged else Finding("statement", "unknown", "nobody signed a statement")


def _one_statement(asked: Asked, note: bytes) -> Finding:
    by = opened_by_any(note, asked.attesters, Statement)
    if by is None:
        reason = "no pinned attester signed what the statement says"
        return Finding("statement", "unknown", reason)
    who, said = by[0].name, by[1]
    against = next(_against_statement(asked, who, said), None)
    if against is not None:
        return Finding("statement", *against)
    return Finding("statement", "proves", f"{who} signed for it until {said.until.isoformat()}")


def _against_statement(asked: Asked, who: str, said: Statement) -> Iterator[Objection]:
    if said.host != asked.claim.host:
        yield "unknown", f"the statement of {who} is about another host"
    if asked.host_key is None or said.host_key != str(asked.host_key):
        yield "unknown", f"the statement of {who} is about another host key"
    if said.until - said.from_ > timedelta(days=asked.rules.statement_max_days):
        yield "unknown", f"the statement of {who} lasts longer than the policy lets one"
    if asked.now < said.from_:
        yield "unknown", f"the statement of {who} begins at {said.from_.isoformat()}"
    if asked.now >= said.until:
        yield "unknown", f"the statement of {who} ended at {said.until.isoformat()}"
    if said.place != asked.claim.place:
        yield "contradicts", f"{who} signed that the host is at {said.place}"


# --- how long answers took -----------------------------------------------------------------------


def round_trip(asked: Asked, said: Evidence | None) -> Finding:
    """What the reports of anchors say; one that does not hold is as if it were not there."""
    read = [_measured(asked, note) for note in sorted(said.reports if said else ())]
    measured = tuple(each for each in read if isinstance(each, Measured))
    found = roundtrip.judge(disk_of(asked.claim), measured, asked.rules.round_trips)
    faults = [each for each in read if isinstance(each, str)]
    if measured or not faults:
        return found
    said_so = "; ".join(faults[:REASONS_MAX])
    return Finding("round-trip", found.verdict, f"{found.reason}: {said_so}")


def _measured(asked: Asked, note: str) -> Measured | str:
    """A report as a measurement, or why it is none."""
    anchors = {VerifierKey.parse(each.key): each for each in asked.rules.round_trips.anchors}
    by = opened_by_any(note.encode(), anchors, Report)
    if by is None:
        return "a report that no anchor of the policy signed"
    anchor, said = anchors[by[0]], by[1]
    against = next(_against_report(asked, anchor, said), "")
    return against or _of(anchor, said)


def _against_report(asked: Asked, anchor: Anchor, said: Report) -> Iterator[str]:
    if said.nonce != asked.nonce:
        yield f"the report of {anchor.id} is about another run"
    if said.host_key != str(asked.host_key):
        yield f"the report of {anchor.id} is about another host key"
    if _is_off(asked, said.at):
        yield _clocks(anchor.id, asked, said.at)


def _of(anchor: Anchor, said: Report) -> Measured:
    point = Point(float(anchor.latitude), float(anchor.longitude))
    organisation = "" if anchor.own else anchor.organisation
    where = Disk(point, float(anchor.radius_km))
    return Measured(anchor.id, organisation, where, said.samples, said.least_us)
