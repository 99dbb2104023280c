"""`sovereign places …`: where machines may be, and where this one is."""

import re
from datetime import date
from typing import Annotated

import msgspec
import typer

from sovereign import dependencies
from sovereign import settings as settings_files
from sovereign.cli.output import HomeOption, JsonFlag, facts, give, home_of, policy_of, say, table
from sovereign.errors import BadInput, UnknownName
from sovereign.policy import THIS_HOST, Policy
from sovereign.policy.shapes import PlacesFile, Provider
from sovereign.registry import utcnow
from sovereign.residency import Question, stale_on
from sovereign.residency import decide as ask
from sovereign.settings import Home
from sovereign.supervisor.deployment import operator_trail

app = typer.Typer(help="List places, and declare your own.", no_args_is_help=True)
OWN = "own"
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")


@app.command("list")
def list_(
    home: HomeOption = None,
    allowed: Annotated[bool, typer.Option(help="Only where personal data may be.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Every place in the table, and whether it may process personal data now."""
    policy = policy_of(home_of(home))
    rows = []
    for place in policy.places.values():
        answer = ask(policy, Question(place.code, "personal", "process", utcnow()))
        if answer.allowed or not allowed:
            said = {"verdict": answer.verdict, "rule": answer.rule}
            rows.append({**msgspec.to_builtins(place), **said})
    if as_json:
        give({"places": rows})
        return
    columns = ("code", "country", "under", "gpus", "verdict", "checked_on")
    table(columns, [[row[name] for name in columns] for row in rows])


@app.command()
def show(code: str, home: HomeOption = None, as_json: JsonFlag = False) -> None:
    """One place: operator, owners, law, source."""
    policy = policy_of(home_of(home))
    place = policy.places.get(code)
    if place is None:
        raise UnknownName(f"{code!r} is not in the table", next_step="sovereign places list")
    if as_json:
        give(place)
    else:
        facts(msgspec.to_builtins(place))


@app.command()
def check(
    days: Annotated[int, typer.Option(min=0, max=365, help="Look this far ahead.")] = 90,
    everything: Annotated[
        bool, typer.Option("--all", help="Also places that this site does not use.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Whose facts grow too old, and when: then a place counts as unknown, and is refused.

    Exit 0 when nothing does within the days, 1 when something in use does, or has.
    """
    where = home_of(home)
    policy, today = policy_of(where), utcnow().date()
    used = _used(where, policy)
    codes = sorted(used.keys() | (policy.places.keys() if everything else set()))
    ends = {code: end for code in codes if (end := stale_on(policy, code)) is not None}
    due = sorted(
        (code for code, end in ends.items() if (end - today).days <= days),
        key=lambda code: (ends[code], code),
    )
    rows = [_ageing(policy, code, ends[code], today, used.get(code, [])) for code in due]
    if as_json:
        give({"days": days, "places": rows})
    elif not rows:
        said = "of all places" if everything else f"of {len(used)} places in use"
        say(f"none {said} has facts that grow too old within {days} days")
    else:
        columns = ("place", "checked_on", "stale_on", "days_left", "used_by")
        table(columns, [[row[name] for name in columns] for row in rows])
        say(
            "\n  next     look each up at its source (sovereign places show CODE), and date it anew"
        )
    raise typer.Exit(1 if any(code in used for code in due) else 0)


def _used(where: Home, policy: Policy) -> dict[str, list[str]]:
    """What this site uses of each place; of `this-host` there are no facts to grow old."""
    used: dict[str, list[str]] = {}
    for each in dependencies.of_site(where, policy):
        if each.place not in ("", THIS_HOST, dependencies.NONE):
            used.setdefault(each.place, []).append(each.id)
    return used


def _ageing(
    policy: Policy, code: str, end: date, today: date, used_by: list[str]
) -> dict[str, object]:
    place = policy.places.get(code)
    return {
        "place": code,
        "checked_on": "never" if place is None else place.checked_on.isoformat(),
        "stale_on": "always" if place is None else end.isoformat(),
        "days_left": 0 if place is None else (end - today).days,
        "used_by": ", ".join(used_by),
    }


@app.command()
def declare(
    country: Annotated[str, typer.Option(help="Where this machine stands: two letters.")],
    under: Annotated[str, typer.Option(help="Whose law binds its operator: two letters.")],
    entity: Annotated[str, typer.Option(help="The legal entity that operates it.")],
    name: Annotated[str, typer.Option(help="A name for the place.")] = "this-site",
    parent: Annotated[list[str] | None, typer.Option(help="Owner NAME=CC, nearest first.")] = None,
    home: HomeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Say where this host is. The word is yours, is dated, and is recorded."""
    where = home_of(home)
    provider = _provider(country, under, entity, name, parent or [])
    code = f"{OWN}:{name}"
    record = _recorded(where, code, country, under)
    where.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    where.own_places.write_bytes(msgspec.yaml.encode(PlacesFile(1, (provider,))))
    chosen = msgspec.structs.replace(where.settings, place=code)
    where.file.write_text(settings_files.render(chosen))
    policy = policy_of(home_of(where.root))
    answer = ask(policy, Question(code, "personal", "process", utcnow()))
    if as_json:
        said = {"verdict": answer.verdict, "rule": answer.rule}
        give({"place": code, "country": country, "under": under, "record": record, **said})
        return
    say(f"declared {code}: {country}, operated by {entity} under the law of {under}")
    facts(
        {
            "policy": f"{answer.verdict}: process personal data there ({answer.rule})",
            "because": answer.because,
            "record": record or "none yet: there is no audit log here",
            "next": "make deploy" if answer.allowed else "sovereign places list --allowed",
        }
    )


def _provider(country: str, under: str, entity: str, name: str, parents: list[str]) -> Provider:
    if not _NAME.fullmatch(name):
        raise BadInput(f"{name!r} cannot name a place", accepted="lower-case letters, digits, -")
    for each in (country, under, *(_owner(parent)["country"] for parent in parents)):
        _refuse_no_country(each)
    today: date = utcnow().date()
    content = {
        "id": OWN,
        "entity": entity,
        "seat": under,
        "under": under,
        "source": "declared by the operator of this site",
        "checked_on": today.isoformat(),
        "confidence": "medium",
        "zones": [{"zone": name, "region": name, "country": country, "gpus": True}],
        "parents": [_owner(parent) for parent in parents],
    }
    try:
        return msgspec.convert(content, Provider)
    except msgspec.ValidationError as error:
        raise BadInput(str(error), accepted="two upper-case letters for each country") from None


def _refuse_no_country(code: str) -> None:
    """A slip of the pen must not become a country that no rule knows, and so refuses for ever."""
    import pycountry  # slow: it reads its tables when it is first asked

    if pycountry.countries.get(alpha_2=code) is None:
        raise BadInput(
            f"{code!r} is the code of no country",
            accepted="ISO 3166-1 alpha-2, upper case: DE, FR, NL (Greece is GR)",
        )


def _owner(text: str) -> dict[str, str]:
    entity, equals, country = text.rpartition("=")
    if not equals:
        raise BadInput(f"{text!r} is no owner", accepted="NAME=CC, as in 'Example Holding=FR'")
    return {"entity": entity, "country": country}


def _recorded(where: Home, code: str, country: str, under: str) -> str:
    """Record it before it counts: a declaration that nobody can be shown is none."""
    if not where.audit.exists():
        return ""
    with operator_trail(where) as log:
        written = log.record("place-declared", place=code, country=country, under=under).result()
    return str(written.name)
