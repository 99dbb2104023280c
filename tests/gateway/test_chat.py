"""One chat through the gateway: what is on the disk when, what is sent where, how it ends."""

import asyncio
import errno
from pathlib import Path
from typing import Any

import pytest

from sovereign.errors import LogUnwritable
from sovereign.subjects import pseudonym
from tests.gateway.site import EEA, OPENAI, Reply, disks, site
from tests.simulated.disk import Fault
from tests.simulated.engine import (
    MODEL,
    Exchange,
    Script,
    answering,
    chunk,
    completion,
    engine,
    saying,
)

DIALECTS = pytest.mark.parametrize("headers", [{}, OPENAI], ids=["mistral", "openai"])
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


def kinds(reply: Reply, at: int) -> list[str]:
    """The types of the records that were on the disk when message `at` left."""
    on_disk = reply.moments[at].on_disk
    return [r["type"] for r in on_disk if r["type"] in ("decision", "completion")]


@DIALECTS
@STREAMED
async def test_the_decision_is_durable_before_the_first_byte_and_the_completion_before_the_last(
    tmp_path: Path, headers: dict[str, str], stream: bool
) -> None:
    """What was answered was decided first, whatever crashes; this looks at what a machine that
    stops at that very moment would still have."""
    async with engine() as it, site(tmp_path, it.address, disks()) as ours:
        reply = await ours.chat(stream=stream, headers=headers)
        assert reply.status == 200
        assert reply.whole
        assert "decision" in kinds(reply, 0)
        assert kinds(reply, -1) == ["decision", "completion"]
        if stream:
            assert len(reply.moments) >= 3
            assert all("completion" not in kinds(reply, at) for at in range(len(reply.moments) - 1))


async def test_a_disk_that_only_says_it_synced_is_noticed_by_the_test_above(
    tmp_path: Path,
) -> None:
    """The proof must be able to fail: without fdatasync nothing is durable at the first byte."""
    lying = disks(lies=frozenset(("fdatasync",)))
    async with engine() as it, site(tmp_path, it.address, lying) as ours:
        reply = await ours.chat()
        assert reply.status == 200
        assert kinds(reply, 0) == []


@DIALECTS
@STREAMED
async def test_the_answer_says_where_it_ran_under_which_policy_and_names_its_record(
    tmp_path: Path, headers: dict[str, str], stream: bool
) -> None:
    """A client can keep the three headers and hand them to an auditor."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        reply = await ours.chat(stream=stream, headers=headers)
        (decision,) = ours.kinds("decision")
        index = ours.records().index(decision) + 1  # the log's first entry is in its tiles
        assert reply.headers["x-sovereign-record"] == f"local/gateway/event#{index}"
        assert reply.headers["x-sovereign-place"] == decision["place"] == "this-host"
        assert reply.headers["x-sovereign-policy"] == decision["policy"] == EEA.digest
        (ending,) = ours.kinds("completion")
        assert ending["decision"] == index
        assert (ending["outcome"], ending["status"]) == ("answered", 200)
        assert (ending["tokens_in"], ending["tokens_out"], ending["finish"]) == (7, 3, "stop")


async def test_a_decision_holds_exactly_what_the_key_is_bound_to_and_what_was_chosen(
    tmp_path: Path,
) -> None:
    """Article 30 asks for purpose and basis; nothing of the request itself may be there."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        await ours.chat()
        (decision,) = ours.kinds("decision")
        varying = ("v", "at", "asked_at", "salt", "policy", "key")
        assert set(varying) < set(decision)
        said = {k: v for k, v in decision.items() if k not in varying}
        assert said == {
            "type": "decision",
            "request": 1,
            "tenant": "acme",
            "purpose": "tests",
            "basis": "contract",
            "data": "personal",
            "verb": "process",
            "call": "chat",
            "model": MODEL,
            "endpoint": "local-llamacpp",
            "engine": "llamacpp",
            "place": "this-host",
            "listener": it.address,
            "verdict": "allow",
            "rule": "nothing-leaves-this-host",
        }


