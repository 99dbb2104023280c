"""A subject's key: the same for ever, gone for ever, and nobody else's with it."""

import random
import secrets
import sqlite3
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sovereign import subjectkeys
from sovereign.errors import UnknownName
from sovereign.keystore import Key, Keystore, new_id
from sovereign.registry import utcnow
from sovereign.subjectkeys import SEALED, SubjectKeys, Tree, after, cut, is_about, key_of
from sovereign.subjects import pseudonym
from tests.docs.reading import DOCS

ROOT = bytes(range(32))
ANN, BEN = (pseudonym(b"a made-up secret", name) for name in ("ann", "ben"))
pseudonyms = st.binary(min_size=32, max_size=32).map(bytes.hex)


def tree() -> Tree:
    return {(0, 0): ROOT}


def derived(name: str) -> bytes:
    """A key by the definition in the page, from the root, bit by bit."""
    bits = f"{int(name, 16):0256b}"[:80]
    node = ROOT
    for bit in bits:
        node = sha256((b"\0" if bit == "0" else b"\1") + node).digest()
    return sha256(b"\2" + node + bytes.fromhex(name)).digest()


# --- the tree -----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(pseudonyms)
def test_a_key_is_what_the_page_says(name: str) -> None:
    """Whoever has tree and pseudonym can read a record without our program."""
    assert key_of(tree(), name) == derived(name)


@settings(deadline=None, max_examples=60)
@given(st.lists(pseudonyms, min_size=1, max_size=8, unique=True), pseudonyms)
def test_destroying_some_keys_leaves_every_other_as_it_was(gone: list[str], other: str) -> None:
    """One person's erasure must not make another's records unreadable."""
    left: Tree = tree()
    for name in gone:
        change = cut(left, name)
        if change is not None:
            left = after(left, change)
    assert all(key_of(left, name) is None for name in gone)
    near = [name[:19] + f"{int(name[19], 16) ^ 1:x}" + name[20:] for name in gone]
    for name in {other, *near}:
        same_way = any(name[:20] == each[:20] for each in gone)
        assert key_of(left, name) == (None if same_way else derived(name))


def test_nothing_that_is_left_leads_to_a_destroyed_key() -> None:
    """The siblings are beside the way, never on it: no hash of theirs is on it either."""
    change = cut(tree(), ANN)
    assert change is not None
    left = after(tree(), change)
    assert len(left) == subjectkeys.DEPTH
    node, on_the_way = ROOT, {ROOT}
    for bit in f"{int(ANN, 16):0256b}"[:80]:
        node = sha256((b"\0" if bit == "0" else b"\1") + node).digest()
        on_the_way.add(node)
    assert not on_the_way & set(left.values())
    way = int(ANN[:20], 16)
    assert not [1 for depth, prefix in left if way >> (80 - depth) == prefix]


def test_a_key_is_destroyed_once() -> None:
    """Interrupted and done again, it must be the same."""
    change = cut(tree(), ANN)
    assert change is not None
    assert cut(after(tree(), change), ANN) is None


def test_every_tree_is_another() -> None:
    """Two tenants must not be able to read each other."""
    assert subjectkeys.planted() != subjectkeys.planted()


# --- sealing ------------------------------------------------------------------------------------


def keys(*trees: Tree, tenant: str = "acme") -> SubjectKeys:
    return SubjectKeys(tenant, trees or (tree(),))


def test_a_sealed_pseudonym_is_known_by_its_subject_and_by_nobody_else() -> None:
    """Finding a person's records must not need an index of persons."""
    found = keys().seal(ANN)
    assert keys().is_of(found, ANN)
    assert not keys().is_of(found, BEN)
    assert not keys(tenant="other").is_of(found, ANN), "sealed for one tenant"
    assert not keys({(0, 0): bytes(32)}).is_of(found, ANN)
    assert ANN not in found
    assert len(found) <= 256


def test_no_two_records_of_a_person_look_alike() -> None:
    """Once the key is gone, they must not even be linked to each other."""
    assert len({keys().seal(ANN) for _ in range(300)}) == 300


def test_after_the_key_is_destroyed_nobody_can_tell_whose_it_was() -> None:
    """Crypto-shredding: the record stays, hash and all, and says nothing."""
    found, change = keys().seal(ANN), cut(tree(), ANN)
    assert change is not None
    left = keys(after(tree(), change), subjectkeys.planted())
    assert not left.is_of(found, ANN)
    again = left.seal(ANN)
    assert left.is_of(again, ANN), "whoever comes back is somebody new"
    assert not keys().is_of(again, ANN)


def test_a_pseudonym_in_the_clear_is_known_too() -> None:
    """Records of before there were such keys must still be found."""
    assert keys().is_of(ANN, ANN)
    assert not keys().is_of(ANN, BEN)


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=120) | st.binary(max_size=90).map(lambda b: b.hex()))
def test_whatever_stands_in_the_field_it_is_nobodys(junk: str) -> None:
    """A log that was tampered with must not stop a search."""
    assert not keys().is_of(SEALED + junk, ANN)
    assert not keys().is_of(junk, ANN)


def test_any_character_changed_makes_it_nobodys() -> None:
    """Authenticated: a forged field cannot accuse somebody."""
    found = keys().seal(ANN)
    for at in range(len(SEALED), len(found)):
        other = "A" if found[at] != "A" else "B"
        assert not keys().is_of(found[:at] + other + found[at + 1 :], ANN)


