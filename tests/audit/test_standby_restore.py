"""The machine is gone; its logs come back, and their writer goes on with the same history."""

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sovereign import fleet
from sovereign.audit import journal, trail
from sovereign.audit.copies import restore
from sovereign.audit.copies.restore import Copy, Restored, Target
from sovereign.audit.copies.standby import Standby, folder_of
from sovereign.audit.copies.standby_send import Sender, Source
from sovereign.audit.folder import Folder
from sovereign.audit.keys import handover
from sovereign.audit.note import SignerKey, VerifierKey
from sovereign.audit.trail import STREAMS, Trail
from sovereign.controller.watching import Watching
from sovereign.errors import (
    BadInput,
    HistorySplit,
    RestoreRefused,
    StandbyUnreachable,
    TileMissing,
)
from sovereign.settings import Home, Settings
from tests.audit.loglab import entries, files
from tests.audit.scenario import KEY, PATIENCE_S, clock, completion
from tests.audit.standing import Direct, served
from tests.retention.site import Site

EVENT = "local/gateway/event"
ROOT = Path(__file__).resolve().parents[2]


class Loss:
    """A site with a standby, and an empty machine to come back on."""

    def __init__(self, root: Path) -> None:
        self.site = Site(root / "machine")
        self.vkeys = [m.vkey for m in fleet.members(self.site.home) if m.vkey is not None]
        self.standby = Standby(root / "standby", self.vkeys)
        self.copies = root / "standby"
        self.fresh = Home(root / "fresh", Settings())
        self.target = Target(self.fresh.audit, self.fresh.keys, self.fresh.trust)

    def send(self) -> None:
        found = [
            Source(m.vkey, fleet.reader(m.folder))
            for m in fleet.members(self.site.home)
            if m.vkey is not None
        ]
        Sender(Direct(self.standby), found).round()

    def copy(self, vkey: VerifierKey) -> Copy:
        return Copy(vkey, Folder(folder_of(self.copies, vkey.name)))

    def restore(
        self, *, kept: list[bytes] | None = None, accept_loss: bool = False
    ) -> list[Restored]:
        return restore.restore(
            [self.copy(vkey) for vkey in self.vkeys],
            self.target,
            clock,
            source="standby",
            kept=kept or (),
            accept_loss=accept_loss,
        )

    def bring_keys(self) -> None:
        shutil.copytree(self.site.home.keys, self.fresh.keys)


@pytest.fixture
def loss(tmp_path: Path) -> Iterator[Loss]:
    it = Loss(tmp_path)
    yield it
    it.site.close()
    it.standby.close()


def findings(home: Home) -> dict[str, set[str]]:
    found = fleet.verify(home)
    assert found
    assert all(result.determined for result in found)
    return {r.origin: {f.code for f in r.findings} for r in found if r.findings}


def kinds(home: Home, origin: str) -> list[str]:
    member = next(m for m in fleet.members(home) if m.origin == origin)
    return [f["type"] for _, f in fleet.records(member, 0, fleet.size_of(member) or 0)]


# --- it comes back ------------------------------------------------------------------------------


def test_logs_come_back_whole_and_their_writer_goes_on(loss: Loss) -> None:
    """The same history, with a record that says what happened to it."""
    loss.site.decide(300)
    loss.site.settle()
    loss.send()
    loss.bring_keys()
    before = Folder(loss.site.member(EVENT).folder)("tile/entries/000")
    done = {each.origin: each for each in loss.restore()}
    assert set(done) == {vkey.name for vkey in loss.vkeys}
    assert all(each.reopened and not each.lost for each in done.values())
    assert done[EVENT].folder == loss.fresh.audit / "gateway/event"
    assert findings(loss.fresh) == {}
    assert Folder(done[EVENT].folder)("tile/entries/000") == before
    assert kinds(loss.fresh, EVENT)[-2:] == ["log-reopened", "log-restored"]
    opened = (loss.fresh.audit, loss.fresh.keys, "gateway", "local", clock)
    with Trail.open(*opened, trust=loss.fresh.trust) as again:
        again.record("completion", **completion(1)).result(PATIENCE_S)
    assert findings(loss.fresh) == {}


