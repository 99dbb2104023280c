"""The trees that subjects' keys are derived from, as rows of the keystore's file."""

import sqlite3
from collections.abc import Mapping

from sovereign import subjectkeys
from sovereign.errors import UnknownName
from sovereign.subjectkeys import SubjectKeys, Tree

_PREFIX_BYTES = subjectkeys.DEPTH // 8


def plant(db: sqlite3.Connection, tenant: str, generation: int) -> None:
    """Give a tenant its next tree."""
    _insert(db, tenant, generation, subjectkeys.planted())


def destroy(db: sqlite3.Connection, tenant: str, pseudonym: str) -> None:
    """Destroy the key of a subject, and plant the next tree when this was the newest.

    Raises:
        UnknownName: no tenant has this name, or it has no tree. Nothing was changed.
    """
    trees = _trees(db).get(tenant, [])
    cuts = (subjectkeys.cut(tree, pseudonym) for tree in trees)
    current = next(((g, change) for g, change in enumerate(cuts) if change), None)
    if current is None:
        raise UnknownName(f"{tenant!r} has no subjects", next_step="sovereign tenant list")
    _cut(db, tenant, *current)
    if current[0] == len(trees) - 1:
        plant(db, tenant, len(trees))


def read(
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
