"""What the gateway knows of keys and endpoints: fresh within a second, and never frozen."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from sovereign.gateway import app as app_room
from sovereign.gateway import view as view_room
from sovereign.gateway.view import STALE_KEYS_MAX_S
from sovereign.registry import utcnow
from tests.gateway.site import Site, disks, site, until
from tests.simulated.engine import engine

EFFECTIVE_WITHIN_S = 1.0


async def within_a_second(true: Callable[[], bool]) -> None:
    """What DESIGN promises of keys and registry."""
    await until(true, EFFECTIVE_WITHIN_S)


def knows(ours: Site, secret: str) -> bool:
    from sovereign.keystore import fingerprint

    key = ours.gateway._watching.current.known.keys.get(fingerprint(secret))
    return key is not None and key.state(utcnow()) == "active"


async def test_a_key_is_known_and_a_revoked_one_refused_within_a_second(tmp_path: Path) -> None:
    """A leaked key must not live until somebody restarts something."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        secret = ours.key(id="key_leaked")
        await within_a_second(lambda: knows(ours, secret))
        assert (await ours.chat(secret=secret)).status == 200
        ours.keystore.revoke("key_leaked", utcnow())
        await within_a_second(lambda: not knows(ours, secret))
        reply = await ours.chat(secret=secret)
        assert (reply.status, reply.error["code"]) == (401, "key-inactive")


async def test_a_key_is_refused_from_the_moment_it_expires(tmp_path: Path) -> None:
    """Nobody has to read a file for that."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        secret = ours.key(expires_at=utcnow() + timedelta(seconds=0.5))
        await ours.seen()
        assert (await ours.chat(secret=secret)).status == 200
        await asyncio.sleep(0.5)
        assert (await ours.chat(secret=secret)).error["code"] == "key-inactive"


async def test_a_quarantine_is_effective_within_a_second(tmp_path: Path) -> None:
    """What the controller found out must not wait."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        ours.endpoint(it.address, quarantine="telemetry-on", reason="a switch is off")
        current = ours.gateway._watching
        await within_a_second(lambda: bool(current.current.snapshot.endpoints[0].quarantine))
        assert (await ours.chat()).error["code"] == "endpoint-quarantined"


@pytest.mark.parametrize("spoiled", ["no generation", "no table", "not a database", "a bad row"])
async def test_a_registry_that_cannot_be_read_does_not_keep_a_revoked_key_alive(
    tmp_path: Path, spoiled: str
) -> None:
    """Keys and endpoints are two files: trouble with one must not freeze the other, nor end the
    watch. A registry being made is without its generation for a moment."""
    async with engine() as it, site(tmp_path, it.address) as ours:
        secret = ours.key(id="key_leaked")
        await ours.seen()
        spoil(ours.home.registry, spoiled)
        await ours.seen()
        assert (await ours.chat(secret=secret)).status == 200  # the attestation still stands
        ours.keystore.revoke("key_leaked", utcnow())
        await within_a_second(lambda: not knows(ours, secret))
        ours.home.registry.unlink()
        await within_a_second(lambda: not ours.gateway._watching.current.snapshot.endpoints)
        assert (await ours.chat()).error["code"] == "model-unknown"


def spoil(path: Path, how: str) -> None:
    if how == "not a database":
        path.write_bytes(b"x" * 8192)
        return
    statement = {
        "no generation": "DELETE FROM generation",
        "no table": "DROP TABLE endpoint",
        "a bad row": "UPDATE endpoint SET content = '{}'",
    }[how]
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)


async def test_when_the_keys_cannot_be_read_for_long_nobody_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then the last known keys go on; after that a revoked one might be among them."""
    now = [utcnow()]
    for room in (view_room, app_room):
        monkeypatch.setattr(room, "utcnow", lambda: now[0])
    async with engine() as it, site(tmp_path, it.address, disks()) as ours:
        ours.home.keystore.write_bytes(b"x" * 8192)
        now[0] += timedelta(seconds=STALE_KEYS_MAX_S)
        await ours.seen()
        assert (await ours.chat()).status == 200
        now[0] += timedelta(seconds=1)
        await ours.seen()
        assert (await ours.chat()).status == 401
        ready = await ours.ask("GET", "/readyz")
        assert (ready.status, ready.json["lacking"]) == (503, ["keys-unreadable"])


async def test_a_gateway_without_a_registry_or_keys_starts_and_knows_nobody(
    tmp_path: Path,
) -> None:
    """The three processes start in any order."""
    async with site(tmp_path, disks=disks()) as ours:
        secret = ours.secret
        ours.home.keystore.unlink()
        ours.home.registry.unlink()
        await ours.seen()
        assert (await ours.chat(secret=secret)).status == 401
        assert (await ours.ask("GET", "/readyz")).status == 503
