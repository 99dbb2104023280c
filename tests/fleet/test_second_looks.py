"""Somebody who shows one thing first and another later, or one thing twice, must gain nothing."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sovereign import fleet
from sovereign.audit import record, tiles, trail
from sovereign.audit.disk import RealDisk
from sovereign.audit.keys import handover
from sovereign.audit.merkle import leaf_hash
from sovereign.audit.note import SignerKey
from sovereign.audit.witnesses import submit
from sovereign.audit.witnesses.witness import Witness
from sovereign.audit.witnesses.witness_home import WitnessHome
from sovereign.errors import BadInput
from sovereign.settings import Home, Settings
from tests.audit.loglab import files
from tests.audit.scenario import NOW

REGISTER = SignerKey.generate("site/controller/evidence")
EVENT = SignerKey.generate("site/gateway/event")
SECURITY = SignerKey.generate("site/gateway/security")
FORGER = SignerKey.generate(EVENT.name)
Files = dict[str, bytes]
Read = Callable[[str], bytes | None]


def created(key: SignerKey) -> bytes:
    return record.encode("log-created", {"origin": key.name}, NOW)


def registered(key: SignerKey) -> bytes:
    return record.encode("writer-registered", {"log": key.name, "vkey": str(key.verifier)}, NOW)


def fillers(count: int, at: datetime = NOW) -> list[bytes]:
    return [record.encode("filler", {}, at) for _ in range(count)]


def put(content: Files, root: Path) -> Path:
    for path, data in content.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def changing(first: Files, later: Files, path: str) -> Read:
    """A server that gives one file as it was the first time, and another from then on."""
    asked = []

    def read(wanted: str) -> bytes | None:
        if wanted != path:
            return first.get(wanted)
        asked.append(wanted)
        return (first if len(asked) == 1 else later).get(wanted)

    return read


def codes(results: tuple[fleet.Result, ...]) -> dict[str, set[str]]:
    return {r.origin: {f.code for f in r.findings} for r in results}


def test_a_register_that_changes_after_it_was_verified_leads_to_no_forged_key() -> None:
    """The keys of all other logs follow from it, so what counts is what was verified."""
    true = files(
        [created(REGISTER), registered(REGISTER), registered(EVENT), *fillers(5)], REGISTER
    )
    (bundle,) = [path for path in true if "entries" in path]
    forged = [created(REGISTER), registered(REGISTER), registered(FORGER), *fillers(5)]
    server = changing(true, {**true, bundle: tiles.pack(forged)}, bundle)
    made_up = files([created(FORGER), *fillers(3)], FORGER).get
    results = fleet.verify_folders([server, made_up], [REGISTER.verifier], [])
    assert "checkpoint-foreign" in codes(results)[EVENT.name]


def test_records_are_checked_against_the_tile_the_root_comes_from() -> None:
    """With a kept checkpoint in its middle a tile is looked at twice."""
    entries = [created(EVENT), *fillers(400)]
    true, kept = files(entries, EVENT), files(entries[:100], EVENT)["checkpoint"]
    wrong = [*entries[:50], *fillers(10, NOW + timedelta(minutes=1)), *entries[60:256]]
    lie = {
        **true,
        "tile/entries/000": tiles.pack(wrong),
        "tile/0/000": b"".join(map(leaf_hash, wrong)),
    }
    server = changing(lie, {**true, "tile/entries/000": lie["tile/entries/000"]}, "tile/0/000")
    for notes in ([], [kept]):
        results = fleet.verify_folders([server], [EVENT.verifier], notes)
        assert codes(results)[EVENT.name], notes
    assert codes(fleet.verify_folders([true.get], [EVENT.verifier], [kept])) == {EVENT.name: set()}


def test_a_sound_copy_beside_a_spoiled_log_does_not_answer_for_it(tmp_path: Path) -> None:
    """Two folders of one name would share one verdict."""
    true = files([created(EVENT), *fillers(300)], EVENT)
    good = put(true, tmp_path / "good")
    bad = put({**true, "tile/entries/000": tiles.pack(fillers(256))}, tmp_path / "bad")
    assert codes(fleet.verify_folders([bad], [EVENT.verifier], []))[EVENT.name]
    with pytest.raises(BadInput, match="one name"):
        fleet.verify_folders([bad, good], [EVENT.verifier], [])


def test_a_kept_checkpoint_of_a_log_that_was_not_handed_over_is_not_passed_over(
    tmp_path: Path,
) -> None:
    """Its owner believes that it was compared."""
    event = put(files([created(EVENT)], EVENT), tmp_path / "event")
    other = put(files([created(REGISTER)], REGISTER), tmp_path / "register")
    kept = files([created(SECURITY), *fillers(9)], SECURITY)["checkpoint"]
    keys = [EVENT.verifier, REGISTER.verifier, SECURITY.verifier]
    with pytest.raises(BadInput, match=SECURITY.name):
        fleet.verify_folders([event, other], keys, [kept])


def test_receipts_of_a_log_that_was_not_read_to_its_end_excuse_nothing(tmp_path: Path) -> None:
    """A hundred findings end the walk before the root is compared; who wants that forges them."""
    true = files([created(EVENT), *fillers(600)], EVENT)
    gone = {path: data for path, data in true.items() if path != "tile/entries/000"}
    signed = files([created(REGISTER), *fillers(600)], REGISTER)
    fields = {"log": EVENT.name, "first": 0, "last": 255, "rule": "event"}
    receipt = record.encode("erasure", fields, NOW + timedelta(hours=2100))
    back = [e for i in range(130) for e in fillers(1, NOW + timedelta(hours=2000 - 10 * i))]
    rest = fillers(469, NOW + timedelta(hours=700))
    forged = files([created(REGISTER), receipt, *back, *rest], REGISTER)
    forged["checkpoint"] = signed["checkpoint"]
    results = fleet.verify_folders(
        [put(gone, tmp_path / "event"), put(forged, tmp_path / "register")],
        [EVENT.verifier, REGISTER.verifier],
        [],
    )
    assert {r.origin: r.erased for r in results}[EVENT.name] == 0


def test_a_look_that_is_said_to_be_due_in_ages_ends_no_verification(tmp_path: Path) -> None:
    """One well-formed record must not be able to break a command for ever."""
    fields = {"writer": "gateway", "state": "up", "every_s": record.INTEGER_MAX}
    seen = record.encode("writer-seen", fields, NOW)
    evidence = files([created(REGISTER), registered(REGISTER), seen], REGISTER)
    event = put(files([created(EVENT)], EVENT), tmp_path / "event")
    folders = [put(evidence, tmp_path / "register"), event]
    results = fleet.verify_folders(folders, [REGISTER.verifier, EVENT.verifier], [])
    assert len(results) == 2


def test_a_witness_that_is_given_its_memory_back_takes_the_newest(tmp_path: Path) -> None:
    """Else whoever hands it over chooses how far a log may be cut back."""
    home = WitnessHome(tmp_path / "witness")
    home.make_key("witness.example", "ed25519")
    home.trust(EVENT.verifier)
    entries = [created(EVENT), *fillers(400)]
    new, old = (files(entries[:n], EVENT)["checkpoint"] for n in (401, 100))
    assert [tree.size for tree in home.put_back([new, old])] == [401]
    witness = Witness(RealDisk(home.seen), home.signers(), home.logs(), lambda: datetime.now(UTC))
    forked = files([*entries[:100], *fillers(50, NOW + timedelta(minutes=1))], EVENT)
    body = submit.submission(forked.get, forked["checkpoint"], 150, 100)
    assert witness.add(body).status == 409


def test_a_second_rotation_waits_or_is_refused_and_no_key_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two operators, one afternoon: the log must still have a key that signs for it."""
    home = Home(tmp_path, Settings())
    trail.create(home.audit, home.keys, home.trust, "gateway", "local")

    def clock() -> datetime:
        return datetime.now(UTC)

    def rotate() -> None:
        folder, stem = home.audit / "gateway" / "event", "gateway-event"
        site = handover.Site.of(folder, home.keys, home.trust, stem, "local/gateway/event")
        handover.rotate(site, "file", "scheduled", clock)

    moved, tried = handover._move_pin, []

    def meanwhile(site: handover.Site, last: object) -> None:
        if not tried:
            tried.append(1)
            with pytest.raises(Exception, match="another rotation"):
                rotate()
        moved(site, last)

    monkeypatch.setattr(handover, "_move_pin", meanwhile)
    rotate()
    assert (home.keys / "gateway-event.key").read_bytes()
    trail.Trail.open(home.audit, home.keys, "gateway", "local", clock, trust=home.trust).close()
    assert not any(result.findings for result in fleet.verify(home))
