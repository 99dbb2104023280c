"""`sovereign key …`: who may knock."""

from datetime import timedelta
from typing import Annotated

import msgspec
import typer

from sovereign.cli.output import HomeOption, JsonFlag, facts, give, home_of, policy_of, say, table
from sovereign.errors import NotDeployed, UnknownName
from sovereign.keystore import LEGAL_BASES, Key, Keystore, new_id
from sovereign.registry import utcnow
from sovereign.settings import Home
from sovereign.subjects import SOURCES
from sovereign.supervisor.deployment import operator_trail

app = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)


def _one_of(what: str, given: str, accepted: list[str]) -> None:
    if given not in accepted:
        raise UnknownName(f"{given!r} is no {what}", accepted=", ".join(accepted))


def _store(home: Home) -> Keystore:
    if not home.audit.exists():
        raise NotDeployed(f"there is no site under {home.root}", next_step="make deploy")
    store = Keystore(home.keystore)
    store.create()
    return store


@app.command()
def create(
    tenant: Annotated[str, typer.Option(help="On whose behalf.")],
    purpose: Annotated[str, typer.Option(help="What for (GDPR Art. 5(1)(b)).")],
    home: HomeOption = None,
    basis: Annotated[str, typer.Option(help="GDPR Art. 6(1).")] = "legitimate-interests",
    data: Annotated[str, typer.Option(help="Class of the data sent.")] = "personal",
    subject: Annotated[str, typer.Option(help="Where the data subject is named.")] = "none",
    model: Annotated[list[str] | None, typer.Option(help="Only these models.")] = None,
    days: Annotated[int | None, typer.Option(min=1, max=3650, help="Expires after.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a key. Its secret is shown once and stored only as a hash."""
    where = home_of(home)
    policy = policy_of(where)
    _one_of("legal basis", basis, list(LEGAL_BASES))
    _one_of("class of data", data, sorted(policy.data))
    _one_of("source of a subject", subject, list(SOURCES))
    for name in model or []:
        _one_of("model", name, sorted(policy.models))
    store, now = _store(where), utcnow()
    key = Key(
        id=new_id(),
        tenant=tenant,
        purpose=purpose,
        basis=basis,
        data=data,
        subject=subject,
        created_at=now,
        models=tuple(model or ()),
        expires_at=now + timedelta(days=days) if days else None,
    )
    with operator_trail(where) as log:  # first the record: a key that no record names is none
        record = log.record(
            "key-created", key=key.id, tenant=tenant, purpose=purpose, by="operator"
        ).result()
        secret = store.add(key)
    if as_json:
        give({"key": secret, "id": key.id, "record": record.name, **_public(key)})
        return
    say(f"{secret}\n")
    facts({"id": key.id, "tenant": tenant, "purpose": purpose, "record": record.name})
    say("  The secret is not stored and cannot be shown again.")
    say("  Gateways know it within a second.")


@app.command("list")
def list_(home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """Every key, without its secret."""
    now = utcnow()
    keys = sorted(_store(home_of(home)).known().keys.values(), key=lambda k: k.created_at)
    if as_json:
        give({"keys": [{**_public(key), "state": key.state(now)} for key in keys]})
        return
    columns = ("id", "tenant", "purpose", "basis", "data", "subject")
    rows = [[k.state(now), *(getattr(k, name) for name in columns)] for k in keys]
    table(("state", *columns), rows)


@app.command()
def revoke(key_id: str, home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """Stop a key; gateways refuse it within a second."""
    where = home_of(home)
    store = _store(where)
    with operator_trail(where) as log:
        key = store.revoke(key_id, utcnow())
        record = log.record(
            "key-revoked", key=key.id, tenant=key.tenant, purpose=key.purpose, by="operator"
        ).result()
    if as_json:
        give({"id": key.id, "record": record.name, **_public(key)})
    else:
        say(f"revoked {key.id}; record {record.name}")


def _public(key: Key) -> dict[str, object]:
    content: dict[str, object] = msgspec.to_builtins(key)
    return content
