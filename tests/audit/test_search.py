"""Reading: every match is found, nothing is skipped in silence, and the log's length is no cost."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sovereign.audit import record, tiles
from sovereign.audit.search import (
    CLOCK_MARGIN,
    Gap,
    Hit,
    Source,
    Wanted,
    merged,
    newest,
    receipts,
    search,
    span,
)
from tests.audit.loglab import erasure, files

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
ORIGIN = "test.example/gateway/event"
EVIDENCE = "test.example/controller/evidence"
MINUTE = timedelta(minutes=1)
EVERYTHING = Wanted()


def decision(number: int, at: datetime, **changed: str) -> bytes:
    """A decision; every third is refused, every fifth is of another tenant."""
    fields: dict[str, str | int] = {
        "request": number,
        "tenant": "hr" if number % 5 else "legal",
        "key": "key_1",
        "purpose": "cv-screening",
        "basis": "contract",
        "subject": f"subject-{number % 7}",
        "data": "personal",
        "verb": "process",
        "model": "m",
        "asked_at": record.written(at),
        "verdict": "allow" if number % 3 else "refuse",
        "rule": "personal-data-stays-in-eea",
        "policy": "0" * 64,
        **changed,
    }
    return record.encode("decision", fields, at, b"\x01" * 16)


def completion(index: int, at: datetime) -> bytes:
    fields: dict[str, str | int] = {
        "decision": index,
        "outcome": "completed",
        "status": 200,
        "tokens_in": 1,
        "tokens_out": 1,
        "latency_us": 1,
        "finish": "stop",
    }
    return record.encode("completion", fields, at, b"\x02" * 16)


def minutely(count: int) -> list[bytes]:
    """A decision a minute."""
    return [decision(i, BEGIN + i * MINUTE) for i in range(count)]


class Counted:
    """A log's files, and how many of them were asked for."""

    def __init__(self, entries: list[bytes], gone: tuple[int, ...] = ()) -> None:
        self.files = files(entries)
        self.entries = entries
        self.asked: list[str] = []
        for number in gone:
            del self.files[tiles.bundle_path(number, self._width(number))]

    def _width(self, number: int) -> int:
        return tiles.width_of(0, number, len(self.entries))

    def read(self, path: str) -> bytes | None:
        self.asked.append(path)
        return self.files.get(path)

    @property
    def source(self) -> Source:
        return Source(ORIGIN, len(self.entries), self.read)


def found(log: Counted, wanted: Wanted) -> list[int]:
    return [each.index for each in hits(search(log.source, wanted, span(log.source, wanted)))]


def hits(parts: Iterator[Hit | Gap]) -> list[Hit]:
    return [each for each in parts if isinstance(each, Hit)]


def gaps(log: Counted, wanted: Wanted = EVERYTHING) -> list[tuple[int, int, str]]:
    parts = search(log.source, wanted, span(log.source, wanted))
    return [(each.first, each.last, each.state) for each in parts if isinstance(each, Gap)]


LOG = Counted(minutely(1000))


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (Wanted(), lambda i: True),
        (Wanted(tenant="legal"), lambda i: i % 5 == 0),
        (Wanted(verdict="refuse"), lambda i: i % 3 == 0),
        (Wanted(tenant="legal", verdict="refuse"), lambda i: i % 15 == 0),
        (Wanted(subject="subject-3"), lambda i: i % 7 == 3),
        (Wanted(rule="personal-data-stays-in-eea"), lambda i: True),
        (Wanted(rule="personal-data"), lambda i: False),  # a part of a value is not the value
        (Wanted(type="decision"), lambda i: True),
        (Wanted(type="completion"), lambda i: False),
        (Wanted(decision=700), lambda i: i == 700),
        (Wanted(first=255, last=256), lambda i: 255 <= i <= 256),
        (Wanted(first=990), lambda i: i >= 990),
        (Wanted(last=3), lambda i: i <= 3),
        (Wanted(first=5000), lambda i: False),
        (Wanted(first=900, last=5000), lambda i: i >= 900),
    ],
)
def test_every_record_that_matches_is_found_and_no_other(wanted, matches) -> None:
    """An exact set: a filter that loses records would clear the wrong person."""
    assert found(LOG, wanted) == [i for i in range(1000) if matches(i)]


@pytest.mark.parametrize("minute", [0, 1, 255, 256, 257, 511, 512, 998, 999, 1000, 5000])
def test_a_range_of_time_has_its_first_minute_and_not_its_last(minute: int) -> None:
    """The edges are where a bundle begins; two ranges that touch share no record."""
    at = BEGIN + minute * MINUTE
    assert found(LOG, Wanted(since=at)) == list(range(minute, 1000))
    assert found(LOG, Wanted(until=at)) == list(range(min(minute, 1000)))
    between = Wanted(since=at, until=at + 3 * MINUTE)
    assert found(LOG, between) == [i for i in range(minute, minute + 3) if i < 1000]


