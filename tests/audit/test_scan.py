"""The quick way to look at a log sees what the slow one sees, however it is spread."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sovereign.audit import bulk, record, tiles, verify, workers
from sovereign.audit.folder import Folder
from sovereign.audit.merkle import Tree, leaf_hash
from sovereign.audit.note import SignerKey
from sovereign.audit.record import RECORD_TYPES, STREAMS
from sovereign.audit.scan import Read, Sight, Task, scan
from sovereign.errors import RecordInvalid
from tests.audit.loglab import EVIDENCE, entries, erasure, files
from tests.audit.scenario import KEY, NOW, ORIGIN, entry
from tests.audit.slow_walk import unpack, walk
from tests.audit.strange_records import STRANGE, good
from tests.audit.strange_records import entries as strange_entries

COMMON = ("v", "type", "at", "salt")
ODD = STRANGE | st.sampled_from([NOW, b"bytes", 2**70, "\ud800", HTTPStatus.OK, NOW.date()])
SIZES = (1, 3, 255, 256, 259, 600, 65_536 + 300)
EVIDENCE_KEY = SignerKey(EVIDENCE, KEY.private)


@cache
def sound(size: int) -> dict[str, bytes]:
    """The files of a sound log. Shared: copy before you spoil."""
    return files(entries(size))


def one_by_one(entries_: list[bytes], stream: str) -> bool:
    """The same question as `bulk.check` answers, asked of `record.parse`."""
    for each in entries_:
        try:
            kind = record.parse(each)["type"]
        except RecordInvalid:
            return False
        if RECORD_TYPES[kind].stream not in ("any", stream):
            return False
    return True


# --- records ----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=600)
@given(st.lists(strange_entries(), min_size=1, max_size=3), st.sampled_from([*STREAMS, ""]))
@example([b"{}", b""], "event")
@example([entry(1) + b"\n" + entry(2), b""], "event")
@example([entry(1)[:-1], b"}"], "event")
@example([entry(1), b" "], "event")
def test_many_records_at_once_are_judged_as_each_by_itself(some: list[bytes], stream: str) -> None:
    """A yes too many would let content into a log; a no too many would cost the speed."""
    assert (bulk.check(some, stream, ()) is not None) == one_by_one(some, stream)


@pytest.mark.parametrize("kind", RECORD_TYPES)
def test_every_type_of_the_table_is_checked_in_the_quick_way(kind: str) -> None:
    """A new kind of field that this way does not know would make verification slow in silence."""

    @settings(deadline=None, max_examples=25)
    @given(good(kind))
    def holds(fields: dict[str, Any]) -> None:
        entries_ = [strange_encoded(fields), entry(0)]
        stream = RECORD_TYPES[kind].stream
        stream = "event" if stream == "any" else stream
        assert one_by_one(entries_[:1], stream)
        found = bulk.check(entries_[:1], stream, (kind,))
        assert (found.told, found.times) == ([0], [fields["at"]]) if found else False
        found = bulk.check(entries_[:1], stream, ("other",))
        assert found is not None
        assert found.told == []

    holds()


def strange_encoded(fields: dict[str, Any]) -> bytes:
    return msgspec.json.encode(fields, order="sorted")


@settings(deadline=None, max_examples=500)
@given(st.data(), st.sampled_from(sorted(RECORD_TYPES)))
def test_a_record_is_encoded_exactly_when_the_slow_check_finds_no_fault(
    data: st.DataObject, kind: str
) -> None:
    """The quick check on the path of each request must refuse whatever the table refuses."""
    whole = data.draw(good(kind))
    fields = {name: value for name, value in whole.items() if name not in COMMON}
    for name in data.draw(st.lists(st.sampled_from([*sorted(fields), "zz", "log"]), max_size=2)):
        fields[name] = data.draw(ODD)
    record_ = {**{name: whole[name] for name in COMMON}, **fields}
    fault = record.find_fault({**record_, "at": "2026-11-24T12:00:00.000000Z"})
    try:
        entry_ = record.encode(kind, fields, NOW, bytes.fromhex(whole["salt"]))
    except RecordInvalid:
        assert fault or any("\ud800" in str(value) for value in fields.values())
        return
    assert fault == ""
    assert msgspec.json.decode(entry_).items() >= fields.items()
    assert record.parse(entry_)["type"] == kind


# --- bundles ----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=500)
@given(st.binary(max_size=40) | st.lists(st.binary(max_size=300), max_size=5).map(tiles.pack))
def test_bundles_are_taken_apart_as_they_always_were(bundle: bytes) -> None:
    """The same entries and the same refusals."""

    def tried(how: Callable[[bytes], list[bytes]]) -> list[bytes] | None:
        try:
            return how(bundle)
        except ValueError:
            return None

    assert tried(tiles.unpack) == tried(unpack)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 700), max_size=6))
def test_many_leaves_at_once_make_the_tree_that_each_by_itself_makes(parts: list[int]) -> None:
    """The writer takes a group at once; the root it signs must be that of its entries."""
    at_once, one_by_one_ = Tree(), Tree()
    for number, part in enumerate(parts):
        leaves = [leaf_hash(b"%d %d" % (number, i)) for i in range(part)]
        at_once.extend(leaves)
        for leaf in leaves:
            one_by_one_.append(leaf)
        assert at_once.root() == one_by_one_.root()
        assert (at_once.size, at_once.edge) == (one_by_one_.size, one_by_one_.edge)
    assert at_once.finished == one_by_one_.finished


def test_a_bundle_is_not_read_further_than_a_bundle_can_go() -> None:
    """Eight million entries of no bytes fit into a file of the size of a bundle."""
    bundle = bytes(2 * 257)
    assert len(tiles.unpack(bundle)) == 257
    assert len(tiles.unpack(bundle[:-2], at_most=256)) == 256
    with pytest.raises(ValueError, match="more than 256"):
        tiles.unpack(bundle, at_most=256)


# --- logs -------------------------------------------------------------------------------------


def seen_of(read: Read, kept: list[bytes], key: SignerKey = KEY) -> tuple[Any, ...]:
    found = verify.inspect(read, key.verifier, kept=kept)
    findings = [(each.code, each.where) for each in found.findings]
    if len(findings) == verify.EVERY_FINDING_MAX or found.signed is None:
        return (findings,)
    task = Task(key.name, found.signed.size, verify.READ_HERE)
    told = [told.index for sight in scan(read, task, 0, task.bundles) for told in sight.told]
    return findings, found.present, found.missing, told


def slowly(read: Read, kept: list[bytes], key: SignerKey = KEY) -> tuple[Any, ...]:
    found = walk(read, key.verifier, kept)
    if len(found.findings) == verify.EVERY_FINDING_MAX:
        return (found.findings,)
    return found.findings, found.present, found.missing, found.told


Change = tuple[str, str, int]
CHANGES = ("gone", "empty", "cut", "longer", "flipped", "other", "entry", "doubled", "less", "huge")


@st.composite
def tampered(draw: st.DrawFn) -> tuple[dict[str, bytes], list[bytes]]:
    """The files of a log, of which up to four were changed, and checkpoints that were kept."""
    size = draw(st.sampled_from(SIZES[:-1]) if draw(st.integers(0, 24)) else st.just(SIZES[-1]))
    there = dict(sound(size))
    paths = sorted(path for path in there if path != "checkpoint")
    for _ in range(draw(st.integers(0, 4))):
        path, at = draw(st.sampled_from(paths)), draw(st.integers(0, 2**16))
        _change(there, path, draw(st.sampled_from(CHANGES)), at, draw(st.sampled_from(paths)))
    if draw(st.integers(0, 3)) == 0:
        there = {**files(entries(size), full_only=True), **there}
        there = {path: data for path, data in there.items() if ".p/" not in path or at_edge(path)}
    forked = files([*entries(2), entry(4242)])["checkpoint"]
    known = [sound(each)["checkpoint"] for each in SIZES[:-1]]
    kept = draw(
        st.lists(st.sampled_from([*known, forked, b"", files([])["checkpoint"]]), max_size=3)
    )
    return there, kept


def at_edge(path: str) -> bool:
    return not path.endswith(".p/1")


def _change(there: dict[str, bytes], path: str, how: str, at: int, other: str) -> None:
    data = there.get(path, b"")
    if how == "gone":
        there.pop(path, None)
    elif how == "other":
        there[path] = there.get(other, b"")
    elif how == "flipped" and data:
        place = at % len(data)
        there[path] = data[:place] + bytes([data[place] ^ 1 << at % 8]) + data[place + 1 :]
    elif "entries" in path and how in ("entry", "doubled", "less", "huge") and data:
        try:
            some = unpack(data)
        except ValueError:
            return
        place = at % len(some)
        new = {
            "entry": [entry(at)],
            "doubled": [some[place]] * 2,
            "less": [],
            "huge": [b"x" * 65_535],
        }
        there[path] = tiles.pack([*some[:place], *new[how], *some[place + 1 :]])
    else:
        there[path] = {"empty": b"", "cut": data[: at % (len(data) + 1)]}.get(how, data + data[:32])


@settings(deadline=None, max_examples=80)
@given(tampered())
def test_whatever_was_done_to_a_log_the_quick_way_finds_what_the_slow_one_does(
    case: tuple[dict[str, bytes], list[bytes]],
) -> None:
    """The same findings at the same places in the same order, or speed was bought with trust."""
    there, kept = case
    assert seen_of(there.get, kept) == slowly(there.get, kept)


@settings(deadline=None, max_examples=40)
@given(st.lists(strange_entries(), min_size=1, max_size=6), st.integers(0, 40), st.booleans())
def test_records_that_a_writer_should_not_have_signed_are_found_alike(
    strange: list[bytes], before: int, evidence: bool
) -> None:
    """The hashes fit and the signature is good: only reading them shows it."""
    key = EVIDENCE_KEY if evidence else KEY
    some = [erasure(ORIGIN, n, n + 1) if evidence else entry(n) for n in range(before)]
    there = files([*some, *strange], key)
    assert seen_of(there.get, [], key) == slowly(there.get, [], key)


def test_a_walk_that_is_ended_early_has_found_all_that_is_kept() -> None:
    """A hundred findings are as many as anybody is told of: no more is looked at."""
    there = {p: d for p, d in sound(SIZES[-1]).items() if not p.startswith("tile/0/")}
    found = seen_of(there.get, [])[0]
    assert found == slowly(there.get, [])[0]
    assert len(found) == verify.EVERY_FINDING_MAX


# --- several processes ------------------------------------------------------------------------


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges of two bundles here and in the workers, so that a small log has many."""
    monkeypatch.setattr(workers, "WORTH_IT", 1)
    monkeypatch.setattr(verify, "WORTH_IT", 1)
    monkeypatch.setattr(workers, "RANGE", 2)
    monkeypatch.setattr(verify, "cores", lambda: 2)


