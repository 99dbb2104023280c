"""Receipts: what they must say, what contradicts them, and what nobody can know any more."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sovereign.audit import erasures, record, tiles
from sovereign.audit.erasures import Limits, Receipt, Rules, receipt_of
from sovereign.audit.merkle import Tree, leaf_hash
from sovereign.audit.note import SignerKey
from sovereign.audit.verify import Report, inspect, judge_all
from tests.audit.loglab import EVIDENCE, codes, files
from tests.audit.scenario import KEY

ORIGIN = "test.example/gateway/event"
BEGAN = datetime(2025, 1, 1, tzinfo=UTC)
FIRST = datetime(1000, 1, 1, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
LIMITS = Limits(min_days=184, max_days=365, interval_hours=24)
FOR_EVER = Limits(min_days=1827, max_days=None, interval_hours=24)
POLICY = "7" * 64
SIZE = 4 * 256 + 10


def at_of(index: int) -> datetime:
    """The log of these tests grows by one bundle a day."""
    return BEGAN + index // 256 * DAY + index % 256 * timedelta(minutes=1)


@cache
def content() -> list[bytes]:
    return [record.encode("filler", {}, at_of(i)) for i in range(SIZE)]


@cache
def whole() -> dict[str, bytes]:
    return files(content(), SignerKey(ORIGIN, KEY.private))


def root_of(size: int) -> str:
    tree = Tree()
    for entry in content()[:size]:
        tree.append(leaf_hash(entry))
    return tree.root().hex()


def receipt(bundle: int, erased_on: datetime, **changed: Any) -> bytes:
    """An honest receipt of form 2 for one bundle, or one that says something else."""
    first, last = bundle * 256, bundle * 256 + 255
    fields: dict[str, Any] = {
        "log": ORIGIN,
        "first": first,
        "last": last,
        "rule": "event",
        "item": tiles.bundle_path(bundle),
        **erasures.fields_of(
            "event",
            LIMITS,
            policy=POLICY,
            first=first,
            last=last,
            oldest=record.written(at_of(first)),
            newest=record.written(at_of(last)),
            size=SIZE,
            root=root_of(SIZE),
        ),
    }
    kept = {name: value for name, value in (fields | changed).items() if value is not None}
    return record.encode("erasure", kept, erased_on)


def old_receipt(bundle: int, erased_on: datetime) -> bytes:
    fields: dict[str, str | int] = {
        "log": ORIGIN,
        "first": bundle * 256,
        "last": bundle * 256 + 255,
        "rule": "event",
    }
    return record.encode("erasure", fields, erased_on)


def judged(*receipts: bytes, gone: tuple[int, ...] = (), rules: Rules | None = None) -> Report:
    """What verification of the set says of the log the receipts are about."""
    there = dict(whole())
    for bundle in gone:
        del there[tiles.bundle_path(bundle)]
    giver_key = SignerKey(EVIDENCE, KEY.private)
    giver = files(list(receipts), giver_key)
    key = SignerKey(ORIGIN, KEY.private)
    seen = [inspect(there.get, key.verifier), inspect(giver.get, giver_key.verifier)]
    reports = judge_all(seen, rules)
    assert reports[EVIDENCE].findings == ()
    return reports[ORIGIN]


def rules(now: datetime, policy: str = POLICY, **classes: Limits) -> Rules:
    return Rules(policy, {"evidence": FOR_EVER, **(classes or {"event": LIMITS})}, now)


ON_TIME = BEGAN + 364 * DAY

# --- yes ----------------------------------------------------------------------------------------


def test_an_erasure_on_time_is_counted_and_nothing_is_found() -> None:
    """The normal case must be silent, or nobody will read the findings."""
    report = judged(receipt(0, ON_TIME), gone=(0,), rules=rules(ON_TIME + HOUR))
    assert (report.findings, report.erased) == ((), 256)
    assert report.sound


def test_a_receipt_of_the_old_form_excuses_a_gap_as_it_did() -> None:
    """Logs outlive programs: what was written before this form must still verify."""
    report = judged(old_receipt(0, BEGAN + DAY), gone=(0,))
    assert (report.findings, report.erased) == ((), 256)


def test_a_receipt_that_says_nothing_a_rule_could_be_held_against_is_found_by_a_policy() -> None:
    """Else whoever erases too early would write the old form."""
    report = judged(old_receipt(0, BEGAN + DAY), gone=(0,), rules=rules(ON_TIME + HOUR))
    assert {finding.code for finding in report.findings} == {"receipt-differs"}
    assert report.erased == 256


@pytest.mark.parametrize("size", [256, 257, 300, 512, 1024, SIZE])
def test_the_root_in_a_receipt_is_that_of_any_earlier_size(size: int) -> None:
    """The log goes on growing; the tree at the deletion must be found again in its tiles."""
    said = receipt(0, ON_TIME, size=size, root=root_of(size))
    assert judged(said, gone=(0,)).findings == ()
    wrong = receipt(0, ON_TIME, size=size, root=root_of(size - 1))
    assert codes(judged(wrong, gone=(0,))) == {"receipt-differs"}


# --- early, late and overdue: no, and the edge ----------------------------------------------------


@pytest.mark.parametrize(("seconds", "found"), [(-1, {"erasure-early"}), (0, set()), (1, set())])
def test_an_erasure_before_the_minimum_is_found_to_the_second(
    seconds: int, found: set[str]
) -> None:
    """The six-month floor is what lets a decision be looked into; a second less is less."""
    newest = at_of(255)
    then = newest + 184 * DAY + timedelta(seconds=seconds)
    assert codes(judged(receipt(0, then), gone=(0,))) == found


def test_what_reached_its_maximum_had_to_go_although_its_neighbour_was_young() -> None:
    """A writer that was down leaves a bundle of many months: the maximum is the stronger duty."""
    young = record.written(ON_TIME)
    said = receipt(3, BEGAN + 3 * DAY + 365 * DAY, to=young)
    assert codes(judged(said, gone=(3,))) == set()
    sooner = receipt(3, BEGAN + 3 * DAY + 365 * DAY - timedelta(seconds=1), to=young)
    assert codes(judged(sooner, gone=(3,))) == {"erasure-early"}


@pytest.mark.parametrize(("seconds", "found"), [(0, set()), (1, {"erasure-late"})])
def test_an_erasure_after_the_maximum_and_an_interval_is_found_when_a_policy_is_given(
    seconds: int, found: set[str]
) -> None:
    """Data kept too long was kept too long, also once it is gone."""
    then = BEGAN + 366 * DAY + timedelta(seconds=seconds)
    assert codes(judged(receipt(0, then), gone=(0,), rules=rules(then))) == found
    assert codes(judged(receipt(0, then), gone=(0,))) == set()


@pytest.mark.parametrize(("seconds", "found"), [(-1, set()), (0, set()), (1, {"erasure-overdue"})])
def test_what_is_still_there_past_its_maximum_is_found_with_the_clock_given(
    seconds: int, found: set[str]
) -> None:
    """No receipt is missing and every hash is right: only a policy and a clock can tell."""
    now = BEGAN + 366 * DAY + timedelta(seconds=seconds)
    report = judged(rules=rules(now))
    assert codes(report) == found
    assert [f.where for f in report.findings] == [f"{ORIGIN}#0 to #255"] * len(found)
    assert judged().findings == ()


def test_everything_overdue_is_named_as_one_range_up_to_the_unfinished_bundle() -> None:
    """A writer that died years ago leaves an unfinished bundle that nobody seals."""
    report = judged(rules=rules(BEGAN + 1000 * DAY))
    assert [f.where for f in report.findings] == [f"{ORIGIN}#0 to #{SIZE - 1}"]
    gone = judged(receipt(0, ON_TIME), gone=(0,), rules=rules(BEGAN + 367 * DAY + HOUR))
    assert [f.where for f in gone.findings] == [f"{ORIGIN}#256 to #511"]


def test_what_has_no_class_in_the_policy_is_overdue_at_once() -> None:
    """Silence in the policy means that we may not keep it."""
    strange = rules(at_of(SIZE) + DAY, security=LIMITS)
    assert codes(judged(rules=strange)) == {"erasure-overdue"}


def test_a_class_without_end_is_never_overdue() -> None:
    """Evidence is kept for as long as somebody may ask."""
    assert judged(rules=rules(BEGAN + 10_000 * DAY, event=FOR_EVER)).findings == ()


def test_the_clock_may_be_moved_anywhere() -> None:
    """An auditor's machine may be years ahead or behind; the answer is about the given time."""
    assert judged(rules=rules(BEGAN - 1000 * DAY)).findings == ()


