"""Spans arrive at a real receiver, say how long what took, and nothing of what was said."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from sovereign.errors import ResidencyRefused, SettingsUnreadable
from sovereign.gateway.call import Call
from sovereign.gateway.seen.tracing import QUEUE_MAX, SPANS_OF_A_CALL, Tracing, refuse_elsewhere
from sovereign.settings import TracingSettings, load
from tests.gateway.site import CHAT, EEA, Site, site
from tests.observed.receiver import Receiver, attributes, otlp, receiving, spans
from tests.simulated.engine import MODEL, Exchange, answering, engine, saying

NOW = datetime(2026, 11, 25, tzinfo=UTC)
CANARY = "Xq7-CANARY-9z"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SERVER, INTERNAL, CLIENT = 2, 1, 3


@asynccontextmanager
async def traced(root: Path, address: str, target: str) -> AsyncIterator[Site]:
    """A site whose spans go to a target; they have left when the block ends."""
    async with site(root, address) as ours:
        ours.gateway.tracing = Tracing(TracingSettings(endpoint=f"{target}/v1/traces"), "local")
        yield ours


def canaries() -> set[bytes]:
    """The canary as it would look in the forms that programs write things in."""
    plain = CANARY.encode()
    return {
        plain,
        plain.lower(),
        base64.b64encode(plain),
        quote(CANARY).encode(),
        json.dumps(CANARY)[1:-1].encode(),
        CANARY.encode("utf-16-le"),
        plain.hex().encode(),
    }


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_call_is_one_server_span_with_what_it_was_made_of(
    tmp_path: Path, stream: bool
) -> None:
    """Where the time went is the question; each part is one child."""
    with receiving(otlp()) as target:
        async with engine() as it, traced(tmp_path, it.address, target.url) as ours:
            await ours.chat(stream=stream)
        found = {span.name: span for span in spans(target.wait())}
    assert set(found) == {f"POST {CHAT}", "decide", "audit", f"chat {MODEL}"}
    server = found[f"POST {CHAT}"]
    assert server.kind == SERVER
    assert server.parent_span_id == b""
    for child, kind in (("decide", INTERNAL), ("audit", INTERNAL), (f"chat {MODEL}", CLIENT)):
        assert found[child].parent_span_id == server.span_id
        assert found[child].trace_id == server.trace_id
        assert found[child].kind == kind
        inside = (found[child].start_time_unix_nano, found[child].end_time_unix_nano)
        assert server.start_time_unix_nano <= inside[0] <= inside[1] <= server.end_time_unix_nano
    assert attributes(server) == {
        "http.request.method": "POST",
        "http.route": CHAT,
        "http.response.status_code": 200,
        "sovereign.dialect": "mistral",
        "sovereign.outcome": "answered",
        "sovereign.record": attributes(found["audit"])["sovereign.record"],
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "llamacpp",
        "gen_ai.request.model": MODEL,
        "gen_ai.request.stream": stream,
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.response.finish_reasons": ("stop",),
        "sovereign.endpoint": "local-llamacpp",
    }


async def test_of_a_client_only_the_two_ids_of_its_span_are_taken(tmp_path: Path) -> None:
    """A trace goes on across the gateway; what else a client puts beside it stays outside."""
    with receiving(otlp()) as target:
        async with engine() as it, traced(tmp_path, it.address, target.url) as ours:
            await ours.chat(
                headers={
                    "traceparent": f"00-{TRACE}-{PARENT}-00",
                    "tracestate": f"vendor={CANARY}",
                    "baggage": f"user={CANARY}",
                }
            )
            (asked,) = it.asked
            assert not {"traceparent", "tracestate", "baggage"} & set(asked.headers)
        heard = target.wait()
    (server,) = (span for span in spans(heard) if span.kind == SERVER)
    assert server.trace_id.hex() == TRACE
    assert server.parent_span_id.hex() == PARENT
    assert all(span.trace_state == "" for span in spans(heard))
    assert not any(form in each.body for each in heard for form in canaries())


@pytest.mark.parametrize(
    "given",
    [
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"01-{TRACE}-{PARENT}-01-{CANARY}",
        CANARY,
        "",
    ],
)
async def test_a_traceparent_that_is_none_begins_a_trace_of_our_own(
    tmp_path: Path, given: str
) -> None:
    """W3C Trace Context: what does not parse is as if it had not come."""
    with receiving(otlp()) as target:
        async with engine() as it, traced(tmp_path, it.address, target.url) as ours:
            await ours.chat(headers={"traceparent": given})
        heard = target.wait()
    (server,) = (span for span in spans(heard) if span.kind == SERVER)
    assert server.parent_span_id == b""
    assert server.trace_id.hex() not in ("0" * 32, TRACE)
    assert not any(form in each.body for each in heard for form in canaries())


async def test_nothing_that_was_asked_or_answered_reaches_the_target(tmp_path: Path) -> None:
    """A canary in every field and header, in good answers, refusals and an engine's own error."""

    async def crash(exchange: Exchange) -> None:
        await exchange.head(kind="text/event-stream")
        await exchange.event({"choices": [], "note": CANARY})
        exchange.cut()

    headers = {
        "user-agent": f"OpenAI/{CANARY}",
        "x-sovereign-subject": CANARY,
        "cookie": CANARY,
        "x-request-id": CANARY,
        "baggage": CANARY,
    }
    said = {"messages": [{"role": "user", "content": CANARY, "name": CANARY}], "user": CANARY}
    with receiving(otlp()) as target:
        async with (
            engine(answering(CANARY)) as it,
            traced(tmp_path, it.address, target.url) as ours,
        ):
            secret = ours.key(subject="header", tenant=CANARY.lower(), purpose=CANARY.lower())
            await ours.seen()
            await ours.chat(secret=secret, headers=headers, **said)
            await ours.chat(secret=secret, headers=headers, stream=True, **said)
            await ours.chat(headers=headers, model=CANARY)
            await ours.chat(headers=headers, **{CANARY: CANARY})
            await ours.chat(secret=CANARY)
            await ours.ask("GET", f"/{CANARY}?{CANARY}", headers)
            await ours.ask(CANARY, CHAT, headers)
            it.script = saying({"error": {"message": CANARY}}, 400)
            await ours.chat(headers=headers, **said)
            it.script = crash
            await ours.chat(headers=headers, stream=True, **said)
        heard = target.wait()
    found = spans(heard)
    assert len([span for span in found if span.kind == SERVER]) == 9
    outcomes = {attributes(span).get("sovereign.outcome") for span in found}
    assert {"answered", "model-unknown", "engine-refused", "engine-failed"} <= outcomes
    for each in heard:
        assert not any(form in each.body for form in canaries())
        assert not any(CANARY in value for value in each.headers.values())


