"""Hand what the engine shows of a resource to `rules.py`, and what it says to the engine.

Each answer is also appended to the file that `SOVEREIGN_GUARD_DECISIONS` names, as a line of
JSON, so that the planner can show and record answers that allowed, too. The planner counts:
a resource that the engine announced and that has no line here was not judged, and then the
plan is not called allowed.
"""

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from pulumi_policy import (
    EnforcementLevel,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
)
from pulumi_policy.proxy import UnknownValueError

from infra.guard.rules import UNKNOWN, Judgement, Resource, judge, sentence
from sovereign import policy as policies
from sovereign import settings
from sovereign.policy import Policy

DECISIONS_VARIABLE = "SOVEREIGN_GUARD_DECISIONS"
PROFILE_VARIABLE = "SOVEREIGN_GUARD_PROFILE"
NAME = "sovereign"


def residency() -> ResourceValidationPolicy:
    """The one policy of the pack, under the operator's own policy folder and places."""
    home = settings.load()
    profile = os.environ.get(PROFILE_VARIABLE) or home.settings.profile
    loaded = policies.load(home.policies, profile, home.own_places)
    decisions = os.environ.get(DECISIONS_VARIABLE)
    guard = Guard(loaded, Path(decisions) if decisions else None)
    return ResourceValidationPolicy(
        name="residency",
        description="Data stay where the policy lets them be; unknown means no.",
        enforcement_level=EnforcementLevel.MANDATORY,
        validate=guard.validate,
    )


class Guard:
    """Judges each resource the engine shows it, under one policy."""

    def __init__(self, policy: Policy, decisions: Path | None) -> None:
        self._policy = policy
        self._decisions = decisions
        self._writing = threading.Lock()

    def validate(self, args: ResourceValidationArgs, report: ReportViolation) -> None:
        """Called by the engine once a resource, before anything is made."""
        answers = judge(self._policy, resource_of(args), datetime.now(UTC))
        self._keep(answers)
        for answer in answers:
            if not answer.allowed:
                report(sentence(answer), None)

    def _keep(self, answers: Iterable[Judgement]) -> None:
        if self._decisions is None:
            return
        lines = b"".join(msgspec.json.encode(answer) + b"\n" for answer in answers)
        with self._writing, self._decisions.open("ab") as file:
            file.write(lines)


def resource_of(args: ResourceValidationArgs) -> Resource:
    """What the guard looks at, free of the engine's own wrappers."""
    return Resource(
        kind=args.resource_type,
        name=args.urn,
        inputs=_plain(args.props),
        provider=_plain(args.provider.props) if args.provider else {},
        protected=bool(args.opts.protect),
    )


def _plain(value: Any) -> Any:
    """The value without proxies; what is unknown before it is made becomes UNKNOWN."""
    if isinstance(value, Mapping):
        return {key: _read(value, key) for key in value}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_read(value, index) for index in range(len(value))]
    return value


def _read(holder: Any, key: Any) -> Any:
    try:
        return _plain(holder[key])
    except UnknownValueError:
        return UNKNOWN
