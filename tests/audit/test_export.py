"""An export verifies where nothing is installed, and no change to one goes unseen."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sovereign.audit import erasures, record, tiles
from sovereign.audit.checkpoint import Checkpoint
from sovereign.audit.exports import offline_verifier, schema
from sovereign.audit.note import SignerKey
from sovereign.audit.search import CLOCK_MARGIN
from sovereign.audit.verify import FINDINGS, inspect, verify
from sovereign.audit.witnesses.cosignature import CosignerSecret, cosign
from sovereign.errors import BadInput
from sovereign.fleet import reader
from tests.audit.exportlab import (
    BEGIN,
    EVENT,
    EVIDENCE,
    KEYS,
    MINUTE,
    POLICY,
    SECURITY,
    TEXT,
    Lab,
    alone,
    alone_json,
    minutely,
    pin_of,
    proven,
    receipts,
    verdict,
)
from tests.audit.loglab import files
from tests.docs.reading import DOCS, table

EVENTS = 1300
EXPORTED = {
    "README.md",
    "verify.py",
    "schema.json",
    "keys.txt",
    "manifest.json",
    "manifest.proof",
    "logs",
    "policies",
    "kept",
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of everything, with a kept checkpoint and an erasure. Copy before you spoil."""
    kept = files(minutely(900), KEYS[EVENT])["checkpoint"]
    lab = Lab.of(minutely(EVENTS), receipts((0, 255)), gone=[0], kept=[kept])
    return lab.export(tmp_path_factory.mktemp("whole") / "export")


@pytest.fixture
def export(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "export"))


def event_file(export: Path, path: str) -> Path:
    return export / "logs" / EVENT / path


# --- yes ------------------------------------------------------------------------------------


def test_an_export_verifies_where_nothing_of_ours_is_installed(original: Path) -> None:
    """The one command an auditor runs, in an interpreter that has `cryptography` alone."""
    code, out, err = alone(original, "--pin", pin_of(original))
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "sound"
    said = alone_json(original, "--pin", f"sha256:{pin_of(original).upper()}")
    assert (said.code, said.codes) == (0, {})
    assert said.log()["here"] == EVENTS - 256
    assert (said.log()["erased"], said.log()["not_in_this_export"]) == (256, 0)
    assert said.log(EVIDENCE)["here"] == 4


def test_an_export_holds_what_the_page_says_and_nothing_else(original: Path) -> None:
    """Whatever else lay there would have left the site without anybody asking for it."""
    assert {path.name for path in original.iterdir()} == EXPORTED
    assert not list(original.parent.glob(".*")), "nothing is left beside it"
    manifest = msgspec.json.decode((original / "manifest.json").read_bytes())
    named = {original / path for path in manifest["files"]}
    own = {original / "manifest.json", original / "manifest.proof"}
    logs = {path for path in (original / "logs").rglob("*") if path.is_file()}
    assert {path for path in original.rglob("*") if path.is_file()} == named | own | logs
    assert (original / f"policies/{POLICY}.json").read_bytes() == TEXT
    assert manifest["policies_not_here"] == []
    assert (manifest["reason"], manifest["policy"]) == ("audit", POLICY)
    assert oct((original / "keys.txt").stat().st_mode)[-3:] == "600"


def test_our_own_verifier_agrees_on_every_log_of_an_export_of_everything(original: Path) -> None:
    """The folder of a log in an export is a log: anybody's tool reads it."""
    for origin in (EVIDENCE, SECURITY):
        report = verify(reader(original / "logs" / origin), KEYS[origin].verifier)
        assert report.findings == ()
    assert verify(reader(original / "logs" / EVENT), KEYS[EVENT].verifier).open_gaps != ()


def test_the_keys_can_be_given_instead_of_the_pin(original: Path, tmp_path: Path) -> None:
    """An auditor who was given the keys once needs nothing that is in the folder."""
    keys = [str(key.verifier) for key in KEYS.values()]
    words = [word for key in keys for word in ("--vkey", key)]
    assert alone(original, *words)[0] == 0
    file = tmp_path / "keys"
    file.write_text("\n".join(keys) + "\n")
    assert alone(original, "--vkey", str(file))[0] == 0


# --- not known ------------------------------------------------------------------------------


def test_keys_that_came_with_the_folder_prove_nothing(original: Path) -> None:
    """A forger puts keys of his own beside his logs; so without a pin there is no verdict."""
    said = verdict(original, pin="")
    assert (said.code, said.codes) == (3, {})
    assert "nobody vouched" in said.said["unknown"][0]


