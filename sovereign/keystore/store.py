"""The file that keys and tenants stand in. The command line writes it, the gateway reads it.

A file made by an earlier version lacks newer tables and fields: it is read as if they were
empty, and `create` adds the tables. Every change is one transaction, done or not done.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

import msgspec

from sovereign.keystore import restrictions, rows, trees
from sovereign.keystore.bound import Key, Known, Restriction, Tenant, new_secret
from sovereign.subjectkeys import SubjectKeys

State = tuple[int, int, int, bytes]
_SCHEMA = """
CREATE TABLE IF NOT EXISTS tenant (name TEXT PRIMARY KEY, secret BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS tenant_state (name TEXT PRIMARY KEY, content TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS key (hash TEXT PRIMARY KEY, content TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS subject_node (
    tenant TEXT NOT NULL, generation INTEGER NOT NULL, depth INTEGER NOT NULL,
    prefix BLOB NOT NULL, secret BLOB NOT NULL,
    PRIMARY KEY (tenant, generation, depth, prefix)
) STRICT;
CREATE TABLE IF NOT EXISTS subject_restricted (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, pseudonym TEXT NOT NULL, purpose TEXT NOT NULL,
    UNIQUE (tenant, pseudonym, purpose)
) STRICT;
CREATE TABLE IF NOT EXISTS subject_change (number INTEGER PRIMARY KEY) STRICT;
"""


class Keystore:
    """One SQLite file, readable by the gateway and the operator only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._subjects: tuple[int, Mapping[str, SubjectKeys]] = (-1, {})
        self._last: tuple[State, Known] | None = None

    def create(self) -> None:
        """Make the file if it is not there, and a tree for every tenant that has none."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch(mode=0o640)  # before anything is in it that others may not read
        with self._changing() as db:
            db.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")  # all of it, or nothing yet
            for (name,) in db.execute(
                "SELECT name FROM tenant WHERE name NOT IN (SELECT tenant FROM subject_node)"
            ).fetchall():
                trees.plant(db, name, 0)
        self._path.chmod(0o640)

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=5)) as db, db:
            yield db

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=5)) as db:
            yield db

    def known(self) -> Known:
        """Read everything, if anything has changed since; a store that is not there knows nobody.

        The gateway asks twice a second, and a thousand keys take milliseconds to read.
        """
        state = _state(self._path)  # first, so that what is read is at least as new
        if state is None:
            return Known({}, {})
        if self._last is None or self._last[0] != state:
            self._last = state, self._read()
        return self._last[1]

    def _read(self) -> Known:
        with self._reading() as db:
            keys = db.execute("SELECT hash, content FROM key").fetchall()
            tenants = db.execute("SELECT name, secret FROM tenant").fetchall()
            states = rows.states(db)
            self._subjects = trees.read(db, self._subjects)
            restricted = restrictions.by_person(db)
        return Known(
            {digest: msgspec.json.decode(content, type=Key) for digest, content in keys},
            {name: bytes(secret) for name, secret in tenants},
            self._subjects[1],
            frozenset(t.name for t in states.values() if t.suspended_at is not None),
            restricted,
        )

    def tenants(self) -> list[Tenant]:
        """Every tenant, by name."""
        if not self._path.exists():
            return []
        with self._reading() as db:
            names = [name for (name,) in db.execute("SELECT name FROM tenant ORDER BY name")]
            states = rows.states(db)
        return [states.get(name, Tenant(name)) for name in names]

    def tenant(self, name: str) -> Tenant:
        """The tenant of that name.

        Raises:
            UnknownName: there is none; the message says which there are.
        """
        every = self.tenants()
        for each in every:
            if each.name == name:
                return each
        raise rows.unknown("tenant", name, [each.name for each in every], "sovereign tenant list")

    def key(self, key_id: str) -> Key:
        """The key of that id.

        Raises:
            UnknownName: there is none; the message says which there are.
        """
        if not self._path.exists():
            raise rows.unknown("key", key_id, [], "sovereign key list")
        with self._reading() as db:
            return rows.found_key(db, key_id)[1]

    def refuse_bound(self, digest: str) -> None:
        """Refuse a certificate, by its fingerprint, that could not be added.

        Raises:
            BadInput: its public key is bound already.
        """
        with self._reading() as db:
            rows.refuse_bound(db, digest)

    def add(self, key: Key) -> str:
        """Store a new key, and its tenant when it is new; return the secret, once.

        A key bound to a certificate has no secret: "" is returned. The first write of a tenant
        makes the secret its subjects are named with, and the tree their keys come from.

        Raises:
            BadInput: the certificate's public key is bound already. Nothing was changed.
        """
        secret = "" if key.certificate else new_secret()
        with self._changing() as db:
            rows.plant_tenant(db, key.tenant, key.created_at)
            rows.insert_key(db, key, secret)
        return secret

    def rotate(self, key_id: str, successor: Key, until: datetime) -> tuple[Key, str]:
        """Store a key in the place of another, which works until `until` and no longer.

        Returns:
            The old key as it now is, and the secret of the new one, once ("" with a certificate).

        Raises:
            UnknownName, BadInput: no such key, or the new certificate is bound already.
        """
        secret = "" if successor.certificate else new_secret()
        with self._changing() as db:
            db.execute("BEGIN IMMEDIATE")
            digest, old = rows.found_key(db, key_id)
            ends = until if old.expires_at is None else min(until, old.expires_at)
            old = rows.update_key(db, digest, msgspec.structs.replace(old, expires_at=ends))
            rows.insert_key(db, successor, secret)
        return old, secret

    def expire(self, key_id: str, at: datetime) -> Key:
        """Let a key end at a time.

        Raises:
            UnknownName: no key has this id. Nothing was changed.
        """
        with self._changing() as db:
            db.execute("BEGIN IMMEDIATE")
            digest, key = rows.found_key(db, key_id)
            return rows.update_key(db, digest, msgspec.structs.replace(key, expires_at=at))

    def revoke(self, key_id: str, now: datetime) -> Key:
        """Mark a key revoked from `now` on; revoking twice keeps the first time.

        Raises:
            UnknownName: no key has this id. Nothing was changed.
        """
        with self._changing() as db:
            db.execute("BEGIN IMMEDIATE")
            digest, key = rows.found_key(db, key_id)
            if key.revoked_at is not None:
                return key
            return rows.update_key(db, digest, msgspec.structs.replace(key, revoked_at=now))

    def create_tenant(self, name: str, now: datetime) -> bool:
        """Make a tenant, with its secret and its tree; False when it is there already."""
        with self._changing() as db:
            return rows.plant_tenant(db, name, now)

    def suspend(self, name: str, at: datetime | None) -> Tenant:
        """Refuse all keys of a tenant from now on, or none any more (`at` is None).

        Suspending twice keeps the first time.

        Raises:
            UnknownName: no tenant has this name. Nothing was changed.
        """
        tenant = self.tenant(name)
        if at is not None and tenant.suspended_at is not None:
            return tenant
        tenant = msgspec.structs.replace(tenant, suspended_at=at)
        with self._changing() as db:
            rows.write_tenant(db, tenant)
        return tenant

    def restrict(self, wanted: Restriction) -> Restriction:
        """Let nothing be done for a person's purpose from now on; a gateway knows within a second.

        Returns:
            What stands now: the earlier one where this purpose was restricted already.
        """
        self.create()  # a store that an earlier version made has no such table
        with self._changing() as db:
            db.execute("BEGIN IMMEDIATE")
            return restrictions.add(db, wanted)

    def lift(self, ids: Iterable[str]) -> None:
        """Forget restrictions, and with them who they were about."""
        with self._changing() as db:
            db.execute("PRAGMA secure_delete = ON")
            db.execute("BEGIN IMMEDIATE")
            restrictions.remove(db, ids)

    def destroy(self, tenant: str, pseudonym: str) -> None:
        """Destroy the key of a subject.

        Once this returns, what was sealed under it is sealed for ever, here: a copy of this
        file, such as a backup, still has it. A gateway knows within a second; what it records
        until then is sealed under the destroyed key too. Whoever comes back gets a key of the
        next generation, which this makes when there is none; destroying again destroys that.

        Raises:
            UnknownName: no tenant has this name, or it has no tree. Nothing was changed.
        """
        with self._changing() as db:
            db.execute("PRAGMA secure_delete = ON")
            db.execute("BEGIN IMMEDIATE")
            trees.destroy(db, tenant, pseudonym)


def _state(path: Path) -> State | None:
    """What differs once the file was changed or replaced; None where there is none.

    SQLite counts changes in the header (file format, section 1.3.7), so that two within one tick
    of the file system's clock differ too.
    """
    try:
        with path.open("rb") as file:
            head, found = file.read(28), os.fstat(file.fileno())
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, head[24:]
