"""API keys and tenants: who may knock, and on whose behalf.

A key is `sov_` and 32 random bytes; only its SHA-256 is stored, which is enough for a
secret of that size. Every key is bound to one tenant, one purpose and one legal basis
(GDPR Art. 5(1)(b), Art. 6) and declares where its data subject comes from. A tenant holds
the secret its subjects' pseudonyms are made with.

The gateway reads this file at least once a second; the command line writes it.
"""

import hashlib
import secrets
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from sovereign.errors import UnknownName

PREFIX = "sov_"
LEGAL_BASES = (
    "consent",
    "contract",
    "legal-obligation",
    "vital-interests",
    "public-task",
    "legitimate-interests",
)
"""GDPR Art. 6(1)(a) to (f), in that order."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tenant (name TEXT PRIMARY KEY, secret BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS key (hash TEXT PRIMARY KEY, content TEXT NOT NULL) STRICT;
"""


class Key(msgspec.Struct, frozen=True):
    """A key without its secret. Times are aware; `models` is empty for every model."""

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

    def state(self, now: datetime) -> str:
        """`active`, `revoked` or `expired` at `now`."""
        if self.revoked_at is not None and self.revoked_at <= now:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= now:
            return "expired"
        return "active"


@dataclass(frozen=True, slots=True)
class Known:
    """Every key by the hash of its secret, and every tenant's secret."""

    keys: dict[str, Key]
    secrets: dict[str, bytes]


def fingerprint(secret: str) -> str:
    """What is stored of a key: SHA-256 of its text, in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Keystore:
    """One SQLite file, readable by the gateway and the operator only."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def create(self) -> None:
        """Make the file if it is not there."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(self._connect()) as db, db:
            db.executescript(_SCHEMA)
        self._path.chmod(0o640)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=5)

    def known(self) -> Known:
        """Read everything; a store that does not exist knows nobody."""
        if not self._path.exists():
            return Known({}, {})
        db = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=5)
        try:
            keys = db.execute("SELECT hash, content FROM key").fetchall()
            tenants = db.execute("SELECT name, secret FROM tenant").fetchall()
        finally:
            db.close()
        return Known(
            {digest: msgspec.json.decode(content, type=Key) for digest, content in keys},
            {name: bytes(secret) for name, secret in tenants},
        )

    def add(self, key: Key) -> str:
        """Store a new key, and its tenant when it is new; return the secret, once.

        The first write of a tenant makes the secret its subjects are named with.
        """
        secret = PREFIX + secrets.token_urlsafe(32)
        with closing(self._connect()) as db, db:
            db.execute(
                "INSERT OR IGNORE INTO tenant VALUES (?, ?)", (key.tenant, secrets.token_bytes(32))
            )
            db.execute(
                "INSERT INTO key VALUES (?, ?)",
                (fingerprint(secret), msgspec.json.encode(key).decode()),
            )
        return secret

    def revoke(self, key_id: str, now: datetime) -> Key:
        """Mark a key revoked from `now` on; revoking twice keeps the first time.

        Raises:
            UnknownName: no key has this id. Nothing was changed.
        """
        with closing(self._connect()) as db, db:
            for digest, content in db.execute("SELECT hash, content FROM key").fetchall():
                key = msgspec.json.decode(content, type=Key)
                if key.id != key_id:
                    continue
                if key.revoked_at is None:
                    key = msgspec.structs.replace(key, revoked_at=now)
                    db.execute(
                        "UPDATE key SET content = ? WHERE hash = ?",
                        (msgspec.json.encode(key).decode(), digest),
                    )
                return key
        raise UnknownName(f"no key has the id {key_id!r}", next_step="sovereign key list")


def new_id() -> str:
    """A short public name for a key; it is safe in records and logs."""
    return "key_" + secrets.token_hex(6)
