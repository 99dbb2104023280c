"""`drill clock`: what the policy would say if it were another time. No clock is moved.

Retention and residency are decided by functions that are given the time, so they can be asked
about any. For each time this shows how much would be due for erasure and what would still answer,
and judges three promises: no endpoint answers outside its attestation, nothing goes before its
minimum, and nothing is left that is older than its maximum and no run is due to erase.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from sovereign import sinks
from sovereign.drills import client
from sovereign.drills.note import noted
from sovereign.drills.result import Result, recorded
from sovereign.gateway.choose import choose
from sovereign.keystore import Key
from sovereign.policy import Policy
from sovereign.registry import Endpoint, Registry, utcnow
from sovereign.retention import Erasure, Item, due
from sovereign.settings import Home

NAME = "clock"
AHEAD = {
    "now": timedelta(0),
    "an hour ago": timedelta(hours=-1),
    "a day ago": timedelta(days=-1),
    "in 3 seconds": timedelta(seconds=3),
    "in a minute": timedelta(minutes=1),
    "in an hour": timedelta(hours=1),
    "in a day": timedelta(days=1),
    "in 8 days": timedelta(days=8),
    "in 31 days": timedelta(days=31),
    "in 184 days": timedelta(days=184),
    "in 366 days": timedelta(days=366),
    "in 3 years": timedelta(days=3 * 366),
}


def times(now: datetime) -> dict[str, datetime]:
    """The times that are tried: so far from now, and days that calendars trip over."""
    year = now.year + 1
    leap = next(y for y in range(year, year + 9) if y % 4 == 0 and (y % 100 or y % 400 == 0))
    return {name: now + ahead for name, ahead in AHEAD.items()} | {
        f"1 March {year}": datetime(year, 3, 1, tzinfo=UTC),
        f"29 February {leap}": datetime(leap, 2, 29, 12, tzinfo=UTC),
        f"summer time begins {year}": _last_sunday(year, 3),
        f"summer time ends {year}": _last_sunday(year, 10),
        f"the turn of {year + 1}": datetime(year + 1, 1, 1, tzinfo=UTC) - timedelta(microseconds=1),
    }


def _last_sunday(year: int, month: int) -> datetime:
    """When the clocks of the EU change: 01:00 UTC (Directive 2000/84/EC, Articles 2 and 3)."""
    last = datetime(year, month, 31, 1, tzinfo=UTC)
    return last - timedelta(days=(last.weekday() + 1) % 7)


def plan(_: Home, __: Policy) -> dict[str, Any]:
    """What a drill would do; nothing is done."""
    return {"drill": NAME, "times": [f"{n}: {t:%F %H:%M} UTC" for n, t in times(utcnow()).items()]}


def drill(home: Home, policy: Policy, say: Callable[[str], None]) -> Result:
    """Ask the policy about every time.

    Raises:
        NotDeployed, DrillRunning: nothing was done.
        TileDamaged, OSError: something that has an age could not be read.
    """
    with noted(home, NAME, policy.digest):
        result = Result(NAME, utcnow())
        items = list(sinks.items(home))
        endpoints = Registry(home.registry).snapshot().endpoints
        say(f"{len(items)} items of every sink, {len(endpoints)} endpoints")
        if not endpoints:
            result.unknown.append("the registry names no endpoint")
        rows = []
        for name, at in times(result.started_at).items():
            erasures = due(policy, items, at)
            answers = answering(policy, endpoints, at)
            result.cases += 1
            result.findings += faults(policy, items, erasures, at, name)
            result.findings += [
                f"{name}: {each.id} would answer outside its attestation"
                for each in answers
                if not each.is_fresh(at)
            ]
            rows.append(
                {
                    "when": name,
                    "at": f"{at:%F %H:%M}",
                    "due": len(erasures),
                    "answering": [each.id for each in answers],
                    "refused": refused(policy, endpoints, at),
                }
            )
        result.facts = {"times": rows}
        return recorded(home, policy.digest, result)


def _asker(model: str, at: datetime) -> Key:
    """A key as the drills have; it is made up, and stored nowhere."""
    return Key(
        id="key_drill",
        tenant=client.TENANT,
        purpose="drill-clock",
        basis=client.BASIS,
        data=client.DATA,
        subject="none",
        created_at=at,
        models=(model,),
    )


def answering(policy: Policy, endpoints: tuple[Endpoint, ...], at: datetime) -> list[Endpoint]:
    """The endpoints that the gateway would use at that time."""
    found: dict[str, Endpoint] = {}
    for model in sorted({name for each in endpoints for name in each.models}):
        for each in endpoints:
            choice = choose(policy, _asker(model, at), model, (each,), at)
            if not choice.code and choice.endpoint is not None:
                found[choice.endpoint.id] = choice.endpoint
    return list(found.values())


def refused(policy: Policy, endpoints: tuple[Endpoint, ...], at: datetime) -> list[str]:
    """Why the others would not be used."""
    found = set()
    for each in endpoints:
        for model in each.models:
            choice = choose(policy, _asker(model, at), model, (each,), at)
            if choice.code:
                found.add(f"{each.id}: {choice.code}")
    return sorted(found)


def faults(
    policy: Policy, items: Iterable[Item], erasures: tuple[Erasure, ...], at: datetime, when: str
) -> list[str]:
    """What would go too early, and what would stay too long, at that time."""
    going = {(each.item.sink, each.item.id) for each in erasures}
    found = []
    for item in items:
        kept = policy.retention.get(item.retention_class)
        if kept is None or kept.max_days == "unlimited":
            continue
        goes = (item.sink, item.id) in going
        over = at - item.oldest >= timedelta(days=kept.max_days)
        if goes and not over and at - item.newest < timedelta(days=kept.min_days):
            found.append(f"{when}: {item.sink} {item.id} would go before {kept.min_days} days")
        if over and not goes and not item.held:
            found.append(f"{when}: {item.sink} {item.id} would stay past {kept.max_days} days")
    return found
