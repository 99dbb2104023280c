"""Limits and budgets at the gateway: who is refused, in which words, and what is left of it."""

import asyncio
from pathlib import Path
from typing import Any

import openai
import pytest
from mistralai.client import Mistral
from mistralai.client.errors import SDKError
from mistralai.client.utils import BackoffStrategy, RetryConfig

from sovereign.keystore import Key
from sovereign.policy.shapes import Limit
from sovereign.settings import GatewaySettings
from tests.gateway.limited import left, limit, limited, limiter, statuses, summed, usage
from tests.gateway.reachable import reachable
from tests.gateway.site import OPENAI, Site, site, until
from tests.simulated.engine import MODEL, Exchange, chunk, completion, engine, saying

DIALECTS = pytest.mark.parametrize("headers", [{}, OPENAI], ids=["mistral", "openai"])
SPEND = limit("euros", "spend", "0.10", "tenant", every="month")
"""The engine of these tests says 7 and 3 tokens, which is 0.013 euros."""


def windows(reply_headers: dict[str, str]) -> dict[str, str]:
    """The headers about limits."""
    return {n: v for n, v in reply_headers.items() if n.startswith("x-ratelimit-")}


async def test_a_site_without_limits_has_no_limiter_and_says_nothing_about_them(
    tmp_path: Path,
) -> None:
    """Nobody pays for what nobody asked for."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        reply = await ours.chat()
        assert reply.status == 200
        assert windows(reply.headers) == {}
        assert ours.gateway._bench is not None
        assert ours.gateway._bench.limits is None


@DIALECTS
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_every_answer_of_a_limited_key_says_what_is_left(
    tmp_path: Path, headers: dict[str, str], stream: bool
) -> None:
    """Clients slow down by these headers before they are refused."""
    limits = limit("asks", "requests", 60), limit("reads", "tokens", 6000, "tenant")
    async with engine() as it, limited(tmp_path, it.address, *limits) as ours:
        reply = await ours.chat(stream=stream, headers=headers)
        found = windows(reply.headers)
        assert set(found) == {
            f"x-ratelimit-{what}-{of}"
            for what in ("limit", "remaining", "reset")
            for of in ("requests", "tokens")
        }
        assert found["x-ratelimit-limit-requests"] == "60"
        assert found["x-ratelimit-remaining-requests"] == "59"
        assert found["x-ratelimit-reset-requests"] == "1s"
        assert found["x-ratelimit-limit-tokens"] == "6000"
        assert 5900 < int(found["x-ratelimit-remaining-tokens"]) < 6000
        unknown = await ours.chat(model="nobody-serves-this", headers=headers)
        assert unknown.status == 404
        assert windows(unknown.headers)["x-ratelimit-remaining-requests"] == "58"


@DIALECTS
async def test_one_request_too_many_is_told_which_limit_and_when_to_come_back(
    tmp_path: Path, headers: dict[str, str]
) -> None:
    """429 with `Retry-After` is what every client knows; the limit's id leads to who set it."""
    ask = limit("two-a-minute", "requests", 2)
    async with engine() as it, limited(tmp_path, it.address, ask) as ours:
        replies = [await ours.chat(headers=headers) for _ in range(3)]
        assert statuses(replies) == [200, 200, 429]
        refused = replies[-1]
        assert refused.error["code"] == "rate-limited"
        assert (
            "the limit two-a-minute allows 2 requests a minute to this key; come back in 30 s"
            in refused.error["message"]
        )
        assert refused.headers["retry-after"] == "30"
        assert windows(refused.headers)["x-ratelimit-remaining-requests"] == "0"
        assert len(it.asked) == 2
        assert len(ours.kinds("decision")) == 2, "it decided nothing"
        assert (await summed(ours))["rate-limited"] == 1


async def test_another_key_is_not_refused_for_it(tmp_path: Path) -> None:
    """Limits are there so that one does not make another suffer."""
    one = limit("one", "requests", 1)
    async with engine() as it, limited(tmp_path, it.address, one) as ours:
        other = ours.key(tenant="other")
        await ours.seen()
        assert statuses([await ours.chat(), await ours.chat()]) == [200, 429]
        assert (await ours.chat(secret=other)).status == 200


