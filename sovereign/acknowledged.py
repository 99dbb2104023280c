"""Acknowledgements of licences, out of the one place they stand in: the operator's evidence log.

There is no file of acknowledgements that could say something else than the log. One counts when
its record is proven to be under the signed checkpoint of the pinned log, and it is in force as
`licence.py` decides. What cannot be read acknowledges nothing.

Making one is a record, ending one early is another; both are durable before a command says so.

KNOWN: the records found are proven, not that none was withheld. Entries that are gone after an
acknowledgement acknowledge nothing; a log put back to an older state of its own, without a
revocation, is found by `sovereign audit verify`, which knows the newest checkpoint.
"""

import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sovereign import eventlog, fleet, licence
from sovereign.audit import proof, record, search, tiles
from sovereign.audit.keys import rotation
from sovereign.audit.search import Hit, Wanted
from sovereign.audit.trail import Recorded, Trail, origin_of
from sovereign.errors import (
    BadInput,
    LicenceRefused,
    SovereignError,
    StateUnreadable,
    UnknownName,
)
from sovereign.licence import Acknowledgement, Standing
from sovereign.policy import Policy
from sovereign.policy.shapes import Model
from sovereign.settings import Home

MADE, REVOKED = "licence-acknowledged", "licence-revoked"
RECORD_TIMEOUT_S = 30.0


def standing(home: Home, policy: Policy, *models: str) -> Standing:
    """What `licence.decide` asks of this site.

    The log is looked at only when one of these models needs an acknowledgement, so that a site of
    open models depends on nothing more.

    Raises:
        StateUnreadable: one needs it, and the log cannot be read. Nothing may be taken for
            acknowledged.
    """
    environment = home.settings.environment
    asked = any(licence.needs_acknowledgement(policy, name, environment) for name in models)
    return Standing(environment, everything(home) if asked else ())


def standing_or_none(home: Home, policy: Policy, *models: str) -> Standing:
    """As `standing`, for who must go on: a log that cannot be read acknowledges nothing."""
    try:
        return standing(home, policy, *models)
    except (SovereignError, OSError):
        return Standing(home.settings.environment)


class Reading:
    """`standing` round after round: a log that was read is read anew only when it has grown.

    A log that cannot be read acknowledges nothing, and is tried again in the next round.
    """

    def __init__(self, home: Home, policy: Policy) -> None:
        self._home, self._policy = home, policy
        self._checkpoint: bytes | None = None
        self._found: Standing | None = None

    def standing(self, models: Iterable[str]) -> Standing:
        """What is acknowledged now for these models, the same in every call."""
        checkpoint = _checkpoint_of(self._home)
        if self._found is not None and checkpoint == self._checkpoint:
            return self._found
        self._found, self._checkpoint = None, checkpoint
        try:
            self._found = standing(self._home, self._policy, *models)
        except (SovereignError, OSError) as error:
            eventlog.emit("licences-unreadable", exception=type(error).__name__)
            return Standing(self._home.settings.environment)
        return self._found


def everything(home: Home) -> tuple[Acknowledgement, ...]:
    """Every acknowledgement that the log proves, in force or not, by the time it was made.

    Raises:
        StateUnreadable: a part of the log is damaged.
    """
    try:
        log = _log(home)
        if log is None:
            return ()
        made, ended = _hits(log, MADE), _hits(log, REVOKED)
        revoked = {hit.fields["acknowledgement"]: _time(hit.fields, "at") for hit in ended}
        return tuple(_parsed(hit, revoked) for hit in made)
    except StateUnreadable:
        raise
    except (SovereignError, OSError) as error:
        raise StateUnreadable(
            "the acknowledgements cannot be read out of the log",
            found=type(error).__name__,
            next_step="sovereign audit verify",
        ) from error


def acknowledge(
    home: Home,
    policy: Policy,
    model: Model,
    *,
    approver: str,
    purpose: str,
    expires_at: datetime,
    trail: Trail,
    now: datetime,
) -> tuple[Acknowledgement, Recorded]:
    """Record that `approver` read the terms and answers for the use; in force once it returns.

    Raises:
        LicenceRefused: the terms are refused here whoever acknowledges them.
        UnknownName, BadInput: as `check`. Nothing was recorded.
        LogUnwritable: it is not recorded, and so not in force.
    """
    given = check(home, policy, model, approver, purpose, expires_at, now)
    recorded = trail.record(
        MADE,
        acknowledgement=given.id,
        model=given.model,
        licence=given.licence,
        environment=given.environment,
        approver=given.approver,
        purpose=given.purpose,
        expires_at=record.written(given.expires_at),
        policy=policy.digest,
    ).result(RECORD_TIMEOUT_S)
    return given, recorded


