"""The story of one call to a model, from knock to last byte, whatever its kind.

    identify → read → take from the limits → find the subject → choose an endpoint
      → record the decision → translate → wait for a turn → proxy → meter
      → record the completion → let the last byte go

What is special about a chat or a fill in the middle is in its `Kind`; nothing here knows.

The decision's record is acknowledged before the first byte of the answer leaves, the
completion's before the last. The upstream call runs meanwhile: what is lost in a crash was
never answered. If either cannot be recorded, nothing (more) is answered.
"""

import asyncio
import hmac
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from sovereign.engines import ENGINES, ChatContext, Upstream, gathered
from sovereign.gateway import lastwords
from sovereign.gateway.aliases import Names
from sovereign.gateway.call import JSON, SSE, Call, ClientGone, Headers
from sovereign.gateway.callers.identify import identify
from sovereign.gateway.choose import UNKNOWN, Choice
from sovereign.gateway.entitle import Entitling
from sovereign.gateway.kinds.kind import NONSENSE, Kind, Sent, Stream, able
from sovereign.gateway.kinds.relay import DONE
from sovereign.gateway.kinds.wish import Wish
from sovereign.gateway.limiting.limit import Limiter, Taken
from sovereign.gateway.limiting.turns import Turns
from sovereign.gateway.records import Ending, Recording
from sovereign.gateway.refusal import Denied
from sovereign.gateway.replicas.seats import Replicas, Seat
from sovereign.gateway.seen.course import Course
from sovereign.gateway.upstream import Answer, Exchange, NotSent, Upstreams
from sovereign.gateway.view import View
from sovereign.keystore import Key
from sovereign.policy import Policy
from sovereign.registry import Endpoint, utcnow
from sovereign.settings import GatewaySettings
from sovereign.subjects import HEADER, OIDC_SUB, pseudonym, stated

LAST_WORDS_S = 1.0
NOT_IMPLEMENTED = 501
"""llama.cpp's word for what a model cannot do; asking again will not help."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What every call works with: the policy, the bounds, the log and the way to engines."""

    policy: Policy
    bounds: GatewaySettings
    recording: Recording
    upstreams: Upstreams
    turns: Turns
    replicas: Replicas
    entitling: Entitling
    names: Names
    limits: Limiter | None
    latest: Callable[[], View]


@dataclass(slots=True)
class Admitted:
    """A call that may be answered: by whom, for whom, under which record.

    `chunks` counts what was passed on of a stream.
    """

    kind: Kind
    key: Key
    wish: Wish
    endpoint: Endpoint
    model: str
    record: str
    salt: str
    ending: Ending
    seat: Seat
    course: Course
    moves: str
    hold: Taken | None = None
    chunks: int = 0

    def moves_to(self, other: "Admitted") -> None:
        """Nothing could be sent: from now on it is the other endpoint, its record and its end."""
        self.endpoint, self.model, self.salt = other.endpoint, other.model, other.salt
        self.record, self.ending, self.seat = other.record, other.ending, other.seat


async def tell(kind: Kind, bench: Bench, view: View, call: Call) -> None:
    """Answer one call of this kind.

    Raises:
        Denied: any refusal; nothing was sent to the client yet.
        ClientGone: the client hung up; the completion says so if there was a decision.
    """
    key = await identify(call, view, utcnow())
    raw = await call.body(
        max_bytes=bench.bounds.body_max_bytes, timeout_s=bench.bounds.body_timeout_s
    )
    if (latest := bench.latest()) is not view:  # while it came, somebody may have been shut out
        view, key = latest, await identify(call, latest, utcnow())
    wish = await _read(kind, bench, call, key, raw)
    if bench.limits is not None:  # before anything is decided
        await bench.limits.take(kind.name, call, key, wish, len(raw))
    with bench.replicas.seat() as seat:
        admitted = await admit(kind, bench, view, call, key, wish, seat)
    call.record = admitted.record
    try:
        await _answer(bench, view, call, admitted)
    except Denied as denied:
        denied.record = admitted.record
        await _end(bench, admitted, denied.code, denied.status)
        if call.answered:
            await _last_words(call, admitted, denied)
        raise
    except ClientGone:
        await _end(bench, admitted, "client-gone", 499)
        raise
    except asyncio.CancelledError:
        await _end(bench, admitted, "interrupted", 503)
        raise
    except Exception:
        await _end(bench, admitted, "broken", 500)
        raise


