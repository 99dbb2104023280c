"""One call for each code with which a limit refuses, for the tests of every refusal."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from sovereign.gateway.limiting.history import History
from sovereign.gateway.limiting.limit import Limiter, moment
from sovereign.gateway.limiting.shared import Sharing
from sovereign.policy.shapes import Limit, LimitsFile
from tests.gateway.limited import PRICE, limit
from tests.gateway.site import Reply, Site
from tests.simulated.engine import Engine

Case = Callable[[Site, Engine, dict[str, str]], Awaitable[Reply]]
NOWHERE = "postgresql://sovereign@127.0.0.1:9/postgres"
BUDGET = "budget"


def limiting(ours: Site, *limits: Limit, sharing: Sharing | None = None) -> Limiter:
    """Have a gateway that runs keep these limits from now on."""
    bench, it = ours.gateway._bench, ours.gateway
    assert bench is not None
    policy = replace(it.policy, limits=LimitsFile(1, limits, (PRICE,)))
    history = History(ours.home, moment())
    made = Limiter(policy, it.names, it._recording, history, sharing)
    it._bench = replace(bench, limits=made)
    return made


async def one_request_too_many(ours: Site, it: Engine, headers: dict[str, str]) -> Reply:
    known = limiting(ours, limit("one", "requests", 1))
    (key,) = ours.gateway.view.known.keys.values()
    now = known.clock()
    plan = known.plan(key, "", now)
    known.ledger.take(plan, now, known.ledger.expected(plan.caller, now, 1, 0))
    return await ours.chat(headers=headers)


async def no_budget(ours: Site, it: Engine, headers: dict[str, str]) -> Reply:
    limiting(ours, limit(BUDGET, "tokens", 1, every="day"))
    return await ours.chat(headers=headers)


async def no_shared_state(ours: Site, it: Engine, headers: dict[str, str]) -> Reply:
    strict = limit("strict", "requests", 9, when_unreachable="refuse")
    limiting(ours, strict, sharing=Sharing(NOWHERE, "gw"))
    return await ours.chat(headers=headers)


LIMITING: dict[str, Case] = {
    "rate-limited": one_request_too_many,
    "budget-exhausted": no_budget,
    "limits-unreachable": no_shared_state,
}