def check(
    home: Home,
    policy: Policy,
    model: Model,
    approver: str,
    purpose: str,
    expires_at: datetime,
    now: datetime,
) -> Acknowledgement:
    """The acknowledgement as it would be recorded.

    Raises:
        LicenceRefused: the terms are refused here whoever acknowledges them.
        UnknownName: a role or purpose that the policy does not name.
        BadInput: it would end in the past or too late, or none is needed.
    """
    environment = home.settings.environment
    answer = licence.decide(policy, model.id, Standing(environment), now)
    rule = policy.licences.get(model.licence_terms)
    if licence.serves(rule, environment) == "yes":
        raise BadInput(
            f"{model.id} needs no acknowledgement",
            found=answer.found,
            next_step="make deploy, with it",
        )
    if rule is None or not licence.needs_acknowledgement(policy, model.id, environment):
        licence.refuse(answer, what="no acknowledgement changes that")
        raise LicenceRefused(f"{model.id} may not serve", rule=answer.rule)
    known = policy.acknowledging
    if approver not in known.approvers:
        raise UnknownName(
            f"{approver[:80]!r} may not acknowledge a licence",
            accepted=", ".join(known.approvers) or "nobody: rules/licences.yaml names no role",
        )
    if purpose not in rule.purposes:
        raise UnknownName(
            f"{purpose[:80]!r} is no purpose of {model.licence}",
            accepted=", ".join(rule.purposes) or "none: rules/licences.yaml names no purpose",
        )
    days = (expires_at - now).total_seconds() / 86_400
    if not 0 < days <= known.max_days:
        raise BadInput(
            f"an acknowledgement lasts at most {known.max_days} days",
            found=f"{expires_at:%Y-%m-%d}",
            accepted="a day to come, within that",
        )
    name = f"ack_{secrets.token_hex(6)}"
    return Acknowledgement(
        name, model.id, model.licence, environment, approver, purpose, now, expires_at
    )


def revoke(
    home: Home, policy: Policy, name: str, *, approver: str, trail: Trail | None, now: datetime
) -> tuple[Acknowledgement, Recorded | None]:
    """End an acknowledgement now; the controller shuts what it let serve in its next round.

    Without a `trail` it is only looked at.

    Raises:
        UnknownName: there is none of that name, or the role may not.
        BadInput: it is not in force any more. Nothing was recorded.
    """
    found = {each.id: each for each in everything(home)}
    if name not in found:
        raise UnknownName(
            f"there is no acknowledgement {name[:80]!r}",
            accepted=", ".join(found) or "none was made",
            next_step="sovereign licence list",
        )
    if approver not in policy.acknowledging.approvers:
        raise UnknownName(
            f"{approver[:80]!r} may not revoke it",
            accepted=", ".join(policy.acknowledging.approvers),
        )
    given = found[name]
    if given.revoked_at is not None or licence.ends(policy, given) <= now:
        raise BadInput(f"{name} is not in force", accepted="one that is: sovereign licence list")
    if trail is None:
        return given, None
    recorded = trail.record(
        REVOKED,
        acknowledgement=given.id,
        model=given.model,
        approver=approver,
        policy=policy.digest,
    ).result(RECORD_TIMEOUT_S)
    return given, recorded


# --- reading ----------------------------------------------------------------------------------


def _log(home: Home) -> fleet.Member | None:
    """The operator's evidence log, when its key is pinned."""
    origin = origin_of(home.settings.site, "operator", "evidence")
    return next((m for m in fleet.members(home) if m.origin == origin and m.vkey), None)


def _checkpoint_of(home: Home) -> bytes | None:
    try:
        return (home.audit / "operator" / "evidence" / tiles.CHECKPOINT).read_bytes()
    except OSError:
        return None


def _hits(log: fleet.Member, kind: str) -> list[Hit]:
    """The records of a kind, each proven, oldest first.

    What was erased on time is older than everything that can still be in force; what is gone after
    a record that is there may have been its revocation.
    """
    assert log.vkey is not None, "only a pinned log is read"
    source, found = fleet.source(log), list[Hit]()
    for each in search.search(source, Wanted(type=kind), range(source.size)):
        if isinstance(each, Hit):
            proof.prove(source.read, rotation.newest(source.read, log.vkey), each.index)
            found.append(each)
        elif each.state != "gone" or each.first > 0:
            raise StateUnreadable(f"{each.name} cannot be read", next_step="sovereign audit verify")
    return found


def _parsed(hit: Hit, ended: Mapping[str, datetime]) -> Acknowledgement:
    said = hit.fields
    return Acknowledgement(
        id=said["acknowledgement"],
        model=said["model"],
        licence=said["licence"],
        environment=said["environment"],
        approver=said["approver"],
        purpose=said["purpose"],
        made_at=_time(said, "at"),
        expires_at=_time(said, "expires_at"),
        record=hit.name,
        revoked_at=ended.get(said["acknowledgement"]),
    )


def _time(said: Mapping[str, Any], name: str) -> datetime:
    return datetime.fromisoformat(said[name])
