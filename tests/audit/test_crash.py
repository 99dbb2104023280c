"""Stop the machine at every operation, open what may be left, and hold the log to its word."""

from collections.abc import Iterator

import pytest

from sovereign.audit import journal, log
from sovereign.audit.log import Log
from sovereign.errors import LogMissing
from tests.audit.scenario import KEY, Run, clock, faults, reopen
from tests.simulated.disk import SimulatedDisk, files_of

LIFE = ("create", "open", 1, 2, "close", "open", 3, 1, "close")
ACROSS_A_TILE = ("create", "open", 250, 2, 2, 3, 1, "close", "open", 2, "close")
OPERATIONS_MAX = 600


@pytest.fixture(
    params=["published at once", "published when settled", "settled often", "settled when full"]
)
def pace(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How soon steps 6 and 7 follow; set, so that a run is the same each time."""
    at_once = request.param != "published when settled"
    if request.param == "settled when full":
        monkeypatch.setattr(log, "SETTLE_AFTER", 1)
    monkeypatch.setattr(log, "PUBLISH_EVERY_S", 0.0 if at_once else 3600.0)
    monkeypatch.setattr(log, "JOURNAL_MAX_BYTES", 1500 if request.param == "settled often" else 1e9)
    return str(request.param)


def stopped_runs(script: tuple[str | int, ...], first: int = 0) -> Iterator[tuple[int, Run]]:
    """The script, stopped at each operation in turn, and at last not at all."""
    for at in range(first, OPERATIONS_MAX):
        run = Run(SimulatedDisk(stop_at=at)).play(script)
        yield at, run
        if not run.disk.stopped:
            return
    pytest.fail(f"more than {OPERATIONS_MAX} operations")


def broken_promises(script: tuple[str | int, ...], lies: frozenset[str]) -> list[str]:
    """The faults found after any stop of a script on a disk that lies."""
    whole = Run(SimulatedDisk(lies=lies)).play(script)
    found = []
    for at in range(whole.disk.operations + 1):
        run = Run(SimulatedDisk(stop_at=at, lies=lies)).play(script)
        for name, left in run.disk.survivors():
            found += [f"{at} {name}: {fault}" for fault in faults(run, left)]
    return found


@pytest.mark.usefixtures("pace")
def test_reopening_after_a_crash_at_any_step_of_its_life_loses_nothing_acknowledged() -> None:
    """The promise everything else stands on: told is kept, once, under every root ever served."""
    states = 0
    for at, run in stopped_runs(LIFE):
        for name, left in run.disk.survivors():
            doing = run.disk.history[-1]
            assert faults(run, left) == [], f"stopped at {at} ({doing}), {name}"
            states += 1
    assert states > 200, "the disk was hardly disturbed"
    assert run.acknowledged.keys() == set(range(7)), "the last run goes through"


@pytest.mark.parametrize(
    "pace", ["published at once", "settled often", "settled when full"], indirect=True
)
def test_a_crash_while_a_tile_becomes_full_loses_nothing_acknowledged(pace: str) -> None:
    """At the 256th entry partial files are swept and a level begins: most files change places."""
    for at, run in stopped_runs(ACROSS_A_TILE, first=30):
        for name, left in run.disk.survivors():
            where = f"{pace}: stopped at {at} ({run.disk.history[-1]}), {name}"
            assert not run.created or forgotten(left) == set(), where
            assert faults(run, left) == [], where
            assert forgotten(left) == set(), where
    assert len(run.acknowledged) == 260


def forgotten(left: SimulatedDisk) -> set[str]:
    """Partial files of what the journal takes for durably full: nothing would remove them."""
    files = files_of(left)
    full = journal.parse(files["journal"]).base // 256
    partial = [path.split(".p/")[0] for path in files if ".p/" in path]
    return {path for path in partial if "/1/" not in path and int(path[-3:]) < full}


@pytest.mark.parametrize(
    "pace", ["published at once", "settled often", "settled when full"], indirect=True
)
def test_a_crash_during_the_recovery_from_a_crash_loses_nothing_acknowledged(pace: str) -> None:
    """Machines that lose power once tend to do so twice."""
    script = ("create", "open", 251, 2, 1, 4)
    whole = Run(SimulatedDisk()).play(script).disk.operations
    for at in range(whole - 16, whole, 8):
        run = Run(SimulatedDisk(stop_at=at)).play(script)
        for name, left in run.disk.survivors():
            if name in ("lost", "kept"):
                _recover_with_stops(run, left, f"{pace}: stopped at {at}, {name}")


def _recover_with_stops(run: Run, left: SimulatedDisk, where: str) -> None:
    for second in range(OPERATIONS_MAX):
        disk = left.copied(stop_at=second)
        again = Run(disk).play(("open", "close"))
        for name, twice in disk.survivors():
            assert faults(run, twice) == [], f"{where}; again at {second}, {name}"
        if not again.disk.stopped:
            return
    pytest.fail("recovery does not end")


@pytest.mark.parametrize(
    "lie",
    [
        "fdatasync journal",  # AppendFile.sync: what an acknowledgement rests on
        "sync journal.new",
        "sync .",
        "sync tile",
        "sync checkpoint.new",
    ],
)
def test_every_sync_is_needed_and_taking_it_out_is_noticed(
    lie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sync that does nothing must break a promise here, or these tests prove nothing."""
    monkeypatch.setattr(log, "PUBLISH_EVERY_S", 0.0)
    monkeypatch.setattr(log, "JOURNAL_MAX_BYTES", 1500)
    script = ("create", "open", 1, 2, 1, "close", "open", 1)
    found = broken_promises(script, frozenset({lie}))
    assert found, f"nothing depends on {lie!r}"
    if lie == "fdatasync journal":
        assert any("was acknowledged" in fault and "is lost" in fault for fault in found)


def test_a_full_tile_is_replaced_only_by_a_synced_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its partial files are gone by then, so recovery has nothing else to start from."""
    monkeypatch.setattr(log, "PUBLISH_EVERY_S", 0.0)
    script = ("create", "open", 251, "close", "open", 5, "close")
    history = Run(SimulatedDisk()).play(script).disk.history
    swap = len(history) - 1 - history[::-1].index("write journal.new")
    run = Run(SimulatedDisk(stop_at=swap)).play(script)
    swept = dict(run.disk.survivors())["kept"]

    def found(lies: frozenset[str]) -> list[str]:
        faulty = []
        for second in range(40):
            disk = swept.copied(stop_at=second, lies=lies)
            Run(disk).play(("open", "close"))
            for _, left in disk.survivors():
                faulty += faults(run, left)
        return faulty

    assert found(frozenset()) == []
    assert found(frozenset({"sync part.new"}))


def test_a_crash_before_a_log_is_created_leaves_nothing_that_opens_by_itself() -> None:
    """An empty disk must never become an empty log without somebody asking for one."""
    refused = 0
    for _, run in stopped_runs(("create",)):
        for _, left in run.disk.survivors():
            if run.created:
                Log(left, KEY, clock).close()
                continue
            try:
                Log(left, KEY, clock).close()
            except LogMissing:
                refused += 1
                reopen(left, created=False)
    assert refused > 5
    with pytest.raises(LogMissing):
        Log(SimulatedDisk(), KEY, clock)
