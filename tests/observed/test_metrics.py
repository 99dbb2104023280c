"""What the gateway counts: right, bounded, and never anything a client wrote."""

import asyncio
import itertools
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sovereign.engines import ENGINES
from sovereign.gateway.call import Call
from sovereign.gateway.choose import Choice
from sovereign.gateway.refusal import STATUS
from sovereign.gateway.seen import families
from sovereign.gateway.seen.course import OUTCOMES, STATES
from sovereign.gateway.seen.exposition import Calls, Exposition, Standing, look
from sovereign.gateway.seen.families import COUNTED, FAMILIES, LABELS, OPERATIONS
from sovereign.gateway.seen.metrics import OTHER, SERIES_MAX, Buckets, Counting
from sovereign.registry import Endpoint, utcnow
from tests.engines.running import free_port
from tests.gateway.site import CHAT, EEA, OPENAI, Reply, Site, site
from tests.observed.prometheus import run
from tests.simulated.engine import MODEL, Exchange, answering, completion, engine, saying

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
CANARY = "Xq7-CANARY-9z"


async def never(*_: object) -> Any:
    """Nothing is read or sent by such a call."""
    raise AssertionError


def page(ours: Site) -> str:
    """The page of metrics, as the admin listener would give it now."""
    gateway = ours.gateway
    calls = Calls(*gateway.calls())
    standing = Standing("local", EEA.digest, "eea", 256, False, gateway.view, calls, None, (0, 0))
    shown = Exposition(gateway.counting, lambda: standing, utcnow)
    return shown.render(shown.take()).decode()


def samples(text: str) -> Samples:
    """Every sample, as somebody else's parser reads the page."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    """The sum of all samples of a name that have these labels."""
    wanted = set(labels.items())
    return sum(v for (n, having), v in found.items() if n == name and wanted <= set(having))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("headers", [{}, OPENAI], ids=["mistral", "openai"])
async def test_an_answered_call_is_counted_once_with_its_model_tokens_and_times(
    tmp_path: Path, stream: bool, headers: dict[str, str]
) -> None:
    """Whoever plans capacity adds these up."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        assert (await ours.chat(stream=stream, headers=headers)).status == 200
        found = samples(page(ours))
    of_call = {
        "route": CHAT,
        "code": "answered",
        "model": MODEL,
        "endpoint": "local-llamacpp",
        "dialect": "openai" if headers else "mistral",
    }
    assert value(found, "sovereign_gateway_requests_total", **of_call) == 1
    assert value(found, "sovereign_gateway_requests_total") == 1
    what = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "llamacpp",
        "gen_ai_request_model": MODEL,
    }
    duration = "gen_ai_server_request_duration_seconds"
    assert value(found, f"{duration}_count", **what, error_type="") == 1
    assert 0 < value(found, f"{duration}_sum") < 30
    assert value(found, "gen_ai_client_token_usage_sum", **what, gen_ai_token_type="input") == 7
    assert value(found, "gen_ai_client_token_usage_sum", **what, gen_ai_token_type="output") == 3
    first = "gen_ai_server_time_to_first_token_seconds_count"
    assert value(found, first, **what) == (1 if stream else 0)
    per = "gen_ai_server_time_per_output_token_seconds_count"
    assert value(found, per, **what) == (1 if stream else 0)
    for record in ("decision", "completion"):
        assert value(found, "sovereign_audit_append_seconds_count", record=record) == 1
    waited = "sovereign_gateway_turn_wait_seconds_count"
    assert value(found, waited, endpoint="local-llamacpp") == 1


