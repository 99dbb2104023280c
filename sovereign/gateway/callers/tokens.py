"""Have a gateway take tokens of identity providers, where its settings name a file of them.

The file is looked at twice a second and taken up when it has changed, so that a binding that is
taken out ends like a key that is revoked. One that cannot be read changes nothing, and is said
once. A gateway without such a file imports nothing of all this.
"""

import asyncio
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from sovereign import eventlog
from sovereign.audit.record import written
from sovereign.audit.trail import Trail
from sovereign.errors import LogUnwritable, SettingsUnreadable
from sovereign.policy import Policy
from sovereign.registry import utcnow
from sovereign.residency import Decision
from sovereign.settings import Home

if TYPE_CHECKING:
    from sovereign.gateway.callers.issuers import Issuer


def issuers_file(home: Home) -> Path | None:
    """The file of identity providers, by its path or by its place in the home; None for none."""
    given = home.settings.gateway.issuers
    return home.root / given if given else None


class Believing:
    """The tokens a gateway takes, kept as its file says."""

    def __init__(self, path: Path, policy: Policy) -> None:
        """Read the file, and judge every issuer.

        Raises:
            SettingsUnreadable: it says something we do not accept.
        """
        from sovereign.gateway.callers.issuers import load
        from sovereign.gateway.callers.oidc import Tokens

        self._path, self._policy, self._load = path, policy, load
        self._seen = _state(path)
        self._unrecorded = True
        self.tokens: Tokens = Tokens(policy, load(path, policy), utcnow())

    async def keep(self, trail: Trail) -> None:
        """Keep file, keys and judgements fresh, and record what is new about them, for ever."""
        from sovereign.gateway.callers.oidc import TENDED_EVERY_S

        async def judged(issuer: "Issuer", decision: Decision) -> None:
            await _record(trail, issuer, decision)

        while True:
            if self._unrecorded:
                await self._record_file(trail)
            await self.tokens.tend(judged)
            await asyncio.sleep(TENDED_EVERY_S)
            await self._look()

    async def _look(self) -> None:
        state = await asyncio.to_thread(_state, self._path)
        if state == self._seen:
            return
        self._seen = state
        try:
            issuers = await asyncio.to_thread(self._load, self._path, self._policy)
            self.tokens.take(issuers, utcnow())
        except SettingsUnreadable:
            eventlog.emit("issuers-unusable")
        else:
            self._unrecorded = True
            eventlog.emit("issuers-changed", issuers=len(issuers))

    async def _record_file(self, trail: Trail) -> None:
        issuers = [each.issuer for each in self.tokens.providers.values()]
        try:
            await trail.arecord(
                "issuers-taken",
                digest=_digest(issuers),
                issuers=len(issuers),
                bindings=sum(len(each.bindings) for each in issuers),
                policy=self._policy.digest,
            )
            self._unrecorded = False
        except LogUnwritable:
            eventlog.emit("log-unwritable")


def believing(home: Home, policy: Policy) -> Believing | None:
    """What this site believes of tokens; None when it takes none.

    Raises:
        SettingsUnreadable: its file says something we do not accept.
    """
    path = issuers_file(home)
    return None if path is None else Believing(path, policy)


def _state(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_ino, found.st_size


def _digest(issuers: "list[Issuer]") -> str:
    """What was taken up, by the SHA-256 of what it says; comments do not count."""
    from msgspec import json

    return hashlib.sha256(json.encode(issuers, order="sorted")).hexdigest()


async def _record(trail: Trail, issuer: "Issuer", decision: Decision) -> None:
    """Raises LogUnwritable: it is not recorded."""
    question = decision.question
    fields = {
        "issuer": issuer.id,
        "place": question.place,
        "data": question.data,
        "verb": question.verb,
        "asked_at": written(question.asked_at),
        "verdict": decision.verdict,
        "rule": decision.rule,
        "policy": decision.policy,
    }
    if question.listener:
        fields["listener"] = question.listener
    await trail.arecord("issuer-judged", **fields)