async def _end(
    bench: Bench,
    admitted: Admitted,
    outcome: str,
    status: int,
    usage: object = None,
    finish: object = "",
) -> None:
    """Every call that was let through ends here, however it ends.

    Raises:
        Denied: the log cannot be written, so nothing more may be answered.
    """
    admitted.seat.leave(outcome)
    if usage is None and admitted.chunks > 1:  # cut short: the first chunk names a role
        usage = {"completion_tokens": admitted.chunks - 1}
    if admitted.hold is not None:
        admitted.hold.ended(outcome, usage)
    admitted.course.ends(usage, finish)
    await admitted.ending.record(outcome, status, usage, finish)
    admitted.course.has_ended()


async def _read(kind: Kind, bench: Bench, call: Call, key: Key, raw: bytes) -> Wish:
    """Read what the client wants; a rule that refuses it already here is a decision too.

    Raises:
        Denied: it cannot be read, which decides nothing; or a rule refuses it, and the refusal
            is recorded. Its model is not: it is only known once all of it was read.
    """
    try:
        wish = kind.read(raw, call.dialect)
        call.dialect = wish.dialect or call.dialect
        return wish
    except Denied as denied:
        if denied.rule:
            because = denied.message  # our sentence: of a rule's refusal it quotes nothing
            choice = Choice(UNKNOWN, None, denied.code, denied.rule, because, utcnow())
            recorded = await bench.recording.decision(
                key, "", choice, bench.policy.digest, kind.name
            )
            denied.record = recorded.name
        raise


async def _answer(bench: Bench, view: View, call: Call, admitted: Admitted) -> None:
    """Proxy within the time one answer may take, for as long as the client stays.

    Where nothing could be sent, another endpoint that may answer is asked, by a new decision.
    """
    try:
        async with asyncio.timeout(bench.bounds.request_timeout_s):
            with call.while_client_stays():
                while not await _sent(bench, call, admitted):
                    await _whole_move(bench, view, call, admitted)
    except TimeoutError:
        raise Denied("engine-timed-out", "the answer took too long") from None


async def _sent(bench: Bench, call: Call, admitted: Admitted) -> bool:
    """Proxy. False when nothing was sent, and another endpoint may be asked instead."""
    try:
        await _proxy(bench, call, admitted)
    except NotSent:
        if not admitted.seat.another_may():
            raise
        return False
    return True


async def _whole_move(bench: Bench, view: View, call: Call, admitted: Admitted) -> None:
    """Go to another endpoint; being interrupted leaves no decision without its ending."""
    moving = asyncio.ensure_future(_move(bench, view, call, admitted))
    try:
        await asyncio.shield(moving)
    except asyncio.CancelledError:
        await asyncio.wait([moving])  # two records
        moving.exception()  # nobody is left to be told of it
        raise


async def _move(bench: Bench, view: View, call: Call, admitted: Admitted) -> None:
    """Decide anew, without the endpoints that were tried, and end the decision before."""
    kind, wish, view = admitted.kind, admitted.wish, bench.latest()
    key = await identify(call, view, utcnow())  # it may have waited in a line
    with bench.replicas.seat(admitted.seat.tried, admitted.ending.decision) as seat:
        other = await admit(kind, bench, view, call, key, wish, seat)
    left, ending = admitted.seat, admitted.ending
    admitted.moves_to(other)
    call.record = other.record
    left.leave("engine-unhealthy")
    await ending.record("not-sent", 503)


async def _last_words(call: Call, admitted: Admitted, denied: Denied) -> None:
    """The headers are out: the stream ends with an error event, and without the end marker."""
    choices = admitted.wish.choices
    last = lastwords.event(admitted.kind.name, admitted.model, choices, denied)
    with suppress(TimeoutError):  # a client that does not read gets none
        async with asyncio.timeout(LAST_WORDS_S):
            await call.write(last, more=False)


