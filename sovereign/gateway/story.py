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
from contextlib import suppress

from sovereign.gateway import lastwords
from sovereign.gateway.admit import Admitted, Bench, admit, end
from sovereign.gateway.call import Call, ClientGone
from sovereign.gateway.callers.identify import identify
from sovereign.gateway.choose import UNKNOWN, Choice
from sovereign.gateway.kinds.kind import Kind
from sovereign.gateway.kinds.wish import Wish
from sovereign.gateway.proxy import proxy
from sovereign.gateway.refusal import Denied
from sovereign.gateway.upstream import NotSent
from sovereign.gateway.view import View
from sovereign.keystore import Key
from sovereign.registry import utcnow

LAST_WORDS_S = 1.0


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
        await end(bench, admitted, denied.code, denied.status)
        if call.answered:
            await _last_words(call, admitted, denied)
        raise
    except ClientGone:
        await end(bench, admitted, "client-gone", 499)
        raise
    except asyncio.CancelledError:
        await end(bench, admitted, "interrupted", 503)
        raise
    except Exception:
        await end(bench, admitted, "broken", 500)
        raise


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
        await proxy(bench, call, admitted)
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
