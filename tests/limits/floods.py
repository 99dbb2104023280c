"""An engine with some turns and tenants that send calls, in virtual time and always the same.

The line is the real one (`Line`); only time is made up. Calls come as a Poisson process and take
exponential times, by a generator with a fixed seed, the same for every run of a scenario: a tenant
sends exactly the same calls whether or not another floods.
"""

import heapq
import random
from collections.abc import Iterable
from dataclasses import dataclass

from sovereign.limits.fair import Line, Waiter


@dataclass(frozen=True)
class Sender:
    """A tenant that sends so many calls a second, each of this length on average, in seconds.

    `stands_as` is the tenant the line takes it for, where that is another.
    """

    tenant: str
    calls_s: float
    long_s: float = 1.0
    weight: int = 1
    batch: bool = False
    turns: int = 1
    stands_as: str = ""


@dataclass(frozen=True)
class Served:
    """What became of a tenant's calls: how long each waited, and how long until its answer ended.

    `served_s` is the time in which turns were held while calls still came.
    """

    waits: tuple[float, ...]
    answers: tuple[float, ...]
    sent_away: int
    served_s: float


def percentile(of: float, times: Iterable[float]) -> float:
    """The time that this part of them did not exceed."""
    found = sorted(times)
    return found[int(len(found) * of)]


def run(
    senders: Iterable[Sender], *, turns: int, seconds: float, waiting_max: int = 1_000_000
) -> dict[str, Served]:
    """Let them send for so long, and serve what was taken in."""
    line, number, now = Line(turns, waiting_max), 0, 0.0
    events: list[tuple[float, int, str, Waiter, float]] = []
    names: dict[Waiter, str] = {}
    for sender in senders:
        dice, at = random.Random(sender.tenant), 0.0  # noqa: S311 - a simulation
        while (at := at + dice.expovariate(sender.calls_s)) < seconds:
            name = sender.stands_as or sender.tenant
            waiter = Waiter(name, sender.turns, sender.weight, sender.batch)
            names[waiter] = sender.tenant
            events.append((at, number, "comes", waiter, dice.expovariate(1 / sender.long_s)))
            number += 1
    heapq.heapify(events)
    came: dict[Waiter, tuple[float, float]] = {}
    waits: dict[str, list[float]] = {}
    answers: dict[str, list[float]] = {}
    away: dict[str, int] = {}
    held: dict[str, float] = {}
    while events:
        now, _, what, waiter, length = heapq.heappop(events)
        if what == "comes":
            came[waiter] = (now, length)
            gone = line.join(waiter)
            if gone is not None:
                del came[gone]
                away[names[gone]] = away.get(names[gone], 0) + 1
        else:
            line.done(waiter)
        while (called := line.call()) is not None:
            since, length = came.pop(called)
            name = names[called]
            waits.setdefault(name, []).append(now - since)
            answers.setdefault(name, []).append(now - since + length)
            if now < seconds:
                held[name] = held.get(name, 0) + length * called.turns
            number += 1
            heapq.heappush(events, (now + length, number, "goes", called, 0.0))
    assert line.free == turns
    assert line.waiting == 0
    return {
        name: Served(
            tuple(waits.get(name, ())),
            tuple(answers.get(name, ())),
            away.get(name, 0),
            held.get(name, 0.0),
        )
        for name in waits.keys() | away.keys()
    }
