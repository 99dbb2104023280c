"""Pick one of several engines that may all answer a call: which is best for it, and fair to them.

Whether an endpoint may answer is decided before (`choose.py`); nothing here can add one. Pure:
counts, a key and a time in, a number out. What is counted is kept by `replicas.py`.

  * A call with a key (the beginning of its conversation, `affinity.py`) goes to the replica that
    the key points at, because that one has read it before. Keys are spread by rendezvous hashing:
    when a replica goes, its own keys move and no others.
  * A replica takes no more than its share of what runs, times `load`; what is too much goes to the
    next one the key points at. A call without a key goes where least runs.
  * One that just became usable gets a growing share for `slow_start_s`: its caches are empty.
  * One that failed `eject_after` times in a row rests, each time twice as long, and then gets one
    call to show that it is back. When all rest, the one that rested longest is asked all the same:
    an engine that is tried and fails costs one refusal, one that is never tried costs them all.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

_MASK = (1 << 64) - 1
_ODD = 0x9E3779B97F4A7C15
_ODD_TOO = 0xBF58476D1CE4E5B9
WEIGHT_MIN = 0.1
"""The share, of a full one, that a replica begins with."""
EJECTIONS_MAX = 32
"""Ejections counted; the rest has long reached its bound by then."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How calls are spread. Seconds; `load` is 1 or more and says how far above its share a replica
    may go."""

    load: float = 1.25
    slow_start_s: float = 30.0
    eject_after: int = 3
    eject_s: float = 1.0
    eject_max_s: float = 60.0


@dataclass(slots=True)
class Replica:
    """What this gateway has seen of one endpoint. Times are of one monotonic clock.

    `outstanding` calls run there or wait for it. `failures` is how many failed in a row;
    `ejections` how often in a row it had to rest, `back_at` until when. `trying` is true while one
    call finds out whether it is back.
    """

    seed: int
    usable_since: float = -math.inf
    outstanding: int = 0
    failures: int = 0
    ejections: int = 0
    back_at: float = -math.inf
    trying: bool = False

    def is_open(self, now: float) -> bool:
        """True when a call may go there: it is well, or due to be tried and nobody tries it yet."""
        return not self.ejections or (now >= self.back_at and not self.trying)

    def weight(self, now: float, slow_start_s: float) -> float:
        """Its part of a full share, `WEIGHT_MIN` to 1."""
        age_s = now - self.usable_since
        if age_s >= slow_start_s:
            return 1.0
        return max(WEIGHT_MIN, age_s / slow_start_s)

    def came(self) -> bool:
        """A call was given to it. True when this is the one that finds out whether it is back."""
        self.outstanding += 1
        tries = self.ejections > 0 and not self.trying
        self.trying = self.trying or tries
        return tries

    def left(self, *, tried: bool) -> None:
        """A call is over, however it ended; the one that tried it leaves that to another."""
        self.outstanding -= 1
        if tried:
            self.trying = False

    def worked(self, now: float) -> None:
        """It answered. One that was resting is back, and warms up again."""
        self.failures = 0
        if self.ejections:
            self.ejections, self.trying, self.usable_since = 0, False, now

    def failed(self, now: float, bounds: Bounds) -> None:
        """It did not answer. Calls that failed while it rests already were sent before."""
        self.failures += 1
        due = self.ejections > 0 or self.failures >= bounds.eject_after
        if due and now >= self.back_at:
            self.ejections = min(self.ejections + 1, EJECTIONS_MAX)
            rest_s = min(bounds.eject_s * 2 ** (self.ejections - 1), bounds.eject_max_s)
            self.back_at, self.trying = now + rest_s, False


def seed(name: str) -> int:
    """What stands for an endpoint in every hash: 64 bits of its id, the same at every gateway."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest())


def pick(replicas: Sequence[Replica], key: int | None, now: float, bounds: Bounds) -> int:
    """Return the index of the replica for a call; `replicas` holds at least one.

    Args:
        key: 64 bits that stand for the beginning of the conversation; None for a call without.
        now: of the clock that the replicas' times are of.
    """
    if len(replicas) == 1:
        return 0
    open_ = [i for i, replica in enumerate(replicas) if replica.is_open(now)]
    if not open_:
        return min(range(len(replicas)), key=lambda i: replicas[i].back_at)
    weights = [replicas[i].weight(now, bounds.slow_start_s) for i in open_]
    if key is None:
        return _least(replicas, open_, weights)
    return _nearest(replicas, open_, weights, key, bounds.load)


def _least(replicas: Sequence[Replica], open_: list[int], weights: list[float]) -> int:
    """Where least would run for its weight, this call included."""
    loads = [(replicas[i].outstanding + 1) / w for i, w in zip(open_, weights, strict=True)]
    return open_[loads.index(min(loads))]


def _nearest(
    replicas: Sequence[Replica], open_: list[int], weights: list[float], key: int, load: float
) -> int:
    """The first in the key's own order that has room. One has: together they have room for `load`
    times what runs, and `load` is at least 1; where rounding takes that away, the least is it."""
    scores = [_score(key, replicas[i].seed) for i in open_]
    best = scores.index(max(scores))
    running = sum([replicas[i].outstanding for i in open_]) + 1
    room = load * running / sum(weights)
    if replicas[open_[best]].outstanding < math.ceil(room * weights[best]):
        return open_[best]
    for _, at in sorted(zip(scores, range(len(open_)), strict=True), reverse=True):
        if replicas[open_[at]].outstanding < math.ceil(room * weights[at]):
            return open_[at]
    return _least(replicas, open_, weights)


def _score(key: int, seed_: int) -> int:
    """How near a replica is to a key: 64 bits mixed as in SplitMix64, without its last step."""
    mixed = ((key ^ seed_) * _ODD) & _MASK
    return ((mixed ^ (mixed >> 29)) * _ODD_TOO) & _MASK
