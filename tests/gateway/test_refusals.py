"""Every way the gateway says no: reached for real, in both dialects, and recorded or counted."""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sovereign.gateway.choose import UNKNOWN
from sovereign.gateway.refusal import MISTRALS_OWN, RETRY_AFTER_S, STATUS
from sovereign.keystore import Restriction
from sovereign.registry import utcnow
from sovereign.subjects import HEADER, pseudonym
from tests.access.refusing import ACCESS, RULE
from tests.gateway.limiting import BUDGET, LIMITING
from tests.gateway.site import CHAT, EEA, OPENAI, Reply, Site, disks, site
from tests.identity.refusing import IDENTITY
from tests.simulated.disk import Fault
from tests.simulated.engine import MODEL, Engine, Exchange, completion, engine, saying

TINY = "tiny-mixtral"
Case = Callable[[Site, Engine, dict[str, str]], Awaitable[Reply]]
IMAGE = {"type": "image_url", "image_url": "http://192.0.2.1/x.png"}
RETRIED_BY_SDKS = {408, 409, 429, 500, 502, 503, 504}


async def no_key(ours: Site, it: Engine, headers: dict[str, str]) -> Reply:
    return await ours.ask("POST", CHAT, headers, [b"{}"])


async def revoked_key(ours: Site, it: Engine, headers: dict[str, str]) -> Reply:
    (known,) = ours.keystore.known().keys.values()
    ours.keystore.revoke(known.id, utcnow())
    await ours.seen()
    return await ours.chat(headers=headers)


async def unknown_route(ours: Site, it: Engine, headers: dict[str, str]) -> Reply:
    return await ours.ask("POST", "/v1/responses", headers)


async def unknown_method(ours: Site, it: Engine, headers: dict[str, str]) -> Reply:
    return await ours.ask("DELETE", CHAT, headers)


def raw(body: bytes, *more: bytes) -> Case:
    async def case(ours: Site, it: Engine, headers: dict[str, str]) -> Reply:
        asked = {"authorization": f"Bearer {ours.secret}", **headers}
        return await ours.ask("POST", CHAT, asked, [body, *more])

    return case


async def slow_body(ours: Site, it: Engine, headers: dict[str, str]) -> Reply:
    sent = Reply()

    async def receive() -> Any:
        await asyncio.sleep(20)

    async def send(message: Any) -> None:
        from tests.gateway.site import Moment

        sent.moments.append(Moment(message, []))

    pairs = {"authorization": f"Bearer {ours.secret}", **headers}.items()
    scope = {
        "type": "http",
        "method": "POST",
        "path": CHAT,
        "headers": [(n.encode(), v.encode()) for n, v in pairs],
    }
    await ours.gateway(scope, receive, send)
    return sent


def chat(**more: Any) -> Case:
    async def case(ours: Site, it: Engine, headers: dict[str, str]) -> Reply:
        return await ours.chat(headers=headers, **more)

    return case


def asking(route: str, **body: Any) -> Case:
    """A call of another kind than a chat, to an engine that serves the tiny model, too."""

    async def case(ours: Site, it: Engine, headers: dict[str, str]) -> Reply:
        ours.endpoint(it.address, engine="vllm", models=(MODEL, TINY))
        await ours.seen()
        asked = {"authorization": f"Bearer {ours.secret}", **headers}
        return await ours.ask("POST", route, asked, [msgspec.json.encode(body)])

    return case


async def fim_without_ids(ours: Site, it: Engine, headers: dict[str, str]) -> Reply:
    """The facts name no tokenizer, and the engine is one that has no markers of its own."""
    models = dict(EEA.models)
    models[TINY] = msgspec.structs.replace(models[TINY], fim_tokenizer="")
    assert ours.gateway._bench is not None
    policy = replace(EEA, models=models)
    ours.gateway._bench = replace(ours.gateway._bench, policy=policy)
    return await asking("/v1/fim/completions", model=TINY, prompt="x")(ours, it, headers)


