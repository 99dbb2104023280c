"""Engines that die, fall silent or talk nonsense: what the client hears, and what is recorded.

Each case is told by a real server on loopback; several of them are replicas of one another.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import mistralai.client as mistral
import msgspec
import openai
import pytest

from sovereign.gateway.kinds.relay import EVENT_MAX_BYTES
from tests.engines.running import free_port
from tests.gateway.site import OPENAI, Disks, Records, Reply, Site, disks, site
from tests.gateway.test_listener import served
from tests.simulated.disk import Fault
from tests.simulated.engine import (
    MODEL,
    USAGE,
    Engine,
    Exchange,
    Script,
    answering,
    chunk,
    engine,
)

STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
CANARY = "zirkonfalter-7731"
TRIES_MAX = 40


def dead() -> str:
    """An address where nobody listens."""
    return f"127.0.0.1:{free_port()}"


@asynccontextmanager
async def replicas(
    tmp_path: Path, *scripts: Script | None, disk: Disks | None = None
) -> AsyncIterator[tuple[Site, list[Engine | None]]]:
    """A site with one endpoint for each script, `e0`, `e1` …; None is one where nobody listens."""
    async with AsyncExitStack() as stack:
        engines: list[Engine | None] = [
            None if script is None else await stack.enter_async_context(engine(script))
            for script in scripts
        ]
        ours = await stack.enter_async_context(site(tmp_path, disks=disk))
        ours.endpoint("127.0.0.1:9", quarantine="not-attested")  # the one that a site begins with
        for i, it in enumerate(engines):
            ours.endpoint(it.address if it else dead(), id=f"e{i}")
        await ours.seen()
        yield ours, engines


async def until_moved(ours: Site, **more: Any) -> tuple[Reply, Records]:
    """Chat about other things until one had to go to a second endpoint; its reply and records."""
    for i in range(TRIES_MAX):
        before = len(ours.kinds("decision", "completion"))
        words = [{"role": "user", "content": f"conversation {i}"}]
        reply = await ours.chat(messages=words, **more)
        told = ours.kinds("decision", "completion")[before:]
        if len(told) > 2:
            return reply, told
    raise AssertionError("every conversation found its engine at once")


# --- a second try: a second decision, and only when nothing was sent ----------------------------


@STREAMED
async def test_a_call_that_could_not_be_sent_goes_elsewhere_under_a_decision_of_its_own(
    tmp_path: Path, stream: bool
) -> None:
    """The client notices nothing, and the log says where it really ran, and where it did not."""
    async with replicas(tmp_path, None, answering()) as (ours, _):
        reply, told = await until_moved(ours, stream=stream)
        assert reply.status == 200
        assert b"Pa" in reply.body
        first, second, *endings = sorted(told, key=lambda r: (r["type"] != "decision", r["at"]))
        assert (first["endpoint"], first["verdict"]) == ("e0", "allow")
        assert (second["endpoint"], second["verdict"]) == ("e1", "allow")
        assert "after" not in first
        outcomes = {e["decision"]: (e["outcome"], e["status"]) for e in endings}
        assert outcomes[second["after"]] == ("not-sent", 503)
        mine = int(reply.headers["x-sovereign-record"].rpartition("#")[2])
        assert outcomes.pop(mine) == ("answered", 200)
        assert set(outcomes) == {second["after"]}


async def test_never_to_a_place_that_is_not_allowed(tmp_path: Path) -> None:
    """An engine that is up is no reason to ask it."""
    async with engine() as it, site(tmp_path, dead()) as ours:
        ours.endpoint(it.address, id="abroad", place="aws:eu-central-1")
        ours.endpoint(it.address, id="shut", quarantine="telemetry-on")
        await ours.seen()
        reply = await ours.chat()
        assert (reply.status, reply.error["code"]) == (503, "engine-unhealthy")
        assert it.asked == []
        assert len(ours.kinds("decision")) == 1


async def test_the_second_try_is_decided_by_what_is_known_then(tmp_path: Path) -> None:
    """A call can wait in a line for a minute; who was shut in the meantime is shut for it, too."""
    async with replicas(tmp_path, None, answering()) as (ours, found):
        recording, alive = ours.gateway._recording, found[1]
        decision = recording.decision
        assert alive is not None

        async def shutting(*given: Any, **more: Any) -> Any:
            recorded = await decision(*given, **more)
            ours.endpoint(alive.address, id="e1", quarantine="telemetry-on")
            await ours.seen()
            return recorded

        for i in range(TRIES_MAX):
            ours.endpoint(alive.address, id="e1")
            await ours.seen()
            asked_before = len(alive.asked)
            recording.decision = shutting  # type: ignore[method-assign]
            reply = await ours.chat(messages=[{"role": "user", "content": f"conversation {i}"}])
            recording.decision = decision  # type: ignore[method-assign]
            if reply.status != 200:
                break
        assert (reply.status, reply.error["code"]) == (503, "engine-unhealthy")
        assert len(alive.asked) == asked_before


async def test_when_all_are_dead_each_is_tried_once_and_the_client_is_told_to_come_back(
    tmp_path: Path,
) -> None:
    """The number of tries has a bound, and every decision an ending."""
    async with replicas(tmp_path, None, None, None, None) as (ours, _):
        reply = await ours.chat()
        assert (reply.status, reply.error["code"]) == (503, "engine-unhealthy")
        assert reply.headers["retry-after"] == "5"
        decided, ended = ours.kinds("decision"), ours.kinds("completion")
        assert len({d["endpoint"] for d in decided}) == len(decided) == 3  # retries_max is 2
        assert sorted(e["outcome"] for e in ended) == ["engine-unhealthy", "not-sent", "not-sent"]
        last = int(reply.error["record"].rpartition("#")[2])
        assert next(e for e in ended if e["decision"] == last)["outcome"] == "engine-unhealthy"


async def gone_with_the_request(exchange: Exchange) -> None:
    exchange.cut()


@STREAMED
async def test_a_call_that_was_sent_is_not_sent_twice(tmp_path: Path, stream: bool) -> None:
    """The engine may have begun: a second one would generate, and read, the same once more."""
    async with replicas(tmp_path, gone_with_the_request, gone_with_the_request) as (ours, found):
        reply = await ours.chat(stream=stream)
        assert (reply.status, reply.error["code"]) == (503, "engine-unhealthy")
        assert sum(len(it.asked) for it in found if it is not None) == 1
        assert [e["outcome"] for e in ours.kinds("completion")] == ["engine-unhealthy"]


async def test_a_second_try_that_cannot_be_recorded_is_not_made(tmp_path: Path) -> None:
    """No record, no call: also the second time."""
    broken = disks()
    async with replicas(tmp_path, None, answering(), disk=broken) as (ours, found):
        recording = ours.gateway._recording
        decision, calls = recording.decision, [0]

        async def failing(*given: Any, **more: Any) -> Any:
            if more.get("after") is not None:
                broken["event"].fail(Fault(0, 5, None, "append"))
                calls[0] += 1
            return await decision(*given, **more)

        recording.decision = failing  # type: ignore[method-assign]
        asked_before = 0
        for i in range(TRIES_MAX):
            alive = found[1]
            assert alive is not None
            asked_before = len(alive.asked)
            reply = await ours.chat(messages=[{"role": "user", "content": f"conversation {i}"}])
            if calls[0]:
                break
        assert (reply.status, reply.error["code"]) == (503, "log-unwritable")
        assert alive is not None
        assert len(alive.asked) == asked_before


async def test_a_client_that_leaves_between_two_decisions_leaves_none_without_an_ending(
    tmp_path: Path,
) -> None:
    """A decision without an ending is what a crash looks like."""
    async with replicas(tmp_path, None, answering()) as (ours, _):
        gone, moved, write = [asyncio.Event()], [False], ours.trail.arecord

        async def slowly(kind: str, **fields: Any) -> Any:
            if "after" in fields:
                moved[0] = True
                gone[0].set()
                await asyncio.sleep(0.1)
            return await write(kind, **fields)

        ours.trail.arecord = slowly  # type: ignore[method-assign]
        for i in range(TRIES_MAX):
            words = [{"role": "user", "content": f"conversation {i}"}]
            gone[0] = asyncio.Event()
            reply = await ours.chat(messages=words, gone=gone[0])
            if moved[0]:
                break
        assert reply.status == 0
        decided = ours.kinds("decision")
        ended = ours.kinds("completion")
        assert len(ended) == len(decided)
        assert [e["outcome"] for e in ended][-2:] in (
            ["not-sent", "client-gone"],
            ["client-gone", "not-sent"],
        )
        assert set(ours.gateway._bench.replicas.outstanding().values()) == {0}  # type: ignore[union-attr]


async def test_an_engine_that_just_died_costs_three_calls_a_second_try_and_then_none(
    tmp_path: Path,
) -> None:
    """Passive health through the whole gateway: within its rest nobody is sent there."""
    async with replicas(tmp_path, None, answering()) as (ours, _):
        for i in range(TRIES_MAX):
            reply = await ours.chat(messages=[{"role": "user", "content": f"conversation {i}"}])
            assert reply.status == 200
            if len([e for e in ours.kinds("completion") if e["outcome"] == "not-sent"]) == 3:
                break
        moved = len(ours.kinds("decision"))
        for i in range(5):
            await ours.chat(messages=[{"role": "user", "content": f"later {i}"}])
        assert {d["endpoint"] for d in ours.kinds("decision")[moved:]} == {"e1"}


async def test_each_tenants_salt_goes_with_it_to_every_replica(tmp_path: Path) -> None:
    """One tenant's cached prefixes are its own on all engines, and the engine learns no name."""
    async with engine() as one, engine() as two, site(tmp_path) as ours:
        for i, it in enumerate((one, two)):
            ours.endpoint(it.address, id=f"v{i}", engine="vllm")
        ours.endpoint("127.0.0.1:9", quarantine="not-attested")
        other = ours.key(tenant="globex")
        await ours.seen()
        for i in range(20):
            words = [{"role": "user", "content": f"conversation {i}"}]
            await ours.chat(messages=words)
            await ours.chat(messages=words, secret=other)
        assert one.asked
        assert two.asked
        salts = [{e.body["cache_salt"] for e in it.asked} for it in (one, two)]
        assert salts[0] == salts[1]
        assert len(salts[0]) == 2
        assert not any("acme" in salt or "globex" in salt for salt in salts[0])


