"""What the times of answers say about a claimed place. Pure.

A time is measured by an anchor, from its challenge to the answer of whoever holds the host's key.
The answer was not faster than light, so the host is within half the time's way: in fibre, where
light goes at two thirds of its speed in vacuum, about 100 km for each millisecond there and back.
Everything else on the way (queues, detours, a slow host, jitter) only adds. Hence

 * a *short* time to a far anchor is against the claim for certain: `too-near`. Delay can hide such
   a contradiction and can never make one.
 * times that no place on earth fits are against each other: `nowhere`. Some anchor lies.
 * a *long* time proves nothing by physics. But of many answers the least is close to what the way
   takes, and the policy says how long that may plausibly be for the distance: `too-far`. Jitter
   moves single answers and hardly the least of them; too few answers say nothing.
 * when nowhere farther than `near_km` from the claim fits all the times, the place is shown. Only
   anchors of others count for that: what our own say is our own word.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from sovereign.attestation.globe import FLATTENED, MARGIN_KM, Disk, distance_km, farthest_km
from sovereign.attestation.papers import Finding
from sovereign.policy.shapes import RoundTrips

LIGHT_KM_PER_MS = 299.792458
"""In vacuum, by definition of the metre (BIPM, SI brochure)."""
SPEED_KM_PER_MS = {"vacuum": LIGHT_KM_PER_MS, "fibre": LIGHT_KM_PER_MS * 2 / 3}
REASONS_MAX = 4


@dataclass(frozen=True, slots=True)
class Measured:
    """The least of `samples` times to one anchor, which stands somewhere in `where`.

    `organisation` is who runs it, "" when that is ourselves.
    """

    anchor: str
    organisation: str
    where: Disk
    samples: int
    least_us: int


@dataclass(frozen=True, slots=True)
class Against:
    """One way in which times and claim cannot both be true; `reason` is for a reader."""

    kind: Literal["too-near", "too-far", "nowhere"]
    reason: str


def reach_km(least_us: int, medium: str) -> float:
    """How far from the anchor an answer that took so long can have come at most."""
    return SPEED_KM_PER_MS[medium] * least_us / 1000 / 2


def plausible_ms(distance: float, rules: RoundTrips) -> float:
    """The longest least time that is plausible for a distance in km."""
    straight = 2 * distance / SPEED_KM_PER_MS["fibre"]
    return rules.slack_ms + straight * (1 + rules.detour_percent / 100)


def judge(claim: Disk | None, measured: Sequence[Measured], rules: RoundTrips) -> Finding:
    """What the measurements say of a claimed place; None: nobody knows where on earth that is."""
    if not rules.anchors:
        return _finding("unknown", "the policy names no anchor")
    if claim is None:
        return _finding("unknown", "the point of the claimed place is not known")
    if not measured:
        return _finding("unknown", "no anchor gave a report that holds")
    against = tuple(contradictions(claim, measured, rules))
    if against:
        return _finding("contradicts", "; ".join(each.reason for each in against[:REASONS_MAX]))
    return _shown(claim, measured, rules)


def contradictions(
    claim: Disk, measured: Sequence[Measured], rules: RoundTrips
) -> Iterator[Against]:
    """Everything the measurements have against the claim."""
    for each in measured:
        yield from _one(claim, each, rules)
    disks = [_disk(each, rules.medium) for each in measured]
    if farthest_km(claim.centre, disks) is None:
        names = ", ".join(sorted({each.anchor for each in measured}))
        yield Against("nowhere", f"no place on earth fits the times of {names}: one is not true")


def _one(claim: Disk, each: Measured, rules: RoundTrips) -> Iterator[Against]:
    least_ms, distance = each.least_us / 1000, distance_km(claim.centre, each.where.centre)
    around = claim.radius_km + each.where.radius_km + MARGIN_KM
    reach = reach_km(each.least_us, rules.medium)
    if distance / FLATTENED > reach + around:
        yield Against(
            "too-near",
            f"an answer in {least_ms:.1f} ms comes from at most {reach:.0f} km around "
            f"{each.anchor}, and the place is {distance:.0f} km away",
        )
    longest = plausible_ms(distance * FLATTENED + around, rules)
    if each.samples >= rules.samples_min and least_ms > longest:
        yield Against(
            "too-far",
            f"the least of {each.samples} answers to {each.anchor} took {least_ms:.1f} ms, and "
            f"{longest:.1f} ms are plausible for {distance:.0f} km",
        )


def _shown(claim: Disk, measured: Sequence[Measured], rules: RoundTrips) -> Finding:
    others = [each for each in measured if each.organisation]
    farthest = farthest_km(claim.centre, [_disk(each, rules.medium) for each in others])
    lacking = rules.organisations - len({each.organisation for each in others})
    anchors = len({each.anchor for each in others})
    said = f"{anchors} anchors leave it within {farthest or 0:.0f} km"
    if not others:
        said = "nothing speaks against it; all anchors that answered are our own"
    elif lacking <= 0 and farthest is not None and farthest <= rules.near_km:
        return _finding("proves", said)
    elif lacking > 0:
        said += f", and anchors of {lacking} more organisations are asked for"
    return _finding("consistent", said)


def _disk(each: Measured, medium: str) -> Disk:
    reach = reach_km(each.least_us, medium) * FLATTENED
    return Disk(each.where.centre, reach + each.where.radius_km)


def _finding(
    verdict: Literal["proves", "consistent", "contradicts", "unknown"], reason: str
) -> Finding:
    return Finding("round-trip", verdict, reason)