def with_key(**bound: Any) -> Case:
    async def case(ours: Site, it: Engine, headers: dict[str, str]) -> Reply:
        secret = ours.key(**bound)
        await ours.seen()
        return await ours.chat(secret=secret, headers=headers)

    return case


async def restricted_person(ours: Site, it: Engine, headers: dict[str, str]) -> Reply:
    """She had the use of her data restricted, for the purpose of this key (GDPR Art. 18)."""
    secret = ours.key(subject="header")
    hers = pseudonym(ours.keystore.known().secrets["acme"], "ann")
    ours.keystore.restrict(Restriction("res_1", "acme", hers, "tests"))
    ours.keystore.restrict(Restriction("res_2", "acme", hers[::-1]))
    await ours.seen()
    return await ours.chat(secret=secret, headers={**headers, HEADER: "ann"})


def with_endpoint(**said: Any) -> Case:
    async def case(ours: Site, it: Engine, headers: dict[str, str]) -> Reply:
        ours.endpoint(it.address, **said)
        await ours.seen()
        return await ours.chat(headers=headers)

    return case


def with_script(content: object, status: int = 200) -> Case:
    async def case(ours: Site, it: Engine, headers: dict[str, str]) -> Reply:
        it.script = saying(content, status)
        return await ours.chat(headers=headers)

    return case


async def silent_engine(ours: Site, it: Engine, headers: dict[str, str]) -> Reply:
    async def silent(exchange: Exchange) -> None:
        await exchange.hung_up(20)

    it.script = silent
    return await ours.chat(headers=headers)


async def one_too_many(ours: Site, it: Engine, headers: dict[str, str]) -> Reply:
    free = asyncio.Event()

    async def waiting(exchange: Exchange) -> None:
        await free.wait()
        await exchange.answer(completion("x"))

    it.script = waiting
    running = asyncio.create_task(ours.chat())
    await it.was_asked()
    reply = await ours.chat(headers=headers)
    free.set()
    await running
    return reply


async def broken_disk(ours: Site, it: Engine, headers: dict[str, str]) -> Reply:
    assert ours.disks is not None
    ours.disks["event"].fail(Fault(0, errno.EIO, None, "fdatasync"))
    return await ours.chat(headers=headers)


CASES: dict[str, Case] = {
    "key-missing-or-unknown": no_key,
    "key-inactive": revoked_key,
    **IDENTITY,
    **ACCESS,
    "route-unknown": unknown_route,
    "method-unknown": unknown_method,
    "body-unreadable": raw(b"{"),
    "body-too-large": raw(b" " * 2048, b"{}"),
    "body-too-slow": slow_body,
    "field-unknown": chat(odd_field=1),
    "field-invalid": chat(temperature="hot"),
    "remote-content-refused": chat(messages=[{"role": "user", "content": [IMAGE]}]),
    "subject-missing": with_key(subject="header"),
    "subject-restricted": restricted_person,
    "model-unknown": chat(model="gpt-9"),
    "model-not-bound": with_key(models=("tiny-mixtral",)),
    "embeddings-not-enabled": asking("/v1/embeddings", model=MODEL, input="x"),
    "fim-not-enabled": asking("/v1/fim/completions", model=MODEL, prompt="x"),
    "fim-not-possible": fim_without_ids,
    "residency-refused": with_endpoint(place="aws:eu-central-1"),
    "attestation-expired": with_endpoint(expires_at=utcnow() - timedelta(seconds=1)),
    "endpoint-quarantined": with_endpoint(quarantine="telemetry-on", reason="a switch is off"),
    "licence-refused": with_endpoint(quarantine="licence-refused", reason="it ended"),
    "too-many-requests": one_too_many,
    **LIMITING,
    "engine-refused": with_script({"error": {"message": "too long"}}, 400),
    "engine-unhealthy": with_endpoint(address="127.0.0.1:9"),
    "engine-failed": with_script(b"", 500),
    "engine-timed-out": silent_engine,
    "answer-too-large": with_script(completion("x" * 4000)),
    "log-unwritable": broken_disk,
    "broken": with_endpoint(engine="an-engine-of-tomorrow"),
}

