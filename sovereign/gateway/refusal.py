"""Say no in the words of the client that asked.

A `Denied` is raised by any layer and answered in one place. Its code is a stable word that
names a runbook. Codes the policy gives are 4xx that no SDK retries; 503 is kept for want
of a healthy engine or a writable log, and always says when to come back.
"""

from typing import Any

import msgspec

STATUS = {
    "key-missing-or-unknown": 401,
    "key-inactive": 401,
    "route-unknown": 404,
    "method-unknown": 405,
    "body-unreadable": 400,
    "body-too-large": 413,
    "body-too-slow": 408,
    "field-unknown": 422,
    "field-invalid": 422,
    "remote-content-refused": 403,
    "subject-missing": 403,
    "model-unknown": 404,
    "model-not-bound": 403,
    "residency-refused": 403,
    "attestation-expired": 403,
    "endpoint-quarantined": 403,
    "too-many-requests": 429,
    "engine-refused": 400,
    "engine-unhealthy": 503,
    "engine-failed": 502,
    "engine-timed-out": 504,
    "answer-too-large": 502,
    "log-unwritable": 503,
    "broken": 500,
}
"""Every code the gateway answers with, and its HTTP status (RFC 9110)."""

RETRY_AFTER_S = {"engine-unhealthy": 5, "log-unwritable": 5, "too-many-requests": 1}


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
    ) -> None:
        super().__init__(code)
        self.code = code
        self.message = message
        self.rule = rule
        self.record = record
        self.param = param
        self.status = status or STATUS[code]
        self.allow = allow


def envelope(denied: Denied, dialect: str) -> bytes:
    """The error body: Mistral's shape, or OpenAI's for a client that speaks it.

    Mistral's 422 also carries `detail`, which its SDK turns into a validation error. What the
    client wrote is never repeated there.
    """
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
        where = ["body", *([denied.param] if denied.param else [])]
        error["detail"] = [{"type": kind, "loc": where, "msg": denied.message}]
    return msgspec.json.encode({"object": "error", **error})


def headers(denied: Denied) -> list[tuple[bytes, bytes]]:
    """What goes with the body: when to come back, the record that holds the refusal, and what
    RFC 9110 asks for with a 401 and a 405."""
    found = []
    if denied.status == 401:
        found.append((b"www-authenticate", b"Bearer"))
    if denied.allow:
        found.append((b"allow", denied.allow.encode()))
    if denied.code in RETRY_AFTER_S:
        found.append((b"retry-after", str(RETRY_AFTER_S[denied.code]).encode()))
    if denied.record:
        found.append((b"x-sovereign-record", denied.record.encode()))
    return found
