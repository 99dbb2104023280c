"""The five answers a control can have. `unknown` never renders, counts or exits as a pass."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """What is known about a control."""

    PASS = "pass"  # noqa: S105 - a verdict, not a secret
    FAIL = "fail"
    NOT_APPLICABLE = "not_applicable"
    MANUAL_PENDING = "manual_pending"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state, and in one line what it rests on."""

    state: State
    found: str


def exit_code(states: list[State]) -> int:
    """1 when anything fails, 3 when anything is not known, else 0. No control at all is 3."""
    if State.FAIL in states:
        return 1
    if not states or State.UNKNOWN in states or State.MANUAL_PENDING in states:
        return 3
    return 0