DECIDED_NO = {
    "remote-content-refused": "remote-content-refused",
    "subject-missing": "subject-missing",
    "subject-restricted": "subject-restricted",
    "model-unknown": "model-unknown",
    "model-not-bound": "key-binding",
    "access-refused": RULE,
    "budget-exhausted": BUDGET,
    "embeddings-not-enabled": "embeddings-not-enabled",
    "fim-not-enabled": "fim-not-enabled",
    "residency-refused": "personal-data-stays-in-eea",
    "attestation-expired": "attestation-is-fresh",
    "endpoint-quarantined": "telemetry-on",
    "licence-refused": "licence-refused",
}
"""Refusals that are decisions, with the rule that gave each; they are records of their own."""
BROKEN_OFF = {
    "fim-not-possible",
    "engine-refused",
    "engine-unhealthy",
    "engine-failed",
    "engine-timed-out",
    "answer-too-large",
    "broken",
}
"""What happens after a decision to allow; the record is the decision's, and an ending follows."""


def test_every_code_there_is_has_a_case_here_and_no_other() -> None:
    """A code that cannot be reached is dead, and a runbook for it would be fiction."""
    assert set(CASES) == set(STATUS)


async def refused(tmp_path: Path, code: str, headers: dict[str, str]) -> tuple[Reply, Site]:
    bounds = {
        "body_max_bytes": 1024,
        "body_timeout_s": 1,
        "request_timeout_s": 1 if code == "engine-timed-out" else 30,
        "answer_max_bytes": 2048,
        "concurrency_max": 1,
    }
    async with engine() as it, site(tmp_path, it.address, disks(), **bounds) as ours:
        return await CASES[code](ours, it, headers), ours


@pytest.mark.parametrize("headers", [{}, OPENAI], ids=["mistral", "openai"])
@pytest.mark.parametrize("code", CASES)
async def test_every_refusal_is_in_the_envelope_its_client_parses(
    tmp_path: Path, code: str, headers: dict[str, str]
) -> None:
    """An SDK that cannot read the error shows its user a stack trace instead of a reason."""
    reply, _ = await refused(tmp_path, code, headers)
    assert reply.status == STATUS[code]
    assert reply.headers["content-type"] == "application/json"
    body = reply.json
    if code in MISTRALS_OWN and not headers:
        assert set(body) == {"object", "message", "type", "param", "code"}
        assert (body["message"], body["type"], body["code"]) == MISTRALS_OWN[code]
        return
    if headers:
        assert set(body) == {"error"}
        error = body["error"]
    else:
        error = body
        assert error.pop("object") == "error"
        assert ("detail" in error) is (reply.status == 422)
        error.pop("detail", None)
    assert {"message", "type", "param", "code"} <= set(error)
    assert set(error) <= {"message", "type", "param", "code", "rule", "record"}
    assert error["type"] == error["code"] == code
    assert error["message"]


@pytest.mark.parametrize("code", CASES)
async def test_what_goes_with_a_refusal(tmp_path: Path, code: str) -> None:
    """RFC 9110: 401 says how to identify, 405 what is allowed; ours: 503 and 429 say when."""
    reply, _ = await refused(tmp_path, code, {})
    wanted = {401: {"www-authenticate": "Bearer"}, 405: {"allow": "POST"}}.get(reply.status, {})
    if code in RETRY_AFTER_S:
        wanted = {"retry-after": str(RETRY_AFTER_S[code])}
    record = reply.error.get("record") or reply.headers.get("x-sovereign-record")
    if record:
        wanted = {**wanted, "x-sovereign-record": record}
    if code in ("rate-limited", "budget-exhausted"):  # they say what is left, and come back when
        wanted |= {n: v for n, v in reply.headers.items() if n[:6] in ("x-rate", "retry-")}
    own = {"content-type", "content-length"}
    own |= {n for n in reply.headers if n[:6] == "x-rate" and code == "limits-unreachable"}
    assert {n: v for n, v in reply.headers.items() if n not in own} == wanted
    assert (reply.status in (402, 429, 503)) is ("retry-after" in reply.headers)


