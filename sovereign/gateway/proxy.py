"""Have an engine answer a call that was let through, and give the client its answer.

Translated, in its turn, sent, relayed: whole, or event by event. The completion's record is
acknowledged before the last byte leaves; if it cannot be, that byte never does.
"""

from sovereign.engines import ENGINES, ChatContext, Upstream, gathered
from sovereign.gateway.admit import Admitted, Bench, end
from sovereign.gateway.call import JSON, SSE, Call, Headers
from sovereign.gateway.kinds.kind import NONSENSE, Sent, Stream
from sovereign.gateway.kinds.relay import DONE
from sovereign.gateway.refusal import Denied
from sovereign.gateway.upstream import Answer, Exchange
from sovereign.registry import Endpoint

NOT_IMPLEMENTED = 501
"""llama.cpp's word for what a model cannot do; asking again will not help."""


async def proxy(bench: Bench, call: Call, admitted: Admitted) -> None:
    """Answer one call.

    Raises:
        NotSent: nothing was sent; another endpoint may be asked.
        Denied: the engine refused, failed or was too slow, or the log cannot be written.
    """
    kind, wish, endpoint = admitted.kind, admitted.wish, admitted.endpoint
    context = ChatContext(
        served_name=admitted.model, dialect=call.dialect, tenant_salt=admitted.salt
    )
    facts = bench.policy.models[admitted.model]
    engine = ENGINES[endpoint.engine]
    upstream = await kind.translate(engine, wish, context, facts)
    if engine.streams_only and not wish.stream:
        upstream = gathered.asked(upstream)
    stays = not (engine.ends_with_a_stream and (wish.stream or upstream.gathered))
    sent = Sent(wish, call.dialect, admitted.model, upstream)
    labels = _labels(bench, admitted, upstream.dropped)
    call.course.waits_for_turn()
    async with (
        bench.turns.take(endpoint, wish.choices, admitted.key),
        _ask(bench, call, endpoint, upstream, stays=stays) as answer,
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


def _ask(
    bench: Bench, call: Call, endpoint: Endpoint, upstream: Upstream, *, stays: bool
) -> Exchange:
    """Send it, now that it has its turn."""
    call.course.was_asked()
    return bench.upstreams.post(endpoint.address, upstream, stays=stays)


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
    await end(bench, admitted, "answered", 200, whole.usage, whole.finish)
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
    answer.told = gathering.done
    return gathering.whole()


async def _stream(
    bench: Bench, call: Call, admitted: Admitted, answer: Answer, relay: Stream, labels: Headers
) -> None:
    await call.start(200, [*SSE, *labels])
    await _pump(bench, call, relay, answer, admitted)
    await end(bench, admitted, "answered", 200, relay.usage, relay.finish)
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
            answer.told = True
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