def test_a_log_whose_key_is_missing_is_not_judged(export: Path) -> None:
    """Two keys of three: the third log might be anybody's."""
    said = verdict(export, vkeys=[str(KEYS[o].verifier) for o in (EVIDENCE, SECURITY)])
    assert (said.code, said.codes) == (3, {})
    assert f"no key was given for {EVENT}" in said.said["unknown"]
    keys = export / "keys.txt"
    keys.write_text("".join(line for line in _lines(keys) if not line.startswith(EVENT)))
    said = verdict(export)
    assert "file-differs" in said.flat  # and whoever changed it did not tell the manifest


def test_without_the_log_that_holds_the_receipts_a_gap_is_open(tmp_path: Path) -> None:
    """Nobody can say: that is neither a yes nor a finding."""
    lab = Lab.of(minutely(600), receipts((0, 255)), gone=[0])
    del lab.logs[EVIDENCE]
    said = verdict(lab.export(tmp_path / "export"))
    assert (said.code, said.codes) == (3, {})
    assert said.log()["open_gaps"] == [f"{EVENT}#0 to #255"]


def test_a_folder_without_a_manifest_is_no_export(export: Path) -> None:
    """Half of a copy is not a verdict."""
    (export / "manifest.json").unlink()
    assert alone(export, "--pin", pin_of(export))[0] == 3


@pytest.mark.parametrize("words", [("--vkey", "nonsense"), ("--checkpoint", "nowhere"), ("--x",)])
def test_asking_wrongly_ends_with_2(original: Path, words: tuple[str, ...]) -> None:
    """A slip of the pen is not a finding."""
    code, _, err = alone(original, *words)
    assert code == 2
    assert "Traceback" not in err


# --- findings -------------------------------------------------------------------------------


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines(keepends=True)


def _flip(path: Path, at: int = -5) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


def _swap(export: Path) -> None:
    one, two = (event_file(export, tiles.bundle_path(n)) for n in (1, 2))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


def _cut(export: Path) -> None:
    """An older state of the log in its place, the manifest changed to fit."""
    shutil.rmtree(export / "logs" / EVENT)
    for path, content in files(minutely(800), KEYS[EVENT]).items():
        if path != tiles.bundle_path(0):
            event_file(export, path).parent.mkdir(parents=True, exist_ok=True)
            event_file(export, path).write_bytes(content)
    _rewrite(export, size=800, count=800, root=_root(export))


def _root(export: Path) -> str:
    signed = offline_verifier.open_checkpoint(
        event_file(export, "checkpoint").read_bytes(),
        offline_verifier.key_of(str(KEYS[EVENT].verifier)),
    )
    assert signed is not None
    return signed.root.hex()


def _rewrite(export: Path, **changed: object) -> None:
    """Change what the manifest says of the gateway's log, as whoever made the export could."""
    manifest = msgspec.json.decode((export / "manifest.json").read_bytes())
    (log,) = [log for log in manifest["logs"] if log["origin"] == EVENT]
    log.update(changed)
    _replace(export, manifest)


def _replace(export: Path, manifest: object) -> None:
    content = msgspec.json.encode(manifest, order="sorted")
    (export / "manifest.json").write_bytes(content)
    (export / "manifest.proof").write_bytes(
        proven(offline_verifier.hashlib.sha256(content).hexdigest())
    )


def _forge(export: Path) -> None:
    """The whole log under another key, which `keys.txt` names too."""
    forger = SignerKey.generate(EVENT)
    shutil.rmtree(export / "logs" / EVENT)
    for path, content in files(minutely(EVENTS), forger).items():
        event_file(export, path).parent.mkdir(parents=True, exist_ok=True)
        event_file(export, path).write_bytes(content)


def _strange(path: Path, target: Path) -> None:
    path.unlink()
    path.symlink_to(target)


def _elsewhere(export: Path) -> None:
    """The log is whole, but outside the folder: nobody took it along."""
    gateway = export / "logs/test.example/gateway"
    shutil.move(gateway, export.parent / "gateway")
    gateway.symlink_to(export.parent / "gateway")


