"""`sovereign decide`: ask the one question, and see rule, reason and source. Never recorded."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from sovereign import dependencies
from sovereign.cli.output import HomeOption, JsonFlag, facts, give, home_of, policy_of, say, table
from sovereign.cli.policy import ProfileOption, RootOption
from sovereign.dependencies import Judged
from sovereign.errors import BadInput, UnknownName
from sovereign.policy import Policy
from sovereign.residency import Decision, Question
from sovereign.residency import decide as ask
from sovereign.settings import Home


def add_to(app: typer.Typer) -> None:
    """Hang the command on the root."""
    app.command()(decide)


def decide(
    place: Annotated[str, typer.Option(help="provider:zone, or this-host.")] = "",
    data: Annotated[str, typer.Option("--class", help="Class of data.")] = "personal",
    verb: Annotated[str, typer.Option(help="store, process or send.")] = "process",
    listener: Annotated[str, typer.Option(help="address:port, for this-host.")] = "",
    at: Annotated[str, typer.Option(help="Judge as of this time (ISO 8601 with zone).")] = "",
    everything: Annotated[
        bool, typer.Option("--all", help="Everything that requests of this site touch.")
    ] = False,
    home: HomeOption = None,
    policies: RootOption = None,
    profile: ProfileOption = None,
    as_json: JsonFlag = False,
) -> None:
    """May this data be there? Exit 0 for yes, 1 for no, 3 if something was not said (--all)."""
    policy = policy_of(home_of(home), profile, policies)
    if everything:
        raise typer.Exit(_decide_all(home_of(home), policy, _time(at), as_json=as_json))
    if not place:
        raise BadInput("which place?", accepted="--place CODE, or --all for everything in use")
    if data not in policy.data:
        raise UnknownName(f"{data!r} is no class of data", accepted=", ".join(sorted(policy.data)))
    if verb not in ("store", "process", "send"):
        raise UnknownName(f"{verb!r} is no verb", accepted="store, process, send")
    answer = ask(policy, Question(place, data, verb, _time(at), listener))
    allowed = [] if answer.allowed else _allowed(policy, answer)
    if as_json:
        give({**as_facts(answer), "allowed": allowed})
    else:
        say(f"{answer.verdict}: {verb} {data} data at {place}")
        facts(
            {
                "rule": answer.rule,
                "because": answer.because,
                "source": answer.source,
                "found": answer.found,
                **({"allowed": ", ".join(allowed[:6])} if allowed else {}),
            }
        )
    raise typer.Exit(0 if answer.allowed else 1)


def _decide_all(home: Home, policy: Policy, now: datetime, *, as_json: bool) -> int:
    """Show every dependency; 1 when one is refused, 3 when nobody has said where one is."""
    judged = dependencies.judge(policy, dependencies.of_site(home, policy), now)
    refused = next((each for each in judged if each.verdict == "refuse"), None)
    unsaid = [each.dependency.kind for each in judged if each.verdict == "unknown"]
    if as_json:
        first = None if refused is None else refused.dependency.id
        shuts = dependencies.first_refused(judged, policy) is not None
        rows = [_row(each) for each in judged]
        give({"refused": first, "shuts": shuts, "unknown": unsaid, "dependencies": rows})
    else:
        columns = ("dependency", "kind", "place", "verdict", "rule")
        table(columns, [[_row(each)[name] for name in columns] for each in judged])
        _explain(refused, unsaid)
    return 1 if refused else 3 if unsaid else 0


def _explain(refused: Judged | None, unsaid: list[str]) -> None:
    if refused is not None and refused.decision is not None:
        answer, asked = refused.decision, refused.decision.question
        say(f"\nrefused first: {refused.dependency.id} ({asked.verb} {asked.data} data)")
        facts(
            {
                "rule": answer.rule,
                "because": answer.because,
                "source": answer.source,
                "found": answer.found,
                "said in": refused.dependency.said_in,
                "next": "docs/runbooks/dependency-refused.md",
            }
        )
    if unsaid:
        say(f"\nnobody has said where these are: {', '.join(sorted(unsaid))}")
        say("  next     dependencies in sovereign.yaml: id, kind, and place (none: there is none)")


def _row(each: Judged) -> dict[str, object]:
    asked, answer = each.dependency, each.decision
    return {
        "dependency": asked.id,
        "kind": asked.kind,
        "place": asked.place,
        "data": list(asked.data),
        "verbs": list(asked.verbs),
        "listener": asked.listener,
        "said_in": asked.said_in,
        "verdict": each.verdict,
        "rule": "" if answer is None else answer.rule,
        "found": "" if answer is None else answer.found,
        "because": "" if answer is None else answer.because,
    }


def as_facts(answer: Decision) -> dict[str, object]:
    """A decision as the words of its record."""
    return {
        "verdict": answer.verdict,
        "rule": answer.rule,
        "because": answer.because,
        "source": answer.source,
        "found": answer.found,
        "place": answer.question.place,
        "class": answer.question.data,
        "verb": answer.question.verb,
        "asked_at": answer.question.asked_at.isoformat(),
        "policy": answer.policy,
    }


def _time(text: str) -> datetime:
    if not text:
        return datetime.now(UTC)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f"{text!r} is no time", accepted="2026-11-23T12:00:00+00:00") from None


def _allowed(policy: Policy, refused: Decision) -> list[str]:
    """Places that would be allowed for the same question, those with GPUs first."""
    asked = refused.question
    places = sorted(policy.places.values(), key=lambda place: (not place.gpus, place.code))
    return [
        place.code
        for place in places
        if ask(policy, Question(place.code, asked.data, asked.verb, asked.asked_at)).allowed
    ]