async def test_a_call_that_is_refused_is_counted_by_its_code_and_as_no_generation(
    tmp_path: Path,
) -> None:
    """Alerts go by codes; a refusal has no model's time in it."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        await ours.chat(secret="sov_unknown")  # pragma: allowlist secret
        await ours.chat(model="nobody-has-it")
        await ours.chat(colour="red")
        await ours.ask("GET", "/nowhere")
        await ours.ask("DELETE", CHAT)
        await ours.ask("GET", "/healthz")
        found = samples(page(ours))
    for code, route, model in (
        ("key-missing-or-unknown", CHAT, "none"),
        ("model-unknown", CHAT, "unknown"),
        ("field-unknown", CHAT, "none"),
        ("route-unknown", "none", "none"),
        ("method-unknown", CHAT, "none"),
        ("answered", "/healthz", "none"),
    ):
        labels = {"code": code, "route": route, "model": model, "endpoint": "none"}
        assert value(found, "sovereign_gateway_requests_total", **labels) == 1, code
    assert value(found, "gen_ai_server_request_duration_seconds_count") == 0


async def test_an_engine_that_breaks_off_is_an_error_of_the_generation(tmp_path: Path) -> None:
    """The time of a failed call must not sink into that of good ones."""
    async with engine(saying({"error": "no"}, 500)) as it, site(tmp_path, it.address) as ours:
        assert (await ours.chat()).status == 502
        found = samples(page(ours))
    duration = "gen_ai_server_request_duration_seconds_count"
    assert value(found, duration, error_type="engine-failed") == 1
    assert value(found, duration) == 1
    assert value(found, "gen_ai_client_token_usage_count") == 0
    assert value(found, "sovereign_gateway_requests_total", code="engine-failed") == 1


async def test_calls_under_way_are_shown_by_what_they_do_and_gone_when_they_are_over(
    tmp_path: Path,
) -> None:
    """A stream that hangs shows here first; one that is over must not stay for ever."""
    seen: list[Samples] = []

    async with engine() as it, site(tmp_path, it.address) as ours:

        async def script(exchange: Exchange) -> None:
            seen.append(samples(page(ours)))
            await answering()(exchange)

        it.script = script

        async def leave(reply: Reply) -> bool:
            seen.append(samples(page(ours)))
            return len(reply.moments) >= 2

        await ours.chat(stream=True, leave=leave)
        after = samples(page(ours))
    assert value(seen[0], "sovereign_gateway_calls", state="asking") == 1
    assert value(seen[-1], "sovereign_gateway_calls", state="answering") == 1
    assert value(seen[-1], "sovereign_gateway_streams") == 1
    assert value(after, "sovereign_gateway_calls") == 0
    assert value(after, "sovereign_gateway_streams") == 0
    assert value(after, "sovereign_gateway_requests_total", code="client-gone") == 1


async def test_nothing_a_client_writes_comes_into_a_label(tmp_path: Path) -> None:
    """Names of models, paths, methods, headers and bodies are all the client's to choose."""
    async with engine(answering(CANARY)) as it, site(tmp_path, it.address) as ours:
        secret = ours.key(subject="header", tenant=CANARY.lower())
        await ours.seen()
        headers = {
            "user-agent": f"OpenAI/{CANARY}",
            "x-sovereign-subject": CANARY,
            "traceparent": CANARY,
            "baggage": CANARY,
        }
        message = [{"role": "user", "content": CANARY}]
        assert (await ours.chat(secret=secret, messages=message, headers=headers)).status == 200
        await ours.chat(stream=True, messages=message, headers=headers, user=CANARY)
        await ours.chat(model=CANARY)
        await ours.chat(**{CANARY: 1})
        await ours.chat(secret=CANARY)
        await ours.ask("GET", f"/{CANARY}", headers)
        await ours.ask(CANARY, CHAT, headers)
        await ours.ask(CANARY, f"/{CANARY}", headers)
        text = page(ours)
    assert "sovereign_gateway_requests_total{" in text
    assert CANARY.lower() not in text.lower()


async def test_every_label_holds_what_the_table_says_it_may(tmp_path: Path) -> None:
    """Closed sets, each taken from where it is decided: routes, codes, facts, the registry."""
    from sovereign.gateway.app import ROUTES

    async with engine() as it, site(tmp_path, it.address) as ours:
        await ours.chat(stream=True)
        await ours.chat(model="nobody-has-it")
        await ours.ask("GET", "/nowhere")
        found = samples(page(ours))
    closed: dict[str, set[str]] = {
        "route": {*ROUTES, "none"},
        "code": {*STATUS, *OUTCOMES},
        "model": {*EEA.models, "unknown", "none"},
        "endpoint": {"local-llamacpp", "none"},
        "dialect": {"mistral", "openai"},
        "state": set(STATES),
        "record": {"decision", "completion"},
        "engine": set(ENGINES),
        "place": {*EEA.places, "this-host"},
        "outcome": {"sent", "lost"},
        "gen_ai_provider_name": set(ENGINES),
        "gen_ai_request_model": set(EEA.models),
        "gen_ai_token_type": {"input", "output"},
        "error_type": {"", *STATUS, *OUTCOMES},
    }
    names = {family.name for family in FAMILIES}
    for name, labels in found:
        ours_name = name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
        if name in names or ours_name in names:
            for label, held in labels:
                assert held in closed.get(label, {held}), (name, label, held)