# --- garbage: bounded, refused, and nothing of it anywhere ---------------------------------------


def saying(*parts: bytes) -> Script:
    async def script(exchange: Exchange) -> None:
        for part in parts:
            await exchange.say(part)

    return script


def head(*lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "connection: close", "", ""]).encode()


JSON, SSE = "content-type: application/json", "content-type: text/event-stream"
BOMB = zlib.compress(b"0" * 50_000_000, 9, wbits=31)
WELL = [chunk(CANARY), chunk("", "stop")]


def events(*contents: object) -> bytes:
    told = [c if isinstance(c, bytes) else _encoded(c) for c in contents]
    return b"".join(b"data: " + each + b"\n\n" for each in told)


def _encoded(content: object) -> bytes:
    return msgspec.json.encode(content)


FLOOD = b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000
GARBAGE: dict[str, tuple[Script, str]] = {
    "no HTTP": (saying(f"{CANARY}\r\n{CANARY}\r\n\r\n".encode()), "engine-failed"),
    "another protocol": (saying(b"SSH-2.0-" + CANARY.encode() + b"\r\n"), "engine-failed"),
    "nothing": (saying(), "engine-unhealthy"),
    "a page": (saying(head("content-type: text/html"), CANARY.encode()), "engine-failed"),
    "no kind": (saying(head(), CANARY.encode()), "engine-failed"),
    "a redirect": (
        saying(head(f"location: http://{CANARY}/", status="302 Found")),
        "engine-failed",
    ),
    "another protocol from here": (
        saying(head(f"upgrade: {CANARY}", status="101 Switching Protocols"), CANARY.encode()),
        "engine-failed",
    ),
    "no content": (saying(head(status="204 No Content")), "engine-failed"),
    "its own error": (
        saying(head(JSON, status=f"500 {CANARY}"), CANARY.encode()),
        "engine-failed",
    ),
    "a long header": (saying(head(JSON, "x: " + CANARY * 100_000)), "engine-failed"),
    "many headers": (
        saying(head(JSON, *[f"x{i}: {CANARY}" for i in range(20_000)])),
        "engine-failed",
    ),
    "a long status line": (saying(head(status="200 " + CANARY * 100_000)), "engine-failed"),
    "informing without end": (saying(FLOOD, FLOOD), "engine-failed"),
    "a compressed bomb": (saying(head(JSON, "content-encoding: gzip"), BOMB), "engine-failed"),
    "chunks that are none": (
        saying(head(JSON, SSE, "transfer-encoding: chunked"), f"{CANARY}\r\n".encode()),
        "engine-failed",
    ),
    "a chunk that is cut": (
        saying(head(JSON, "transfer-encoding: chunked"), b"ffffff\r\n" + CANARY.encode()),
        "engine-failed",
    ),
    "less than it said": (
        saying(head(JSON, "content-length: 999"), CANARY.encode()),
        "engine-failed",
    ),
    "two lengths": (
        saying(head(JSON, "content-length: 2", "content-length: 3"), b"{}" + CANARY.encode()),
        "engine-failed",
    ),
    "an error that says 200": (
        saying(head(JSON), _encoded({"error": {"message": CANARY}})),
        "engine-failed",
    ),
    "no text": (saying(head(JSON), b'{"choices":[{"x":"' + CANARY.encode() + b'\xff"}]}'), ""),
    "too deep": (saying(head(JSON), b"[" * 100_000), "engine-failed"),
}


