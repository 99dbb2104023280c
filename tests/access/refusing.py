"""One call for each code with which access rules and a change of the policy refuse."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from sovereign.gateway.entitle import Entitling
from tests.access.rules import with_rules
from tests.gateway.site import Reply, Site
from tests.simulated.engine import Engine

Case = Callable[[Site, Engine, dict[str, str]], Awaitable[Reply]]
RULE = "own-0"


async def forbidden(ours: Site, it: Engine, headers: dict[str, str]) -> Reply:
    policy = with_rules(ours.home.root, 'forbid (principal, action == Action::"chat", resource);')
    bench = ours.gateway._bench
    assert bench is not None
    ours.gateway._bench = replace(bench, policy=policy, entitling=Entitling(policy))
    return await ours.chat(headers=headers)


async def superseded(ours: Site, it: Engine, headers: dict[str, str]) -> Reply:
    ours.gateway.superseding.is_superseded = True
    return await ours.chat(headers=headers)


ACCESS: dict[str, Case] = {"access-refused": forbidden, "policy-superseded": superseded}
