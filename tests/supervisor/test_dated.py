"""Logs of processes: one file a day, with a bound, and nothing lost before it."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from sovereign import dated
from sovereign.dated import DatedLog, DatedStream, day_of

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def test_a_new_day_is_a_new_file(tmp_path: Path) -> None:
    """Retention erases by day; a file that spans two could only go with both."""
    log = DatedLog(tmp_path, "gateway")
    log.write(b"one\n", NOON)
    log.write(b"two\n", NOON + timedelta(hours=11, minutes=59))
    log.write(b"three\n", NOON + timedelta(hours=12))
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert found == {
        "gateway.2026-11-24.log": b"one\ntwo\n",
        "gateway.2026-11-25.log": b"three\n",
    }


@pytest.mark.parametrize("room", [0, 5, len(dated._FULL), 400])
def test_past_the_bound_the_rest_of_the_day_is_dropped_and_the_file_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """A process in a loop must not fill the disk that the audit log needs."""
    monkeypatch.setattr(dated, "DAY_MAX_BYTES", 1000)
    log = DatedLog(tmp_path, "engine")
    log.write(b"x" * (1000 - room), NOON)
    for _ in range(50):
        log.write(b"z" * 500, NOON)
    (path,) = tmp_path.iterdir()
    raw = path.read_bytes()
    assert len(raw) <= 1000 + len(dated._FULL)
    assert b"z" not in raw
    assert (dated._FULL in raw) is (room > 0)
    log.write(b"tomorrow", NOON + timedelta(days=1))
    assert (tmp_path / "engine.2026-11-25.log").read_bytes() == b"tomorrow"


@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("gateway.2026-11-24.log", datetime(2026, 11, 24, tzinfo=UTC)),
        ("a.b.2026-01-02.log", datetime(2026, 1, 2, tzinfo=UTC)),
        ("supervisor.start.log", None),
        ("log", None),
        ("gateway.2026-13-01.log", None),
    ],
)
def test_a_files_day_is_read_off_its_name(name: str, day: datetime | None) -> None:
    """A name that says nothing leaves the age to the file's own time."""
    assert day_of(Path(name)) == day


def test_a_stream_writes_at_once_and_keeps_what_cannot_be_encoded_out(tmp_path: Path) -> None:
    """The last line before a crash is the one that is read."""
    stream = DatedStream(DatedLog(tmp_path, "supervisor"), lambda: NOON)
    assert stream.write("zoë\ud800\n") == 5
    assert (tmp_path / "supervisor.2026-11-24.log").read_bytes() == "zoë?\n".encode()


def test_the_day_is_that_of_utc(tmp_path: Path) -> None:
    """Two machines in two countries must name the same day."""
    log = DatedLog(tmp_path, "x")
    log.write(b"x", datetime(2026, 11, 25, 1, tzinfo=timezone(timedelta(hours=2))))
    assert [path.name for path in tmp_path.iterdir()] == ["x.2026-11-24.log"]