TAMPERINGS: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    "an edited byte": (
        lambda e: _flip(event_file(e, tiles.bundle_path(1))),
        {"entry-differs"},
    ),
    "an edited byte in the last bundle": (
        lambda e: _flip(event_file(e, tiles.bundle_path(5, 20))),
        {"entry-differs"},
    ),
    "a removed bundle": (
        lambda e: event_file(e, tiles.bundle_path(2)).unlink(),
        {"bundle-missing"},
    ),
    "swapped bundles": (_swap, {"entry-differs"}),
    "a cut bundle": (
        lambda e: event_file(e, tiles.bundle_path(1)).write_bytes(b"\x00"),
        {"bundle-damaged"},
    ),
    "a removed tile": (
        lambda e: event_file(e, tiles.tile_path(0, 2)).unlink(),
        {"tile-missing"},
    ),
    "an edited tile above": (
        lambda e: _flip(event_file(e, tiles.tile_path(1, 0, 5))),
        {"tile-differs"},
    ),
    "a removed tile above": (
        lambda e: event_file(e, tiles.tile_path(1, 0, 5)).unlink(),
        {"tile-missing"},
    ),
    "a tail that was cut off": (_cut, {"cut-short"}),
    "a foreign key": (_forge, {"checkpoint-foreign"}),
    "no checkpoint": (
        lambda e: event_file(e, "checkpoint").unlink(),
        {"checkpoint-missing"},
    ),
    "an edited checkpoint": (
        lambda e: _flip(event_file(e, "checkpoint"), 40),
        {"checkpoint-foreign"},
    ),
    "no log": (lambda e: shutil.rmtree(e / "logs" / EVENT), {"log-gone"}),
    "a link in a log's place": (_elsewhere, {"log-gone"}),
    "a link in a bundle's place": (
        lambda e: _strange(event_file(e, tiles.bundle_path(1)), Path("/dev/zero")),
        {"bundle-damaged"},
    ),
    "a link in a tile's place": (
        lambda e: _strange(event_file(e, tiles.tile_path(0, 1)), Path("/etc/passwd")),
        {"tile-differs"},
    ),
    "a removed receipt": (
        lambda e: (e / "logs" / EVIDENCE / tiles.bundle_path(0, 4)).unlink(),
        {"bundle-missing"},
    ),
    "an erased bundle that is back": (
        lambda e: event_file(e, tiles.bundle_path(0)).write_bytes(
            files(minutely(EVENTS), KEYS[EVENT])[tiles.bundle_path(0)]
        ),
        {"erasure-incomplete"},
    ),
    "an edited policy": (lambda e: _flip(e / f"policies/{POLICY}.json"), {"file-differs"}),
    "a removed policy": (lambda e: (e / f"policies/{POLICY}.json").unlink(), {"file-missing"}),
    "an edited schema": (lambda e: _flip(e / "schema.json"), {"file-differs"}),
    "a removed schema": (lambda e: (e / "schema.json").unlink(), {"file-missing"}),
    "an edited README": (lambda e: _flip(e / "README.md"), {"file-differs"}),
    "an edited kept checkpoint": (
        lambda e: _flip(e / "kept" / f"{EVENT}.1", 40),
        {"file-differs"},
    ),
    "a manifest that names less": (
        lambda e: (e / "manifest.json").write_bytes(
            (e / "manifest.json").read_bytes().replace(b'"count":1300', b'"count":1044')
        ),
        {"manifest-unproven"},
    ),
    "a manifest that is none": (
        lambda e: (e / "manifest.json").write_bytes(b"{}"),
        {"manifest-damaged"},
    ),
    "no proof of the manifest": (
        lambda e: (e / "manifest.proof").unlink(),
        {"manifest-unproven"},
    ),
    "the proof of another manifest": (
        lambda e: (e / "manifest.proof").write_bytes(proven("0" * 64)),
        {"manifest-unproven"},
    ),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_every_tampering_ends_with_1_and_its_name(export: Path, name: str) -> None:
    """One exit code for a monitor, one word for whoever looks it up; and never a trace."""
    pin = pin_of(export)
    spoil, codes = TAMPERINGS[name]
    spoil(export)
    said = verdict(export, pin=pin)
    assert (said.code, codes <= said.flat) == (1, True), said.codes
    unpinned = verdict(export, pin="")
    assert unpinned.code == 1, "a finding is one whoever holds the keys"


@pytest.mark.parametrize(
    "name",
    ["an edited byte", "a removed bundle", "swapped bundles", "a tail that was cut off",
     "a foreign key"],
)  # fmt: skip
def test_the_named_tamperings_are_found_where_nothing_is_installed(export: Path, name: str) -> None:
    """The same words from the command an auditor runs."""
    pin = pin_of(export)
    spoil, codes = TAMPERINGS[name]
    spoil(export)
    said = alone_json(export, "--pin", pin)
    assert said.code == 1
    assert codes <= said.flat


