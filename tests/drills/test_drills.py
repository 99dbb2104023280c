"""Each drill's yes and no, on real logs and without a process: tamper, restore, clock."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import msgspec
import pytest

from sovereign import fleet
from sovereign.audit import tiles
from sovereign.drills import clock, control, note, restore, tamper
from sovereign.drills.places import Finding, Looked
from sovereign.drills.restore import From, below
from sovereign.drills.result import Result, Verdict
from sovereign.drills.seek import Find
from sovereign.registry import Registry, utcnow
from sovereign.retention import Item, due
from sovereign.settings import Home, Settings, StandbySettings
from tests.controller.seen import POLICY
from tests.drills.conftest import RECORDS, write


def silent(_: str) -> None:
    pass


def newest(home: Home) -> tuple[str, str]:
    """Drill and verdict of the newest record of a drill."""
    (member,) = [m for m in fleet.members(home) if (m.writer, m.stream) == ("operator", "evidence")]
    found = [e for _, e in fleet.records(member, 0, fleet.size_of(member) or 0)]
    last = [entry for entry in found if entry["type"] == "drill"][-1]
    return last["drill"], last["verdict"]


def unchanged(home: Home) -> dict[str, bytes]:
    """Every log but the operator's, which the drill's own record goes into."""
    there = (p for p in home.audit.rglob("*") if p.is_file() and "operator" not in p.parts)
    return {str(path): path.read_bytes() for path in there}


def test_every_way_of_tampering_is_found_and_the_logs_are_left_alone(home: Home) -> None:
    """The claim is that tampering is noticed: shown on this site's own logs, not on a sample."""
    before = unchanged(home)
    result = tamper.drill(home, POLICY, silent)
    assert (result.verdict, result.findings) == (Verdict.PASSED, [])
    assert result.cases == 9 * (1 + len(tamper.WAYS)) + 1 + len(tamper.OWN_WAYS)
    found = {row["found"] for row in result.facts["ways"]}
    assert {"entry-differs", "cut-short", "history-split", "checkpoint-foreign"} <= found
    assert unchanged(home) == before
    assert newest(home) == ("tamper", "pass")
    assert [path.name for path in note.folder(home).iterdir()] == ["lock"]


