"""`sovereign access …`: who may do what with which model, why, and what a change would change."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sovereign.cli.output import HomeOption, JsonFlag, facts, give, home_of, policy_of, say, table
from sovereign.cli.policy import ProfileOption, RootOption
from sovereign.errors import UnknownName
from sovereign.policy import Policy
from sovereign.policy.spoken import ACTIONS
from sovereign.settings import Home

if TYPE_CHECKING:
    from sovereign.access.compare import Spot

app = typer.Typer(help="Check, explain, test and compare the access rules.", no_args_is_help=True)
KeyOption = Annotated[str, typer.Option("--key", help="Id of a key: sovereign key list.")]
ModelOption = Annotated[str, typer.Option("--model", help="Id of a model.")]
ActionOption = Annotated[str, typer.Option("--action", help="chat, fim, completion, embed, list.")]


@app.command()
def check(
    key: KeyOption,
    model: ModelOption,
    action: ActionOption = "chat",
    home: HomeOption = None,
    policies: RootOption = None,
    profile: ProfileOption = None,
    as_json: JsonFlag = False,
) -> None:
    """May this key do that with this model? Exit 0 for yes, at one endpoint at least; 1 for no.

    Says what the access rules say. A call is also held to residency, limits and the key's state.
    """
    answers = _answers(home_of(home), policies, profile, key, model, (action,))
    allowed = any(each["verdict"] == "allow" for each in answers)
    if as_json:
        give({"allowed": allowed, "answers": [_short(each) for each in answers]})
        raise typer.Exit(0 if allowed else 1)
    for each in answers:
        say(f"{each['verdict']}: {key} {each['action']} {model} at {each['endpoint']}")
        facts({name: each[name] for name in ("rule", "because", "source")})
    raise typer.Exit(0 if allowed else 1)


@app.command()
def explain(
    key: KeyOption,
    model: ModelOption,
    action: ActionOption = "",
    home: HomeOption = None,
    policies: RootOption = None,
    profile: ProfileOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Every rule that speaks for or against it, with its reason and source, and what wins."""
    wanted = (action,) if action else ACTIONS
    answers = _answers(home_of(home), policies, profile, key, model, wanted)
    if as_json:
        give({"answers": answers})
        return
    for each in answers:
        say(f"{each['verdict']}: {each['action']} at {each['endpoint']}, by {each['rule']}")
        if not each["applying"]:
            say("  no rule applies; silence means no")
        for rule in each["applying"]:
            say(f"  {rule['effect']}s  {rule['id']}")
            facts({"  because": rule["because"], "  source": rule["source"]})


