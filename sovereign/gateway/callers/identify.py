"""Who is calling: what a client shows in, what it is bound to out.

A client shows one of three things: a key's secret or a token of an identity provider, as a bearer
token (RFC 6750), or the certificate of its TLS connection. Where both a bearer token and
a certificate are there, the token counts, unless the certificate's key is revoked or expired; a
client library that insists on a key sends the word `certificate`. Secrets and tokens are compared
by their SHA-256, and never kept, logged or echoed.
"""

from datetime import datetime

from sovereign.gateway.call import Call
from sovereign.gateway.refusal import Denied
from sovereign.gateway.view import View
from sovereign.keystore import PREFIX, Key, Known, fingerprint

SECRET_MAX_CHARS = 128
BY_CERTIFICATE = "certificate"
"""What a client sends in place of a secret when its certificate says who it is."""
_BEARER = "bearer "


async def identify(call: Call, view: View, now: datetime) -> Key:
    """Return the active key this call presents, of a tenant that is not suspended.

    Of a token, its data subject is left in `call.token_subject`.

    Raises:
        Denied: nothing that is known, or something that is revoked, expired or suspended.
    """
    asked = view.asked
    shows = call.certificate is not None and call.certificate.until > now.timestamp()
    if asked.certificate and not shows:
        raise Denied("certificate-refused", "this site asks every client for a certificate")
    given = call.header(b"authorization") or ""
    if not given and call.has_twice(b"authorization"):
        raise Denied("key-missing-or-unknown", "send one bearer token, once")
    shown = given[len(_BEARER) :].strip() if given[: len(_BEARER)].lower() == _BEARER else ""
    if shown.startswith(PREFIX):
        key = _by_secret(view.known, shown, now)
    elif asked.tokens is not None and "." in shown:
        thumbprint = call.certificate.thumbprint if call.certificate and shows else ""
        key, call.token_subject = await asked.tokens.find(shown, thumbprint, now)
        if key.tenant not in view.known.secrets:
            raise Denied("token-not-bound", "the token is for a tenant this site does not know")
    else:
        key = _by_certificate(call, view.known, shown, now)
    _refuse_revoked(call, view.known, now)
    if key.tenant in view.known.suspended:
        raise Denied("tenant-suspended", f"the tenant of the key {key.id} is suspended")
    return key


def _by_secret(known: Known, secret: str, now: datetime) -> Key:
    key = known.keys.get(fingerprint(secret)) if len(secret) <= SECRET_MAX_CHARS else None
    if key is None:
        raise Denied("key-missing-or-unknown", "this site does not know that key")
    return _active(key, now)


def _by_certificate(call: Call, known: Known, shown: str, now: datetime) -> Key:
    certificate = call.certificate
    if certificate is None or shown not in ("", BY_CERTIFICATE):
        raise Denied("key-missing-or-unknown", "send a key of this site as a bearer token")
    if certificate.until <= now.timestamp():
        raise Denied("certificate-refused", "the certificate of this connection has expired")
    key = known.keys.get(certificate.fingerprint)
    if key is None:
        raise Denied("certificate-refused", "the certificate of this connection is not bound")
    return _active(key, now)


def _refuse_revoked(call: Call, known: Known, now: datetime) -> None:
    """Whoever shows a certificate that was shut out is not let in by what else it has."""
    bound = known.keys.get(call.certificate.fingerprint) if call.certificate else None
    if bound is not None:
        _active(bound, now)


def _active(key: Key, now: datetime) -> Key:
    state = key.state(now)
    if state != "active":
        raise Denied("key-inactive", f"the key {key.id} is {state}")
    return key
