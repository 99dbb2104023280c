"""A clock that is set back is written down by the writer, and found where it is not."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from sovereign.audit import record
from sovereign.audit.clockwise import SLACK, Times, went_back
from sovereign.audit.exports import offline_verifier, schema
from sovereign.audit.log import Log
from sovereign.audit.verify import verify
from tests.audit.loglab import files
from tests.audit.scenario import KEY, NOW, ORIGIN, Run, append_group, completion, read_log
from tests.simulated.disk import SimulatedDisk, files_of

BIT = timedelta(microseconds=1)


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def entry(number: int, at: datetime) -> bytes:
    return record.encode("completion", completion(number), at, b"\x07" * 16)


def note(at: datetime) -> bytes:
    return record.encode("clock-set-back", {"was": record.written(NOW)}, at, b"\x07" * 16)


def found_in(content: list[bytes]) -> list[tuple[str, str]]:
    report = verify(files(content).get, KEY.verifier, receipts=())
    return [(each.code, each.where) for each in report.findings]


@pytest.mark.parametrize("where", [2, 100, 256, 300])
@pytest.mark.parametrize(("by", "found"), [(SLACK, False), (SLACK + BIT, True)])
def test_a_record_that_is_older_than_one_before_it_is_found(
    where: int, by: timedelta, found: bool
) -> None:
    """In a bundle and across two; at the slack it is not yet one, a microsecond on it is."""
    content = [entry(n, NOW if n < where else NOW - by) for n in range(600)]
    wanted = [("clock-set-back", f"{ORIGIN}#{where}")] if found else []
    assert found_in(content) == wanted


def test_a_record_that_says_so_excuses_it_and_time_goes_on_from_there() -> None:
    """Machines wake up with a wrong clock: an honest writer must be able to say it."""
    early = NOW - timedelta(days=3)
    said = [entry(0, NOW), entry(1, NOW), note(early), entry(2, early), entry(3, early + SLACK)]
    assert found_in(said) == []
    again = [*said, entry(4, early - BIT)]
    assert found_in(again) == [("clock-set-back", f"{ORIGIN}#5")]
    late = [*said[:2], entry(2, early), note(early)]
    assert found_in(late) == [("clock-set-back", f"{ORIGIN}#2")], "not said before it counted"


def test_many_small_steps_are_one_great_one() -> None:
    """Each is within the slack; together they would date a record back at will."""
    content = [entry(n, NOW - n * timedelta(minutes=25)) for n in range(1, 9)]
    assert [where for _, where in found_in(content)] == [f"{ORIGIN}#4", f"{ORIGIN}#7"]


def test_records_across_an_erased_bundle_are_still_compared() -> None:
    """What is gone cannot hide that time went back over it."""
    content = [entry(n, NOW if n < 512 else NOW - 2 * SLACK) for n in range(600)]
    there = {path: data for path, data in files(content).items() if path != "tile/entries/001"}
    report = verify(there.get, KEY.verifier)
    assert [each.where for each in report.findings] == [f"{ORIGIN}#512"]


def test_the_first_record_of_a_log_says_nothing_about_its_writers_clock() -> None:
    """A site is set up before its clock is."""
    assert found_in([entry(0, NOW + timedelta(days=400)), entry(1, NOW)]) == []


def test_a_writer_says_when_its_clock_was_set_back_and_its_log_stays_sound() -> None:
    """While it writes, and when it takes the log up again."""
    clock, disk = Clock(), Run(SimulatedDisk()).play(("create",)).disk
    target = Log(disk, KEY, clock)
    assert append_group(target, [0])[0].heard() == 2
    clock.now -= SLACK
    assert append_group(target, [1])[1].heard() == 3, "within the slack nothing is said"
    clock.now -= BIT
    assert append_group(target, [2])[2].heard() == 5, "it is said before the record"
    assert append_group(target, [3])[3].heard() == 6, "and said once"
    target.seal()
    target.close()
    clock.now -= timedelta(days=2)
    Log(disk, KEY, clock).close()
    there = files_of(disk)
    assert verify(there.get, KEY.verifier).findings == ()
    told = [record.parse(each) for each in read_log(there)[1]]
    assert [each["type"] for each in told if each["type"] not in ("completion", "filler")] == [
        "log-created",
        "log-reopened",
        "clock-set-back",
        "clock-set-back",
        "log-reopened",
    ]
    (first, _) = (each for each in told if each["type"] == "clock-set-back")
    assert first["was"] == record.written(NOW)


def test_a_clock_that_is_slow_or_ahead_is_none_that_was_set_back() -> None:
    """The edge, and a log without records."""
    assert not went_back(None, NOW)
    assert not went_back(NOW, NOW - SLACK)
    assert went_back(NOW, NOW - SLACK - BIT)
    assert list(Times().steps_back([(1, record.written(NOW), False)])) == []


def test_the_offline_verifier_finds_it_too(tmp_path: Path) -> None:
    """Whoever has an export and nothing of ours must be told the same."""
    table = offline_verifier.Schema(schema.schema())
    for by, found in ((SLACK - BIT, []), (timedelta(hours=2), [("clock-set-back", f"{ORIGIN}#2")])):
        log = offline_verifier.Log(ORIGIN, 0, "", 0, 0, [], tmp_path)
        content = [entry(0, NOW + timedelta(days=9)), entry(1, NOW), entry(2, NOW - by)]
        for index, each in enumerate(content):
            offline_verifier._read_record(log, table, index, each)
        assert log.findings == found
    log = offline_verifier.Log(ORIGIN, 0, "", 0, 0, [], tmp_path)
    early = NOW - timedelta(days=2)
    for index, each in enumerate([entry(0, NOW), entry(1, NOW), note(early), entry(3, early)]):
        offline_verifier._read_record(log, table, index, each)
    assert log.findings == []
