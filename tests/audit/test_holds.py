"""A hold's facts, files and end, and every way in which copies can be other than recorded."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sovereign.audit import erasures, holds, proof, record
from sovereign.audit.erasures import HoldEvent, receipt_of
from sovereign.audit.holds import Facts, Placed, Standing
from sovereign.audit.keys.rotation import History
from sovereign.audit.note import SignerKey
from sovereign.audit.verify import inspect, judge_all, placer_of
from sovereign.errors import BadInput
from tests.audit.loglab import EVIDENCE, codes, entries, files
from tests.audit.scenario import KEY, NOW, ORIGIN

DAY = timedelta(days=1)
HOLD = "hold_0123456789ab"
PLACER = "test.example/operator/evidence"
FACTS = Facts(
    hold=HOLD,
    basis="gdpr-17-3-e",
    approver="legal-counsel",
    placed_at=NOW,
    expires_at=NOW + 100 * DAY,
    oldest=NOW - 3 * DAY,
    newest=NOW - DAY,
    records=2,
    logs=(ORIGIN,),
    policy="7" * 64,
    scope={"tenant": "acme"},
)
HISTORIES = {ORIGIN: History(KEY.verifier, (KEY.verifier,))}


def folder() -> dict[str, bytes]:
    """The files of a sound hold of two records."""
    log = files(entries(300))
    there = {holds.FACTS: FACTS.encode()}
    for index in (7, 299):
        there[holds.path_of(ORIGIN, index)] = proof.prove(log.get, KEY.verifier, index)
    digests = {path: holds.digest(content) for path, content in there.items()}
    return {**there, holds.MANIFEST: holds.manifest(digests), holds.RECORDED: b"x#1\n"}


def faults(there: dict[str, bytes], recorded: str | None = None) -> list[str]:
    expected = recorded or holds.digest(folder()[holds.MANIFEST])
    return list(holds.faults(there.get, there, expected, HISTORIES))


def resigned(there: dict[str, bytes]) -> tuple[dict[str, bytes], str]:
    """The same with a manifest that fits, as whoever places the hold could have written it."""
    own = {holds.MANIFEST, holds.RECORDED, holds.RELEASED}
    listed = holds.manifest({p: holds.digest(c) for p, c in there.items() if p not in own})
    return {**there, holds.MANIFEST: listed}, holds.digest(listed)


# --- facts ------------------------------------------------------------------------------------


def test_facts_are_read_back_as_they_were_written() -> None:
    """The file is the only home of what was held and why."""
    assert holds.parse(FACTS.encode()) == FACTS


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        FACTS.encode() + b" ",
        FACTS.encode().replace(b'"form":1', b'"form":2'),
        FACTS.encode().replace(HOLD.encode(), b"../../etc"),
        FACTS.encode().replace(b"2026", b"20x6"),
        FACTS.encode()[:-1],
        b'{"form":1,"form":1}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_hold_is_refused(content: bytes) -> None:
    """Anybody who can write into the folder can put anything there."""
    with pytest.raises(BadInput):
        holds.parse(content)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300))
def test_whatever_lies_there_reading_a_hold_ends_in_facts_or_a_refusal(junk: bytes) -> None:
    """A traceback in the retention run would stop every erasure."""
    with pytest.raises(BadInput):
        holds.parse(junk)
    holds.released_at(junk)


# --- when it ends -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recorded", "released", "after", "state", "rule"),
    [
        (True, None, 99 * DAY, "in-force", ""),
        (True, None, 100 * DAY, "expired", "hold-expired"),
        (True, 10 * DAY, 10 * DAY - timedelta(seconds=1), "in-force", ""),
        (True, 10 * DAY, 10 * DAY, "released", "hold-released"),
        (True, 200 * DAY, 100 * DAY, "expired", "hold-expired"),
        (False, None, timedelta(hours=1), "unrecorded", ""),
        (False, None, timedelta(hours=1, seconds=1), "unrecorded", "hold-unrecorded"),
    ],
)
def test_copies_go_at_release_or_expiry_whichever_is_first_and_never_before(
    recorded: bool, released: timedelta | None, after: timedelta, state: str, rule: str
) -> None:
    """A hold without an end would be a second archive."""
    standing = Standing(FACTS, "x#1" if recorded else "", NOW + released if released else None)
    now = NOW + after
    assert standing.state(now) == state
    assert holds.erase_because(standing, now, settled_for_s=after.total_seconds()) == rule


def test_the_time_of_a_release_is_read_from_its_file_and_junk_is_none() -> None:
    """A torn file must not end a hold."""
    assert holds.released_at(f"o#1 {record.written(NOW)}\n".encode()) == NOW
    for junk in (None, b"", b"o#1 ", b"o#1 soon", b"\xff\xfe"):
        assert holds.released_at(junk) is None


# --- files ----------------------------------------------------------------------------------------


def test_a_hold_as_it_was_placed_has_no_fault() -> None:
    """And each of its files can be checked by anybody with the log's key alone."""
    there = folder()
    assert faults(there) == []
    shown = proof.check(there[holds.path_of(ORIGIN, 7)], KEY.verifier)
    assert shown is not None
    assert (shown.origin, shown.index, shown.entry) == (ORIGIN, 7, entries(8)[7])


