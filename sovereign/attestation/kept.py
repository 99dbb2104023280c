"""The outcome of a run: judged, signed with the controller's key, and kept.

An attestation carries all it was made of, so that anybody with the public keys can judge it again
without asking us (`checked.py`), and so that the site does so each round (`standing.py`).
"""

import hashlib
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from sovereign.attestation import site
from sovereign.attestation.judge import Judged, weigh
from sovereign.attestation.papers import Attestation, Statement, opened, opened_by_any, sealed
from sovereign.attestation.signals import Asked
from sovereign.audit.note import NOTE_MAX_BYTES, SignerKey, VerifierKey
from sovereign.audit.trail import pin_path
from sovereign.errors import BadInput
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


def keep(home: Home, outcome: Attestation, note: bytes) -> None:
    """Put an attestation in the place of the one before.

    What a signal has against the place is kept beside it until the same signal says otherwise: a
    host that is found elsewhere must not become one that brings no reports.
    """
    host = outcome.claim.host
    site.folder(home).mkdir(mode=0o755, parents=True, exist_ok=True)
    for finding in outcome.findings:
        against = site.against_path(home, host, finding.signal)
        if finding.verdict == "contradicts":
            written(against, note)
        elif finding.verdict != "unknown":
            against.unlink(missing_ok=True)
    written(site.note_path(home, host), note)


def digest(note: bytes) -> str:
    """What records call an attestation by."""
    return f"sha256:{hashlib.sha256(note).hexdigest()}"


def newest(home: Home, host: str) -> Attestation | None:
    """The kept attestation of a host; None when there is none that our own key signed."""
    return read(home, site.note_path(home, host))


def read(home: Home, path: Path) -> Attestation | None:
    """What an attestation says that our own controller signed; None when it is none."""
    try:
        note = path.read_bytes()
        key = VerifierKey.parse(pin_path(home.trust, WRITER, STREAM).read_text())
    except (OSError, UnicodeDecodeError, BadInput):
        return None
    return opened(note, key, Attestation)


def again(outcome: Attestation, asked: Asked) -> Judged:
    """What the papers of an attestation come to under other rules, pins or claims."""
    statements = tuple(each.encode() for each in outcome.statements)
    return weigh(asked, outcome.evidence.encode(), statements)


def as_json(outcome: Attestation) -> dict[str, object]:
    """What an attestation says, for a program; the papers it carries are left out."""
    said: dict[str, object] = msgspec.to_builtins(outcome)
    return {name: value for name, value in said.items() if name not in _CARRIED}


_CARRIED = ("rules", "evidence", "statements", "attesters")
