"""Who is calling, by a token of an identity provider (OAuth 2.0 access tokens, RFC 9068).

A token is verified once and then known by its SHA-256 until it ends, so that a client's second
request costs a hash and a look-up. What was verified counts only while the issuer's keys are
the same and fresh, and the policy still lets the issuer see what it sees.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from msgspec.structs import replace

from sovereign import eventlog
from sovereign.errors import LogUnwritable
from sovereign.gateway.callers import oidc_token
from sovereign.gateway.callers.issuers import Issuer, judge
from sovereign.gateway.callers.oidc_claims import bind
from sovereign.gateway.callers.oidc_keys import Keys, verified
from sovereign.gateway.callers.oidc_token import refused
from sovereign.gateway.refusal import Denied
from sovereign.keystore import Key
from sovereign.policy import Policy
from sovereign.registry import utcnow
from sovereign.residency import Decision

HELD_MAX = 4096
"""Verified tokens kept at hand; the least recently used goes first."""
TENDED_EVERY_S = 0.5
UNTENDED_MAX_S = 30
"""A binding that was taken out must not live on where nobody looks any more: after this, nobody's
token is believed."""
Judged = Callable[[Issuer, Decision], Awaitable[None]]
"""Writes down what was decided about an issuer."""


class Provider:
    """One issuer, its keys, and whether the policy lets it see what it sees."""

    def __init__(self, policy: Policy, issuer: Issuer, now: datetime) -> None:
        self.issuer = issuer
        self.keys = Keys(issuer)
        self.decision = judge(policy, issuer, now)
        self._recorded: tuple[str, str] | None = None

    def refuse_where_it_is(self) -> None:
        """Believe nothing that comes from a place the policy refuses.

        Raises:
            Denied: the policy refuses it.
        """
        if not self.decision.allowed:
            because = f"identity provider {self.issuer.id}: {self.decision.found}"
            raise Denied(
                "residency-refused",
                f"{because}. {self.decision.because}",
                rule=self.decision.rule,
            )

    async def tend(self, policy: Policy, now: datetime, judged: Judged) -> None:
        """Judge it again, write down what is new about it, and have its keys fetched when it is
        time; never from where the policy refuses it."""
        self.decision = judge(policy, self.issuer, now)
        if self.decision.allowed:
            self.keys.tend()
        found = (self.decision.verdict, self.decision.rule)
        if found == self._recorded:
            return
        if not self.decision.allowed:
            eventlog.emit("issuer-refused", issuer=self.issuer.id, rule=self.decision.rule)
        try:
            await judged(self.issuer, self.decision)
        except LogUnwritable:
            eventlog.emit("log-unwritable")
        else:
            self._recorded = found


@dataclass(frozen=True, slots=True)
class Held:
    """A token that was verified: what it stands for, for whom, until when and by which keys."""

    key: Key
    subject: str
    until: float
    thumbprint: str
    provider: Provider
    generation: int


class Tokens:
    """All issuers of a site, and the tokens that were verified lately."""

    def __init__(self, policy: Policy, issuers: Iterable[Issuer], now: datetime) -> None:
        """Judge every issuer; nothing is fetched yet.

        Raises:
            SettingsUnreadable: an issuer's certificate authorities cannot be read.
        """
        self._policy = policy
        self._held: OrderedDict[bytes, Held] = OrderedDict()
        self._tended_at = time.monotonic()
        self.providers: dict[str, Provider] = {}
        self.take(issuers, now)

    def take(self, issuers: Iterable[Issuer], now: datetime) -> None:
        """Believe these issuers from now on, and no others; every token is verified again.

        One of whom nothing but its bindings changed keeps its keys.

        Raises:
            SettingsUnreadable: as above. Nothing has changed.
        """
        found = [(each, self._provider(each, now)) for each in issuers]
        for issuer, provider in found:
            provider.issuer = issuer
        self.providers = {issuer.issuer: provider for issuer, provider in found}
        self._held.clear()

    def _provider(self, issuer: Issuer, now: datetime) -> Provider:
        last = self.providers.get(issuer.issuer)
        if last is None or replace(last.issuer, bindings=issuer.bindings) != issuer:
            return Provider(self._policy, issuer, now)
        return last

    async def find(self, token: str, thumbprint: str, now: datetime) -> tuple[Key, str]:
        """The key a token stands for, and its data subject as `ISSUER/SUB`.

        Args:
            thumbprint: of the certificate on this connection, "" for none (RFC 8705).

        Raises:
            Denied: it is refused, not bound, or cannot be judged now.
        """
        if time.monotonic() - self._tended_at > UNTENDED_MAX_S:
            raise Denied("identity-unavailable", "nobody looks after the identity providers")
        digest = hashlib.sha256(token.encode()).digest()
        held = self._held.get(digest)
        if held is None or not self._holds(held, now.timestamp()):
            held = await self._verified(token, now)
            self._held[digest] = held
            if len(self._held) > HELD_MAX:
                self._held.popitem(last=False)
        else:
            self._held.move_to_end(digest)
        if held.thumbprint and held.thumbprint != thumbprint:
            raise refused("it is bound to a certificate that this connection does not show")
        return held.key, held.subject

    def _holds(self, held: Held, now: float) -> bool:
        provider = held.provider
        return (
            now < held.until
            and held.generation == provider.keys.generation
            and provider.decision.allowed
            and provider.keys.are_fresh()
        )

    async def _verified(self, token: str, now: datetime) -> Held:
        found = oidc_token.opened(token)
        provider = self.providers.get(found.issuer)
        if provider is None:
            raise refused("its issuer is none of this site's")
        provider.refuse_where_it_is()
        key_id, algorithm = oidc_token.key_named(found.header, provider.issuer)
        key = await provider.keys.find(key_id, algorithm)
        generation, issuer = provider.keys.generation, provider.issuer
        if self.providers.get(issuer.issuer) is not provider:  # it went while we waited
            raise refused("its issuer is none of this site's")
        if not verified(algorithm, key, found.signed, found.signature):
            raise refused("its signature is not its issuer's")
        until = oidc_token.ends(found.claims, issuer, now.timestamp())
        return Held(
            key=bind(self._policy, issuer, found.claims, now),
            subject=f"{issuer.id}/{found.claims['sub']}",
            until=until,
            thumbprint=oidc_token.certificate_named(found.claims),
            provider=provider,
            generation=generation,
        )

    async def tend(self, judged: Judged) -> None:
        """Keep every issuer's keys and its judgement fresh; called every `TENDED_EVERY_S`."""
        for provider in list(self.providers.values()):
            await provider.tend(self._policy, utcnow(), judged)
        self._tended_at = time.monotonic()

    async def close(self) -> None:
        """End every fetch that is under way."""
        for provider in self.providers.values():
            await provider.keys.close()