def test_a_range_of_time_is_found_without_reading_the_log() -> None:
    """Ten million records are 39,063 bundles; an hour of them are a few."""
    log = Counted(minutely(256 * 64))
    at = BEGIN + 9000 * MINUTE
    assert found(log, Wanted(since=at, until=at + 5 * MINUTE)) == list(range(9000, 9005))
    assert len(log.asked) <= 2 * 7 + 4, "two binary searches over 64 bundles, and the bundles"


def test_the_newest_are_read_from_the_end() -> None:
    """`tail` of a long log starts at once."""
    log = Counted(minutely(256 * 40 + 3))
    everything = range(len(log.entries))
    ten = newest(log.source, Wanted(), everything, 10)
    assert [each.index for each in hits(iter(ten))] == list(everything[-10:])
    assert len(log.asked) == 2, log.asked
    refused = newest(log.source, Wanted(verdict="refuse"), everything, 4)
    assert [each.index for each in hits(iter(refused))] == [10233, 10236, 10239, 10242]
    assert newest(log.source, Wanted(tenant="nobody"), everything, 10) == []


def test_memory_holds_one_bundle_at_a_time() -> None:
    """What is found is given away before the next bundle is read."""
    log = Counted(minutely(2560))
    parts = search(log.source, Wanted(), range(2560))
    next(parts)
    assert len(log.asked) == 1
    for _ in range(256):
        next(parts)
    assert len(log.asked) == 2


def test_a_clock_that_was_set_back_hides_nothing_within_the_margin() -> None:
    """Time synchronisation steps a clock now and then, and records keep their order."""
    jump = CLOCK_MARGIN - MINUTE
    times = [BEGIN + i * MINUTE - (jump if i >= 600 else timedelta(0)) for i in range(1200)]
    log = Counted([decision(i, at) for i, at in enumerate(times)])
    for minute in (300, 545, 560, 599, 650, 900):
        since, until = BEGIN + minute * MINUTE, BEGIN + (minute + 5) * MINUTE
        wanted = Wanted(since=since, until=until)
        assert found(log, wanted) == [i for i, at in enumerate(times) if since <= at < until]


def test_a_decision_is_found_with_what_completed_it() -> None:
    """The number a client was given leads to the whole of its call."""
    entries = minutely(300)
    entries += [completion(7, BEGIN + 300 * MINUTE), completion(299, BEGIN + 301 * MINUTE)]
    log = Counted(entries)
    assert found(log, Wanted(decision=7)) == [7, 300]
    assert found(log, Wanted(decision=299)) == [299, 301]


def test_what_is_erased_is_said_once_and_in_its_place() -> None:
    """Silence about a gap reads as "there was nothing"."""
    log = Counted(minutely(2000), gone=(0, 1, 2, 5))
    assert gaps(log) == [(0, 767, "gone"), (1280, 1535, "gone")]
    assert gaps(log, Wanted(first=100, last=300)) == [(100, 300, "gone")]
    assert gaps(log, Wanted(tenant="legal")) == [(0, 767, "gone"), (1280, 1535, "gone")]
    order = [
        each.first if isinstance(each, Gap) else each.index
        for each in search(log.source, Wanted(), range(2000))
    ]
    assert order == sorted(order)


@pytest.mark.parametrize(
    ("since", "until", "told"),
    [
        (800, None, [(1280, 1535, "gone")]),  # what is left says: the first gap is older
        (1540, None, []),
        (760, None, [(0, 767, "gone"), (1280, 1535, "gone")]),  # both may have been in time
        (None, 100, [(0, 767, "gone")]),
        (900, 1000, []),
        (1200, 1250, []),
        (1300, 1400, [(1280, 1535, "gone")]),
        (1600, 1700, []),
    ],
)
def test_what_is_erased_is_said_when_it_may_have_been_in_the_time_asked_for(
    since: int | None, until: int | None, told: list[tuple[int, int, str]]
) -> None:
    """A search in last week is not answered with "a year ago something was erased"."""
    margin = int(CLOCK_MARGIN / MINUTE)
    log = Counted(minutely(2000), gone=(0, 1, 2, 5))
    wanted = Wanted(
        since=None if since is None else BEGIN + (since + margin) * MINUTE,
        until=None if until is None else BEGIN + (until - margin) * MINUTE,
    )
    assert gaps(log, wanted) == told