# --- receipts that cannot be true -----------------------------------------------------------------

LIES: dict[str, dict[str, Any]] = {
    "another count": {"count": 255},
    "another root": {"root": "00" * 32},
    "a tree smaller than the range": {"size": 200, "root": "00" * 32},
    "a tree larger than the log": {"size": SIZE + 1},
    "no tree at all": {"size": None, "root": None},
    "no count": {"count": None},
    "no times": {"from": None, "to": None},
    "no policy": {"policy": None},
    "another class": {"class": "evidence"},
    "times the wrong way round": {"from": record.written(at_of(255)), "to": record.written(BEGAN)},
    "an entry newer than the deletion": {"to": record.written(ON_TIME + DAY)},
    "a form of the future": {"form": 3},
    "a form of the past": {"form": 0},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_receipt_that_contradicts_itself_or_the_log_is_found(lie: str) -> None:
    """A receipt is evidence only if it can be wrong."""
    said = receipt(0, ON_TIME, **LIES[lie])
    assert codes(judged(said, gone=(0,))) == {"receipt-differs"}


def test_limits_that_the_named_policy_does_not_set_are_found_when_that_policy_is_given() -> None:
    """A controller that states a minimum of its own could erase whenever it likes."""
    said = receipt(0, BEGAN + 10 * DAY, min_days=0)
    assert codes(judged(said, gone=(0,))) == set(), "its own word is all there is"
    now = BEGAN + 20 * DAY
    assert codes(judged(said, gone=(0,), rules=rules(now))) == {"receipt-differs"}
    other = rules(now, policy="8" * 64)
    assert codes(judged(said, gone=(0,), rules=other)) == set(), "made under another policy"


def test_a_range_called_older_than_what_stands_before_it_is_found() -> None:
    """Back-dating is how an early deletion would be hidden."""
    early = BEGAN + 30 * DAY
    back = {"from": record.written(BEGAN - 200 * DAY), "to": record.written(BEGAN - 190 * DAY)}
    said = receipt(2, early, **back)
    assert codes(judged(said, gone=(2,))) == {"receipt-differs"}, "bundle 1 is newer than that"
    honest = receipt(2, early)
    assert codes(judged(honest, gone=(2,))) == {"erasure-early"}


def test_back_dating_shows_beside_other_receipts_too() -> None:
    """Nothing before it is left, but what went before it had a time as well."""
    first = receipt(0, ON_TIME)
    back = {"from": record.written(BEGAN - 200 * DAY), "to": record.written(BEGAN - 190 * DAY)}
    second = receipt(1, ON_TIME + DAY, **back)
    assert codes(judged(first, second, gone=(0, 1))) == {"receipt-differs"}


def test_a_range_called_newer_than_what_follows_it_is_found() -> None:
    """Post-dating is how a late deletion would be hidden."""
    fresh = {"from": record.written(BEGAN + 90 * DAY), "to": record.written(BEGAN + 91 * DAY)}
    said = receipt(1, BEGAN + 400 * DAY, **fresh)
    assert codes(judged(said, gone=(1,))) == {"receipt-differs"}


@pytest.mark.parametrize(("more", "found"), [(0, set()), (1, {"receipt-differs"})])
def test_neighbours_may_disagree_by_the_slack_and_no_more(more: int, found: set[str]) -> None:
    """Clocks are corrected; a day is more than any correction."""
    newest = at_of(255) - erasures.CLOCK_SLACK - timedelta(microseconds=more)
    said = receipt(1, ON_TIME, to=record.written(newest), **{"from": record.written(newest - HOUR)})
    assert codes(judged(said, gone=(1,))) == found


def test_what_nobody_can_know_is_said_in_the_page_and_shown_here() -> None:
    """The first bundle has nothing before it: its times are the controller's word."""
    back = {"from": record.written(BEGAN - 365 * DAY), "to": record.written(BEGAN - 360 * DAY)}
    assert codes(judged(receipt(0, BEGAN + DAY, **back), gone=(0,))) == set()


def test_an_unsound_log_is_not_asked_for_its_times() -> None:
    """Anybody can have put them there."""
    there = {**whole(), tiles.bundle_path(1): whole()[tiles.bundle_path(2)]}
    del there[tiles.bundle_path(0)]
    key, giver_key = SignerKey(ORIGIN, KEY.private), SignerKey(EVIDENCE, KEY.private)
    giver = files([receipt(0, BEGAN)], giver_key)
    seen = [inspect(there.get, key.verifier), inspect(giver.get, giver_key.verifier)]
    assert codes(judge_all(seen)[ORIGIN]) == {"entry-differs"}


def test_a_log_that_broke_a_rule_is_intact_and_still_excuses_others() -> None:
    """Else one late run would turn every gap of the site into an open question."""
    report = judged(rules=rules(BEGAN + 1000 * DAY))
    assert not report.sound
    assert report.intact
    spoilt = replace(report, findings=(*report.findings, replace(report.findings[0], code="x")))
    assert not spoilt.intact


# --- receipts written again -----------------------------------------------------------------------


def parsed(*entries: bytes) -> list[Receipt]:
    return [receipt_of(record.parse(e), f"{EVIDENCE}#{i}") for i, e in enumerate(entries)]


def test_receipts_written_again_are_joined_and_judged_as_before() -> None:
    """When the evidence itself expires, what it said of others must not become milder."""
    late = [receipt(bundle, BEGAN + 400 * DAY) for bundle in (0, 1)]
    (fields,) = erasures.carried(parsed(*late))
    again = record.encode("erasure", fields, BEGAN + 3000 * DAY)
    assert (fields["first"], fields["last"], fields["count"]) == (0, 511, 512)
    report = judged(again, gone=(0, 1), rules=rules(BEGAN + 3000 * DAY))
    assert codes(report) == {"erasure-late", "erasure-overdue"}
    assert report.erased == 512


def test_an_early_erasure_is_never_joined_with_one_that_would_hide_it() -> None:
    """Together they would look like a bundle that reached its maximum and had to go."""
    both = parsed(receipt(0, BEGAN + 50 * DAY), receipt(1, BEGAN + 400 * DAY))
    again = [record.encode("erasure", f, BEGAN + 3000 * DAY) for f in erasures.carried(both)]
    assert len(again) == 2
    report = judged(*again, gone=(0, 1), rules=rules(BEGAN + 3000 * DAY))
    assert codes(report) == {"erasure-early", "erasure-late", "erasure-overdue"}


def test_only_neighbours_of_one_policy_and_form_are_joined() -> None:
    """A joined receipt can state one policy and one set of limits."""
    other = receipt(1, ON_TIME, policy="9" * 64)
    assert len(list(erasures.carried(parsed(receipt(0, ON_TIME), other)))) == 2
    assert len(list(erasures.carried(parsed(receipt(0, ON_TIME), old_receipt(1, ON_TIME))))) == 2
    assert len(list(erasures.carried(parsed(receipt(0, ON_TIME), receipt(2, ON_TIME))))) == 2
    old = list(erasures.carried(parsed(old_receipt(0, ON_TIME), old_receipt(1, ON_TIME))))
    assert old == [{"log": ORIGIN, "first": 0, "last": 511, "rule": erasures.CARRIED_OVER}]
    log_of_a_process = record.encode(
        "erasure", {"log": "process-log", "first": 0, "last": 0, "rule": "process-log"}, ON_TIME
    )
    assert list(erasures.carried(parsed(log_of_a_process))) == []


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 900)), max_size=8))
def test_carrying_over_never_changes_the_verdict(erased: list[tuple[int, int]]) -> None:
    """Whatever was erased when: joined receipts cover the same and accuse of the same."""
    in_order = sorted(erased, key=lambda each: each[1])
    entries = [receipt(bundle, BEGAN + days * DAY + 4 * DAY) for bundle, days in in_order]
    gone = tuple(sorted({bundle for bundle, _ in erased}))
    again = [
        record.encode("erasure", fields, BEGAN + 5000 * DAY)
        for fields in erasures.carried(parsed(*entries))
    ]
    asked = rules(BEGAN + 5000 * DAY)
    before, after = judged(*entries, gone=gone, rules=asked), judged(*again, gone=gone, rules=asked)
    assert codes(before) == codes(after)
    assert before.erased == after.erased


