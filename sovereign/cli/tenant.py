"""`sovereign tenant …`: on whose behalf keys and tokens speak, and whether they may at all."""

from typing import Annotated

import typer

from sovereign.cli.key_args import (
    RECORDED_WITHIN_S,
    STREAM,
    DryRun,
    name_given,
    show_facts,
    store_of,
    tell,
)
from sovereign.cli.output import HomeOption, JsonFlag, give, table
from sovereign.cli.reading import BY
from sovereign.errors import BadInput
from sovereign.keystore import Key, Tenant
from sovereign.registry import utcnow
from sovereign.supervisor.deployment import operator_trail

app = typer.Typer(help="Create, list, show, suspend and resume tenants.", no_args_is_help=True)
TenantArgument = Annotated[str, typer.Argument(help="Its name, as in `sovereign tenant list`.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="A name of your own; it stands in records.")],
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a tenant. The first key of a tenant makes it too; tokens need one that is there."""
    where, store = store_of(home)
    name_given("tenant", name)
    if any(tenant.name == name for tenant in store.tenants()):
        raise BadInput(
            f"there is a tenant {name!r} already", next_step=f"sovereign tenant show {name!r}"
        )
    with operator_trail(where, STREAM) as log:
        record = log.record("tenant-created", tenant=name, by=BY).result(RECORDED_WITHIN_S).name
        store.create_tenant(name, utcnow())
    tell(f"made {name}", {"tenant": name, "record": record}, as_json=as_json)


@app.command("list")
def list_(home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """Every tenant, with how many of its keys work."""
    _, store = store_of(home, looks=True)
    keys = list(store.known().keys.values())
    found = [_as_facts(tenant, keys) for tenant in store.tenants()]
    if as_json:
        give({"tenants": found})
        return
    columns = ("state", "tenant", "active_keys", "keys")
    table(columns, [[each[name] for name in columns] for each in found])


@app.command()
def show(name: TenantArgument, home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """A tenant, its keys and what they are for."""
    _, store = store_of(home, looks=True)
    tenant, now = store.tenant(name), utcnow()
    own = [key for key in store.known().keys.values() if key.tenant == name]
    shown = _as_facts(tenant, own)
    keys = [
        {"id": key.id, "state": key.state(now), "purpose": key.purpose}
        for key in sorted(own, key=lambda key: key.created_at)
    ]
    if as_json:
        give({**shown, "keys": keys})
        return
    show_facts(shown)
    table(("state", "id", "purpose"), [[k["state"], k["id"], k["purpose"]] for k in keys])


@app.command()
def suspend(
    name: TenantArgument,
    home: HomeOption = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Refuse all keys, certificates and tokens of a tenant; gateways do within a second."""
    where, store = store_of(home, looks=dry_run)
    store.tenant(name)
    shown: dict[str, object] = {"tenant": name, "state": "suspended"}
    if dry_run:
        now = utcnow()
        own = [k for k in store.known().keys.values() if k.tenant == name]
        active = sum(key.state(now) == "active" for key in own)
        would = f"would suspend {name}, which has {active} active keys"
        tell(would, {**shown, "active_keys": active, "record": None}, as_json=as_json)
        return
    with operator_trail(where, STREAM) as log:
        store.suspend(name, utcnow())
        record = log.record("tenant-suspended", tenant=name, by=BY).result(RECORDED_WITHIN_S).name
    tell(f"suspended {name}", {**shown, "record": record}, as_json=as_json)


@app.command()
def resume(name: TenantArgument, home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """Let the keys of a suspended tenant in again, as far as they still work themselves."""
    where, store = store_of(home)
    if store.tenant(name).state != "suspended":
        raise BadInput(f"{name} is not suspended", accepted="a suspended tenant")
    with operator_trail(where, STREAM) as log:
        record = log.record("tenant-resumed", tenant=name, by=BY).result(RECORDED_WITHIN_S).name
        store.suspend(name, None)
    shown = {"tenant": name, "state": "active", "record": record}
    tell(f"resumed {name}", shown, as_json=as_json)


def _as_facts(tenant: Tenant, keys: list[Key]) -> dict[str, object]:
    now = utcnow()
    own = [key for key in keys if key.tenant == tenant.name]
    return {
        "tenant": tenant.name,
        "state": tenant.state,
        "created_at": tenant.created_at,
        "suspended_at": tenant.suspended_at,
        "keys": len(own),
        "active_keys": sum(key.state(now) == "active" for key in own),
    }
