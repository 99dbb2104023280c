"""A report of an incident in Markdown, for a person to finish. Pure.

It has what GDPR Art. 33(3)(a) to (d) asks for, and what Directive (EU) 2022/2555 Art. 23(4) and
Regulation (EU) 2024/1689 Art. 73 ask for where the incident is of such a kind. What the log knows
is filled in, each with the record that says so; who answers is in the settings. What neither says
is a blank that says what belongs there; `blanks` counts them. A draft is never sent by this
program.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from sovereign.incidents.case import Incident
from sovereign.incidents.duties import Duty
from sovereign.policy.shapes import Incidents
from sovereign.settings import OrganisationSettings

BLANK = "▢"
BREACH, SIGNIFICANT, AI = "personal-data-breach", "significant-incident", "serious-ai-incident"
_HEADS = {
    "nature": "Nature of the breach (Art. 33(3)(a))",
    "subjects": "Categories and number of people, approximately (Art. 33(3)(a))",
    "records": "Categories and number of records, approximately (Art. 33(3)(a))",
    "consequence": "Likely consequences (Art. 33(3)(c))",
    "measure": "Measures taken or proposed (Art. 33(3)(d))",
}
_ALSO: Mapping[str, tuple[str, tuple[str, ...]]] = {
    SIGNIFICANT: (
        "Also asked by Directive (EU) 2022/2555 (NIS2), Art. 23(4)",
        (
            "early warning (a): is it suspected to be caused by unlawful or malicious acts?",
            "early warning (a): could it have an impact across borders?",
            "notification (b): severity and impact, as first assessed",
            "notification (b): indicators of compromise, where there are any",
            "final report (d): the threat or root cause that is likely to have triggered it",
            "final report (d): measures applied and going on; impact across borders",
        ),
    ),
    AI: (
        "Also asked by Regulation (EU) 2024/1689 (AI Act), Art. 73",
        (
            "the system, its version and its provider",
            "the member state where it happened",
            "the causal link between the system and the harm, or how likely it is",
        ),
    ),
}
NOBODY_SAID = OrganisationSettings()
NOTE = "Draft, self-assessment, not legal advice. A person completes and answers for it."


@dataclass(frozen=True, slots=True)
class Draft:
    """A report to be finished; `blanks` are the things that a person has to fill in."""

    text: str
    blanks: tuple[str, ...]


def draft(
    incident: Incident,
    duties: tuple[Duty, ...],
    rules: Incidents,
    site: str,
    now: datetime,
    who: OrganisationSettings = NOBODY_SAID,
) -> Draft:
    """The report as far as the log, and the settings of who answers, can write it, at `now`."""
    lines = list(_lines(incident, duties, rules, site, now, who))
    return Draft("\n".join(lines) + "\n", blanks_of(lines))


def blanks_of(lines: Iterable[str]) -> tuple[str, ...]:
    """What each blank asks for."""
    return tuple(line.partition(f"{BLANK} ")[2] for line in lines if f"{BLANK} " in line)


def _lines(
    incident: Incident,
    duties: tuple[Duty, ...],
    rules: Incidents,
    site: str,
    now: datetime,
    who: OrganisationSettings,
) -> Iterator[str]:
    yield f"# Report of incident {incident.id}"
    yield from ("", NOTE, "")
    yield from _head(incident, rules, site, now)
    yield from _contact(who)
    for what, head in _HEADS.items():
        yield from _section(incident, rules, what, head)
    yield from _phases(incident, duties, now)
    for kind, (head, asked) in _ALSO.items():
        if kind in incident.kinds:
            yield from ("", f"## {head}", "")
            yield from (f"- {BLANK} {each}" for each in asked)
    yield from _duties(duties)
    yield from ("", "## Records", "")
    yield "What this draft was made of, in the audit log: " + ", ".join(
        each.name for each in incident.history
    )


def officer(who: OrganisationSettings) -> str:
    """How somebody who answers for data is reached, as the settings say it; "" where they do not.

    `none`, for an organisation without a data protection officer, leaves its own contact.
    """
    return who.contact if who.officer in ("", "none") else who.officer


def _head(incident: Incident, rules: Incidents, site: str, now: datetime) -> Iterator[str]:
    said = {each.id: each.because for each in rules.causes}
    yield f"- site: {site}"
    yield f"- drafted at: {_time(now)}"
    yield f"- state: {incident.state}"
    yield f"- kind: {', '.join(incident.kinds)}"
    yield f"- our role: {', '.join(incident.roles) or f'{BLANK} in which role were we?'}"
    yield f"- cause: {incident.cause}: {said.get(incident.cause, 'not in the policy any more')}"
    if incident.about:
        yield f"- about: {incident.about}"
    yield f"- aware since: {_time(incident.noticed_at)}"
    for before in incident.notices[:-1]:
        yield f"- earlier said: aware since {_time(before.noticed_at)} ({before.record})"
    if len(incident.notices) > 1:
        last = incident.notices[-1]
        yield f"- moved because: {last.reason}, answered for by {last.approver} ({last.record})"
    yield f"- when it happened, from and to: {BLANK} as far as it is known"
    yield f"- what happened, in sentences: {BLANK} facts only"


def _contact(who: OrganisationSettings) -> Iterator[str]:
    reached = officer(who)
    named = f"{who.name}, {who.contact}" if who.name and who.contact else ""
    represented = who.representative
    yield from ("", "## Who can be asked (Art. 33(3)(b))", "")
    yield f"- {reached or f'{BLANK} how the data protection officer or another contact is reached'}"
    yield f"- controller: {named or f'{BLANK} name and address of the controller'}"
    yield f"- representative: {represented or f'{BLANK} representative in the Union, if any'}"


def _section(incident: Incident, rules: Incidents, what: str, head: str) -> Iterator[str]:
    words = {each.id: each.because for each in rules.facts if each.what == what}
    yield from ("", f"## {head}", "")
    known = incident.known(what)
    for fact in known:
        because = words.get(fact.word, "not in the policy any more")
        number = "" if fact.count is None else f"about {fact.count}: "
        yield f"- {number}{fact.word}: {because} ({fact.record})"
        if fact.count is None and what in ("subjects", "records"):
            yield f"- {BLANK} about how many {what} ({fact.word})"
    if not known:
        yield f"- {BLANK} {head.partition(' (')[0].lower()}"


def _phases(incident: Incident, duties: tuple[Duty, ...], now: datetime) -> Iterator[str]:
    """Late, or not all of it yet: both have to be said (Art. 33(1) and (4))."""
    lacking = [what for what in _HEADS if not incident.known(what)]
    if lacking and BREACH in incident.kinds:
        yield from ("", "## Given in phases (Art. 33(4))", "")
        yield f"Not known yet, and to follow without further delay: {', '.join(lacking)}."
    late = [each.id for each in duties if each.standing in ("late", "done-late")]
    if late:
        yield from ("", "## Reasons for the delay (Art. 33(1))", "")
        yield from (f"- {BLANK} why {each} was not done in time" for each in late)


def _duties(duties: tuple[Duty, ...]) -> Iterator[str]:
    yield from ("", "## Duties and clocks", "")
    yield "| duty | article | to | stands | until | done or not applicable |"
    yield "|---|---|---|---|---|---|"
    for each in duties:
        until = "" if each.due_at is None else _time(each.due_at)
        ours = "" if each.by_law or not until else " (our target; the law: without undue delay)"
        article = f"{each.law.law} {each.law.article}"
        yield (
            f"| {each.id} | {article} | {each.clock.to} | {each.standing} | {until}{ours} "
            f"| {_what_was_said(each)} |"
        )


def _what_was_said(duty: Duty) -> str:
    if duty.done is not None:
        at = duty.done.done_at or duty.done.at
        more = [duty.done.how, duty.done.reference, duty.done.document and "document kept"]
        return f"{_time(at)} {', '.join(each for each in more if each)} ({duty.done.record})"
    if duty.excused is not None and duty.standing == "not-applicable":
        return f"{duty.reason}, answered for by {duty.excused.approver} ({duty.excused.record})"
    return duty.reason


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