async def test_the_whole_answer_is_the_engines_own_bytes(tmp_path: Path) -> None:
    """Tool calls, log probabilities and whatever engines add tomorrow pass untouched."""
    calls = [{"id": "xYzUvW159", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    said = completion("", odd={"field": [1, 2]})
    said["choices"][0]["message"]["tool_calls"] = calls  # type: ignore[index]
    said["choices"][0]["finish_reason"] = "tool_calls"  # type: ignore[index]
    async with engine(saying(said)) as it, site(tmp_path, it.address) as ours:
        reply = await ours.chat()
        assert reply.json == said


async def test_the_engine_sees_the_translated_body_and_nothing_of_who_asked(
    tmp_path: Path,
) -> None:
    """Key, subject, metadata and the client's headers end at the gateway."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        secret = ours.key(subject="header")
        await ours.seen()
        headers = {
            **OPENAI,
            "x-sovereign-subject": "SUBJECT-1",
            "cookie": "SUBJECT-2",
            "x-forwarded-for": "192.0.2.1",
        }
        more: dict[str, Any] = {"user": "SUBJECT-3", "metadata": {"subject": "SUBJECT-4"}}
        reply = await ours.chat(secret=secret, headers=headers, seed=3, **more)
        assert reply.status == 200
        (asked,) = it.asked
        assert set(asked.headers) == {
            "host",
            "accept",
            "accept-encoding",
            "user-agent",
            "content-type",
            "content-length",
        }
        assert asked.headers["user-agent"] == "sovereign"
        assert set(asked.body) == {"model", "messages", "seed", "stream", "stream_options"}
        assert b"SUBJECT" not in asked.raw
        assert secret.encode() not in asked.raw


async def test_fields_the_engine_cannot_honour_are_named_in_the_answer(tmp_path: Path) -> None:
    """A client that asked for guardrails must be able to see that it got none."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        reply = await ours.chat(prompt_mode="reasoning", guardrails=[], random_seed=1)
        assert reply.headers["x-sovereign-dropped"] == "guardrails, prompt_mode"
        assert "x-sovereign-dropped" not in (await ours.chat()).headers


@pytest.mark.parametrize(
    ("source", "given"),
    [
        ("header", {"headers": {"x-sovereign-subject": "ann"}}),
        ("user", {"headers": OPENAI, "user": "ann"}),
        ("metadata", {"metadata": {"subject": "ann"}}),
    ],
)
async def test_a_subject_is_recorded_as_a_sealed_pseudonym_from_the_place_its_key_declares(
    tmp_path: Path, source: str, given: dict[str, Any]
) -> None:
    """The same person is the same pseudonym however she is named; no two records look alike."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        secret, plain = ours.key(subject=source), ours.key(subject="header")
        await ours.seen()
        assert (await ours.chat(secret=secret, **given)).status == 200
        assert (await ours.chat(secret=plain, headers={"x-sovereign-subject": "ann"})).status == 200
        named, again = ours.kinds("decision")
        known = ours.keystore.known()
        ann = pseudonym(known.secrets["acme"], "ann")
        assert known.subjects["acme"].is_of(named["subject"], ann)
        assert known.subjects["acme"].is_of(again["subject"], ann)
        assert named["subject"] != again["subject"]
        assert ann not in str((named, again))
        missing = await ours.chat(secret=secret, messages=[{"role": "user", "content": "x"}])
        assert (missing.status, missing.error["code"]) == (403, "subject-missing")
        assert "subject" not in ours.kinds("decision")[-1]
        assert len(it.asked) == 2


@pytest.mark.parametrize("value", ["", "x" * 513])
async def test_a_subject_that_is_empty_or_too_long_is_missing(tmp_path: Path, value: str) -> None:
    """The edges of what can be a name."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        secret = ours.key(subject="header")
        await ours.seen()
        reply = await ours.chat(secret=secret, headers={"x-sovereign-subject": value})
        assert reply.error["code"] == "subject-missing"


async def test_a_subject_given_twice_is_missing(tmp_path: Path) -> None:
    """Two names for one person: nobody knows whose record it would be."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        secret = ours.key(subject="header")
        await ours.seen()
        headers = [
            (b"authorization", f"Bearer {secret}".encode()),
            (b"x-sovereign-subject", b"ann"),
            (b"x-sovereign-subject", b"ben"),
        ]
        raw = b'{"model":"%s","messages":[{"role":"user","content":"x"}]}' % MODEL.encode()
        reply = await ours.ask("POST", "/v1/chat/completions", headers, [raw])
        assert reply.error["code"] == "subject-missing"


async def test_a_key_that_serves_no_person_records_none_even_if_one_is_named(
    tmp_path: Path,
) -> None:
    """What was not declared is not collected (GDPR Art. 5(1)(c))."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        await ours.chat(headers={"x-sovereign-subject": "ann"})
        assert "subject" not in ours.kinds("decision")[0]


# --- endings: exactly one for every decision, and the engine stops working for nobody ----------


async def endless(exchange: Exchange) -> None:
    await exchange.head(kind="text/event-stream")
    while not exchange.gone.is_set():
        await exchange.event(chunk("on "))
        await asyncio.sleep(0.01)


async def silent(exchange: Exchange) -> None:
    await exchange.hung_up(20)


async def after_two_chunks(reply: Reply) -> bool:
    return len(reply.moments) > 2


async def test_a_client_that_hangs_up_in_a_stream_ends_the_engines_work(tmp_path: Path) -> None:
    """A closed tab must not burn a GPU for five minutes, and its record must say so."""
    async with engine(endless) as it, site(tmp_path, it.address) as ours:
        reply = await ours.chat(stream=True, leave=after_two_chunks)
        assert not reply.whole
        assert await it.asked[0].hung_up()
        (ending,) = ours.kinds("completion")
        assert (ending["outcome"], ending["status"]) == ("client-gone", 499)


async def test_a_client_that_hangs_up_before_the_answer_ends_the_engines_work(
    tmp_path: Path,
) -> None:
    """The same while the engine has not said a word."""
    async with engine(silent) as it, site(tmp_path, it.address) as ours:
        task = asyncio.create_task(asked_and_left(ours, it))
        await task
        assert await it.asked[0].hung_up()
        (ending,) = ours.kinds("completion")
        assert ending["outcome"] == "client-gone"


async def asked_and_left(ours: Any, it: Any) -> None:
    """Hang up once the engine has been asked."""
    sent: list[Any] = []
    parts = [b'{"model":"%s","messages":[{"role":"user","content":"x"}]}' % MODEL.encode()]

    async def receive() -> dict[str, Any]:
        if parts:
            return {"type": "http.request", "body": parts.pop()}
        await it.was_asked()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "headers": [(b"authorization", f"Bearer {ours.secret}".encode())],
    }
    await ours.gateway(scope, receive, send)
    assert sent == []


def cut_after(events: int) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.head(kind="text/event-stream")
        for _ in range(events):
            await exchange.event(chunk("on "))
        exchange.cut()

    return script


def events_of(*events: object) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.head(kind="text/event-stream")
        for event in events:
            await exchange.event(event)

    return script


BAD_STREAMS = {
    "broken off": cut_after(3),
    "no end marker": events_of(chunk("on "), chunk("", "stop")),
    "an error": events_of(chunk("on "), {"error": {"message": "CANARY", "code": 500}}),
    "no JSON": events_of(chunk("on "), b"CANARY"),
    "no object": events_of(chunk("on "), b"[1]"),
    "too deep": events_of(chunk("on "), b"[" * 5000),
    "choices are no list": events_of({"choices": 7}),
    "nothing": events_of(),
}


@DIALECTS
@pytest.mark.parametrize("case", BAD_STREAMS)
async def test_a_stream_that_goes_wrong_ends_with_an_error_event_and_no_end_marker(
    tmp_path: Path, case: str, headers: dict[str, str]
) -> None:
    """The status is out already. A client must not take a piece of an answer for the whole."""
    async with engine(BAD_STREAMS[case]) as it, site(tmp_path, it.address) as ours:
        reply = await ours.chat(stream=True, headers=headers)
        assert reply.status == 200
        assert reply.whole
        assert "[DONE]" not in reply.events
        assert '"code":"engine-failed"' in reply.events[-1]
        assert reply.headers["x-sovereign-record"] in reply.events[-1]
        assert "CANARY" not in reply.events[-1]
        (ending,) = ours.kinds("completion")
        assert (ending["outcome"], ending["status"]) == ("engine-failed", 502)


BAD_ANSWERS = {
    "empty": b"",
    "no JSON": b"CANARY",
    "no object": [1],
    "no choices": {"choices": []},
    "choices are no list": {"choices": {"a": 1}},
    "no message": {"choices": [7]},
    "too deep": b"[" * 5000,
    "not UTF-8": b'{"choices":[{"x":"\xff"}]}',
}


@pytest.mark.parametrize("case", BAD_ANSWERS)
async def test_an_answer_that_is_none_becomes_a_502_with_its_record(
    tmp_path: Path, case: str
) -> None:
    """An engine gone mad is the engine's failure, never a crash of ours, and never passed on."""
    async with engine(saying(BAD_ANSWERS[case])) as it, site(tmp_path, it.address) as ours:
        reply = await ours.chat()
        assert (reply.status, reply.error["code"]) == (502, "engine-failed")
        assert reply.error["record"] == reply.headers["x-sovereign-record"]
        assert b"CANARY" not in reply.body
        (ending,) = ours.kinds("completion")
        assert (ending["outcome"], ending["status"]) == ("engine-failed", 502)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        {"prompt_tokens": True, "completion_tokens": -1},
        {"prompt_tokens": 2**60, "completion_tokens": "9"},
    ],
)
async def test_counts_that_are_none_are_recorded_as_0_and_the_answer_still_goes_out(
    tmp_path: Path, usage: object
) -> None:
    """A record holds sensible numbers only; a miscounting engine must not stop the service."""
    said = completion("Paris.", usage=usage)
    said["choices"][0]["finish_reason"] = {"odd": 1}  # type: ignore[index]
    async with engine(saying(said)) as it, site(tmp_path, it.address) as ours:
        assert (await ours.chat()).status == 200
        (ending,) = ours.kinds("completion")
        assert (ending["tokens_in"], ending["tokens_out"], ending["finish"]) == (0, 0, "none")


