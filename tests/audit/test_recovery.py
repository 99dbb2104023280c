"""Opening again: what a crash leaves is taken up, what a crash cannot leave is refused."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from sovereign.audit import journal, log
from sovereign.audit.journal import base_frame, group_frame
from sovereign.audit.log import Log
from sovereign.audit.merkle import EMPTY_ROOT
from sovereign.audit.note import SignerKey
from sovereign.audit.tiles import pack
from sovereign.errors import (
    HistorySplit,
    JournalDamaged,
    LogMissing,
    SovereignError,
    TileDamaged,
    TileMissing,
)
from tests.audit.scenario import KEY, Run, append_group, clock, entry, faults, read_log, reopenings
from tests.simulated.disk import SimulatedDisk, damaged, files_of

PAGE = Path(__file__).parents[2] / "docs/formats/journal.md"
ROOT = bytes(range(32))
BASE = base_frame(3, ROOT)
GROUP = group_frame(3, pack([b"{}", b"[]"]), b"a note\n")


@pytest.fixture(autouse=True)
def _nothing_is_published_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "PUBLISH_EVERY_S", 3600.0)


def in_a_crash(*groups: int, settled: int = 0) -> Run:
    """A log whose process was killed after these groups were acknowledged."""
    script = ("create", "open", *([settled, "close", "open"] if settled else []), *groups)
    until = Run(SimulatedDisk()).play(script).disk.history
    last = len(until) - 1 - until[::-1].index("fdatasync journal")
    return Run(SimulatedDisk(stop_at=last + 1)).play(script)


def kept(run: Run) -> SimulatedDisk:
    """The disk as the killed process left it: everything written is there."""
    return dict(run.disk.survivors())["kept"]


# --- the journal's frames -------------------------------------------------------------------


def test_a_journal_gives_back_its_base_and_its_groups() -> None:
    """Two kinds of frame, and nothing between them."""
    found = journal.parse(BASE + GROUP + GROUP)
    assert (found.base, found.base_root) == (3, ROOT)
    assert [(g.first, g.entries, g.note) for g in found.groups] == [
        (3, (b"{}", b"[]"), b"a note\n")
    ] * 2
    assert (found.good_bytes, found.torn_bytes) == (len(BASE + GROUP + GROUP), 0)
    assert journal.parse(base_frame(0, EMPTY_ROOT)).groups == ()


def test_a_last_frame_that_is_cut_anywhere_is_dropped_and_counted() -> None:
    """A crash can leave any part of it; the groups before it stand."""
    for cut in range(1, len(GROUP)):
        found = journal.parse(BASE + GROUP + GROUP[:cut])
        assert (len(found.groups), found.torn_bytes) == (1, cut)
        zeros = journal.parse(BASE + GROUP + GROUP[:cut] + bytes(len(GROUP) - cut))
        assert (len(zeros.groups), zeros.torn_bytes) in {(1, len(GROUP)), (2, 0)}


def test_any_bit_changed_before_the_last_frame_is_damage() -> None:
    """A crash tears the end only. What is wrong earlier was done by a disk, or by someone."""
    whole = BASE + GROUP + GROUP
    for at in range(len(BASE + GROUP)):
        for bit in (0, 3, 7):
            spoiled = whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
            with pytest.raises(JournalDamaged):
                journal.parse(spoiled)


def test_any_bit_changed_in_the_last_frame_drops_it() -> None:
    """Here damage and a torn frame look alike; the served checkpoint tells them apart."""
    whole = BASE + GROUP
    for at in range(len(BASE), len(whole)):
        spoiled = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        assert journal.parse(spoiled).groups == ()


@pytest.mark.parametrize("data", [b"", b"SVJb", GROUP, BASE[:-1], BASE[1:], bytes(100)])
def test_a_journal_that_does_not_begin_with_its_base_is_damage(data: bytes) -> None:
    """The base was synced before the file got its name, so no crash can tear it."""
    with pytest.raises(JournalDamaged):
        journal.parse(data)


def test_the_worked_example_of_the_page_is_what_the_code_writes() -> None:
    """A stranger who follows the page must get these bytes, and so must we."""
    shown = re.findall(r"^    ([0-9a-f]{2}(?: [0-9a-f]{2})*)\b", PAGE.read_text(), re.MULTILINE)
    assert bytes.fromhex("".join(shown)) == BASE + GROUP


# --- opening --------------------------------------------------------------------------------


def test_what_was_acknowledged_and_never_published_is_there_after_a_kill() -> None:
    """The journal alone must be enough."""
    run = in_a_crash(2, 3)
    assert len(run.acknowledged) == 5
    assert len(run.disk.served) == 1, "only what `create` served"
    left = kept(run)
    assert faults(run, left) == []
    again = reopenings(left)
    assert [each["ended"] for each in again] == ["cleanly", "in-a-crash"]
    assert again[-1]["size"] == 7


def test_a_clean_end_is_told_from_a_crash() -> None:
    """The auditor asks how often the writer died; the log must know."""
    disk = Run(SimulatedDisk()).play(("create", "open", 1, "close", "open", "close")).disk
    assert [each["ended"] for each in reopenings(disk)] == ["cleanly"] * 2
    assert [each["torn_bytes"] for each in reopenings(disk)] == [0, 0]


def test_a_torn_last_frame_is_dropped_and_its_bytes_are_counted_in_the_log() -> None:
    """A torn tail is neither tampering nor silently accepted."""
    run = in_a_crash(2)
    left = kept(run)
    torn = files_of(left)["journal"] + GROUP[:37]
    left = damaged(left, "journal", torn)
    assert faults(run, left) == []
    assert reopenings(left)[-1]["torn_bytes"] == 37
    assert reopenings(left)[-1]["ended"] == "in-a-crash"


def opened(disk: SimulatedDisk, key: SignerKey = KEY) -> SovereignError | None:
    """How opening fails, None when it does not."""
    before = files_of(disk)
    try:
        Log(disk, key, clock).close()
    except SovereignError as error:
        assert files_of(disk) == before, "a log that is refused is left as it is"
        return error
    return None


def test_a_frame_damaged_before_the_last_refuses_to_open_and_changes_nothing() -> None:
    """Acknowledged records are in there. Going on without them would sign their absence."""
    left = kept(in_a_crash(2, 1, 1))
    raw = files_of(left)["journal"]
    at = raw.index(b"SVJg") + 40
    spoiled = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
    assert isinstance(opened(damaged(left, "journal", spoiled)), JournalDamaged)


def served_and_not_settled(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The files of a log that had published everything and was killed before it settled."""
    monkeypatch.setattr(log, "PUBLISH_EVERY_S", 0.0)
    script = ("create", "open", 2, 1, 1, "close")
    history = Run(SimulatedDisk()).play(script).disk.history
    swap = len(history) - 1 - history[::-1].index("write journal.new")
    return files_of(kept(Run(SimulatedDisk(stop_at=swap)).play(script)))