async def test_a_budget_that_is_used_up_is_a_decision_and_says_until_when(tmp_path: Path) -> None:
    """402, which no client retries by itself; the record says which rule, the sums how often."""
    async with engine() as it, limited(tmp_path, it.address, SPEND) as ours:
        replies = [await ours.chat(max_tokens=3) for _ in range(12)]
        served = [reply for reply in replies if reply.status == 200]
        refused = [reply for reply in replies if reply.status != 200]
        assert 4 <= len(served) <= 7, "a prompt is guessed at by its bytes"
        assert {reply.status for reply in refused} == {402}
        first, *others = refused
        assert first.error["code"] == "budget-exhausted"
        assert first.error["rule"] == "euros"
        assert "0.10 EUR a month to this tenant" in first.error["message"]
        assert "-01T00:00:00Z" in first.error["message"]
        assert 0 < int(first.headers["retry-after"]) <= 31 * 86_400
        refusals = [r for r in ours.kinds("decision") if r["verdict"] == "refuse"]
        assert [r["rule"] for r in refusals] == ["euros"] * len(refusals)
        assert 1 <= len(refusals) <= 2, "one a minute, and the minute may have ended"
        assert first.headers["x-sovereign-record"] == first.error["record"]
        if len(refusals) == 1:
            assert all(first.error["record"] in each.error["message"] for each in others)
        assert (await summed(ours))["budget-exhausted"] == len(refused) - len(refusals)


async def test_a_call_that_is_refused_later_gives_back_what_it_had_taken(tmp_path: Path) -> None:
    """A reservation that is forgotten would end the service slowly."""
    limits = SPEND, limit("seats", "concurrent", 1), limit("day", "requests", 9, every="day")
    async with engine() as it, limited(tmp_path, it.address, *limits) as ours:
        bound = ours.key(models=("mistral-7b-instruct-v0.3",))
        await ours.seen()
        for _ in range(3):
            assert (await ours.chat(secret=bound)).status == 403
        assert left(await usage(ours, bound)) == {"euros": "0.10", "seats": 1, "day": 9}


async def test_a_failed_engine_costs_nothing_and_one_that_was_hung_up_on_costs_its_prompt(
    tmp_path: Path,
) -> None:
    """Nobody pays for our faults; nobody reads for nothing by hanging up before the end."""
    tokens = limit("tokens", "tokens", 100_000, every="day")
    async with engine(saying({}, 500)) as it, limited(tmp_path, it.address, tokens) as ours:
        assert (await ours.chat()).status == 502
        assert left(await usage(ours)) == {"tokens": 100_000}
        gone = asyncio.Event()

        async def endless(exchange: Exchange) -> None:
            await exchange.head(kind="text/event-stream")
            for _ in range(50):
                await exchange.event(chunk("a"))
            gone.set()
            await exchange.hung_up()

        it.script = endless
        await ours.chat(stream=True, gone=gone)
        much = 100_000 - left(await usage(ours))["tokens"]
        assert much >= 20, "the guess of its prompt, and the chunks that went out"


async def test_calls_at_a_time_are_bounded_and_a_seat_is_free_again_after_a_hang_up(
    tmp_path: Path,
) -> None:
    """A client that opens a hundred connections gets as many answers at a time as it may."""
    free, gone = asyncio.Event(), asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await free.wait()
        await exchange.answer(completion("Paris."))

    seats = limit("seats", "concurrent", 2)
    async with engine(script) as it, limited(tmp_path, it.address, seats) as ours:
        first = asyncio.create_task(ours.chat(gone=gone))
        second = asyncio.create_task(ours.chat())
        await it.was_asked(2)
        refused = await ours.chat()
        assert (refused.status, refused.error["code"]) == (429, "rate-limited")
        assert "the limit seats allows 2 calls at a time to this key" in refused.error["message"]
        assert refused.headers["retry-after"] == "1"
        gone.set()
        await first
        third = asyncio.create_task(ours.chat())
        await it.was_asked(3)
        free.set()
        assert statuses([await second, await third]) == [200, 200]
        assert left(await usage(ours)) == {"seats": 2}


async def test_the_engines_count_is_charged_and_not_the_guess(tmp_path: Path) -> None:
    """Bytes are not tokens; what is on the bill is what the engine read and wrote."""
    tokens = limit("tokens", "tokens", 1000, every="day")
    async with engine() as it, limited(tmp_path, it.address, tokens) as ours:
        await ours.chat(messages=[{"role": "user", "content": "word " * 200}])
        told = await usage(ours)
        assert left(told) == {"tokens": 990}
        assert told["used"]["month"]["eur"] == "0.013"


async def test_an_alias_is_counted_as_the_model_it_means(tmp_path: Path) -> None:
    """A second name must not be a second allowance."""
    one = limit("one", "requests", 1, models=(MODEL,))
    async with engine() as it, limited(tmp_path, it.address, one) as ours:
        assert (await ours.chat()).status == 200
        known = limiter(ours)
        alias = next(iter(known._names.known), "")
        assert known.plan(ours_key(ours), alias, known.clock()).caller.model != alias
        assert known.plan(ours_key(ours), "x" * 500, known.clock()).caller.model == ""
        assert (await ours.chat()).status == 429


