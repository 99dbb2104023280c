"""Two engines behind one gateway: conversations stay, load is shared, and records say where."""

import asyncio
from collections import Counter
from pathlib import Path

from tests.gateway.site import Site, site
from tests.simulated.engine import Engine, Exchange, completion, engine


async def two(ours: Site, *engines: Engine) -> None:
    """Let the gateway know of both, and no longer of the one that a site begins with."""
    ours.endpoint("127.0.0.1:9", quarantine="not-attested")
    for i, it in enumerate(engines):
        ours.endpoint(it.address, id=f"e{i}")
    await ours.seen()


def said(*texts: str) -> list[dict[str, str]]:
    """A conversation: user and assistant in turn."""
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]


async def test_a_conversation_stays_at_the_engine_that_had_its_beginning(tmp_path: Path) -> None:
    """Its next turn is read from the cache; and many conversations are spread over both."""
    async with engine() as one, engine() as other, site(tmp_path) as ours:
        await two(ours, one, other)
        for i in range(12):
            turns = [f"question {i}", "answer", "and?", "answer", "and then?"]
            for end in (1, 3, 5):
                await ours.chat(messages=said(*turns[:end]))
        where = Counter(d["endpoint"] for d in ours.kinds("decision"))
        assert sum(where.values()) == 36
        assert set(where) == {"e0", "e1"}
        firsts = [{x.body["messages"][0]["content"] for x in it.asked} for it in (one, other)]
        assert not firsts[0] & firsts[1]
        assert len(firsts[0]) + len(firsts[1]) == 12


async def test_an_engine_that_is_busy_with_a_beginning_shares_it(tmp_path: Path) -> None:
    """One popular beginning must not make everybody wait for one engine."""
    free = asyncio.Event()

    async def held(exchange: Exchange) -> None:
        await free.wait()
        await exchange.answer(completion("Paris."))

    async with engine(held) as one, engine(held) as other, site(tmp_path) as ours:
        await two(ours, one, other)
        running = [asyncio.create_task(ours.chat(messages=said("the same"))) for _ in range(4)]
        await asyncio.gather(one.was_asked(), other.was_asked())
        free.set()
        assert [reply.status for reply in await asyncio.gather(*running)] == [200] * 4
        where = Counter(d["endpoint"] for d in ours.kinds("decision"))
        assert max(where.values()) <= 3
        assert ours.gateway._bench is not None
        assert set(ours.gateway._bench.replicas.outstanding().values()) == {0}
