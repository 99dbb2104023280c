"""Say no in the words of the client that asked.

A `Denied` is raised by any layer and answered in one place. Its code is a stable word that
names a runbook. Codes the policy gives are 4xx that no SDK retries; 503 is kept for want
of a healthy engine, a writable log or an identity provider's keys, and says when to come back.
"""

from typing import Any

import msgspec

STATUS = {
    "key-missing-or-unknown": 401,
    "key-inactive": 401,
    "certificate-refused": 401,
    "token-refused": 401,
    "token-expired": 401,
    "token-not-bound": 403,
    "tenant-suspended": 403,
    "identity-unavailable": 503,
    "route-unknown": 404,
    "method-unknown": 405,
    "body-unreadable": 400,
    "body-too-large": 413,
    "body-too-slow": 408,
    "field-unknown": 422,
    "field-invalid": 422,
    "remote-content-refused": 403,
    "subject-missing": 403,
    "subject-restricted": 403,
    "model-unknown": 404,
    "model-not-bound": 403,
    "access-refused": 403,
    "embeddings-not-enabled": 400,
    "fim-not-enabled": 400,
    "fim-not-possible": 400,
    "residency-refused": 403,
    "licence-refused": 403,
    "attestation-expired": 403,
    "endpoint-quarantined": 403,
    "too-many-requests": 429,
    "rate-limited": 429,
    "budget-exhausted": 402,
    "limits-unreachable": 503,
    "engine-refused": 400,
    "engine-unhealthy": 503,
    "engine-failed": 502,
    "engine-timed-out": 504,
    "answer-too-large": 502,
    "log-unwritable": 503,
    "policy-superseded": 503,
    "broken": 500,
}
"""Every code the gateway answers with, and its HTTP status (RFC 9110)."""

RETRY_AFTER_S = {
    "engine-unhealthy": 5,
    "log-unwritable": 5,
    "too-many-requests": 1,
    "identity-unavailable": 10,
    "limits-unreachable": 5,
    "policy-superseded": 2,
}


MISTRALS_OWN = {
    "fim-not-enabled": (
        "FIM is not enabled for this model",
        "invalid_request_invalid_args",
        "3051",
    ),
}
"""Refusals that Mistral's own service gives, too: its clients get its message, type and code."""


class Denied(Exception):
    """The answer is no, for the reason in `code`."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        rule: str = "",
        record: str = "",
        param: str | None = None,
        status: int | None = None,
        allow: str = "",
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.message = message
        self.rule = rule
        self.record = record
        self.param = param
        self.status = status or STATUS[code]
        self.allow = allow
        self.retry_after_s = RETRY_AFTER_S.get(code) if retry_after_s is None else retry_after_s


def envelope(denied: Denied, dialect: str) -> bytes:
    """The error body: Mistral's shape, or OpenAI's for a client that speaks it.

    Mistral's 422 also carries `detail`, which its SDK turns into a validation error. What the
    client wrote is never repeated there.
    """
    if denied.code in MISTRALS_OWN and dialect != "openai":
        said, kind, code = MISTRALS_OWN[denied.code]
        own = {"object": "error", "message": said, "type": kind, "param": None, "code": code}
        return msgspec.json.encode(own)
    error: dict[str, Any] = {
        "message": denied.message,
        "type": denied.code,
        "param": denied.param,
        "code": denied.code,
    }
    if denied.rule:
        error["rule"] = denied.rule
    if denied.record:
        error["record"] = denied.record
    if dialect == "openai":
        return msgspec.json.encode({"error": error})
    if denied.status == 422:
        kind = "extra_forbidden" if denied.code == "field-unknown" else "value_error"
        steps = denied.param.split(".") if denied.param else []
        where = ["body", *(int(s) if s.isdecimal() and len(s) < 9 else s for s in steps)]
        error["detail"] = [{"type": kind, "loc": where, "msg": denied.message}]
    return msgspec.json.encode({"object": "error", **error})


def headers(denied: Denied) -> list[tuple[bytes, bytes]]:
    """What goes with the body: when to come back, the record that holds the refusal, and what
    RFC 9110 asks for with a 401 and a 405."""
    found = []
    if denied.status == 401:
        found.append((b"www-authenticate", b"Bearer"))
    if denied.status == 415:
        found.append((b"accept-encoding", b"identity"))
    if denied.allow:
        found.append((b"allow", denied.allow.encode()))
    if denied.retry_after_s is not None:
        found.append((b"retry-after", str(denied.retry_after_s).encode()))
    if denied.record:
        found.append((b"x-sovereign-record", denied.record.encode()))
    return found
