"""What may be said of an incident: words out of lists, roles that answer, and nothing else."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from sovereign.audit.record import encode
from sovereign.errors import BadInput, IncidentIncomplete, SovereignError, UnknownName
from sovereign.incidents import verbs
from sovereign.incidents.case import Incident
from sovereign.incidents.verbs import Saying, Wish
from tests.incidents.making import (
    AI,
    BREACH,
    DPO,
    HOUR,
    INC,
    NOW,
    POLICY,
    SIGNIFICANT,
    incident,
    saying,
    standing,
)

LATER = NOW + timedelta(microseconds=1)
NAME = "Erika Mustermann"
DIGEST = "0" * 64


def wish(**changed: object) -> Wish:
    said = {"kinds": (BREACH,), "noticed_at": NOW, "cause": "content-found", **changed}
    return Wish(**said)  # type: ignore[arg-type]


def known(it: Incident) -> Incident:
    """Facts, effects and remedy are known, and it is confirmed."""
    words = (("nature", "integrity"), ("consequence", "fraud"), ("measure", "data-erased"))
    facts = [verbs.fact(POLICY, it, what, word) for what, word in words]
    return saying(it, verbs.confirmed(POLICY, it), *facts)


def finished(it: Incident) -> Incident:
    """Every duty that is open is done."""
    duties = ("gdpr-33-1", "gdpr-33-2", "gdpr-34-1")
    return saying(it, *(verbs.done(POLICY, it, each, NOW, "portal", NOW) for each in duties))


SAID: dict[str, Callable[[Incident], Saying]] = {
    "opened": lambda _: verbs.opened(
        POLICY,
        INC,
        wish(roles=("gdpr-controller",), harms=("health",), about="s/gateway/event", trigger="t"),
        NOW,
    ),
    "confirmed": lambda it: verbs.confirmed(POLICY, it),
    "closed": lambda it: verbs.closed(POLICY, it, "no-incident", DPO, NOW),
    "noticed": lambda it: verbs.noticed(POLICY, it, NOW, "entered-wrongly", DPO, NOW),
    "widened": lambda it: verbs.widened(POLICY, it, (AI,), ("ai-provider",), ("death",)),
    "fact": lambda it: verbs.fact(POLICY, it, "subjects", "employees", 120),
    "done": lambda it: verbs.done(
        POLICY, it, "gdpr-33-1", NOW, "portal", NOW, DIGEST, "AZ-2026/1187"
    ),
    "excused": lambda it: verbs.excused(POLICY, it, "gdpr-34-1", "told-in-public", DPO, NOW),
}


@pytest.mark.parametrize("name", SAID)
def test_everything_that_may_be_said_is_a_record_the_table_of_records_knows(name: str) -> None:
    """What cannot be recorded must not be accepted first."""
    said = SAID[name](incident())
    assert encode(said.type, said.fields, NOW)


REFUSED: dict[str, Callable[[Incident], Saying]] = {
    "no kind": lambda _: verbs.opened(POLICY, INC, wish(kinds=()), NOW),
    "a kind": lambda _: verbs.opened(POLICY, INC, wish(kinds=(NAME,)), NOW),
    "a role": lambda _: verbs.opened(POLICY, INC, wish(roles=(NAME,)), NOW),
    "a harm": lambda _: verbs.opened(POLICY, INC, wish(harms=(NAME,)), NOW),
    "a cause": lambda _: verbs.opened(POLICY, INC, wish(cause=NAME), NOW),
    "no cause": lambda _: verbs.opened(POLICY, INC, wish(cause=""), NOW),
    "about": lambda _: verbs.opened(POLICY, INC, wish(about=NAME), NOW),
    "the future": lambda _: verbs.opened(POLICY, INC, wish(noticed_at=LATER), NOW),
    "an outcome": lambda it: verbs.closed(POLICY, it, NAME, DPO, NOW),
    "an approver": lambda it: verbs.closed(POLICY, it, "no-incident", NAME, NOW),
    "no approver": lambda it: verbs.closed(POLICY, it, "no-incident", "", NOW),
    "a duplicate of none": lambda it: verbs.closed(POLICY, it, "duplicate", DPO, NOW),
    "a duplicate of itself": lambda it: verbs.closed(POLICY, it, "duplicate", DPO, NOW, INC),
    "handled, a suspicion": lambda it: verbs.closed(POLICY, it, "handled", DPO, NOW),
    "reopened, open": lambda it: verbs.reopened(POLICY, it, "new-facts", DPO),
    "why moved": lambda it: verbs.noticed(POLICY, it, NOW, NAME, DPO, NOW),
    "moved ahead": lambda it: verbs.noticed(POLICY, it, LATER, "told-later", DPO, NOW),
    "who moved": lambda it: verbs.noticed(POLICY, it, NOW, "told-later", NAME, NOW),
    "nothing more": lambda it: verbs.widened(POLICY, it),
    "a word": lambda it: verbs.fact(POLICY, it, "nature", NAME),
    "a word of another list": lambda it: verbs.fact(POLICY, it, "nature", "employees"),
    "a number of natures": lambda it: verbs.fact(POLICY, it, "nature", "integrity", 3),
    "a number too big": lambda it: verbs.fact(POLICY, it, "records", "prompts", 10**11),
    "a duty": lambda it: verbs.done(POLICY, it, "gdpr-99", NOW, "portal", NOW),
    "a duty of another kind": lambda it: verbs.done(POLICY, it, "aia-73-2", NOW, "portal", NOW),
    "a way": lambda it: verbs.done(POLICY, it, "gdpr-33-1", NOW, NAME, NOW),
    "done ahead": lambda it: verbs.done(POLICY, it, "gdpr-33-1", LATER, "portal", NOW),
    "a reference": lambda it: verbs.done(
        POLICY, it, "gdpr-33-1", NOW, "portal", NOW, reference=NAME
    ),
    "a reference without a digit": lambda it: verbs.done(
        POLICY, it, "gdpr-33-1", NOW, "portal", NOW, reference="MUSTERMANN"
    ),
    "a document": lambda it: verbs.done(POLICY, it, "gdpr-33-1", NOW, "portal", NOW, NAME),
    "a ground": lambda it: verbs.excused(POLICY, it, "gdpr-34-1", NAME, DPO, NOW),
    "a ground of another duty": lambda it: verbs.excused(
        POLICY, it, "gdpr-34-1", "risk-unlikely", DPO, NOW
    ),
    "applies, of which nothing was said": lambda it: verbs.applies(
        POLICY, it, "gdpr-33-1", DPO, NOW
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_word_that_is_in_no_list_is_refused_and_so_is_the_future(name: str) -> None:
    """A free word could be somebody's name, and evidence is kept for years."""
    with pytest.raises((BadInput, UnknownName)) as refused:
        REFUSED[name](incident())
    assert refused.value.accepted or refused.value.message


