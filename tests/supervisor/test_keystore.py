"""Keys and tenants on the disk: what is stored, who can read it, and when a key ends."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sovereign.errors import UnknownName
from sovereign.keystore import PREFIX, Key, Keystore, fingerprint, new_id

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def key(**more: Any) -> Key:
    said = {
        "id": new_id(),
        "tenant": "acme",
        "purpose": "tests",
        "basis": "contract",
        "data": "personal",
        "subject": "none",
        "created_at": NOW,
    }
    return Key(**(said | more))


@pytest.fixture
def store(tmp_path: Path) -> Keystore:
    it = Keystore(tmp_path / "deep" / "keys.sqlite")
    it.create()
    return it


def test_only_the_hash_of_a_secret_is_stored(store: Keystore, tmp_path: Path) -> None:
    """A stolen file must not open the gateway."""
    secret = store.add(key())
    assert secret.startswith(PREFIX)
    assert len(secret) > 40
    raw = (tmp_path / "deep" / "keys.sqlite").read_bytes()
    assert secret.encode() not in raw
    assert secret.removeprefix(PREFIX).encode() not in raw
    assert fingerprint(secret) in store.known().keys


def test_others_on_the_machine_cannot_read_the_file(store: Keystore, tmp_path: Path) -> None:
    """It holds the tenants' secrets, which link pseudonyms to people."""
    assert (tmp_path / "deep" / "keys.sqlite").stat().st_mode & 0o007 == 0


def test_a_tenant_keeps_its_secret_over_all_of_its_keys(store: Keystore) -> None:
    """Another secret would give the same person another pseudonym, and an erasure would miss."""
    store.add(key())
    before = store.known().secrets
    store.add(key())
    store.add(key(tenant="other"))
    after = store.known().secrets
    assert after["acme"] == before["acme"]
    assert after["other"] != after["acme"]
    assert {len(secret) for secret in after.values()} == {32}


@pytest.mark.parametrize(
    ("more", "at", "state"),
    [
        ({}, NOW, "active"),
        ({"expires_at": NOW}, NOW - SECOND, "active"),
        ({"expires_at": NOW}, NOW, "expired"),
        ({"revoked_at": NOW}, NOW - SECOND, "revoked"),
        ({"revoked_at": NOW}, NOW, "revoked"),
        ({"revoked_at": NOW, "expires_at": NOW}, NOW, "revoked"),
    ],
)
def test_a_key_ends_at_the_very_moment_it_says(
    more: dict[str, Any], at: datetime, state: str
) -> None:
    """The edge is on the side of refusing."""
    assert key(**more).state(at) == state


def test_revoking_keeps_the_first_time_and_knows_no_other_key(store: Keystore) -> None:
    """The record of when it ended must not move by being said again."""
    made = key()
    store.add(made)
    assert store.revoke(made.id, NOW).revoked_at == NOW
    assert store.revoke(made.id, NOW + SECOND).revoked_at == NOW
    with pytest.raises(UnknownName):
        store.revoke("key_other", NOW)
    (known,) = store.known().keys.values()
    assert known.revoked_at == NOW


def test_a_store_that_is_not_there_knows_nobody(tmp_path: Path) -> None:
    """And is not made by looking."""
    known = Keystore(tmp_path / "none.sqlite").known()
    assert (known.keys, known.secrets) == ({}, {})
    assert list(tmp_path.iterdir()) == []


def test_making_the_store_again_loses_nothing(store: Keystore) -> None:
    """`make deploy` does it each time."""
    secret = store.add(key())
    store.create()
    assert fingerprint(secret) in store.known().keys


def test_a_store_that_did_not_change_is_not_read_again_and_every_change_is_seen(
    tmp_path: Path,
) -> None:
    """The gateway looks twice a second; a thousand keys take milliseconds to read."""
    path, made = tmp_path / "keys.sqlite", key()
    writer, reader = Keystore(path), Keystore(path)
    assert reader.known().keys == {}
    writer.create()
    seen = [reader.known()]
    for change in (
        lambda: writer.add(made),
        lambda: writer.rotate(made.id, key(replaces=made.id), NOW),
        lambda: writer.expire(made.id, NOW + SECOND),
        lambda: writer.revoke(made.id, NOW),
        lambda: writer.create_tenant("legal", NOW),
        lambda: writer.suspend("legal", NOW),
        lambda: writer.suspend("legal", None),
        lambda: writer.destroy("acme", "ab" * 32),
    ):
        change()
        assert reader.known() is reader.known()
        assert reader.known() is not seen[-1]
        assert reader.known() == Keystore(path).known()
        seen.append(reader.known())
    shutil.copy(path, tmp_path / "copy")
    (tmp_path / "copy").replace(path)
    assert reader.known() is not seen[-1]
    path.unlink()
    assert reader.known().keys == {}
