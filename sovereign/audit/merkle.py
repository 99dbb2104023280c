"""Merkle tree hashing and proofs, as RFC 6962 section 2.1 defines them.

Pure: it opens no file, reads no clock and keeps no state of its own, so the writer
(`log.py`) and the outside auditor (`verify.py`) can share it without sharing trust. It does
not decide what an entry contains (`record.py`) or who signed a root (`checkpoint.py`).

Rules that hold everywhere below:
  * Leaves and inner nodes are hashed with different first bytes, 0x00 and 0x01, so a node
    can never be passed off as an entry.
  * Indexes count from 0 and `size` counts entries, so `index < size` always.
  * A node is named by its height and its index at that height: node (0, i) is leaf i, node
    (h, i) is the root over the entries [i * 2**h, (i + 1) * 2**h). Only complete ones exist.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256

from sovereign.errors import OutOfRange

HASH_BYTES = 32
TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
EMPTY_ROOT = sha256(b"").digest()

ReadNode = Callable[[int, int], bytes]
"""Gives the hash of the complete node (height, index)."""


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of one entry."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node over two children."""
    return sha256(b"\x01" + left + right).digest()


def fold(hashes: list[bytes]) -> bytes:
    """Return the root over `hashes`, whose number must be a power of two."""
    while len(hashes) > 1:
        hashes = [node_hash(hashes[i], hashes[i + 1]) for i in range(0, len(hashes), 2)]
    return hashes[0]


class Tree:
    """The right edge of a growing tree: all that is needed to append and to know the root.

    `edge[k]` holds the hashes of the unfinished tile of level `k`, at most 255 of them:
    nodes of height `8 * k`, left to right. A finished tile is handed to `finished` as
    (level, index, 8192 bytes).
    """

    def __init__(self, size: int = 0, edge: list[list[bytes]] | None = None) -> None:
        self.size = size
        self.edge = edge if edge is not None else [[]]
        self.finished: list[tuple[int, int, bytes]] = []
        self._peaks = [_peaks_of(tile) for tile in self.edge]

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        self.size += 1
        self._add(0, leaf)

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Add many leaf hashes: the same as `append` with each, without a call for each."""
        done = 0
        while done < len(leaves):
            tile, peaks = self.edge[0], self._peaks[0]
            part = leaves[done : done + TILE_WIDTH - len(tile)]
            done += len(part)
            self.size += len(part)
            tile.extend(part)
            for leaf in part:
                width, node = 1, leaf
                while peaks and peaks[-1][0] == width:
                    width, node = 2 * width, sha256(b"\x01" + peaks.pop()[1] + node).digest()
                peaks.append((width, node))
            if len(tile) == TILE_WIDTH:
                self._finish(0)

    def append_tile(self, root: bytes) -> None:
        """Add the 256 leaves of a full tile of level 0 by the root over them.

        The size must be a multiple of 256; this tile is not handed to `finished`.
        """
        self.size += TILE_WIDTH
        self._add(1, root)

    def _add(self, level: int, node: bytes) -> None:
        if level == len(self.edge):
            self.edge.append([])
            self._peaks.append([])
        tile, peaks = self.edge[level], self._peaks[level]
        tile.append(node)
        _add_peak(peaks, node)
        if len(tile) == TILE_WIDTH:
            self._finish(level)

    def _finish(self, level: int) -> None:
        (_, whole) = self._peaks[level].pop()
        index = (self.size >> (TILE_HEIGHT * (level + 1))) - 1
        self.finished.append((level, index, b"".join(self.edge[level])))
        self.edge[level] = []
        self._add(level + 1, whole)

    def root(self) -> bytes:
        """Return the root over everything appended; of no entries it is SHA-256 of nothing."""
        root = b""
        for peaks in self._peaks:
            for _, subtree in reversed(peaks):
                root = node_hash(subtree, root) if root else subtree
        return root or EMPTY_ROOT


Peaks = list[tuple[int, bytes]]
"""The complete subtrees of an unfinished tile, widest first: how many nodes, and the root."""


def _peaks_of(tile: list[bytes]) -> Peaks:
    peaks: Peaks = []
    for node in tile:
        _add_peak(peaks, node)
    return peaks


def _add_peak(peaks: Peaks, node: bytes) -> None:
    width = 1
    while peaks and peaks[-1][0] == width:
        _, left = peaks.pop()
        width, node = 2 * width, node_hash(left, node)
    peaks.append((width, node))


def subtree_root(read: ReadNode, start: int, end: int) -> bytes:
    """Return the root over the entries [start, end); `start` is a multiple of the width's power."""
    width = end - start
    if width & (width - 1) == 0 and start % width == 0:
        return read(width.bit_length() - 1, start // width)
    middle = start + _split(width)
    return node_hash(subtree_root(read, start, middle), subtree_root(read, middle, end))


def inclusion_proof(read: ReadNode, index: int, size: int) -> list[bytes]:
    """Return the sibling hashes that tie entry `index` to the root over `size` entries.

    Args:
        read: fetches one complete node; called at most 2 x log2(size) times.
        size: entries in the tree the proof is for; may be smaller than the log is today.

    Returns:
        Hashes of 32 bytes, leaf side first; empty when `size` is 1.

    Raises:
        OutOfRange: `index` is not below `size`. Nothing was read.
    """
    if not 0 <= index < size:
        raise OutOfRange(
            f"there is no entry {index} in a tree of {size}", accepted=f"0 to {size - 1}"
        )
    proof: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            proof.append(subtree_root(read, middle, end))
            end = middle
        else:
            proof.append(subtree_root(read, start, middle))
            start = middle
    return proof[::-1]


def consistency_proof(read: ReadNode, old: int, size: int) -> list[bytes]:
    """Return the hashes that show the tree of `old` entries to be a prefix of that of `size`.

    Raises:
        OutOfRange: `old` is not between 1 and `size`. Nothing was read.
    """
    if not 0 < old <= size:
        raise OutOfRange(f"a tree of {size} has no prefix of {old}", accepted=f"1 to {size}")
    proof: list[bytes] = []
    start, end, whole = 0, size, True
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(subtree_root(read, middle, end))
            end = middle
        else:
            proof.append(subtree_root(read, start, middle))
            start, whole = middle, False
    if not whole:
        proof.append(subtree_root(read, start, end))
    return proof[::-1]


def root_from_inclusion(leaf: bytes, index: int, size: int, proof: list[bytes]) -> bytes | None:
    """Return the root that `proof` leads to, None if it has the wrong shape (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size or len(leaf) != HASH_BYTES:
        return None
    node, last, root = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return None
        if node & 1 or node == last:
            root = node_hash(sibling, root)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            root = node_hash(root, sibling)
        node, last = node >> 1, last >> 1
    return root if last == 0 else None


def is_consistent(old: int, size: int, old_root: bytes, root: bytes, proof: list[bytes]) -> bool:
    """True when `proof` shows one root's tree to be a prefix of the other's (RFC 9162, 2.1.4.2)."""
    if not 0 < old <= size:
        return False
    if old == size:
        return not proof and old_root == root
    path = proof if old & (old - 1) else [old_root, *proof]
    if not path:
        return False
    node, last = old - 1, size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    first = second = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and first == old_root and second == root


def _split(width: int) -> int:
    """The largest power of two smaller than `width`, which is at least 2."""
    return 1 << (width - 1).bit_length() - 1
