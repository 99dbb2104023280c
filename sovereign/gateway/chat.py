"""The story of one chat call, from knock to last byte.

    identify → read → find the subject → choose an endpoint → record the decision
      → translate → wait for a turn → proxy → meter → record the completion → let the last byte go

The decision's record is acknowledged before the first byte of the answer leaves, the
completion's before the last. The upstream call runs meanwhile: what is lost in a crash was
never answered. If either cannot be recorded, nothing (more) is answered.
"""

import asyncio
import hashlib
import hmac
import time
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from sovereign.engines import ENGINES, ChatContext
from sovereign.gateway import wish as wishes
from sovereign.gateway.call import JSON, SSE, Call, ClientGone, Headers
from sovereign.gateway.choose import UNKNOWN, Choice, choose
from sovereign.gateway.identify import identify
from sovereign.gateway.records import Ending, Recording
from sovereign.gateway.refusal import Denied
from sovereign.gateway.relay import DONE, Relay
from sovereign.gateway.turns import Turns
from sovereign.gateway.upstream import Answer, Upstreams
from sovereign.gateway.view import View
from sovereign.gateway.wish import Wish
from sovereign.keystore import Key
from sovereign.policy import Policy
from sovereign.registry import Endpoint, utcnow
from sovereign.settings import GatewaySettings
from sovereign.subjects import HEADER, pseudonym, stated

LAST_WORDS_S = 1.0


@dataclass(frozen=True, slots=True)
class Bench:
    """What every call works with: the policy, the bounds, the log and the way to engines."""

    policy: Policy
    bounds: GatewaySettings
    recording: Recording
    upstreams: Upstreams
    turns: Turns


@dataclass(frozen=True, slots=True)
class Admitted:
    """A call that may be answered: by whom, for whom, under which record."""

    key: Key
    wish: Wish
    endpoint: Endpoint
    model: str
    record: str
    salt: str
    ending: Ending


async def chat(bench: Bench, view: View, call: Call) -> None:
    """Answer one `POST /v1/chat/completions`.

    Raises:
        Denied: any refusal; nothing was sent to the client yet.
        ClientGone: the client hung up; the completion says so if there was a decision.
    """
    key = identify(call, view.known, utcnow())
    raw = await call.body(
        max_bytes=bench.bounds.body_max_bytes, timeout_s=bench.bounds.body_timeout_s
    )
    wish = await _read(bench, call, key, raw)
    admitted = await admit(bench, view, call, key, wish)
    call.record = admitted.record
    try:
        await _answer(bench, call, admitted)
    except Denied as denied:
        denied.record = admitted.record
        await admitted.ending.record(denied.code, denied.status)
        if call.answered:
            await _last_words(call, denied)
        raise
    except ClientGone:
        await admitted.ending.record("client-gone", 499)
        raise
    except asyncio.CancelledError:
        await admitted.ending.record("interrupted", 503)
        raise
    except Exception:
        await admitted.ending.record("broken", 500)
        raise


async def _read(bench: Bench, call: Call, key: Key, raw: bytes) -> Wish:
    """Read what the client wants; a rule that refuses it already here is a decision too.

    Raises:
        Denied: it cannot be read, which decides nothing; or a rule refuses it, and the refusal
            is recorded. Its model is not: it is only known once all of it was read.
    """
    try:
        return wishes.read(raw, call.dialect)
    except Denied as denied:
        if denied.rule:
            because = denied.message  # our sentence: of a rule's refusal it quotes nothing
            choice = Choice(UNKNOWN, None, denied.code, denied.rule, because, utcnow())
            recorded = await bench.recording.decision(key, "", choice, bench.policy.digest)
            denied.record = recorded.name
        raise


async def _answer(bench: Bench, call: Call, admitted: Admitted) -> None:
    """Proxy within the time one answer may take, for as long as the client stays."""
    try:
        async with asyncio.timeout(bench.bounds.request_timeout_s), call.while_client_stays():
            await _proxy(bench, call, admitted)
    except TimeoutError:
        raise Denied("engine-timed-out", "the answer took too long") from None


async def _last_words(call: Call, denied: Denied) -> None:
    """The headers are out: the stream ends with an error event, and without the end marker."""
    error = {"object": "error", "type": denied.code, "code": denied.code, "record": denied.record}
    last = b"data: " + msgspec.json.encode({"error": error}) + b"\n\n"
    with suppress(TimeoutError):  # a client that does not read gets none
        async with asyncio.timeout(LAST_WORDS_S):
            await call.write(last, more=False)


