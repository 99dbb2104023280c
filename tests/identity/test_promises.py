"""What the commands about keys promise, held against those who are in a hurry or mean harm."""

import io
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sovereign.cli import keys_end
from sovereign.gateway.view import STALE_KEYS_MAX_S, View
from sovereign.keystore import Keystore, Known, fingerprint
from sovereign.registry import Snapshot, utcnow
from sovereign.settings import load
from tests.cli.conftest import Run
from tests.identity.issuing import said
from tests.identity.test_issuer_command import configure
from tests.identity.test_keys import CREATE, OLD_KEY, OLD_SCHEMA, known, recorded


@pytest.mark.parametrize(
    "words",
    [
        ("key", "revoke", "key_old", "--dry-run"),
        ("key", "rotate", "key_old", "--dry-run"),
        ("key", "expire", "key_old", "--in", "1h", "--dry-run"),
        ("tenant", "suspend", "hr", "--dry-run"),
        ("key", "list"),
        ("key", "show", "key_old"),
        ("tenant", "list"),
        ("tenant", "show", "hr"),
    ],
    ids=" ".join,
)
def test_looking_changes_nothing_in_a_store_of_an_earlier_version(
    run: Run, site: Path, words: tuple[str, ...]
) -> None:
    """A file that is evidence must be the same after somebody looked at it."""
    path = load(site).keystore
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(OLD_SCHEMA)
        db.execute("INSERT INTO tenant VALUES ('hr', ?)", (b"s" * 32,))
        content = msgspec.json.encode(OLD_KEY).decode()
        db.execute("INSERT INTO key VALUES (?, ?)", (fingerprint("sov_old"), content))
    before, mode = path.read_bytes(), path.stat().st_mode
    assert run(*words).code == 0
    assert (path.read_bytes(), path.stat().st_mode) == (before, mode)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("key", "list"), 0),
        (("tenant", "list"), 0),
        (("key", "show", "key_x"), 2),
        (("key", "revoke", "key_x", "--dry-run"), 2),
        (("tenant", "suspend", "hr", "--dry-run"), 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_looking_makes_no_store_where_there_is_none(
    run: Run, site: Path, words: tuple[str, ...], code: int
) -> None:
    """The answer is that there is nothing, and afterwards there still is not."""
    assert run(*words).code == code
    assert not load(site).keystore.exists()


def test_a_key_that_is_revoked_while_it_is_being_rotated_gets_no_successor(
    run: Run, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two people at once: one shuts a leaked key out, the other renews it."""
    key = run(*CREATE, "--json").json["id"]
    real: Callable[..., Any] = keys_end.operator_trail

    def later(*how: Any) -> Any:
        Keystore(load(site).keystore).revoke(key, utcnow())
        return real(*how)

    monkeypatch.setattr(keys_end, "operator_trail", later)
    assert run("key", "rotate", key).error == "bad-input"
    assert run("key", "expire", key, "--in", "1h").error == "bad-input"
    (left,) = known(site).keys.values()
    assert left.state(utcnow()) == "revoked"
    assert recorded(site, "key-replaced", "key-expiry-set") == []


@pytest.mark.parametrize(
    ("words", "record"),
    [
        (("key", "rotate", "KEY", "--overlap", "0s"), "key-replaced"),
        (("key", "expire", "KEY", "--in", "1h"), "key-expiry-set"),
    ],
    ids=["rotate", "expire"],
)
def test_no_record_says_that_a_key_ends_sooner_than_it_does(
    run: Run, site: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], record: str
) -> None:
    """A disk that is full in between must not leave a key that the log says has ended."""
    key = run(*CREATE, "--json").json["id"]

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    for name in ("rotate", "expire"):
        monkeypatch.setattr(Keystore, name, full)
    assert run(*[key if word == "KEY" else word for word in words]).code != 0
    assert recorded(site, record) == []


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_before_or_after_all_times_is_no_time(run: Run, site: Path, at: str) -> None:
    """A typing error is the asker's, not a rule of ours that broke."""
    key = run(*CREATE, "--json").json["id"]
    done = run("key", "expire", key, "--at", at)
    assert (done.code, done.error) == (2, "bad-input")


@pytest.mark.parametrize(
    "name", ["", " hr", "a\nb", "\u202egnp.exe", "\u200bhr", "\udcff", "x" * 129], ids=range(7)
)
def test_a_name_that_people_would_read_as_another_is_given_to_nothing(
    run: Run, site: Path, name: str
) -> None:
    """Names stand in records, and a court reads them."""
    for words in (
        ("tenant", "create", name),
        ("key", "create", "--tenant", name, "--purpose", "p"),
        ("key", "create", "--tenant", "hr", "--purpose", name),
    ):
        done = run(*words)
        assert (done.code, done.error) == (2, "bad-input"), words
    assert (known(site).keys, known(site).secrets) == ({}, {})


def test_what_is_no_text_on_input_is_no_token(
    run: Run, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was piped in by mistake is a mistake of the asker."""
    configure(site, said("http://127.0.0.1:9/jwks"))
    for raw, errors in ((b"\xff.x.y\n", "strict"), (b"\xff.x.y\n", "surrogateescape")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw), "utf-8", errors))
        done = run("issuer", "check")
        assert (done.code, done.error) == (2, "bad-input")


@pytest.mark.parametrize("sign", [1, -1], ids=["later", "set back"])
def test_keys_are_too_old_on_either_side_of_a_clock_that_jumps(sign: int) -> None:
    """A clock that was set back by a day would otherwise keep a revoked key for a day."""
    now = utcnow()
    view = View(Known({}, {}), Snapshot(0, ()), now)
    assert not view.keys_are_stale(now + sign * timedelta(seconds=STALE_KEYS_MAX_S))
    assert view.keys_are_stale(now + sign * timedelta(seconds=STALE_KEYS_MAX_S + 1))
