"""Whose data may not be used, as rows of the keystore's file, in the caller's transaction.

A person stands there by pseudonym, beside the secret it was made with. The audit log has the ids
alone, so that both can be compared and the log says nothing of whom.
"""

import sqlite3
from collections.abc import Iterable, Mapping

from sovereign.keystore.bound import Restriction


def by_person(db: sqlite3.Connection) -> Mapping[tuple[str, str], tuple[Restriction, ...]]:
    """Every restriction by tenant and pseudonym; none in a file that is older than the table."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'subject_restricted'").fetchone():
        return {}
    found: dict[tuple[str, str], tuple[Restriction, ...]] = {}
    for row in db.execute(
        "SELECT id, tenant, pseudonym, purpose FROM subject_restricted ORDER BY id"
    ):
        each = Restriction(*row)
        person = each.tenant, each.pseudonym
        found[person] = (*found.get(person, ()), each)
    return found


def add(db: sqlite3.Connection, wanted: Restriction) -> Restriction:
    """Restrict, and say what stands: what was there before, or else this."""
    values = wanted.id, wanted.tenant, wanted.pseudonym, wanted.purpose
    db.execute("INSERT OR IGNORE INTO subject_restricted VALUES (?, ?, ?, ?)", values)
    (found,) = db.execute(
        "SELECT id FROM subject_restricted WHERE tenant = ? AND pseudonym = ? AND purpose = ?",
        values[1:],
    ).fetchone()
    return Restriction(found, *values[1:])


def remove(db: sqlite3.Connection, ids: Iterable[str]) -> None:
    """Forget these."""
    db.executemany("DELETE FROM subject_restricted WHERE id = ?", [(each,) for each in ids])
