"""Whoever reads the audit logs says why, and that is recorded before anything is shown.

The reason is one of a list in the policy (`reading` in rules/audit.yaml): free text would carry
personal data into the log. What cannot be recorded is not read: every error here ends the
command before its first line. `docs/decisions/0030-reading-needs-a-reason.md` says what counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import typer

from sovereign.errors import BadInput, SubjectRestricted, UnknownName
from sovereign.keystore import Known
from sovereign.policy import Policy
from sovereign.settings import Home

BY = "operator"
"""Who reads: the command line. The name of a person would be personal data."""
RECORDED_WITHIN_S = 30.0
STREAM = "security"
ReasonOption = Annotated[
    str, typer.Option("--reason", help="Why: an id from the policy's list of reasons; recorded.")
]


@dataclass(frozen=True, slots=True)
class Reading:
    """What is about to be looked at: `count` records of a log, from `first` on.

    `filters` says what was searched by, never for what.
    """

    log: str
    first: int
    count: int
    filters: tuple[str, ...] = ()


def reason_of(policy: Policy, given: str) -> str:
    """The reason, if it is one.

    Raises:
        BadInput: none was given.
        UnknownName: the policy does not list it. Nothing was read.
    """
    listed = {each.id: each.because for each in policy.audit.reading.reasons}
    accepted = ", ".join(listed) or "none: rules/audit.yaml lists no reason under `reading`"
    if not given:
        raise BadInput(
            "the audit log is read for a reason, and none was given",
            accepted=accepted,
            next_step="the same command with --reason and one of these",
        )
    if given not in listed:
        raise UnknownName(f"{given!r} is no reason to read the audit log", accepted=accepted)
    return given


def refuse_restricted(policy: Policy, known: Known, pseudonym: str, reason: str) -> None:
    """Refuse to look for a person who had the use of their data restricted (GDPR Art. 18(2)).

    Raises:
        SubjectRestricted: and the policy does not list this reason for that. Nothing was read.
    """
    listed = policy.audit.reading.restricted
    if reason not in listed and any(found == pseudonym for _, found in known.restricted):
        raise SubjectRestricted(
            "the use of this person's data is restricted",
            because="they are kept, and else used for little (GDPR art. 18(2))",
            accepted=", ".join(listed) or "no reason: reading.restricted in rules/audit.yaml",
        )


def record_readings(
    home: Home, policy: Policy, reason: str, readings: Iterable[Reading]
) -> tuple[str, ...]:
    """Record what is about to be shown; the names of the records.

    Raises:
        LogLocked, LogMissing, LogUnwritable: it is not recorded, so nothing may be shown.
    """
    from sovereign.supervisor.deployment import operator_trail  # it imports every room

    with operator_trail(home, (STREAM,)) as log:
        waiting = [
            log.record(
                "log-read",
                by=BY,
                reason=reason,
                log=each.log,
                first=each.first,
                count=each.count,
                policy=policy.digest,
                **({"filters": ",".join(each.filters)} if each.filters else {}),
            )
            for each in readings
        ]
        return tuple(each.result(RECORDED_WITHIN_S).name for each in waiting)
