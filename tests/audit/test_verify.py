"""Verification: a sound log is sound at every size, and no change to one goes unseen."""

from datetime import timedelta
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sovereign.audit import checkpoint, erasures, record, tiles, writers
from sovereign.audit.checkpoint import Checkpoint
from sovereign.audit.erasures import Receipt
from sovereign.audit.keys import rotation
from sovereign.audit.merkle import leaf_hash
from sovereign.audit.note import SignerKey
from sovereign.audit.verify import (
    FINDINGS,
    Report,
    inspect,
    judge,
    judge_all,
    verify,
)
from sovereign.audit.witnesses import witnessed
from tests.audit.loglab import EVIDENCE, codes, entries, erasure, files, verdict
from tests.audit.scenario import KEY, NOW, ORIGIN, Run, completion, entry, read_log
from tests.simulated.disk import SimulatedDisk, files_of


@cache
def sound(size: int) -> dict[str, bytes]:
    """The files of a sound log. Shared: copy before you spoil."""
    return files(entries(size))


def spoiled(size: int, path: str, content: bytes | None) -> dict[str, bytes]:
    there = {name: data for name, data in sound(size).items() if name != path}
    return there if content is None else {**there, path: content}


def flipped(content: bytes, at: int, bit: int = 0) -> bytes:
    return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]


# --- yes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 2, 255, 256, 257, 511, 512, 1000, 65_536 + 300])
def test_a_sound_log_of_any_size_is_sound(size: int) -> None:
    """The edges are where a tile becomes full and where a level begins."""
    report = verdict(files(entries(size)))
    assert report.findings == ()
    assert (report.origin, report.size, report.erased) == (ORIGIN, size, 0)


def test_what_the_writer_publishes_is_sound_and_is_what_these_tests_spoil() -> None:
    """Otherwise all of this would verify a log that exists in tests alone."""
    there = files_of(Run(SimulatedDisk()).play(("create", "open", 300, "close")).disk)
    assert verdict(there).findings == ()
    published = {path: data for path, data in there.items() if path != "journal"}
    _, content = read_log(there)
    assert published == {**files(content), **_partial(published)}
    assert verdict(published).size == 302


def _partial(there: dict[str, bytes]) -> dict[str, bytes]:
    return {path: data for path, data in there.items() if ".p/" in path}


def test_checkpoints_that_were_kept_are_prefixes_of_a_log_that_grew() -> None:
    """An auditor comes back with what she took home last time."""
    kept = tuple(sound(size)["checkpoint"] for size in (0, 1, 255, 256, 257, 600))
    assert verdict(sound(600), kept=kept).findings == ()


def test_a_full_file_stands_in_for_the_partial_one_it_replaced() -> None:
    """tlog-tiles allows the partial ones to go once the full one is there."""
    there = {**files(entries(512), full_only=True), "checkpoint": sound(300)["checkpoint"]}
    there |= {path: data for path, data in sound(300).items() if path.startswith("tile/1")}
    assert verdict(there).findings == ()


def test_files_that_the_checkpoint_does_not_cover_do_not_matter() -> None:
    """A crash leaves newer files beside an older checkpoint."""
    there = {**sound(600), **sound(300), "tile/0/077": b"junk", "tile/entries/001.p/3": b"x"}
    assert verdict(there).findings == ()


# --- no: bytes ------------------------------------------------------------------------------


@settings(deadline=None, max_examples=400)
@given(st.sampled_from([1, 3, 256, 259]), st.data())
def test_any_bit_changed_in_any_file_is_found(size: int, data: st.DataObject) -> None:
    """Entry, tile or checkpoint: there is no byte that may be another one."""
    path = data.draw(st.sampled_from(sorted(sound(size))))
    content = sound(size)[path]
    at = data.draw(st.integers(0, len(content) - 1))
    there = spoiled(size, path, flipped(content, at, data.draw(st.integers(0, 7))))
    assert verdict(there).findings != ()


