"""The database that gateways share, searched as a place where a word could have stayed.

Every table that the site's own user can read is streamed out whole, with the statements that the
server shows as running or counted. What the server keeps elsewhere (its log, its write-ahead log)
lies on its own machine: where that is another one, somebody brings it along.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sovereign.drills.places import Looked, Search
from sovereign.settings import Home

if TYPE_CHECKING:
    from psycopg import Connection

CONNECTS_WITHIN_S, STATEMENT_MS = 10, 60_000
_TABLES = """
SELECT schemaname, tablename FROM pg_tables
WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2
"""
_SHOWN = ("pg_stat_activity", "pg_stat_statements", "pg_prepared_statements")


def shared(search: Search, home: Home) -> Looked:
    """Every table of the shared database, and what it shows of statements."""
    looked = Looked("database")
    url = home.settings.gateway.limits_database
    if not url:
        looked.absent = "no database is shared"
        return looked
    from psycopg import Error, connect  # heavy, and most sites have none

    options = f"-c statement_timeout={STATEMENT_MS} -c default_transaction_read_only=on"
    try:
        with connect(url, connect_timeout=CONNECTS_WITHIN_S, options=options) as db:
            for schema, name in db.execute(_TABLES).fetchall():
                search.parts(looked, f"{schema}.{name}", _rows(db, schema, name))
            for name in _SHOWN:
                if db.execute("SELECT to_regclass(%s)", (name,)).fetchone() != (None,):
                    search.parts(looked, name, _rows(db, "", name))
    except Error as error:
        looked.lacks("gateway.limits_database", type(error).__name__)
    return looked


def _rows(db: "Connection[Any]", schema: str, name: str) -> Iterator[bytes]:
    """A table as text, as it streams."""
    from psycopg.sql import SQL, Identifier

    table = Identifier(schema, name) if schema else Identifier(name)
    with db.cursor().copy(SQL("COPY (SELECT * FROM {}) TO STDOUT").format(table)) as rows:
        for row in rows:
            yield bytes(row)
