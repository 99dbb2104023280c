"""The endpoints a gateway may use, as the controller last found them.

One SQLite file, written by the controller alone and read by every gateway at least once
a second. An endpoint that is missing, expired or quarantined is refused; so when the
controller stops, the gateways stop too, at the expiry it wrote.

`generation` grows with every write: a plan made against an older generation is stale.
`lease` grows with every controller that begins: what one of before still wants to write is
refused here, where it would be read, however late it wakes.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

_SCHEMA = """
CREATE TABLE IF NOT EXISTS endpoint (id TEXT PRIMARY KEY, content TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS generation (only INTEGER PRIMARY KEY CHECK (only = 1), n INTEGER) STRICT;
INSERT OR IGNORE INTO generation VALUES (1, 0);
CREATE TABLE IF NOT EXISTS lease (only INTEGER PRIMARY KEY CHECK (only = 1), n INTEGER) STRICT;
INSERT OR IGNORE INTO lease VALUES (1, 0);
"""
_IS_MADE = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'generation'"
_HAS_LEASES = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'lease'"


class Endpoint(msgspec.Struct, frozen=True):
    """One engine at one address, and what the controller vouches for until `expires_at`.

    `attested_at` and `expires_at` are aware times, None before the first attestation.
    `quarantine` is a stable code, "" when the endpoint may be used; `reason` is for a reader.
    `recorded` is False while the log could not be told of this quarantine.
    """

    id: str
    engine: str
    address: str
    models: tuple[str, ...]
    place: str
    model_digest: str = ""
    attested_at: datetime | None = None
    expires_at: datetime | None = None
    quarantine: str = "not-attested"
    reason: str = "the controller has not vouched for it yet"
    recorded: bool = True

    def is_fresh(self, now: datetime) -> bool:
        """True while an attestation is in force at `now`."""
        if self.attested_at is None or self.expires_at is None:
            return False
        return self.attested_at <= now < self.expires_at


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything the registry said at one moment."""

    generation: int
    endpoints: tuple[Endpoint, ...]


class StalePlan(Exception):
    """Someone wrote since the snapshot this write was planned on. Nothing was written."""


class LeaseTaken(Exception):
    """Another controller has begun since the one that asks did. Nothing was written."""


class Registry:
    """Read and write the file. Writers name the generation their plan was made on."""

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        """Open the file; a writer creates it, a reader of a missing file sees no endpoints."""
        self._path = path
        if writable:
            path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._connect()) as db:
                db.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")  # all of it, or nothing yet
            path.chmod(0o640)

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=5, isolation_level=None)
        db.execute("PRAGMA journal_mode=DELETE")
        return db

    def snapshot(self) -> Snapshot:
        """Read it whole; one that does not exist yet, or is just being made, is an empty one."""
        if not self._path.exists():
            return Snapshot(0, ())
        db = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=5)
        try:
            db.execute("BEGIN")
            if db.execute(_IS_MADE).fetchone() is None:
                return Snapshot(0, ())
            rows = db.execute("SELECT content FROM endpoint ORDER BY id").fetchall()
            generation = int(db.execute("SELECT n FROM generation").fetchone()[0])
        finally:
            db.close()
        return Snapshot(generation, tuple(msgspec.json.decode(r[0], type=Endpoint) for r in rows))

    def take_lease(self) -> int:
        """Return a number greater than any before; who has a smaller one can write no more."""
        with closing(self._connect()) as db:
            db.execute("BEGIN IMMEDIATE")
            db.execute("UPDATE lease SET n = n + 1")
            number = int(db.execute("SELECT n FROM lease").fetchone()[0])
            db.execute("COMMIT")
            return number

    def newest_lease(self) -> int:
        """The greatest number that was given out; 0 where the file is not there, or is new."""
        if not self._path.exists():
            return 0
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=5)) as db:
            if db.execute(_HAS_LEASES).fetchone() is None:
                return 0
            return int(db.execute("SELECT n FROM lease").fetchone()[0])

    def write(
        self, endpoints: Iterable[Endpoint], *, planned_on: int, lease: int | None = None
    ) -> int:
        """Replace what is said of these endpoints; return the new generation.

        Raises:
            StalePlan: the registry moved on since `planned_on`. Nothing was written.
            LeaseTaken: `lease` is not the newest number that was given out. Nothing was written.
        """
        db = self._connect()
        try:
            db.execute("BEGIN IMMEDIATE")
            newest = int(db.execute("SELECT n FROM lease").fetchone()[0])
            if lease not in (None, newest):
                db.execute("ROLLBACK")
                raise LeaseTaken(f"lease {lease} was taken over, by {newest}")
            current = int(db.execute("SELECT n FROM generation").fetchone()[0])
            if current != planned_on:
                db.execute("ROLLBACK")
                raise StalePlan(f"planned on generation {planned_on}, it is {current} now")
            db.executemany(
                "INSERT INTO endpoint VALUES (?, ?) "
                "ON CONFLICT (id) DO UPDATE SET content = excluded.content",
                [(e.id, msgspec.json.encode(e).decode()) for e in endpoints],
            )
            db.execute("UPDATE generation SET n = n + 1")
            db.execute("COMMIT")
            return current + 1
        finally:
            db.close()

    def remove_all_but(self, ids: Iterable[str]) -> None:
        """Forget endpoints that the settings no longer name."""
        db = self._connect()
        try:
            marks = tuple(ids)
            holes = ",".join("?" * len(marks))
            db.execute(f"DELETE FROM endpoint WHERE id NOT IN ({holes})", marks)  # noqa: S608 - only question marks are spliced in
        finally:
            db.close()


def utcnow() -> datetime:
    """The one clock that services hand to what they call."""
    return datetime.now(UTC)
