"""Sound logs of any size, made quickly, and ways to spoil them.

`files` builds the published files of a log straight from entries, without a journal, a disk
or a thread, so a log of 65,536 entries takes a second or two. That it looks exactly like
what `Log` publishes is tested in `test_verify.py`.
"""

from sovereign.audit import record, tiles
from sovereign.audit.checkpoint import Checkpoint
from sovereign.audit.erasures import Receipt
from sovereign.audit.merkle import TILE_HEIGHT, Tree, leaf_hash
from sovereign.audit.note import SignerKey, VerifierKey
from sovereign.audit.verify import Report, verify
from tests.audit.scenario import KEY, NOW, entry

EVIDENCE = "test.example/controller/evidence"


def entries(size: int) -> list[bytes]:
    """As many records as are asked for, each another."""
    return [entry(number) for number in range(size)]


def files(
    content: list[bytes], key: SignerKey = KEY, *, full_only: bool = False
) -> dict[str, bytes]:
    """Everything a log of these entries serves. `full_only` leaves the partial files out."""
    tree, found = Tree(), {}
    for each in content:
        tree.append(leaf_hash(each))
    for start in range(0, len(content), 256):
        part = content[start : start + 256]
        found[tiles.bundle_path(start // 256, len(part))] = tiles.pack(part)
    for level, index, tile in tree.finished:
        found[tiles.tile_path(level, index)] = tile
    for level, hashes in enumerate(tree.edge):
        if hashes:
            index = tree.size >> (TILE_HEIGHT * (level + 1))
            found[tiles.tile_path(level, index, len(hashes))] = b"".join(hashes)
    if full_only:
        found = {path: content for path, content in found.items() if ".p/" not in path}
    found["checkpoint"] = Checkpoint(key.name, tree.size, tree.root()).signed(key)
    return found


def erasure(log: str, first: int, last: int) -> bytes:
    """A receipt, as an entry of an evidence log."""
    fields = {"log": log, "first": first, "last": last, "rule": "event"}
    return record.encode("erasure", fields, NOW)


def verdict(
    there: dict[str, bytes],
    key: VerifierKey = KEY.verifier,
    kept: tuple[bytes, ...] = (),
    receipts: tuple[Receipt, ...] = (),
) -> Report:
    """What `verify` says of these files."""
    return verify(there.get, key, kept=kept, receipts=receipts)


def codes(report: Report) -> set[str]:
    """The kinds of findings of a report."""
    return {finding.code for finding in report.findings}
