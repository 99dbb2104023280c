"""What somebody who calls is bound to, and everybody who is known. Pure; nothing is read here.

A `Key` is a binding: one tenant, one purpose, one legal basis (GDPR Art. 5(1)(b), Art. 6), one
class of data, where the data subject comes from. It is found by what its holder shows: the
SHA-256 of a secret, or of a certificate's public key. A token of an identity provider gives
a `Key` too, made for the time of that token.
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from sovereign.subjectkeys import SubjectKeys

PREFIX = "sov_"
CERTIFICATE = "spki:"
"""What the fingerprint of a certificate's public key begins with; a secret's is bare hex."""
LEGAL_BASES = (
    "consent",
    "contract",
    "legal-obligation",
    "vital-interests",
    "public-task",
    "legitimate-interests",
)
"""GDPR Art. 6(1)(a) to (f), in that order."""
PRIORITIES = ("interactive", "batch")


class Key(msgspec.Struct, frozen=True):
    """A key without its secret. Times are aware; `models` is empty for every model.

    `roles` are words that access rules speak of. `replaces` names the key this one was made
    instead of. `certificate` is the SHA-256 of a public key, for a key that has no secret.
    """

    id: str
    tenant: str
    purpose: str
    basis: str
    data: str
    subject: str
    created_at: datetime
    models: tuple[str, ...] = ()
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    roles: tuple[str, ...] = ()
    priority: str = PRIORITIES[0]
    replaces: str = ""
    certificate: str = ""

    def state(self, now: datetime) -> str:
        """`active` or `expired` at `now`; `revoked` whatever a clock that was set back says."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= now:
            return "expired"
        return "active"


class Tenant(msgspec.Struct, frozen=True):
    """On whose behalf keys speak. `created_at` is None for one that is older than that field."""

    name: str
    created_at: datetime | None = None
    suspended_at: datetime | None = None

    @property
    def state(self) -> str:
        """`active` or `suspended`."""
        return "active" if self.suspended_at is None else "suspended"


@dataclass(frozen=True, slots=True)
class Restriction:
    """What a person had restricted (GDPR Art. 18): one purpose of a tenant, or "" for all of them.

    `id` is what the records of it say; who it is about stands here alone.
    """

    id: str
    tenant: str
    pseudonym: str
    purpose: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """Every key by its fingerprint, every tenant's secret, and its subjects' keys.

    `subjects` lacks a tenant whose store was made before there were such keys, until `create`.
    `suspended` are the names of tenants none of whose keys may be used. `restricted` are the
    purposes, "" for all, that a person of a tenant had restricted, by both names.
    """

    keys: dict[str, Key]
    secrets: dict[str, bytes]
    subjects: Mapping[str, SubjectKeys] = field(default_factory=dict)
    suspended: frozenset[str] = frozenset()
    restricted: Mapping[tuple[str, str], tuple[Restriction, ...]] = field(default_factory=dict)

    def restricts(self, tenant: str, pseudonym: str, purpose: str) -> bool:
        """Whether a person had this purpose restricted, or all of them."""
        found = self.restricted.get((tenant, pseudonym), ())
        return any(each.purpose in ("", purpose) for each in found)

    def sealed(self, tenant: str, pseudonym: str) -> str:
        """A pseudonym as a record holds it; in the clear where the tenant has no tree yet."""
        keys = self.subjects.get(tenant)
        return pseudonym if keys is None else keys.seal(pseudonym)


def fingerprint(secret: str) -> str:
    """What is stored of a key: SHA-256 of its text, in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def new_id() -> str:
    """A short public name for a key; it is safe in records and logs."""
    return "key_" + secrets.token_hex(6)


def new_secret() -> str:
    """The secret of a key: 32 random bytes."""
    return PREFIX + secrets.token_urlsafe(32)
