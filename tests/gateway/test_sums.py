"""Counting refusals before identity: bounded in memory and in the log."""

from datetime import UTC, datetime

from sovereign.gateway.refusal import STATUS
from sovereign.gateway.sums import SOURCES_MAX, Sums

NOW = datetime(2026, 11, 24, 12, 30, 59, tzinfo=UTC)


def test_a_minute_is_one_entry_a_source_and_code_and_then_begins_anew() -> None:
    """However often somebody knocks."""
    sums = Sums()
    for _ in range(1000):
        sums.add("192.0.2.1", "route-unknown")
    sums.add("192.0.2.1", "method-unknown")
    sums.add("192.0.2.2", "route-unknown")
    taken = sums.take(NOW)
    assert sorted(entry["count"] for entry in taken) == [1, 1, 1000]
    assert {entry["minute"] for entry in taken} == {"2026-11-24T12:30Z"}
    assert sums.take(NOW) == []


def test_more_sources_than_the_bound_are_counted_together() -> None:
    """A million addresses must not be a million records, and none may be lost from the count."""
    sums = Sums()
    for number in range(SOURCES_MAX + 500):
        sums.add(f"198.51.100.{number}", "route-unknown")
    taken = sums.take(NOW)
    assert len(taken) == SOURCES_MAX + 1
    assert sum(int(entry["count"]) for entry in taken) == SOURCES_MAX + 500
    assert [e["count"] for e in taken if e["source"] == "other"] == [500]


def test_the_number_of_entries_stays_bounded_whatever_the_codes() -> None:
    """Every code there is, from everywhere."""
    sums = Sums()
    for number in range(SOURCES_MAX * 2):
        for code in STATUS:
            sums.add(str(number), code)
    assert len(sums.take(NOW)) <= SOURCES_MAX + len(STATUS)


def test_a_source_has_another_name_in_another_process_and_never_its_own() -> None:
    """An address is personal data (CJEU C-582/14); the key of its pseudonym dies with us."""
    first, second = Sums(), Sums()
    for sums in (first, second):
        sums.add("192.0.2.1", "route-unknown")
    (one,), (other,) = first.take(NOW), second.take(NOW)
    assert one["source"] != other["source"]
    assert "192.0.2.1" not in (one["source"], other["source"])