def test_without_private_keys_the_logs_are_there_to_be_read_and_nobody_goes_on(
    loss: Loss,
) -> None:
    """An auditor's machine; or one whose keys come later, from their own safe."""
    loss.site.settle()
    loss.send()
    assert not any(each.reopened for each in loss.restore())
    assert findings(loss.fresh) == {}
    assert "log-restored" not in kinds(loss.fresh, EVENT)
    with pytest.raises(Exception, match="the key that signs"):
        Trail.open(loss.fresh.audit, loss.fresh.keys, "gateway", "local", clock)
    loss.bring_keys()
    opened = (loss.fresh.audit, loss.fresh.keys, "gateway", "local", clock)
    Trail.open(*opened, trust=loss.fresh.trust).close()
    assert findings(loss.fresh) == {}


def test_another_private_key_does_not_take_the_log_up(loss: Loss) -> None:
    """It is back to be read; who signs on must be who signed before."""
    loss.site.settle()
    loss.send()
    loss.bring_keys()
    secret = loss.fresh.keys / "gateway-event.key"
    secret.write_text(SignerKey.generate(EVENT).dump())
    with pytest.raises(Exception, match="key"):
        loss.restore()
    read = Folder(loss.fresh.audit / "gateway/event")
    copied = Folder(folder_of(loss.copies, EVENT))("checkpoint")
    assert copied is not None
    assert read("checkpoint") == copied


def test_a_log_with_erased_entries_comes_back_with_its_gaps(loss: Loss) -> None:
    """What was erased on time must not come back from the second machine either."""
    site = loss.site
    site.decide(300)
    site.pass_days(2)
    site.seal()
    loss.send()
    site.pass_days(398)
    site.seal()
    assert any(each.item.sink == EVENT for each in site.run())
    site.settle()
    loss.send()
    loss.restore()
    assert findings(loss.fresh) == {}
    result = next(r for r in fleet.verify(loss.fresh) if r.origin == EVENT)
    assert result.erased >= 256


def test_a_round_that_broke_off_anywhere_leaves_copies_that_fit_together(loss: Loss) -> None:
    """What the controller says it saw of a log, the copy of that log has, or it looks cut short."""
    site, calls = loss.site, 12
    for number in range(calls):
        site.decide(5)
        site.settle()
        Watching(site.home, site.controller, lambda _: True).look(site.clock.now)
        site.settle()
        found = [
            Source(m.vkey, fleet.reader(m.folder))
            for m in fleet.members(site.home)
            if m.vkey is not None
        ]
        if number:
            line = Direct(loss.standby)
            line.fail_at = number
            with contextlib.suppress(StandbyUnreachable):
                Sender(line, found).round()
            done = loss.restore()
            assert len(done) == len(loss.vkeys)
            assert findings(loss.fresh) == {}
            shutil.rmtree(loss.fresh.root)
        loss.send()


def test_a_log_whose_key_was_replaced_is_followed_by_the_standby_and_comes_back(
    loss: Loss,
) -> None:
    """The standby was given the first key once; the handover leads it to the next."""
    site = loss.site
    site.decide(20)
    site.settle()
    loss.send()
    site.close()
    home = site.home
    folder = home.audit / "gateway/event"
    where = handover.Site.of(folder, home.keys, home.trust, "gateway-event", EVENT)
    handover.rotate(where, handover.FILE, "scheduled", clock)
    copy = folder_of(loss.copies, EVENT)
    (copy / "handover").mkdir()
    shutil.copy(folder / "handover/1", copy / "handover/1")  # a crash before its checkpoint
    loss.standby.close()
    loss.standby = Standby(loss.copies, loss.vkeys)
    site.gateway, site.controller = site.open("gateway"), site.open("controller")
    site.decide(20)
    site.settle()
    loss.send()
    loss.send()
    assert Folder(copy)("checkpoint") == Folder(folder)("checkpoint")
    loss.standby.close()
    loss.standby = Standby(loss.copies, loss.vkeys)
    loss.bring_keys()
    done = next(each for each in loss.restore() if each.origin == EVENT)
    assert done.reopened
    assert findings(loss.fresh) == {}