@pytest.mark.parametrize("code", CASES)
async def test_a_refusal_names_the_record_that_holds_it_or_is_counted(
    tmp_path: Path, code: str
) -> None:
    """Nothing is refused without a trace, and nobody without a key can fill the disk."""
    reply, ours = await refused(tmp_path, code, {})
    decisions, endings = ours.kinds("decision"), ours.kinds("completion")
    sums = [r for r in ours.records("security") if r["type"] == "refusals"]
    counted = {(r["code"], r["count"]) for r in sums}
    if code in DECIDED_NO:
        assert [(d["verdict"], d["rule"]) for d in decisions] == [("refuse", DECIDED_NO[code])]
        assert reply.error.get("rule", DECIDED_NO[code]) == DECIDED_NO[code]
        assert endings == []
        assert counted == set()
    elif code in BROKEN_OFF:
        assert [d["verdict"] for d in decisions] == ["allow"]
        outcomes = [(e["outcome"], e["status"]) for e in endings]
        assert outcomes == [(code, STATUS[code])]
        assert counted == set()
    else:
        assert counted == {(code, 1)}
        assert "record" not in reply.error
        assert "rule" not in reply.error  # what a rule refuses is a decision
    if code in DECIDED_NO or code in BROKEN_OFF:
        name, _, index = reply.headers["x-sovereign-record"].partition("#")
        assert name == "local/gateway/event"
        assert ours.records()[int(index) - 1] == decisions[0]


async def test_a_rule_that_refuses_before_a_model_is_known_is_recorded_without_the_clients_words(
    tmp_path: Path,
) -> None:
    """Who sent an address to fetch from, under which policy; not the address, nor anything else."""
    image = {"type": "image_url", "image_url": "http://192.0.2.1/SECRET-WORD.png"}
    async with engine() as it, site(tmp_path, it.address) as ours:
        reply = await ours.chat(
            model="SECRET-WORD", messages=[{"role": "user", "content": [image]}]
        )
        assert b"SECRET-WORD" not in reply.body
        (decision,) = ours.kinds("decision")
        assert "SECRET-WORD" not in str(decision)
        said = (decision["tenant"], decision["model"], decision["policy"], decision["verdict"])
        assert said == ("acme", UNKNOWN, EEA.digest, "refuse")
        assert not decision.keys() & {"endpoint", "listener", "place", "subject"}
        assert (await ours.chat(temperature="hot")).status == 422
        assert len(ours.kinds("decision")) == 1
        assert it.asked == []


async def test_a_rules_refusal_that_cannot_be_recorded_is_not_given(tmp_path: Path) -> None:
    """The client is told that the log is at fault, and never a record that is not there."""
    async with engine() as it, site(tmp_path, it.address, disks()) as ours:
        assert ours.disks is not None
        ours.disks["event"].fail(Fault(0, errno.EIO, None, "fdatasync"))
        reply = await ours.chat(messages=[{"role": "user", "content": [IMAGE]}])
        assert (reply.status, reply.error["code"]) == (503, "log-unwritable")
        assert "record" not in reply.error


def test_no_policy_refusal_is_of_a_kind_that_sdks_repeat() -> None:
    """A client that tries again three times makes four records of one refusal."""
    for code in DECIDED_NO:
        assert 400 <= STATUS[code] < 500
        assert STATUS[code] not in RETRIED_BY_SDKS


async def test_a_field_nobody_knows_is_refused_in_mistrals_own_words(tmp_path: Path) -> None:
    """Their SDK turns `detail` into a validation error; the value is never repeated."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        reply = await ours.chat(max_completion_tokens=4711)
        assert reply.status == 422
        (detail,) = reply.json["detail"]
        assert detail["type"] == "extra_forbidden"
        assert detail["loc"] == ["body", "max_completion_tokens"]
        assert b"4711" not in reply.body


async def test_the_engines_own_status_and_words_reach_the_client_but_never_its_401(
    tmp_path: Path,
) -> None:
    """401 would tell an application that its key of ours is bad."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        for theirs, ours_is in ((400, 400), (404, 404), (413, 413), (401, 502), (302, 502)):
            it.script = saying({"error": {"message": "as they say"}}, theirs)
            reply = await ours.chat()
            assert reply.status == ours_is
            assert (b"as they say" in reply.body) is (theirs != 302)