def test_any_file_changed_gone_or_added_is_named() -> None:
    """A copy that was edited is worth less than none."""
    for path in folder():
        if path == holds.RECORDED:
            continue
        assert faults({**folder(), path: folder()[path] + b"x"}) == [path]
        assert faults({p: c for p, c in folder().items() if p != path}) == [path]
    stray = f"{holds.RECORDS}/{ORIGIN}/9.proof"
    assert faults({**folder(), stray: b"more than was recorded"}) == [stray]


def test_copies_that_were_never_in_the_log_are_found_though_their_hash_was_recorded() -> None:
    """Whoever places a hold must not be able to invent what it holds."""
    path = holds.path_of(ORIGIN, 7)
    other = SignerKey.generate(ORIGIN)
    lies = {
        "signed by another": proof.prove(files(entries(300), other).get, other.verifier, 7),
        "another record": folder()[holds.path_of(ORIGIN, 299)],
        "no proof": b"c2sp.org/tlog-proof@v1\n",
        "edited": folder()[path].replace(b"index 7", b"index 8"),
    }
    for what, content in lies.items():
        there, recorded = resigned({**folder(), path: content})
        assert faults(there, recorded) == [path], what


def test_a_manifest_that_is_none_is_a_fault_of_its_own() -> None:
    """Its lines are names of files: none of them may lead out of the hold."""
    junk = b"nonsense\n"
    there = {**folder(), holds.MANIFEST: junk}
    assert holds.MANIFEST in faults(there, holds.digest(junk))
    outside = f"{'0' * 64}  ../../keys.sqlite\n".encode()
    there = {**folder(), holds.MANIFEST: outside}
    assert "../../keys.sqlite" in faults(there, holds.digest(outside))


@settings(deadline=None, max_examples=200)
@given(
    st.dictionaries(
        st.sampled_from([*sorted(folder()), "records/x/1.proof", "../x"]), st.binary(max_size=400)
    ),
    st.booleans(),
)
def test_whatever_lies_in_a_hold_looking_at_it_ends_in_faults(
    junk: dict[str, bytes], trusted: bool
) -> None:
    """Also when the junk is what was recorded: only a traceback would be worse."""
    there = {**folder(), **junk}
    recorded = holds.digest(there[holds.MANIFEST]) if trusted else None
    found = faults(there, recorded)
    changed = {path for path in junk if path != holds.RECORDED and junk[path] != folder().get(path)}
    assert not changed or found


@pytest.mark.parametrize("origin", ["", "..", "a/../b", "/a", "a/", "a//b", ".a", "a b", "a\nb"])
def test_a_log_whose_name_would_lead_elsewhere_is_not_held(origin: str) -> None:
    """The name comes from a key somebody pinned."""
    with pytest.raises(BadInput):
        holds.path_of(origin, 0)


# --- what verification says ---------------------------------------------------------------------

PLACED = Placed(HOLD, holds.digest(folder()[holds.MANIFEST]), 2, FACTS.expires_at)


def judged(
    there: dict[str, bytes] | None, after: timedelta, placed: Placed | None = PLACED
) -> set[str]:
    read = None if there is None else there.get
    ends = PLACED.ends
    found = holds.judged(placed, ends, read, there or (), NOW + after, HISTORIES)
    return {code for code, _ in found}