@pytest.mark.parametrize("size", [1, 3, 256, 259])
def test_any_file_that_is_gone_cut_empty_or_longer_is_found(size: int) -> None:
    """Whatever happens to a file of the served size, it is seen."""
    for path, content in sound(size).items():
        longer = content + (content[:32] if path != "checkpoint" else b"x")
        for change in (None, b"", content[:-1], content[1:], content[: len(content) // 2], longer):
            assert verdict(spoiled(size, path, change)).findings != (), f"{path}: {change!r:.40}"


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(st.sampled_from(sorted(sound(259))), st.binary(max_size=200), min_size=1))
def test_whatever_lies_in_the_files_verifying_ends_with_a_finding(junk: dict[str, bytes]) -> None:
    """Never with a traceback: the auditor would not know what it means."""
    assert verdict({**sound(259), **junk}).findings != ()


# --- no: records ----------------------------------------------------------------------------

SPOILT = {
    "edited": lambda e: [*e[:2], entry(77), *e[3:]],
    "removed": lambda e: [*e[:2], *e[3:]],
    "swapped": lambda e: [e[1], e[0], *e[2:]],
    "added in the middle": lambda e: [*e[:2], entry(99), *e[2:]],
    "added at the end": lambda e: [*e, entry(99)],
    "doubled": lambda e: [*e[:3], e[2], *e[3:]],
    "last removed": lambda e: e[:-1],
}


@pytest.mark.parametrize("size", [5, 254, 300])
@pytest.mark.parametrize("how", SPOILT)
def test_a_record_edited_removed_swapped_added_or_doubled_is_found(how: str, size: int) -> None:
    """Both when only the entries are changed and when every hash was made to fit again."""
    other = files(SPOILT[how](entries(size)))
    bundles = {
        path: other.get(path, other.get(tiles.bundle_path(0), b""))
        for path in sound(size)
        if path.startswith("tile/entries")
    }
    if bundles != {path: sound(size)[path] for path in bundles}:
        assert codes(verdict({**sound(size), **bundles})) & {
            "entry-differs",
            "bundle-damaged",
            "bundle-missing",
        }
    rehashed = {**other, "checkpoint": sound(size)["checkpoint"]}
    assert verdict(rehashed).findings != ()


def test_an_entry_that_was_edited_is_named() -> None:
    """The finding must say which record, by the name people use."""
    bundle = tiles.pack([*entries(5)[:3], entry(77), entries(5)[4]])
    report = verdict(spoiled(5, "tile/entries/000.p/5", bundle))
    assert [(f.code, f.where) for f in report.findings] == [("entry-differs", f"{ORIGIN}#3")]


def test_an_entry_that_its_writer_should_never_have_written_is_found() -> None:
    """The writer holds the key; content in a record must be found all the same."""
    junk = b'{"prompt":"Dear model, my name is"}'
    report = verdict(files([*entries(2), junk]))
    assert [(f.code, f.where) for f in report.findings] == [("record-invalid", f"{ORIGIN}#2")]
    strange = files([*entries(2), b'{"type":["a"],"v":1}', b"\xff", b""])
    assert codes(verdict(strange)) == {"record-invalid"}
    astray = files([erasure(ORIGIN, 0, 1)])
    assert codes(verdict(astray)) == {"record-invalid"}, "a receipt belongs into evidence"


# --- no: history ----------------------------------------------------------------------------


def test_a_log_cut_short_is_found_by_a_checkpoint_that_was_kept() -> None:
    """By itself the shorter log is perfectly sound: only memory finds this."""
    assert verdict(sound(256)).findings == ()
    report = verdict(sound(256), kept=(sound(257)["checkpoint"],))
    assert codes(report) == {"cut-short"}


@pytest.mark.parametrize(("size", "at"), [(3, 3), (300, 3), (300, 256), (600, 300)])
def test_a_log_that_was_forked_is_found_by_a_checkpoint_of_the_other_view(
    size: int, at: int
) -> None:
    """Signed by the right key, complete in itself, and told to somebody else."""
    mine = entries(at)
    theirs = files([*mine[: at - 1], entry(4242)])["checkpoint"]
    assert codes(verdict(sound(size), kept=(theirs,))) == {"history-split"}
    assert verdict(sound(size), kept=(sound(at)["checkpoint"],)).findings == ()


def test_a_kept_checkpoint_that_is_none_of_this_log_is_said_to_be_useless() -> None:
    """Silently passing over it would look like a check that was made."""
    other = SignerKey.generate(ORIGIN)
    foreign = files(entries(2), other)["checkpoint"]
    elsewhere = Checkpoint("elsewhere.example", 2, bytes(32)).signed(KEY)
    for kept in (b"", b"junk", foreign, elsewhere):
        assert codes(verdict(sound(3), kept=(kept,))) == {"kept-unusable"}


def test_another_key_says_no() -> None:
    """A log that verifies under whatever key it brings along proves nothing."""
    for key in (SignerKey.generate(ORIGIN), SignerKey("elsewhere.example", KEY.private)):
        report = verdict(sound(3), key.verifier)
        assert codes(report) == {"checkpoint-foreign"}
    renamed = Checkpoint("elsewhere.example", 3, bytes(32)).signed(KEY)
    assert codes(verdict(spoiled(3, "checkpoint", renamed))) == {"checkpoint-foreign"}


def test_a_log_without_a_checkpoint_is_no_log() -> None:
    """An empty folder verifies as nothing, not as fine."""
    assert codes(verdict({})) == {"checkpoint-missing"}


# --- erasure --------------------------------------------------------------------------------


def test_a_bundle_that_is_gone_without_a_receipt_is_found_and_with_one_is_counted() -> None:
    """Deleting on time is a duty, in secret it is an offence: the receipt is the difference."""
    gone = spoiled(600, "tile/entries/001", None)
    report = verdict(gone)
    assert [(f.code, f.where) for f in report.findings] == [
        ("bundle-missing", f"{ORIGIN}#256 to #511")
    ]
    receipt = Receipt(ORIGIN, 256, 511, f"{EVIDENCE}#9")
    report = verdict(gone, receipts=(receipt,))
    assert (report.findings, report.erased) == ((), 256)


@pytest.mark.parametrize(
    ("log", "first", "last"), [(ORIGIN, 256, 510), (ORIGIN, 257, 511), (EVIDENCE, 256, 511)]
)
def test_a_receipt_that_names_less_or_another_log_does_not_cover(
    log: str, first: int, last: int
) -> None:
    """The edge: one entry short is not covered."""
    gone = spoiled(600, "tile/entries/001", None)
    receipt = Receipt(log, first, last, f"{EVIDENCE}#9")
    assert "bundle-missing" in codes(verdict(gone, receipts=(receipt,)))


@pytest.mark.parametrize(
    "giver",
    [
        "test.example/gateway/evidence",  # who took it cannot excuse it
        "other.example/controller/evidence",
        "test.example/controller/event",
        "test.example/controller/evidence/more",
        "",
    ],
)
def test_only_the_controller_of_the_logs_own_site_can_excuse_a_gap(giver: str) -> None:
    """A writer that was broken into could otherwise erase what it did, and write the receipt."""
    gone = spoiled(600, "tile/entries/001", None)
    receipt = Receipt(ORIGIN, 256, 511, f"{giver}#9")
    assert codes(verdict(gone, receipts=(receipt,))) == {"bundle-missing"}


def test_without_the_log_that_holds_the_receipts_a_gap_is_an_open_question() -> None:
    """An auditor with one folder must not call an erasure that was due an offence."""
    gone = spoiled(600, "tile/entries/001", None)
    report = verify(gone.get, KEY.verifier)
    assert (report.findings, report.open_gaps) == ((), (f"{ORIGIN}#256 to #511",))
    assert not report.sound


def evidence_with(*entries_: bytes) -> dict[str, bytes]:
    return files(list(entries_), SignerKey(EVIDENCE, KEY.private))


def judged(giver: dict[str, bytes], taken: dict[str, bytes]) -> dict[str, Report]:
    key = SignerKey(EVIDENCE, KEY.private).verifier
    return judge_all([inspect(taken.get, KEY.verifier), inspect(giver.get, key)])


def test_a_set_of_logs_is_judged_with_the_receipts_among_them() -> None:
    """In whatever order they were given."""
    gone = spoiled(600, "tile/entries/001", None)
    reports = judged(evidence_with(erasure(ORIGIN, 256, 511)), gone)
    assert all(report.sound for report in reports.values())
    assert reports[ORIGIN].erased == 256
    silent = judged(evidence_with(erasure(ORIGIN, 0, 255)), gone)
    assert codes(silent[ORIGIN]) == {"bundle-missing", "erasure-incomplete"}


def test_a_log_that_is_itself_unsound_excuses_nobody() -> None:
    """Its receipts may be true; nobody can say."""
    giver = evidence_with(erasure(ORIGIN, 256, 511))
    forged = {**giver, "tile/entries/000.p/1": tiles.pack([erasure(ORIGIN, 256, 600)])}
    reports = judged(forged, spoiled(600, "tile/entries/001", None))
    assert codes(reports[EVIDENCE]) == {"entry-differs"}
    assert reports[ORIGIN].open_gaps == (f"{ORIGIN}#256 to #511",)


def test_what_is_erased_while_it_is_verified_is_no_finding() -> None:
    """Retention goes on beside an auditor: it was there, then the receipt, then it was gone."""
    there = dict(sound(600))
    seen = inspect(there.get, KEY.verifier)
    del there["tile/entries/001"]
    report = judge(seen, (Receipt(ORIGIN, 256, 511, f"{EVIDENCE}#9"),))
    assert (report.findings, report.erased) == ((), 256)


def test_receipts_add_up() -> None:
    """Two runs of the retention rules erase two neighbours."""
    there = {
        k: v for k, v in sound(600).items() if k not in {"tile/entries/000", "tile/entries/001"}
    }
    pair = (Receipt(ORIGIN, 256, 511, f"{EVIDENCE}#8"), Receipt(ORIGIN, 0, 255, f"{EVIDENCE}#9"))
    assert verdict(there, receipts=pair).erased == 512
    assert verdict(there, receipts=pair).findings == ()


def test_a_receipt_for_entries_that_are_still_there_is_found() -> None:
    """Somebody was told that it is gone."""
    receipt = Receipt(ORIGIN, 0, 255, f"{EVIDENCE}#9")
    assert codes(verdict(sound(600), receipts=(receipt,))) == {"erasure-incomplete"}


def test_the_hashes_of_what_was_erased_must_stay() -> None:
    """They are what every other entry's proof stands on; a receipt does not cover them."""
    receipt = Receipt(ORIGIN, 256, 511, f"{EVIDENCE}#9")
    gone = spoiled(600, "tile/entries/001", None)
    for path in ("tile/0/001", "tile/1/000.p/2"):
        there = {name: data for name, data in gone.items() if name != path}
        assert "tile-missing" in codes(verdict(there, receipts=(receipt,)))
    edited = {**gone, "tile/0/001": flipped(gone["tile/0/001"], 5)}
    assert verdict(edited, receipts=(receipt,)).findings != ()


def test_an_evidence_log_says_what_it_and_others_have_erased() -> None:
    """Receipts are themselves entries: signed, ordered, and not to be taken back."""
    key = SignerKey(EVIDENCE, KEY.private)
    there = files([erasure(ORIGIN, 0, 255), erasure(EVIDENCE, 7, 8)], key)
    receipts = inspect(there.get, key.verifier).receipts
    assert [(r.log, r.first, r.last, r.record) for r in receipts] == [
        (ORIGIN, 0, 255, f"{EVIDENCE}#0"),
        (EVIDENCE, 7, 8, f"{EVIDENCE}#1"),
    ]


def test_a_receipt_that_was_slipped_in_erases_nothing() -> None:
    """Only what is hashed under the signed root counts; an edited entry is not read at all."""
    key = SignerKey(EVIDENCE, KEY.private)
    there = files([erasure(ORIGIN, 0, 255)], key)
    forged = {**there, "tile/entries/000.p/1": tiles.pack([erasure(ORIGIN, 0, 10**6)])}
    seen = inspect(forged.get, key.verifier)
    assert seen.receipts == []
    assert [finding.code for finding in seen.findings] == ["entry-differs"]
    hashed = {**forged, "tile/0/000.p/1": leaf_hash(erasure(ORIGIN, 0, 10**6))}
    assert inspect(hashed.get, key.verifier).findings != []


def dated_back() -> bytes:
    """A record that is a day older than those before it."""
    return record.encode("completion", completion(7), NOW - timedelta(days=1))


def test_every_finding_has_words_and_is_seen_in_these_tests() -> None:
    """A code that nothing produces is a promise nobody keeps."""
    seen = {"log-gone"}  # of a fleet, whose tests are elsewhere
    seen |= erasures.FINDINGS.keys()  # test_erasures.py and test_holds.py
    seen |= rotation.FINDINGS.keys()  # test_rotation.py
    seen |= writers.FINDINGS.keys()  # tests/fleet/test_set.py
    seen |= witnessed.FINDINGS.keys()  # tests/fleet/test_outside.py
    gone = spoiled(600, "tile/entries/001", None)
    reports = [
        verdict({}),
        verdict(sound(3), SignerKey.generate(ORIGIN).verifier),
        verdict(gone),
        verdict(sound(256), kept=(sound(257)["checkpoint"], b"")),
        verdict(sound(3), kept=(files([entry(9)])["checkpoint"],)),
        verdict(files([b"{}"])),
        verdict(files([*entries(2), dated_back()])),
        verdict(spoiled(256, "tile/1/000.p/1", None)),
        verdict(spoiled(256, "tile/1/000.p/1", bytes(32))),
        verdict(spoiled(256, "tile/entries/000", b"\0")),
        verdict(spoiled(1, "tile/entries/000.p/1", tiles.pack([entry(9)]))),
        verdict({**sound(3), "checkpoint": Checkpoint(ORIGIN, 3, bytes(32)).signed(KEY)}),
        verdict(sound(256), receipts=(Receipt(ORIGIN, 0, 255, f"{EVIDENCE}#9"),)),
    ]
    for report in reports:
        assert report.findings != ()
        seen |= codes(report)
    assert seen == FINDINGS.keys()


def test_the_report_names_what_was_signed() -> None:
    """The auditor keeps this checkpoint for next time."""
    report = verify(sound(3).get, KEY.verifier)
    signed = checkpoint.read(report.checkpoint, KEY.verifier)
    assert signed == Checkpoint(report.origin, report.size, report.root)