def test_a_cut_off_tail_is_seen_by_the_checkpoint_an_auditor_kept(export: Path) -> None:
    """The one in the folder could have been taken out; hers could not."""
    hers = event_file(export, "checkpoint").read_bytes()
    _cut(export)
    manifest = msgspec.json.decode((export / "manifest.json").read_bytes())
    (export / "kept" / f"{EVENT}.1").unlink()
    del manifest["files"][f"kept/{EVENT}.1"]
    _replace(export, manifest)
    assert verdict(export).code == 0, "a shorter log is a log"
    said = verdict(export, kept=[hers])
    assert (said.code, said.codes) == (1, {EVENT: {"cut-short"}})
    other = files(minutely(700)[1:], KEYS[EVENT])["checkpoint"]
    assert verdict(export, kept=[other]).codes == {EVENT: {"history-split"}}
    nobodys = files(minutely(3), SignerKey.generate(EVENT))["checkpoint"]
    assert verdict(export, kept=[nobodys]).codes == {EVENT: {"kept-unusable"}}
    strangers = files(minutely(3), SignerKey.generate("other.example/gateway/event"))["checkpoint"]
    assert verdict(export, kept=[strangers]).code == 3


def test_a_forged_export_is_seen_by_the_pin_and_by_it_alone(export: Path) -> None:
    """Everything in a folder can be made to agree; what the auditor was told cannot."""
    pin = pin_of(export)
    _forge(export)
    forger = SignerKey.generate(EVENT)
    for path, content in files(minutely(EVENTS), forger).items():
        event_file(export, path).write_bytes(content)
    (export / "kept" / f"{EVENT}.1").unlink()
    evidence = export / "logs" / EVIDENCE
    shutil.rmtree(evidence)
    for path, content in files([*minutely(0), *_plain(4)], KEYS[EVIDENCE]).items():
        (evidence / path).parent.mkdir(parents=True, exist_ok=True)
        (evidence / path).write_bytes(content)
    keys = export / "keys.txt"
    others = [line for line in _lines(keys) if not line.startswith(EVENT)]
    keys.write_text("".join(sorted([*others, f"{forger.verifier}\n"])))
    manifest = msgspec.json.decode((export / "manifest.json").read_bytes())
    del manifest["files"][f"kept/{EVENT}.1"]
    manifest["files"]["keys.txt"] = offline_verifier.fingerprint(export)
    for log in manifest["logs"]:
        key = {EVENT: forger}.get(log["origin"], KEYS[log["origin"]])
        raw = (export / "logs" / log["origin"] / "checkpoint").read_bytes()
        signed = offline_verifier.open_checkpoint(raw, offline_verifier.key_of(str(key.verifier)))
        assert signed is not None
        log.update(size=signed.size, root=signed.root.hex(), first=0, count=signed.size, carried=[])
    _replace(export, manifest)
    assert verdict(export, pin="").code == 3
    said = verdict(export, pin=pin)
    assert (said.code, said.codes) == (1, {"": {"keys-foreign"}})


def _plain(count: int) -> list[bytes]:
    said: dict[str, str | int] = {"endpoint": "e", "what": "w", "found": "nothing"}
    return [record.encode("observation", said, BEGIN, b"\x02" * 16) for _ in range(count)]


# --- a part of the time ------------------------------------------------------------------------


def test_what_was_not_asked_for_is_not_in_the_folder_and_is_told_apart(tmp_path: Path) -> None:
    """Left out, erased, and gone are three answers."""
    lab = Lab.of(minutely(EVENTS), receipts((0, 255), (768, 1023)), gone=[0, 3])
    since, until = BEGIN + 590 * MINUTE, BEGIN + 970 * MINUTE
    export = lab.export(tmp_path / "export", since, until, whole=[EVENT])
    there = {path.name for path in (export / "logs" / EVENT / "tile/entries").glob("*")}
    assert there == {"002", "004"}
    said = verdict(export)
    assert (said.code, said.codes) == (0, {})
    assert (said.log()["here"], said.log()["erased"]) == (512, 256)
    assert said.log()["not_in_this_export"] == EVENTS - 512 - 256
    evidence = said.log(EVIDENCE)
    assert evidence["here"] == 5, "the bundle with the receipts comes along"
    (export / "logs" / EVENT / "tile/entries/004").unlink()
    assert verdict(export).codes == {EVENT: {"bundle-missing"}}