def ours_key(ours: Site) -> Key:
    """The key that the site made for itself."""
    keys = ours.gateway.view.known.keys
    return next(iter(keys.values()))


# --- stopping, crashing, starting again ----------------------------------------------------


TODAY = limit("day", "requests", 100, every="day"), SPEND


async def used_after(root: Path, address: str, secret: str, *limits: Limit) -> Any:
    async with limited(root, address, *limits) as ours:
        return (await usage(ours, secret))["used"]["month"]["models"]


@pytest.mark.parametrize("crashed", ["cleanly", "without-a-note", "with-an-old-note"])
async def test_what_was_used_is_known_after_a_restart_however_the_gateway_ended(
    tmp_path: Path, crashed: str
) -> None:
    """A budget that a crash resets is spent twice; one that counts twice shuts a tenant out."""
    async with engine() as it:
        async with limited(tmp_path, it.address, *TODAY) as ours:
            secret, note = ours.secret, ours.home.run / "used.json"
            for _ in range(3):
                await ours.chat(max_tokens=1)
            await limiter(ours).history.write(limiter(ours).clock())
            old = note.read_bytes()
            await ours.chat(max_tokens=1)
        if crashed == "without-a-note":
            note.unlink()
        elif crashed == "with-an-old-note":
            note.write_bytes(old)
        used = await used_after(tmp_path, it.address, secret, *TODAY)
        assert used == [
            {"model": MODEL, "requests": 4, "tokens_in": 28, "tokens_out": 12, "eur": "0.052"}
        ]
        async with limited(tmp_path, it.address, *TODAY) as ours:
            assert left(await usage(ours, secret)) == {"day": 96, "euros": "0.048"}
        assert await used_after(tmp_path, it.address, secret, *TODAY) == used


async def test_a_call_that_ran_while_the_note_was_written_is_counted_once_and_not_forgotten(
    tmp_path: Path,
) -> None:
    """It was decided before the note and ended after it."""
    free = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        if len(it.asked) == 1:
            await free.wait()
        await exchange.answer(completion("Paris."))

    async with engine(script) as it:
        async with limited(tmp_path, it.address, *TODAY) as ours:
            secret, known = ours.secret, limiter(ours)
            slow = asyncio.create_task(ours.chat())
            await it.was_asked(1)
            await ours.chat()
            await known.history.write(known.clock())
            old = (ours.home.run / "used.json").read_bytes()
            free.set()
            await slow
        (ours.home.run / "used.json").write_bytes(old)
        (used,) = await used_after(tmp_path, it.address, secret, *TODAY)
        assert used["requests"] == 2


@pytest.mark.parametrize("spoilt", [b"", b"{", b'{"origin":"x"}', b"[]"])
async def test_a_note_that_is_torn_costs_time_and_nothing_else(
    tmp_path: Path, spoilt: bytes
) -> None:
    """The log is the one home of what was used."""
    async with engine() as it:
        async with limited(tmp_path, it.address, *TODAY) as ours:
            secret = ours.secret
            await ours.chat()
        (ours.home.run / "used.json").write_bytes(spoilt)
        (used,) = await used_after(tmp_path, it.address, secret, *TODAY)
        assert used["requests"] == 1


# --- the line in front of an engine --------------------------------------------------------


async def test_a_flood_of_one_tenant_leaves_another_its_turn_and_its_place_in_the_line(
    tmp_path: Path,
) -> None:
    """The line holds six; the flood fills it, and is sent away for whoever comes after."""
    free = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await free.wait()
        await exchange.answer(completion("Paris."))

    async with engine(script) as it, site(tmp_path, it.address, queue_max=6) as ours:
        other = ours.key(tenant="other")
        await ours.seen()
        flood = [asyncio.create_task(ours.chat()) for _ in range(12)]
        await it.was_asked(2)
        await until(lambda: sum(task.done() for task in flood) == 4)
        calm = [asyncio.create_task(ours.chat(secret=other)) for _ in range(2)]
        await until(lambda: sum(task.done() for task in flood) == 6)
        free.set()
        assert statuses([await task for task in calm]) == [200, 200]
        found = sorted([(await task).status for task in flood])
        assert found == [200] * 6 + [429] * 6
        away = next(task.result() for task in flood if task.result().status == 429)
        assert away.error["code"] == "too-many-requests"
        assert int(away.headers["retry-after"]) >= 1
        order = [each["outcome"] for each in ours.kinds("completion")]
        assert order.count("too-many-requests") == 6, "they were decided, so they are recorded"


