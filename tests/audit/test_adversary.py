"""What an adversary may do to a log, one row each, with exactly what is found.

Two logs are tampered with: `SHORT` has five entries in one partial bundle, `LONG` has six hundred
in two full bundles and a partial one. A row says what was done, to which files, and everything
that verification then says, in its order. What is done to the *folder* (links, pipes, great files)
stands in `test_hostile.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache

import pytest

from sovereign.audit import journal, record, tiles
from sovereign.audit.checkpoint import Checkpoint
from sovereign.audit.merkle import Tree
from sovereign.audit.note import SignerKey, sign
from sovereign.audit.verify import Receipt, verify
from sovereign.errors import HistorySplit
from tests.audit.loglab import EVIDENCE, entries, files
from tests.audit.scenario import KEY, NOW, ORIGIN, Run, completion, entry, read_log, reopenings
from tests.simulated.disk import SimulatedDisk, damaged, files_of

SHORT, LONG = 5, 600
MIDDLE, LAST = "tile/entries/001", "tile/entries/002.p/88"
Files = dict[str, bytes]
Found = list[tuple[str, str]]


@cache
def _sound(size: int) -> Files:
    return files(entries(size))


def log_of(size: int) -> Files:
    """The files of a sound log, to be spoiled."""
    return dict(_sound(size))


def without(there: Files, *paths: str) -> Files:
    return {path: data for path, data in there.items() if path not in paths}


def bundled(size: int, change: Callable[[list[bytes]], list[bytes]], path: str) -> Files:
    """A log of which the entries of one bundle were changed, and no hash."""
    there = log_of(size)
    return {**there, path: tiles.pack(change(tiles.unpack(there[path])))}


def rehashed(size: int, change: Callable[[list[bytes]], list[bytes]]) -> Files:
    """A log whose entries were changed and every tile made to fit, but for the signature."""
    return {**files(change(entries(size))), "checkpoint": log_of(size)["checkpoint"]}


def signed_by_the_writer(*strange: bytes) -> Files:
    """A log whose own writer put something into it that is no record: all hashes are right."""
    return files([*entries(2), *strange])


def each(code: str, numbers: range) -> Found:
    return [(code, f"{ORIGIN}#{number}") for number in numbers][:100]


def bundle_gone(first: int, last: int) -> tuple[str, str]:
    return ("bundle-missing", f"{ORIGIN}#{first} to #{last}")


@dataclass(frozen=True)
class Row:
    """What is left of a log, what the auditor brings, and what she is told.

    `kept` are checkpoints she kept, `receipts` those out of the log that holds them.
    """

    there: Files
    found: Found
    kept: list[bytes] = field(default_factory=list)
    receipts: tuple[Receipt, ...] = ()


def _dated(at: datetime) -> bytes:
    return record.encode("completion", completion(1), at, b"\x07" * 16)


def receipt(first: int, last: int, giver: str = EVIDENCE) -> tuple[Receipt, ...]:
    return (Receipt(ORIGIN, first, last, f"{giver}#9"),)


def _swapped_bundles() -> Files:
    there = log_of(LONG)
    first = "tile/entries/000"
    return {**there, first: there[MIDDLE], MIDDLE: there[first]}


def _salted(size: int) -> list[bytes]:
    """Entries of the same records, told to somebody else."""
    return [entry(number, b"\x08" * 16) for number in range(size)]


FORGER = SignerKey.generate(ORIGIN)
SPLIT = ("history-split", f"{ORIGIN}: kept checkpoint of {SHORT} entries")
P5 = "tile/entries/000.p/5"

ROWS: dict[str, Callable[[], Row]] = {
    # --- entries ---------------------------------------------------------------------------
    "a field is edited": lambda: Row(
        bundled(LONG, lambda e: [*e[:44], entry(77), *e[45:]], MIDDLE),
        each("entry-differs", range(300, 301)),
    ),
    "a field is edited, and every hash made to fit": lambda: Row(
        rehashed(SHORT, lambda e: [*e[:3], entry(77), e[4]]), [("root-differs", "checkpoint")]
    ),
    "one entry is deleted in the middle": lambda: Row(
        bundled(LONG, lambda e: [*e[:44], *e[45:]], MIDDLE),
        [("bundle-damaged", MIDDLE), bundle_gone(256, 511)],
    ),
    "one entry is deleted, and the next moved up": lambda: Row(
        {
            **log_of(LONG),
            **{
                path: data
                for path, data in files([*entries(LONG)[:300], *entries(LONG + 1)[301:]]).items()
                if path.startswith("tile/entries")
            },
        },
        each("entry-differs", range(300, 600)),
    ),
    "one entry is deleted, and every hash made to fit": lambda: Row(
        rehashed(SHORT, lambda e: [*e[:2], *e[3:]]),
        [
            ("tile-missing", "tile/0/000.p/5"),
            ("root-differs", "checkpoint"),
            bundle_gone(0, 4),
        ],
    ),
    "a bundle is deleted in the middle": lambda: Row(
        without(log_of(LONG), MIDDLE), [bundle_gone(256, 511)]
    ),
    "a bundle and its hashes are deleted in the middle": lambda: Row(
        without(log_of(LONG), MIDDLE, "tile/0/001"),
        [
            ("tile-missing", "tile/0/001"),
            ("tile-missing", "tile/1/000.p/1"),
            ("root-differs", "checkpoint"),
            bundle_gone(256, 511),
        ],
    ),
    "two entries change places": lambda: Row(
        bundled(SHORT, lambda e: [e[0], e[2], e[1], *e[3:]], P5),
        each("entry-differs", range(1, 3)),
    ),
    "one entry stands in another's place too": lambda: Row(
        bundled(SHORT, lambda e: [*e[:3], e[2], e[4]], P5),
        each("entry-differs", range(3, 4)),
    ),
    "one entry is there twice": lambda: Row(
        bundled(SHORT, lambda e: [*e[:3], *e[2:]], P5),
        [("bundle-damaged", P5), bundle_gone(0, 4)],
    ),
    "two bundles change places": lambda: Row(_swapped_bundles(), each("entry-differs", range(100))),
    # --- the end of the log ------------------------------------------------------------------
    "one entry is cut off the last bundle": lambda: Row(
        bundled(LONG, lambda e: e[:-1], LAST), [("bundle-damaged", LAST), bundle_gone(512, 599)]
    ),
    "many entries are cut off the last bundle": lambda: Row(
        bundled(LONG, lambda e: e[:-50], LAST), [("bundle-damaged", LAST), bundle_gone(512, 599)]
    ),
    "the last bundle is cut to nothing": lambda: Row(
        bundled(LONG, lambda _: [], LAST), [("bundle-damaged", LAST), bundle_gone(512, 599)]
    ),
    "the last bundle is gone": lambda: Row(without(log_of(LONG), LAST), [bundle_gone(512, 599)]),
    "the last entry is torn in a published bundle": lambda: Row(
        {**log_of(LONG), LAST: log_of(LONG)[LAST][:-7]},
        [("bundle-damaged", LAST), bundle_gone(512, 599)],
    ),
    "the log and its checkpoint are cut short together": lambda: Row(
        log_of(512),
        [("cut-short", f"{ORIGIN}: 512 entries, 600 were signed")],
        kept=[_sound(LONG)["checkpoint"]],
    ),
    "the log and its checkpoint are cut short, and nobody kept one": lambda: Row(log_of(512), []),
    # --- history -----------------------------------------------------------------------------
    "an old whole log is put in its place": lambda: Row(
        log_of(256),
        [("cut-short", f"{ORIGIN}: 256 entries, 257 were signed")],
        kept=[_sound(257)["checkpoint"], _sound(255)["checkpoint"]],
    ),
    "the whole log is forged under a key of the forger's own": lambda: Row(
        files(entries(SHORT), FORGER), [("checkpoint-foreign", "checkpoint")]
    ),
    "the checkpoint is signed by the forger, the rest is as it was": lambda: Row(
        {**log_of(SHORT), "checkpoint": files(entries(SHORT), FORGER)["checkpoint"]},
        [("checkpoint-foreign", "checkpoint")],
    ),
    "another log of the same key is put in its place": lambda: Row(
        {
            **log_of(SHORT),
            "checkpoint": Checkpoint("other.example", 5, bytes(32)).signed(KEY),
        },
        [("checkpoint-foreign", "checkpoint")],
    ),
    "the log is forked": lambda: Row(
        log_of(SHORT), [SPLIT], kept=[files(_salted(SHORT))["checkpoint"]]
    ),
    "the log is forked, and has grown since": lambda: Row(
        log_of(LONG), [SPLIT], kept=[files(_salted(SHORT))["checkpoint"]]
    ),
    "a record is dated back, by the clock of its writer": lambda: Row(
        files([*entries(3), _dated(NOW - timedelta(days=2)), *entries(1)]),
        [("clock-set-back", f"{ORIGIN}#3")],
    ),
    # --- erasure -----------------------------------------------------------------------------
    "entries are pruned with their receipt": lambda: Row(
        without(log_of(LONG), MIDDLE), [], receipts=receipt(256, 511)
    ),
    "entries are pruned, and the receipt is one short": lambda: Row(
        without(log_of(LONG), MIDDLE), [bundle_gone(256, 511)], receipts=receipt(256, 510)
    ),
    "entries are pruned, and their own writer wrote the receipt": lambda: Row(
        without(log_of(LONG), MIDDLE),
        [bundle_gone(256, 511)],
        receipts=receipt(256, 511, "test.example/gateway/evidence"),
    ),
    "a receipt was written, and nothing is gone": lambda: Row(
        log_of(LONG),
        [("erasure-incomplete", f"{ORIGIN}#256 to #511")],
        receipts=receipt(256, 511),
    ),
    # --- tiles and sizes ---------------------------------------------------------------------
    "a tile is one hash short": lambda: Row(
        {**log_of(LONG), "tile/0/001": log_of(LONG)["tile/0/001"][:-32]},
        [("tile-differs", "tile/0/001")],
    ),
    "a tile is half a hash too long": lambda: Row(
        {**log_of(LONG), "tile/1/000.p/2": log_of(LONG)["tile/1/000.p/2"] + bytes(16)},
        [("tile-differs", "tile/1/000.p/2")],
    ),
    "a tile is empty": lambda: Row(
        {**log_of(LONG), "tile/0/002.p/88": b""}, [("tile-differs", "tile/0/002.p/88")]
    ),
    "the checkpoint claims more than there is": lambda: Row(
        {**log_of(SHORT), "checkpoint": Checkpoint(ORIGIN, 6, bytes(32)).signed(KEY)},
        [
            ("tile-missing", "tile/0/000.p/6"),
            ("root-differs", "checkpoint"),
            bundle_gone(0, 5),
        ],
    ),
    "the checkpoint claims nothing": lambda: Row(
        {**log_of(SHORT), "checkpoint": Checkpoint(ORIGIN, 0, Tree().root()).signed(KEY)}, []
    ),
    "the checkpoint claims a size of 20 digits": lambda: Row(
        {**log_of(SHORT), "checkpoint": _claiming("1" * 20)}, [("checkpoint-foreign", "checkpoint")]
    ),
    "the checkpoint claims a size below nothing": lambda: Row(
        {**log_of(SHORT), "checkpoint": _claiming("-5")}, [("checkpoint-foreign", "checkpoint")]
    ),
    "the checkpoint writes its size in another way": lambda: Row(
        {**log_of(SHORT), "checkpoint": _claiming("05")}, [("checkpoint-foreign", "checkpoint")]
    ),
    "an entry's length goes beyond the bundle": lambda: Row(
        {**log_of(SHORT), P5: b"\xff\xff" + log_of(SHORT)[P5][2:]},
        [("bundle-damaged", P5), bundle_gone(0, 4)],
    ),
    "entries of nothing fill the bundle": lambda: Row(
        {**log_of(LONG), MIDDLE: bytes(2_000_000)},
        [("bundle-damaged", MIDDLE), bundle_gone(256, 511)],
    ),
    # --- what the writer itself should not have signed ---------------------------------------
    "an entry is as long as an entry can be": lambda: Row(
        signed_by_the_writer(b'"' + b"x" * 65_533 + b'"'), each("record-invalid", range(2, 3))
    ),
    "a record has a key twice": lambda: Row(
        signed_by_the_writer(entry(1).replace(b"{", b'{"decision":2,', 1)),
        each("record-invalid", range(2, 3)),
    ),
    "a record is JSON, but with a space": lambda: Row(
        signed_by_the_writer(entry(1).replace(b",", b", ", 1)), each("record-invalid", range(2, 3))
    ),
    "a record's keys are in another order": lambda: Row(
        signed_by_the_writer(
            entry(1).replace(b'"type":"completion","v":1', b'"v":1,"type":"completion"')
        ),
        each("record-invalid", range(2, 3)),
    ),
    "a record writes a letter as an escape": lambda: Row(
        signed_by_the_writer(entry(1).replace(b'"stop"', b'"st\\u006fp"')),
        each("record-invalid", range(2, 3)),
    ),
    "a record has a huge integer": lambda: Row(
        signed_by_the_writer(
            entry(1).replace(b":200", b":" + b"9" * 19),
            entry(1).replace(b":200", b":" + b"9" * 5_000),
            entry(1).replace(b":200", b":9007199254740992"),
        ),
        each("record-invalid", range(2, 5)),
    ),
    "a record has a number that is no integer": lambda: Row(
        signed_by_the_writer(
            entry(1).replace(b":200", b":200.0"),
            entry(1).replace(b":200", b":2e2"),
            entry(1).replace(b":200", b":-1"),
            entry(1).replace(b":200", b":NaN"),
        ),
        each("record-invalid", range(2, 6)),
    ),
    "a record is not UTF-8": lambda: Row(
        signed_by_the_writer(
            entry(1).replace(b"stop", b"st\xffp"),
            entry(1).replace(b"stop", b"\xed\xa0\x80"),
            entry(1).replace(b"stop", b"\xc0\xaf"),
            entry(1).replace(b"stop", b"\\ud800"),
        ),
        each("record-invalid", range(2, 6)),
    ),
    "a record is nested as deeply as an entry can be": lambda: Row(
        signed_by_the_writer(b"[" * 65_535, b'{"a":' * 13_000), each("record-invalid", range(2, 4))
    ),
    "a record has a path for a name": lambda: Row(
        signed_by_the_writer(entry(1).replace(b'"completion"', b'"../../etc/passwd"')),
        each("record-invalid", range(2, 3)),
    ),
}


def _claiming(size: str) -> bytes:
    """A checkpoint with whatever is put for its size, signed by the log's key."""
    return sign(f"{ORIGIN}\n{size}\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", KEY)


