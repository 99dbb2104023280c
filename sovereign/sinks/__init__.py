"""Everything a site keeps that has an age: what is there, and how to erase one item of it.

Two sinks are in use: the bundles of the audit logs (`logs.py`), each in the class of its stream,
and the dated logs of the processes (`ours.py`). A sink that is not listed here would be kept for
ever, so every new one is added here and to `rules/retention.yaml` together. The copies of legal
holds have an end and no age: they are in `holds.py`.
"""

from collections.abc import Iterator
from datetime import datetime

from sovereign.audit.erasures import Limits, Rules
from sovereign.policy import Policy
from sovereign.policy.shapes import RetentionClass
from sovereign.retention import Item
from sovereign.settings import Home
from sovereign.sinks import logs, ours
from sovereign.sinks.logs import Ages, entries_of, is_of_log, is_whole_bundle, present, settled
from sovereign.sinks.ours import PROCESS_LOG

__all__ = [
    "PROCESS_LOG",
    "Ages",
    "entries_of",
    "erase",
    "is_of_log",
    "is_whole_bundle",
    "items",
    "limits_of",
    "present",
    "rules_of",
    "settled",
]


def limits_of(kept: RetentionClass) -> Limits:
    """A class's limits as receipts state them."""
    maximum = None if kept.max_days == "unlimited" else kept.max_days
    return Limits(kept.min_days, maximum, kept.interval_hours)


def rules_of(policy: Policy, now: datetime) -> Rules:
    """What `audit verify` judges erasures by."""
    return Rules(policy.digest, {k: limits_of(v) for k, v in policy.retention.items()}, now)


def items(home: Home, ages: Ages | None = None) -> Iterator[Item]:
    """Every item of every sink, as `retention.due` wants it.

    Args:
        ages: what is known from an earlier look; without it every bundle is read.

    Raises:
        TileDamaged: a bundle cannot be read.
        OSError: a folder cannot be.
    """
    yield from logs.items(home, ages or Ages())
    yield from sorted(ours.process_logs(home).items(), key=lambda item: item.id)


def erase(item: Item, home: Home) -> None:
    """Remove an item's bytes; one that is gone already is fine.

    The folders are synced, so that a receipt never promises what a crash could undo.

    Raises:
        NotErased: it is another one by now.
        OSError: the disk said no.
    """
    if is_of_log(item):
        logs.erase(item, home)
    else:
        sink = ours.process_logs(home)
        sink.erase(item)
        sink.sync()