@pytest.mark.parametrize(
    ("since", "until", "first", "last"),
    [
        (None, None, 0, 6),
        (0, 5000, 0, 6),
        (1, None, 0, 6),
        (255, 256, 0, 2),  # the next bundle shows that the time ends in the first
        (256, 300, 0, 2),  # the first record of a bundle is as old as the time: the one before too
        (257, 300, 1, 2),
        (512, 1279, 1, 5),
        (512, 1280, 1, 6),
        (5000, None, 5, 6),
        (None, -5, 0, 1),
        (5000, 5300, 5, 6),
    ],
)
def test_the_bundles_at_both_ends_show_that_nothing_between_is_left_out(
    tmp_path: Path, since: int | None, until: int | None, first: int, last: int
) -> None:
    """A bundle more on each side, where there is one, so that the verifier can see it.

    The time that is looked for is wider by the hour that a clock may have been set back.
    """
    lab = Lab.of(minutely(EVENTS))
    export = lab.export(
        tmp_path / "export",
        None if since is None else BEGIN + since * MINUTE + CLOCK_MARGIN,
        None if until is None else BEGIN + until * MINUTE - CLOCK_MARGIN,
    )
    manifest = json.loads((export / "manifest.json").read_bytes())
    (log,) = [log for log in manifest["logs"] if log["origin"] == EVENT]
    assert (log["first"], log["count"]) == (256 * first, min(256 * last, EVENTS) - 256 * first)
    assert verdict(export).codes == {}


@pytest.mark.parametrize(("first", "count"), [(768, 512), (512, 512), (768, 256)])
def test_an_export_that_leaves_out_a_part_of_its_time_is_found(
    tmp_path: Path, first: int, count: int
) -> None:
    """Whoever exports could say "not in this export" of what he would rather not show."""
    export = Lab.of(minutely(EVENTS)).export(
        tmp_path / "export", BEGIN + 590 * MINUTE, BEGIN + 1025 * MINUTE
    )
    for number in range(6):
        if not first <= number * 256 < first + count:
            width = tiles.width_of(0, number, EVENTS)
            event_file(export, tiles.bundle_path(number, width)).unlink(missing_ok=True)
    _rewrite(export, first=first, count=count)
    said = verdict(export)
    assert (said.code, said.codes) == (1, {EVENT: {"range-short"}})


def test_policies_that_are_named_and_not_at_hand_are_listed(tmp_path: Path) -> None:
    """An auditor must know which decisions she cannot compute again."""
    other = minutely(300)[299].replace(POLICY.encode(), b"f" * 64)
    export = Lab.of([*minutely(10), other]).export(tmp_path / "export")
    manifest = json.loads((export / "manifest.json").read_bytes())
    assert manifest["policies_not_here"] == ["f" * 64]
    assert verdict(export).code == 0


# --- making one -------------------------------------------------------------------------------


def test_a_folder_that_holds_something_is_left_as_it_is(tmp_path: Path) -> None:
    """Two exports in one folder would be none."""
    lab = Lab.of(minutely(3))
    target = tmp_path / "export"
    target.mkdir()
    lab.export(target)
    before = sorted(target.rglob("*"))
    with pytest.raises(BadInput):
        lab.export(target)
    assert sorted(target.rglob("*")) == before
    for wrong in (tmp_path / "no/where", target / "README.md"):
        with pytest.raises(BadInput):
            lab.export(wrong)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput):
        lab.export(tmp_path / "link")


