"""What is known of a change of the policy before it happens, and whether it may happen.

Computed, not read: which entries differ, in what ways more would be allowed, who could do what,
and which of the questions recorded in the last days would be answered otherwise.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sovereign import fleet
from sovereign.audit.search import Source, span
from sovereign.cli import access
from sovereign.cli.reading import Reading, reason_of, record_readings
from sovereign.errors import CasesDiffer, PolicyLoosens, PolicyUnreadable, UnknownName
from sovereign.evidence.loosening import Loosening, loosenings
from sovereign.evidence.replay import Replayed, replay, wanted
from sovereign.gateway.entitle import principal
from sovereign.keystore import Keystore
from sovereign.policy import Policy
from sovereign.policy.semantic import Difference, differences
from sovereign.policy.shapes import Changes
from sovereign.registry import utcnow
from sovereign.settings import Home
from sovereign.supervisor import policychange as changing

READ_FOR = "policy-change"
NO_GATEWAYS = ("controller", "operator")
"""Writers that decide about no request."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What is known of a change before it happens. `loaded` is the policy in force, None when it
    cannot be read."""

    loaded: changing.Loaded | None
    new: Policy
    said: tuple[Difference, ...] = ()
    loosened: tuple[Loosening, ...] = ()
    access: list[dict[str, Any]] = field(default_factory=list)
    cases: list[dict[str, Any]] = field(default_factory=list)

    @property
    def old(self) -> Policy | None:
        """The policy in force, if it can be read."""
        return None if self.loaded is None else self.loaded.policy

    @property
    def possible(self) -> int:
        """How much becomes possible to somebody known."""
        return sum(each["becomes"] == "possible" for each in self.access)

    @property
    def loosens(self) -> bool:
        """Somebody has to answer for it."""
        return bool(self.loosened or self.possible)

    @property
    def names(self) -> tuple[str, str]:
        """The digests, old and new."""
        return self.old.digest if self.old else changing.UNREADABLE, self.new.digest


def judge(home: Home, it: changing.Loaded) -> Judged:
    """What another policy would change here."""
    new = it.policy
    cases = access.differing_cases(new)
    try:
        loaded = changing.load(home, None)
    except PolicyUnreadable as error:
        lost = Loosening("everything", "the policy in force cannot be read", error.message)
        return Judged(None, new, loosened=(lost,), cases=cases)
    old = loaded.policy
    if old.digest == new.digest:
        return Judged(loaded, new, cases=cases)
    said, ways = differences(loaded.text, it.text), loosenings(old, new, utcnow())
    return Judged(loaded, new, said, ways, access.access_changes(home, old, new), cases)


def permit(judged: Judged, reason: str, approver: str) -> None:
    """Refuse a change that is not explained, or that allows more and nobody answers for.

    The lists are those of the policy in force; only where it has none, the new one's.
    """
    if judged.cases:
        first = judged.cases[0]
        raise CasesDiffer(
            f"{len(judged.cases)} cases of access/cases.yaml are answered otherwise than they say",
            found=f"{first['says']} ({first['action']}: {first['found']})",
            accepted=str(first["expected"]),
            next_step="sovereign access test --policies FOLDER",
        )
    old = judged.old.audit.changes if judged.old else Changes()
    new = judged.new.audit.changes
    reasons = [each.id for each in old.reasons or new.reasons]
    if reason not in reasons:
        raise UnknownName(
            f"{reason!r} is no reason to change the policy" if reason else "no reason was given",
            accepted=", ".join(reasons) or "none: rules/audit.yaml lists none under `changes`",
            next_step="the same command with --reason and one of these",
        )
    approvers = old.approvers or new.approvers
    if approver and approver not in approvers:
        raise UnknownName(f"{approver!r} approves nothing", accepted=", ".join(approvers))
    if judged.loosens and not approver:
        raise PolicyLoosens(
            "this policy would allow more than the one in force; nothing was changed",
            because="what allows more is answered for by a role that does not run the machines",
            found=_counted(judged),
            accepted=", ".join(approvers) or "nobody: rules/audit.yaml lists no approver",
            next_step="sovereign policy diff FOLDER, then --widening-approved-by with that role",
        )


def _counted(judged: Judged) -> str:
    first = "; ".join(f"{e.what}: {e.before} -> {e.after}"[:160] for e in judged.loosened[:3])
    return f"{len(judged.loosened)} ways, {judged.possible} made possible. {first}".rstrip(". ")


def change_of(judged: Judged, verb: str, reason: str, approver: str) -> changing.Change:
    """What is recorded."""
    old, new = judged.names
    impossible = len(judged.access) - judged.possible
    return changing.Change(
        old=old,
        new=new,
        profile=judged.new.profile,
        verb=verb,
        reason=reason,
        approver=approver,
        loosened=len(judged.loosened),
        possible=judged.possible,
        impossible=impossible,
    )


def may_be_read(policy: Policy) -> bool:
    """Whether this policy lists the reason that a change reads records for."""
    return READ_FOR in (reason.id for reason in policy.audit.reading.reasons)


def asked_again(home: Home, old: Policy, new: Policy, reason: str, days: int) -> Replayed | None:
    """Ask the recorded questions again; None when there is no log of a gateway here."""
    since = utcnow() - timedelta(days=days or old.audit.changes.replayed_days)
    logs = [
        fleet.source(member)
        for member in fleet.members(home)
        if member.stream == "event" and member.writer not in NO_GATEWAYS
    ]
    if not logs:
        return None
    named = reason_of(old, reason)
    record_readings(home, old, named, _readings(logs, since))
    keys = {key.id: principal(key) for key in Keystore(home.keystore).known().keys.values()}
    return replay(logs, since, old, new, keys)


def _readings(logs: Iterable[Source], since: datetime) -> Iterable[Reading]:
    for source in logs:
        within = span(source, wanted(since))
        yield Reading(source.origin, within.start, len(within), wanted(since).kinds)
