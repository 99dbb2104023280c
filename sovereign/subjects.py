"""Name a data subject without saying who it is.

A subject is known here only as the HMAC of what the client sent, under a secret of the
tenant: the same person has the same pseudonym within a tenant and another one elsewhere.
A pseudonym is still personal data (GDPR Recital 26); destroying the tenant's secret is
what ends the link. What the client sent never reaches the engine or a record.
"""

import hmac
from collections.abc import Mapping
from typing import Any

HEADER = "x-sovereign-subject"
SOURCES = ("none", "header", "user", "metadata")
OIDC_SUB = "oidc-sub"
"""The source that only a token has: its claim `sub`, which no request states by itself."""
METADATA_FIELD = "subject"
SUBJECT_MAX_CHARS = 512


def pseudonym(secret: bytes, subject: str) -> str:
    """Return 64 hex digits: HMAC-SHA-256 (RFC 2104) of `subject` under the tenant's secret."""
    return hmac.digest(secret, subject.encode(), "sha256").hex()


def stated(source: str, header: str | None, body: Mapping[str, Any]) -> str | None:
    """What the request says about its subject at the place its key declares, or None.

    Args:
        source: one of `SOURCES`; `none` means the key serves no person, and is never read.
    """
    if source == "header":
        found: Any = header
    elif source == "user":
        found = body.get("user")
    else:
        metadata = body.get("metadata")
        found = metadata.get(METADATA_FIELD) if isinstance(metadata, dict) else None
    if isinstance(found, str) and 0 < len(found) <= SUBJECT_MAX_CHARS:
        return found
    return None
