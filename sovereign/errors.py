"""Everything this package can say no with.

SovereignError
  Refused                   the policy forbids it; nothing was changed          exit 1
    ResidencyRefused          residency-refused
    DeclarationMissing        place-undeclared
    LicenceRefused            licence-refused
    WeightsDiffer             weights-differ
    WeightsUnsafe             weights-unsafe
    AuditFinding              audit-finding
    SubjectHeld               subject-held
    StandbyBehind             standby-behind
    RestoreRefused            restore-refused
    PolicyLoosens             policy-loosens
    CasesDiffer               access-cases-differ
    IncidentIncomplete        incident-incomplete
    DestroyRefused            destroy-refused
  BadInput                  a file or an argument does not mean anything        exit 2
                              bad-input, where no narrower word below fits
    PolicyUnreadable          policy-unreadable
    SettingsUnreadable        settings-unreadable
    StackUnreadable           stack-unreadable
    RecordInvalid             record-invalid
    NaiveTime                 naive-time
    OutOfRange                out-of-range
    UnknownName               unknown-name
  Unavailable               the outside did not answer; trying again is safe    exit 3
    LogLocked                 log-locked
    LogMissing                log-missing
    LogUnwritable             log-unwritable
    KeyMissing                key-missing
    LogKeyUnusable            log-key-unusable
    LogUnreachable            log-unreachable
    TileMissing               tile-missing
    EngineMissing             engine-missing
    EngineUnhealthy           engine-unhealthy
    NotDeployed               not-deployed
    PolicySuperseded          policy-superseded
    StateUnreadable           state-unreadable
    ProcessFailed             process-failed
    PlannerUnavailable        planner-unavailable
    StackLocked               stack-locked
    StackIncomplete           stack-incomplete
    StandbyUnreachable        standby-unreachable
    DrillRunning              drill-running
    WeightsUnfetched          weights-unfetched
    FirewallUnreadable        firewall-unreadable
    LeaseHeld                 lease-held
    LeaseLost                 lease-lost
  Broken                    our own rule does not hold; stop and look           exit 70
    JournalDamaged            journal-damaged
    HistorySplit              history-split
    TileDamaged               tile-damaged

`code` is the last word of each line. It names the runbook, the log event and the alert.
A message says what was asked, what was found, what would be accepted and the next
command; the named parts below are printed each on a line of its own.
"""

from collections.abc import Iterator
from typing import ClassVar


