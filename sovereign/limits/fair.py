"""The line in front of an engine: start-time fair queueing between tenants, with two priorities.

An engine answers so many calls at a time; each is a turn. Whoever waits stands in the queue of its
tenant. A free turn goes to the tenant with the least start tag, a virtual time: its own last finish
tag, or the tag being served when it came back to a line it had left (Goyal, Vin and Cheng, 1996). A
tenant's finish tag grows by turns divided by weight, so tenants that wait share the engine by their
weights, whatever the length of their queues: a flood makes its own tenant wait, nobody else.

Rules that hold everywhere below:
  * The first of a tenant's calls to come is the first of its calls to go.
  * Whoever was chosen and needs more turns than are free is served next, whoever comes meanwhile:
    two calls never hold half of what both need.
  * `interactive` goes before `batch`, but of every `BATCH_EVERY` turns one is for batch that waits.
  * Somebody who leaves costs its tenant nothing.
  * When the line is full, the last of the tenant that has most waiting for its weight has to go.

Pure: no clock, no event loop. `turns.py` of the gateway makes calls wait in it.
"""

from collections import deque
from dataclasses import dataclass, field

SCALE = 1_000_000
"""Virtual time of one turn at weight 1."""
BATCH_EVERY = 8
IDLE_TENANTS_MAX = 256


@dataclass(slots=True, eq=False)
class Waiter:
    """A call in the line. `turns` is how many it takes, at most all there are."""

    tenant: str
    turns: int
    weight: int = 1
    batch: bool = False


@dataclass(slots=True)
class _Tenant:
    start: int = 0
    finish: int = 0
    waiting: deque[Waiter] = field(default_factory=deque)


@dataclass(slots=True)
class _Class:
    """One priority: its tenants and its virtual time."""

    now: int = 0
    tenants: dict[str, _Tenant] = field(default_factory=dict)
    size: int = 0

    def join(self, waiter: Waiter) -> None:
        tenant = self.tenants.setdefault(waiter.tenant, _Tenant())
        if not tenant.waiting:
            tenant.start = max(self.now, tenant.finish)
        tenant.waiting.append(waiter)
        self.size += 1

    def head(self) -> Waiter:
        """Whose turn it is; of equal tags, the tenant that was there first."""
        waiting = (tenant for tenant in self.tenants.values() if tenant.waiting)
        return min(waiting, key=lambda tenant: tenant.start).waiting[0]

    def serve(self, waiter: Waiter) -> None:
        tenant = self.tenants[waiter.tenant]
        tenant.waiting.remove(waiter)
        self.size -= 1
        self.now = max(self.now, tenant.start)
        tenant.finish = tenant.start + waiter.turns * SCALE // waiter.weight
        tenant.start = tenant.finish
        if len(self.tenants) > IDLE_TENANTS_MAX + self.size:
            self._forget()

    def leave(self, waiter: Waiter) -> None:
        self.tenants[waiter.tenant].waiting.remove(waiter)
        self.size -= 1

    def _forget(self) -> None:
        """A tenant that waits for nothing and has nothing to make up for begins like a new one."""
        self.tenants = {
            name: tenant
            for name, tenant in self.tenants.items()
            if tenant.waiting or tenant.finish > self.now
        }


class Line:
    """The line of one engine. `free` turns are nobody's."""

    def __init__(self, turns: int, waiting_max: int) -> None:
        """`turns` and `waiting_max` are at least 1."""
        self.turns = turns
        self.free = turns
        self._waiting_max = waiting_max
        self._classes = (_Class(), _Class())  # interactive, batch
        self._chosen: Waiter | None = None
        self._passed = 0

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._classes[0].size + self._classes[1].size

    def join(self, waiter: Waiter) -> Waiter | None:
        """Stand in line; who has to go for it, perhaps `waiter` itself, or None."""
        gone = None
        if self.waiting >= self._waiting_max:
            gone = self._last_of_the_longest(waiter)
            if gone is waiter:
                return gone
            self.leave(gone)
        self._classes[waiter.batch].join(waiter)
        return gone

    def call(self) -> Waiter | None:
        """Take the next out of the line and give it its turns; None while nobody can be served."""
        if not self.free:
            return None  # who is next is decided when a turn is free, and no sooner
        if self._chosen is None and self.waiting:
            self._chosen = self._choose()
        chosen = self._chosen
        if chosen is None or chosen.turns > self.free:
            return None
        self._chosen = None
        self._classes[chosen.batch].serve(chosen)
        self._passed = 0 if chosen.batch else self._passed + 1
        self.free -= chosen.turns
        return chosen

    def leave(self, waiter: Waiter) -> None:
        """Go away without having been served."""
        if self._chosen is waiter:
            self._chosen = None
        self._classes[waiter.batch].leave(waiter)

    def done(self, waiter: Waiter) -> None:
        """Give the turns back."""
        self.free += waiter.turns

    def _choose(self) -> Waiter:
        interactive, batch = self._classes
        if not batch.size:
            self._passed = 0
        if batch.size and (not interactive.size or self._passed >= BATCH_EVERY - 1):
            return batch.head()
        return interactive.head()

    def _last_of_the_longest(self, comer: Waiter) -> Waiter:
        """Who came last of the tenant with most waiting for its weight; the comer counts too."""
        numbers: dict[str, int] = {comer.tenant: SCALE // comer.weight}
        last: dict[str, Waiter] = {}
        for each in self._classes:  # what is batch goes first
            for name, tenant in each.tenants.items():
                if tenant.waiting:
                    last[name] = tenant.waiting[-1]
                    much = len(tenant.waiting) * SCALE // last[name].weight
                    numbers[name] = numbers.get(name, 0) + much
        longest = max(numbers, key=lambda name: numbers[name])
        return comer if numbers[comer.tenant] == numbers[longest] else last[longest]