def test_a_log_of_which_everything_is_erased_says_so_for_any_time() -> None:
    """Nothing is left that could tell when it was."""
    log = Counted(minutely(512), gone=(0, 1))
    assert gaps(log, Wanted(since=BEGIN + 9999 * MINUTE)) == [(0, 511, "gone")]
    assert gaps(log, Wanted(until=BEGIN)) == [(0, 511, "gone")]


def test_what_cannot_be_read_is_said_and_the_rest_is_shown() -> None:
    """One damaged bundle must not hide the others, nor pass for an empty one."""
    log = Counted(minutely(768))
    path = tiles.bundle_path(1)
    log.files[path] = log.files[path][:-1]
    assert gaps(log) == [(256, 511, "unreadable")]
    assert len(found(log, Wanted())) == 512
    odd = Counted([*minutely(3), b"{}", *minutely(2)])
    assert gaps(odd) == [(3, 3, "unreadable")]
    assert found(odd, Wanted()) == [0, 1, 2, 4, 5]
    for strange in (b"", b"\x00", b"\xff\xff" + b"x" * 10):
        log.files[path] = strange
        assert gaps(log) == [(256, 511, "unreadable")]


def test_a_bundle_that_became_full_meanwhile_is_read_up_to_the_size_that_was_asked() -> None:
    """The log grows while it is read; partial files go once the full one is there."""
    log = Counted(minutely(1000))
    early = Source(ORIGIN, 700, log.read)
    assert [h.index for h in hits(search(early, Wanted(), range(700)))] == list(range(700))
    assert [h.index for h in hits(iter(newest(early, Wanted(), range(700), 3)))] == [697, 698, 699]


def test_logs_are_merged_by_time_and_a_gap_stays_behind_what_precedes_it() -> None:
    """What happened at noon stands together, whichever process wrote it."""
    one = Counted([decision(i, BEGIN + 2 * i * MINUTE) for i in range(300)], gone=(0,))
    two = Counted([decision(i, BEGIN + (2 * i + 1) * MINUTE) for i in range(300)])
    parts = list(merged(search(each.source, Wanted(), range(300)) for each in (one, two)))
    times = [each.fields["at"] for each in parts if isinstance(each, Hit)]
    assert times == sorted(times)
    assert len(times) == 344
    assert isinstance(parts[0], Gap)


def test_receipts_are_found_in_the_log_that_holds_them() -> None:
    """They tell what is erased from what is missing."""
    entries = [*minutely(10), erasure(ORIGIN, 0, 255), *minutely(3), erasure(ORIGIN, 256, 511)]
    source = Source(EVIDENCE, len(entries), files(entries).get)
    assert [(r.log, r.first, r.last, r.record) for r in receipts(source)] == [
        (ORIGIN, 0, 255, f"{EVIDENCE}#10"),
        (ORIGIN, 256, 511, f"{EVIDENCE}#14"),
    ]


def test_what_was_searched_by_is_named_without_its_values() -> None:
    """The name of a subject in the record of a search would be one more trace of them."""
    wanted = Wanted(since=BEGIN, tenant="hr", subject="somebody", first=0)
    assert wanted.kinds == ("since", "tenant", "subject", "first")
    assert Wanted().kinds == ()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_search_finds_what_a_walk_over_everything_finds(data: st.DataObject) -> None:
    """The shortcuts (binary search, bytes before JSON, from the end) must not be seen."""
    steps = data.draw(st.lists(st.integers(-40, 90), min_size=1, max_size=600))
    times, at = [], BEGIN
    for step in steps:
        at += timedelta(seconds=step)
        times.append(at)
    gone = data.draw(st.sets(st.integers(0, (len(times) - 1) // 256)))
    log = Counted([decision(i, t) for i, t in enumerate(times)], gone=tuple(gone))
    seconds = st.none() | st.integers(-600, 60_000)
    since, until = data.draw(seconds), data.draw(seconds)
    wanted = Wanted(
        since=None if since is None else BEGIN + timedelta(seconds=since),
        until=None if until is None else BEGIN + timedelta(seconds=until),
        tenant=data.draw(st.sampled_from([None, "hr", "legal", "x"])),
        verdict=data.draw(st.sampled_from([None, "allow", "refuse"])),
        first=data.draw(st.none() | st.integers(0, 700)),
        last=data.draw(st.none() | st.integers(0, 700)),
    )
    expected = [
        i
        for i, entry in enumerate(log.entries)
        if i // 256 not in gone
        and (wanted.first or 0) <= i <= (700 if wanted.last is None else wanted.last)
        and wanted.matches(i, record.parse(entry))
    ]
    assert found(log, wanted) == expected
    number = data.draw(st.integers(1, 20))
    last = newest(log.source, wanted, span(log.source, wanted), number)
    assert [each.index for each in hits(iter(last))] == expected[-number:]
