"""What the people concerned are told of a breach, in plain words, for a person to finish. Pure.

It has what GDPR Art. 34(2) asks for: the nature of the breach, and what Art. 33(3)(b), (c) and (d)
name. No code, record, number of people or name of a machine is in it: it is read by whoever it
happened to. What the log cannot know, such as what somebody can do about it, is a blank. Nothing is
ever sent by this program.
"""

from collections.abc import Iterator

from sovereign.errors import BadInput
from sovereign.incidents.case import Incident
from sovereign.incidents.draft import BLANK, BREACH, NOTE, Draft, blanks_of, officer
from sovereign.policy.shapes import FactKind, Incidents
from sovereign.settings import OrganisationSettings

_HEADS: tuple[tuple[FactKind, str, str], ...] = (
    ("nature", "What happened", "what happened to the data, in plain words"),
    ("records", "Which data", "which data about the reader it is"),
    ("consequence", "What could follow", "what could follow for the reader"),
    ("measure", "What we have done", "what was done about it, or will be"),
)


def notice(incident: Incident, rules: Incidents, who: OrganisationSettings) -> Draft:
    """The message to the people concerned, as far as it can be written.

    Raises:
        BadInput: it is no breach of personal data; nobody has to be told under Art. 34.
    """
    if BREACH not in incident.kinds:
        raise BadInput(
            f"{incident.id} is no {BREACH}: Art. 34 of the GDPR has nobody to be told",
            accepted=f"an incident of kind {BREACH}",
            next_step=f"sovereign incident add {incident.id} --kind {BREACH}",
        )
    lines = list(_lines(incident, rules, who))
    return Draft("\n".join(lines) + "\n", blanks_of(lines))


def _lines(incident: Incident, rules: Incidents, who: OrganisationSettings) -> Iterator[str]:
    yield "# About your data (GDPR Art. 34)"
    yield from ("", NOTE, "")
    yield f"From: {who.name or f'{BLANK} who writes'}"
    for what, head, asked in _HEADS:
        yield from ("", f"## {head}", "")
        yield from _said(incident, rules, what, asked)
        if what == "nature":
            yield f"- {BLANK} when, and how it came about, as far as it is known"
    yield from ("", "## What you can do", "")
    yield f"- {BLANK} what the reader can do against what could follow, such as a new password"
    yield from ("", "## Whom you can ask", "")
    yield f"- {officer(who) or f'{BLANK} name and contact details of somebody who answers'}"


def _said(incident: Incident, rules: Incidents, what: FactKind, asked: str) -> Iterator[str]:
    """The policy's sentence for each word; a word that it has no more is for a person to say."""
    words = {each.id: each.because for each in rules.facts if each.what == what}
    known = [words[fact.word] for fact in incident.known(what) if fact.word in words]
    yield from (f"- {sentence}" for sentence in known)
    if len(known) < len(incident.known(what)) or not known:
        yield f"- {BLANK} {asked}"