@STREAMED
@pytest.mark.parametrize("case", GARBAGE)
async def test_an_engine_that_talks_nonsense_has_failed_and_nothing_of_it_is_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], case: str, stream: bool
) -> None:
    """Whatever is on its port now may have read prompts before: its words go nowhere."""
    script, code = GARBAGE[case]
    async with engine(script) as it, site(tmp_path, it.address) as ours:
        reply = await ours.chat(stream=stream)
        assert reply.error["code"] == (code or "engine-failed")
        assert reply.status in (502, 503)
        (ending,) = ours.kinds("completion")
        assert (ending["outcome"], ending["finish"]) == (code or "engine-failed", "none")
        assert CANARY.encode() not in reply.body
        assert CANARY not in str(reply.headers)
        assert CANARY not in str(ours.records())
    said = capfd.readouterr()
    assert CANARY not in said.out + said.err


BAD_STREAMS = {
    "an end before anything": events(b"[DONE]"),
    "an end before a finish": events(chunk("on "), b"[DONE]"),
    "a finish without an end": events(*WELL),
    "no text": events(chunk("on ")) + b"data: " + _encoded(chunk("QQ")).replace(b"QQ", b"\xff\xfe"),
    "an error behind the text": events(chunk("on "), {"error": CANARY}),
    "an error behind the finish": events(*WELL, {"error": CANARY}),
    "half an event": events(chunk("on ")) + b'data: {"choices":[{"del',
    "binary": events(chunk("on ")) + b"\n\ndata: " + bytes(range(256)) + b"\n\n",
}