def test_until_it_is_finished_there_is_nothing_under_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an export would be taken for a damaged one."""
    lab = Lab.of(minutely(300))

    def stopped(_: str) -> bytes:
        assert not (tmp_path / "export").exists()
        raise InterruptedError

    monkeypatch.setattr("tests.audit.exportlab.proven", stopped)
    with pytest.raises(InterruptedError):
        lab.export(tmp_path / "export")
    monkeypatch.undo()
    assert not (tmp_path / "export").exists()
    assert verdict(lab.export(tmp_path / "export")).code == 0, "what was left is no obstacle"
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def test_what_retention_erases_meanwhile_is_not_taken_along(tmp_path: Path) -> None:
    """The receipt comes before the deletion; an export in between must not keep the records."""
    lab = Lab.of(minutely(800), receipts((256, 511)))
    path = tiles.bundle_path(1)
    lab.erased_once_read = (EVENT, path)
    export = lab.export(tmp_path / "export")
    assert not event_file(export, path).exists()
    said = verdict(export)
    assert (said.code, said.log()["erased"]) == (0, 256)


def test_a_damaged_log_is_exported_as_it_lies_there(tmp_path: Path) -> None:
    """That is when an auditor is wanted most."""
    lab = Lab.of(minutely(600))
    lab.logs[EVENT][tiles.bundle_path(0)] = b"\xff\xff\xff"
    del lab.logs[EVENT][tiles.tile_path(0, 1)]
    said = verdict(lab.export(tmp_path / "export"))
    assert said.code == 1
    assert said.codes[EVENT] >= {"bundle-damaged", "tile-missing"}


# --- hostile ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("manifest.json", b"[" * 200_000),
        ("manifest.json", b'{"kind":"sovereign-export","kind":"sovereign-export"}'),
        ("manifest.json", b"\xff\xfe"),
        ("manifest.json", b'{"kind":"sovereign-export","version":1,"from":"","to":"","files":[]}'),
        ("schema.json", b"{}"),
        ("schema.json", b'{"oneOf":[1]}'),
        ("keys.txt", b"\xff"),
        ("keys.txt", b"a+b+c\n"),
        ("manifest.proof", b"c2sp.org/tlog-proof@v1\nextra \nindex 9\n\n"),
        ("manifest.proof", b"\xff" * 100),
        (f"logs/{EVENT}/checkpoint", b"\xff" * 100),
        (f"logs/{EVENT}/checkpoint", b""),
        (f"logs/{EVENT}/checkpoint", b"\n" * 70_000),
        (f"logs/{EVENT}/handover/1", b"\xff"),
        (f"logs/{EVENT}/handover/1", b"c2sp.org/tlog-proof@v1\nextra e30=\nindex 0\n\nx\n\ny\n"),
    ],
)
def test_hostile_bytes_end_with_a_verdict_and_never_with_a_trace(
    export: Path, path: str, content: bytes
) -> None:
    """Whoever hands over the folder chooses every byte in it."""
    pin = pin_of(export)
    (export / path).parent.mkdir(exist_ok=True)
    (export / path).write_bytes(content)
    said = verdict(export, pin=pin)
    assert said.code in (1, 3)
    assert said.code == 1 or path == "manifest.json"


@pytest.mark.parametrize(
    "changed",
    [
        {"origin": "../../etc"},
        {"origin": "/etc/x"},
        {"size": 10**30},
        {"size": -1},
        {"size": True},
        {"first": 10**9},
        {"carried": [[1]]},
        {"carried": [["a", "b"]]},
        {"root": 5},
    ],
    ids=str,
)
def test_a_manifest_that_cannot_be_is_damaged(export: Path, changed: dict[str, object]) -> None:
    """No path out of the folder, no number that nobody could count to."""
    _rewrite(export, **changed)
    said = verdict(export)
    assert (said.code, said.flat) == (1, {"manifest-damaged"})


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../b", "", ".hidden", "a\nb"])
def test_a_manifest_names_no_file_outside_the_folder(export: Path, path: str) -> None:
    """Its digest would tell whether a guess about a file of the auditor's is right."""
    manifest = msgspec.json.decode((export / "manifest.json").read_bytes())
    manifest["files"][path] = "0" * 64
    _replace(export, manifest)
    assert verdict(export).flat == {"manifest-damaged"}


def test_a_pipe_in_a_files_place_does_not_hang_the_verifier(export: Path) -> None:
    """A reader that waits for ever gives no verdict at all."""
    for path in (event_file(export, tiles.bundle_path(1)), export / "schema.json"):
        path.unlink()
        os.mkfifo(path)
    assert verdict(export).code == 1


def test_a_checkpoint_of_absurd_size_ends_soon(export: Path) -> None:
    """Findings have a bound, and so has the walk that makes them."""
    key = KEYS[EVENT]
    event_file(export, "checkpoint").write_bytes(
        Checkpoint(EVENT, 2**53 - 1, b"\x05" * 32).signed(key)
    )
    _rewrite(export, size=2**53 - 1, count=2**53 - 1)
    said = verdict(export)
    assert said.code == 1
    assert len(said.log()["findings"]) == offline_verifier.FINDINGS_MAX


# --- the same verdict as our own --------------------------------------------------------------


def test_its_findings_have_the_words_of_our_own_where_both_have_one() -> None:
    """One runbook for one word."""
    both = FINDINGS.keys() & offline_verifier.FINDINGS.keys()
    differ = {code for code in both if FINDINGS[code] != offline_verifier.FINDINGS[code]} - {
        "log-gone",
        "record-invalid",
        "receipt-differs",
    }
    assert differ == set()
    assert len(both) >= 15


def test_the_schema_takes_every_record_that_the_table_takes() -> None:
    """Made for each type out of the table; a field too many or too few is none."""
    table = offline_verifier.Schema(schema.schema())
    assert set(table.types) == set(record.RECORD_TYPES)
    for name, kind in record.RECORD_TYPES.items():
        value = {"INTEGER": 5, "TIME": record.written(BEGIN)}
        fields = {each: value.get(f.kind.name, "x") for each, f in kind.fields.items()}
        said = json.loads(record.encode(name, fields, BEGIN))
        stream = kind.stream if kind.stream != "any" else "event"
        assert table.fits(said, stream), name
        assert table.fits(said, "other") is (kind.stream == "any"), name
        assert not table.fits({**said, "content": "x"}, stream)
        for missing in [each for each, f in kind.fields.items() if f.required] or ["salt"]:
            assert not table.fits({k: v for k, v in said.items() if k != missing}, stream)


