"""The public keys of one issuer (RFC 7517): fetched beside the requests, kept for a bounded time.

They are fetched at the start, every `keys_refresh_s`, and when a token names a key that is not
there, which happens when the issuer has rotated. Whoever invents names of keys causes at most
one fetch in `ASKED_AGAIN_S`. Through an outage of the issuer the last keys are kept for
`keys_kept_s`; after that nobody's token can be judged any more, and none is let in.

A fetch follows no redirect, uses no proxy of the environment, and has a size and an end.
"""

import asyncio
import binascii
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import aiohttp
import msgspec

from sovereign import eventlog
from sovereign.errors import SettingsUnreadable
from sovereign.gateway.callers.issuers import Issuer
from sovereign.gateway.callers.oidc_token import refused
from sovereign.gateway.refusal import Denied

FETCH_TIMEOUT_S = 5.0
FETCH_MAX_BYTES = 262_144
KEYS_MAX = 64
ASKED_AGAIN_S = 10.0
"""How long an issuer is left alone after it was asked, whatever tokens say."""
WAITING_MAX = 64
"""Calls that may wait for one issuer's answer: each has a place that others would be answered in,
and nobody knows yet who it is."""
RSA_BITS = range(2048, 8193)
Named = tuple[str, str]
"""A key's id and an algorithm it is used with."""


class Unfit(Exception):
    """What the issuer answered is no set of keys. Its argument is one of our own words."""


def usable(raw: bytes, algorithms: Iterable[str]) -> dict[Named, Any]:
    """The public keys of a set that verify one of the algorithms.

    Left out are keys of other kinds or for other uses, private and shared ones, RSA keys of under
    2048 bits, and keys that two entries claim the same name for: of those nobody knows which
    was meant.

    Raises:
        Unfit: it is no set of keys, or there are too many.
    """
    try:
        found = msgspec.json.decode(raw)
        entries = found["keys"]
    except (ValueError, RecursionError, TypeError, LookupError):
        raise Unfit("not-a-key-set") from None
    if not isinstance(entries, list) or len(entries) > KEYS_MAX:
        raise Unfit("not-a-key-set")
    keys: dict[Named, Any] = {}
    twice: set[Named] = set()
    for entry in entries:
        for algorithm in algorithms:
            key = _key(entry, algorithm) if isinstance(entry, dict) else None
            if key is not None:
                named = (entry["kid"], algorithm)
                twice |= {named} & keys.keys()
                keys[named] = key
    return {named: key for named, key in keys.items() if named not in twice}


def _key(entry: dict[str, Any], algorithm: str) -> Any:
    """The public key of an entry, None when it is not one for this algorithm."""
    import jwt
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    kind, curve = {"ES256": ("EC", "P-256"), "EdDSA": ("OKP", "Ed25519")}.get(
        algorithm, ("RSA", None)
    )
    if (entry.get("kty"), entry.get("crv")) != (kind, curve) or "d" in entry:
        return None
    if entry.get("alg", algorithm) != algorithm or entry.get("use", "sig") != "sig":
        return None
    meant = entry.get("key_ops", ["verify"])
    if not isinstance(meant, list) or "verify" not in meant:
        return None
    if not isinstance(entry.get("kid"), str):
        return None
    try:
        key = jwt.PyJWK(entry, algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, binascii.Error):
        return None
    return None if isinstance(key, RSAPublicKey) and key.key_size not in RSA_BITS else key


def verified(algorithm: str, key: Any, signed: bytes, signature: bytes) -> bool:
    """Whether the signature is that key's over these bytes."""
    import jwt

    return bool(jwt.get_algorithm_by_name(algorithm).verify(signed, key, signature))