@pytest.mark.parametrize("headers", [{}, OPENAI], ids=["mistral", "openai"])
@pytest.mark.parametrize("case", BAD_STREAMS)
async def test_a_stream_that_goes_wrong_ends_with_a_finish_of_error_in_the_clients_dialect(
    tmp_path: Path, case: str, headers: dict[str, str]
) -> None:
    """Whoever only reads chunks sees that it is no whole answer; whoever looks for errors, too."""
    script = saying(head(SSE), BAD_STREAMS[case] + b"\n\n")
    async with engine(script) as it, site(tmp_path, it.address) as ours:
        reply = await ours.chat(stream=True, headers=headers)
        last = record_of(reply)
        assert [c["finish_reason"] for c in last["choices"]] == ["error"]
        assert last["object"] == "chat.completion.chunk"
        assert last["model"] == MODEL
        assert last["error"]["code"] == last["error"]["type"] == "engine-failed"
        assert last["error"]["record"] == reply.headers["x-sovereign-record"] == last["id"]
        assert "[DONE]" not in reply.events
        assert reply.whole
        (ending,) = ours.kinds("completion")
        assert (ending["outcome"], ending["status"]) == ("engine-failed", 502)


def record_of(reply: Reply) -> dict[str, Any]:
    """The last event of a stream."""
    last: dict[str, Any] = msgspec.json.decode(reply.events[-1])
    return last


