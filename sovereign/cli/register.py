"""`sovereign register …`: the register of processing activities, as the site is now.

Never recorded and never stored: it is made anew each time, out of the state it follows. Exit 3
while anything in it is not known.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from sovereign import dependencies
from sovereign.audit.record import written
from sovereign.cli.audit_args import deployed
from sovereign.cli.output import (
    HomeOption,
    JsonFlag,
    facts,
    give,
    policy_of,
    say,
    table,
    write_file,
)
from sovereign.evidence.checks import Site, answer
from sovereign.evidence.register import UNKNOWN, Activity, Bound, Live, Register
from sovereign.evidence.register import register as made_of
from sovereign.keystore import Keystore
from sovereign.policy import Policy
from sovereign.registry import utcnow
from sovereign.settings import Home

app = typer.Typer(
    help="The register of processing activities (GDPR Art. 30).", no_args_is_help=True
)
NOTE = "Self-assessment, not legal advice. Made of the live state; a person answers for it."


@app.command()
def show(
    markdown: Annotated[bool, typer.Option("--markdown", help="As a page to hand over.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Write the page to this file; means --markdown.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """What is processed, for whom, why, where it goes and for how long: 3 with anything unknown."""
    where = deployed(home)
    found = made_of(*live_of(where))
    page = "\n".join(_page(found)) + "\n"
    if out is not None:
        write_file(out, page.encode())
    if as_json:
        give({"note": NOTE, **msgspec.to_builtins(found), "at": written(found.at)})
    elif out is not None:
        facts({"written to": out, "entries": len(found.activities), "unknown": len(found.unknown)})
    elif markdown:
        say(page.rstrip("\n"))
    else:
        _tell(found)
    raise typer.Exit(3 if found.unknown else 0)


def live_of(home: Home, *, measured: bool = True) -> tuple[Policy, Live]:
    """The state that the register follows, read now; without `measured` no control is asked."""
    policy, now, settings = policy_of(home), utcnow(), home.settings
    store = Keystore(home.keystore)
    keys = [Bound.of(key, now) for key in store.known().keys.values()]
    site = Site(home, policy, now)
    controls = policy.controls.values() if measured else ()
    live = Live(
        now=now,
        site=settings.site,
        organisation=settings.organisation,
        processing=settings.processing,
        tenants=tuple(store.tenants()),
        bound=(*keys, *_bindings(home, policy)),
        judged=dependencies.judge(policy, dependencies.of_site(home, policy), now),
        verdicts=tuple((each, answer(site, each.check)) for each in controls),
    )
    return policy, live


def _bindings(home: Home, policy: Policy) -> Iterator[Bound]:
    """What tokens of identity providers are bound to; a word that a claim gives is not known."""
    if not home.settings.gateway.issuers:
        return
    from sovereign.gateway.callers.issuers import load
    from sovereign.gateway.callers.tokens import issuers_file

    path = issuers_file(home)
    for issuer in load(path, policy) if path is not None else ():
        for each in issuer.bindings:
            models = () if "models" in each.from_claims else each.models
            yield Bound(
                by=f"{issuer.id}/{each.id}",
                tenant=UNKNOWN if "tenant" in each.from_claims else each.tenant,
                purpose=UNKNOWN if "purpose" in each.from_claims else each.purpose,
                basis=UNKNOWN if "basis" in each.from_claims else each.basis,
                data=UNKNOWN if "data" in each.from_claims else each.data,
                subject=each.subject,
                models=models,
            )


def _tell(found: Register) -> None:
    facts(found.organisation)
    table(
        ("tenant", "purpose", "role", "state", "basis", "data", "people"),
        [_row(each) for each in found.activities],
    )
    table(
        ("recipient", "kind", "place", "country", "verdict", "transfer"),
        [(r.id, r.kind, r.place, r.country, r.verdict, r.transfer) for r in found.recipients],
    )
    for each in found.unknown:
        say(f"unknown: {each}")
    if found.unknown:
        say("  next     organisation, processing and dependencies in sovereign.yaml")
    say(NOTE)


def _row(each: Activity) -> tuple[str, ...]:
    lists = (each.bases, each.data, each.subjects)
    return each.tenant, each.purpose, each.role, each.state, *(", ".join(one) for one in lists)


def _page(found: Register) -> Iterator[str]:
    """The register as a page: what all entries share once, then an entry each."""
    yield from (f"# Register of processing activities of {found.site}", "", NOTE, "")
    yield f"- made at: {written(found.at)}"
    yield f"- policy: {found.policy}"
    yield from (f"- {name}: {value}" for name, value in found.organisation.items())
    for each in found.activities:
        yield from _entry(each)
    yield from ("", "## Recipients and third countries (Art. 30(1)(d) and (e), 30(2)(c))", "")
    yield from _rows(
        ("recipient", "what it is", "place", "operator", "country", "law", "data", "transfer"),
        (
            (
                *(r.id, r.kind, r.place, r.entity, r.country, r.under),
                ", ".join(r.data),
                r.transfer or "none: inside the EEA",
            )
            for r in found.recipients
        ),
    )
    yield from ("", "## Time limits (Art. 30(1)(f))", "")
    yield from _rows(
        ("class", "at least, days", "at most, days", "because"),
        (
            (
                each.id,
                each.min_days,
                "no end" if each.max_days is None else each.max_days,
                each.because,
            )
            for each in found.limits
        ),
    )
    yield from ("", "## Measures (Art. 30(1)(g), 30(2)(d) and 32(1))", "")
    yield from _rows(
        ("control", "measure", "stands", "found"),
        ((each.ref, each.title, each.state, each.found) for each in found.measures),
    )
    yield from ("", "## What is not known", "")
    yield from (f"- {each}" for each in found.unknown or ("nothing",))


def _entry(each: Activity) -> Iterator[str]:
    yield from ("", f"## {each.tenant}: {each.purpose} (Art. {each.article})", "")
    said = {
        "our role": each.role,
        "state": each.state,
        "controller": each.controller,
        "how it is reached": each.controller_contact,
        "legal basis (Art. 6(1))": ", ".join(each.bases),
        "categories of people": ", ".join(each.subjects),
        "categories of data": ", ".join(each.data),
        "how people are named": ", ".join(each.named_by),
        "models": ", ".join(each.models),
        "who may call": ", ".join(each.callers),
    }
    yield from (f"- {name}: {value}" for name, value in said.items())


def _rows(head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        cells = (str(cell).replace("|", "\\|").replace("\n", " ") for cell in row)
        yield f"| {' | '.join(cells)} |"