# --- hostile input --------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_whatever_a_receipt_says_judging_ends(data: st.DataObject) -> None:
    """The controller's key may be in the wrong hands; a traceback would hide what it did."""
    number = st.integers(0, record.INTEGER_MAX)
    time = st.integers(0, 2**37).map(lambda s: record.written(FIRST + timedelta(seconds=s)))
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "first": number, "last": number, "count": number, "size": number,
        "root": st.text(max_size=70), "from": time, "to": time,
        "min_days": number, "max_days": number, "interval_hours": number,
        "youngest_s": number, "oldest_s": number, "form": number, "class": st.text(max_size=9),
    }  # fmt: skip
    wrong = data.draw(st.fixed_dictionaries({}, optional=kinds))
    judged(receipt(0, ON_TIME, **wrong), rules=rules(ON_TIME))


def test_a_tile_that_cannot_be_read_is_no_root() -> None:
    """What cannot be told is not held against a receipt; the tile is a finding of its own."""
    nothing = erasures.Asked(lambda _: None, SIZE)
    assert nothing.root_at(SIZE) is None
    assert nothing.root_at(0) is not None
    assert erasures.Asked({"tile/0/000": b"short"}.get, SIZE).root_at(300) is None
    assert erasures.Asked({"tile/entries/000": b"\0"}.get, SIZE).time_of(3) is None
    assert erasures.Asked(whole().get, SIZE).time_of(SIZE) is None
    assert erasures.Asked(whole().get, SIZE).time_of(-1) is None
    assert erasures.Asked(whole().get, SIZE).time_of(300) == at_of(300)