@settings(max_examples=200, deadline=None)
@given(
    entry=st.dictionaries(
        st.sampled_from(["v", "type", "at", "salt", "endpoint", "what", "found", "x"]),
        st.one_of(
            st.sampled_from(
                [
                    1,
                    "observation",
                    "2026-11-24T12:00:00.000000Z",
                    "0" * 32,
                    "2026-02-30T12:00:00.000000Z",
                ]
            ),
            st.text(max_size=3),
            st.integers(-5, 2**70),
            st.none(),
            st.floats(),
            st.booleans(),
            st.lists(st.integers(), max_size=2),
        ),
    )
)
def test_any_entry_is_a_record_for_both_or_for_none(entry: dict[str, object]) -> None:
    """Two programs, one table, one canonical form."""
    good = {"v": 1, "type": "observation", "at": "2026-11-24T12:00:00.000000Z", "salt": "0" * 32}
    said = {**good, "endpoint": "e", "what": "w", "found": "f", **entry}
    for raw in _spelled(said):
        log = offline_verifier.Log("s/w/evidence", 0, "", 0, 0, [], Path())
        offline_verifier._read_record(log, offline_verifier.Schema(schema.schema()), 0, raw)
        try:
            ours = record.parse(raw)["type"] == "observation"
        except record.RecordInvalid:
            ours = False
        assert (log.findings == []) is ours, raw


def _spelled(said: dict[str, object]) -> list[bytes]:
    """The same content canonical, and as other programs write it."""
    plain = json.dumps(said).encode()
    ascii_free = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    try:
        return [plain, ascii_free.encode(), ascii_free.encode().replace(b"/", b"\\/")]
    except UnicodeEncodeError:
        return [plain]