async def admit(
    kind: Kind, bench: Bench, view: View, call: Call, key: Key, wish: Wish, seat: Seat
) -> Admitted:
    """Decide, and have the decision on disk, before anything is sent anywhere.

    Raises:
        Denied: the subject is missing, or no endpoint may answer; the refusal is recorded.
    """
    started, now = time.monotonic(), utcnow()
    subject = _subject(call, key, wish, view.known.secrets)
    entitled = partial(bench.entitling.narrow, key, kind.name)
    name = bench.names.meant(wish.model, now)
    secret = view.known.secrets[key.tenant]
    choice = seat.choose(
        *(key, name, view.snapshot.endpoints, now),
        secret=secret,
        body=wish.body,
        entitled=entitled,
    )
    choice = able(kind.needs(wish), bench.policy.models, choice)
    if subject is None:
        code = "subject-missing"
        choice = Choice(choice.model, None, code, code, _no_subject(key), choice.asked_at)
    call.course.was_decided(kind.name, choice, streams=wish.stream)
    sealed = view.known.sealed(key.tenant, subject) if subject else ""
    recorded = await bench.recording.decision(
        *(key, sealed, choice, bench.policy.digest, kind.name), after=seat.after
    )
    call.course.was_recorded(recorded.name)
    if choice.code or choice.endpoint is None:
        raise Denied(choice.code, choice.because, rule=choice.rule, record=recorded.name)
    if call.hold is not None:
        call.hold.decided(recorded.index)
    return Admitted(
        kind=kind,
        key=key,
        wish=wish,
        endpoint=choice.endpoint,
        model=choice.model,
        record=recorded.name,
        salt=_cache_salt(secret),
        ending=Ending(bench.recording, recorded, started),
        seat=seat,
        course=call.course,
        moves=bench.names.announced(wish.model, now),
        hold=call.hold,
    )


def _subject(call: Call, key: Key, wish: Wish, secrets: dict[str, bytes]) -> str | None:
    """The pseudonym, "" when the key serves no person, None when it is declared but missing."""
    if key.subject == "none":
        return ""
    said = (
        call.token_subject or None
        if key.subject == OIDC_SUB
        else stated(key.subject, call.header(HEADER.encode()), wish.body)
    )
    return None if said is None else pseudonym(secrets[key.tenant], said)


def _no_subject(key: Key) -> str:
    where = {
        "header": f"the header {HEADER}",
        "user": "the field `user`",
        "metadata": "`metadata.subject`",
        OIDC_SUB: "the claim `sub` of a token",
    }[key.subject]
    return f"the key {key.id} declares that its data subject comes in {where}; it was not there"


def _cache_salt(secret: bytes) -> str:
    """Keeps one tenant's cached prefixes from another's; not the secret, and not the name."""
    return hmac.digest(secret, b"cache-salt", "sha256").hex()


async def _proxy(bench: Bench, call: Call, admitted: Admitted) -> None:
    kind, wish, endpoint = admitted.kind, admitted.wish, admitted.endpoint
    context = ChatContext(
        served_name=admitted.model, dialect=call.dialect, tenant_salt=admitted.salt
    )
    facts = bench.policy.models[admitted.model]
    engine = ENGINES[endpoint.engine]
    upstream = await kind.translate(engine, wish, context, facts)
    if engine.streams_only and not wish.stream:
        upstream = gathered.asked(upstream)
    sent = Sent(wish, call.dialect, admitted.model, upstream)
    labels = _labels(bench, admitted, upstream.dropped)
    call.course.waits_for_turn()
    async with (
        bench.turns.take(endpoint, wish.choices, admitted.key),
        _ask(bench, call, endpoint, upstream) as answer,
    ):
        if answer.status != 200:
            await _refuse_with(answer)
        if not (upstream.gathered and answer.is_stream):
            answer.refuse_other(stream=wish.stream)
        admitted.seat.answers()
        if wish.stream:
            await _stream(bench, call, admitted, answer, kind.relay(sent), labels)
        else:
            await _whole(bench, call, admitted, answer, sent, labels)


