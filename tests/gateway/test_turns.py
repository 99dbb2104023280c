"""An engine with slots is given no more than it can answer, and the probe always finds one."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from sovereign.engines import ENGINES
from sovereign.engines.contract import SLOTS
from sovereign.gateway.limiting.turns import Turns
from sovereign.gateway.refusal import Denied
from sovereign.keystore import Key
from sovereign.policy.shapes import Share
from sovereign.registry import Endpoint, utcnow
from tests.gateway.site import site
from tests.simulated.engine import Exchange, completion, engine


def endpoint(name: str) -> Endpoint:
    return Endpoint(name, name, "127.0.0.1:1", ("m",), "this-host")


async def hold(turns: Turns, held: list[str], name: str, wanted: int, free: asyncio.Event) -> None:
    async with turns.take(endpoint("llamacpp"), wanted):
        held.append(name)
        await free.wait()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_as_many_as_there_are_slots_go_through_and_the_next_waits() -> None:
    """One too many would wait inside the engine, before the probe that keeps it in use."""
    turns, held, free = Turns(), [], asyncio.Event()
    tasks = [asyncio.create_task(hold(turns, held, str(i), 1, free)) for i in range(SLOTS + 2)]
    await settle()
    assert held == [str(i) for i in range(SLOTS)]
    free.set()
    await asyncio.gather(*tasks)
    assert held == [str(i) for i in range(SLOTS + 2)], "in the order in which they came"


async def test_two_calls_that_want_every_turn_do_not_wait_for_each_other() -> None:
    """Each holding half of what both need would end the service without an error."""
    turns, held, free = Turns(), [], asyncio.Event()
    free.set()
    tasks = [asyncio.create_task(hold(turns, held, str(i), 16, free)) for i in range(4)]
    async with asyncio.timeout(5):
        await asyncio.gather(*tasks)
    assert len(held) == 4


async def test_a_client_that_leaves_the_line_takes_no_turn_with_it() -> None:
    """A leak of one turn a hang-up would end the service slowly."""
    turns, held, free = Turns(), [], asyncio.Event()
    first = asyncio.create_task(hold(turns, held, "first", SLOTS, free))
    await settle()
    for _ in range(3):
        gone = asyncio.create_task(hold(turns, held, "gone", SLOTS, free))
        await settle()
        gone.cancel()
        with suppress(asyncio.CancelledError):
            await gone
    free.set()
    await first
    async with asyncio.timeout(5), turns.take(endpoint("llamacpp"), SLOTS):
        assert held == ["first"]


async def test_an_engine_that_batches_is_never_waited_for() -> None:
    """vLLM answers better the more it is given."""
    turns, free = Turns(), []
    async with asyncio.timeout(5):
        for _ in range(64):
            context = turns.take(endpoint("vllm"), 4)
            await context.__aenter__()
            free.append(context)
    for context in free:
        await context.__aexit__(None, None, None)


async def test_an_engine_that_batches_is_waited_for_where_the_site_says_so() -> None:
    """A bound keeps a flood in our line, where tenants take turns, and out of the engine's."""
    turns, held, free = Turns(batching_max=3), [], asyncio.Event()

    async def hold_one(name: str) -> None:
        async with turns.take(endpoint("vllm"), 1):
            held.append(name)
            await free.wait()

    tasks = [asyncio.create_task(hold_one(str(i))) for i in range(5)]
    await settle()
    assert held == ["0", "1", "2"]
    free.set()
    await asyncio.gather(*tasks)


async def test_tenants_take_turns_by_their_shares_and_a_batch_key_waits() -> None:
    """What the policy says of a tenant, and a key of itself, decides who is next."""
    turns = Turns([Share("big", 2)], batching_max=1)
    order: list[str] = []

    async def call(tenant: str, priority: str = "interactive") -> None:
        key = Key("k", tenant, "p", "contract", "personal", "none", utcnow(), priority=priority)
        async with turns.take(endpoint("vllm"), 1, key):
            order.append(f"{tenant} {priority}"[:5].strip())
            await asyncio.sleep(0)

    async with turns.take(endpoint("vllm"), 1):
        waiting = [asyncio.create_task(call("night", "batch"))]
        waiting += [asyncio.create_task(call(name)) for name in ["big"] * 4 + ["one"] * 2]
        await settle()
    async with asyncio.timeout(5):
        await asyncio.gather(*waiting)
    assert order[-1] == "night"
    assert sorted(order[:3]) == ["big i", "big i", "one i"]


async def test_a_call_that_is_sent_away_or_waits_too_long_leaves_nothing_behind() -> None:
    """Its place and its turn are somebody else's at once."""
    turns, held, free = Turns(waiting_max=1, wait_max_s=0.05), [], asyncio.Event()
    first = asyncio.create_task(hold(turns, held, "first", SLOTS, free))
    await settle()
    second = asyncio.create_task(hold(turns, held, "second", 1, free))
    await settle()
    with pytest.raises(Denied) as full:
        await hold(turns, held, "third", 1, free)
    with pytest.raises(Denied) as late:
        await second
    for raised in (full.value, late.value):
        assert raised.code == "too-many-requests"
        assert raised.retry_after_s is not None
        assert raised.retry_after_s >= 1
    free.set()
    await first
    async with asyncio.timeout(5), turns.take(endpoint("llamacpp"), SLOTS):
        assert held == ["first"]


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_every_engine_says_how_many_it_answers_at_a_time(name: str) -> None:
    """An engine that said nothing would be given everything."""
    assert ENGINES[name].turns == {"llamacpp": SLOTS, "ollama": SLOTS, "vllm": None}[name]


async def test_the_engine_is_asked_only_when_it_is_a_calls_turn(tmp_path: Path) -> None:
    """The line stands in the gateway, where a client that hangs up is noticed."""
    free = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await free.wait()
        await exchange.answer(completion("Paris."))

    async with engine(script) as it, site(tmp_path, it.address) as ours:
        calls = [asyncio.create_task(ours.chat()) for _ in range(SLOTS + 1)]
        await it.was_asked(SLOTS)
        await asyncio.sleep(0.2)
        assert len(it.asked) == SLOTS
        free.set()
        assert [reply.status for reply in await asyncio.gather(*calls)] == [200] * (SLOTS + 1)
