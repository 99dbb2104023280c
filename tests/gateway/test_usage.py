"""A key is told what it is bound to, what it used and what is left; and nobody else's numbers."""

from datetime import date
from pathlib import Path

from sovereign.policy.shapes import UsagePrice
from tests.gateway.limited import USAGE, left, limit, limited, usage
from tests.gateway.site import EEA, site
from tests.simulated.engine import MODEL, engine

OWN = limit("own", "requests", 10, "key", every="day")
TENANTS = limit("tenants", "tokens", 1000, "tenant", every="month")
SITES = limit("sites", "requests", 1000, "site", every="day")
MODELS = limit("models", "tokens", 100_000, "model")


async def test_a_key_sees_its_binding_its_limits_what_is_left_and_when_it_comes_back(
    tmp_path: Path,
) -> None:
    """A developer need not ask the operator why a call was refused, or will be."""
    price = UsagePrice(MODEL, "0.15", "0.60", date(2026, 11, 1), "price list")
    spend = limit("spend", "spend", "1.00", "key", every="month")
    limits = OWN, TENANTS, spend
    async with engine() as it, limited(tmp_path, it.address, *limits, prices=(price,)) as ours:
        secret = ours.key(models=(MODEL,), tenant="lab", priority="batch")
        await ours.seen()
        for _ in range(2):
            await ours.chat(secret=secret)
        told = await usage(ours, secret)
        assert {name: told["key"][name] for name in ("tenant", "models", "priority")} == {
            "tenant": "lab",
            "models": [MODEL],
            "priority": "batch",
        }
        assert told["policy"] == EEA.digest
        assert left(told) == {"own": 8, "tenants": 980, "spend": "0.999994"}
        for each in told["limits"]:
            assert each["resets_at"].endswith("T00:00:00Z")
            assert each["because"] == "a reason"
        month = told["used"]["month"]
        assert month["models"] == [
            {
                "model": MODEL,
                "requests": 2,
                "tokens_in": 14,
                "tokens_out": 6,
                "eur": "0.000005",
            }
        ]
        assert told["prices"] == [
            {"model": MODEL, "input": "0.15", "output": "0.60", "since": "2026-11-01"}
        ]


async def test_what_others_do_cannot_be_read_out_of_it(tmp_path: Path) -> None:
    """Of a limit that others share only the bound is said: what is left would tell of them."""
    limits = OWN, TENANTS, SITES, MODELS
    async with engine() as it, limited(tmp_path, it.address, *limits) as ours:
        other = ours.key(tenant="other")
        await ours.seen()
        before = await usage(ours)
        for _ in range(3):
            await ours.chat(secret=other)
        after = await usage(ours)
        assert after == before
        assert left(after) == {"own": 10, "tenants": 1000, "sites": None, "models": None}
        reply = await ours.ask("GET", USAGE, {"authorization": f"Bearer {ours.secret}"})
        assert b"other" not in reply.body
        headers = (await ours.chat()).headers
        assert headers["x-ratelimit-limit-requests"] == "10"
        assert headers["x-ratelimit-limit-tokens"] == "1000", "not the model's, which others use"


async def test_a_key_of_the_same_tenant_sees_what_both_have_left_and_only_its_own_use(
    tmp_path: Path,
) -> None:
    """They share one budget, so both must know; who used it is not each other's business."""
    async with engine() as it, limited(tmp_path, it.address, OWN, TENANTS) as ours:
        other = ours.key()
        await ours.seen()
        await ours.chat(secret=other)
        told = await usage(ours)
        assert left(told) == {"own": 10, "tenants": 990}
        assert told["used"]["month"]["models"] == []


async def test_a_site_without_limits_tells_the_binding_alone(tmp_path: Path) -> None:
    """The route is there for every key of every site."""
    async with site(tmp_path) as ours:
        told = await usage(ours)
        assert set(told) == {"object", "key", "policy"}


async def test_whoever_shows_no_key_is_told_nothing(tmp_path: Path) -> None:
    """It is a route like the others."""
    async with site(tmp_path) as ours:
        assert (await ours.ask("GET", USAGE)).status == 401
        assert (await ours.ask("POST", USAGE)).status == 405