def test_a_family_never_has_more_series_than_its_bound(tmp_path: Path) -> None:
    """Memory and the page stay small, whatever comes: what is too much is counted as `other`."""
    counting = Counting()
    routes, codes = [f"/r{n}" for n in range(20)], [*STATUS, *OUTCOMES]
    models, endpoints = list(EEA.models), [f"e{n}" for n in range(10)]
    combinations = itertools.product(routes, codes, models, endpoints, ("mistral", "openai"))
    wanted = SERIES_MAX + 500
    for labels in itertools.islice(combinations, wanted):
        counting.requests.add(labels)
        for family in COUNTED:
            if family.bounds:
                counting.buckets[family.name].observe(labels[: len(family.labels)], 0.1)
    assert len(counting.requests.of) == SERIES_MAX + 1
    assert counting.requests.of[(OTHER,) * 5] == 500
    assert sum(counting.requests.of.values()) == wanted
    for family in COUNTED:
        if family.bounds:
            assert len(counting.buckets[family.name].of) <= SERIES_MAX + 1


def test_every_kind_of_call_has_its_operation() -> None:
    """A kind without one would break in the metrics of its first call."""
    from sovereign.gateway.kinds.table import KINDS

    assert {kind.name for kind in KINDS} == set(OPERATIONS)


def test_a_call_that_moves_to_another_endpoint_is_counted_for_the_one_it_left() -> None:
    """A dead engine behind good ones shows nowhere else: every call is answered."""
    counting = Counting()
    call = Call({"method": "POST", "path": CHAT, "headers": []}, never, never)
    for name in ("dead", "dying", "good"):
        endpoint = Endpoint(name, "vllm", "127.0.0.1:1", (MODEL,), "this-host")
        choice = Choice(MODEL, endpoint, "", "rule", "because", utcnow())
        call.course.was_decided("chat", choice, streams=False)
    call.course.code = "answered"
    counting.end(call)
    assert counting.counts[families.MOVES.name].of == {("dead",): 1, ("dying",): 1}
    (labels,) = counting.requests.of
    assert "good" in labels


def test_the_most_series_of_a_site_are_what_its_closed_sets_allow_and_no_more() -> None:
    """Every combination of every label, for a site with two models on three endpoints, counted:
    a Prometheus takes this without noticing, and most of it can never be."""
    from sovereign.gateway.app import ROUTES
    from sovereign.gateway.kinds.table import KINDS

    endpoints, models = ["e1", "e2", "e3"], ["m1", "m2"]
    may_be: dict[str, list[str]] = {
        "route": [*ROUTES, "none"],
        "code": [*STATUS, *OUTCOMES],
        "model": [*models, "unknown", "none"],
        "endpoint": [*endpoints, "none"],
        "dialect": ["mistral", "openai"],
        "record": ["decision", "completion"],
        "gen_ai_operation_name": [OPERATIONS[kind.name] for kind in KINDS],
        "gen_ai_provider_name": [*ENGINES],
        "gen_ai_request_model": models,
        "gen_ai_token_type": ["input", "output"],
        "error_type": ["", *STATUS, *OUTCOMES],
    }
    counting, lines = Counting(), 0
    for family in COUNTED:
        combinations = list(itertools.product(*(may_be[label] for label in family.labels)))
        for labels in combinations:
            if family.bounds:
                counting.buckets[family.name].observe(labels, 0.1)
            else:
                counting.counts[family.name].add(labels)
        kept = counting.buckets.get(family.name) or counting.counts[family.name]
        most = min(len(combinations), SERIES_MAX + 1)
        assert len(kept.of) == most, family.name
        lines += most * (len(family.bounds) + 3 if family.bounds else 1)
    assert lines < 30_000
    assert {label for family in FAMILIES for label in family.labels} <= set(LABELS)


def test_buckets_are_those_of_prometheus_own_client() -> None:
    """Where a value falls exactly on a bound is where home-made histograms are wrong."""
    registry = prometheus_client.CollectorRegistry()
    theirs = prometheus_client.Histogram(
        families.DURATION.name, "d", buckets=families.DURATION_S, registry=registry
    )
    ours = Buckets(families.DURATION)
    for seconds in (0.0, 0.01, 0.0100001, 0.02, 0.5, 81.92, 81.93, 1e6):
        theirs.observe(seconds)
        ours.observe((), seconds)
    counts, total = ours.of[()]
    cumulative = list(itertools.accumulate(counts))
    read = samples(prometheus_client.generate_latest(registry).decode())
    wanted = [v for (n, _), v in read.items() if n == f"{families.DURATION.name}_bucket"]
    assert cumulative == wanted
    assert total[0] == pytest.approx(read[f"{families.DURATION.name}_sum", ()])