def test_copies_are_there_while_the_hold_is_in_force_and_gone_a_day_after() -> None:
    """Both: erased too early is a finding, and kept too long is one."""
    edge = timedelta(seconds=1)
    assert judged(folder(), 50 * DAY) == set()
    assert judged(None, 50 * DAY) == {"erased-under-hold"}
    assert judged(None, 100 * DAY - edge) == {"erased-under-hold"}
    assert judged(None, 100 * DAY) == set()
    assert judged(folder(), 101 * DAY) == set()
    assert judged(folder(), 101 * DAY + edge) == {"hold-overdue"}


def test_copies_that_nobody_recorded_are_found() -> None:
    """A folder of records beside the log, without approval or end, is what a hold is not."""
    assert judged(folder(), DAY, None) == {"hold-differs"}
    assert judged({**folder(), holds.FACTS: b"{}"}, DAY) == {"hold-differs"}


def test_a_hold_ends_when_it_is_released_by_the_record_and_not_by_a_file() -> None:
    """A file anybody can write must not end what an approver decided."""
    released = HoldEvent(HOLD, "hold-released", NOW + DAY, "x#2")
    other = HoldEvent("hold_ffffffffffff", "hold-released", NOW, "x#3")
    assert holds.ended(PLACED, []) == PLACED.ends
    assert holds.ended(PLACED, [other]) == PLACED.ends
    assert holds.ended(PLACED, [released, other]) == NOW + DAY


# --- receipts for copies, in the evidence of the controller ---------------------------------------


def evidence(*, erased_after: timedelta, released_after: timedelta | None) -> set[str]:
    """Findings in the controller's evidence, beside the operator's that placed the hold."""
    placer, giver = SignerKey(PLACER, KEY.private), SignerKey(EVIDENCE, KEY.private)
    placed = {
        "hold": HOLD,
        "basis": "gdpr-17-3-e",
        "approver": "legal-counsel",
        "expires_at": record.written(FACTS.expires_at),
        "records": 2,
        "logs": 1,
        "manifest": PLACED.manifest,
        "policy": FACTS.policy,
    }
    said = [record.encode("hold-placed", placed, NOW)]
    if released_after is not None:
        fields = {"hold": HOLD, "approver": "legal-counsel"}
        said.append(record.encode("hold-released", fields, NOW + released_after))
    receipt = holds.receipt_of(FACTS, holds.EXPIRY, FACTS.policy)
    gave = files([record.encode("erasure", receipt, NOW + erased_after)], giver)
    seen = [inspect(files(said, placer).get, placer.verifier), inspect(gave.get, giver.verifier)]
    reports = judge_all(seen)
    assert codes(reports[PLACER]) == set()
    assert reports[EVIDENCE].intact
    return codes(reports[EVIDENCE])


@pytest.mark.parametrize(
    ("erased", "released", "found"),
    [
        (100 * DAY, None, set()),
        (100 * DAY - timedelta(microseconds=1), None, {"erased-under-hold"}),
        (10 * DAY, 9 * DAY, set()),
        (9 * DAY, 9 * DAY, set()),
        (8 * DAY, 9 * DAY, {"erased-under-hold"}),
    ],
)
def test_a_deletion_under_a_hold_is_found_from_the_logs_alone(
    erased: timedelta, released: timedelta | None, found: set[str]
) -> None:
    """An auditor who has the two evidence logs needs no folder of ours."""
    assert evidence(erased_after=erased, released_after=released) == found


def test_a_receipt_for_a_hold_nobody_placed_accuses_nobody() -> None:
    """Copies without a record are swept: that is no deletion under a hold."""
    giver = SignerKey(EVIDENCE, KEY.private)
    receipt = holds.receipt_of(replace(FACTS, records=1), holds.UNRECORDED, FACTS.policy)
    entry = record.encode("erasure", receipt, NOW)
    assert codes(judge_all([inspect(files([entry], giver).get, giver.verifier)])[EVIDENCE]) == set()
    said = receipt_of(record.parse(entry), f"{EVIDENCE}#0")
    assert (said.log, said.first, said.last, said.item) == (erasures.HOLD, 0, 0, HOLD)


def test_holds_are_placed_by_the_operator_of_the_logs_own_site() -> None:
    """A hold of another site must not explain copies of this one."""
    assert placer_of("a.example/gateway/event") == "a.example/operator/evidence"
    assert placer_of("event") == ""


def test_the_time_of_a_receipt_is_aware() -> None:
    """Ages are differences of times: one without a zone would stop the judgement."""
    assert erasures.when(record.written(NOW)) == NOW
    assert erasures.when(record.written(NOW)).tzinfo is UTC
    assert isinstance(NOW, datetime)