async def test_an_error_of_ours_is_marked_and_a_refusal_is_not(tmp_path: Path) -> None:
    """OpenTelemetry: a server's span is an error when the server is to blame, from 500 on."""
    with receiving(otlp()) as target:
        async with (
            engine(saying({"error": "x"}, 500)) as it,
            traced(tmp_path, it.address, target.url) as ours,
        ):
            await ours.chat()
            await ours.chat(secret="sov_none")  # pragma: allowlist secret
        found = [span for span in spans(target.wait()) if span.kind == SERVER]
    states = {attributes(span)["error.type"]: span.status.code for span in found}
    assert states == {"engine-failed": 2, "key-missing-or-unknown": 0}


@pytest.mark.parametrize("gone", ["nobody listens", "it refuses", "it redirects"])
async def test_a_target_that_takes_nothing_fails_no_call_and_is_counted(
    tmp_path: Path, gone: str
) -> None:
    """Traces are a help; an answer must not depend on them. A redirect would carry them away."""
    elsewhere = otlp()
    with receiving(elsewhere) as second, receiving(otlp()) as target:
        url = target.url
        if gone == "nobody listens":
            url = "http://127.0.0.1:9"
        elif gone == "it refuses":
            target.status = 401
        else:
            target.status, target.headers = 307, {"location": f"{second.url}/v1/traces"}
        async with engine() as it, traced(tmp_path, it.address, url) as ours:
            for _ in range(3):
                assert (await ours.chat()).status == 200
            tracing = ours.gateway.tracing
        assert tracing is not None
        assert second.heard == []
    sent, lost = tracing.spans
    assert sent == 0
    assert lost == 12 or gone == "nobody listens"