def test_tampering_that_goes_unnoticed_is_a_finding(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drill that cannot fail would be a decoration."""
    monkeypatch.setitem(tamper.WAYS, "nothing at all is done", lambda _: None)
    result = tamper.drill(home, POLICY, silent)
    assert result.verdict is Verdict.FINDING
    assert all("nothing at all is done" in finding for finding in result.findings)
    assert newest(home) == ("tamper", "finding")


def test_logs_that_are_damaged_already_are_a_finding(home: Home) -> None:
    """The control fails first: whatever else is then found means nothing."""
    bundle = next((home.audit / "gateway/security/tile/entries").rglob("0*"))
    bundle.write_bytes(bundle.read_bytes()[:-1])
    result = tamper.drill(home, POLICY, silent)
    assert any("does not verify" in finding for finding in result.findings)


def copy_of(home: Home, target: Path) -> From:
    shutil.copytree(home.audit, target)
    return From("a folder", partial(below, target))


def test_a_copy_that_is_whole_is_restored_verified_and_measured(home: Home, tmp_path: Path) -> None:
    """Recovery time and recovery point are figures, not intentions."""
    before = unchanged(home)
    result = restore.drill(home, POLICY, copy_of(home, tmp_path / "copy"), silent)
    assert (result.verdict, result.findings, result.unknown) == (Verdict.PASSED, [], [])
    assert result.cases == 9
    assert result.facts["records"] > RECORDS
    assert (result.facts["recovery_point_s"], result.facts["recovery_time_s"] > 0) == (0, True)
    assert unchanged(home) == before
    assert [path.name for path in note.folder(home).iterdir()] == ["lock"]


def test_a_copy_that_lags_says_how_much_would_be_lost(home: Home, tmp_path: Path) -> None:
    """Within the recovery point it passes, and says so; past it, it is a finding."""
    old = copy_of(home, tmp_path / "copy")
    write(home, 5)
    within = restore.drill(home, POLICY, old, silent)
    lag = next(each for each in within.facts["logs"] if each["log"] == "local/gateway/security")
    assert lag["lacks"] >= 5
    assert within.verdict is Verdict.PASSED
    result = Result("restore", utcnow())
    behind = [{"log": "x", "lacks": 5, "behind_s": 11}]
    restore._judge_point(result, home, behind)
    assert result.findings == ["x: the copy lacks 5 records, up to 11 s old"]
    patient = Home(home.root, Settings(standby=StandbySettings(recovery_point_s=11)))
    result = Result("restore", utcnow())
    restore._judge_point(result, patient, behind)
    assert result.findings == []


@pytest.mark.parametrize("spoil", ["a torn bundle", "no checkpoint", "another log's key"])
def test_a_copy_that_is_damaged_is_a_finding(home: Home, tmp_path: Path, spoil: str) -> None:
    """A backup nobody restored is a hope."""
    given = copy_of(home, tmp_path / "copy")
    log = tmp_path / "copy/gateway/security"
    if spoil == "a torn bundle":
        bundle = next((log / "tile/entries").rglob("0*"))
        bundle.write_bytes(bundle.read_bytes()[:-3])
    elif spoil == "no checkpoint":
        (log / tiles.CHECKPOINT).unlink()
    else:
        shutil.copy(tmp_path / "copy/gateway/event" / tiles.CHECKPOINT, log / tiles.CHECKPOINT)
    result = restore.drill(home, POLICY, given, silent)
    assert result.verdict is Verdict.FINDING
    assert newest(home) == ("restore", "finding")


def test_no_copy_is_not_known_and_never_passes(home: Home) -> None:
    """A site without a second copy has not been shown to survive anything."""
    result = restore.drill(home, POLICY, None, silent)
    assert result.verdict is Verdict.UNKNOWN
    assert newest(home) == ("restore", "unknown")


def test_at_other_times_attestations_expire_and_records_come_due(home: Home) -> None:
    """What will be refused and erased is known before the day comes."""
    result = clock.drill(home, POLICY, silent)
    assert (result.verdict, result.findings) == (Verdict.PASSED, [])
    rows = {row["when"]: row for row in result.facts["times"]}
    assert rows["now"]["answering"] == rows["in 3 seconds"]["answering"] == ["local-llamacpp"]
    for when in ("an hour ago", "in an hour", "in 3 years"):
        assert rows[when]["refused"] == ["local-llamacpp: attestation-expired"], when
    assert rows["now"]["due"] == 0 < rows["in 3 years"]["due"]
    assert newest(home) == ("clock", "pass")


def test_an_endpoint_that_never_expires_is_a_finding(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the gateway did not look at the time, this is how it would be noticed."""
    snapshot = Registry(home.registry).snapshot()

    def always(*_: object) -> list[object]:
        return list(snapshot.endpoints)

    monkeypatch.setattr(clock, "answering", always)
    result = clock.drill(home, POLICY, silent)
    assert "in an hour: local-llamacpp would answer outside its attestation" in result.findings


AGES: list[tuple[str, timedelta, Callable[[int, int], timedelta], bool, str]] = [
    ("erased too early", timedelta(days=-1), lambda low, _: timedelta(days=low), True, "before"),
    ("erased in time", timedelta(0), lambda low, _: timedelta(days=low), True, ""),
    ("kept too long", timedelta(0), lambda _, most: timedelta(days=most), False, "past"),
    ("kept as long as may be", timedelta(seconds=-1), lambda _, m: timedelta(days=m), False, ""),
]


@pytest.mark.parametrize(("name", "more", "age", "goes", "fault"), AGES, ids=lambda v: str(v)[:24])
def test_what_goes_too_early_or_stays_too_long_is_told(
    name: str,
    more: timedelta,
    age: Callable[[int, int], timedelta],
    goes: bool,
    fault: str,
) -> None:
    """The two sides of one promise."""
    kept = POLICY.retention["event"]
    assert isinstance(kept.max_days, int)
    now = datetime(2026, 11, 25, tzinfo=UTC)
    born = now - age(kept.min_days, kept.max_days) - more
    item = Item("log", "bundle", "event", born, born)
    erasures = tuple(due(POLICY, [item], now + timedelta(days=9000))) if goes else ()
    found = clock.faults(POLICY, [item], erasures, now, "now")
    assert bool(found) is bool(fault), name
    assert all(f" {fault} " in each for each in found)
    held = replace(item, held=True)
    assert goes or clock.faults(POLICY, [held], (), now, "now") == []


def test_a_site_that_serves_nothing_is_not_known(home: Home) -> None:
    """No endpoint, no promise kept."""
    home.registry.unlink()
    assert clock.drill(home, POLICY, silent).verdict is Verdict.UNKNOWN


def test_summer_time_begins_and_ends_when_the_law_says() -> None:
    """Known days: 2027 and 2028."""
    assert clock._last_sunday(2027, 3) == datetime(2027, 3, 28, 1, tzinfo=UTC)
    assert clock._last_sunday(2028, 10) == datetime(2028, 10, 29, 1, tzinfo=UTC)
    assert clock._last_sunday(2026, 10).weekday() == 6


@pytest.mark.parametrize("drill", [tamper, restore, clock], ids=lambda m: m.NAME)
def test_a_plan_does_nothing(home: Home, drill: object) -> None:
    """`--dry-run` is how an operator finds out what a drill is."""
    before = {p: p.stat().st_mtime_ns for p in home.root.rglob("*")}
    planned = (
        restore.plan(home, "")
        if drill is restore
        else (tamper if drill is tamper else clock).plan(home, POLICY)
    )
    assert msgspec.json.encode(planned)
    assert {p: p.stat().st_mtime_ns for p in home.root.rglob("*")} == before


@pytest.mark.parametrize(
    ("field", "where", "taken_out"),
    [
        (control.WRITTEN, "drills/control/spelled-14", True),
        (control.WRITTEN, "logs/engine.log", False),
        ("stop", "drills/control/spelled-14", False),
    ],
)
def test_what_a_model_repeats_of_a_canary_is_no_leak_in_the_control_itself(
    tmp_path: Path, field: str, where: str, taken_out: bool
) -> None:
    """The drill wrote that file itself, later; a client's word in it is still a leak."""
    find = Finding("files", where, Find("base64 at 2", field, "/v1/chat/completions, streamed"))
    looked = Looked("files", findings={find})
    control.judge([looked], tmp_path / "drills/control", set(), tmp_path)
    assert (not looked.findings) is taken_out
