"""The registry as its readers meet it: not there, just being made, made."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

from sovereign.registry import Registry, Snapshot

EMPTY = Snapshot(0, ())


def test_a_registry_that_is_just_being_made_is_an_empty_one(tmp_path: Path) -> None:
    """`deploy` looks at it while the controller starts: what is half there must not be a fault."""
    path = tmp_path / "registry.sqlite"
    assert Registry(path).snapshot() == EMPTY
    path.touch()
    assert Registry(path).snapshot() == EMPTY
    Registry(path, writable=True)
    assert Registry(path).snapshot() == EMPTY


def test_whoever_reads_while_it_is_made_meets_all_of_it_or_nothing(tmp_path: Path) -> None:
    """Not by chance once in a thousand starts either."""
    for number in range(40):
        path = tmp_path / f"{number}.sqlite"
        making = threading.Thread(target=Registry, args=(path,), kwargs={"writable": True})
        making.start()
        while making.is_alive():
            assert Registry(path).snapshot() == EMPTY
        making.join()
        with closing(sqlite3.connect(path)) as db:
            assert db.execute("SELECT n FROM generation").fetchone() == (0,)
