"""`sovereign subject restrict|unrestrict`: let nothing be done with a person's data but keep them.

GDPR Art. 18, in force since 25 May 2018. From then on the gateway refuses whatever names the person
as its subject, and their records are looked for only for reasons that the policy lists. Who it is
about stands in the key store alone. Self-assessment, not legal advice.
"""

import secrets
from typing import Annotated

import typer

from sovereign.audit.record import written
from sovereign.cli.audit_args import deployed, time_given
from sovereign.cli.output import HomeOption, JsonFlag, facts, give, policy_of, say
from sovereign.cli.subject_of import PseudonymOption, TenantOption, person
from sovereign.errors import BadInput, UnknownName
from sovereign.keystore import Keystore, Restriction
from sovereign.registry import utcnow
from sovereign.supervisor.deployment import operator_trail

GROUNDS = {
    "accuracy-contested": "The person says they are wrong, until that is looked into (1)(a).",
    "unlawful": "The processing is unlawful, and the person wants no erasure (1)(b).",
    "needed-for-claims": "We need the data no more, and the person does, for a claim (1)(c).",
    "objection-pending": "The person objected, until it is known whose grounds weigh more (1)(d).",
}
"""Why the use of data is restricted: GDPR Art. 18(1)."""
LIFTED = {
    "accuracy-verified": "The data were looked into, and are right or were put right.",
    "objection-decided": "It is decided whose grounds weigh more.",
    "ground-gone": "The ground is gone.",
    "person-asked": "The person asked for it.",
}
"""Why a restriction ends."""
STREAM = ("evidence",)
RECORDED_WITHIN_S = 30.0
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


def add_to(app: typer.Typer) -> None:
    """Hang the verbs into the tree."""
    app.command()(restrict)
    app.command()(unrestrict)


def restrict(
    tenant: TenantOption,
    ground: Annotated[str, typer.Option(help=f"{', '.join(GROUNDS)}.")],
    purpose: Annotated[
        str, typer.Option(help="Only calls for this purpose; left out: for every purpose.")
    ] = "",
    pseudonym_: PseudonymOption = "",
    home: HomeOption = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Refuse every call that names this person, from a second from now on.

    What is recorded of them stays as long as its class lets it; hold what a claim needs for longer.
    """
    where = deployed(home)
    policy, store = policy_of(where), Keystore(where.keystore)
    _refuse_unlisted("ground to restrict", ground, GROUNDS)
    known = store.known()
    named = person(known, tenant, pseudonym_)
    purposes = sorted({key.purpose for key in known.keys.values() if key.tenant == tenant})
    if purpose and purpose not in purposes:
        raise UnknownName(f"no key of {tenant} is for {purpose!r}", accepted=", ".join(purposes))
    wanted = Restriction(f"res_{secrets.token_hex(6)}", tenant, named, purpose)
    if dry_run:
        _tell("would restrict", "", "", as_json=as_json)
        return
    with operator_trail(where, STREAM) as trail:
        standing = store.restrict(wanted)
        receipt = trail.record(
            "subject-restricted",
            restriction=standing.id,
            tenant=tenant,
            ground=ground,
            policy=policy.digest,
            **({"purpose": purpose} if purpose else {}),
        ).result(RECORDED_WITHIN_S)
    _tell("restricted", standing.id, receipt.name, as_json=as_json)


def unrestrict(
    tenant: TenantOption,
    why: Annotated[str, typer.Option(help=f"{', '.join(LIFTED)}.")],
    told: Annotated[
        str, typer.Option(help="When the person was told that it ends: a time, or an age.")
    ],
    pseudonym_: PseudonymOption = "",
    home: HomeOption = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Lift every restriction of a person, who has been told before (GDPR Art. 18(3))."""
    where, now = deployed(home), utcnow()
    policy, store = policy_of(where), Keystore(where.keystore)
    _refuse_unlisted("reason to lift a restriction", why, LIFTED)
    told_at = time_given(told, now)
    if told_at is None or told_at > now:
        raise BadInput(
            "a person is told before a restriction ends",
            because="GDPR art. 18(3)",
            accepted="--told with a time that has been: 2026-11-24T12:00:00Z, or an age: 2h",
        )
    known = store.known()
    named = person(known, tenant, pseudonym_)
    standing = known.restricted.get((tenant, named), ())
    if not standing:
        raise UnknownName(
            "nothing of this person is restricted; nothing was changed", found=f"pseudonym {named}"
        )
    ids = [each.id for each in standing]
    if dry_run:
        _tell("would lift", ", ".join(ids), "", as_json=as_json)
        return
    said = {"reason": why, "told_at": written(told_at), "policy": policy.digest}
    with operator_trail(where, STREAM) as trail:
        receipts = [
            trail.record("subject-unrestricted", restriction=each, **said).result(RECORDED_WITHIN_S)
            for each in ids
        ]
        store.lift(ids)
    _tell("lifted", ", ".join(ids), receipts[-1].name, as_json=as_json)


def _refuse_unlisted(what: str, word: str, listed: dict[str, str]) -> None:
    if word not in listed:
        raise UnknownName(f"{word!r} is no {what}", accepted=", ".join(listed))


def _tell(done: str, restriction: str, receipt: str, *, as_json: bool) -> None:
    if as_json:
        given = {"restriction": restriction or None, "record": receipt or None}
        give({"dry_run": not receipt, **given})
        return
    say(f"{done} the use of this person's data")
    facts({"restriction": restriction or "none yet", "record": receipt or "none: a dry run"})
