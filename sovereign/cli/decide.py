"""`sovereign decide`: ask the one question, and see rule, reason and source. Never recorded."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from sovereign.cli.output import HomeOption, JsonFlag, facts, give, home_of, policy_of, say
from sovereign.cli.policy import ProfileOption, RootOption
from sovereign.errors import BadInput, UnknownName
from sovereign.policy import Policy
from sovereign.residency import Decision, Question
from sovereign.residency import decide as ask


def add_to(app: typer.Typer) -> None:
    """Hang the command on the root."""
    app.command()(decide)


def decide(
    place: Annotated[str, typer.Option(help="provider:zone, or this-host.")],
    data: Annotated[str, typer.Option("--class", help="Class of data.")] = "personal",
    verb: Annotated[str, typer.Option(help="store, process or send.")] = "process",
    listener: Annotated[str, typer.Option(help="address:port, for this-host.")] = "",
    at: Annotated[str, typer.Option(help="Judge as of this time (ISO 8601 with zone).")] = "",
    home: HomeOption = None,
    policies: RootOption = None,
    profile: ProfileOption = None,
    as_json: JsonFlag = False,
) -> None:
    """May this data be there? Exit 0 for yes, 1 for no."""
    policy = policy_of(home_of(home), profile, policies)
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
