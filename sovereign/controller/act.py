"""Act on a plan: record each step, then let the registry show it. Decides nothing.

An attestation that cannot be recorded, with everything that belongs to it, is not given. A
quarantine is taken all the same: refusing is the safe side, and it is marked as not
recorded, so that a later round makes up for it. A plan made on an older generation of the
registry is refused whole, before anything is recorded where that is seen in time. A controller
whose lease was taken over records and writes nothing.

Acting twice on one plan, or being killed between a record and the registry, ends where acting once
does: the next round sees what stands, and plans what is missing.
"""

import msgspec

from sovereign import eventlog
from sovereign.audit import record
from sovereign.audit.trail import Trail
from sovereign.controller.plan import Plan, Step
from sovereign.errors import LeaseLost, LogUnwritable
from sovereign.registry import Endpoint, LeaseTaken, Registry, StalePlan

RECORD_TIMEOUT_S = 10


def act(plan: Plan, registry: Registry, trail: Trail, *, lease: int | None = None) -> bool:
    """Carry the plan out; return False when nothing was done because it was stale.

    Raises:
        LeaseLost: `lease` is not the newest number given out. The registry is as it was; this is
            found out also by a plan of no steps.
    """
    if lease is not None and (newest := registry.newest_lease()) != lease:
        raise _lost(f"lease {lease} was taken over, by {newest}")
    if plan.steps and registry.snapshot().generation != plan.generation:
        eventlog.emit("plan-stale", generation=plan.generation)
        return False
    shown: dict[str, Endpoint] = {}
    withheld: set[str] = set()
    for step in plan.steps:
        endpoint = step.endpoint
        if endpoint.id in withheld:
            continue
        recorded = _record(step, trail)
        if recorded or step.verb == "quarantine":
            shown[endpoint.id] = msgspec.structs.replace(endpoint, recorded=recorded)
            eventlog.emit(step.verb, endpoint=endpoint.id, code=endpoint.quarantine)
        else:
            withheld.add(endpoint.id)
            shown.pop(endpoint.id, None)
    if not shown:
        return True
    try:
        registry.write(shown.values(), planned_on=plan.generation, lease=lease)
    except StalePlan:
        eventlog.emit("plan-stale", generation=plan.generation)
        return False
    except LeaseTaken as taken:
        raise _lost(str(taken)) from None
    return True


def _lost(found: str) -> LeaseLost:
    return LeaseLost(
        "this controller looks after the site no more", found=found, next_step="sovereign status"
    )


def _record(step: Step, trail: Trail) -> bool:
    try:
        trail.record(_kind(step), **_fields(step)).result(RECORD_TIMEOUT_S)
    except (LogUnwritable, TimeoutError):
        eventlog.emit("log-unwritable", step=step.verb, endpoint=step.endpoint.id)
        return False
    return True


def _kind(step: Step) -> str:
    return "attestation" if step.verb == "attest" else step.verb


def _fields(step: Step) -> dict[str, str | int]:
    """What was asked and what it led to, so that anybody can ask `residency.decide` again."""
    endpoint, asked = step.endpoint, step.decision.question
    fields: dict[str, str | int] = {
        "endpoint": endpoint.id,
        "place": asked.place,
        "asked_at": record.written(asked.asked_at),
        "policy": step.decision.policy,
    }
    if asked.listener:
        fields["listener"] = asked.listener
    if step.rule:
        fields["rule"] = step.rule
    if step.verb == "attest":
        assert endpoint.expires_at is not None, "an attestation always ends"
        until = record.written(endpoint.expires_at)
        verdict = step.decision.verdict
        return {**fields, "signal": step.signal, "expires_at": until, "verdict": verdict}
    code, reason = endpoint.quarantine or "released", endpoint.reason or "all is well again"
    return {**fields, "code": code, "reason": reason}
