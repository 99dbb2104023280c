"""Everything a site keeps that has an age: what is there, and how to erase one item of it.

The bundles of the audit logs (`logs.py`) are each in the class of their stream. Every other sink
has an adapter of one form (`model.py`); `of_site` lists them. A sink that is not listed there would
be kept for ever, so every new one is added there and to `rules/retention.yaml` together. The copies
of legal holds have an end and no age: they are in `holds.py`.
"""

from collections.abc import Iterator
from datetime import datetime

from sovereign.audit.erasures import Limits, Rules
from sovereign.policy import Policy
from sovereign.policy.shapes import RetentionClass
from sovereign.retention import Item
from sovereign.settings import Home
from sovereign.sinks import declared, hosts, logs, ours
from sovereign.sinks.hosts import Host
from sovereign.sinks.logs import Ages, entries_of, is_of_log, is_whole_bundle, present, settled
from sovereign.sinks.model import Sink
from sovereign.sinks.ours import PROCESS_LOG

__all__ = [
    "PROCESS_LOG",
    "Ages",
    "entries_of",
    "erase",
    "is_of_log",
    "is_whole_bundle",
    "items",
    "items_of_logs",
    "limits_of",
    "of_site",
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


def of_site(home: Home, policy: Policy | None = None) -> tuple[Sink, ...]:
    """Every sink but the audit logs, which are `logs.py`'s, in the order a run takes them.

    A kind of sink that the site does not have is there all the same, and says why it is absent.
    With a policy, one that the settings name is taken only if it has that class.
    """
    classes = None if policy is None else policy.retention.keys()
    chosen = (declared.of(home, each, classes) for each in home.settings.sinks)
    return (*ours.of_home(home), *hosts.of_host(Host.of(home)), *chosen)


def items(home: Home, ages: Ages | None = None) -> Iterator[Item]:
    """Every item of every sink that can be read, as `retention.due` wants it.

    Args:
        ages: what is known from an earlier look; without it every bundle is read.

    Raises:
        TileDamaged: a bundle cannot be read.
        OSError: a folder cannot be.
    """
    yield from items_of_logs(home, ages)
    for sink in of_site(home):
        if sink.look().state == "present":
            yield from sink.items()


def items_of_logs(home: Home, ages: Ages | None = None) -> Iterator[Item]:
    """Those of the audit logs alone; raises as `items` does."""
    yield from logs.items(home, ages or Ages())


def erase(item: Item, home: Home) -> None:
    """Remove a bundle of an audit log; one that is gone already is fine.

    The folders are synced, so that a receipt never promises what a crash could undo.

    Raises:
        OSError: the disk said no.
    """
    logs.erase(item, home)