class Keys:
    """The keys of one issuer, as they were last fetched. `generation` counts how often they
    changed, so that whoever verified with them knows to do it again."""

    def __init__(self, issuer: Issuer, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is fetched yet.

        Raises:
            SettingsUnreadable: its certificate authorities cannot be read.
        """
        self._issuer = issuer
        self._clock = clock
        self._tls = _trusting(issuer) if issuer.keys.startswith("https:") else None
        self._keys: Mapping[Named, Any] = {}
        self._raw = b""
        self._fetched_at = -float("inf")
        self._asked_at = -float("inf")
        self._failed = False
        self._waiting = 0
        self._fetching: asyncio.Task[None] | None = None
        self.generation = 0

    def are_fresh(self) -> bool:
        """False once the issuer has been away for longer than its keys are kept."""
        return self._clock() - self._fetched_at <= self._issuer.keys_kept_s

    async def find(self, key_id: str, algorithm: str) -> Any:
        """The key of that name; the issuer is asked once when it is not there.

        Raises:
            Denied: there is no such key, or the issuer did not say and may have one.
        """
        key = self._keys.get((key_id, algorithm))
        if key is None or not self.are_fresh():
            await self._await_keys()
            key = self._keys.get((key_id, algorithm))
        if not self.are_fresh():
            raise Denied("identity-unavailable", "the identity provider's keys cannot be had")
        if key is not None:
            return key
        if self._failed:
            raise Denied("identity-unavailable", "the identity provider does not answer")
        raise refused("its issuer has no such key")

    async def _await_keys(self) -> None:
        if self._waiting >= WAITING_MAX:
            raise Denied("identity-unavailable", "many wait for the identity provider's keys")
        self._waiting += 1
        try:
            await self.refresh(at_most_every_s=ASKED_AGAIN_S)
        finally:
            self._waiting -= 1

    async def refresh(self, at_most_every_s: float) -> None:
        """Ask the issuer, unless that was done just now; together with whoever asks already."""
        self._ask(at_most_every_s)
        if self._fetching is not None:
            await asyncio.shield(self._fetching)

    def tend(self) -> None:
        """Have the issuer asked when it is time; sooner while it does not answer."""
        self._ask(ASKED_AGAIN_S if self._failed else self._issuer.keys_refresh_s)

    def _ask(self, at_most_every_s: float) -> None:
        if self._fetching is None and self._clock() - self._asked_at >= at_most_every_s:
            self._asked_at = self._clock()
            self._fetching = asyncio.create_task(self._fetch())
            self._fetching.add_done_callback(self._fetched)

    def _fetched(self, _: "asyncio.Task[None]") -> None:
        self._fetching = None

    async def close(self) -> None:
        """End a fetch that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    async def _fetch(self) -> None:
        try:
            raw = await self._asked()
            if raw != self._raw:
                keys = await asyncio.to_thread(usable, raw, self._issuer.algorithms)
                self._keys, self._raw = keys, raw
                self.generation += 1
        except (Unfit, aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            said = str(error) if isinstance(error, Unfit) else type(error).__name__
            if not self._failed:
                eventlog.emit("issuer-unreachable", issuer=self._issuer.id, reason=said)
            self._failed = True
            return
        if self._failed or self._fetched_at == -float("inf"):
            eventlog.emit("issuer-answered", issuer=self._issuer.id, keys=len(self._keys))
        self._failed, self._fetched_at = False, self._clock()

    async def _asked(self) -> bytes:
        session = aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=FETCH_TIMEOUT_S),
            trust_env=False,
            auto_decompress=False,
            headers={"accept-encoding": "identity", "user-agent": "sovereign"},
        )
        how: dict[str, Any] = {"allow_redirects": False}
        if self._tls is not None:
            how["ssl"] = self._tls
        async with session, session.get(self._issuer.keys, **how) as response:
            if response.status != 200:
                raise Unfit(f"status-{response.status}")
            raw = b""
            async for part in response.content.iter_any():
                raw += part
                if len(raw) > FETCH_MAX_BYTES:
                    raise Unfit("too-large")
            return raw


def _trusting(issuer: Issuer) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=issuer.ca_file or None)
    except (OSError, ValueError) as error:
        raise SettingsUnreadable(
            f"{issuer.ca_file!r} (ca_file of issuer {issuer.id}) holds no certificates",
            found=getattr(error, "strerror", None) or type(error).__name__,
            accepted="a PEM file of the authorities its server is trusted by; empty: the system's",
        ) from error
