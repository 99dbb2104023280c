"""Read a signed token (RFC 7515, 7519) and hold it against its issuer's terms. Pure.

Nothing in a token is believed before its signature was verified with a key of its issuer, and
nothing in it ever says where that key is: `jku`, `x5u`, `jwk` and `x5c` are not looked at. It is
read more strictly than JSON asks: a name may stand once, numbers are finite, the text is
small. Times are judged at a `now` that is given. No message repeats what stood in a token.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from sovereign.gateway.callers.issuers import Issuer
from sovereign.gateway.refusal import Denied

TOKEN_MAX_CHARS = 8192
KEY_ID_MAX_CHARS = 256
SUB_MAX_CHARS = 255
TIME_MAX = 2**53
_SEGMENT = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Opened:
    """A token taken apart; none of it is verified yet."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    signed: bytes
    signature: bytes

    @property
    def issuer(self) -> str:
        """Who is said to have issued it."""
        found = self.claims.get("iss")
        return found if isinstance(found, str) else ""


def refused(because: str) -> Denied:
    """The token is no good; the words are ours."""
    return Denied("token-refused", f"the token is refused: {because}")


def opened(token: str) -> Opened:
    """Take a token apart.

    Raises:
        Denied: it is no signed token in compact form (RFC 7515 section 3.1) of a bounded size.
    """
    if len(token) > TOKEN_MAX_CHARS:
        raise refused(f"it is over {TOKEN_MAX_CHARS} characters")
    parts = token.split(".")
    if len(parts) != 3:
        raise refused("it is not a signed token")
    header, claims, signature = (_bytes(part) for part in parts)
    return Opened(
        _object(header),
        _object(claims),
        token.rpartition(".")[0].encode(),
        signature,
    )


def _bytes(segment: str) -> bytes:
    """The bytes of base64url without padding (RFC 4648), in the one way they can be written."""
    if not _SEGMENT.fullmatch(segment):
        raise refused("a part of it is not base64url")
    try:
        raw = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except (binascii.Error, ValueError):
        raise refused("a part of it is not base64url") from None
    if base64.urlsafe_b64encode(raw).rstrip(b"=") != segment.encode():
        raise refused("a part of it is not base64url")
    return raw


def _object(raw: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(raw.decode(), object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise refused("a part of it is not JSON as we read it") from None
    if not isinstance(found, dict):
        raise refused("a part of it is not a JSON object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object each of whose names stands once: of two, nobody knows which was verified."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _no_number(_: str) -> NoReturn:
    raise ValueError("not a number")


def key_named(header: Mapping[str, Any], issuer: Issuer) -> tuple[str, str]:
    """The id and the algorithm of the key that is said to have signed it.

    Raises:
        Denied: an algorithm or a type of token this issuer is not believed with, no key named, or
            something we would have to understand and do not (`crit`).
    """
    algorithm, key_id, kind = header.get("alg"), header.get("kid"), header.get("typ")
    if algorithm not in issuer.algorithms:
        raise refused(f"its algorithm is none of {', '.join(issuer.algorithms)}")
    if "crit" in header or "b64" in header or "zip" in header:
        raise refused("it asks for an extension that this site does not know")
    name = kind.lower().removeprefix("application/") if isinstance(kind, str) else ""
    if name not in issuer.token_types:
        raise refused(f"its type is none of {', '.join(issuer.token_types)}")
    if not isinstance(key_id, str) or not 0 < len(key_id) <= KEY_ID_MAX_CHARS:
        raise refused("it names no key")
    return key_id, str(algorithm)


def ends(claims: Mapping[str, Any], issuer: Issuer, now: float) -> float:
    """Judge the claims that every token has (RFC 9068 section 2.2); the time it is good until.

    Raises:
        Denied: it is for somebody else, has no subject, or this is not its time.
    """
    audience = claims.get("aud")
    if audience != issuer.audience and not (
        isinstance(audience, list) and issuer.audience in audience
    ):
        raise refused("it is for another audience")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= SUB_MAX_CHARS or _broken(subject):
        raise refused("it has no subject")
    issued, expires = _time(claims, "iat"), _time(claims, "exp")
    begins = _time(claims, "nbf") if "nbf" in claims else issued
    if max(begins, issued) > now + issuer.leeway_s:
        raise refused("it is not valid yet; is a clock wrong?")
    until = min(expires, issued + issuer.age_max_s) + issuer.leeway_s
    if until <= now:
        raise Denied("token-expired", "the token has expired; get a new one")
    return until


def _broken(text: str) -> bool:
    """True of half a character, which JSON can write and nothing else can hold."""
    return any("\ud800" <= each <= "\udfff" for each in text)


def _time(claims: Mapping[str, Any], name: str) -> float:
    found = claims.get(name)
    if isinstance(found, int | float) and type(found) is not bool and 0 <= found < TIME_MAX:
        return float(found)
    raise refused(f"its time `{name}` is missing or no time")


def certificate_named(claims: Mapping[str, Any]) -> str:
    """The thumbprint of the certificate it is bound to (RFC 8705 section 3.1), "" for none.

    Raises:
        Denied: it is bound to a proof that this site cannot check.
    """
    if "cnf" not in claims:
        return ""
    confirmed = claims["cnf"]
    found = confirmed.get("x5t#S256") if isinstance(confirmed, dict) else None
    if not isinstance(found, str) or not found or len(confirmed) != 1:
        raise refused("it is bound to a proof that this site cannot check")
    return found
