"""States, transitions, and an incident made of its records: nothing said is ever lost."""

from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sovereign.audit.record import written
from sovereign.incidents.case import NEXT, STATES, TYPES, VERBS, Entry, applied, following, replayed
from tests.incidents.making import BREACH, DAY, INC, NOW, SIGNIFICANT, entry, incident, opening


def said(verb: str, **more: Any) -> Entry:
    return entry("incident-state", verb=verb, **more)


@pytest.mark.parametrize(("state", "verb"), list(product(STATES, VERBS)))
def test_every_verb_in_every_state_either_leads_to_a_state_or_changes_nothing(
    state: str, verb: str
) -> None:
    """A log must be readable whatever stands in it."""
    it = incident()
    path = {"suspected": [], "confirmed": ["confirm"], "closed": ["confirm", "close"]}
    for step in path[state]:
        it = applied(it, said(step))
    assert it.state == state
    after = applied(it, said(verb))
    allowed = {
        ("suspected", "confirm"): "confirmed",
        ("suspected", "close"): "closed",
        ("confirmed", "close"): "closed",
        ("closed", "reopen"): "confirmed",
    }
    assert after.state == allowed.get((state, verb), state)
    assert bool(after.strange) is ((state, verb) not in allowed)
    assert dict(NEXT) == allowed


def test_a_word_that_is_no_verb_is_no_transition() -> None:
    """A later version may know more; this one must not guess."""
    assert following("suspected", "escalate") is None
    after = applied(incident(), said("escalate"))
    assert (after.state, after.strange) == ("suspected", ("s/operator/evidence#1",))


def test_awareness_that_is_moved_is_recorded_and_never_overwritten() -> None:
    """Whoever moves a clock must be seen to have moved it."""
    it = incident(NOW - 3 * DAY)
    moved: dict[str, Any] = {
        "noticed_at": written(NOW - DAY),
        "reason": "suspicion-only",
        "approver": "dpo",
    }
    after = applied(it, entry("incident-noticed", **moved))
    assert after.noticed_at == NOW - DAY
    assert [each.noticed_at for each in after.notices] == [NOW - 3 * DAY, NOW - DAY]
    assert [each.reason for each in after.notices] == ["", "suspicion-only"]


def test_kinds_roles_and_harms_only_ever_become_more() -> None:
    """A duty that does not arise says so itself, with a ground; it does not vanish."""
    it = incident()
    after = applied(it, entry("incident-scope", kinds=f"{SIGNIFICANT},{BREACH}", harms="death"))
    assert (after.kinds, after.harms) == ((BREACH, SIGNIFICANT), ("death",))


def test_the_newest_number_counts_and_the_older_ones_stay() -> None:
    """At first nobody knows how many; the first guess is evidence too."""
    it = incident()
    for count in (10, 4000):
        fact: dict[str, Any] = {"what": "subjects", "word": "employees", "count": count}
        it = applied(it, entry("incident-fact", **fact))
    assert [fact.count for fact in it.known("subjects")] == [4000]
    assert [fact.count for fact in it.facts] == [10, 4000]


def test_an_incident_that_was_opened_twice_is_one_as_it_was_said_first() -> None:
    """A controller killed after its record says it again."""
    again = Entry("s/controller/evidence#9", NOW + DAY, {**opening(NOW + DAY).fields, "by": "x"})
    found = replayed([again, opening(NOW)], [])
    assert (list(found), found[INC].noticed_at, found[INC].by) == ([INC], NOW, "operator")


def test_the_order_of_what_was_said_is_that_of_the_log_and_not_of_a_clock() -> None:
    """A clock that was set back must not put a closing before the opening."""
    early = NOW - timedelta(days=400)
    steps = [
        Entry("s/operator/evidence#2", early, said("confirm").fields),
        Entry("s/operator/evidence#3", early - DAY, said("close", reason="handled").fields),
    ]
    found = replayed([opening()], steps)[INC]
    assert (found.state, found.outcome, found.strange) == ("closed", "handled", ())


def test_what_is_said_of_an_incident_nobody_opened_is_nothing() -> None:
    """Its opening may be gone; then it is a gap that is told elsewhere."""
    assert replayed([], [said("confirm")]) == {}


VERB = st.sampled_from([*VERBS, "else"]).map(said)
DUTY = st.tuples(
    st.sampled_from(["gdpr-33-1", "nis2-23-4-b", "none"]),
    st.sampled_from(["done", "not-applicable", "applies", "else"]),
).map(lambda pair: entry("incident-duty", duty=pair[0], state=pair[1]))


@settings(max_examples=60, deadline=None)
@given(st.lists(VERB | DUTY, max_size=12))
def test_replaying_is_total_and_keeps_every_record_one_way_or_the_other(
    steps: list[Entry],
) -> None:
    """No sequence of records stops a reader, and none is dropped in silence."""
    it = replayed([opening()], steps)[INC]
    assert it.state in STATES
    assert len(it.history) + len(it.strange) == len(steps) + 1
    assert {each.fields["type"] for each in it.history} <= set(TYPES)
