"""The published side of a log: bundles, tiles and the checkpoint that names them.

`publish` brings the files up to the tree; nothing it writes is durable until `settle` has
synced it. Partial files of earlier widths stay until the next `settle` is through, because
recovery starts from the last settled size and readers may hold an older checkpoint.
"""

from sovereign.audit import tiles
from sovereign.audit.checkpoint import Checkpoint
from sovereign.audit.disk import Disk
from sovereign.audit.merkle import TILE_HEIGHT, TILE_WIDTH, Tree
from sovereign.audit.note import SignerKey
from sovereign.errors import TileDamaged, TileMissing


class Store:
    """Knows what is published (`size`) and what of it is durable (`settled`).

    `tail` holds the published entries of the unfinished bundle.
    """

    def __init__(self, disk: Disk, key: SignerKey, size: int) -> None:
        self._disk = disk
        self._key = key
        self.size = size
        self.settled = size
        self.tail: list[bytes] = []
        self._unsynced: set[str] = set()
        self._partial: dict[str, set[str]] = {}

    def load(self) -> Tree:
        """Read the right edge of the tree at `size`, and the entries of the unfinished bundle.

        Raises:
            TileMissing: a file that was settled is gone.
            TileDamaged: one holds fewer hashes or entries than it must.
        """
        edge = [self._edge(level) for level in range(tiles.levels(self.size))]
        index, width = divmod(self.size, TILE_WIDTH)
        if width:
            bundle = self._read(tiles.bundle_path(index, width), tiles.bundle_path(index))
            self.tail = tiles.unpack(bundle)[:width]
            if len(self.tail) < width:
                raise TileDamaged(f"bundle {index} holds {len(self.tail)} entries, not {width}")
        return Tree(self.size, edge or [[]])

    def _edge(self, level: int) -> list[bytes]:
        index, width = divmod(self.size >> (TILE_HEIGHT * level), TILE_WIDTH)
        if not width:
            return []
        tile = self._read(tiles.tile_path(level, index, width), tiles.tile_path(level, index))
        hashes = tiles.split_hashes(tile)[:width]
        if len(hashes) < width or len(hashes[-1]) < 32:
            raise TileDamaged(f"tile {level}/{index} holds fewer than {width} hashes")
        return hashes

    def _read(self, path: str, full: str) -> bytes:
        found = self._disk.read(path)
        if found is None:
            found = self._disk.read(full)
        if found is None:
            raise TileMissing(f"{path} was published and is gone", next_step="restore the log")
        return found

    def publish(self, tree: Tree, entries: list[bytes], note: bytes) -> None:
        """Write what is new since the last time; `note` is the signed checkpoint of `tree`.

        Order: bundles, tiles, then the checkpoint, by rename. A crash in between leaves an
        old checkpoint with newer files beside it, which no reader of that checkpoint sees.
        """
        first = self.size // TILE_WIDTH
        pending = self.tail + entries
        for i in range(0, len(pending), TILE_WIDTH):
            part = pending[i : i + TILE_WIDTH]
            self._put("entries", first + i // TILE_WIDTH, len(part), tiles.pack(part))
        self.tail = pending[len(pending) - len(pending) % TILE_WIDTH :]
        finished, tree.finished = tree.finished, []
        for level, index, tile in finished:
            self._put(str(level), index, TILE_WIDTH, tile)
        for level, hashes in enumerate(tree.edge):
            if hashes:
                index = tree.size >> (TILE_HEIGHT * (level + 1))
                self._put(str(level), index, len(hashes), b"".join(hashes))
        self._checkpoint(note)
        self.size = tree.size

    def _put(self, kind: str, index: int, width: int, data: bytes) -> None:
        name = tiles.number_path(index)
        full = f"tile/{kind}/{name}"
        path = full if width == TILE_WIDTH else f"{full}.p/{width}"
        self._disk.write(path, data)
        self._unsynced.add(path)
        if width < TILE_WIDTH:
            self._partial.setdefault(full, set()).add(path)

    def _checkpoint(self, note: bytes) -> None:
        fresh = tiles.CHECKPOINT + ".new"
        self._disk.write(fresh, note)
        self._disk.rename(fresh, tiles.CHECKPOINT)
        self._unsynced.add(tiles.CHECKPOINT)

    def settle(self) -> None:
        """Make everything published durable; afterwards recovery may start from `size`."""
        folders: set[str] = set()
        for path in sorted(self._unsynced):
            self._disk.sync(path)
            folders.update(_folders_of(path))
        for folder in sorted(folders, reverse=True):
            self._disk.sync(folder)
        self._unsynced.clear()
        self.settled = self.size

    def sweep(self) -> None:
        """Remove partial files that neither `settled` nor any later size needs."""
        for full, paths in list(self._partial.items()):
            current = {p for p in paths if self._is_current(full, p)}
            for path in sorted(paths - current):
                self._disk.remove(path)
            self._partial[full] = current
            if not current:
                del self._partial[full]

    def _is_current(self, full: str, path: str) -> bool:
        kind = full.split("/")[1]
        level = 0 if kind == "entries" else int(kind)
        index, width = divmod(self.settled >> (TILE_HEIGHT * level), TILE_WIDTH)
        return full == f"tile/{kind}/{tiles.number_path(index)}" and path.endswith(f".p/{width}")

    def signed(self, tree: Tree, origin: str) -> bytes:
        """The signed checkpoint of a tree."""
        return Checkpoint(origin, tree.size, tree.root()).signed(self._key)


def _folders_of(path: str) -> list[str]:
    """Every folder above a path, the log's own (`.`) last."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[:i]) for i in range(len(parts), 0, -1)] + ["."]
