"""What retention decides and what verification judges are two programs; here they meet."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from sovereign.audit import erasures, record
from sovereign.audit.erasures import Receipt, Rules, receipt_of
from sovereign.policy import Policy
from sovereign.policy.shapes import RetentionClass
from sovereign.retention import Item, due
from sovereign.sinks import limits_of
from tests.retention.site import POLICY

ORIGIN = "a.example/gateway/event"
BEGAN = datetime(2026, 1, 31, tzinfo=UTC)
HOUR = timedelta(hours=1)


@st.composite
def classes(draw: st.DrawFn) -> RetentionClass:
    """Any class that the loader lets through: its maximum has room for span and interval."""
    span, interval = draw(st.integers(1, 168)), draw(st.integers(1, 168))
    minimum = draw(st.integers(0, 400))
    least = minimum + -(-(span + interval) // 24)
    return RetentionClass(
        id="event",
        min_days=minimum,
        max_days=draw(st.integers(least, least + 400)),
        because="a test",
        source="none",
        bundle_span_max_hours=span,
        interval_hours=interval,
    )


def policy(kept: RetentionClass) -> Policy:
    return replace(POLICY, retention={"event": kept, "evidence": POLICY.retention["evidence"]})


def receipt(item: Item, kept: RetentionClass, at: datetime) -> Receipt:
    """What the controller would write for this item."""
    fields = erasures.fields_of(
        "event",
        limits_of(kept),
        policy=POLICY.digest,
        first=0,
        last=255,
        oldest=record.written(item.oldest),
        newest=record.written(item.newest),
        size=300,
        root="00" * 32,
    )
    said = {"log": ORIGIN, "first": 0, "last": 255, "rule": "event", **fields}
    return receipt_of(record.parse(record.encode("erasure", said, at)), "a#0")


def judged(item: Item, kept: RetentionClass, at: datetime) -> list[str]:
    rules = Rules(POLICY.digest, {"event": limits_of(kept)}, at)
    found = erasures.judged(
        ORIGIN, 300, [receipt(item, kept, at)], lambda _: bytes(32), lambda _: None, rules
    )
    return [code for code, _ in found]


@settings(deadline=None, max_examples=300)
@given(classes(), st.integers(0, 10**7), st.floats(0, 1), st.floats(0, 1))
def test_what_is_erased_when_it_falls_due_is_never_early_and_never_late(
    kept: RetentionClass, began_s: int, span: float, phase: float
) -> None:
    """Runs come twice an interval, at whatever phase; no bundle may end up on either side."""
    assert kept.max_days != "unlimited"
    oldest = BEGAN + timedelta(seconds=began_s)
    newest = oldest + span * kept.bundle_span_max_hours * HOUR
    item = Item(ORIGIN, "tile/entries/000", "event", oldest, newest)
    every = kept.interval_hours * HOUR / 2
    now = oldest + timedelta(days=kept.max_days) - 4 * every + phase * every
    runs = 0
    while not due(policy(kept), [item], now):
        now += every
        runs += 1
        assert runs < 20, "it never falls due"
    assert judged(item, kept, now) == []
    assert now - oldest <= timedelta(days=kept.max_days), "no record outlives its maximum"


@settings(deadline=None, max_examples=200)
@given(classes(), st.integers(0, 10**6))
def test_an_erasure_before_it_was_due_is_early_unless_only_the_interval_was_left(
    kept: RetentionClass, before_s: int
) -> None:
    """Below the minimum there is no excuse but the maximum."""
    assert kept.max_days != "unlimited"
    item = Item(ORIGIN, "tile/entries/000", "event", BEGAN, BEGAN + HOUR)
    at = item.newest + timedelta(days=kept.min_days) - timedelta(seconds=before_s + 1)
    if at < item.newest:
        return
    assert not due(policy(kept), [item], at)
    assert judged(item, kept, at) == ["erasure-early"]


@settings(deadline=None, max_examples=200)
@given(classes(), st.integers(-86_400, 86_400))
def test_overdue_begins_an_interval_after_the_maximum_and_not_a_second_before(
    kept: RetentionClass, offset_s: int
) -> None:
    """The edge in the page is the edge in the program, for every class."""
    assert kept.max_days != "unlimited"
    edge = BEGAN + timedelta(days=kept.max_days, hours=kept.interval_hours)
    rules = Rules("p", {"event": limits_of(kept)}, edge + timedelta(seconds=offset_s))
    found = erasures.overdue("event", [(0, 255), (256, 300)], lambda _: BEGAN, rules)
    assert found == ((0, 300) if offset_s > 0 else None)


def test_the_shipped_classes_agree_on_a_leap_day_and_at_the_end_of_a_month() -> None:
    """Days are days of 24 hours in UTC: 29 February and 31 January are like any other."""
    kept = POLICY.retention["event"]
    assert kept.max_days != "unlimited"
    for began in (datetime(2028, 2, 29, 12, tzinfo=UTC), datetime(2027, 1, 31, tzinfo=UTC)):
        item = Item(ORIGIN, "x", "event", began, began + HOUR)
        at = began + timedelta(days=kept.max_days)
        assert due(POLICY, [item], at)
        assert judged(item, kept, at) == []
        assert judged(item, kept, at + timedelta(days=1, seconds=1)) == ["erasure-late"]