def laid_out(folder: Path, there: dict[str, bytes]) -> Folder:
    for path, data in there.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return Folder(folder)


SPOILT: dict[str, Callable[[dict[str, bytes]], dict[str, bytes]]] = {
    "sound": dict,
    "edited": lambda there: {**there, "tile/entries/007": there["tile/entries/003"]},
    "erased": lambda there: {p: d for p, d in there.items() if p != "tile/entries/002"},
    "no tile": lambda there: {p: d for p, d in there.items() if p != "tile/0/005"},
    "tile cut": lambda there: {**there, "tile/0/000": there["tile/0/000"][:-1]},
}


@pytest.mark.parametrize("how", SPOILT)
def test_several_processes_see_what_one_sees(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everybody's verdict must be the same, on a laptop and on 64 cores."""
    size = 256 * workers.RANGE * 2 + 300
    folder = laid_out(tmp_path, SPOILT[how](dict(long_log(size))))
    task = Task(ORIGIN, size, verify.READ_HERE)
    alone = list(scan(folder, task, 0, task.bundles))

    def here(read: Read, task: Task, first: int, last: int) -> list[Sight]:
        assert first == last, "a worker left something to be seen here"
        return []

    monkeypatch.setattr(workers, "scan", here)
    assert list(workers.scan_folder(folder, task, processes=2)) == alone
    assert len(alone) == task.bundles


@cache
def long_log(size: int) -> dict[str, bytes]:
    return files(entries(size))


@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize("trouble", ["no interpreter", "no more processes", "killed", "babbling"])
def test_where_no_other_process_can_help_the_answer_is_the_same(
    tmp_path: Path, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service may be forbidden to start programs, and a machine may run out of memory."""
    folder = laid_out(tmp_path, SPOILT["edited"](dict(sound(SIZES[-1]))))
    task = Task(ORIGIN, SIZES[-1], verify.READ_HERE)
    alone = list(scan(folder, task, 0, task.bundles))
    started: list[subprocess.Popen[bytes]] = []
    really = subprocess.Popen

    def popen(command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        if trouble == "no more processes" and started:
            raise BlockingIOError(11, "try again")
        if trouble == "babbling":
            command = [sys.executable, "-c", "print('not a sight' * 100)"]
        started.append(really(command, **options))
        if trouble == "killed":
            started[-1].kill()
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", popen)
    if trouble == "no interpreter":
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert list(workers.scan_folder(folder, task, processes=2)) == alone
    assert [each.poll() is None for each in started] == [False] * len(started), "all have ended"


def children() -> list[bytes]:
    """How each child of this process was started; a bare Debian has no `ps`."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text().split():
            with suppress(OSError):
                found.append(Path(f"/proc/{pid}/cmdline").read_bytes())
    return found


def test_a_caller_that_has_seen_enough_leaves_no_process_behind(tmp_path: Path) -> None:
    """Verification ends early when a log is beyond hope."""
    size = 256 * workers.RANGE * 2 + 300
    folder = laid_out(tmp_path, dict(long_log(size)))
    sights = workers.scan_folder(folder, Task(ORIGIN, size), processes=2)
    assert isinstance(next(sights), Sight)
    sights.close()
    assert not [each for each in children() if b"audit.workers" in each]


def test_verifying_a_folder_and_verifying_its_files_give_one_report(tmp_path: Path) -> None:
    """`Read` is the contract; how it is spread is nobody's business."""
    size = 256 * workers.WORTH_IT + 300
    there = SPOILT["edited"](dict(long_log(size)))
    kept = [sound(600)["checkpoint"], sound(259)["checkpoint"]]
    assert seen_of(laid_out(tmp_path, there), kept) == seen_of(there.get, kept)


def test_what_a_worker_is_told_and_tells_is_a_few_bytes_a_bundle(tmp_path: Path) -> None:
    """The memory of a verification must not grow with the log."""
    folder = laid_out(tmp_path, dict(sound(600)))
    order = workers.Order(os.fsencode(folder.root), Task(ORIGIN, 600), 0, 1)
    said = io.BytesIO()
    workers.work(msgspec.msgpack.encode(order), said)
    assert len(said.getvalue()) < 3 * 128 + 600 % 256 * 32


def test_an_entry_that_another_process_finds_edited_is_named(tmp_path: Path) -> None:
    """Whichever process it falls to."""
    size = 256 * workers.WORTH_IT + 300
    chosen = workers.RANGE + 131
    there = dict(long_log(size))
    path = tiles.bundle_path(chosen)
    some = unpack(there[path])
    there[path] = tiles.pack([*some[:17], entry(1), *some[18:]])
    found = seen_of(laid_out(tmp_path, there), [])[0]
    assert found == [("entry-differs", f"{ORIGIN}#{256 * chosen + 17}")]
