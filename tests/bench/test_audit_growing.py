"""The log that is grown for a benchmark is the log that a writer publishes."""

from pathlib import Path

import pytest

from bench.__main__ import main
from bench.audit_growing import Growing
from sovereign.audit import tiles
from sovereign.audit.folder import Folder
from sovereign.audit.verify import verify
from tests.audit.loglab import files
from tests.audit.scenario import KEY, clock


def entries_of(there: Folder, size: int) -> list[bytes]:
    """The entries, as its bundles have them."""
    found: list[bytes] = []
    for index in range(-(-size // 256)):
        found += tiles.unpack(there(tiles.bundle_path(index, min(256, size - 256 * index))) or b"")
    return found


@pytest.mark.parametrize("size", [1, 255, 256, 257, 1000])
def test_what_is_grown_is_what_a_writer_publishes(tmp_path: Path, size: int) -> None:
    """Figures of a log that nobody would write say nothing."""
    grown = Growing(tmp_path, KEY, clock)
    grown.grow(size)
    there = Folder(tmp_path)
    wanted = files(entries_of(there, size))
    assert {path: there(path) for path in wanted} == wanted
    assert verify(there, KEY.verifier).sound


def test_a_log_that_grew_continues_the_one_it_was(tmp_path: Path) -> None:
    """Each size of the curve is a prefix of the next."""
    grown = Growing(tmp_path, KEY, clock)
    kept = []
    for size in (10, 256, 300, 900):
        grown.grow(size)
        kept.append((tmp_path / "checkpoint").read_bytes())
    report = verify(Folder(tmp_path), KEY.verifier, kept=kept)
    assert (report.findings, report.size) == ((), 900)


def test_a_cap_on_the_greatest_log_belongs_to_scale(capsys: pytest.CaptureFixture[str]) -> None:
    """Two and a half gigabytes are not everybody's to give."""
    for words in (["audit", "--entries", "5000"], ["scale", "--entries", "10"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
    assert "--entries goes with scale" in capsys.readouterr().err
