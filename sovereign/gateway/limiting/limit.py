"""Take every call from the limits that cover it, before anything is decided about it.

What is limited is in the policy (`rules/limits.yaml`), how it is counted in `sovereign/limits/`.
This module says no in the words of a client, sets the usual headers, and settles each call when it
ends. A site without limits and prices has no `Limiter`, and pays for none.

Refusals that say to come back soon (`rate-limited`) are summed, like all that a client may repeat
at will. A budget that is used up is a decision: the first refusal of a key by a limit in a minute
is recorded as one, the others of that minute are summed and name it.

What is used is known from the log, whatever happened to this process (`limit_history.py`); what is
shared with other gateways is in `limit_shared.py`.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sovereign.gateway.aliases import Names
from sovereign.gateway.call import Call, Headers
from sovereign.gateway.choose import UNKNOWN, Choice
from sovereign.gateway.kinds.wish import Wish
from sovereign.gateway.records import Recording
from sovereign.gateway.refusal import Denied
from sovereign.keystore import Key
from sovereign.limits.accounts import ASK, SECOND_NS, UNREACHABLE, Moment
from sovereign.limits.ledger import Caller, Hold, Lacking, Ledger, Plan
from sovereign.limits.money import Prices
from sovereign.limits.rules import Rule
from sovereign.limits.tally import Used
from sovereign.limits.windows import written
from sovereign.policy import Policy
from sovereign.registry import utcnow
from sovereign.settings import Home

if TYPE_CHECKING:
    from sovereign.gateway.limiting.history import History
    from sovereign.gateway.limiting.shared import Sharing

BYTES_PER_TOKEN = 4
"""What a prompt's tokens are guessed by; the engine's own count settles it."""
ATTEMPTS = 3
ENDED_BY_OTHERS = frozenset(("client-gone", "interrupted", "engine-timed-out", "answer-too-large"))
"""Outcomes of calls an engine worked for without saying how much: charged by what was seen."""
TOKENS_MAX = 2**40
_WORDS = ("limit", "remaining", "reset")
HEADERS = tuple(
    tuple(f"x-ratelimit-{says}-{of}".encode() for says in ("limit", "remaining", "reset"))
    for of in ("requests", "tokens")
)
"""The names OpenAI and Mistral give them, in the order of a plan's own accounts."""
Clock = Callable[[], Moment]


def moment() -> Moment:
    """Now, on both clocks."""
    return Moment(time.monotonic_ns(), int(time.time()))


class Taken:
    """What one call holds of the limits."""

    __slots__ = ("_hold", "_index", "_limiter", "_prompt")

    def __init__(self, limiter: "Limiter", hold: Hold, prompt: int) -> None:
        self._limiter = limiter
        self._hold = hold
        self._prompt = prompt
        self._index: int | None = None

    def decided(self, index: int) -> None:
        """The call was let through by the decision at `index`, instead of the one before."""
        if self._index is not None:
            self._limiter.history.ends(self._index)
        self._index = index
        self._limiter.history.begins(index)

    def ended(self, outcome: str, usage: object) -> None:
        """The call is over, and this is what its completion will say."""
        said = used = _said(usage)
        if outcome in ENDED_BY_OTHERS and not said.tokens_in:
            used = said._replace(tokens_in=self._prompt)
        self._settle(used, said)

    def release(self) -> None:
        """Give back all that is still held: the call came to nothing, or it ended long ago."""
        if not self._hold.settled:
            self._settle(Used(), None)

    def _settle(self, used: Used, counted: Used | None) -> None:
        self._limiter.ledger.settle(self._hold, self._limiter.clock(), used, counted)
        if self._index is not None:
            self._limiter.history.ends(self._index)


