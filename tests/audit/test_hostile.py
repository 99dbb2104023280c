"""A folder that is handed over may hold anything: verifying it ends, in bounds, with an answer."""

import os
import resource
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from sovereign.audit import tiles
from sovereign.audit.checkpoint import Checkpoint
from sovereign.audit.folder import BUNDLE_MAX_BYTES, STRANGE, Folder
from sovereign.audit.note import SignerKey, sign
from sovereign.audit.verify import EVERY_FINDING_MAX, Receipt, verify
from tests.audit.loglab import EVIDENCE, entries, files
from tests.audit.scenario import KEY, ORIGIN

ENDS_WITHIN_S = 60.0
"""Far more than anything here needs; what hangs, hangs for ever."""
MIDDLE, TILE, LAST = "tile/entries/001", "tile/0/001", "tile/entries/002.p/88"
Found = list[tuple[str, str]]
GONE = ("bundle-missing", f"{ORIGIN}#256 to #511")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound log of 600 entries in a folder."""
    root = tmp_path / "log"
    for path, data in files(entries(600)).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def found_in(root: Path, *receipts: Receipt) -> Found:
    began = time.monotonic()
    report = verify(Folder(root), KEY.verifier, receipts=receipts)
    assert time.monotonic() - began < ENDS_WITHIN_S
    return [(each.code, each.where) for each in report.findings]


# --- what is no file --------------------------------------------------------------------------


def _link_out(at: Path) -> None:
    """To a file outside the folder that holds just what is wanted: it is not the log's."""
    outside = at.parents[len(at.parts) - at.parts.index("log") - 1].parent / "outside"
    at.rename(outside)
    at.symlink_to(outside)


def _link_in(at: Path) -> None:
    at.rename(at.with_name("other"))
    at.symlink_to("other")


def _link_to_itself(at: Path) -> None:
    at.unlink()
    at.symlink_to(at.name)


def _pipe(at: Path) -> None:
    at.unlink()
    os.mkfifo(at)


def _socket(at: Path) -> None:
    at.unlink()
    here = Path.cwd()
    os.chdir(at.parent)  # a socket's whole path must be short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(at.name)
    finally:
        os.chdir(here)


def _sparse(at: Path) -> None:
    with at.open("r+b") as file:
        file.truncate(4 * 1024**3)


STRANGE_THINGS: dict[str, Callable[[Path], None]] = {
    "a link out of the folder": _link_out,
    "a link to another file of the log": _link_in,
    "a link to itself": _link_to_itself,
    "a pipe": _pipe,
    "a socket": _socket,
    "a file of 4 GB": _sparse,
}


@pytest.mark.parametrize("thing", STRANGE_THINGS)
def test_a_tile_that_is_no_file_of_a_log_is_found(folder: Path, thing: str) -> None:
    """A verifier that follows a link reads what its auditor never was given."""
    STRANGE_THINGS[thing](folder / TILE)
    assert found_in(folder) == [("tile-differs", TILE)]


@pytest.mark.parametrize("thing", STRANGE_THINGS)
def test_a_bundle_that_is_no_file_of_a_log_is_found(folder: Path, thing: str) -> None:
    """Nor may a pipe make it wait for ever, or a great file fill the memory."""
    STRANGE_THINGS[thing](folder / MIDDLE)
    assert found_in(folder) == [("bundle-damaged", MIDDLE), GONE]


@pytest.mark.parametrize("thing", STRANGE_THINGS)
def test_a_checkpoint_that_is_no_file_of_a_log_is_found(folder: Path, thing: str) -> None:
    """The first file that is read is the first that is spoiled."""
    STRANGE_THINGS[thing](folder / "checkpoint")
    assert found_in(folder) == [("checkpoint-foreign", "checkpoint")]


@pytest.mark.parametrize("path", ["tile", "tile/0", "tile/entries", "tile/entries/002.p"])
def test_a_folder_of_the_log_that_is_a_link_is_not_followed(folder: Path, path: str) -> None:
    """A hundred links in a circle could stand for more tiles than there are atoms."""
    (folder / path).rename(folder.parent / "outside")
    (folder / path).symlink_to(folder.parent / "outside")
    codes = {code for code, _ in found_in(folder)}
    assert codes <= {"tile-differs", "bundle-damaged", "bundle-missing", "root-differs"}
    assert codes & {"tile-differs", "bundle-damaged"}


