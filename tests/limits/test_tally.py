"""What was used is what the log says, counted once, however often somebody stops counting."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sovereign.audit import record
from sovereign.limits.tally import NOT_SENT, Counting, Row, Tally, Used

BEGAN = datetime(2026, 11, 29, 22, tzinfo=UTC)
Record = dict[str, Any]


def decision(number: int, who: str = "a", verdict: str = "allow") -> Record:
    at = record.written(BEGAN + timedelta(hours=number))
    return {
        "type": "decision",
        "verdict": verdict,
        "tenant": f"tenant-{who}",
        "key": f"key_{who}",
        "model": "m",
        "asked_at": at,
    }


def completion(of: int, tokens: int, outcome: str = "answered") -> Record:
    return {
        "type": "completion",
        "decision": of,
        "outcome": outcome,
        "tokens_in": tokens,
        "tokens_out": 1,
    }


def counted(records: list[Record], first: int = 0, also: tuple[int, ...] = ()) -> dict[Row, Used]:
    tally = Tally()
    counting = Counting(tally, first, also)
    for index, each in enumerate(records):
        counting.see(index, each)
    return tally.rows


def test_a_call_counts_on_the_day_it_was_decided_for_who_asked() -> None:
    """An answer that ends after midnight is yesterday's."""
    records = [decision(0), decision(1), decision(2, "b"), completion(0, 10), completion(2, 5)]
    records += [completion(1, 3)]
    first, second = (BEGAN.date().toordinal() + n for n in (0, 1))
    assert counted(records) == {
        Row(first, "tenant-a", "key_a", "m"): Used(2, 13, 2),
        Row(second, "tenant-b", "key_b", "m"): Used(1, 5, 1),
    }


def test_what_was_refused_not_sent_or_not_ended_has_used_nothing() -> None:
    """Only an answer costs."""
    records = [decision(0, verdict="refuse"), decision(0), completion(1, 9, NOT_SENT), decision(0)]
    assert counted(records) == {}


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=40), st.integers(0, 60))
def test_counting_on_from_a_note_counts_every_call_once(
    steps: list[tuple[bool, int]], stop: int
) -> None:
    """A note holds the sums up to a decision, without those that had not ended. Whatever had and
    had not, going on from it gives what counting everything gives."""
    records: list[Record] = []
    running: list[int] = []
    for begins, pick in steps:
        if begins or not running:
            running.append(len(records))
            records.append(decision(0, "ab"[pick % 2]))
        else:
            records.append(completion(running.pop(pick % len(running)), pick))
    early = Tally()
    until = Counting(early)
    for index, each in enumerate(records[:stop]):
        until.see(index, each)
    on = Counting(early, until.last + 1, until.unended)
    for index, each in enumerate(records):
        if index >= min((*until.unended, until.last + 1)):
            on.see(index, each)
    assert early.rows == counted(records)