def test_a_record_is_about_somebody_by_the_keys_of_its_tenant() -> None:
    """Whatever a record lacks, it is about nobody."""
    known = {"acme": keys()}
    sealed = keys().seal(ANN)
    assert is_about({"tenant": "acme", "subject": sealed}, ANN, known)
    assert is_about({"tenant": "old", "subject": ANN}, ANN, known)
    assert not is_about({"tenant": "old", "subject": sealed}, ANN, known)
    assert not is_about({"tenant": "acme"}, ANN, known)
    assert not is_about({"subject": 7}, ANN, known)


def test_ciphers_at_hand_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client can make up a new person for each request."""
    monkeypatch.setattr(subjectkeys, "KNOWN_MAX", 3)
    mine = keys()
    for _ in range(10):
        mine.seal(secrets.token_hex(32))
    assert len(mine._ciphers) <= 3


def test_the_page_shows_a_key_and_a_sealed_pseudonym() -> None:
    """A stranger's program is right when it gets these."""
    page = (DOCS / "formats/subjects.md").read_text()
    key = key_of(tree(), ANN)
    assert key is not None
    for text in (ROOT.hex(), ANN, key.hex(), keys().seal(ANN, bytes(range(12)))):
        assert f"\n    {text}\n" in page, text


# --- the store ------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Keystore:
    it = Keystore(tmp_path / "keys.sqlite")
    it.create()
    it.add(of_tenant("acme"))
    return it


def of_tenant(tenant: str) -> Key:
    return Key(new_id(), tenant, "tests", "contract", "personal", "header", utcnow())


def test_a_tenant_has_a_tree_from_its_first_key_on(store: Keystore) -> None:
    """A gateway must never have to make one: it may only read."""
    before = store.known()
    store.add(of_tenant("acme"))
    store.add(of_tenant("beta"))
    known = store.known()
    assert set(known.subjects) == {"acme", "beta"}
    assert known.subjects["acme"] == before.subjects["acme"]
    assert known.sealed("acme", ANN) != ANN


def test_a_store_of_before_gets_its_trees_when_it_is_next_written(
    store: Keystore, tmp_path: Path
) -> None:
    """An upgrade must neither lose keys nor refuse requests in between."""
    with closing(sqlite3.connect(tmp_path / "keys.sqlite")) as db, db:
        db.execute("DROP TABLE subject_node")
        db.execute("DROP TABLE subject_change")
    old = Keystore(tmp_path / "keys.sqlite")
    assert old.known().subjects == {}
    assert old.known().sealed("acme", ANN) == ANN
    old.create()
    assert set(old.known().subjects) == {"acme"}
    once = old.known().subjects["acme"]
    old.create()
    assert old.known().subjects["acme"] == once


def test_destroying_a_key_reaches_readers_and_only_that_key(store: Keystore) -> None:
    """A gateway looks twice a second; what it sealed for others must stay readable."""
    gateway = Keystore(store._path)
    before = gateway.known().subjects["acme"]
    ann, ben = before.seal(ANN), before.seal(BEN)
    store.destroy("acme", ANN)
    now = gateway.known().subjects["acme"]
    assert not now.is_of(ann, ANN)
    assert now.is_of(ben, BEN)
    assert now.is_of(now.seal(ANN), ANN)


def test_generations_grow_with_returns_and_not_with_persons(store: Keystore) -> None:
    """A thousand erasures must not leave a thousand trees."""
    for _ in range(20):
        store.destroy("acme", secrets.token_hex(32))
    assert len(store.known().subjects["acme"].generations) == 2
    for generation in (2, 3, 4):
        store.destroy("acme", ANN)
        assert len(store.known().subjects["acme"].generations) == generation


def test_a_destroyed_key_is_in_no_page_of_the_file(store: Keystore, tmp_path: Path) -> None:
    """SQLite leaves deleted rows where they were, unless it is told not to."""
    root = store.known().subjects["acme"].generations[0][0, 0]
    assert root in (tmp_path / "keys.sqlite").read_bytes()
    store.destroy("acme", ANN)
    assert all(root not in path.read_bytes() for path in tmp_path.iterdir())


def test_a_tenant_that_is_none_has_nothing_to_destroy(store: Keystore) -> None:
    """And nothing is made for it on the way."""
    with pytest.raises(UnknownName):
        store.destroy("nobody", ANN)
    assert set(store.known().subjects) == {"acme"}


def test_a_crash_while_destroying_leaves_the_key_or_none(
    store: Keystore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a path would take the keys of strangers with it."""
    sealed = {name: store.known().subjects["acme"].seal(name) for name in (ANN, BEN)}

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sovereign.keystore.trees.plant", stopped)
        with pytest.raises(KeyboardInterrupt):
            store.destroy("acme", ANN)
    known = Keystore(store._path).known().subjects["acme"]
    assert all(known.is_of(found, name) for name, found in sealed.items())


def test_unchanged_trees_are_not_read_again(store: Keystore) -> None:
    """The gateway looks twice a second; ten thousand erasures are a million rows."""
    assert store.known().subjects["acme"] is store.known().subjects["acme"]
    random.seed(1)
    store.destroy("acme", BEN)
    assert store.known().subjects["acme"].generations != ({},)
