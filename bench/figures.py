"""What a benchmark hands over: figures, ratios, targets and checks, in one JSON document.

`docs/benchmarks.md` describes the document. A missed target is shown beside its figure and
fails nothing, because a busy machine misses it too; a check that does not hold (an answer
without its records, a log that does not verify) fails the run, and nothing is written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from math import ceil
from pathlib import Path
from typing import Any, Literal

import msgspec

from bench.machine import Machine

Figures = Mapping[str, Mapping[str, float]]


class CheckFailed(Exception):
    """What was measured is not what the figures claim to be about. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Target:
    """What we mean to reach. `figure` is `SUBJECT.NAME`, as the figures are called."""

    figure: str
    kind: Literal["at least", "at most"]
    bound: float

    def judged(self, figures: Figures) -> dict[str, Any]:
        """The target beside what was found."""
        subject, _, name = self.figure.partition(".")
        found = figures[subject][name]
        met = found >= self.bound if self.kind == "at least" else found <= self.bound
        return {**asdict(self), "found": found, "met": met}


@dataclass(frozen=True, slots=True)
class Result:
    """Figures by subject (`ours`, the peers), and what was checked after measuring."""

    figures: Figures
    ratios: Figures
    targets: Sequence[Target]
    checks: Mapping[str, int]
    settings: Mapping[str, float]
    notes: Mapping[str, str] = field(default_factory=dict)


def percentile(samples: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: the smallest sample that `share` of all do not exceed.

    Args:
        share: above 0 and up to 1; 0.99 is the 99th percentile.
    """
    if not samples:
        raise CheckFailed("a percentile of nothing was asked for: nothing was measured")
    return sorted(samples)[ceil(share * len(samples)) - 1]


def milliseconds(samples_s: Sequence[float], share: float) -> float:
    """The percentile of samples in seconds, in milliseconds."""
    return percentile(samples_s, share) * 1000


def ratios(of: Mapping[str, float], to: Mapping[str, float]) -> dict[str, float]:
    """Each figure of the one divided by the same figure of the other, where both have it."""
    return {name: rounded(value / to[name]) for name, value in of.items() if to.get(name)}


def rounded(value: float) -> float:
    """Four digits that count; more would claim a precision that no run has."""
    return float(f"{value:.4g}")


def document(
    name: str, result: Result, machine: Machine, *, began: datetime, seconds: float, quick: bool
) -> dict[str, Any]:
    """The whole JSON document of a run."""
    figures = {
        subject: {each: rounded(value) for each, value in values.items()}
        for subject, values in result.figures.items()
    }
    return {
        "benchmark": name,
        "quick": quick,
        "at": began.isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "machine": asdict(machine),
        "settings": dict(result.settings),
        "figures": figures,
        "ratios": {pair: dict(values) for pair, values in result.ratios.items()},
        "targets": [target.judged(figures) for target in result.targets],
        "checks": dict(result.checks),
        "notes": dict(result.notes),
    }


def write(folder: Path, found: Mapping[str, Any]) -> Path:
    """Put the document into `FOLDER/NAME.json`, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{found['benchmark']}.json"
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    fresh.replace(path)
    return path


def lines(found: Mapping[str, Any]) -> list[str]:
    """The same for a reader: figures by subject, ratios, then each target and whether it is met."""
    shown = []
    for heading in ("figures", "ratios"):
        for subject, values in found[heading].items():
            pairs = "  ".join(f"{name} {value:g}" for name, value in values.items())
            shown.append(f"  {subject:<14}{pairs}")
    for target in found["targets"]:
        verdict = "met   " if target["met"] else "MISSED"
        wanted = f"{target['kind']} {target['bound']:g}"
        shown.append(f"  {verdict}  {target['figure']} {target['found']:g}, wanted {wanted}")
    shown += [f"  checked  {name}: {count}" for name, count in found["checks"].items()]
    shown += [f"  note  {name}: {text}" for name, text in found["notes"].items()]
    return shown
