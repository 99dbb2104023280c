"""API keys and tenants: who may knock, and on whose behalf.

A key is `sov_` and 32 random bytes; only its SHA-256 is stored, which is enough for a
secret of that size. Every key is bound to one tenant, one purpose and one legal basis
(GDPR Art. 5(1)(b), Art. 6) and declares where its data subject comes from. A tenant holds
the secret its subjects' pseudonyms are made with.

It also holds the tree out of which the keys of a tenant's subjects are derived
(`subjectkeys.py`), less what was destroyed.

The gateway reads this file at least once a second; the command line writes it.
"""

import hashlib
import secrets
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import msgspec

from sovereign import subjectkeys
from sovereign.errors import UnknownName
from sovereign.subjectkeys import SubjectKeys, Tree

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
CREATE TABLE IF NOT EXISTS subject_node (
    tenant TEXT NOT NULL, generation INTEGER NOT NULL, depth INTEGER NOT NULL,
    prefix BLOB NOT NULL, secret BLOB NOT NULL,
    PRIMARY KEY (tenant, generation, depth, prefix)
) STRICT;
CREATE TABLE IF NOT EXISTS subject_change (number INTEGER PRIMARY KEY) STRICT;
"""
_PREFIX_BYTES = subjectkeys.DEPTH // 8


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
    """Every key by the hash of its secret, every tenant's secret, and its subjects' keys.

    `subjects` lacks a tenant whose store was made before there were such keys, until `create`.
    """

    keys: dict[str, Key]
    secrets: dict[str, bytes]
    subjects: Mapping[str, SubjectKeys] = field(default_factory=dict)

    def sealed(self, tenant: str, pseudonym: str) -> str:
        """A pseudonym as a record holds it; in the clear where the tenant has no tree yet."""
        keys = self.subjects.get(tenant)
        return pseudonym if keys is None else keys.seal(pseudonym)


def fingerprint(secret: str) -> str:
    """What is stored of a key: SHA-256 of its text, in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Keystore:
    """One SQLite file, readable by the gateway and the operator only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._subjects: tuple[int, Mapping[str, SubjectKeys]] = (-1, {})

    def create(self) -> None:
        """Make the file if it is not there, and a tree for every tenant that has none."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch(mode=0o640)  # before anything is in it that others may not read
        with closing(self._connect()) as db, db:
            db.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")  # all of it, or nothing yet
            for (name,) in db.execute(
                "SELECT name FROM tenant WHERE name NOT IN (SELECT tenant FROM subject_node)"
            ).fetchall():
                _plant(db, name, 0)
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
            self._subjects = _subjects(db, self._subjects)
        finally:
            db.close()
        return Known(
            {digest: msgspec.json.decode(content, type=Key) for digest, content in keys},
            {name: bytes(secret) for name, secret in tenants},
            self._subjects[1],
        )

    def add(self, key: Key) -> str:
        """Store a new key, and its tenant when it is new; return the secret, once.

        The first write of a tenant makes the secret its subjects are named with, and the tree
        their keys come from.
        """
        secret = PREFIX + secrets.token_urlsafe(32)
        with closing(self._connect()) as db, db:
            new = db.execute(
                "INSERT OR IGNORE INTO tenant VALUES (?, ?)", (key.tenant, secrets.token_bytes(32))
            )
            if new.rowcount == 1:
                _plant(db, key.tenant, 0)
            db.execute(
                "INSERT INTO key VALUES (?, ?)",
                (fingerprint(secret), msgspec.json.encode(key).decode()),
            )
        return secret

    def destroy(self, tenant: str, pseudonym: str) -> None:
        """Destroy the key of a subject.

        Once this returns, what was sealed under it is sealed for ever, here: a copy of this
        file, such as a backup, still has it. A gateway knows within a second; what it records
        until then is sealed under the destroyed key too. Whoever comes back gets a key of the
        next generation, which this makes when there is none; destroying again destroys that.

        Raises:
            UnknownName: no tenant has this name, or it has no tree. Nothing was changed.
        """
        with closing(self._connect()) as db, db:
            db.execute("PRAGMA secure_delete = ON")
            db.execute("BEGIN IMMEDIATE")
            trees = _trees(db).get(tenant, [])
            cuts = (subjectkeys.cut(tree, pseudonym) for tree in trees)
            current = next(((g, change) for g, change in enumerate(cuts) if change), None)
            if current is None:
                raise UnknownName(f"{tenant!r} has no subjects", next_step="sovereign key list")
            _cut(db, tenant, *current)
            if current[0] == len(trees) - 1:
                _plant(db, tenant, len(trees))

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


def _plant(db: sqlite3.Connection, tenant: str, generation: int) -> None:
    """Give a tenant its next tree."""
    _insert(db, tenant, generation, subjectkeys.planted())


def _insert(db: sqlite3.Connection, tenant: str, generation: int, nodes: Tree) -> None:
    db.executemany(
        "INSERT INTO subject_node VALUES (?, ?, ?, ?, ?)",
        [
            (tenant, generation, depth, prefix.to_bytes(_PREFIX_BYTES, "big"), secret)
            for (depth, prefix), secret in nodes.items()
        ],
    )
    db.execute("INSERT INTO subject_change DEFAULT VALUES")


def _cut(db: sqlite3.Connection, tenant: str, generation: int, change: subjectkeys.Cut) -> None:
    depth, prefix = change.gone
    db.execute(
        "DELETE FROM subject_node WHERE tenant = ? AND generation = ? AND depth = ? AND prefix = ?",
        (tenant, generation, depth, prefix.to_bytes(_PREFIX_BYTES, "big")),
    )
    _insert(db, tenant, generation, change.added)


def _trees(db: sqlite3.Connection) -> dict[str, list[dict[subjectkeys.Node, bytes]]]:
    """Every tenant's trees, by generation."""
    found: dict[str, list[dict[subjectkeys.Node, bytes]]] = {}
    rows = db.execute(
        "SELECT tenant, generation, depth, prefix, secret FROM subject_node ORDER BY generation"
    )
    for tenant, generation, depth, prefix, secret in rows:
        trees = found.setdefault(tenant, [])
        while len(trees) <= generation:
            trees.append({})
        trees[generation][depth, int.from_bytes(prefix, "big")] = bytes(secret)
    return found


def _subjects(
    db: sqlite3.Connection, last: tuple[int, Mapping[str, SubjectKeys]]
) -> tuple[int, Mapping[str, SubjectKeys]]:
    """The subjects' keys, read again only when something was planted or destroyed."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'subject_change'").fetchone():
        return last
    (changes,) = db.execute("SELECT coalesce(max(number), 0) FROM subject_change").fetchone()
    if changes == last[0]:
        return last
    found = {tenant: SubjectKeys(tenant, tuple(trees)) for tenant, trees in _trees(db).items()}
    return changes, found


def new_id() -> str:
    """A short public name for a key; it is safe in records and logs."""
    return "key_" + secrets.token_hex(6)
