"""A site with limits of its own in its policy, and what its log says was refused."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from sovereign.audit.record import STREAMS
from sovereign.gateway.limiting.limit import Limiter
from sovereign.policy.shapes import Limit, LimitsFile, Share, UsagePrice
from sovereign.settings import GatewaySettings
from tests.gateway.site import EEA, Reply, Site

USAGE = "/v1/sovereign/usage"
PRICE = UsagePrice("any", "1000", "2000", date(2026, 1, 1), "a list")
"""A thousandth of a euro for a token of a prompt, two for one of an answer."""


def limit(name: str, counts: str, at_most: int | str, per: str = "key", **more: Any) -> Limit:
    """A limit of the policy; all but calls at a time are counted every minute unless said."""
    every = None if counts == "concurrent" else "minute"
    said = {"every": every, "when_unreachable": "allow-local", "because": "a reason", **more}
    return Limit(id=name, counts=counts, at_most=at_most, per=per, **said)


@asynccontextmanager
async def limited(
    root: Path,
    address: str,
    *limits: Limit,
    prices: tuple[UsagePrice, ...] = (PRICE,),
    shares: tuple[Share, ...] = (),
    **bounds: Any,
) -> AsyncIterator[Site]:
    """A served site under these limits. Over the same root, it goes on where the last one ended."""
    name = bounds.pop("site", "local")
    it = Site(root, GatewaySettings(**bounds), site=name)
    it.policy = replace(EEA, limits=LimitsFile(1, limits, prices, shares))
    it.endpoint(address)
    try:
        async with it.serving():
            yield it
    finally:
        it.left = {stream: it.records(stream) for stream in STREAMS}
        it.trail.close()  # this empties the journals


def limiter(ours: Site) -> Limiter:
    """The limits of the running gateway."""
    bench = ours.gateway._bench
    assert bench is not None
    assert bench.limits is not None
    return bench.limits


async def usage(ours: Site, secret: str | None = None) -> dict[str, Any]:
    """What the gateway tells a key about itself."""
    asked = {"authorization": f"Bearer {secret or ours.secret}"}
    reply = await ours.ask("GET", USAGE, asked)
    assert reply.status == 200, reply.body
    return reply.json


async def summed(ours: Site) -> dict[str, int]:
    """How many refusals of each code were summed so far."""
    await ours.gateway._flush_sums()
    found: dict[str, int] = {}
    for each in ours.records("security"):
        if each["type"] == "refusals":
            found[each["code"]] = found.get(each["code"], 0) + each["count"]
    return found


def left(told: dict[str, Any]) -> dict[str, Any]:
    """What is left of each limit, by its id."""
    return {each["id"]: each.get("left") for each in told["limits"]}


def statuses(replies: list[Reply]) -> list[int]:
    """The status of each."""
    return [reply.status for reply in replies]
