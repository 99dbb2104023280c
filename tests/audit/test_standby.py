"""A copy that computes: it takes what was signed, and nothing else, and holds what it took."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sovereign.audit import tiles
from sovereign.audit.copies import standby_wire as wire
from sovereign.audit.copies.standby import Replica, Standby, folder_of
from sovereign.audit.copies.standby_client import Client, State, Where
from sovereign.audit.copies.standby_http import PREFIX, StandbyApp
from sovereign.audit.copies.standby_send import Sender, Source, bodies, lag_of, snapshots
from sovereign.audit.disk import RealDisk
from sovereign.audit.folder import Folder
from sovereign.audit.log import Log
from sovereign.audit.note import SignerKey
from sovereign.audit.verify import verify
from sovereign.errors import (
    BadInput,
    HistorySplit,
    LogLocked,
    StandbyUnreachable,
    TileDamaged,
    TileMissing,
    UnknownName,
)
from tests.audit.loglab import codes, entries, erasure, files
from tests.audit.scenario import KEY, ORIGIN, clock, entry
from tests.audit.standing import TOKEN, Direct, ask
from tests.simulated.disk import SimulatedDisk, files_of

EVIDENCE = SignerKey.generate("test.example/controller/evidence")
SIZES = (1, 2, 255, 256, 257, 300, 512, 700)


class Pair:
    """A log as it is published, and a standby that is sent it."""

    def __init__(self, root: Path) -> None:
        self.root = root / "standby"
        self.files: dict[str, bytes] = {}
        self.evidence: dict[str, bytes] = {}
        self.memory = root / "event.standby"
        self.standby = Standby(self.root, [KEY.verifier, EVIDENCE.verifier])
        self.client = Direct(self.standby)
        self.sender = self.new_sender()

    def new_sender(self) -> Sender:
        event = Source(KEY.verifier, self.read_event, self.memory)
        return Sender(self.client, [event, Source(EVIDENCE.verifier, self.read_evidence)])

    def read_event(self, path: str) -> bytes | None:
        return self.files.get(path)

    def read_evidence(self, path: str) -> bytes | None:
        return self.evidence.get(path)

    def reopen(self) -> None:
        self.standby.close()
        self.standby = Standby(self.root, [KEY.verifier, EVIDENCE.verifier])
        self.client.app = StandbyApp(self.standby, TOKEN)

    @property
    def folder(self) -> Path:
        return folder_of(self.root, ORIGIN)

    def there(self) -> dict[str, bytes]:
        paths = (path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in paths}

    def held(self) -> int:
        return next(each.size for each in self.standby.held() if each.origin == ORIGIN)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    it = Pair(tmp_path)
    yield it
    it.standby.close()


# --- what it takes ------------------------------------------------------------------------------


def test_the_copy_of_a_log_that_grows_is_that_log_byte_by_byte(pair: Pair) -> None:
    """Partial files come and go; what is there verifies after every round."""
    content = entries(SIZES[-1])
    for size in SIZES:
        pair.files = files(content[:size])
        lags = pair.sender.round()
        assert [(lag.size, lag.entries) for lag in lags if lag.origin == ORIGIN] == [(size, 0)]
        assert pair.there() == pair.files, size
        assert verify(Folder(pair.folder), KEY.verifier).findings == ()


@pytest.mark.parametrize("start", SIZES)
def test_a_sender_and_a_standby_that_were_started_anew_go_on(pair: Pair, start: int) -> None:
    """Either machine restarts when it likes."""
    content = entries(SIZES[-1] + 5)
    pair.files = files(content[:start])
    pair.sender.round()
    pair.reopen()
    pair.files = files(content)
    pair.new_sender().round()
    assert pair.there() == pair.files


def test_a_round_without_news_sends_nothing(pair: Pair) -> None:
    """Every second, for years."""
    pair.files = files(entries(3))
    pair.sender.round()
    before = len(pair.client.calls)
    pair.sender.round()
    assert len(pair.client.calls) == before


def test_a_large_backlog_goes_in_several_bodies_and_counts_once_it_is_complete(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory on both sides is bounded by a body, not by the log."""
    monkeypatch.setattr("sovereign.audit.copies.standby_send.CHUNK_BYTES", 10_000)
    pair.files = files(entries(700))
    pair.client.fail_at = 3  # how far the copies go, and two bodies
    with pytest.raises(StandbyUnreachable):
        pair.sender.round()
    assert pair.held() == 0
    assert "checkpoint" not in pair.there(), "what is half there is no log yet"
    pair.client.fail_at = None
    pair.sender.round()
    assert pair.held() == 700
    assert pair.there() == pair.files
    posts = [size for method, _, size in pair.client.calls if method == "POST"]
    assert len(posts) == 3, "two before, and the rest from where it was"