class SovereignError(Exception):
    """Root of the tree. `code` is stable; `exit_code` is what the command line returns."""

    code: ClassVar[str] = "sovereign-error"
    exit_code: ClassVar[int] = 70

    def __init__(
        self,
        message: str,
        *,
        rule: str = "",
        because: str = "",
        found: str = "",
        accepted: str = "",
        next_step: str = "",
        record: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.rule = rule
        self.because = because
        self.found = found
        self.accepted = accepted
        self.next_step = next_step
        self.record = record

    def lines(self) -> list[str]:
        """The message as a person reads it: one headline, then one named part a line."""
        parts = {
            "rule": self.rule,
            "because": self.because,
            "found": self.found,
            "accepted": self.accepted,
            "next": self.next_step,
            "record": self.record,
            "more": f"docs/runbooks/{self.code}.md",
        }
        named = [f"  {name:<9}{value}" for name, value in parts.items() if value]
        return [f"{self.code}: {self.message}", *named]


class Refused(SovereignError):
    """The policy forbids it. Nothing was changed."""

    code = "refused"
    exit_code = 1


class ResidencyRefused(Refused):
    """A place may not see this data. Nothing left, nothing was stored."""

    code = "residency-refused"


class DeclarationMissing(Refused):
    """Something needs the operator's word about where this host stands, and it was not given."""

    code = "place-undeclared"


class LicenceRefused(Refused):
    """The terms of the weights do not let this model serve here. Nothing was changed."""

    code = "licence-refused"


class WeightsDiffer(Refused):
    """The weights on this machine are not the ones the policy pins. Nothing was started."""

    code = "weights-differ"


class WeightsUnsafe(Refused):
    """Weights hold something that is not served: code, a false header. Nothing was published."""

    code = "weights-unsafe"


class AuditFinding(Refused):
    """A log does not verify. Nothing was changed; keep everything as it is."""

    code = "audit-finding"


class SubjectHeld(Refused):
    """A person's records are under a legal hold. Nothing was erased."""

    code = "subject-held"


class ErasureExcepted(Refused):
    """A request for erasure was refused on a ground of the law. Nothing was erased."""

    code = "erasure-excepted"


class SubjectRestricted(Refused):
    """Use of a person's data is restricted. Nothing was read, answered or erased."""

    code = "subject-restricted"


class StandbyBehind(Refused):
    """The standby lacks acknowledged records that are older than the recovery point."""

    code = "standby-behind"


class RestoreRefused(Refused):
    """A log was not put back: something stands there, or the copy is not to be trusted."""

    code = "restore-refused"


class PolicyLoosens(Refused):
    """Another policy would allow more, and nobody answers for it. The old one is in force."""

    code = "policy-loosens"


class CasesDiffer(Refused):
    """The access rules do not answer their own cases as these say. The old policy is in force."""

    code = "access-cases-differ"


class IncidentIncomplete(Refused):
    """A duty of an incident is open, or it is not documented. It stays open."""

    code = "incident-incomplete"


class DestroyRefused(Refused):
    """Something on the stack may not go yet, or its data were not given up. Nothing was removed."""

    code = "destroy-refused"


class BadInput(SovereignError):
    """A file or an argument does not mean anything. Nothing was changed."""

    code = "bad-input"
    exit_code = 2


class PolicyUnreadable(BadInput):
    """A policy file says something the loader does not accept. No policy was loaded."""

    code = "policy-unreadable"


class SettingsUnreadable(BadInput):
    """`sovereign.yaml` says something we do not accept. Nothing was started."""

    code = "settings-unreadable"


class StackUnreadable(BadInput):
    """A stack file says something we do not accept. Nothing was planned."""

    code = "stack-unreadable"


class RecordInvalid(BadInput):
    """A record lacks a field, has one too many or of the wrong kind. Nothing was written."""

    code = "record-invalid"


class NaiveTime(BadInput):
    """A time came without a time zone. Nothing was decided."""

    code = "naive-time"


class OutOfRange(BadInput):
    """An index or size lies outside the log. Nothing was read."""

    code = "out-of-range"


class UnknownName(BadInput):
    """A name that is in no table: a model, an engine, a tenant, a data class, a verb."""

    code = "unknown-name"


class Unavailable(SovereignError):
    """The outside did not answer. Trying again is safe."""

    code = "unavailable"
    exit_code = 3


class LogLocked(Unavailable):
    """Another process is this log's writer. Nothing was written."""

    code = "log-locked"


class LogMissing(Unavailable):
    """There is no log at this path. Creating one is an explicit verb."""

    code = "log-missing"


class LogUnwritable(Unavailable):
    """The disk refused a write or a sync. The record is not acknowledged."""

    code = "log-unwritable"


class KeyMissing(Unavailable):
    """No pinned verifier key was given, so nothing can be said about the log."""

    code = "key-missing"


class LogKeyUnusable(Unavailable):
    """The key that signs a log cannot be had, or others can read it. Nothing was written."""

    code = "log-key-unusable"


class LogUnreachable(Unavailable):
    """A log could not be fetched, or not as a log is served. Nothing can be said about it."""

    code = "log-unreachable"


class TileMissing(Unavailable):
    """Storage has lost a hash or a bundle it once published."""

    code = "tile-missing"


class EngineMissing(Unavailable):
    """The inference engine asked for is not installed here. Nothing was started."""

    code = "engine-missing"


class EngineUnhealthy(Unavailable):
    """The engine did not answer a one-token request."""

    code = "engine-unhealthy"


class NotDeployed(Unavailable):
    """Nothing is deployed under this SOVEREIGN_HOME."""

    code = "not-deployed"


class PolicySuperseded(Unavailable):
    """Another policy is in force; this process ended so that it is started anew under it."""

    code = "policy-superseded"


class StateUnreadable(Unavailable):
    """A file or folder of the site could not be read. Nothing can be said."""

    code = "state-unreadable"


class ProcessFailed(Unavailable):
    """A process of the site did not start, did not stop, or was given up."""

    code = "process-failed"


class PlannerUnavailable(Unavailable):
    """The engine that plans could not be had, started, or asked. Nothing was decided."""

    code = "planner-unavailable"


class StackLocked(Unavailable):
    """Somebody else changes this stack. Nothing was changed by this run."""

    code = "stack-locked"


class StackIncomplete(Unavailable):
    """A stack was made or removed in part. The same command takes it up where it stopped."""

    code = "stack-incomplete"


class StandbyUnreachable(Unavailable):
    """The standby did not answer. What is new waits here and is sent by the next round."""

    code = "standby-unreachable"


class DrillRunning(Unavailable):
    """Another drill runs on this site. Nothing was done."""

    code = "drill-running"


class WeightsUnfetched(Unavailable):
    """Weights are not all here yet. What came is kept, and the next run goes on from there."""

    code = "weights-unfetched"


class FirewallUnreadable(Unavailable):
    """The firewall of this host could not be read, or does not take what it was given."""

    code = "firewall-unreadable"


class LeaseHeld(Unavailable):
    """Another controller looks after this site, and is alive. Nothing was done."""

    code = "lease-held"


class LeaseLost(Unavailable):
    """Another controller has taken over; this one acts no more, and has ended."""

    code = "lease-lost"


class Broken(SovereignError):
    """Our own rule does not hold. Stop and look; do not retry."""

    code = "broken"
    exit_code = 70


class JournalDamaged(Broken):
    """A journal frame before the last one does not hash to what it says."""

    code = "journal-damaged"


class HistorySplit(Broken):
    """Two signed checkpoints of one log cannot both be true."""

    code = "history-split"


class TileDamaged(Broken):
    """A stored tile or bundle does not hash to the signed root."""

    code = "tile-damaged"


def raised(kind: type[SovereignError] = SovereignError) -> Iterator[type[SovereignError]]:
    """Every class that is ever raised: the leaves of the tree, and `BadInput` itself."""
    below = kind.__subclasses__()
    if not below or kind is BadInput:
        yield kind
    for child in below:
        yield from raised(child)