def test_a_journal_that_lost_what_was_served_already_refuses_to_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Damage to the last frame looks like a crash, but no crash takes back what was published."""
    files = served_and_not_settled(monkeypatch)
    assert opened(SimulatedDisk(files)) is None, "unspoiled it opens"
    raw = files["journal"]
    base = raw[: raw.index(b"SVJg")]
    for spoiled in (raw[:-1], raw[:-1] + bytes([raw[-1] ^ 1]), base):
        error = opened(SimulatedDisk({**files, "journal": spoiled}))
        assert isinstance(error, HistorySplit)
        assert "published" in error.message


def test_a_journal_of_another_history_refuses_to_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy put back, or a group taken out: the log was signed over something else."""
    files = served_and_not_settled(monkeypatch)
    frames = [b"SVJg" + each for each in files["journal"].split(b"SVJg")]
    without_second = frames[0][4:] + frames[1] + frames[3]
    other = served_and_not_settled(monkeypatch)
    for journal_file in (without_second, other["journal"]):
        error = opened(SimulatedDisk({**files, "journal": journal_file}))
        assert isinstance(error, HistorySplit | TileDamaged)


def spoil(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    ("path", "change", "error"),
    [
        ("tile/0/000.p/4", spoil, TileDamaged),
        ("tile/0/000.p/4", lambda content: content[:-32], TileDamaged),
        ("tile/0/000.p/4", lambda _: None, TileMissing),
        ("tile/entries/000.p/4", spoil, TileDamaged),
        ("tile/entries/000.p/4", lambda content: content[:-1], TileDamaged),
        ("tile/entries/000.p/4", lambda _: None, TileMissing),
        ("checkpoint", spoil, HistorySplit),
        ("journal", lambda _: None, LogMissing),
        ("journal", lambda _: b"", JournalDamaged),
    ],
)
def test_a_settled_file_that_is_not_what_it_was_refuses_to_open(
    path: str, change: Callable[[bytes], bytes | None], error: type[SovereignError]
) -> None:
    """The next checkpoint is signed over what is read here; it must not be over damage."""
    disk = Run(SimulatedDisk()).play(("create", "open", 2, "close")).disk
    content = change(files_of(disk)[path])
    assert type(opened(damaged(disk, path, content))) is error


def test_a_settled_log_opens_without_its_checkpoint_and_serves_it_again() -> None:
    """The journal holds the root, so nothing is guessed; the file is only a copy."""
    disk = Run(SimulatedDisk()).play(("create", "open", 2, "close")).disk
    left = damaged(disk, "checkpoint", None)
    assert opened(left) is None
    assert read_log(files_of(left))[0].size == 5
    assert reopenings(left)[-1]["ended"] == "in-a-crash", "and it is not passed off as clean"


def test_another_key_does_not_open_the_log() -> None:
    """It would go on under a name that nobody has pinned."""
    disk = Run(SimulatedDisk()).play(("create", "open", 2, "close")).disk
    assert isinstance(opened(disk, SignerKey.generate(KEY.name)), HistorySplit)
    assert isinstance(opened(disk, SignerKey("another.example", KEY.private)), HistorySplit)