async def test_every_choice_that_was_asked_for_finishes_with_error(tmp_path: Path) -> None:
    """A client that waits for the second one would wait for ever."""
    script = saying(head(SSE), events(chunk("on ")))
    async with engine(script) as it, site(tmp_path, it.address) as ours:
        last = record_of(await ours.chat(stream=True, n=3))
        assert [(c["index"], c["finish_reason"]) for c in last["choices"]] == [
            (0, "error"),
            (1, "error"),
            (2, "error"),
        ]


async def test_a_completion_that_goes_wrong_ends_in_the_form_of_a_completion(
    tmp_path: Path,
) -> None:
    """OpenAI's older route has texts, not deltas."""
    piece = {"choices": [{"index": 0, "text": "on ", "finish_reason": None}]}
    script = saying(head(SSE), events(piece))
    async with engine(script) as it, site(tmp_path, it.address) as ours:
        body = _encoded({"model": MODEL, "prompt": "go", "stream": True})
        asked = {"authorization": f"Bearer {ours.secret}", **OPENAI}
        last = record_of(await ours.ask("POST", "/v1/completions", asked, [body]))
        assert last["object"] == "text_completion"
        assert last["choices"] == [{"index": 0, "text": "", "finish_reason": "error"}]


async def test_a_line_without_end_is_left_at_the_bound(tmp_path: Path) -> None:
    """Memory is the bound, not the engine's patience."""
    taken = [0]

    async def script(exchange: Exchange) -> None:
        await exchange.say(head(SSE) + b"data: ")
        while not exchange.gone.is_set() and taken[0] < 64 * EVENT_MAX_BYTES:
            await exchange.say(b"x" * 65_536)
            taken[0] += 65_536

    async with engine(script) as it, site(tmp_path, it.address) as ours:
        last = record_of(await ours.chat(stream=True))
        assert last["error"]["code"] == "engine-failed"
        assert await it.asked[0].hung_up()
        assert taken[0] < 4 * EVENT_MAX_BYTES


async def test_a_flood_of_informing_is_left_at_the_bound(tmp_path: Path) -> None:
    """A hundred and a hundred more are no answer, and cost the time in which others are served."""

    async def script(exchange: Exchange) -> None:
        while not exchange.gone.is_set():
            await exchange.say(FLOOD)

    async with engine(script) as it, site(tmp_path, it.address, request_timeout_s=60) as ours:
        reply = await ours.chat()
        assert (reply.status, reply.error["code"]) == (502, "engine-failed")
        assert await it.asked[0].hung_up()