async def test_the_page_shows_every_family_of_the_table_with_its_kind_and_labels(
    tmp_path: Path,
) -> None:
    """The table is what docs and alerts are written after."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        await ours.chat(stream=True)
        ours.endpoint(it.address, id="shut", quarantine="telemetry-on", reason="r")
        await ours.seen()
        text = page(ours)
    read = {family.name: family for family in text_string_to_metric_families(text)}
    for family in FAMILIES:
        shown = read.get(family.name.removesuffix("_total"))
        if family in (families.CERTIFICATE, families.MOVES):
            assert shown is None or not shown.samples, "no TLS here, and nothing has moved"
            continue
        assert shown is not None, family.name
        assert shown.type == family.kind
        assert shown.samples, family.name
        held = set(shown.samples[0].labels) - {"le"}
        assert held <= set(family.labels), family.name
    assert "process_resident_memory_bytes" in read


async def test_the_page_is_what_promtool_calls_good(tmp_path: Path) -> None:
    """Somebody else's idea of names, units and help texts."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        await ours.chat(stream=True)
        text = page(ours)
    done = await asyncio.to_thread(run, "promtool", "check", "metrics", given=text)
    assert done.returncode == 0, done.stdout + done.stderr


async def test_where_calls_are_and_which_endpoints_rest_is_shown(tmp_path: Path) -> None:
    """A replica that gets nothing, or everything, is seen before its callers complain."""
    began, goes_on = asyncio.Event(), asyncio.Event()

    async def waits(exchange: Exchange) -> None:
        began.set()
        await goes_on.wait()
        await exchange.answer(completion("Paris."))

    async with engine(waits) as it, site(tmp_path, it.address) as ours:
        call = asyncio.create_task(ours.chat())
        await began.wait()
        during = samples(page(ours))
        goes_on.set()
        await call
        ours.endpoint(f"127.0.0.1:{free_port()}")
        await ours.seen()
        assert [(await ours.chat()).status for _ in range(12)] == [503] * 12  # it rests for 8 s
        after = samples(page(ours))
    where = {"endpoint": "local-llamacpp"}
    assert value(during, "sovereign_endpoint_outstanding", **where) == 1
    assert value(during, "sovereign_endpoint_resting", **where) == 0
    assert value(after, "sovereign_endpoint_outstanding", **where) == 0
    assert value(after, "sovereign_endpoint_resting", **where) == 1


async def test_how_things_stand_is_read_at_the_moment_it_is_asked_for(tmp_path: Path) -> None:
    """An alert about expiry needs the expiry, not what it was at the start."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        before = samples(page(ours))
        ours.endpoint(it.address, quarantine="telemetry-on", reason="DO_NOT_TRACK is unset")
        await ours.seen()
        after = samples(page(ours))
        view = ours.gateway.view
    assert value(before, "sovereign_endpoint_usable", endpoint="local-llamacpp") == 1
    assert value(before, "sovereign_endpoint_quarantined") == 0
    assert value(after, "sovereign_endpoint_usable", endpoint="local-llamacpp") == 0
    shut = {"endpoint": "local-llamacpp", "reason": "telemetry-on"}
    assert value(after, "sovereign_endpoint_quarantined", **shut) == 1
    ends = view.snapshot.endpoints[0].expires_at
    assert ends is not None
    name = "sovereign_endpoint_attestation_expiry_timestamp_seconds"
    assert value(after, name) == pytest.approx(ends.timestamp())
    assert 0 <= value(after, "sovereign_keys_age_seconds") < 30
    assert 0 <= value(after, "sovereign_registry_age_seconds") < 30


async def test_a_registry_that_cannot_be_read_gets_old_on_the_page(tmp_path: Path) -> None:
    """The last state stands, so its age is the only sign."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        read_at = ours.gateway.view.registry_read_at
        path = ours.home.registry
        path.rename(path.with_suffix(".away"))
        path.mkdir()
        await ours.seen()
        assert ours.gateway.view.registry_read_at == read_at
        assert ours.gateway.view.snapshot.endpoints


def test_looking_copies_so_that_a_thread_can_write_what_a_call_changes() -> None:
    """The page is made in a thread; a call that ends meanwhile must not be half in it."""
    from sovereign.gateway.view import View
    from sovereign.keystore import Known
    from sovereign.registry import Snapshot

    counting = Counting()
    call = Call({"method": "POST", "path": CHAT, "headers": []}, never, never)
    call.course.code = "answered"
    counting.begin(call)
    view = View(Known({}, {}), Snapshot(0, ()), utcnow())
    standing = Standing("s", "d", "eea", 1, False, view, Calls({}, ()))
    taken = look(counting, standing, utcnow())
    counting.end(call)
    name = families.REQUESTS.name
    assert taken.counts[name] == {}
    assert sum(look(counting, standing, utcnow()).counts[name].values()) == 1
