"""What all signals about a host's place say together. Pure: documents, pinned keys and a time in.

Everything is bound to the host key that was pinned when the host was set up: an answer under
another key, or to another challenge, is against the host whatever it says. A signal that is missing
or cannot be judged is `unknown` and counts for nothing. One that contradicts decides: no other
signal makes up for it, and none that is added takes it back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sovereign.attestation import signals
from sovereign.attestation.papers import Finding, Verdict
from sovereign.attestation.signals import Asked
from sovereign.policy.shapes import AttestationFile, PlaceRequired

NOT_ASKED = "the profile asks for nobody's word besides the operator's"
UNSAID = "nothing says who must vouch under this profile"
REASON_MAX_CHARS = 900


@dataclass(frozen=True, slots=True)
class Judged:
    """The answer. `suffices` when nothing contradicts and whoever the profile asks for vouched."""

    verdict: Verdict
    suffices: bool
    vouchers: tuple[str, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class HostPlace:
    """What stands about a host's place now. `until` is when it ends, of one that is vouched for."""

    verdict: Literal["vouched", "disagrees", "unproven"]
    reason: str
    until: datetime | None = None


def weigh(asked: Asked, evidence: bytes, statements: Sequence[bytes]) -> Judged:
    """Judge what was brought. `evidence` is b"" when the host did not answer."""
    identity, said = signals.identity(asked, evidence)
    findings = (
        identity,
        signals.metadata(asked.claim, said),
        signals.statement(asked, statements),
        signals.round_trip(asked, said),
    )
    return _together(asked, findings)


def required(rules: AttestationFile, profile: str) -> PlaceRequired:
    """What a profile asks for; one that no row is about asks for everybody there is."""
    rows = {each.profile: each for each in rules.required}
    everybody = len({each.vouched_by for each in rules.signals})
    return rows.get(profile) or PlaceRequired(profile, everybody, UNSAID, ("host-key",))


def why(verdict: str, suffices: bool, vouchers: Sequence[str], findings: Sequence[Finding]) -> str:
    """One sentence: what is against it, else what is lacking, else who vouched."""
    told = [each for each in findings if each.verdict == "contradicts"]
    if not told and suffices:
        return f"vouched for by {', '.join(vouchers)}" if vouchers else NOT_ASKED
    told = told or [each for each in findings if each.verdict != "proves"]
    return "; ".join(f"{each.signal}: {each.reason}" for each in told)[:REASON_MAX_CHARS]


def _together(asked: Asked, findings: Sequence[Finding]) -> Judged:
    by: dict[str, str] = {each.id: each.vouched_by for each in asked.rules.signals}
    named = tuple(
        Finding(each.signal, each.verdict, each.reason[:1000], by.get(each.signal, ""))
        for each in findings
    )
    verdicts = {each.verdict for each in named}
    proved = {each.signal for each in named if each.verdict == "proves"}
    vouchers = tuple(sorted({by[each] for each in proved if each in by}))
    wanted = required(asked.rules, asked.profile)
    enough = len(vouchers) >= wanted.vouchers and proved >= set(wanted.must)
    if "contradicts" in verdicts:
        return Judged("contradicts", False, vouchers, named)
    if vouchers and enough:
        return Judged("proves", True, vouchers, named)
    supported = bool(vouchers) or "consistent" in verdicts
    return Judged("consistent" if supported else "unknown", enough, vouchers, named)