class Limiter:
    """The limits of one gateway."""

    def __init__(
        self,
        policy: Policy,
        names: Names,
        recording: Recording,
        history: "History",
        sharing: "Sharing | None" = None,
        clock: Clock = moment,
    ) -> None:
        """`history` has been read; `sharing` is given where several gateways share limits."""
        self.clock = clock
        self.history = history
        self._policy = policy
        self._recording = recording
        self._sharing = sharing
        self._contexts = {model.id: model.context for model in policy.models.values()}
        self._names = names
        self._told: dict[tuple[str, str, str], tuple[int, str]] = {}
        self.ledger = Ledger(
            map(Rule.of, policy.limits.limits),
            Prices(policy.limits.prices),
            history.tally,
            sharing.wrap if sharing else None,
        )

    def plan(self, key: Key, model: str, now: Moment) -> Plan:
        """What a call of this key for this model, by a name the client wrote, takes from."""
        meant = self._names.meant(model, datetime.fromtimestamp(now.s, UTC))
        known = meant if meant in self._contexts else ""
        return self.ledger.plan(Caller(key.tenant, key.id, known), now)

    async def take(self, kind: str, call: Call, key: Key, wish: Wish, size: int) -> None:
        """Take what the call may cost and note it in `call.hold`; `size` is its body's, in bytes.

        Raises:
            Denied: a limit has not enough left, or shared state is away and the limit needs it.
        """
        now = self.clock()
        plan = self.plan(key, wish.model, now)
        prompt, answer = self._guess(plan.caller.model, wish, size)
        costs = self.ledger.expected(plan.caller, now, prompt, answer)
        got = self.ledger.take(plan, now, costs)
        for _ in range(ATTEMPTS):
            if self._sharing is None or not isinstance(got, Lacking) or got.wait_ns != ASK:
                break
            await self._sharing.more(plan, costs)
            now = self.clock()
            got = self.ledger.take(plan, now, costs)
        call.labels = _headers(plan, now)
        if isinstance(got, Lacking):
            raise await self._refusal(kind, key, got, now, plan.caller.model)
        call.hold = Taken(self, got, prompt)

    def _guess(self, model: str, wish: Wish, size: int) -> tuple[int, int]:
        """The most tokens that prompt and answer may have, as far as the request tells."""
        context = self._contexts.get(model, TOKENS_MAX)
        said = wish.body.get("max_tokens") or wish.body.get("max_completion_tokens")
        answer = min(max(0, said), context) if type(said) is int else 0
        return min(size // BYTES_PER_TOKEN + 1, context), answer * wish.choices

    async def _refusal(
        self, kind: str, key: Key, lacking: Lacking, now: Moment, model: str
    ) -> Denied:
        rule = lacking.account.rule
        if lacking.wait_ns == UNREACHABLE:
            said = f"the limit {rule.id} is shared, and what it is shared in does not answer"
            return Denied("limits-unreachable", said)
        seconds = 1 if lacking.wait_ns == ASK else -(-lacking.wait_ns // SECOND_NS)
        said = f"the limit {rule.id} allows {rule.bound} {_whose(rule)}"
        if rule.every in ("", "minute"):
            said = f"{said}; come back in {seconds} s"
            return Denied("rate-limited", said, retry_after_s=seconds)
        said = f"{said}; it begins again at {written(now.s + seconds)}"
        if lacking.never:
            said = f"{said}, and this call may use more than all of it: ask for fewer tokens"
        choice = Choice(model or UNKNOWN, None, "budget-exhausted", rule.id, rule.because, utcnow())
        return await self._exhausted(kind, key, choice, said, seconds)

    async def _exhausted(
        self, kind: str, key: Key, choice: Choice, said: str, seconds: int
    ) -> Denied:
        """The first one of a minute is recorded; the others say under which number it is."""
        minute, whose = self.clock().s // 60, (choice.rule, key.tenant, key.id)
        told = self._told.get(whose)
        if told is not None and told[0] == minute:
            said = f"{said}; decided in {told[1]}" if told[1] else said
            return Denied(choice.code, said, retry_after_s=seconds)
        self._told[whose] = (minute, "")  # what comes while this is written is summed
        recorded = await self._recording.decision(key, "", choice, self._policy.digest, kind)
        self._told[whose] = (minute, recorded.name)
        return Denied(
            choice.code, said, rule=choice.rule, record=recorded.name, retry_after_s=seconds
        )

    async def run(self) -> None:
        """Keep what is used on the disk, and shared state asked, for ever."""
        tasks = [self.history.run(self.clock)]
        if self._sharing is not None:
            tasks.append(self._sharing.run(self.clock))
        await asyncio.gather(*tasks)

    async def close(self) -> None:
        """Write down what is used, and give back what is claimed; `run` has ended."""
        if self._sharing is not None:
            await self._sharing.close(self.clock())
        await self.history.write(self.clock())


def opened(home: Home, policy: Policy, names: Names, recording: Recording) -> Limiter | None:
    """The limits of a site, with what was used before; None where nothing is limited or priced.

    Reads the log as far as it is newer than the last note of it; a note that is lost costs time.
    """
    if not policy.limits.limits and not policy.limits.prices:
        return None
    from sovereign.gateway.limiting.history import History

    history = History(home, moment())
    url = home.settings.gateway.limits_database
    if not url:
        return Limiter(policy, names, recording, history)
    from sovereign.gateway.limiting.shared import Sharing

    return Limiter(policy, names, recording, history, Sharing(url, home.settings.site))


def _said(usage: object) -> Used:
    """What an engine said it used; what is not a sensible count is none, as in the record."""
    found: dict[Any, Any] = usage if isinstance(usage, dict) else {}
    return Used(1, _count(found.get("prompt_tokens")), _count(found.get("completion_tokens")))


def _count(value: object) -> int:
    return value if type(value) is int and 0 <= value <= TOKENS_MAX else 0


def _whose(rule: Rule) -> str:
    return {
        "key": "to this key",
        "tenant": "to this tenant",
        "model": "of this model",
    }.get(rule.per, "at this site")


def _headers(plan: Plan, now: Moment) -> Headers:
    """What is left of the tightest limit of requests and of tokens, if it is the caller's own."""
    found: Headers = []
    for accounts, (limit, remaining, reset) in zip(plan.own, HEADERS, strict=True):
        if accounts:
            left = [account.left(now) for account in accounts]
            least = min(left)
            account = accounts[left.index(least)]
            found += (
                (limit, str(account.rule.at_most).encode()),
                (remaining, str(least).encode()),
                (reset, _duration(account.resets_s(now)).encode()),
            )
    return found


def _duration(seconds: int) -> str:
    """As these headers have it: `12s`, `1m30s`."""
    minutes, rest = divmod(seconds, 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