async def test_no_proxy_of_the_environment_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that some shell set must not send metadata through another machine."""
    with receiving() as proxy, receiving(otlp()) as target:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", proxy.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", proxy.url)
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", f"user={CANARY}")
        async with engine() as it, traced(tmp_path, it.address, target.url) as ours:
            await ours.chat()
        heard = target.wait()
        assert proxy.heard == []
    assert not any(form in each.body for each in heard for form in canaries())


async def test_what_waits_is_bounded_and_what_is_too_much_is_counted(tmp_path: Path) -> None:
    """A target that hangs must not fill the memory, nor lose anything unnoticed."""
    calls = QUEUE_MAX
    with receiving(Receiver(status=503)) as target:
        async with engine() as it, traced(tmp_path, it.address, target.url) as ours:
            tracing = ours.gateway.tracing
            assert tracing is not None
            call = Call({"method": "POST", "path": CHAT, "headers": []}, never, never)
            call.course.decided = call.course.recorded = call.course.asked = call.course.came
            for _ in range(calls):
                tracing.end(call)
            assert QUEUE_MAX <= tracing.waiting < QUEUE_MAX + SPANS_OF_A_CALL
            sent, lost = tracing.spans
            assert sent == 0
            assert lost + tracing.waiting == calls * SPANS_OF_A_CALL


async def test_of_a_hundred_calls_as_many_are_told_of_as_was_chosen(tmp_path: Path) -> None:
    """A busy site need not send every call."""
    with receiving(otlp()) as target:
        async with engine() as it, site(tmp_path, it.address) as ours:
            chosen = TracingSettings(endpoint=f"{target.url}/v1/traces", sampled_percent=5)
            tracing = ours.gateway.tracing = Tracing(chosen, "local")
            for _ in range(400):
                tracing.end(Call({"method": "GET", "path": "/", "headers": []}, never, never))
            told = tracing.waiting + tracing.spans[0]
    assert 0 < told < 100


async def never(*_: object) -> Any:
    """Nothing is read or sent by this call."""
    raise AssertionError


@pytest.mark.parametrize(
    ("endpoint", "place", "allowed"),
    [
        ("http://127.0.0.1:4318/v1/traces", "this-host", True),
        ("https://127.0.0.1:4318/v1/traces", "this-host", True),
        ("https://192.0.2.7:4318/v1/traces", "this-host", False),
        ("https://traces.example/v1/traces", "this-host", False),
        ("https://traces.example/v1/traces", "scaleway:fr-par-2", True),
        ("https://traces.example:4318/v1/traces", "aws:eu-central-1", False),
        ("https://traces.example/v1/traces", "aws:us-east-1", False),
        ("https://traces.example/v1/traces", "nowhere:at-all", False),
    ],
)
def test_a_target_is_a_place_that_the_rules_must_allow(
    endpoint: str, place: str, allowed: bool
) -> None:
    """It sees metadata of every call: the Frankfurt region of a US firm is refused here, too."""
    chosen = TracingSettings(endpoint=endpoint, place=place)
    if allowed:
        refuse_elsewhere(EEA, chosen, NOW)
        return
    with pytest.raises(ResidencyRefused) as refused:
        refuse_elsewhere(EEA, chosen, NOW)
    assert refused.value.rule
    assert "sovereign decide --place" in refused.value.next_step


@pytest.mark.parametrize(
    ("endpoint", "accepted"),
    [
        ("", True),
        ("http://127.0.0.1:4318/v1/traces", True),
        ("https://traces.example:4318/v1/traces", True),
        ("http://traces.example:4318/v1/traces", False),
        ("http://localhost:4318/v1/traces", False),
        ("https://user:word@traces.example/v1/traces", False),  # pragma: allowlist secret
        ("https://traces.example/v1/traces?token=x", False),
        ("ftp://127.0.0.1/x", False),
    ],
)
def test_metadata_crosses_no_network_in_the_clear(
    tmp_path: Path, endpoint: str, accepted: bool
) -> None:
    """`localhost` is a name: what it leads to may change without anybody being asked."""
    file = tmp_path / "sovereign.yaml"
    file.write_text(f"version: 1\ntracing:\n  endpoint: '{endpoint}'\n")
    if accepted:
        assert load(tmp_path).settings.tracing.endpoint == endpoint
        return
    with pytest.raises(SettingsUnreadable):
        load(tmp_path)