def test_a_standby_restarted_within_a_round_is_sent_the_rest_from_where_it_is(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It forgets what no checkpoint covers, and says so."""
    monkeypatch.setattr("sovereign.audit.copies.standby_send.CHUNK_BYTES", 10_000)
    shot = next(s for s in snapshots(sources(pair, files(entries(700)))))
    sent = bodies(shot, 0)
    pair.client.send(ORIGIN, next(sent))
    pair.reopen()
    pair.files = files(entries(700))
    pair.sender.round()
    assert pair.there() == pair.files


def sources(pair: Pair, content: dict[str, bytes]) -> list[Source]:
    return [Source(KEY.verifier, content.get)]


# --- what it refuses ----------------------------------------------------------------------------


def forged(size: int, at: int) -> dict[str, bytes]:
    content = entries(size)
    content[at] = entry(9999, b"\x01" * 16)
    return files(content)


@pytest.mark.parametrize("longer", [0, 1, 300])
@pytest.mark.parametrize("start", [3, 256, 300])
def test_another_history_is_refused_wherever_it_parts(pair: Pair, start: int, longer: int) -> None:
    """Whoever has the log's own key can sign anything; only the copy remembers."""
    pair.files = files(entries(start))
    pair.sender.round()
    pair.files = forged(start + longer, start - 1)
    for sender in (pair.sender, pair.new_sender()):
        with pytest.raises(HistorySplit):
            sender.round()
    assert pair.there() == files(entries(start))


def test_an_older_copy_is_refused_and_the_newest_is_remembered_here(pair: Pair) -> None:
    """The machine was put back whole: only the standby knows, and now the writer will too."""
    pair.files = files(entries(300))
    pair.sender.round()
    pair.memory.unlink()
    pair.files = files(entries(299))
    with pytest.raises(HistorySplit, match="more of it"):
        pair.new_sender().round()
    assert pair.memory.read_bytes() == files(entries(300))["checkpoint"]
    assert pair.held() == 300


def test_the_other_logs_are_sent_although_one_is_refused(pair: Pair) -> None:
    """One forked log must not leave the others without a copy."""
    pair.files = files(entries(5))
    pair.sender.round()
    pair.files = files(entries(4))
    pair.evidence = files([erasure(ORIGIN, 0, 0)], EVIDENCE)
    with pytest.raises(HistorySplit):
        pair.sender.round()
    held = {each.origin: each.size for each in pair.standby.held()}
    assert held == {ORIGIN: 5, EVIDENCE.name: 1}


def raw(pair: Pair, *frames: bytes) -> tuple[int, dict[str, object]]:
    """A body as a stranger would make it."""
    path = f"{PREFIX}/{ORIGIN}"
    status, body = asyncio.run(ask(pair.client.app, "POST", path, b"".join(frames)))
    return status, json.loads(body)


@pytest.mark.parametrize(
    ("frames", "status", "code"),
    [
        ([b"x"], 400, "bad-input"),
        ([wire.entries(0, [entry(0)])[:-1]], 400, "bad-input"),
        ([wire.entries(0, [entry(0)]), b"SVSe"], 400, "bad-input"),
        ([wire._frame(b"SVSx", b"12345678rest")], 400, "bad-input"),
        ([wire._frame(wire.ENTRIES, b"12345678\xff\xff")], 400, "bad-input"),
        ([wire.hashes(0, [bytes(32)] * 255)], 400, "bad-input"),
        ([wire.entries(1, [entry(0)])], 409, "standby-elsewhere"),
        ([wire.entries(0, [entry(0)]), wire.note(b"no note")], 409, "history-split"),
        (
            [wire.entries(0, [entry(0)]), wire.note(files(entries(2))["checkpoint"])],
            409,
            "history-split",
        ),
        (
            [wire.entries(0, [entry(7)]), wire.note(files(entries(1))["checkpoint"])],
            409,
            "history-split",
        ),
        (
            [wire.entries(0, [entry(0)]), wire.note(files(entries(1), EVIDENCE)["checkpoint"])],
            409,
            "history-split",
        ),
        ([wire.handover(1, b"nonsense"), wire.note(b"x")], 409, "history-split"),
    ],
)
def test_what_is_not_a_signed_continuation_is_refused_by_name(
    pair: Pair, frames: list[bytes], status: int, code: str
) -> None:
    """A standby is written to by a machine that may have been taken over."""
    found, answer = raw(pair, *frames)
    assert (found, answer["code"]) == (status, code)
    assert pair.held() == 0
    assert "checkpoint" not in pair.there()
    pair.files = files(entries(3))
    pair.new_sender().round()
    assert pair.held() == 3, "and it goes on as before"


def test_nobody_without_the_token_reads_or_writes_anything(pair: Pair) -> None:
    """Not even how long a log is."""
    for method, path in (("GET", PREFIX), ("POST", f"{PREFIX}/{ORIGIN}"), ("GET", "/")):
        status, body = asyncio.run(ask(pair.client.app, method, path, b"", token="x" * 36))
        assert (status, json.loads(body)) == (401, {"code": "key-missing-or-unknown"})
    with pytest.raises(BadInput):
        StandbyApp(pair.standby, "short")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"{PREFIX}/{ORIGIN}/checkpoint", 200),
        ("GET", f"{PREFIX}/{ORIGIN}/tile/0/000.p/3", 200),
        ("GET", f"{PREFIX}/{ORIGIN}/tile/0/000.p/4", 404),
        ("GET", f"{PREFIX}/{ORIGIN}/../../../etc/passwd", 404),
        ("GET", f"{PREFIX}/{ORIGIN}/lock", 404),
        ("GET", f"{PREFIX}/{ORIGIN}/tile/0/../../lock", 404),
        ("GET", f"{PREFIX}/test.example/gateway2/event/checkpoint", 404),
        ("GET", "/", 404),
        ("GET", f"{PREFIX}/{ORIGIN}", 405),
        ("DELETE", PREFIX, 404),
        ("POST", f"{PREFIX}/{ORIGIN}/checkpoint", 405),
        ("POST", f"{PREFIX}/no/such/log", 404),
    ],
)
def test_only_files_of_known_logs_are_given_out(
    pair: Pair, method: str, path: str, status: int
) -> None:
    """It reads from a folder by a name that came over a network."""
    pair.files = files(entries(3))
    pair.sender.round()
    assert asyncio.run(ask(pair.client.app, method, path))[0] == status


