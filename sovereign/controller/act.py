"""Act on a plan: record each step, then let the registry show it. Decides nothing.

An attestation that cannot be recorded, with everything that belongs to it, is not given. A
quarantine is taken all the same: refusing is the safe side, and it is marked as not
recorded, so that a later round makes up for it. A plan made on an older generation of the
registry is refused whole.
"""

from datetime import datetime

import msgspec

from sovereign import eventlog
from sovereign.audit.trail import Trail
from sovereign.controller.plan import Plan, Step
from sovereign.errors import LogUnwritable
from sovereign.registry import Endpoint, Registry, StalePlan

RECORD_TIMEOUT_S = 10


def act(plan: Plan, registry: Registry, trail: Trail) -> bool:
    """Carry the plan out; return False when nothing was done because it was stale."""
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
        registry.write(shown.values(), planned_on=plan.generation)
    except StalePlan:
        eventlog.emit("plan-stale", generation=plan.generation)
        return False
    return True


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
    endpoint = step.endpoint
    if step.verb == "attest":
        return {
            "endpoint": endpoint.id,
            "place": endpoint.place,
            "signal": step.signal,
            "expires_at": _written(endpoint.expires_at),
            "verdict": step.decision.verdict,
            "rule": step.decision.rule,
        }
    code = endpoint.quarantine or "released"
    return {"endpoint": endpoint.id, "code": code, "reason": endpoint.reason or "all is well again"}


def _written(time: datetime | None) -> str:
    assert time is not None, "an attestation always ends"
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
