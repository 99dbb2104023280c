"""Plan what one round changes. Pure: observations in, numbered steps out.

A plan is made on one generation of the registry and is worthless on another: its number is that
of the generation it leads to, so of all plans of a number one at most is ever carried out. It
never repeats what already stands: an endpoint quarantined for the same reason, and recorded so,
gets no new step; a fresh attestation is renewed only in the second half of its life.

What was shut opens once it has looked well as often in a row as its past asks for (`damping.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Literal

import msgspec

from sovereign import licence
from sovereign.attestation.judge import HostPlace
from sovereign.controller.damping import NONE, Looks
from sovereign.controller.observe import Seen, Wanted
from sovereign.dependencies import Judged, first_refused
from sovereign.engines import ENGINES
from sovereign.host import EngineProcess
from sovereign.policy import THIS_HOST, Policy
from sovereign.registry import Endpoint, Snapshot
from sovereign.residency import Decision, Question, decide, is_loopback

PERSONAL = "personal"
"""The class an endpoint is attested for: what may see this may see the lesser ones."""
REFUSED = "residency-refused"
"""The one quarantine that a residency decision causes."""
UNSAID = licence.Standing()
"""A site that says nothing is in production, and nothing was acknowledged for it."""
NO_PLACES: Mapping[str, HostPlace] = MappingProxyType({})
NO_LOOKS: Mapping[str, Looks] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an endpoint may not be used. `code` names a runbook."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Step:
    """One change. `endpoint` is how the registry will show it afterwards.

    `decision` is the residency decision of this round; `rule` is its rule where it caused the
    step, "" where something else did.
    """

    number: int
    verb: Literal["attest", "quarantine", "release"]
    endpoint: Endpoint
    signal: str
    decision: Decision
    rule: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in order, and the generation of the registry they were planned on.

    `well` are the endpoints that nothing was found wrong with, `waiting` those of them that stay
    shut because they have not looked well for long enough.
    """

    generation: int
    steps: tuple[Step, ...]
    well: frozenset[str] = frozenset()
    waiting: tuple[str, ...] = ()

    @property
    def number(self) -> int:
        """The generation of the registry that carrying it out leads to."""
        return self.generation + 1


def plan(
    policy: Policy,
    seen: tuple[Seen, ...],
    snapshot: Snapshot,
    now: datetime,
    dependencies: tuple[Judged, ...] = (),
    *,
    licences: licence.Standing = UNSAID,
    places: Mapping[str, HostPlace] = NO_PLACES,
    looks: Mapping[str, Looks] = NO_LOOKS,
    overdue: tuple[str, ...] = (),
) -> Plan:
    """Return the steps that bring the registry in line with what was seen.

    Args:
        now: when the looks at the processes began. What is vouched for is dated from it, so that
            no attestation outlives what it rests on by more than the policy says.
        dependencies: what every endpoint's requests touch besides it, each judged at `now`.
        licences: what the site is and what was acknowledged for it, for `licence.decide`.
        places: by endpoint, what stands about the place of its host besides its operator's word.
        looks: by endpoint, how often it has looked well in a row, and how often it has to.
        overdue: classes of which something should be gone before anything is served.
    """
    shared = _shared_fault(policy, dependencies) or _overdue_fault(overdue)
    standing = {endpoint.id: endpoint for endpoint in snapshot.endpoints}
    steps: list[Step] = []
    well, waiting = set(), []
    for sight in seen:
        name = sight.wanted.id
        decision = _attested_place(policy, sight, now)
        terms = licence.decide(policy, sight.wanted.model, licences, now)
        placed = places.get(name)
        fault = find_fault(sight, decision, shared) or _place_fault(placed) or _licence_fault(terms)
        current = standing.get(name)
        if fault is None:
            well.add(name)
            if _is_shut(current) and not looks.get(name, NONE).is_enough_with_one_more:
                waiting.append(name)
                continue
        until = _first_of(terms.until, placed.until if placed else None)
        for verb, endpoint in _changes(policy, sight, fault, current, now, until):
            rule = decision.rule if _is_about_place(verb, endpoint, current) else ""
            number, signal = len(steps) + 1, _signal(sight.wanted, placed)
            steps.append(Step(number, verb, endpoint, signal, decision, rule))
    return Plan(snapshot.generation, tuple(steps), frozenset(well), tuple(waiting))


def _is_shut(current: Endpoint | None) -> bool:
    """It was open and is not; what nobody has vouched for yet was never shut."""
    return current is not None and current.quarantine not in ("", "not-attested")


def _is_about_place(verb: str, endpoint: Endpoint, current: Endpoint | None) -> bool:
    """A residency decision caused it: it attests, it shuts for the place, or it ends that."""
    if verb == "release":
        return current is not None and current.quarantine == REFUSED
    return verb == "attest" or endpoint.quarantine == REFUSED


Change = tuple[Literal["attest", "quarantine", "release"], Endpoint]