async def test_calls_of_another_tenant_are_served_between_those_of_a_flood(
    tmp_path: Path,
) -> None:
    """Forty wait before three; by turns, none of the three waits for more than a few of them."""
    free = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await free.wait()
        await exchange.answer(completion("Paris."))

    def said(words: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": words}]

    async with engine(script) as it, site(tmp_path, it.address) as ours:
        other = ours.key(tenant="other")
        await ours.seen()
        flood = [asyncio.create_task(ours.chat(messages=said("flood"))) for _ in range(42)]
        await it.was_asked(2)
        bench = ours.gateway._bench
        assert bench is not None
        (door,) = bench.turns._doors.values()
        await until(lambda: door.line.waiting == 40)
        calm = [
            asyncio.create_task(ours.chat(messages=said("calm"), secret=other)) for _ in range(3)
        ]
        await until(lambda: door.line.waiting == 43)
        free.set()
        assert set(statuses(await asyncio.gather(*flood, *calm))) == {200}
        order = [exchange.body["messages"][-1]["content"] for exchange in it.asked]
        served = [place for place, words in enumerate(order) if words == "calm"]
        assert served[-1] <= 2 + 2 * 3, "by turns with the flood, after the two that ran"
        assert door.line.free == door.line.turns


# --- what official clients make of it ------------------------------------------------------


async def test_openais_client_comes_back_when_it_is_told_and_never_for_a_budget(
    tmp_path: Path,
) -> None:
    """Switched on as it comes: two retries for 429, after the seconds we say; none for 402."""
    rate = limit("rate", "requests", 60, burst=1)
    budget = limit("budget", "tokens", 1, every="month", tenants=("poor",))
    async with (
        engine() as it,
        limited(tmp_path, it.address, rate, budget) as ours,
        reachable(ours) as url,
    ):
        poor = ours.key(tenant="poor")
        await ours.seen()
        words: Any = [{"role": "user", "content": "x"}]
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=ours.secret) as client:
            for _ in range(2):
                await client.chat.completions.create(model=MODEL, messages=words)
        assert len(it.asked) == 2
        assert (await summed(ours))["rate-limited"] >= 1
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=poor) as client:
            with pytest.raises(openai.APIStatusError) as raised:
                await client.chat.completions.create(model=MODEL, messages=words)
        assert (raised.value.status_code, raised.value.code) == (402, "budget-exhausted")
        refusals = [each for each in ours.kinds("decision") if each["verdict"] == "refuse"]
        assert len(refusals) == 1
        assert "budget-exhausted" not in await summed(ours), "it was asked once"


async def test_mistrals_client_comes_back_when_it_is_told_and_never_for_a_budget(
    tmp_path: Path,
) -> None:
    """Its retries are switched on by whoever wants them."""
    rate = limit("rate", "requests", 60, burst=1)
    budget = limit("budget", "tokens", 1, every="month", tenants=("poor",))
    retries = RetryConfig("backoff", BackoffStrategy(500, 2000, 1.5, 20_000), True)
    async with (
        engine() as it,
        limited(tmp_path, it.address, rate, budget) as ours,
        reachable(ours) as url,
    ):
        poor = ours.key(tenant="poor")
        await ours.seen()
        words: Any = [{"role": "user", "content": "x"}]
        for secret in (ours.secret, poor):
            async with Mistral(api_key=secret, server_url=url, retry_config=retries) as client:
                if secret == ours.secret:
                    for _ in range(2):
                        await client.chat.complete_async(model=MODEL, messages=words)
                    continue
                with pytest.raises(SDKError) as raised:
                    await client.chat.complete_async(model=MODEL, messages=words)
                assert raised.value.status_code == 402
        assert len(it.asked) == 2
        refusals = [each for each in ours.kinds("decision") if each["verdict"] == "refuse"]
        assert len(refusals) == 1
        assert "budget-exhausted" not in await summed(ours), "it was asked once"


async def test_a_wait_for_a_turn_ends(tmp_path: Path) -> None:
    """Whoever cannot be served in time is told, and can go elsewhere."""

    async def script(exchange: Exchange) -> None:
        await exchange.hung_up(30)

    async with engine(script) as it, site(tmp_path, it.address, queue_wait_max_s=1) as ours:
        gone = asyncio.Event()
        held = [asyncio.create_task(ours.chat(gone=gone)) for _ in range(2)]
        await it.was_asked(2)
        reply = await ours.chat()
        assert (reply.status, reply.error["code"]) == (429, "too-many-requests")
        gone.set()
        await asyncio.gather(*held)


def test_the_line_is_shorter_than_all_calls_there_may_be() -> None:
    """Else a flood that waits would keep everybody else from being heard at all."""
    bounds = GatewaySettings()
    assert bounds.queue_max < bounds.concurrency_max