@app.command("test")
def ask_cases(
    home: HomeOption = None,
    policies: RootOption = None,
    profile: ProfileOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Ask every case of access/cases.yaml. Exit 1 when one is answered otherwise than it says."""
    policy = policy_of(home_of(home), profile, policies)
    wrong = differing_cases(policy)
    if as_json:
        give({"ok": not wrong, "cases": len(policy.access.cases), "differing": wrong})
    else:
        show_cases(wrong)
        if not wrong:
            say(f"ok: {len(policy.access.cases)} cases answered as they say")
    raise typer.Exit(1 if wrong else 0)


@app.command()
def diff(
    old: Annotated[Path, typer.Argument(help="A policy folder.")],
    new: Annotated[Path, typer.Argument(help="Another.")],
    home: HomeOption = None,
    profile: ProfileOption = None,
    as_json: JsonFlag = False,
) -> None:
    """What becomes possible and what impossible, over known keys, roles, models and actions.

    Exit 1 when anything becomes possible: the change widens access.
    """
    where = home_of(home)
    found = access_changes(where, policy_of(where, profile, old), policy_of(where, profile, new))
    widened = any(each["becomes"] == "possible" for each in found)
    if as_json:
        give({"widens": widened, "changes": found})
    else:
        show_changes(found)
    raise typer.Exit(1 if widened else 0)


# --- what `sovereign policy` shows, too ------------------------------------------------------


def differing_cases(policy: Policy) -> list[dict[str, Any]]:
    """Each case that is not answered as it says."""
    from sovereign.access import differing

    return [
        {
            "says": each.case.says,
            "action": each.action,
            "expected": f"{each.case.expect} by {each.case.rule}",
            "found": f"{each.found.verdict} by {each.found.rule}",
        }
        for each in differing(policy)
    ]


def show_cases(wrong: Iterable[dict[str, Any]]) -> None:
    """A differing case a block."""
    for each in wrong:
        say(f"differs: {each['says']}")
        facts({name: each[name] for name in ("action", "expected", "found")})


def access_changes(home: Home, old: Policy, new: Policy) -> list[dict[str, Any]]:
    """What the change of the access rules makes possible and impossible, in this site."""
    from sovereign.access.compare import changes, imagined
    from sovereign.gateway.entitle import principal
    from sovereign.keystore import Keystore

    keys = {key.id: key for key in Keystore(home.keystore).known().keys.values()}
    who = (*(principal(keys[name]) for name in sorted(keys)), *imagined(old, new))
    return [
        {
            "becomes": "possible" if each.widens else "impossible",
            "who": each.principal.id,
            "tenant": each.principal.tenant,
            "action": each.action,
            "model": each.model,
            "endpoint": each.endpoint,
            "before": each.before.rule,
            "after": each.after.rule,
        }
        for each in changes(old, new, who, _spots(home))
    ]


def show_changes(found: Sequence[dict[str, Any]]) -> None:
    """What becomes possible first, since that is what somebody answers for."""
    for becomes in ("possible", "impossible"):
        of_them = [each for each in found if each["becomes"] == becomes]
        say(f"{len(of_them)} become {becomes}")
        if of_them:
            columns = ("who", "action", "model", "endpoint", "before", "after")
            table(columns, [[each[name] for name in columns] for each in of_them])


# --- what is asked ---------------------------------------------------------------------------


def _answers(
    home: Home,
    policies: Path | None,
    profile: str | None,
    key: str,
    model: str,
    actions: Sequence[str],
) -> list[dict[str, Any]]:
    from sovereign.access import Access, served
    from sovereign.gateway.entitle import principal
    from sovereign.keystore import Keystore

    policy = policy_of(home, profile, policies)
    known = {each.id: each for each in Keystore(home.keystore).known().keys.values()}
    _one_of("key", key, known)
    _one_of("model", model, policy.models)
    for action in actions:
        _one_of("action", action, ACTIONS)
    access, who = Access(policy), principal(known[key])
    found = []
    for spot in _spots(home, model):
        what = served(policy, model, spot.endpoint, spot.engine, spot.place)
        for action in actions:
            answer = access.decide(who, action, what)
            found.append(
                {
                    "action": action,
                    "endpoint": spot.endpoint,
                    "place": spot.place,
                    "verdict": answer.verdict,
                    "rule": answer.rule,
                    "because": answer.because,
                    "source": answer.source,
                    "applying": [
                        {"id": r.id, "effect": r.effect, "because": r.because, "source": r.source}
                        for r in access.applying(who, action, what)
                    ],
                    "policy": policy.digest,
                }
            )
    return found


def _short(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "applying"}


def _one_of(what: str, given: str, known: Iterable[str]) -> None:
    if given not in known:
        raise UnknownName(f"{given!r} is no {what}", accepted=", ".join(sorted(known)))


def _spots(home: Home, model: str = "") -> "tuple[Spot, ...]":
    """Where models are served here; where this host's engine would serve them, if nowhere yet."""
    from sovereign.access.compare import Spot
    from sovereign.registry import Registry

    known = Registry(home.registry).snapshot().endpoints
    serving = [e for e in known if not model or model in e.models]
    if serving:
        return tuple(Spot(e.id, e.engine, e.place) for e in serving)
    engine, place = home.settings.engine.name, home.settings.place
    return (Spot(f"{home.settings.site}-{engine}", engine, place),)
