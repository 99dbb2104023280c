"""Decide what must be gone by now. Pure: the caller erases, and records that it did.

An item is the smallest thing that can be erased by itself: an entry bundle of an audit
log, a rotated log file, a stored body. Its class says how long it may and must be kept
(`rules/retention.yaml`); its clock is its own, not the moment we first saw it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sovereign.errors import NaiveTime
from sovereign.policy.model import Policy
from sovereign.policy.shapes import RetentionClass

NO_RULE = "no-retention-rule"


@dataclass(frozen=True, slots=True)
class Item:
    """Something kept. `oldest` and `newest` are aware times of the data in it."""

    sink: str
    id: str
    retention_class: str
    oldest: datetime
    newest: datetime
    held: bool = False


@dataclass(frozen=True, slots=True)
class Erasure:
    """An item that must go, the rule that says so, and since when it is due."""

    item: Item
    rule: str
    due_since: datetime


def due(policy: Policy, items: Iterable[Item], now: datetime) -> tuple[Erasure, ...]:
    """List what the retention policy says must be erased in a run at `now`, oldest first.

    An item is due one interval before its oldest part reaches the maximum, so that a run
    every interval never lets anything outlive it, but then only if its newest part has
    reached the minimum; at the maximum it is due whatever its newest part is. Items on
    legal hold are never listed. An item whose class has no rule is due at once: silence
    means we may not keep it.

    Raises:
        NaiveTime: `now` or an item's clock has no time zone. Nothing was decided.
    """
    _aware(now)
    found = []
    for item in items:
        _aware(item.oldest, item.newest)
        erasure = (
            None if item.held else _erasure(policy.retention.get(item.retention_class), item, now)
        )
        if erasure is not None:
            found.append(erasure)
    return tuple(sorted(found, key=lambda e: (e.item.oldest, e.item.sink, e.item.id)))


def _erasure(kept: RetentionClass | None, item: Item, now: datetime) -> Erasure | None:
    if kept is None:
        return Erasure(item, NO_RULE, item.oldest)
    if kept.max_days == "unlimited":
        return None
    maximum = item.oldest + timedelta(days=kept.max_days)
    early = max(
        maximum - timedelta(hours=kept.interval_hours),
        item.newest + timedelta(days=kept.min_days),
    )
    since = min(maximum, early)
    return Erasure(item, kept.id, since) if now >= since else None


def _aware(*times: datetime) -> None:
    for time in times:
        if time.tzinfo is None:
            raise NaiveTime("retention needs times with a zone", found=time.isoformat())
