"""Keys and tenants as rows of the keystore's file: one statement or two each, in the caller's
transaction."""

import secrets
import sqlite3
from datetime import datetime

import msgspec

from sovereign.errors import BadInput, UnknownName
from sovereign.keystore import trees
from sovereign.keystore.bound import CERTIFICATE, Key, Tenant, fingerprint

LISTED_MAX = 20
"""How many of the names that exist an error says."""


def states(db: sqlite3.Connection) -> dict[str, Tenant]:
    """What is known of tenants by name; those of an older file are not among them."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'tenant_state'").fetchone():
        return {}
    rows = db.execute("SELECT name, content FROM tenant_state").fetchall()
    return {name: msgspec.json.decode(content, type=Tenant) for name, content in rows}


def plant_tenant(db: sqlite3.Connection, name: str, now: datetime) -> bool:
    """Make a tenant with its secret and its tree; False when it is there already."""
    new = db.execute("INSERT OR IGNORE INTO tenant VALUES (?, ?)", (name, secrets.token_bytes(32)))
    if new.rowcount != 1:
        return False
    trees.plant(db, name, 0)
    write_tenant(db, Tenant(name, created_at=now))
    return True


def write_tenant(db: sqlite3.Connection, tenant: Tenant) -> None:
    """Say how a tenant is now."""
    db.execute(
        "INSERT OR REPLACE INTO tenant_state VALUES (?, ?)",
        (tenant.name, msgspec.json.encode(tenant).decode()),
    )


def insert_key(db: sqlite3.Connection, key: Key, secret: str) -> None:
    """Store a key by what it is found by.

    Raises:
        BadInput: its certificate's public key is bound already.
    """
    digest = CERTIFICATE + key.certificate if key.certificate else fingerprint(secret)
    refuse_bound(db, digest)
    db.execute("INSERT INTO key VALUES (?, ?)", (digest, msgspec.json.encode(key).decode()))


def refuse_bound(db: sqlite3.Connection, digest: str) -> None:
    """Refuse what a key is found by already.

    One that was revoked stays bound: whoever has it must not come back as somebody else.

    Raises:
        BadInput: it is.
    """
    bound = db.execute("SELECT content FROM key WHERE hash = ?", (digest,)).fetchone()
    if bound:
        before = msgspec.json.decode(bound[0], type=Key)
        raise BadInput(
            "this certificate's public key is bound already",
            found=f"key {before.id}",
            accepted="a certificate with a key pair of its own",
            next_step=f"sovereign key show {before.id}",
        )


def found_key(db: sqlite3.Connection, key_id: str) -> tuple[str, Key]:
    """A key by its id, and what it is found by.

    Raises:
        UnknownName: there is none.
    """
    ids = []
    for digest, content in db.execute("SELECT hash, content FROM key").fetchall():
        key = msgspec.json.decode(content, type=Key)
        if key.id == key_id:
            return digest, key
        ids.append(key.id)
    raise unknown("key", key_id, ids, "sovereign key list")


def update_key(db: sqlite3.Connection, digest: str, key: Key) -> Key:
    """Say how a key is now."""
    content = msgspec.json.encode(key).decode()
    db.execute("UPDATE key SET content = ? WHERE hash = ?", (content, digest))
    return key


def unknown(what: str, name: str, known: list[str], next_step: str) -> UnknownName:
    """No such name, and which there are."""
    listed = ", ".join(known[:LISTED_MAX])
    more = f", and {len(known) - LISTED_MAX} more" if len(known) > LISTED_MAX else ""
    accepted = f"{listed}{more}" if known else f"none: there is no {what} yet"
    return UnknownName(f"no {what} is called {name!r}", accepted=accepted, next_step=next_step)