# --- it is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("there", ["a log", "a stray file", "a file in its place"])
def test_nothing_is_put_where_something_stands(loss: Loss, there: str) -> None:
    """What stands there may be the newest copy of all."""
    loss.site.settle()
    loss.send()
    folder = loss.fresh.audit / "gateway/event"
    if there == "a file in its place":
        folder.parent.mkdir(parents=True)
        folder.write_text("x")
    else:
        folder.mkdir(parents=True)
        (folder / ("checkpoint" if there == "a log" else "notes.txt")).write_text("x")
    with pytest.raises(RestoreRefused, match=EVENT):
        loss.restore()
    assert not (loss.fresh.audit / "controller").exists(), "all or none"
    assert not loss.target.staging.exists()


def test_an_empty_folder_is_no_obstacle_and_neither_is_its_own_pin(loss: Loss) -> None:
    """The host was prepared, and the pins came from the operator's safe."""
    loss.site.settle()
    loss.send()
    (loss.fresh.audit / "gateway/event").mkdir(parents=True)
    shutil.copytree(loss.site.home.trust, loss.fresh.trust)
    loss.restore()
    assert findings(loss.fresh) == {}


def test_a_pin_of_another_site_is_an_obstacle(loss: Loss) -> None:
    """Two sites on one machine would be one folder with two names."""
    loss.site.settle()
    loss.send()
    loss.fresh.trust.mkdir(parents=True)
    pin = trail.pin_path(loss.fresh.trust, "gateway", "event")
    pin.write_text(f"{SignerKey.generate('other/gateway/event').verifier}\n")
    with pytest.raises(RestoreRefused, match="another log"):
        loss.restore()


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("tile/entries/000", b"\0\0"),
        ("tile/0/000", bytes(8192)),
        ("tile/1/000.p/1", bytes(32)),
    ],
)
def test_a_copy_that_does_not_verify_is_not_put_in_place(
    loss: Loss, path: str, content: bytes
) -> None:
    """A standby can be tampered with as well; nothing of it is believed."""
    loss.site.decide(300)
    loss.site.settle()
    loss.send()
    (folder_of(loss.copies, EVENT) / path).write_bytes(content)
    with pytest.raises(RestoreRefused, match="does not verify"):
        loss.restore()
    assert not loss.fresh.audit.exists() or not list(loss.fresh.audit.rglob("checkpoint"))


def test_a_copy_that_is_not_whole_or_not_of_this_key_is_no_copy(loss: Loss) -> None:
    """Exit 3: look for another one."""
    loss.site.decide(300)
    loss.site.settle()
    loss.send()
    (folder_of(loss.copies, EVENT) / "tile/0/000").unlink()
    with pytest.raises(TileMissing, match="is gone from the copy"):
        loss.restore()
    loss.vkeys = [SignerKey.generate(EVENT).verifier]
    with pytest.raises(TileMissing, match="its key signed"):
        loss.restore()
    loss.vkeys = [SignerKey.generate("a/../b").verifier]
    with pytest.raises(BadInput):
        loss.restore()


def test_a_bundle_that_nobody_erased_is_missed(loss: Loss) -> None:
    """The standby lost a file, or somebody took one."""
    loss.site.decide(300)
    loss.site.settle()
    loss.send()
    (folder_of(loss.copies, EVENT) / "tile/entries/000").unlink()
    with pytest.raises(RestoreRefused, match="bundle-missing"):
        loss.restore()


def test_a_machine_put_back_whole_is_noticed_by_its_standby_and_its_writers_stand_still(
    loss: Loss, tmp_path: Path
) -> None:
    """Logs, keys, pins and memory of one moment fit together; only the other machine knows."""
    site, root = loss.site, loss.site.home.root
    site.decide(20)
    site.close()
    shutil.copytree(root, tmp_path / "image")
    site.gateway, site.controller = site.open("gateway"), site.open("controller")
    site.decide(20)
    site.settle()
    loss.send()
    site.close()
    shutil.rmtree(root)
    shutil.copytree(tmp_path / "image", root)
    assert findings(site.home) == {}, "nothing on this machine says anything"
    found = [
        Source(m.vkey, fleet.reader(m.folder), root / f"trust/{m.writer}-{m.stream}.standby")
        for m in fleet.members(site.home)
        if m.vkey is not None
    ]
    with pytest.raises(HistorySplit, match="more of it"):
        Sender(Direct(loss.standby), found).round()
    opened = (site.home.audit, site.home.keys, "gateway", "local", clock)
    with pytest.raises(HistorySplit, match="older than this machine remembers"):
        Trail.open(*opened, trust=site.home.trust)
    shutil.rmtree(site.home.audit)
    loss.target = Target(site.home.audit, site.home.keys, site.home.trust)
    assert all(each.reopened and not each.lost for each in loss.restore())
    assert findings(site.home) == {}
    site.gateway, site.controller = site.open("gateway"), site.open("controller")