@STREAMED
async def test_an_answer_over_the_bound_is_stopped(tmp_path: Path, stream: bool) -> None:
    """A model that repeats itself for ever must not fill memory or the client's disk."""

    async def script(exchange: Exchange) -> None:
        if not stream:
            await exchange.answer(completion("x" * 5000))
            return
        await endless(exchange)

    async with engine(script) as it, site(tmp_path, it.address, answer_max_bytes=2048) as ours:
        reply = await ours.chat(stream=stream)
        assert b"answer-too-large" in reply.body
        assert reply.status == (200 if stream else 502)
        (ending,) = ours.kinds("completion")
        assert (ending["outcome"], ending["status"]) == ("answer-too-large", 502)
        assert not stream or await it.asked[0].hung_up()


@STREAMED
async def test_an_engine_that_takes_too_long_is_left(tmp_path: Path, stream: bool) -> None:
    """Every wait ends; the client hears why, also in the middle of a stream."""
    script = endless if stream else silent
    async with engine(script) as it, site(tmp_path, it.address, request_timeout_s=1) as ours:
        reply = await ours.chat(stream=stream)
        assert b"engine-timed-out" in reply.body
        assert reply.whole
        assert reply.status == (200 if stream else 504)
        (ending,) = ours.kinds("completion")
        assert (ending["outcome"], ending["status"]) == ("engine-timed-out", 504)
        assert await it.asked[0].hung_up()


