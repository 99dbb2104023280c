"""Let a call through: decide about it, and have the decision on disk, before it is sent anywhere.

The decision's record is acknowledged when `admit` returns, and whoever was let through comes to
`end`, however its call ends. What every call works with, and what is known of one that was let
through, are the two values here.
"""

import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sovereign.gateway.aliases import Names
from sovereign.gateway.call import Call
from sovereign.gateway.choose import Choice
from sovereign.gateway.entitle import Entitling
from sovereign.gateway.kinds.kind import Kind, able
from sovereign.gateway.kinds.wish import Wish
from sovereign.gateway.limiting.limit import Limiter, Taken
from sovereign.gateway.limiting.turns import Turns
from sovereign.gateway.records import Ending, Recording
from sovereign.gateway.refusal import Denied
from sovereign.gateway.replicas.seats import Replicas, Seat
from sovereign.gateway.seen.course import Course
from sovereign.gateway.upstream import Upstreams
from sovereign.gateway.view import View
from sovereign.keystore import Key
from sovereign.policy import Policy
from sovereign.registry import Endpoint, utcnow
from sovereign.settings import GatewaySettings
from sovereign.subjects import HEADER, OIDC_SUB, pseudonym, stated

RESTRICTED = "the person this is for has had the use of their data restricted"


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


async def admit(
    kind: Kind, bench: Bench, view: View, call: Call, key: Key, wish: Wish, seat: Seat
) -> Admitted:
    """Decide, and have the decision on disk, before anything is sent anywhere.

    Raises:
        Denied: the subject is missing or restricted, or no endpoint may answer; that is recorded.
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
    elif subject and view.known.restricts(key.tenant, subject, key.purpose):
        code = "subject-restricted"
        choice = Choice(choice.model, None, code, code, RESTRICTED, choice.asked_at)
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


async def end(
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