def _changes(
    policy: Policy,
    sight: Seen,
    fault: Fault | None,
    current: Endpoint | None,
    now: datetime,
    until: datetime | None,
) -> list[Change]:
    """`until` is when what lets it serve ends by itself: it is vouched for no longer than that."""
    if fault is not None:
        quarantined = _endpoint(sight.wanted, current, fault)
        return [] if current == quarantined else [("quarantine", quarantined)]
    renewed = _no_longer_than(until, _renewed(policy, sight.wanted, now))
    attested: list[Change] = [("attest", renewed)]
    if current is None or not current.is_fresh(now) or current.quarantine:
        return [*attested, ("release", renewed)] if _is_shut(current) else attested
    assert current.expires_at is not None
    half = timedelta(seconds=policy.audit.attestation_valid_s / 2)
    changed = (current.address, current.place, current.models) != (
        renewed.address,
        renewed.place,
        renewed.models,
    )
    if current.expires_at == until and not changed:
        return []  # it is vouched for as long as it may be; saying so again would say nothing
    too_long = until is not None and current.expires_at > until
    return attested if changed or too_long or current.expires_at - now < half else []


def find_fault(sight: Seen, decision: Decision, shared: Fault | None = None) -> Fault | None:
    """The first reason this endpoint may not be used; None when there is none.

    What could not be seen is a fault of its own: unknown is never a pass. `shared` is one of every
    endpoint of the site.
    """
    if not sight.probe.ok and sight.process.pid is None:
        return Fault("engine-unhealthy", f"one-token probe: {sight.probe.reason}")
    process = sight.process
    if process.environment is None or process.listeners is None:
        return Fault("environment-unknown", "the engine's process could not be read")
    wrong = _wrong_environment(sight.wanted.engine, process.environment)
    if wrong:
        return Fault("telemetry-on", wrong)
    if not decision.allowed:
        return Fault(REFUSED, f"{decision.rule}: {decision.found}")
    if shared is None and not sight.probe.ok:
        return Fault("engine-unhealthy", f"one-token probe: {sight.probe.reason}")
    return shared


def _overdue_fault(overdue: tuple[str, ...]) -> Fault | None:
    """Something is still there of a class whose rule says `before_serving`."""
    if not overdue:
        return None
    return Fault("retention-overdue", f"past its time and still there: {', '.join(overdue)}")


def _licence_fault(terms: licence.Decision) -> Fault | None:
    """Its weights may not serve here, or not any more."""
    if terms.allowed:
        return None
    return Fault(licence.CODE, f"{terms.rule}: {terms.found}")


def _no_longer_than(until: datetime | None, endpoint: Endpoint) -> Endpoint:
    if until is None or endpoint.expires_at is None:
        return endpoint
    return msgspec.structs.replace(endpoint, expires_at=min(endpoint.expires_at, until))


def _first_of(*ends: datetime | None) -> datetime | None:
    """When what it rests on ends: an acknowledgement of a licence, its host's attestation."""
    return min((each for each in ends if each is not None), default=None)


def _place_fault(placed: HostPlace | None) -> Fault | None:
    """What the signals about a host's place have against an endpoint on it."""
    if placed is None or placed.verdict == "vouched":
        return None
    if placed.verdict == "disagrees":
        return Fault("attestation-disagrees", placed.reason)
    return Fault("place-unproven", placed.reason)


def _shared_fault(policy: Policy, dependencies: tuple[Judged, ...]) -> Fault | None:
    """A refused dependency that sees data about people shuts every endpoint; an engine only its
    own, and that is judged by where it was really seen to listen."""
    others = (each for each in dependencies if each.dependency.kind != "engine")
    refused = first_refused(others, policy)
    if refused is None or refused.decision is None:
        return None
    asked, answer = refused.dependency, refused.decision
    return Fault("dependency-refused", f"{asked.id} ({asked.kind}): {answer.rule}: {answer.found}")


def _attested_place(policy: Policy, sight: Seen, now: datetime) -> Decision:
    listener = _widest_listener(sight.wanted, sight.process)
    return decide(policy, Question(sight.wanted.place, PERSONAL, "process", now, listener))


def _widest_listener(wanted: Wanted, process: EngineProcess) -> str:
    """The address that reaches farthest among those the process really listens on."""
    bound = process.listeners or (wanted.address,)
    return next((address for address in bound if not is_loopback(address)), bound[0])


def _wrong_environment(engine: str, environment: dict[str, str]) -> str:
    for rule in ENGINES[engine].required_environment():
        found = environment.get(rule.name)
        if found != rule.must_be:
            wanted = "unset" if rule.must_be is None else repr(rule.must_be)
            state = "unset" if found is None else "set to something else"
            return f"{rule.name} must be {wanted} and is {state}"
    return ""


def _signal(wanted: Wanted, placed: HostPlace | None) -> str:
    if placed is not None and placed.verdict == "vouched":
        return "place-attestation"
    return "loopback-listener" if wanted.place == THIS_HOST else "operator-statement"


def _renewed(policy: Policy, wanted: Wanted, now: datetime) -> Endpoint:
    return Endpoint(
        id=wanted.id,
        engine=wanted.engine,
        address=wanted.address,
        models=(wanted.model,),
        place=wanted.place,
        model_digest=wanted.model_digest,
        attested_at=now,
        expires_at=now + timedelta(seconds=policy.audit.attestation_valid_s),
        quarantine="",
        reason="",
    )


def _endpoint(wanted: Wanted, current: Endpoint | None, fault: Fault) -> Endpoint:
    return Endpoint(
        id=wanted.id,
        engine=wanted.engine,
        address=wanted.address,
        models=(wanted.model,),
        place=wanted.place,
        model_digest=wanted.model_digest,
        attested_at=current.attested_at if current else None,
        expires_at=current.expires_at if current else None,
        quarantine=fault.code,
        reason=fault.reason,
    )