def test_a_body_beyond_the_bound_is_refused(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise one sender could fill the memory."""
    monkeypatch.setattr("sovereign.audit.copies.standby_http.BODY_MAX_BYTES", 100)
    assert raw(pair, bytes(101))[0] == 413
    assert raw(pair, bytes(100))[0] == 400


def test_a_name_that_is_no_log_of_a_site_is_no_folder(tmp_path: Path) -> None:
    """The keys are a file somebody wrote; one of them must not lead out of the folder."""
    for name in ("../x/y", "a/b", "a/b/c/d", "a//c", "A/b/c"):
        with pytest.raises(BadInput):
            folder_of(tmp_path, name)
    with pytest.raises(BadInput):
        Standby(tmp_path / "s", [SignerKey.generate("../x/y").verifier])
    Standby(tmp_path / "s", []).close()


def test_two_processes_do_not_hold_one_folder(pair: Pair) -> None:
    """Each would take the other's files for damage."""
    with pytest.raises(LogLocked):
        Standby(pair.root, [KEY.verifier])
    with pytest.raises(UnknownName):
        pair.standby.take("no/such/log", b"")


@pytest.mark.parametrize("path", ["tile/0/000.p/44", "tile/entries/001.p/44", "tile/1/000.p/1"])
def test_a_copy_that_lost_something_says_so_and_takes_nothing(pair: Pair, path: str) -> None:
    """A standby that quietly begins anew would be no standby."""
    pair.files = files(entries(300))
    pair.sender.round()
    victim = pair.folder / path.replace("000.p/44", "001.p/44")
    victim.unlink()
    with pytest.raises((TileDamaged, TileMissing)):
        pair.reopen()
    pair.standby = Standby(pair.root, [])


def test_two_senders_of_one_log_are_no_fork(pair: Pair) -> None:
    """Somebody sends once by hand while the other goes on."""
    content = entries(300)
    pair.files = files(content[:5])
    first, second = pair.new_sender(), pair.new_sender()
    for size in (5, 6, 256, 270, 300):
        pair.files = files(content[:size])
        first.round()
        second.round()
        first, second = second, first
    assert pair.there() == pair.files


def test_a_sender_that_was_overtaken_within_its_round_goes_on(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy is longer than what this round looked at, and the log is too by now."""
    content = entries(300)
    pair.files = files(content[:5])
    pair.sender.round()
    pair.files = files(content[:6])
    real = pair.client.send

    def overtaken(origin: str, body: bytes) -> State:
        monkeypatch.setattr(pair.client, "send", real)
        pair.files = files(content)
        pair.new_sender().round()
        return real(origin, body)

    monkeypatch.setattr(pair.client, "send", overtaken)
    pair.sender.round()
    assert pair.there() == pair.files


def test_a_log_that_lost_a_file_is_named_and_the_rest_goes_on(pair: Pair) -> None:
    """Entries and hashes gone: nobody can send what is not there."""
    pair.files = files(entries(700))
    del pair.files["tile/entries/001"]
    del pair.files["tile/0/001"]
    with pytest.raises(TileMissing, match="cannot be read"):
        pair.sender.round()
    pair.files = {**files(entries(700)), "tile/entries/001": b"\0"}
    with pytest.raises(TileMissing):
        pair.new_sender().round()


# --- durable before it is acknowledged ----------------------------------------------------------


def test_a_crash_at_any_step_leaves_what_was_acknowledged_and_nothing_half() -> None:
    """The second copy must not be the weaker one."""
    content = entries(300)
    for at in range(200):
        disk = SimulatedDisk(stop_at=at)
        told = _take(disk, content, (1, 250, 258, 300))
        for name, left in disk.survivors():
            copy = Replica(left, KEY.verifier)
            assert copy.held.size >= told, f"stopped at {at} ({disk.history[-1]}), {name}"
            if copy.held.size:
                report = verify(files_of(left).get, KEY.verifier)
                assert codes(report) == set(), f"stopped at {at}, {name}"
            _take(left, content, (300,))
            assert codes(verify(files_of(left).get, KEY.verifier)) == set()
        if not disk.stopped:
            assert told == 300
            return
    pytest.fail("it does not end")


def _take(disk: SimulatedDisk, content: list[bytes], sizes: tuple[int, ...]) -> int:
    """Send a log in rounds until the disk stops; return what was acknowledged last."""
    told = 0
    try:
        copy = Replica(disk, KEY.verifier)
        for size in sizes:
            there = files(content[:size])
            (shot,) = snapshots([Source(KEY.verifier, there.get)])
            for body in bodies(shot, copy.state.pending):
                for part in wire.parse(body):
                    if part.kind == wire.NOTE:
                        copy.commit(part.items[0])
                        told = size
                    else:
                        copy.take(part)
    except OSError:
        pass
    return told


@pytest.mark.parametrize("lie", ["sync part.new", "sync .", "sync tile"])
def test_every_sync_of_the_copy_is_needed(lie: str) -> None:
    """A sync that does nothing must break a promise, or the test above proves nothing."""
    content, broken = entries(300), 0
    for at in range(120):
        disk = SimulatedDisk(stop_at=at, lies=frozenset({lie}))
        told = _take(disk, content, (1, 250, 258))
        for _, left in disk.survivors():
            try:
                copy = Replica(left, KEY.verifier)
                bad = copy.held.size < told
                bad |= copy.held.size > 0 and bool(codes(verify(files_of(left).get, KEY.verifier)))
            except (HistorySplit, TileDamaged, TileMissing):
                bad = True
            broken += bad
    assert broken


# --- erasing ------------------------------------------------------------------------------------


def test_what_is_erased_here_is_erased_there_by_the_same_receipt(pair: Pair) -> None:
    """A second copy that keeps what the first had to erase would be an offence of its own."""
    whole = files(entries(700))
    pair.files = dict(whole)
    pair.sender.round()
    receipt = erasure(ORIGIN, 0, 255)
    pair.evidence = files([receipt], EVIDENCE)
    del pair.files["tile/entries/000"]
    pair.sender.round()
    assert pair.there() == pair.files
    assert entries(1)[0][:60] not in b"".join(pair.there().values())


def test_a_receipt_that_came_while_the_standby_was_down_is_obeyed_at_its_start(
    pair: Pair,
) -> None:
    """And one for a log whose copy came later."""
    pair.evidence = files([erasure(ORIGIN, 256, 511)], EVIDENCE)
    pair.sender.round()
    pair.files = files(entries(700))
    pair.sender.round()
    assert "tile/entries/001" not in pair.there()
    (pair.folder / "tile/entries/001").write_bytes(pair.files["tile/entries/001"])
    pair.reopen()
    assert "tile/entries/001" not in pair.there()
    assert "tile/entries/000" in pair.there()


def test_a_log_that_was_erased_from_before_is_sent_with_its_hashes(pair: Pair) -> None:
    """A standby is set up after a year; what is gone is gone, and the rest verifies."""
    pair.files = files(entries(700))
    for gone in ("tile/entries/000", "tile/entries/001"):
        del pair.files[gone]
    pair.sender.round()
    assert pair.there() == pair.files
    report = verify(Folder(pair.folder), KEY.verifier)
    assert (report.findings, len(report.open_gaps)) == ((), 2)


def test_a_bundle_that_was_erased_while_its_first_half_had_been_sent(pair: Pair) -> None:
    """The standby was away for the whole time in between."""
    content = entries(700)
    pair.files = files(content[:100])
    pair.sender.round()
    pair.files = files(content)
    del pair.files["tile/entries/000"]
    pair.sender.round()
    assert pair.there() == pair.files


@pytest.mark.parametrize(
    ("first", "last", "gone"),
    [(0, 255, [0]), (0, 254, []), (1, 511, [1]), (0, 2**53 - 1, [0, 1]), (512, 767, [])],
)
def test_a_receipt_erases_whole_bundles_that_are_full_and_nothing_more(
    pair: Pair, first: int, last: int, gone: list[int]
) -> None:
    """It names entries; half a bundle is not for it to take, nor one that still grows."""
    pair.files = files(entries(700))
    pair.sender.round()
    pair.evidence = files([erasure(ORIGIN, first, last)], EVIDENCE)
    pair.sender.round()
    left = {path for path in pair.there() if path.startswith("tile/entries")}
    expected = {"tile/entries/000", "tile/entries/001", "tile/entries/002.p/188"}
    assert left == expected - {tiles.bundle_path(index) for index in gone}


def test_a_receipt_in_another_log_or_of_another_site_erases_nothing(pair: Pair) -> None:
    """Only a site's own controller erases, here as there."""
    pair.files = files([*entries(699), erasure(ORIGIN, 0, 255)])
    pair.evidence = files([erasure("other.example/gateway/event", 0, 255)], EVIDENCE)
    pair.sender.round()
    assert pair.there() == pair.files


# --- lag ----------------------------------------------------------------------------------------


def test_the_lag_is_what_is_lacking_and_how_long_the_oldest_of_it_has_been(pair: Pair) -> None:
    """Entries say how much would be lost, seconds whether that was promised."""
    (shot,) = snapshots(sources(pair, files(entries(300))))
    late = clock() + timedelta(seconds=12)
    assert lag_of(shot, 300, late).seconds == 0.0
    lag = lag_of(shot, 290, late)
    assert (lag.entries, lag.seconds) == (10, 12.0)
    assert lag_of(shot, 0, clock() - timedelta(seconds=5)).seconds == 0.0, "a clock set back"


def test_a_round_says_how_long_the_oldest_of_what_it_sent_had_been_here_alone(pair: Pair) -> None:
    """That it is there now is the smaller part of the truth."""
    pair.files = files(entries(3))
    (first,) = pair.sender.round()
    (second,) = pair.sender.round()
    assert (first.entries, second.entries) == (0, 0)
    assert first.seconds != second.seconds == 0.0 or clock() > datetime.now(UTC)


def test_the_register_is_read_first_and_sent_last(pair: Pair) -> None:
    """What the controller saw of a log must be in the copy of that log."""
    read: list[str] = []
    event, evidence = files(entries(2)), files(entries(1), EVIDENCE)

    def noted(name: str, content: dict[str, bytes]) -> Source:
        key = KEY if name == ORIGIN else EVIDENCE

        def read_(path: str) -> bytes | None:
            read.append(name)
            return content.get(path)

        return Source(key.verifier, read_)

    shots = snapshots([noted(ORIGIN, event), noted(EVIDENCE.name, evidence)])
    assert read[0] == EVIDENCE.name
    assert [shot.source.origin for shot in shots] == [ORIGIN, EVIDENCE.name]


def test_an_address_that_is_none_is_refused_before_anything_is_sent() -> None:
    """A token must not travel to wherever a typing slip leads."""
    wrong = ("ftp://x", "standby:1", "http://", "https://x/?y", "http://x:y", "http://[::1")
    for url in wrong:
        with pytest.raises(BadInput):
            Client(Where(url, TOKEN))


def test_a_standby_that_is_not_there_is_said_in_its_own_words(tmp_path: Path) -> None:
    """Exit 3 and safe to try again; not a trace."""
    for url in ("http://127.0.0.1:9", f"http://{'x' * 64}.example:1"):  # no label is that long
        with Client(Where(url, TOKEN)) as client, pytest.raises(StandbyUnreachable):
            client.held()


def test_a_real_log_is_copied_while_it_is_written(tmp_path: Path) -> None:
    """Files come and go under the sender's hands."""
    folder = tmp_path / "log"
    folder.mkdir()
    from sovereign.audit.log import create
    from tests.audit.scenario import append_group

    create(RealDisk(folder), KEY, clock)
    standby = Standby(tmp_path / "standby", [KEY.verifier])
    sender = Sender(Direct(standby), [Source(KEY.verifier, Folder(folder))])
    log = Log(RealDisk(folder), KEY, clock)
    for number in range(60):
        for ear in append_group(log, range(number * 10, number * 10 + 10)).values():
            ear.heard()
        if number % 6 == 0:
            sender.round()
    log.close()
    sender.round()
    copy = folder_of(tmp_path / "standby", ORIGIN)
    assert verify(Folder(copy), KEY.verifier).size == log.size == 602
    assert (copy / "checkpoint").read_bytes() == (folder / "checkpoint").read_bytes()
    standby.close()
    shutil.rmtree(copy)


def test_the_page_shows_the_frames_byte_by_byte() -> None:
    """A stranger's sender is right when it makes these."""
    page = (Path(__file__).parents[2] / "docs/formats/standby.md").read_text()
    for frame in (wire.entries(3, [b"{}", b"[]"]), wire.handover(1, b"a proof\n")):
        pieces = (frame[:4], frame[4:8], frame[8:16], frame[16:-32], frame[-32:-16], frame[-16:])
        assert all(f"    {piece.hex(' ')}" in page for piece in pieces)
        told = [line[4:51].strip() for line in page.splitlines() if line.startswith("    ")]
        assert frame.hex(" ").replace(" ", "") in "".join(told).replace(" ", "")
    for kind in (wire.ENTRIES, wire.HASHES, wire.HANDOVER, wire.NOTE):
        assert f"| `{kind.decode()}` |" in page
    assert f"{wire.BODY_MAX_BYTES // 2**20} MiB" in page
