"""Judge what a host says of itself by the policy. Pure."""

from dataclasses import dataclass
from typing import Literal

from sovereign.observations.gpus import Gpus
from sovereign.observations.seen import Clock, Host, Swap
from sovereign.policy.shapes import HostRules

Answer = Literal["pass", "fail", "unknown"]
UNSEEN = "could not be seen"


@dataclass(frozen=True, slots=True)
class Judged:
    """One observation beside what the policy accepts."""

    what: str
    verdict: Answer
    found: str
    accepted: str


def judge(rules: HostRules, seen: Host) -> tuple[Judged, ...]:
    """Every observation, always the same ones in the same order."""
    found = {
        "disk": (*_disk(rules, seen.used_percent), f"at most {rules.disk_used_max_percent} % used"),
        "clock": (
            *_clock(rules, seen.clock),
            f"disciplined, wrong by at most {rules.clock_error_max_ms} ms",
        ),
        "swap": (*_swap(seen.swaps), "none, or encrypted"),
        "core dumps": (*_dumps(seen.dumps), "none of the engine"),
        "gpus": (
            *_gpus(rules, seen.gpus),
            f"at most {rules.gpu_ecc_errors_max} uncorrected errors each",
        ),
    }
    return tuple(Judged(what, *rest) for what, rest in found.items())


def _disk(rules: HostRules, used: float | None) -> tuple[Answer, str]:
    if used is None:
        return "unknown", UNSEEN
    is_well = used <= rules.disk_used_max_percent
    return "pass" if is_well else "fail", f"{used:.1f} % used"


def _clock(rules: HostRules, clock: Clock | None) -> tuple[Answer, str]:
    if clock is None:
        return "unknown", UNSEEN
    if not clock.is_disciplined:
        return "fail", "nothing disciplines it"
    is_well = clock.error_us <= rules.clock_error_max_ms * 1000
    return "pass" if is_well else "fail", f"wrong by at most {clock.error_us / 1000:.1f} ms"


def _swap(swaps: tuple[Swap, ...] | None) -> tuple[Answer, str]:
    if swaps is None:
        return "unknown", UNSEEN
    bad = [each.name for each in swaps if each.is_safe is False]
    unclear = [each.name for each in swaps if each.is_safe is None]
    if bad:
        return "fail", f"in the clear: {', '.join(bad)}"
    if unclear:
        return "unknown", f"nobody can tell whether encrypted: {', '.join(unclear)}"
    return "pass", ", ".join(each.name for each in swaps) or "none"


def _dumps(dumps: str | None) -> tuple[Answer, str]:
    if dumps is None:
        return "unknown", UNSEEN
    return ("fail", dumps) if dumps else ("pass", "none could be written")


def _gpus(rules: HostRules, gpus: Gpus) -> tuple[Answer, str]:
    """A host that shows none has none, or some that nobody can see: unknown either way."""
    if not gpus.found:
        return "unknown", f"none was seen ({gpus.why})" if gpus.why else "none was seen"
    bad = [each for each in gpus.found if (each.ecc_errors or 0) > rules.gpu_ecc_errors_max]
    if bad:
        return "fail", ", ".join(f"{g.index}: {g.ecc_errors} uncorrected errors" for g in bad)
    unclear = [str(each.index) for each in gpus.found if each.ecc_errors is None]
    if unclear:
        return "unknown", f"errors are not counted on {', '.join(unclear)}"
    return "pass", ", ".join(sorted({f"{g.name}, driver {g.driver}" for g in gpus.found}))