def _ask(bench: Bench, call: Call, endpoint: Endpoint, upstream: Upstream) -> Exchange:
    """Send it, now that it has its turn."""
    call.course.was_asked()
    return bench.upstreams.post(endpoint.address, upstream)


async def _refuse_with(answer: Answer) -> None:
    if answer.status == 503:  # a model that is still loading, a queue that is full
        raise Denied("engine-unhealthy", "the engine says that it is not ready")
    if not 400 <= answer.status < 500 and answer.status != NOT_IMPLEMENTED:
        raise Denied("engine-failed", f"the engine answered {answer.status}")
    said = await answer.message()
    status = {401: 502, NOT_IMPLEMENTED: 400}.get(answer.status, answer.status)
    raise Denied("engine-refused", said, status=status)


async def _whole(
    bench: Bench, call: Call, admitted: Admitted, answer: Answer, sent: Sent, labels: Headers
) -> None:
    bound = bench.bounds.answer_max_bytes
    try:
        told = sent.upstream.gathered and answer.is_stream
        body = await (_gather(answer, sent.upstream, bound) if told else answer.read(bound))
        whole = admitted.kind.whole(body, sent)
    except NONSENSE:
        said = f"the engine's answer is not one to a call of the kind {admitted.kind.name}"
        raise Denied("engine-failed", said) from None
    await _end(bench, admitted, "answered", 200, whole.usage, whole.finish)
    await call.respond(200, whole.body, [*JSON, *labels])


async def _gather(answer: Answer, upstream: Upstream, max_bytes: int) -> bytes:
    """A whole answer out of a stream.

    Raises:
        Denied: it is larger than `max_bytes`, reports an error, or the engine broke off.
        One of `NONSENSE`: it is no stream of an answer, or has no end.
    """
    gathering, size = gathered.Gathered(upstream.answers), 0
    while not gathering.done and (data := await answer.piece()):
        size += len(data)
        if size > max_bytes:
            raise Denied("answer-too-large", f"the answer is over {max_bytes} bytes")
        gathering.feed(data)
        if gathering.failed:
            raise Denied("engine-failed", "the engine reported an error")
    return gathering.whole()


async def _stream(
    bench: Bench, call: Call, admitted: Admitted, answer: Answer, relay: Stream, labels: Headers
) -> None:
    await call.start(200, [*SSE, *labels])
    await _pump(bench, call, relay, answer, admitted)
    await _end(bench, admitted, "answered", 200, relay.usage, relay.finish)
    await call.write(relay.rest() + DONE, more=False)


async def _pump(
    bench: Bench, call: Call, relay: Stream, answer: Answer, admitted: Admitted
) -> None:
    """Pass everything on up to the end marker.

    Raises:
        Denied: the engine said too much, nonsense, an error, or broke off.
    """
    size = 0
    while data := await answer.piece():
        size += len(data)
        if size > bench.bounds.answer_max_bytes:
            raise Denied("answer-too-large", "the answer is too large")
        try:
            out = relay.feed(data)
        except NONSENSE:
            raise Denied("engine-failed", "the engine's stream is not one of chunks") from None
        if relay.failed:
            raise Denied("engine-failed", "the engine reported an error")
        if out:
            admitted.chunks += out.count(b"\n\n")
            await call.write(out, more=True)
        if relay.done:
            return
    raise Denied("engine-failed", "the engine's stream has no end")


def _labels(bench: Bench, admitted: Admitted, dropped: tuple[str, ...]) -> Headers:
    labels = [
        (b"x-sovereign-record", admitted.record.encode()),
        (b"x-sovereign-place", admitted.endpoint.place.encode()),
        (b"x-sovereign-policy", bench.policy.digest.encode()),
        (b"x-sovereign-model", admitted.model.encode()),
    ]
    if admitted.moves:  # the name that was asked for will soon mean another model
        labels.append((b"x-sovereign-alias-moves", admitted.moves.encode()))
    if dropped:  # fields the client sent and this engine cannot honour
        labels.append((b"x-sovereign-dropped", ", ".join(dropped).encode()))
    return labels