async def test_informing_now_and_then_without_end_is_left_when_time_is_up(tmp_path: Path) -> None:
    """It is within every bound but that one, and the gateway goes on for the others."""

    async def script(exchange: Exchange) -> None:
        while not exchange.gone.is_set():
            await exchange.say(FLOOD[:25])
            await asyncio.sleep(0.05)

    async with engine(script) as it, site(tmp_path, it.address, request_timeout_s=1) as ours:
        task = asyncio.create_task(ours.chat())
        await it.was_asked()
        assert (await ours.ask("GET", "/healthz")).status == 200
        reply = await task
        assert (reply.status, reply.error["code"]) == (504, "engine-timed-out")
        assert await it.asked[0].hung_up()


async def test_what_an_engine_says_behind_its_end_is_not_passed_on(tmp_path: Path) -> None:
    """The end marker is the end."""
    usage = {**chunk(""), "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    told = events(chunk("on "), chunk("", "stop"), usage, b"[DONE]", chunk(CANARY), b"[DONE]")
    async with engine(saying(head(SSE), told)) as it, site(tmp_path, it.address) as ours:
        reply = await ours.chat(stream=True)
        assert CANARY not in reply.body.decode()
        assert reply.events[-1] == "[DONE]"
        assert reply.events.count("[DONE]") == 1


# --- silence -------------------------------------------------------------------------------------


async def falls_silent(exchange: Exchange) -> None:
    await exchange.head(kind="text/event-stream")
    for _ in range(4):
        await exchange.event(chunk("on "))
    await exchange.hung_up(20)


async def test_an_engine_that_falls_silent_in_its_answer_is_left_and_said_to_be(
    tmp_path: Path,
) -> None:
    """A stopped process keeps its connections open for ever; its client must not wait as long."""
    async with (
        engine(falls_silent) as it,
        site(tmp_path, it.address, engine_idle_timeout_s=1, request_timeout_s=60) as ours,
    ):
        async with asyncio.timeout(15):
            last = record_of(await ours.chat(stream=True))
        assert (last["choices"][0]["finish_reason"], last["error"]["code"]) == (
            "error",
            "engine-timed-out",
        )
        assert await it.asked[0].hung_up()
        (ending,) = ours.kinds("completion")
        assert (ending["outcome"], ending["status"]) == ("engine-timed-out", 504)
        assert ending["tokens_out"] == 3, "four chunks, of which the first names a role"


async def test_an_engine_that_falls_silent_within_a_whole_answer_is_left_too(
    tmp_path: Path,
) -> None:
    """Half a body is as endless as half a stream."""

    async def script(exchange: Exchange) -> None:
        await exchange.say(head(JSON, "content-length: 500") + b'{"choices":')
        await exchange.hung_up(20)

    async with engine(script) as it, site(tmp_path, it.address, engine_idle_timeout_s=1) as ours:
        async with asyncio.timeout(15):
            reply = await ours.chat()
        assert (reply.status, reply.error["code"]) == (504, "engine-timed-out")


async def test_how_long_an_engine_takes_to_begin_is_not_its_silence(tmp_path: Path) -> None:
    """A long prompt is read for a minute before the first word; that has a bound of its own."""

    async def script(exchange: Exchange) -> None:
        await exchange.head(kind="text/event-stream")
        await asyncio.sleep(1.5)
        await exchange.say(events(*WELL, b"[DONE]"))

    async with engine(script) as it, site(tmp_path, it.address, engine_idle_timeout_s=1) as ours:
        reply = await ours.chat(stream=True)
        assert reply.events[-1] == "[DONE]"


async def test_a_client_that_reads_slowly_is_not_the_engines_silence(tmp_path: Path) -> None:
    """It would be the engine that rests for it."""

    async def script(exchange: Exchange) -> None:
        await exchange.head(kind="text/event-stream")
        await exchange.event(chunk("on "))
        await asyncio.sleep(0.1)
        await exchange.event(chunk("and on "))
        await asyncio.sleep(0.1)
        await exchange.say(events(chunk("", "stop"), b"[DONE]"))

    async def slow(reply: Reply) -> bool:
        if len(reply.moments) == 3:
            await asyncio.sleep(1.5)
        return False

    async with engine(script) as it, site(tmp_path, it.address, engine_idle_timeout_s=1) as ours:
        reply = await ours.chat(stream=True, leave=slow)
        assert reply.events[-1] == "[DONE]"


# --- what official clients make of it ------------------------------------------------------------


async def breaks_off(exchange: Exchange) -> None:
    await exchange.head(kind="text/event-stream")
    await exchange.event(chunk("on "))
    await exchange.event(chunk("and on "))
    exchange.cut()


async def test_openais_client_raises_and_mistrals_sees_a_finish_of_error(tmp_path: Path) -> None:
    """The two ways in which applications find out, unchanged."""
    async with served(tmp_path) as it:
        it.engine.script = breaks_off
        words: Any = [{"role": "user", "content": "x"}]
        client = openai.AsyncOpenAI(
            base_url=f"http://127.0.0.1:{it.port}/v1", api_key=it.ours.secret, max_retries=0
        )
        stream = await client.chat.completions.create(model=MODEL, messages=words, stream=True)
        texts: list[str | None] = []
        with pytest.raises(openai.APIError) as raised:
            await hear(stream, texts)
        assert texts == ["on ", "and on "]
        assert raised.value.code == "engine-failed"
        await client.close()

        async with mistral.Mistral(
            api_key=it.ours.secret, server_url=f"http://127.0.0.1:{it.port}"
        ) as theirs:
            found = await theirs.chat.stream_async(model=MODEL, messages=words)
            finishes = [event.data.choices[0].finish_reason async for event in found]
        assert finishes == [None, None, "error"]


async def hear(stream: Any, texts: list[str | None]) -> None:
    """Read to the end, keeping what was heard when there is none."""
    async for part in stream:
        texts += [part.choices[0].delta.content]


async def test_a_client_that_leaves_a_stream_is_counted_with_what_it_was_given(
    tmp_path: Path,
) -> None:
    """Tokens that were generated were generated, whoever hung up."""

    async def ten(exchange: Exchange) -> None:
        await exchange.head(kind="text/event-stream")
        for _ in range(10):
            await exchange.event(chunk("on "))
        await exchange.hung_up(20)

    async def after_ten(reply: Reply) -> bool:
        return reply.body.count(b"\n\n") >= 10

    async with engine(ten) as it, site(tmp_path, it.address) as ours:
        await ours.chat(stream=True, leave=after_ten)
        assert await it.asked[0].hung_up()
        (ending,) = ours.kinds("completion")
        assert (ending["outcome"], ending["tokens_out"]) == ("client-gone", 9)


@STREAMED
async def test_an_engine_that_hangs_up_after_each_stream_fails_nobody(
    tmp_path: Path, stream: bool
) -> None:
    """llama.cpp says that its connection stays, and closes it a moment after the end. A call that
    goes over it in that moment is lost."""
    events = [chunk("Paris."), chunk("", "stop", usage=USAGE)]
    told = b"".join(b"data: " + msgspec.json.encode(event) + b"\n\n" for event in events)
    told += b"data: [DONE]\n\n"

    async def at_once(exchange: Exchange) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
        head += b"transfer-encoding: chunked\r\nkeep-alive: timeout=5, max=100\r\n\r\n"
        await exchange.say(head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(told), told))
        await exchange.hung_up(0.1)

    async with engine(at_once) as it, site(tmp_path, it.address) as ours:
        replies = [await ours.chat(stream=stream) for _ in range(3)]
        assert [reply.status for reply in replies] == [200] * 3
        assert len(it.asked) == 3