async def test_an_engine_that_says_it_is_not_ready_is_one_to_come_back_to(tmp_path: Path) -> None:
    """llama.cpp answers so while it loads its model: the client should wait, not give up."""
    async with engine(saying({"error": "loading"}, 503)) as it, site(tmp_path, it.address) as ours:
        reply = await ours.chat()
        assert (reply.status, reply.error["code"]) == (503, "engine-unhealthy")
        assert reply.headers["retry-after"] == "5"


async def test_an_engine_that_goes_away_with_the_request_is_one_to_come_back_to(
    tmp_path: Path,
) -> None:
    """It died, or was restarted under a connection that we had kept."""

    async def gone(exchange: Exchange) -> None:
        exchange.cut()

    async with engine(gone) as it, site(tmp_path, it.address) as ours:
        reply = await ours.chat()
        assert (reply.status, reply.error["code"]) == (503, "engine-unhealthy")


async def test_an_engine_that_speaks_no_http_has_failed(tmp_path: Path) -> None:
    """Something else listens there."""

    async def odd(exchange: Exchange) -> None:
        await exchange.say(b"220 mail.example ESMTP\r\n")

    async with engine(odd) as it, site(tmp_path, it.address) as ours:
        reply = await ours.chat()
        assert (reply.status, reply.error["code"]) == (502, "engine-failed")


@pytest.mark.parametrize("said", [b"", b"[", b"\xff", b"[" * 5000, b'{"error":7}', b"[1]", b"null"])
async def test_an_engine_that_refuses_without_words_is_given_some(
    tmp_path: Path, said: bytes
) -> None:
    """Whatever stands in its body, the client gets an envelope."""
    async with engine(saying(said, 400)) as it, site(tmp_path, it.address) as ours:
        reply = await ours.chat()
        assert (reply.status, reply.error["message"]) == (400, "the engine refused")


async def test_a_model_name_that_is_content_is_not_recorded(tmp_path: Path) -> None:
    """The name is the client's to choose, and it may be a sentence about a patient."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        reply = await ours.chat(model="Ms Example has diabetes")
        assert reply.status == 404
        assert ours.kinds("decision")[0]["model"] == "unknown"


async def test_a_known_model_that_nobody_serves_is_recorded_by_its_name(tmp_path: Path) -> None:
    """The operator wants to see what is asked for in vain."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        assert (await ours.chat(model="tiny-mixtral")).error["code"] == "model-unknown"
        assert ours.kinds("decision")[0]["model"] == "tiny-mixtral"


async def test_refusals_before_identity_are_one_record_a_source_and_code(tmp_path: Path) -> None:
    """A thousand knocks are one line; the source is a pseudonym that ends with the process."""
    async with site(tmp_path, disks=disks()) as ours:
        for _ in range(50):
            await ours.ask("GET", "/nothing-here")
            await ours.ask("POST", CHAT)
        assert ours.records("security") == ours.records("security")[:1]
    sums = [r for r in ours.records("security") if r["type"] == "refusals"]
    assert {(r["code"], r["count"]) for r in sums} == {
        ("route-unknown", 50),
        ("key-missing-or-unknown", 50),
    }
    assert len({r["source"] for r in sums}) == 1
    assert all("203.0.113" not in r["source"] for r in sums)


async def test_what_breaks_is_one_line_with_a_class_and_no_content(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An exception's text may hold the prompt; its class is enough to find the bug."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        ours.endpoint(it.address, engine="an-engine-of-tomorrow")
        await ours.seen()
        reply = await ours.chat(messages=[{"role": "user", "content": "CANARY"}])
        assert reply.status == 500
    said = capsys.readouterr().err
    assert '"event":"broken"' in said
    assert '"exception":"KeyError"' in said
    assert "CANARY" not in said
    assert "Traceback" not in said
    assert MODEL not in said
