"""The worked example of docs/formats/log.md is a real log, and the page holds every byte of it.

How `journal.md` is held to the code stands in `test_recovery.py`.
"""

import textwrap
from pathlib import Path

from sovereign.audit import proof, record
from sovereign.audit.merkle import leaf_hash
from tests.audit.loglab import files, verdict
from tests.audit.scenario import KEY, NOW, ORIGIN, entry

PAGE = (Path(__file__).parents[2] / "docs/formats/log.md").read_text()
ENTRIES = [
    record.encode("log-created", {"origin": ORIGIN}, NOW, b"\x01" * 16),
    entry(0, b"\3" * 16),
]
LOG = files(ENTRIES)


def shown(text: str) -> bool:
    """True when the page shows the text as a block of its own."""
    block = textwrap.indent(text, "    ")
    return f"\n\n{block}\n\n" in f"{PAGE}\n\n"


def test_the_page_shows_the_entries_the_hashes_and_the_root_of_the_example() -> None:
    """A stranger's program is right when it gets these; so they have to be right."""
    assert verdict(LOG).findings == ()
    assert shown("\n".join(each.decode() for each in ENTRIES))
    assert shown("\n".join(leaf_hash(each).hex() for each in ENTRIES))
    assert shown(verdict(LOG).root.hex())
    for path, size in (("tile/entries/000.p/2", 365), ("tile/0/000.p/2", 64)):
        assert len(LOG[path]) == size
        assert f"`{path}` has {size} bytes" in PAGE
    lengths = [len(each) for each in ENTRIES]
    assert f"of {lengths[0]} and {lengths[1]} bytes" in PAGE
    assert LOG["tile/entries/000.p/2"][:2].hex(" ") == "00 8f"


def test_the_page_shows_the_checkpoint_the_key_and_a_proof_of_the_example() -> None:
    """The signature too: Ed25519 gives the same one each time."""
    assert shown(LOG["checkpoint"].decode().rstrip("\n"))
    assert shown(str(KEY.verifier))
    proven = proof.prove(LOG.get, KEY.verifier, 1)
    assert shown(proven.decode().rstrip("\n"))
    found = proof.check(proven, KEY.verifier)
    assert found is not None
    assert (found.index, found.entry) == (1, ENTRIES[1])
