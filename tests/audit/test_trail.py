"""A writer's logs behind one verb: where records go, what they are called, what restarts leave."""

import asyncio
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from sovereign.audit import record, tiles
from sovereign.audit.disk import RealDisk
from sovereign.audit.note import SignerKey, VerifierKey
from sovereign.audit.record import STREAMS
from sovereign.audit.trail import Recorded, Trail, create, origin_of, pin_path
from sovereign.errors import LogLocked, LogMissing, RecordInvalid
from sovereign.fleet import reader
from tests.audit.loglab import verdict
from tests.audit.scenario import NOW, PATIENCE_S, clock, completion

SITE, WRITER = "test.example", "gateway"


class Place:
    """The three folders of a site: logs, private keys, pinned keys."""

    def __init__(self, root: Path) -> None:
        self.audit, self.keys, self.trust = root / "audit", root / "keys", root / "trust"

    def create(self) -> bool:
        return create(self.audit, self.keys, self.trust, WRITER, SITE)

    def open(self) -> Trail:
        return Trail.open(self.audit, self.keys, WRITER, SITE, clock)

    def files(self, stream: str) -> dict[str, bytes]:
        folder = self.audit / WRITER / stream
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }

    def vkey(self, stream: str) -> VerifierKey:
        return VerifierKey.parse(pin_path(self.trust, WRITER, stream).read_text())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "deep" / "below")


def test_creating_makes_three_logs_that_verify_and_a_second_time_makes_none(place: Place) -> None:
    """`make deploy` runs it each time; only the first may change anything."""
    assert place.create() is True
    before = {stream: place.files(stream) for stream in STREAMS}
    assert place.create() is False
    assert {stream: place.files(stream) for stream in STREAMS} == before
    for stream in STREAMS:
        report = verdict(place.files(stream), place.vkey(stream))
        assert (report.findings, report.size) == ((), 1)
        assert report.origin == origin_of(SITE, WRITER, stream) == f"test.example/gateway/{stream}"


def test_private_keys_are_for_their_writer_alone(place: Place) -> None:
    """Whoever reads the key can write the log's history anew."""
    place.create()
    keys = sorted(place.keys.iterdir())
    assert len(keys) == 3
    assert {path.stat().st_mode & 0o777 for path in keys} == {0o600}
    assert not any("PRIVATE" in path.read_text() for path in place.trust.iterdir())


def test_a_pinned_log_that_is_gone_is_never_made_anew(place: Place) -> None:
    """That would turn a loss into an empty log that verifies."""
    place.create()
    (place.audit / WRITER / "event" / "journal").unlink()
    with pytest.raises(LogMissing):
        place.create()
    with pytest.raises(LogMissing):
        place.open()


def test_creating_goes_on_where_a_crash_left_it(place: Place) -> None:
    """Key, log, pin: in that order, so every point in between has one way on."""
    place.create()
    kept = place.vkey("event")
    pin_path(place.trust, WRITER, "event").unlink()
    assert place.create() is True
    assert place.vkey("event") == kept, "with the key that was there"


