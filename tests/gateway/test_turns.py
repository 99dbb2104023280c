"""An engine with slots is given no more than it can answer, and the probe always finds one."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from sovereign.engines import ENGINES
from sovereign.engines.contract import SLOTS
from sovereign.gateway.turns import Turns
from sovereign.registry import Endpoint
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
