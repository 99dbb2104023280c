"""`sovereign key …`: who may knock.

A secret is shown once, by the command that makes it. Every change is a record that names the key
by its id. What gives access is recorded first, what takes it away is done first, so that
a crash in between leaves less access than the log says, never more.
"""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from sovereign.audit.trail import Trail
from sovereign.cli.key_args import (
    RECORDED_WITHIN_S,
    STREAM,
    certificate_given,
    name_given,
    one_of,
    public,
    roles_given,
    show_facts,
    store_of,
)
from sovereign.cli.output import (
    HomeOption,
    JsonFlag,
    facts,
    give,
    home_of,
    policy_of,
    say,
    table,
)
from sovereign.cli.reading import BY
from sovereign.errors import BadInput
from sovereign.keystore import LEGAL_BASES, PRIORITIES, Key, Keystore, new_id
from sovereign.policy import Policy
from sovereign.registry import utcnow
from sovereign.subjects import OIDC_SUB, SOURCES
from sovereign.supervisor.deployment import operator_trail

app = typer.Typer(
    help="Create, list, show, rotate, expire and revoke API keys.", no_args_is_help=True
)
KeyArgument = Annotated[str, typer.Argument(help="Id of the key, as in `sovereign key list`.")]
CertificateOption = Annotated[
    Path | None,
    typer.Option("--certificate", help="PEM file: this client's certificate in place of a secret."),
]


@app.command()
def create(
    tenant: Annotated[str, typer.Option(help="On whose behalf.")],
    purpose: Annotated[str, typer.Option(help="What for (GDPR Art. 5(1)(b)).")],
    home: HomeOption = None,
    basis: Annotated[str, typer.Option(help="GDPR Art. 6(1).")] = "legitimate-interests",
    data: Annotated[str, typer.Option(help="Class of the data sent.")] = "personal",
    subject: Annotated[str, typer.Option(help="Where the data subject is named.")] = "none",
    model: Annotated[list[str] | None, typer.Option(help="Only these models.")] = None,
    role: Annotated[list[str] | None, typer.Option(help="A word access rules speak of.")] = None,
    priority: Annotated[str, typer.Option(help="interactive, or batch: may wait.")] = PRIORITIES[0],
    certificate: CertificateOption = None,
    days: Annotated[int | None, typer.Option(min=1, max=3650, help="Expires after.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a key. Its secret is shown once and stored only as a hash."""
    policy, roles = policy_of(home_of(home)), roles_given(role)
    name_given("tenant", tenant)
    name_given("purpose", purpose)
    _refuse_unbindable(policy, basis, data, subject, model or [], priority)
    where, store = store_of(home)
    now = utcnow()
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
        roles=roles,
        priority=priority,
        certificate=certificate_of(store, certificate),
    )
    with operator_trail(where, STREAM) as log:  # a key that no record names is none
        record = record_key(log, "key-created", key)
        secret = store.add(key)
    tell_new(key, secret, record, {"tenant": tenant, "purpose": purpose}, as_json=as_json)


def _refuse_unbindable(
    policy: Policy, basis: str, data: str, subject: str, models: list[str], priority: str
) -> None:
    if subject == OIDC_SUB:
        raise BadInput(
            "only a token of an identity provider can name its subject by `sub`",
            accepted=", ".join(SOURCES),
            next_step="docs/guide/identity.md, where a binding declares it",
        )
    one_of("legal basis", basis, list(LEGAL_BASES))
    one_of("class of data", data, sorted(policy.data))
    one_of("source of a subject", subject, list(SOURCES))
    one_of("priority", priority, list(PRIORITIES))
    for name in models:
        one_of("model", name, sorted(policy.models))


def certificate_of(store: Keystore, given: Path | None) -> str:
    """The public key of a certificate that may be bound, "" when none was given.

    Raises:
        BadInput: it cannot be read, or its public key is bound already.
    """
    if given is None:
        return ""
    found = certificate_given(given)
    store.refuse_bound(found.fingerprint)
    return found.public_key


def tell_new(
    key: Key, secret: str, record: str, shown: dict[str, object], *, as_json: bool
) -> None:
    """Show a new key, and its secret this once."""
    if as_json:
        content = {**public(key), **shown, "record": record}
        give({"key": secret, **content} if secret else content)
        return
    if secret:
        say(f"{secret}\n")
    facts({"id": key.id, **shown, "record": record})
    if secret:
        say("  The secret is not stored and cannot be shown again.")
    else:
        say(f"  It is whoever shows the certificate of the public key {key.certificate[:16]}….")
    say("  Gateways know it within a second.")


@app.command("list")
def list_(home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """Every key, without its secret."""
    now = utcnow()
    keys = sorted(store_of(home, looks=True)[1].known().keys.values(), key=lambda k: k.created_at)
    if as_json:
        give({"keys": [{**public(key), "state": key.state(now)} for key in keys]})
        return
    columns = ("id", "tenant", "purpose", "basis", "data", "subject")
    rows = [[k.state(now), *(getattr(k, name) for name in columns)] for k in keys]
    table(("state", *columns), rows)


@app.command()
def show(key_id: KeyArgument, home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """What a key is bound to, when it ends, and what replaces it."""
    _, store = store_of(home, looks=True)
    key, now = store.key(key_id), utcnow()
    successors = sorted(k.id for k in store.known().keys.values() if k.replaces == key.id)
    suspended = store.tenant(key.tenant).state == "suspended"
    shown = {
        **public(key),
        "state": key.state(now),
        "tenant_suspended": suspended,
        "replaced_by": successors,
    }
    if as_json:
        give(shown)
        return
    show_facts({name: value for name, value in shown.items() if value is not False})


def record_key(log: Trail, kind: str, key: Key, **more: str) -> str:
    """Record what happens to a key; the name of the record."""
    fields = {"key": key.id, "tenant": key.tenant, "purpose": key.purpose, "by": BY, **more}
    return log.record(kind, **fields).result(RECORDED_WITHIN_S).name