# --- what was lost ------------------------------------------------------------------------------


def test_a_copy_that_lacks_what_is_known_is_refused_until_the_loss_is_accepted(
    loss: Loss,
) -> None:
    """A checkpoint that a witness or an auditor kept shows how much is gone."""
    loss.site.decide(20)
    loss.site.settle()
    loss.send()
    loss.site.decide(30)
    loss.site.settle()
    loss.bring_keys()
    newest = (loss.site.member(EVENT).folder / "checkpoint").read_bytes()
    with pytest.raises(RestoreRefused, match=r"lacks 3\d records") as refused:
        loss.restore(kept=[newest])
    assert "--accept-loss" in refused.value.accepted
    done = next(r for r in loss.restore(kept=[newest], accept_loss=True) if r.origin == EVENT)
    assert 30 <= done.lost < 40
    assert done.reopened


def test_what_this_machine_remembers_counts_and_stays_as_proof_of_the_loss(loss: Loss) -> None:
    """The folder is gone and `trust/` is not: it knows better than the copy."""
    loss.site.decide(20)
    loss.site.settle()
    loss.send()
    loss.site.decide(30)
    loss.site.settle()
    loss.bring_keys()
    newest = (loss.site.member(EVENT).folder / "checkpoint").read_bytes()
    loss.fresh.trust.mkdir(parents=True)
    kept = loss.fresh.trust / "gateway-event.checkpoint"
    kept.write_bytes(newest)
    with pytest.raises(RestoreRefused):
        loss.restore()
    loss.restore(accept_loss=True)
    assert kept.with_name("gateway-event.checkpoint.lost").read_bytes() == newest
    assert kept.read_bytes() != newest
    assert findings(loss.fresh) == {}


def test_another_history_is_refused_whatever_is_accepted(loss: Loss) -> None:
    """A loss can be accepted; two histories cannot."""
    loss.site.decide(20)
    loss.site.settle()
    loss.send()
    secret = SignerKey.parse((loss.site.home.keys / "gateway-event.key").read_text())
    other = files(entries(5), secret)["checkpoint"]
    with pytest.raises(RestoreRefused, match="history-split"):
        loss.restore(kept=[other], accept_loss=True)


