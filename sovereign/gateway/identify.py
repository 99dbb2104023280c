"""Who is calling: a key's secret in, what the key is bound to out.

The secret is compared by its SHA-256 only, and is never kept, logged or echoed.
"""

from datetime import datetime

from sovereign.gateway.call import Call
from sovereign.gateway.refusal import Denied
from sovereign.keystore import PREFIX, Key, Known, fingerprint

SECRET_MAX_CHARS = 128
_BEARER = "bearer "


def identify(call: Call, known: Known, now: datetime) -> Key:
    """Return the active key this call presents as a bearer token (RFC 6750).

    Raises:
        Denied: no key, an unknown one, or one that is revoked or expired.
    """
    given = call.header(b"authorization") or ""
    secret = given[len(_BEARER) :].strip() if given[: len(_BEARER)].lower() == _BEARER else ""
    if not secret.startswith(PREFIX) or len(secret) > SECRET_MAX_CHARS:
        raise Denied("key-missing-or-unknown", "send a key of this site as a bearer token")
    key = known.keys.get(fingerprint(secret))
    if key is None:
        raise Denied("key-missing-or-unknown", "this site does not know that key")
    state = key.state(now)
    if state != "active":
        raise Denied("key-inactive", f"the key {key.id} is {state}")
    return key