def test_creating_never_touches_a_log_that_is_there() -> None:
    """The verb that begins a log must not be able to end one."""
    disk = Run(SimulatedDisk()).play(("create", "open", 2, "close")).disk
    for left in (disk, damaged(disk, "journal", None), damaged(disk, "checkpoint", None)):
        before = files_of(left)
        with pytest.raises(HistorySplit):
            log.create(left, KEY, clock)
        assert files_of(left) == before


def test_sealing_fills_the_bundle_and_empties_the_journal() -> None:
    """A quiet stream must not keep a bundle, or a journal, open until its records are overdue."""
    disk = Run(SimulatedDisk()).play(("create",)).disk
    target = Log(disk, KEY, clock)
    append_group(target, [1, 2])[2].heard()
    assert target.bundle_began is not None
    target.seal()
    target.close()
    signed, entries = read_log(files_of(disk))
    assert signed.size == 256
    assert [e.split(b'"type":"')[1].split(b'"')[0] for e in entries[-2:]] == [b"filler"] * 2
    assert b"SVJg" not in files_of(disk)["journal"]


def test_full_bundles_leave_no_partial_copies_and_unfinished_ones_keep_them() -> None:
    """Erasing a bundle must erase its entries; an older checkpoint must stay checkable."""
    script = ("create", "open", 2, "close", "open", 3, "close", "open", 300, "close")
    files = files_of(Run(SimulatedDisk()).play(script).disk)
    assert [path for path in files if path.startswith("tile/entries/000")] == ["tile/entries/000"]
    partial = {path for path in files if path.startswith("tile/entries/001.p/")}
    assert partial == {"tile/entries/001.p/53"}
    again = files_of(Run(SimulatedDisk(files)).play(("open", 1, "close")).disk)
    kept_on = {path for path in again if path.startswith("tile/entries/001.p/")}
    assert kept_on == {"tile/entries/001.p/53", "tile/entries/001.p/55"}


class MeasuredDisk(SimulatedDisk):
    """Counts, whenever a checkpoint is served, what lies there beside the full tiles."""

    files_most = 0
    bytes_most = 0

    def rename(self, old: str, new: str) -> None:
        super().rename(old, new)
        if new == "checkpoint":
            beside = [c for path, c in files_of(self).items() if not FULL.fullmatch(path)]
            self.files_most = max(self.files_most, len(beside))
            self.bytes_most = max(self.bytes_most, sum(map(len, beside)))


FULL = re.compile(r"tile/(entries|[0-9]+)/[0-9]{3}")


def test_a_slow_stream_that_is_published_record_by_record_does_not_fill_the_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every publication writes the unfinished bundle anew: 1,500 records once took 101 MB."""
    monkeypatch.setattr(log, "PUBLISH_EVERY_S", 0.0)
    disk = MeasuredDisk()
    Run(disk).play(("create", "open", *[1] * 3000, "close"))
    assert len(disk.served) > 3000, "it was published after each"
    upper, others = 3000 // 256, 3
    assert 255 < disk.files_most <= 2 * 255 + upper + others
    assert disk.bytes_most < 12e6


def test_a_fast_stream_settles_once_in_so_many_publications(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each settling makes whoever comes wait for a dozen syncs."""
    monkeypatch.setattr(log, "PUBLISH_EVERY_S", 0.0)
    disk = MeasuredDisk()
    bundles = 2 * log.SETTLE_AFTER
    script: tuple[str | int, ...] = ("create", "open", *[256] * bundles)
    Run(disk).play(script)
    settled = disk.history.count("rename journal.new journal")
    assert settled - len(("create", "open", "close")) == 2
    assert disk.files_most <= 2 * (log.SETTLE_AFTER + 1) + bundles + 3


def test_what_an_earlier_crash_left_of_full_bundles_is_removed_at_opening() -> None:
    """A copy of entries in a place that nobody knows of would outlive their erasure."""
    disk = Run(SimulatedDisk()).play(("create", "open", 600, "close")).disk
    before = files_of(disk)
    left = {f"tile/{kind}/00{n}.p/9": b"old" for kind in ("entries", "0") for n in (0, 1)}
    again = files_of(Run(SimulatedDisk({**before, **left})).play(("open", "close")).disk)
    assert again.keys() & left.keys() == set()
    assert before.keys() - again.keys() == set(), "nothing else is"


def test_a_record_that_is_entered_once_has_one_index() -> None:
    """The name ORIGIN#INDEX is what people write into tickets; it must not move."""
    run = Run(SimulatedDisk()).play(("create", "open", 3, "close", "open", 2, "close"))
    _, entries = read_log(files_of(run.disk))
    assert run.acknowledged == {0: 2, 1: 3, 2: 4, 3: 6, 4: 7}
    salted = entry(0)
    assert salted not in entries, "the salt makes every record its own"
