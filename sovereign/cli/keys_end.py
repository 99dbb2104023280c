"""`sovereign key rotate|expire|revoke`: how a key ends, or makes room for another."""

from datetime import datetime, timedelta
from typing import Annotated

import msgspec
import typer

from sovereign.audit.record import written
from sovereign.cli.key_args import (
    STREAM,
    DryRun,
    moment_given,
    public,
    span_given,
    store_of,
    tell,
)
from sovereign.cli.keys import (
    CertificateOption,
    KeyArgument,
    certificate_of,
    record_key,
    tell_new,
)
from sovereign.cli.output import HomeOption, JsonFlag
from sovereign.errors import BadInput
from sovereign.keystore import Key, Keystore, new_id
from sovereign.registry import utcnow
from sovereign.supervisor.deployment import operator_trail


def add_to(app: typer.Typer) -> None:
    """Hang the commands beside those that make and show keys."""
    for command in (rotate, expire, revoke):
        app.command()(command)


def rotate(
    key_id: KeyArgument,
    overlap: Annotated[
        str, typer.Option(help="How long the old secret goes on working: 15m, 24h, 7d; 0s: no.")
    ] = "24h",
    days: Annotated[
        int | None, typer.Option(min=1, max=3650, help="New key expires after; else as the old.")
    ] = None,
    certificate: CertificateOption = None,
    home: HomeOption = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Make a key that takes the place of another, with the same binding.

    Both work during the overlap. Records name each by its own id, so the log shows when nobody
    uses the old one any more.
    """
    where, store = store_of(home, looks=dry_run)
    now = utcnow()
    old = _active(store, key_id, now)
    until = now + span_given(overlap)
    if old.certificate and certificate is None:
        raise BadInput(
            f"the key {old.id} is a certificate", accepted="--certificate with the new one"
        )
    new = msgspec.structs.replace(
        old,
        id=new_id(),
        created_at=now,
        expires_at=now + timedelta(days=days) if days else old.expires_at,
        replaces=old.id,
        certificate=certificate_of(store, certificate),
    )
    ends = until if old.expires_at is None else min(until, old.expires_at)
    if dry_run:
        would = f"would replace {old.id}, which would work until {written(ends)[:19]}Z"
        tell(would, {"id": old.id, "until": written(ends), "record": None}, as_json=as_json)
        return
    with operator_trail(where, STREAM) as log:
        _active(store, old.id, utcnow())  # nobody else changes it while the log is ours
        created = record_key(log, "key-created", new)
        _, secret = store.rotate(old.id, new, until)
        more = {"successor": new.id, "until": written(ends)}
        record_key(log, "key-replaced", old, **more)
    shown = {"replaces": old.id, "until": written(ends)}
    tell_new(new, secret, created, dict(shown), as_json=as_json)


def _active(store: Keystore, key_id: str, now: datetime) -> Key:
    """The key, if it works and nothing replaces it.

    Raises:
        UnknownName: there is no such key.
        BadInput: it does not work any more, or has a successor.
    """
    key = store.key(key_id)
    if key.state(now) != "active":
        raise BadInput(
            f"the key {key.id} is {key.state(now)}, and stays so",
            accepted="an active key",
            next_step=f"sovereign key create --tenant {key.tenant} --purpose {key.purpose}",
        )
    successors = [
        k.id
        for k in store.known().keys.values()
        if k.replaces == key.id and k.state(now) == "active"
    ]
    if successors:
        raise BadInput(
            f"the key {key.id} has a successor already",
            found=", ".join(successors),
            accepted="its successor",
            next_step=f"sovereign key rotate {successors[0]}",
        )
    return key


def expire(
    key_id: KeyArgument,
    at: Annotated[str, typer.Option("--at", help="Ends then: 2026-12-31T23:00:00Z.")] = "",
    after: Annotated[str, typer.Option("--in", help="Ends after: 15m, 24h, 7d.")] = "",
    home: HomeOption = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Give an active key another end, sooner or later than the one it has."""
    where, store = store_of(home, looks=dry_run)
    now = utcnow()
    if bool(at) == bool(after):
        raise BadInput("when does it end?", accepted="--at TIME, or --in LENGTH")
    until = moment_given(at) if at else now + span_given(after)
    key = _not_ended(store, key_id, now)
    shown: dict[str, object] = {"id": key.id, "expires_at": written(until)}
    if dry_run:
        would = f"would let {key.id} end at {written(until)[:19]}Z"
        tell(would, {**shown, "record": None}, as_json=as_json)
        return
    with operator_trail(where, STREAM) as log:
        key = _not_ended(store, key_id, utcnow())  # as above
        if sooner := key.expires_at is None or until < key.expires_at:
            store.expire(key.id, until)
        record = record_key(log, "key-expiry-set", key, until=written(until))
        if not sooner:
            store.expire(key.id, until)
    done = f"{key.id} ends at {written(until)[:19]}Z"
    tell(done, {**shown, "record": record}, as_json=as_json)


def _not_ended(store: Keystore, key_id: str, now: datetime) -> Key:
    """The key, if it works.

    Raises:
        UnknownName, BadInput: there is no such key, or it does not work any more.
    """
    key = store.key(key_id)
    if key.state(now) != "active":
        raise BadInput(
            f"the key {key.id} is {key.state(now)}, and stays so", accepted="an active key"
        )
    return key


def revoke(
    key_id: KeyArgument, home: HomeOption = None, dry_run: DryRun = False, as_json: JsonFlag = False
) -> None:
    """Stop a key; gateways refuse it within a second."""
    where, store = store_of(home, looks=dry_run)
    if dry_run:
        key = store.key(key_id)
        shown = {"id": key.id, "record": None, **public(key)}
        tell(f"would revoke {key.id} of tenant {key.tenant}", shown, as_json=as_json)
        return
    with operator_trail(where, STREAM) as log:
        key = store.revoke(key_id, utcnow())
        record = record_key(log, "key-revoked", key)
    tell(f"revoked {key.id}", {"id": key.id, "record": record, **public(key)}, as_json=as_json)
