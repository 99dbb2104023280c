"""A person's request: its month, when more may be taken, and on what it may be refused."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovereign import policy as policies
from sovereign.errors import BadInput, UnknownName
from sovereign.evidence.loosening import loosenings
from sovereign.rights import requests as asked
from sovereign.rights.requests import ANSWERED, EXTENDED, OPENED, Entry, Request, replayed

POLICY = policies.load(Path(__file__).resolve().parents[2] / "policies", "eea")
TERM = asked.term_of(POLICY)
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def on(month: int, day: int, year: int = 2026) -> datetime:
    return datetime(year, month, day, 9, 30, tzinfo=UTC)


def came(at: datetime | None = None, kind: str = "access") -> Request:
    return Request("req_1", kind, at or on(1, 10))


@pytest.mark.parametrize(
    ("received", "due"),
    [
        (on(1, 10), on(2, 10)),
        (on(1, 31), on(2, 28)),
        (on(1, 31, 2028), on(2, 29, 2028)),
        (on(3, 31), on(4, 30)),
        (on(12, 15), on(1, 15, 2027)),
    ],
)
def test_a_request_has_a_month_of_the_calendar(received: datetime, due: datetime) -> None:
    """GDPR Art. 12(3): one month, not thirty days; 31 January ends in February."""
    it = came(received)
    assert it.due_at(TERM) == due
    assert it.standing(TERM, due) == "due"
    assert it.standing(TERM, due + timedelta(seconds=1)) == "late"


def test_an_extension_of_which_the_person_was_told_in_time_gives_two_more_months() -> None:
    """Of the receipt, not of the day they were told."""
    it = replace(came(), extension="complexity", told_at=on(2, 10))
    assert it.due_at(TERM) == on(4, 10)
    assert replace(it, told_at=on(2, 10) + timedelta(seconds=1)).due_at(TERM) == on(2, 10)


def test_an_extension_is_refused_once_the_first_month_is_over() -> None:
    """Whoever was not told in time has been kept waiting; nothing said later mends that."""
    asked.extended(POLICY, came(), "number", on(2, 9), on(2, 9))
    for told, now in ((on(2, 11), on(2, 11)), (on(1, 9), on(2, 1)), (on(2, 2), on(2, 1))):
        with pytest.raises(BadInput):
            asked.extended(POLICY, came(), "number", told, now)
    with pytest.raises(UnknownName):
        asked.extended(POLICY, came(), "holidays", on(2, 9), on(2, 9))
    again = replace(came(), extension="number", told_at=on(2, 1))
    with pytest.raises(BadInput, match="extended already"):
        asked.extended(POLICY, again, "number", on(2, 9), on(2, 9))


def test_a_refusal_is_told_within_the_first_month_whatever_was_extended() -> None:
    """GDPR Art. 12(4) knows no extension."""
    it = replace(came(), extension="complexity", told_at=on(2, 1), answered_at=on(3, 1))
    assert replace(it, outcome="done").standing(TERM, on(9, 1)) == "answered"
    assert replace(it, outcome="refused").standing(TERM, on(9, 1)) == "answered-late"
    assert replace(it, outcome="withdrawn").standing(TERM, on(9, 1)) == "answered"


def test_a_refusal_has_a_ground_of_its_kind_and_nothing_else_has_one() -> None:
    """The exceptions of Art. 17(3) are for erasure; nobody is denied a copy for archiving."""
    now = on(2, 1)
    for name, (kinds, _) in asked.GROUNDS.items():
        for kind in asked.KINDS:
            it = came(kind=kind)
            if kind in kinds:
                asked.answered(POLICY, it, "refused", name, now, now)
            else:
                with pytest.raises(UnknownName):
                    asked.answered(POLICY, it, "refused", name, now, now)
    with pytest.raises(UnknownName):
        asked.answered(POLICY, came(), "refused", "", now, now)
    with pytest.raises(BadInput):
        asked.answered(POLICY, came(), "done", "excessive", now, now)


def test_nothing_is_said_of_the_future_or_of_before_it_came() -> None:
    """A wrong time would make a late answer a timely one."""
    now = on(1, 20)
    for at in (on(1, 9), on(1, 21)):
        with pytest.raises(BadInput):
            asked.answered(POLICY, came(), "done", "", at, now)
    with pytest.raises(BadInput):
        asked.received(POLICY, "req_1", "access", on(1, 21), now)
    with pytest.raises(UnknownName):
        asked.received(POLICY, "req_1", "complaint", now, now)


def entry(sort: str, at: datetime, **said: str) -> Entry:
    return Entry("s/operator/evidence#1", at, {"type": sort, "request": "req_1", **said})


def test_what_the_verbs_say_is_what_is_replayed() -> None:
    """Nothing is stored but the log."""
    now = on(2, 20)
    sayings = [
        asked.received(POLICY, "req_1", "erasure", on(1, 10), now),
        asked.extended(POLICY, came(), "number", on(2, 1), now),
        asked.answered(POLICY, came(kind="erasure"), "refused", "legal-claims", on(2, 2), now),
    ]
    entries = [Entry("n", now, {**each.fields, "type": each.type}) for each in sayings]
    found = replayed(entries)["req_1"]
    assert (found.kind, found.extension, found.outcome) == ("erasure", "number", "refused")
    assert (found.ground, found.received_at) == ("legal-claims", on(1, 10))
    assert replayed([*entries, entries[2]])["req_1"].strange == ("n",)


Word = Callable[[datetime], Entry]
TIMES = st.integers(0, 364 * 24).map(lambda hours: on(1, 1) + timedelta(hours=hours))
SAID: list[Word] = [
    lambda at: entry(OPENED, at, asked="access", received_at=at.isoformat()),
    lambda at: entry(EXTENDED, at, reason="number", told_at=at.isoformat()),
    lambda at: entry(ANSWERED, at, outcome="done", answered_at=at.isoformat()),
    lambda at: entry(ANSWERED, at, outcome="refused", answered_at=at.isoformat()),
]


@given(st.lists(st.tuples(st.sampled_from(SAID), TIMES), max_size=8), TIMES)
def test_no_sequence_of_records_gives_more_than_three_months(
    said: list[tuple[Word, datetime]], now: datetime
) -> None:
    """Whatever stands in the log: three months from receipt, and no more."""
    found = replayed([word(at) for word, at in said])
    for each in found.values():
        most = asked.add_months(each.received_at, TERM.months + TERM.extension_months)
        assert each.due_at(TERM) <= most
        if each.is_open and now > most:
            assert each.standing(TERM, now) == "late"


def test_more_time_is_a_loosening_of_the_policy() -> None:
    """Somebody answers for it, as for every clock of the law."""
    from msgspec.structs import replace as with_fields

    law = POLICY.law[asked.LAW]
    longer = with_fields(law, term=with_fields(TERM, months=2))
    for changed in (longer, with_fields(law, term=None)):
        other = replace(POLICY, law={**POLICY.law, asked.LAW: changed})
        assert [each.what for each in loosenings(POLICY, other, NOW)] == [f"term {asked.LAW}"]
    shorter = with_fields(law, term=with_fields(TERM, extension_months=1))
    assert not list(
        loosenings(POLICY, replace(POLICY, law={**POLICY.law, asked.LAW: shorter}), NOW)
    )
