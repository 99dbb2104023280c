"""What a drill showed: cases, findings, what could not be told; the verdict and the record of it.

A drill passes only when everything could be looked at, its own control was found, and nothing
else was. A record holds counts and names of ours, and nothing that was found.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sovereign import __version__
from sovereign.registry import utcnow
from sovereign.settings import Home
from sovereign.supervisor.deployment import operator_trail


class Verdict(StrEnum):
    """What a drill as a whole says."""

    PASSED = "pass"
    FINDING = "finding"
    UNKNOWN = "unknown"


EXIT = {Verdict.PASSED: 0, Verdict.FINDING: 1, Verdict.UNKNOWN: 3}


@dataclass(slots=True)
class Result:
    """What came of one drill. `facts` is what its page and its JSON show beyond that."""

    drill: str
    started_at: datetime
    cases: int = 0
    findings: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    record: str = ""

    @property
    def verdict(self) -> Verdict:
        """A finding is one whatever else could not be told; nothing tried proves nothing."""
        if self.findings:
            return Verdict.FINDING
        return Verdict.UNKNOWN if self.unknown or not self.cases else Verdict.PASSED


def recorded(home: Home, policy: str, result: Result) -> Result:
    """Write the drill's record into the operator's evidence, and name it in the result.

    Args:
        policy: digest of the policy it ran under.
    """
    with operator_trail(home, ("evidence",)) as log:
        result.record = (
            log.record(
                "drill",
                drill=result.drill,
                verdict=result.verdict.value,
                cases=result.cases,
                findings=len(result.findings),
                unknown=len(result.unknown),
                took_s=round((utcnow() - result.started_at).total_seconds()),
                version=__version__,
                policy=policy,
            )
            .result()
            .name
        )
    return result