def test_the_names_of_the_folders_are_durable_before_the_pin_is(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pin that survives a crash which took the log's folder would accuse the operator."""
    synced: list[Path] = []
    real = RealDisk.sync

    def sync(disk: RealDisk, path: str) -> None:
        synced.append((disk.root / path).resolve())
        real(disk, path)

    monkeypatch.setattr(RealDisk, "sync", sync)
    place.create()
    pinned = synced.index(place.trust.resolve())
    for folder in (place.audit / WRITER, place.audit, place.audit.parent, place.audit.parents[1]):
        assert folder.resolve() in synced[:pinned], f"{folder} was not synced in time"


def test_records_go_to_their_stream_and_are_called_by_origin_and_index(place: Place) -> None:
    """The table says where; the name is what headers, tickets and proofs use."""
    place.create()
    with place.open() as trail:
        event = trail.record("completion", **completion(1)).result(PATIENCE_S)
        other = trail.record("policy-loaded", policy="ab" * 32, profile="eea").result(PATIENCE_S)
        again = trail.record("completion", **completion(2)).result(PATIENCE_S)
    assert event == Recorded("test.example/gateway/event#2", 2)
    assert other == Recorded("test.example/gateway/evidence#2", 2)
    assert again.name == "test.example/gateway/event#3"
    for stream in STREAMS:
        assert verdict(place.files(stream), place.vkey(stream)).findings == ()


def test_a_record_that_belongs_to_no_stream_is_refused(place: Place) -> None:
    """The log's own records are not for callers, and a typing slip has no stream at all."""
    place.create()
    with place.open() as trail:
        for kind in ("filler", "log-created", "log-reopened", "prompt"):
            with pytest.raises(RecordInvalid):
                trail.record(kind)
        with pytest.raises(RecordInvalid):
            trail.record("completion", decision="Dear model")
        assert trail.failure is None


def test_a_second_writer_of_the_same_name_is_locked_out_and_leaves_nothing_locked(
    place: Place,
) -> None:
    """A supervisor that starts two gateways must get one gateway and one clear refusal."""
    place.create()
    with place.open() as trail:
        with pytest.raises(LogLocked):
            place.open()
        trail.record("completion", **completion(1)).result(PATIENCE_S)
    place.open().close()


def test_who_is_willing_to_wait_gets_the_log_once_it_is_free(place: Place) -> None:
    """Two commands given at the same time are two commands, not a refusal."""
    place.create()
    first = place.open()
    letting_go = threading.Timer(0.3, first.close)
    letting_go.start()
    try:
        second = Trail.open(place.audit, place.keys, WRITER, SITE, clock, wait_s=PATIENCE_S)
        second.record("completion", **completion(1)).result(PATIENCE_S)
        second.close()
    finally:
        letting_go.join()
    with place.open(), pytest.raises(LogLocked):
        Trail.open(place.audit, place.keys, WRITER, SITE, clock, wait_s=0.1)


def test_a_coroutine_that_was_cancelled_costs_nothing_but_its_own_answer(place: Place) -> None:
    """Clients hang up while their record is on its way; the log goes on for the others."""
    place.create()

    async def hang_up_and_go_on(trail: Trail) -> Recorded:
        gone = asyncio.create_task(trail.arecord("completion", **completion(1)))
        await asyncio.sleep(0)
        gone.cancel()
        future = trail.record("completion", **completion(2))
        future.cancel()
        return await asyncio.wait_for(trail.arecord("completion", **completion(3)), PATIENCE_S)

    with place.open() as trail:
        last = asyncio.run(hang_up_and_go_on(trail))
        late = trail.record("completion", **completion(4)).result(PATIENCE_S)
        assert trail.failure is None
    assert (last.index, late.index) == (4, 5), "what was queued is recorded all the same"


def test_a_quiet_stream_is_sealed_once_its_bundle_is_older_than_its_span(tmp_path: Path) -> None:
    """Otherwise one record a day would keep a bundle open for 256 days."""
    place, now = Place(tmp_path), [NOW]
    place.create()
    trail = Trail.open(place.audit, place.keys, WRITER, SITE, lambda: now[0])
    trail.record("completion", **completion(1)).result(PATIENCE_S)
    day = {"event": timedelta(days=1)}
    trail.seal_older(day)
    now[0] += timedelta(days=2)
    trail.seal_older(day)
    trail.close()
    read = reader(place.audit / WRITER / "event")
    assert read("tile/entries/000") is not None
    assert read("tile/entries/000.p/3") is None, "no copy of its entries is left"
    report = verdict(place.files("event"), place.vkey("event"))
    assert (report.findings, report.size) == ((), 256)
    journal = place.files("event")["journal"]
    assert b"SVJg" not in journal, "nor in the journal"
    kinds = [record.parse(e)["type"] for e in _entries(place)]
    assert kinds[:3] == ["log-created", "log-reopened", "completion"]
    assert set(kinds[3:]) == {"filler"}


def _entries(place: Place) -> list[bytes]:
    return tiles.unpack(place.files("event")["tile/entries/000"])


def test_a_foreign_private_key_does_not_open_the_log(place: Place) -> None:
    """Restored from the wrong backup: it must be noticed before anything is signed."""
    place.create()
    path = place.keys / f"{WRITER}-event.key"
    path.write_text(SignerKey.generate(origin_of(SITE, WRITER, "event")).dump())
    before = place.files("event")
    with pytest.raises(Exception, match="key"):
        place.open()
    assert place.files("event") == before