def test_a_circle_of_folders_does_not_stand_for_a_log_without_end(tmp_path: Path) -> None:
    """With links that are followed, two thousand names serve 2**60 entries."""
    root = tmp_path / "log"
    (root / "tile/0").mkdir(parents=True)
    (root / "tile/entries").mkdir()
    for number in range(1000):
        (root / f"tile/0/x{number:03d}").symlink_to(".")
        (root / f"tile/0/{number:03d}").write_bytes(bytes(8192))
    (root / "checkpoint").write_bytes(Checkpoint(ORIGIN, 2**60, bytes(32)).signed(KEY))
    found = found_in(root, Receipt(ORIGIN, 0, 2**60, f"{EVIDENCE}#1"))
    assert len(found) == EVERY_FINDING_MAX
    assert {code for code, _ in found} == {"tile-differs", "tile-missing"}


def test_the_folder_itself_may_be_reached_through_a_link(folder: Path) -> None:
    """The operator named it: logs on another disk are usual."""
    (folder.parent / "link").symlink_to(folder)
    assert found_in(folder.parent / "link") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a device")
def test_a_device_is_not_opened(folder: Path) -> None:
    """Opening some devices already does something."""
    (folder / TILE).unlink()
    try:
        os.mknod(folder / TILE, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero: no end
    except PermissionError:
        pytest.skip("not even root may make a device here")
    assert found_in(folder) == [("tile-differs", TILE)]


def test_a_folder_in_a_files_place_is_no_file(folder: Path) -> None:
    """It is as good as gone."""
    (folder / TILE).unlink()
    (folder / TILE).mkdir()
    assert found_in(folder) == [
        ("tile-missing", TILE),
    ]


@pytest.mark.parametrize(
    "path",
    [
        "../outside",
        "tile/../../outside",
        "..",
        ".",
        "",
        "/etc/passwd",
        "tile//0",
        "./checkpoint",
        "tile/...",
    ],
)
def test_no_name_leads_out_of_the_folder(folder: Path, path: str) -> None:
    """Names are computed from numbers today; tomorrow somebody may read one out of a file."""
    (folder.parent / "outside").write_bytes(b"secret")
    assert Folder(folder)(path) is None


@pytest.mark.parametrize("origin", ["../../../etc", "/", "..", "a/../b/event", "%2e%2e", "..\\.."])
def test_a_log_whose_name_is_a_path_is_a_log_like_any_other(origin: str, tmp_path: Path) -> None:
    """A name is compared and shown; no file is ever called by it."""
    key = SignerKey(origin, KEY.private)
    there = files([], key)
    (tmp_path / "checkpoint").write_bytes(there["checkpoint"])
    report = verify(Folder(tmp_path), key.verifier)
    assert (report.origin, report.findings) == (origin, ())


def test_what_is_read_is_plain_whole_and_no_longer_than_it_can_be(tmp_path: Path) -> None:
    """The yes beside all these noes, and the edge where yes becomes no."""
    read = Folder(tmp_path)
    (tmp_path / "tile/entries").mkdir(parents=True)
    for path, most in (("tile/entries/000", BUNDLE_MAX_BYTES), ("checkpoint", 65_536)):
        (tmp_path / path).write_bytes(b"x" * most)
        assert read(path) == b"x" * most
        with (tmp_path / path).open("ab") as file:
            file.write(b"y")
        assert read(path) == STRANGE
    assert read("tile/entries/001") is None
    assert read("checkpoint/more") is None
    assert Folder(tmp_path / "nowhere")("checkpoint") is None


# --- claims -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2**40, 2**60, 10**18 - 1, 9_999_999_999_999_999_999])
@pytest.mark.parametrize("receipted", [True, False])
def test_a_checkpoint_over_more_entries_than_there_are_atoms_ends_quickly(
    tmp_path: Path, size: int, receipted: bool
) -> None:
    """The key's holder may claim anything; the auditor's evening is hers."""
    note = Checkpoint(ORIGIN, size, bytes(32)).signed(KEY)
    (tmp_path / "checkpoint").write_bytes(note)
    given = (Receipt(ORIGIN, 0, size - 1, f"{EVIDENCE}#1"),) if receipted else ()
    found = found_in(tmp_path, *given)
    assert found == [("tile-missing", tiles.tile_path(0, n)) for n in range(EVERY_FINDING_MAX)]


def test_a_kept_checkpoint_over_any_size_costs_nothing() -> None:
    """The auditor's own folder may have been spoiled too."""
    there = files(entries(3))
    kept = [Checkpoint(ORIGIN, size, bytes(32)).signed(KEY) for size in (2**60, 0, 1, 2)] * 50
    report = verify(there.get, KEY.verifier, kept=kept, receipts=())
    assert len(report.findings) == EVERY_FINDING_MAX


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\n" * 65_536,
        b"x" * 70_000,
        b"\xff\xfe",
        (ORIGIN + "\n5\n").encode() * 5_000,
        sign(f"{ORIGIN}\n5\n" + "A" * 20_000 + "\n", KEY),
        sign("\n\n\n\n", KEY),
        sign(f"{ORIGIN}\n{'9' * 30_000}\nAAAA\n", KEY),
        ("a\n\n" + "— x " + "A" * 100 + "\n").encode() * 150,
    ],
    ids=range(9),
)
def test_a_checkpoint_that_is_none_is_said_to_be_none(note: bytes) -> None:
    """Whatever its length and its bytes."""
    report = verify({"checkpoint": note}.get, KEY.verifier)
    assert [each.code for each in report.findings] == ["checkpoint-foreign"]


