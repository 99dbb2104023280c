"""`sovereign key` and `sovereign tenant`: what they say, record and change, and for whom."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sovereign.audit import trail as trails
from sovereign.audit.record import STREAMS
from sovereign.cli import key_args
from sovereign.fleet import members, records
from sovereign.gateway import view
from sovereign.keystore import Keystore, fingerprint
from sovereign.registry import utcnow
from sovereign.settings import load
from tests.cli.conftest import Run
from tests.gateway import site as gateways
from tests.identity.authority import authority
from tests.simulated.engine import engine

CREATE = ("key", "create", "--tenant", "hr", "--purpose", "cv-screening")


def recorded(home: Path, *kinds: str) -> list[dict[str, Any]]:
    """The operator's records of these types, oldest first."""
    (member,) = [m for m in members(load(home)) if (m.writer, m.stream) == ("operator", "security")]
    every = (fields for _, fields in records(member, 0, 1000))
    return [fields for fields in every if fields["type"] in kinds]


def known(home: Path) -> Any:
    return Keystore(load(home).keystore).known()


def when(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_key_holds_its_roles_and_priority_and_shows_everything_but_its_secret(
    run: Run, site: Path
) -> None:
    """What rules and limits will ask of it has to be there."""
    words = ("--role", "recruiter", "--role", "admin", "--role", "admin", "--priority", "batch")
    made = run(*CREATE, *words, "--json").json
    assert made["key"].startswith("sov_")
    shown = run("key", "show", made["id"], "--json").json
    assert (shown["roles"], shown["priority"]) == (["admin", "recruiter"], "batch")
    assert (shown["state"], shown["tenant_suspended"]) == ("active", False)
    said = run("key", "show", made["id"]).out + run("key", "list").out + str(shown)
    assert made["key"] not in said
    assert fingerprint(made["key"]) not in said
    assert known(site).keys[fingerprint(made["key"])].id == made["id"]


def test_rotating_keeps_the_binding_and_both_secrets_work_until_the_stated_time(
    run: Run, site: Path
) -> None:
    """An application is given the new secret while the old one still serves its users."""
    old = run(*CREATE, "--role", "recruiter", "--data", "special-category", "--json").json
    new = run("key", "rotate", old["id"], "--overlap", "24h", "--json").json
    before, after = (known(site).keys[fingerprint(each["key"])] for each in (old, new))
    assert after.id != before.id
    assert after.replaces == before.id
    for name in ("tenant", "purpose", "basis", "data", "subject", "models", "roles", "priority"):
        assert getattr(after, name) == getattr(before, name), name
    assert before.expires_at == when(new["until"])
    left = before.expires_at - utcnow()
    assert timedelta(hours=23) < left <= timedelta(hours=24)
    assert before.state(utcnow()) == after.state(utcnow()) == "active"
    assert before.state(before.expires_at) == "expired"
    (replaced,) = recorded(site, "key-replaced")
    assert (replaced["key"], replaced["successor"]) == (before.id, after.id)
    assert (replaced["by"], when(replaced["until"])) == ("operator", before.expires_at)
    assert [r["key"] for r in recorded(site, "key-created")] == [before.id, after.id]
    assert run("key", "show", before.id, "--json").json["replaced_by"] == [after.id]


def test_rotating_without_overlap_ends_the_old_secret_at_once(run: Run, site: Path) -> None:
    """A secret that leaked gets no grace."""
    old = run(*CREATE, "--json").json
    new = run("key", "rotate", old["id"], "--overlap", "0s", "--days", "30", "--json").json
    keys = known(site).keys
    assert keys[fingerprint(old["key"])].state(utcnow()) == "expired"
    ends = keys[fingerprint(new["key"])].expires_at
    assert timedelta(days=29) < ends - utcnow() <= timedelta(days=30)


def test_an_overlap_does_not_lengthen_a_key_that_ends_sooner(run: Run, site: Path) -> None:
    """Rotating must not be a way around an end that somebody set."""
    old = run(*CREATE, "--days", "1", "--json").json
    run("key", "rotate", old["id"], "--overlap", "30d", "--json")
    before = known(site).keys[fingerprint(old["key"])]
    assert before.expires_at == when(old["expires_at"])


@pytest.mark.parametrize("ended", ["revoked", "expired", "replaced"])
def test_a_key_that_ended_is_neither_rotated_nor_given_another_end(
    run: Run, site: Path, ended: str
) -> None:
    """A record that says `revoked` stays true."""
    key = run(*CREATE, "--json").json["id"]
    how = {
        "revoked": ("revoke", key),
        "expired": ("expire", key, "--in", "0s"),
        "replaced": ("rotate", key),
    }
    assert run("key", *how[ended]).code == 0
    done = run("key", "rotate", key)
    assert (done.code, done.error) == (2, "bad-input")
    assert "sovereign key " in done.err
    if ended != "replaced":
        assert run("key", "expire", key, "--in", "7d").error == "bad-input"


def test_an_end_is_set_sooner_or_later_and_recorded(run: Run, site: Path) -> None:
    """A project that is prolonged keeps its key; one that stops early does not."""
    key = run(*CREATE, "--days", "10", "--json").json["id"]
    for words, days in ((("--in", "20d"), 20), (("--at", "2099-01-01T00:00:00+01:00"), None)):
        ends = when(run("key", "expire", key, *words, "--json").json["expires_at"])
        expected = (
            utcnow() + timedelta(days=days) if days else datetime(2098, 12, 31, 23, tzinfo=UTC)
        )
        assert abs(ends - expected) < timedelta(minutes=5)
        (found,) = known(site).keys.values()
        assert found.expires_at == ends
    assert [when(r["until"]) for r in recorded(site, "key-expiry-set")][-1] == ends


def test_suspending_a_tenant_is_said_and_recorded_and_can_be_undone(run: Run, site: Path) -> None:
    """One command when a customer's laptop is gone, before anybody knows which key it had."""
    run(*CREATE)
    assert run("tenant", "create", "legal", "--json").json["tenant"] == "legal"
    assert run("tenant", "suspend", "hr", "--json").json["state"] == "suspended"
    assert known(site).suspended == {"hr"}
    states = {t["tenant"]: t["state"] for t in run("tenant", "list", "--json").json["tenants"]}
    assert states == {"hr": "suspended", "legal": "active"}
    shown = run("tenant", "show", "hr", "--json").json
    assert (shown["keys"][0]["state"], shown["active_keys"]) == ("active", 1)
    assert run("tenant", "resume", "hr").code == 0
    assert known(site).suspended == frozenset()
    for kind, tenant in (
        ("tenant-created", "legal"),
        ("tenant-suspended", "hr"),
        ("tenant-resumed", "hr"),
    ):
        (found,) = recorded(site, kind)
        assert (found["tenant"], found["by"]) == (tenant, "operator")


TAKING = [
    ("key", "revoke", "KEY"),
    ("key", "rotate", "KEY", "--overlap", "1h"),
    ("key", "expire", "KEY", "--in", "1h"),
    ("tenant", "suspend", "hr"),
]


@pytest.mark.parametrize("words", TAKING, ids=" ".join)
def test_a_dry_run_says_what_would_end_and_changes_nothing(
    run: Run, site: Path, words: tuple[str, ...]
) -> None:
    """Whoever is about to cut a service off may look first."""
    key = run(*CREATE, "--json").json["id"]
    given = [key if word == "KEY" else word for word in words]
    store = load(site).keystore
    before = store.read_bytes()
    done = run(*given, "--dry-run")
    assert done.code == 0
    assert "would" in done.out
    assert "nothing was done" in done.out
    assert run(*given, "--dry-run", "--json").json["record"] is None
    assert store.read_bytes() == before
    assert run(*given).code == 0
    assert store.read_bytes() != before


@pytest.mark.parametrize(
    ("words", "exists"),
    [
        (("key", "show", "key_none"), "KEY"),
        (("key", "rotate", "key_none"), "KEY"),
        (("key", "expire", "key_none", "--in", "1h"), "KEY"),
        (("key", "revoke", "key_none"), "KEY"),
        (("key", "revoke", "key_none", "--dry-run"), "KEY"),
        (("tenant", "show", "nobody"), "hr"),
        (("tenant", "suspend", "nobody"), "hr"),
        (("tenant", "resume", "nobody"), "hr"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_a_name_that_is_none_is_answered_with_those_there_are(
    run: Run, site: Path, words: tuple[str, ...], exists: str
) -> None:
    """The next command should not have to be `list`."""
    key = run(*CREATE, "--json").json["id"]
    done = run(*words, "--json")
    assert (done.code, done.json["error"]["code"]) == (2, "unknown-name")
    assert (key if exists == "KEY" else exists) in done.json["error"]["accepted"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--role", "Two Words"), "no role"),
        (("--priority", "urgent"), "interactive, batch"),
        (("--subject", "oidc-sub"), "identity provider"),
        (("--certificate", "/nonexistent.pem"), "no certificate"),
    ],
    ids=" ".join,
)
def test_a_key_that_could_not_mean_anything_is_not_made(
    run: Run, site: Path, words: tuple[str, ...], says: str
) -> None:
    """The mistake is cheaper here than in the first refused request."""
    done = run(*CREATE, *words)
    assert done.code == 2
    assert says in done.err
    assert known(site).keys == {}


def test_a_certificate_is_bound_by_a_command_and_has_no_secret(
    run: Run, site: Path, tmp_path: Path
) -> None:
    """Nothing is shown, because there is nothing to keep secret."""
    clients = authority(tmp_path / "clients")
    first, second = clients.issue("first"), clients.issue("second")
    made = run(*CREATE, "--certificate", str(first.certificate), "--json").json
    assert "key" not in made
    assert len(made["certificate"]) == 64
    assert run(*CREATE, "--certificate", str(first.certificate)).error == "bad-input"
    assert run("key", "rotate", made["id"]).error == "bad-input"
    words = ("key", "rotate", made["id"], "--certificate", str(second.certificate), "--json")
    new = run(*words).json
    assert new["certificate"] != made["certificate"]
    assert len(known(site).keys) == 2


def test_the_log_never_says_less_than_the_store(
    run: Run, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the log cannot be written, nobody gets access that no record names."""
    key = run(*CREATE, "--days", "1", "--json").json["id"]
    before = known(site)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("sovereign.audit.trail.Trail.record", full)
        for words in (CREATE, ("key", "rotate", key), ("key", "expire", key, "--in", "99d")):
            assert run(*words).code == 3
            assert known(site).keys == before.keys
        assert run("tenant", "create", "x").code == 3
        assert "x" not in known(site).secrets
        assert run("key", "revoke", key).code == 3
    (left,) = known(site).keys.values()
    assert left.state(utcnow()) == "revoked"


OLD_SCHEMA = """
CREATE TABLE tenant (name TEXT PRIMARY KEY, secret BLOB NOT NULL) STRICT;
CREATE TABLE key (hash TEXT PRIMARY KEY, content TEXT NOT NULL) STRICT;
"""
OLD_KEY = {
    "id": "key_old",
    "tenant": "hr",
    "purpose": "p",
    "basis": "contract",
    "data": "personal",
    "subject": "none",
    "created_at": "2026-11-24T12:00:00Z",
    "models": [],
    "expires_at": None,
    "revoked_at": None,
}


def test_a_store_of_before_these_fields_opens_and_can_be_changed(run: Run, site: Path) -> None:
    """An update must not shut everybody out."""
    path = load(site).keystore
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(OLD_SCHEMA)
        db.execute("INSERT INTO tenant VALUES ('hr', ?)", (b"s" * 32,))
        content = msgspec.json.encode(OLD_KEY).decode()
        db.execute("INSERT INTO key VALUES (?, ?)", (fingerprint("sov_old"), content))
    found = Keystore(path).known()
    (key,) = found.keys.values()
    assert (key.roles, key.priority, key.replaces, key.certificate) == ((), "interactive", "", "")
    assert found.suspended == frozenset()
    assert [t.name for t in Keystore(path).tenants()] == ["hr"]
    assert run("tenant", "suspend", "hr").code == 0
    assert run("key", "rotate", "key_old").code == 0
    assert run("tenant", "show", "hr", "--json").json["suspended_at"]
    assert known(site).secrets["hr"] == b"s" * 32


@pytest.mark.parametrize("text", ["", "1", "h", "-1h", "1.5h", "1 h", "1w", "9999999d"])
def test_a_length_of_time_is_a_number_and_a_unit(text: str) -> None:
    """Of `30` nobody knows whether minutes or days were meant."""
    from sovereign.errors import BadInput

    with pytest.raises(BadInput):
        key_args.span_given(text)


async def changed_by_command(
    tmp_path: Path, run: Run, change: Callable[[str], tuple[str, ...]]
) -> tuple[int, str, str]:
    """Chat with a key, run a command about it, and wait for the gateway's own watch to see it."""
    async with engine() as it, gateways.site(tmp_path / "home", it.address) as ours:
        for writer in ("operator",):
            home = ours.home
            await asyncio.to_thread(
                trails.create, home.audit, home.keys, home.trust, writer, "local"
            )
        made = (await asyncio.to_thread(run, *CREATE, "--json")).json
        await gateways.until(lambda: fingerprint(made["key"]) in ours.gateway.view.known.keys)
        assert (await ours.chat(secret=made["key"])).status == 200
        seen = ours.gateway.view.known
        done = await asyncio.to_thread(run, *change(made["id"]), "--json")
        assert done.code == 0, done.err
        await gateways.until(
            lambda: (
                (ours.gateway.view.known.keys, ours.gateway.view.known.suspended)
                != (seen.keys, seen.suspended)
            )
        )
        reply = await ours.chat(secret=made["key"])
        new = done.json.get("key", "")
        again = (await ours.chat(secret=new)).status if new else 0
        return reply.status, reply.error["code"] if reply.status != 200 else "", str(again)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda key: ("key", "revoke", key), (401, "key-inactive", "0")),
        (lambda key: ("key", "expire", key, "--in", "0s"), (401, "key-inactive", "0")),
        (lambda key: ("key", "rotate", key, "--overlap", "0s"), (401, "key-inactive", "200")),
        (lambda key: ("key", "rotate", key, "--overlap", "1h"), (200, "", "200")),
        (lambda _: ("tenant", "suspend", "hr"), (403, "tenant-suspended", "0")),
    ],
    ids=["revoke", "expire", "rotate", "rotate with overlap", "suspend"],
)
async def test_a_running_gateway_does_what_a_command_said(
    tmp_path: Path, run: Run, change: Callable[[str], tuple[str, ...]], expected: tuple[Any, ...]
) -> None:
    """Nobody is to be restarted for shutting a key out."""
    assert view.REFRESH_S <= 0.5  # and a reading takes milliseconds: within a second
    assert await changed_by_command(tmp_path, run, change) == expected


def test_streams_that_commands_write_are_streams() -> None:
    """A name that is mistyped would be found by the first operator."""
    assert set(key_args.STREAM) <= set(STREAMS)