def test_a_crash_before_a_log_is_in_place_leaves_a_run_that_can_be_repeated(
    loss: Loss, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Restoring is done on bad days."""
    loss.site.settle()
    loss.send()
    real, count = journal.base_frame, [0]

    def failing(size: int, root: bytes) -> bytes:
        count[0] += 1
        if count[0] == 4:
            raise OSError(28, "the disk is full")
        return real(size, root)

    monkeypatch.setattr(journal, "base_frame", failing)
    with pytest.raises(OSError, match="full"):
        loss.restore()
    there = {vkey for vkey in loss.vkeys if loss.target.folder_of(vkey).exists()}
    assert len(there) == 3
    loss.vkeys = [vkey for vkey in loss.vkeys if vkey not in there]
    loss.restore()
    assert findings(loss.fresh) == {}
    assert not loss.target.staging.exists()


def test_a_checkpoint_without_a_log_is_no_copy(tmp_path: Path) -> None:
    """An empty folder given by mistake must not look like an empty log."""
    with pytest.raises(TileMissing):
        restore.fetch(Copy(KEY.verifier, Folder(tmp_path / "nothing")), tmp_path / "staged")


# --- the whole of it, with processes ------------------------------------------------------------


def command(home: Path, *words: str) -> tuple[int, dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-m", "sovereign", "audit", *words, "--home", str(home), "--json"],
        capture_output=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    return done.returncode, json.loads(done.stdout or b"{}")


def test_after_a_kill_under_load_and_the_loss_of_the_disk_the_logs_come_back(
    tmp_path: Path,
) -> None:
    """Written, sent, killed, deleted, restored, verified: what is lost is within the recovery
    point, and a part of what was acknowledged; nothing is invented."""
    machine, fresh = tmp_path / "machine", tmp_path / "fresh"
    assert command(machine, "create", "--writer", "gateway")[0] == 0
    listed = command(machine, "standby", "keys")[1]["vkeys"]
    assert isinstance(listed, list)
    keys = [VerifierKey.parse(line) for line in listed]
    with served(tmp_path / "second", keys) as (where, standby):
        token = ["--token-file", str(tmp_path / "second/token")]
        sending = subprocess.Popen(
            [
                *(sys.executable, "-m", "sovereign", "audit", "standby", "push", "--follow"),
                *("--to", where.url, *token, "--home", str(machine)),
            ],
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
        )
        writing = subprocess.Popen(
            [sys.executable, "-m", "tests.audit.standby_writer", str(machine), "1000000000"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        told: list[tuple[float, int]] = []
        assert writing.stdout is not None
        try:
            while len(told) < 100 or time.monotonic() - told[0][0] < 4.0:
                line = writing.stdout.readline()
                assert line, "the writer ended by itself"
                told.append((time.monotonic(), int(line.split()[1])))
            writing.send_signal(signal.SIGKILL)
            told += [(time.monotonic(), int(line.split()[1])) for line in writing.stdout]
        finally:
            for each in (sending, writing):
                each.kill()
                each.wait(30)
        killed_at = told[-1][0]
        shutil.copytree(machine / "keys", tmp_path / "safe")
        shutil.rmtree(machine)

        standby.send_signal(signal.SIGKILL)  # the second machine has a bad day too
        standby.wait(30)
    with served(tmp_path / "second", keys) as (where, _):
        shutil.copytree(tmp_path / "safe", fresh / "keys")
        vkeys = ["--vkeys", str(tmp_path / "second/vkeys.txt")]
        code, back = command(fresh, "restore", "--from", where.url, *token, *vkeys)
        assert code == 0, back
        assert command(fresh, "restore", "--from", where.url, *token, *vkeys)[0] == 1
        assert command(fresh, "standby", "push", "--to", where.url, *token)[0] == 0
        code, lag = command(fresh, "standby", "status", "--to", where.url, *token)
        assert (code, lag["ok"]) == (0, True)
    logs = back["logs"]
    assert isinstance(logs, list)
    size = next(each["size"] for each in logs if each["origin"] == EVENT)
    assert {each["origin"] for each in logs} == {f"local/gateway/{stream}" for stream in STREAMS}
    code, verdict = command(fresh, "verify")
    assert (code, verdict["ok"]) == (0, True)

    lost = [at for at, index in told if index >= size]
    print(f"acknowledged {told[-1][1] + 1}, restored {size}, lost {told[-1][1] + 1 - size}")
    assert size > 2, "something was sent"
    assert not lost or killed_at - lost[0] <= 10.0, "older than the recovery point"
    assert size <= told[-1][1] + 1 + 40, "nothing that was not written"


def test_the_machine_that_was_thought_lost_cannot_go_on_beside_the_restored_one(
    loss: Loss,
) -> None:
    """It comes back from repair, with an older end; the standby takes the one history it knows."""
    loss.site.settle()
    loss.send()
    loss.bring_keys()
    loss.restore()
    opened = (loss.fresh.audit, loss.fresh.keys, "gateway", "local", clock)
    with Trail.open(*opened, trust=loss.fresh.trust) as again:
        again.record("completion", **completion(1)).result(PATIENCE_S)
    found = [
        Source(m.vkey, fleet.reader(m.folder))
        for m in fleet.members(loss.fresh)
        if m.vkey is not None
    ]
    Sender(Direct(loss.standby), found).round()
    with pytest.raises(HistorySplit):
        loss.send()