SMALL = 600


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_tampering_is_judged_alike_by_our_own_verifier(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Two programs that share no line, over every kind of change we can think of."""
    kept = files(minutely(data.draw(st.integers(1, SMALL))), KEYS[EVENT])["checkpoint"]
    gone = data.draw(st.sets(st.integers(0, 2), max_size=2))
    told = data.draw(st.sets(st.integers(0, 2), max_size=2))
    lab = Lab.of(
        minutely(SMALL), receipts(*((256 * n, 256 * n + 255) for n in told)), gone=gone, kept=[kept]
    )
    export = lab.export(tmp_path_factory.mktemp("any") / "export")
    folder = export / "logs" / EVENT
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    for _ in range(data.draw(st.integers(0, 2))):
        _tamper(data, paths)
    receipts_log = verify(reader(export / "logs" / EVIDENCE), KEYS[EVIDENCE].verifier)
    assert receipts_log.sound
    given_receipts = inspect(reader(export / "logs" / EVIDENCE), KEYS[EVIDENCE].verifier).receipts
    ours = verify(reader(folder), KEYS[EVENT].verifier, kept=[kept], receipts=given_receipts)
    theirs = verdict(export, by=offline_verifier)
    found = theirs.codes.get(EVENT, set()) - {"manifest-damaged"}
    assert bool(found) is bool(ours.findings), (found, ours.findings)
    assert theirs.log()["open_gaps"] == []
    assert found <= {f.code for f in ours.findings} | {"root-differs", "tile-differs"}


def _tamper(data: st.DataObject, paths: list[Path]) -> None:
    path = data.draw(st.sampled_from(paths))
    how = data.draw(st.sampled_from(["flip", "remove", "cut", "grow", "copy", "nothing"]))
    if not path.exists():
        return
    content = path.read_bytes()
    if how == "flip" and content:
        _flip(path, data.draw(st.integers(0, len(content) - 1)))
    elif how == "remove":
        path.unlink()
    elif how == "cut":
        path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    elif how == "grow":
        path.write_bytes(content + data.draw(st.binary(min_size=1, max_size=40)))
    elif how == "copy":
        other = data.draw(st.sampled_from(paths))
        if other.exists():
            path.write_bytes(other.read_bytes())


RECEIPT_FIELDS = ("first", "last", "count", "class", "from", "to", "size", "root", "form",
                  "min_days", "max_days", "rule", "youngest_s", "oldest_s")  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_receipt_is_judged_alike_by_our_own_verifier(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Early, of another tree, of another time, of nothing: one word for both."""
    events = minutely(SMALL)
    log = files(events, KEYS[EVENT])
    root = offline_verifier.open_checkpoint(
        log["checkpoint"], offline_verifier.key_of(str(KEYS[EVENT].verifier))
    )
    assert root is not None
    good = erasures.fields_of(
        "event",
        erasures.Limits(180, 365, 24),
        policy=POLICY,
        first=0,
        last=255,
        oldest=record.written(BEGIN),
        newest=record.written(BEGIN + 255 * MINUTE),
        size=SMALL,
        root=root.root.hex(),
    )
    fields = {**good, "log": EVENT, "first": 0, "last": 255, "rule": "event"}
    for _ in range(data.draw(st.integers(0, 2))):
        name = data.draw(st.sampled_from(RECEIPT_FIELDS))
        if name in ("rule", "class", "root"):
            fields[name] = data.draw(
                st.sampled_from(["receipt-carried-over", "event", "security", "00" * 32])
            )
        elif name in ("from", "to"):
            days = data.draw(st.integers(-400, 400))
            fields[name] = record.written(BEGIN + 1440 * days * MINUTE)
        else:
            fields[name] = data.draw(
                st.sampled_from([0, 1, 2, 3, 180, 255, 256, SMALL, SMALL + 1, 10**9])
            )
        if data.draw(st.booleans()) and name not in ("first", "last", "rule"):
            del fields[name]
    days = data.draw(st.sampled_from([0, 30, 179, 181, 370, 4000]))
    entry = record.encode("erasure", fields, BEGIN + 1440 * days * MINUTE, b"\x05" * 16)
    lab = Lab.of(events, [entry], gone=[0])
    export = lab.export(tmp_path_factory.mktemp("receipt") / "export")
    evidence = inspect(reader(export / "logs" / EVIDENCE), KEYS[EVIDENCE].verifier)
    ours = verify(reader(export / "logs" / EVENT), KEYS[EVENT].verifier, receipts=evidence.receipts)
    theirs = verdict(export, by=offline_verifier)
    assert theirs.codes.get(EVENT, set()) == {f.code for f in ours.findings}, fields


def test_the_page_of_the_export_lists_every_finding_in_the_words_of_the_program() -> None:
    """The verifier prints a code; the page says what to do about it."""
    told = {row[0]: row[1] for row in table(DOCS / "formats/export.md", "## Findings")}
    assert told == offline_verifier.FINDINGS


def test_the_page_of_the_export_names_every_file_and_every_word_of_the_manifest(
    original: Path,
) -> None:
    """Whoever writes another verifier has that page and nothing else."""
    page = (DOCS / "formats/export.md").read_text()
    manifest = json.loads((original / "manifest.json").read_bytes())
    for word in (*EXPORTED - {"logs", "policies", "kept"}, *manifest, *manifest["logs"][0]):
        assert f"`{word}`" in page, word


def test_what_a_witness_signed_is_said_under_the_key_it_gave_the_auditor(tmp_path: Path) -> None:
    """Somebody else saw the log that long, at that time: no one on the site can make that up."""
    secret = CosignerSecret.generate("witness.example")
    raw = files(minutely(700), KEYS[EVENT])["checkpoint"]
    text = raw.decode().partition("\n\n")[0] + "\n"
    signed = raw + cosign(text, secret, 1_795_000_000)
    lab = Lab.of(minutely(EVENTS), kept=[signed])
    export = lab.export(tmp_path / "export")
    words = ("--pin", pin_of(export), "--witness")
    said = alone_json(export, *words, str(secret.verifier))
    assert said.code == 0
    assert said.log()["notes"] == ["witness.example signed for 700 entries on 2026-11-18 11:06 UTC"]
    assert said.log(EVIDENCE)["notes"] == ["witness.example signed nothing of it"]
    other = CosignerSecret.generate("witness.example").verifier
    said = alone_json(export, *words, str(other))
    assert said.log()["notes"] == ["witness.example signed nothing of it"]
    for wrong in ("nonsense", str(KEYS[EVENT].verifier), str(secret.verifier)[:-4] + "AAA="):
        assert alone(export, *words, wrong)[0] == 2
    fewer = Lab.of(minutely(600), kept=[signed]).export(tmp_path / "fewer")
    assert verdict(fewer).codes == {EVENT: {"cut-short"}}


def test_time_stamps_come_along_with_what_they_are_about(tmp_path: Path) -> None:
    """They are read with `openssl`; the manifest names them like every other file."""
    lab = Lab.of(minutely(300))
    lab.stamped = {EVENT: {"office-300.tsr": b"token", "office-300.checkpoint": b"checkpoint"}}
    export = lab.export(tmp_path / "export")
    assert (export / "stamped" / EVENT / "office-300.tsr").read_bytes() == b"token"
    assert verdict(export).code == 0
    (export / "stamped" / EVENT / "office-300.tsr").write_bytes(b"taken")
    assert verdict(export).codes == {"": {"file-differs"}}
