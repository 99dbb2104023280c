"""The published files of a log of any size, written quickly: no journal, no sync, no writer.

What is written is exactly what a writer publishes (`tests/bench/test_audit_growing.py` compares the
two), so it verifies, and a prefix of it verifies under the checkpoint that was written then.
"""

from collections.abc import Iterator
from pathlib import Path

from bench.waiting import completion
from sovereign.audit import journal, record, tiles
from sovereign.audit.checkpoint import Checkpoint
from sovereign.audit.disk import RealDisk
from sovereign.audit.log import Clock, Log
from sovereign.audit.merkle import TILE_HEIGHT, TILE_WIDTH, Tree, leaf_hash
from sovereign.audit.note import SignerKey, VerifierKey


class Growing:
    """A log in a folder that only grows."""

    def __init__(self, folder: Path, key: SignerKey, clock: Clock) -> None:
        self.folder = folder
        self._key = key
        self._clock = clock
        self._tree = Tree()
        self._tail: list[bytes] = []

    @property
    def vkey(self) -> VerifierKey:
        """What it verifies under."""
        return self._key.verifier

    @property
    def size(self) -> int:
        """Entries so far."""
        return self._tree.size

    def grow(self, size: int) -> None:
        """Append until there are `size` entries, and publish the checkpoint over them."""
        for entry in self._entries(size):
            self._tree.append(leaf_hash(entry))
            self._tail.append(entry)
            if len(self._tail) == TILE_WIDTH:
                self._finish()
        self._publish()

    def opened(self) -> Log:
        """Open it as its writer does after a clean end.

        The next `grow` goes on from before, as if it had never been opened.
        """
        base = journal.base_frame(self._tree.size, self._tree.root())
        (self.folder / journal.PATH).write_bytes(base)
        return Log(RealDisk(self.folder), self._key, self._clock)

    def _entries(self, size: int) -> Iterator[bytes]:
        for number in range(self._tree.size, size):
            yield record.encode("completion", completion(number), self._clock())

    def _finish(self) -> None:
        bundle = self._tree.size // TILE_WIDTH - 1
        self._write(tiles.bundle_path(bundle), tiles.pack(self._tail))
        self._tail = []
        for level, index, tile in self._tree.finished:
            self._write(tiles.tile_path(level, index), tile)
        self._tree.finished = []

    def _publish(self) -> None:
        tree = self._tree
        if self._tail:
            path = tiles.bundle_path(tree.size // TILE_WIDTH, len(self._tail))
            self._write(path, tiles.pack(self._tail))
        for level, hashes in enumerate(tree.edge):
            if hashes:
                index = tree.size >> (TILE_HEIGHT * (level + 1))
                self._write(tiles.tile_path(level, index, len(hashes)), b"".join(hashes))
        signed = Checkpoint(self._key.name, tree.size, tree.root()).signed(self._key)
        self._write(tiles.CHECKPOINT, signed)

    def _write(self, path: str, data: bytes) -> None:
        target = self.folder / path
        try:
            target.write_bytes(data)
        except FileNotFoundError:
            target.parent.mkdir(parents=True)
            target.write_bytes(data)