async def test_a_client_that_does_not_read_is_left_too(tmp_path: Path) -> None:
    """Whoever asks and never reads would hold a slot and an engine for as long as he likes."""

    async def stuck(reply: Reply) -> bool:
        if len(reply.moments) > 1:
            await asyncio.sleep(30)
        return False

    async with engine(endless) as it, site(tmp_path, it.address, request_timeout_s=1) as ours:
        async with asyncio.timeout(10):
            await ours.chat(stream=True, leave=stuck)
        (ending,) = ours.kinds("completion")
        assert ending["outcome"] == "engine-timed-out"
        assert await it.asked[0].hung_up()


async def test_a_gateway_that_is_stopped_in_an_answer_says_so_in_the_log(tmp_path: Path) -> None:
    """A stop is not a crash: what was under way is accounted for."""
    async with engine(silent) as it, site(tmp_path, it.address) as ours:
        task = asyncio.create_task(ours.chat())
        await it.was_asked()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (ending,) = ours.kinds("completion")
        assert (ending["outcome"], ending["status"]) == ("interrupted", 503)


async def test_a_client_that_leaves_while_the_ending_is_written_does_not_get_a_second_one(
    tmp_path: Path,
) -> None:
    """Two endings of one request would make every count of an auditor wrong."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        gone, later = asyncio.Event(), ours.trail.later

        async def slowly(written: asyncio.Future[Any]) -> Any:
            gone.set()
            await asyncio.sleep(0.1)  # long enough for the watch to see it and interrupt
            return await written

        def writing(kind: str, **fields: Any) -> asyncio.Future[Any]:
            written = later(kind, **fields)
            return asyncio.ensure_future(slowly(written)) if kind == "completion" else written

        ours.trail.later = writing  # type: ignore[method-assign]
        reply = await ours.chat(gone=gone)
        assert reply.status == 0
        (ending,) = ours.kinds("completion")
        assert ending["outcome"] == "answered"


# --- when the log cannot be written ------------------------------------------------------------


async def test_without_a_log_nothing_is_asked_or_answered_and_health_stays(
    tmp_path: Path,
) -> None:
    """An answer nobody can prove is one we do not give; whoever watches us must see the reason."""
    broken = disks()
    async with engine() as it, site(tmp_path, it.address, broken) as ours:
        broken["event"].fail(Fault(0, errno.EIO, None, "fdatasync"))
        reply = await ours.chat()
        assert (reply.status, reply.error["code"]) == (503, "log-unwritable")
        assert reply.headers["retry-after"] == "5"
        assert it.asked == []
        assert (await ours.ask("GET", "/healthz")).status == 200
        ready = await ours.ask("GET", "/readyz")
        assert (ready.status, ready.json["lacking"]) == (503, ["log-unwritable"])


@DIALECTS
@STREAMED
async def test_a_log_that_fails_in_the_middle_holds_the_last_byte_back(
    tmp_path: Path, stream: bool, headers: dict[str, str]
) -> None:
    """The answer is there, its ending cannot be proved: a stream is cut, the rest is a 503."""
    broken = disks()

    async def script(exchange: Exchange) -> None:
        broken["event"].fail(Fault(0, errno.ENOSPC, None, "append"))
        await answering()(exchange)

    async with engine(script) as it, site(tmp_path, it.address, broken) as ours:
        reply = await ours.chat(stream=stream, headers=headers)
        if stream:
            assert reply.status == 200
            assert not reply.whole
            assert "[DONE]" not in reply.events
        else:
            assert (reply.status, reply.error["code"]) == (503, "log-unwritable")
            assert b"Paris" not in reply.body
            assert reply.error["record"].startswith("local/gateway/event#")
        assert (await ours.ask("GET", "/healthz")).status == 200
        assert isinstance(ours.trail.failure, LogUnwritable)


# --- bounds ------------------------------------------------------------------------------------


async def test_one_call_more_than_there_are_slots_is_told_to_come_back(tmp_path: Path) -> None:
    """And a slot is free again once its call has ended, however it ended."""
    free = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await free.wait()
        await exchange.answer(completion("Paris."))

    async with engine(script) as it, site(tmp_path, it.address, concurrency_max=2) as ours:
        running = [asyncio.create_task(ours.chat()) for _ in range(2)]
        await it.was_asked(2)
        reply = await ours.chat()
        assert (reply.status, reply.error["code"]) == (429, "too-many-requests")
        assert reply.headers["retry-after"] == "1"
        assert (await ours.ask("GET", "/readyz")).status == 200
        free.set()
        assert [r.status for r in await asyncio.gather(*running)] == [200, 200]
        assert (await ours.chat()).status == 200


async def test_slots_are_given_back_by_calls_that_fail(tmp_path: Path) -> None:
    """A leak of one slot a failure would end the service slowly."""
    async with (
        engine(saying(b"", 500)) as it,
        site(tmp_path, it.address, concurrency_max=1) as ours,
    ):
        statuses = [(await ours.chat()).status for _ in range(3)]
        statuses.append((await ours.chat(messages=[])).status)
        unknown = ours.secret + "x"
        statuses.append((await ours.chat(secret=unknown)).status)
        assert statuses == [502, 502, 502, 422, 401]


async def test_a_body_is_refused_as_soon_as_it_is_known_to_be_too_large(tmp_path: Path) -> None:
    """By what it says of itself, and by what it is when it lies; at the bound it passes."""
    async with engine() as it, site(tmp_path, it.address, body_max_bytes=1024) as ours:
        key = {"authorization": f"Bearer {ours.secret}"}
        raw = b'{"model":"%s","messages":[{"role":"user","content":"x"}]}' % MODEL.encode()
        path = "/v1/chat/completions"
        for length in ("1025", "9" * 5000):
            told = await ours.ask("POST", path, {**key, "content-length": length}, [raw])
            assert (told.status, told.error["code"]) == (413, "body-too-large")
        parts = [b" " * 512, b" " * 512, b" "]
        assert (await ours.ask("POST", path, key, parts)).status == 413
        padded = raw + b" " * (1024 - len(raw))
        assert (await ours.ask("POST", path, key, [padded[:500], padded[500:]])).status == 200
        assert len(it.asked) == 1


async def test_who_has_no_key_is_refused_before_the_body_is_read(tmp_path: Path) -> None:
    """Memory is for those who may use it."""
    async with site(tmp_path) as ours:
        read: list[int] = []

        async def receive() -> dict[str, Any]:
            read.append(1)
            return {"type": "http.request", "body": b"x", "more_body": True}

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}
        await ours.gateway(scope, receive, send)
        assert sent[0]["status"] == 401
        assert read == []