@pytest.mark.parametrize("done", ROWS)
def test_what_was_done_to_the_log_is_found_and_nothing_else_is(done: str) -> None:
    """An auditor acts on the finding: the wrong one sends her to the wrong runbook."""
    row = ROWS[done]()
    report = verify(row.there.get, KEY.verifier, kept=row.kept, receipts=row.receipts)
    assert [(each.code, each.where) for each in report.findings] == row.found
    assert report.open_gaps == ()


@pytest.mark.parametrize("cut", [1, 7, 40, 130])
def test_a_torn_last_line_is_no_tampering_and_stands_in_the_log(cut: int) -> None:
    """A power cut is no offence, and nobody may make it one that is not seen."""
    run = Run(SimulatedDisk()).play(("create", "open", 3, "close"))
    there = files_of(run.disk)
    size = journal.parse(there["journal"]).base
    torn = journal.group_frame(size, tiles.pack([entry(9)]), b"a note")[:cut]
    left = damaged(run.disk, "journal", there["journal"] + torn)
    assert verify(files_of(left).get, KEY.verifier).findings == ()
    Run(left).play(("open", "close"))
    report = verify(files_of(left).get, KEY.verifier, kept=[there["checkpoint"]])
    assert (report.findings, report.size) == ((), size + 1)
    assert (reopenings(left)[-1]["ended"], reopenings(left)[-1]["torn_bytes"]) == (
        "in-a-crash",
        cut,
    )
    assert entry(9) not in read_log(files_of(left))[1]


def test_an_old_journal_under_a_newer_log_does_not_open() -> None:
    """Going on from it would fork the log under the eyes of whoever holds the newer checkpoint."""
    run = Run(SimulatedDisk()).play(("create", "open", 3, "close"))
    old = files_of(run.disk)
    run.play(("open", 20, "close"))
    left = damaged(run.disk, "journal", old["journal"])
    with pytest.raises(HistorySplit):
        Run(left).play(("open",))
