"""Keep count of what runs at which endpoint, and give each call its seat at one of them.

The state behind `balance.py`: one `Replica` for each endpoint of the registry, and the judgements
of `choose.py` for as long as they cannot change, so that a site with many replicas does not judge
all of them for every call. It lives in the event loop and is never waited for.

  * A seat is taken in the same step in which the endpoint is chosen: of two calls that come
    together, the second one sees the first.
  * Every seat is left once, however its call ends.
"""

import time
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Any

from sovereign.gateway.choose import Choice, Group, Narrow, choose, judge
from sovereign.gateway.replicas import affinity, balance
from sovereign.gateway.replicas.balance import Bounds, Replica
from sovereign.keystore import Key
from sovereign.policy import Policy
from sovereign.registry import Endpoint
from sovereign.settings import BalanceSettings

FAILURES = frozenset(("engine-unhealthy", "engine-timed-out"))
"""Endings that speak against the engine: it was not there, or fell silent. What else goes wrong
may be the request's doing, and one caller must not talk an engine out of everybody's use."""
REFUSED = "engine-refused"
"""An ending by which the engine shows that it is there."""
Clock = Callable[[], float]


class Replicas:
    """Every endpoint this gateway has calls at, or could have."""

    def __init__(
        self, policy: Policy, settings: BalanceSettings, clock: Clock = time.monotonic
    ) -> None:
        self.policy = policy
        self.bounds = Bounds(
            load=settings.load_percent / 100,
            slow_start_s=settings.slow_start_s,
            eject_after=settings.eject_after,
            eject_s=settings.eject_s,
            eject_max_s=settings.eject_max_s,
        )
        self.retries_max = settings.retries_max
        self.clock = clock
        self._endpoints: tuple[Endpoint, ...] = ()
        self._replicas: dict[str, Replica] = {}
        self._groups: dict[tuple[str, str], Group] = {}
        self._looked = False

    def seat(self, tried: tuple[str, ...] = (), after: int | None = None) -> "Seat":
        """A seat for a call, nowhere yet; `tried` and `after` if it had one before, in vain."""
        return Seat(self, tried, after)

    def of(self, choice: Choice) -> Replica | None:
        """What is known of the endpoint chosen; None for a refusal."""
        if choice.code or choice.endpoint is None:
            return None
        return self._replicas.get(choice.endpoint.id)

    def outstanding(self) -> dict[str, int]:
        """Calls that run or wait, by endpoint; for whoever watches from outside."""
        return {name: replica.outstanding for name, replica in self._replicas.items()}

    def resting(self) -> tuple[str, ...]:
        """Ids of endpoints that are not asked just now because they failed."""
        now = self.clock()
        return tuple(name for name, r in self._replicas.items() if not r.is_open(now))

    def judged(
        self, policy: Policy, data: str, model: str, endpoints: tuple[Endpoint, ...], now: datetime
    ) -> Group:
        """As `choose.judge` says, or said when nothing that counts was different."""
        if endpoints is not self._endpoints:
            self._look(endpoints)
        group = self._groups.get((data, model))
        if group is None or not group.holds(now):
            group = self._groups[data, model] = judge(policy, data, model, endpoints, now)
        return group

    def pick(
        self, group: Group, secret: bytes, body: dict[str, Any], tried: tuple[str, ...]
    ) -> Choice:
        """The best of those that may answer, but for those tried while there are others."""
        choices = group.choices
        if len(choices) == 1:
            return choices[0]
        if tried:
            choices = tuple(c for c in choices if _id(c) not in tried) or choices
        replicas = [self._replicas[_id(choice)] for choice in choices]
        about = affinity.key(secret, choices[0].model, body)
        return choices[balance.pick(replicas, about, self.clock(), self.bounds)]

    def _look(self, endpoints: tuple[Endpoint, ...]) -> None:
        """Take up what the registry says now; what it says again changes nothing.

        An endpoint that was not there, or not to be used, starts slowly. Not at the gateway's own
        start: then none has been used, and all are equal.
        """
        before, self._endpoints = self._endpoints, endpoints
        if self._looked and endpoints == before:
            return
        self._groups.clear()
        usable = {endpoint.id for endpoint in before if not endpoint.quarantine}
        for endpoint in endpoints:
            replica = self._replicas.get(endpoint.id)
            if replica is None:
                replica = self._replicas[endpoint.id] = Replica(balance.seed(endpoint.id))
            if self._looked and endpoint.id not in usable and not endpoint.quarantine:
                replica.usable_since = self.clock()
        self._looked = True
        named = {endpoint.id for endpoint in endpoints}
        for name in [n for n in self._replicas if n not in named]:
            if not self._replicas[name].outstanding:
                del self._replicas[name]


def _id(choice: Choice) -> str:
    """The endpoint of an allowing choice."""
    return choice.endpoint.id if choice.endpoint is not None else ""


class Seat:
    """One call's place at one endpoint. It has none until `choose`, and none for a refused call.

    As a context it is given back when the block fails, else by whoever ends the call. `tried` are
    the endpoints it was at, this one included; `after` is the decision that sent it to the last.
    """

    __slots__ = ("_group", "_replica", "_replicas", "_tries", "after", "tried")

    def __init__(self, replicas: Replicas, tried: tuple[str, ...], after: int | None) -> None:
        self._replicas = replicas
        self._group: Group | None = None
        self._replica: Replica | None = None
        self._tries = False
        self.tried = tried
        self.after = after

    def __enter__(self) -> "Seat":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.leave("")

    def choose(
        self,
        key: Key,
        name: str,
        endpoints: tuple[Endpoint, ...],
        now: datetime,
        *,
        secret: bytes,
        body: dict[str, Any],
        entitled: Narrow | None = None,
    ) -> Choice:
        """Decide, and take the seat at the endpoint chosen.

        Args:
            secret: the tenant's; it keys the hash of how the conversation begins.
            body: the client's own; only the beginning of the conversation is looked at.
            entitled: as `choose.choose` takes it.
        """
        replicas = self._replicas

        def pick(group: Group) -> Choice:
            self._group = group
            return replicas.pick(group, secret, body, self.tried)

        choice = choose(
            replicas.policy,
            key,
            name,
            endpoints,
            now,
            judged=replicas.judged,
            pick=pick,
            entitled=entitled,
        )
        self._replica = replicas.of(choice)
        if self._replica is not None:
            self._tries = self._replica.came()
            self.tried = (*self.tried, _id(choice))
        return choice

    def another_may(self) -> bool:
        """True when this call may be tried once more: an endpoint that may answer it, as far as
        was known when this one was chosen, is open and was not tried."""
        if self._group is None or len(self.tried) > self._replicas.retries_max:
            return False
        now = self._replicas.clock()
        left = [c for c in self._group.choices if _id(c) not in self.tried]
        found = [self._replicas.of(choice) for choice in left]
        return any(replica is not None and replica.is_open(now) for replica in found)

    def answers(self) -> None:
        """The engine took the request up and answers."""
        if self._replica is not None:
            self._replica.worked(self._replicas.clock())

    def leave(self, outcome: str) -> None:
        """The call has ended with this word of its record; what comes after that is no ending."""
        replica, self._replica = self._replica, None
        if replica is None:
            return
        replica.left(tried=self._tries)
        if outcome in FAILURES:
            replica.failed(self._replicas.clock(), self._replicas.bounds)
        elif outcome == REFUSED:
            replica.worked(self._replicas.clock())