async def admit(bench: Bench, view: View, call: Call, key: Key, wish: Wish) -> Admitted:
    """Decide, and have the decision on disk, before anything is sent anywhere.

    Raises:
        Denied: the subject is missing, or no endpoint may answer; the refusal is recorded.
    """
    started, now = time.monotonic(), utcnow()
    subject = _subject(call, key, wish, view.known.secrets)
    choice = choose(bench.policy, key, wish.model, view.snapshot.endpoints, now)
    if subject is None:
        code = "subject-missing"
        choice = Choice(choice.model, None, code, code, _no_subject(key), choice.asked_at)
    sealed = view.known.sealed(key.tenant, subject) if subject else ""
    recorded = await bench.recording.decision(key, sealed, choice, bench.policy.digest)
    if choice.code or choice.endpoint is None:
        raise Denied(choice.code, choice.because, rule=choice.rule, record=recorded.name)
    return Admitted(
        key=key,
        wish=wish,
        endpoint=choice.endpoint,
        model=choice.model,
        record=recorded.name,
        salt=_cache_salt(view.known.secrets[key.tenant]),
        ending=Ending(bench.recording, recorded, started),
    )


def _subject(call: Call, key: Key, wish: Wish, secrets: dict[str, bytes]) -> str | None:
    """The pseudonym, "" when the key serves no person, None when it is declared but missing."""
    if key.subject == "none":
        return ""
    said = stated(key.subject, call.header(HEADER.encode()), wish.body)
    return None if said is None else pseudonym(secrets[key.tenant], said)


def _no_subject(key: Key) -> str:
    where = {
        "header": f"the header {HEADER}",
        "user": "the field `user`",
        "metadata": "`metadata.subject`",
    }[key.subject]
    return f"the key {key.id} declares that its data subject comes in {where}; it was not there"


def _cache_salt(secret: bytes) -> str:
    """Keeps one tenant's cached prefixes from another's; not the secret, and not the name."""
    return hmac.new(secret, b"cache-salt", hashlib.sha256).hexdigest()


async def _proxy(bench: Bench, call: Call, admitted: Admitted) -> None:
    context = ChatContext(
        served_name=admitted.model, dialect=call.dialect, tenant_salt=admitted.salt
    )
    upstream = ENGINES[admitted.endpoint.engine].chat(admitted.wish.body, context)
    labels = _labels(bench, admitted, upstream.dropped)
    async with (
        bench.turns.take(admitted.endpoint, admitted.wish.choices),
        bench.upstreams.post(admitted.endpoint.address, upstream) as answer,
    ):
        if answer.status != 200:
            await _refuse_with(answer)
        if admitted.wish.stream:
            await _stream(bench, call, admitted, answer, labels)
        else:
            await _whole(bench, call, admitted, answer, labels)


async def _refuse_with(answer: Answer) -> None:
    if answer.status == 503:  # a model that is still loading, a queue that is full
        raise Denied("engine-unhealthy", "the engine says that it is not ready")
    if not 400 <= answer.status < 500:
        raise Denied("engine-failed", f"the engine answered {answer.status}")
    said = await answer.message()
    raise Denied("engine-refused", said, status=answer.status if answer.status != 401 else 502)


async def _whole(
    bench: Bench, call: Call, admitted: Admitted, answer: Answer, labels: Headers
) -> None:
    body = await answer.read(bench.bounds.answer_max_bytes)
    try:
        content = msgspec.json.decode(body)
        usage, finish = content.get("usage"), content["choices"][0].get("finish_reason")
    except (ValueError, RecursionError, AttributeError, LookupError, TypeError):
        raise Denied("engine-failed", "the engine's answer is not a chat completion") from None
    await admitted.ending.record("answered", 200, usage, finish)
    await call.respond(200, body, [*JSON, *labels])


async def _stream(
    bench: Bench, call: Call, admitted: Admitted, answer: Answer, labels: Headers
) -> None:
    relay = Relay(call.dialect, wants_usage=admitted.wish.wants_usage)
    await call.start(200, [*SSE, *labels])
    await _pump(bench, call, relay, answer)
    await admitted.ending.record("answered", 200, relay.usage, relay.finish)
    await call.write(relay.rest() + DONE, more=False)


async def _pump(bench: Bench, call: Call, relay: Relay, answer: Answer) -> None:
    """Pass everything on up to the end marker.

    Raises:
        Denied: the engine said too much, nonsense, an error, or broke off.
    """
    size = 0
    async for data in answer.chunks():
        size += len(data)
        if size > bench.bounds.answer_max_bytes:
            raise Denied("answer-too-large", "the answer is too large")
        try:
            out = relay.feed(data)
        except (ValueError, RecursionError, AttributeError, TypeError):
            raise Denied("engine-failed", "the engine's stream is not one of chunks") from None
        if relay.failed:
            raise Denied("engine-failed", "the engine reported an error")
        if out:
            await call.write(out, more=True)
        if relay.done:
            return
    raise Denied("engine-failed", "the engine's stream has no end")


def _labels(bench: Bench, admitted: Admitted, dropped: tuple[str, ...]) -> Headers:
    labels = [
        (b"x-sovereign-record", admitted.record.encode()),
        (b"x-sovereign-place", admitted.endpoint.place.encode()),
        (b"x-sovereign-policy", bench.policy.digest.encode()),
    ]
    if dropped:  # fields the client sent and this engine cannot honour
        labels.append((b"x-sovereign-dropped", ", ".join(dropped).encode()))
    return labels