def test_a_closed_incident_is_told_nothing_more_until_it_is_reopened() -> None:
    """What is over stays as it was when somebody answered for it."""
    it = saying(incident(), SAID["closed"](incident()))
    for name in SAID.keys() - {"opened"}:
        with pytest.raises(SovereignError):
            SAID[name](it)
    again = saying(it, verbs.reopened(POLICY, it, "new-facts", DPO))
    assert (again.state, again.outcome) == ("confirmed", "")
    assert SAID["fact"](again)


def test_an_incident_is_not_handled_before_it_is_documented_and_every_duty_is_met() -> None:
    """GDPR Art. 33(5); a closing must not be a way to silence a clock."""
    bare = saying(incident(), verbs.confirmed(POLICY, incident()))
    with pytest.raises(IncidentIncomplete) as refused:
        verbs.closed(POLICY, bare, "handled", DPO, NOW)
    for lacking in ("no nature", "no consequence", "no measure", "open: gdpr-33-1 (due)"):
        assert lacking in refused.value.found
    for half in (known(incident()), finished(bare)):
        with pytest.raises(IncidentIncomplete):
            verbs.closed(POLICY, half, "handled", DPO, NOW)
    whole = finished(known(incident()))
    assert saying(whole, verbs.closed(POLICY, whole, "handled", DPO, NOW)).outcome == "handled"


def test_a_final_report_that_waits_keeps_an_incident_open() -> None:
    """NIS2 Art. 23(4)(d): the month only begins when the notification is in."""
    it = known(incident(NOW, SIGNIFICANT))
    for duty in ("nis2-23-1", "nis2-23-4-a"):
        it = saying(it, verbs.done(POLICY, it, duty, NOW, "portal", NOW))
    with pytest.raises(IncidentIncomplete) as refused:
        verbs.closed(POLICY, it, "handled", DPO, NOW)
    assert "nis2-23-4-d (waiting)" in refused.value.found


def test_a_duty_is_done_once_and_what_was_wrong_is_said_to_be() -> None:
    """Two times for one report would leave the choice to whoever reads."""
    it = saying(incident(), verbs.done(POLICY, incident(), "gdpr-33-1", NOW, "portal", NOW))
    with pytest.raises(BadInput, match="done already"):
        verbs.done(POLICY, it, "gdpr-33-1", NOW, "letter", NOW)
    with pytest.raises(BadInput):
        verbs.excused(POLICY, it, "gdpr-33-1", "risk-unlikely", DPO, NOW)
    it = saying(it, verbs.applies(POLICY, it, "gdpr-33-1", DPO, NOW))
    it = saying(it, verbs.done(POLICY, it, "gdpr-33-1", NOW, "letter", NOW), at=NOW + HOUR)
    found = standing(it, "gdpr-33-1").done
    assert found is not None
    assert found.how == "letter"


def test_a_duplicate_names_the_other_one() -> None:
    """Its clocks run there."""
    said = verbs.closed(POLICY, incident(), "duplicate", DPO, NOW, "inc_ffffffffffff")
    assert said.fields["reason"] == "duplicate:inc_ffffffffffff"