def test_bundles_that_are_as_great_as_can_be_are_looked_at_one_by_one(tmp_path: Path) -> None:
    """Memory is that of one bundle, whatever lies in the folder."""
    junk = tiles.pack([b"[" * 65_535] * 256)
    (tmp_path / "tile/entries").mkdir(parents=True)
    for number in range(12):
        (tmp_path / tiles.bundle_path(number)).write_bytes(junk)
    (tmp_path / "checkpoint").write_bytes(Checkpoint(ORIGIN, 12 * 256, bytes(32)).signed(KEY))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = found_in(tmp_path)
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert {code for code, _ in found} == {"tile-missing", "record-invalid"}
    assert len(found) == EVERY_FINDING_MAX
    assert grown_kb < 12 * len(junk) // 1024, "all of them were in memory at once"


# --- the command ------------------------------------------------------------------------------


def ran(*words: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "sovereign", "audit", "verify", *words],
        capture_output=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )


def test_the_command_says_what_it_found_in_a_hostile_folder(folder: Path) -> None:
    """Exit 1 and the finding: no trace of ours, which would tell her nothing."""
    _pipe(folder / "tile/0/000")
    _link_out(folder / MIDDLE)
    done = ran(str(folder), "--vkey", str(KEY.verifier), "--json")
    assert done.returncode == 1
    (log,) = msgspec.json.decode(done.stdout)["logs"]
    assert [each["where"] for each in log["findings"]] == ["tile/0/000", MIDDLE]
    assert b"Traceback" not in done.stderr


def test_the_command_exits_3_when_it_cannot_tell(folder: Path) -> None:
    """No key was given, or a file cannot be read: neither a yes nor a no."""
    assert ran(str(folder), "--json").returncode == 3
    if os.geteuid() != 0:
        (folder / TILE).chmod(0)
        done = ran(str(folder), "--vkey", str(KEY.verifier), "--json")
        assert (done.returncode, b"Traceback" in done.stderr) == (3, False)


def test_a_file_that_cannot_be_read_is_neither_gone_nor_different() -> None:
    """A fault of the disk must not look like a deed."""

    def read(path: str) -> bytes | None:
        if path == TILE:
            raise OSError(5, "Input/output error")
        return files(entries(600)).get(path)

    with pytest.raises(OSError, match="Input/output"):
        verify(read, KEY.verifier)


def test_a_name_that_a_folder_claims_is_shown_without_its_control_characters(
    tmp_path: Path,
) -> None:
    """A log that nobody has a key for must not paint on the auditor's screen."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "checkpoint").write_bytes(
            b"\x1b]0;sound\x07\x1b[2J" + name.encode() + b"\n1\n"
        )
    keys = [*("--vkey", str(KEY.verifier)), *("--vkey", str(SignerKey.generate("b").verifier))]
    done = ran(str(tmp_path / "one"), str(tmp_path / "two"), *keys)
    assert done.returncode == 3
    assert not any(byte < 32 and byte not in b"\n\t" for byte in done.stdout + done.stderr)


def test_a_file_that_grows_while_it_is_read_is_read_to_its_end_and_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer replaces files while auditors read; whoever only appends cannot fill the memory."""
    (tmp_path / "tile/0").mkdir(parents=True)
    really, grown = os.open, tmp_path / "tile/0/000"
    growth = {"by": 0}

    def opened(path: str, flags: int, **options: int) -> int:
        if path == "000":
            with grown.open("ab") as file:
                file.write(b"y" * growth["by"])
        return really(path, flags, **options)

    monkeypatch.setattr(os, "open", opened)
    for growth["by"], wanted in ((0, 32), (1, 33), (8160, 8192), (8161, 0), (500_000, 0)):
        grown.write_bytes(b"x" * 32)
        found = Folder(tmp_path)("tile/0/000")
        assert found is not None
        assert len(found) == wanted
