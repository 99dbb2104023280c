"""The published side of a log: bundles, tiles and the checkpoint that names them.

`publish` brings the files up to the tree; nothing it writes is durable until `settle` has
synced it. Two rules keep a crash from taking what was durable already:

  * A file is written once. One that an earlier writer left under the same name is replaced by
    a synced copy and a rename, never written over.
  * A partial file stays until the full one in its place is durable (tlog-tiles asks for it
    too): recovery starts from the last settled size, and a reader may hold an older checkpoint.

A partial file that is removed is durably gone before a new journal begins, so a power cut does
not bring back what nobody would look for again. `load` names the latest full files all the same:
whatever left a partial file beside one of them, the first `sweep` takes it away.
"""

from sovereign.audit import tiles
from sovereign.audit.checkpoint import Checkpoint
from sovereign.audit.disk import Disk
from sovereign.audit.merkle import HASH_BYTES, TILE_HEIGHT, TILE_WIDTH, Tree, leaf_hash
from sovereign.audit.note import SignerKey
from sovereign.errors import TileDamaged, TileMissing

_SCRATCH = "part.new"
SWEPT_AT_OPENING = 512
"""Full files of each level, latest first: more than a journal of 8 MiB can finish."""


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
        self._written: set[str] = set()  # partial files that need no second writing
        self._finished: set[str] = set()  # full ones of which partial files may lie about
        self._earlier: list[str] = []  # the same, of those that were settled by an earlier writer

    @property
    def to_sweep(self) -> bool:
        """Whether a bundle has become full since the last `sweep`."""
        return bool(self._finished)

    def load(self) -> Tree:
        """Read the right edge of the tree at `size`, and the entries of the unfinished bundle.

        Raises:
            TileMissing: a file that was settled is gone.
            TileDamaged: one holds fewer hashes or entries than it must, or others.
        """
        edge = [self._edge(level) for level in range(tiles.levels(self.size))]
        index, width = divmod(self.size, TILE_WIDTH)
        if width:
            bundle = self._read(tiles.bundle_path(index, width), tiles.bundle_path(index))
            self.tail = _entries(bundle)[:width]
            if [leaf_hash(entry) for entry in self.tail] != edge[0]:
                raise TileDamaged(f"bundle {index} does not hold the {width} entries of its tile")
        self._earlier = _latest_full(self.size)
        return Tree(self.size, edge or [[]])

    def _edge(self, level: int) -> list[bytes]:
        index, width = divmod(self.size >> (TILE_HEIGHT * level), TILE_WIDTH)
        if not width:
            return []
        tile = self._read(tiles.tile_path(level, index, width), tiles.tile_path(level, index))
        hashes = tiles.split_hashes(tile)[:width]
        if len(hashes) < width or len(hashes[-1]) < HASH_BYTES:
            raise TileDamaged(f"tile {level}/{index} holds fewer than {width} hashes")
        return hashes

    def _read(self, path: str, full: str) -> bytes:
        found = self._disk.read(path)
        if found is None:
            found = self._disk.read(full)
        else:
            self._written.add(path)
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
        if path in self._written:
            return
        if self._disk.read(path) is None:
            self._disk.write(path, data)
        else:
            self._replace(path, data)
        self._unsynced.add(path)
        if width == TILE_WIDTH:
            self._finished.add(full)
        else:
            self._written.add(path)

    def _replace(self, path: str, data: bytes) -> None:
        """Put a file in the place of one that may be torn, or may be durable and needed."""
        self._disk.write(_SCRATCH, data)
        self._disk.sync(_SCRATCH)
        self._disk.rename(_SCRATCH, path)

    def _checkpoint(self, note: bytes) -> None:
        """Put it in place, never torn: what was served once is what recovery must not undercut."""
        fresh = tiles.CHECKPOINT + ".new"
        self._disk.write(fresh, note)
        self._disk.sync(fresh)
        self._disk.rename(fresh, tiles.CHECKPOINT)
        self._unsynced.add(tiles.CHECKPOINT)

    def settle(self) -> None:
        """Make everything published durable; afterwards recovery may start from `size`."""
        folders: set[str] = set()
        needed = {p for p in self._unsynced if p == _full(p) or _full(p) not in self._finished}
        for path in sorted(needed):
            self._disk.sync(path)
            folders.update(_folders_of(path))
        for folder in sorted(folders, reverse=True):
            self._disk.sync(folder)
        self._unsynced.clear()
        self.settled = self.size

    def sweep(self) -> None:
        """Remove the partial files of what is full, durably; only after `settle` synced that."""
        for full in [*self._earlier, *sorted(self._finished)]:
            self._disk.remove(f"{full}.p")
        for folder in sorted({_folders_of(full)[0] for full in self._finished}):
            self._disk.sync(folder)
        self._earlier = []
        self._written = {path for path in self._written if _full(path) not in self._finished}
        self._finished.clear()
        self._disk.remove(_SCRATCH)

    def signed(self, tree: Tree, origin: str) -> bytes:
        """The signed checkpoint of a tree."""
        return Checkpoint(origin, tree.size, tree.root()).signed(self._key)


def _folders_of(path: str) -> list[str]:
    """Every folder above a path, the log's own (`.`) last."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[:i]) for i in range(len(parts), 0, -1)] + ["."]


def _latest_full(size: int) -> list[str]:
    """The full tiles and bundles that a log of `size` entries finished last."""
    found = []
    for level in range(tiles.levels(size)):
        count = size >> (TILE_HEIGHT * (level + 1))
        latest = range(max(0, count - SWEPT_AT_OPENING), count)
        found += [tiles.tile_path(level, index) for index in latest]
        found += [tiles.bundle_path(index) for index in latest if level == 0]
    return found


def _full(path: str) -> str:
    """The full file that a partial one makes way for; the path of any other is its own."""
    return path.partition(".p/")[0]


def _entries(bundle: bytes) -> list[bytes]:
    try:
        return tiles.unpack(bundle)
    except ValueError as error:
        raise TileDamaged(f"the unfinished bundle cannot be read: {error}") from None
