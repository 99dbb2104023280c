"""Where the parts of a log lie and how they are packed (C2SP tlog-tiles).

A tile holds up to 256 hashes of one level, a bundle up to 256 entries, each entry behind
its length in two bytes, big-endian. Full ones have fixed names and never change; those of
the right edge are *partial* and carry their width in the name: `tile/0/001.p/17`.
"""

from sovereign.audit.merkle import HASH_BYTES, TILE_HEIGHT, TILE_WIDTH

CHECKPOINT = "checkpoint"
ENTRY_MAX_BYTES = 65_535


def number_path(n: int) -> str:
    """Write `n` in groups of three digits, all but the last marked: 1234067 is x001/x234/067."""
    groups = [f"{n % 1000:03d}"]
    while n >= 1000:
        n //= 1000
        groups.insert(0, f"x{n % 1000:03d}")
    return "/".join(groups)


def _with_width(path: str, width: int) -> str:
    return path if width == TILE_WIDTH else f"{path}.p/{width}"


def tile_path(level: int, index: int, width: int = TILE_WIDTH) -> str:
    """The name of a tile of `width` hashes, 1 to 256."""
    return _with_width(f"tile/{level}/{number_path(index)}", width)


def bundle_path(index: int, width: int = TILE_WIDTH) -> str:
    """The name of a bundle of `width` entries, 1 to 256."""
    return _with_width(f"tile/entries/{number_path(index)}", width)


def width_of(level: int, index: int, size: int) -> int:
    """How many hashes the tile has in a log of `size` entries: 0 (does not exist) to 256."""
    nodes = size >> (TILE_HEIGHT * level)
    return max(0, min(TILE_WIDTH, nodes - index * TILE_WIDTH))


def levels(size: int) -> int:
    """How many levels have a tile in a log of `size` entries."""
    count = 0
    while size >> (TILE_HEIGHT * count):
        count += 1
    return count


def pack(entries: list[bytes]) -> bytes:
    """The bundle of these entries."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def unpack(bundle: bytes, at_most: int | None = None) -> list[bytes]:
    """The entries of a bundle.

    Args:
        at_most: so many are read and kept; left out, as many as there are.

    Raises:
        ValueError: it ends in the middle of an entry, or holds more than `at_most`.
    """
    entries: list[bytes] = []
    position, end, most = 0, len(bundle), len(bundle) if at_most is None else at_most
    while position < end - 1 and len(entries) < most:
        start = position + 2
        position = start + (bundle[position] << 8 | bundle[position + 1])
        entries.append(bundle[start:position])
    if position < end - 1:
        raise ValueError(f"the bundle holds more than {most} entries")
    if position != end:
        raise ValueError("the bundle ends in the middle of an entry")
    return entries


def split_hashes(tile: bytes) -> list[bytes]:
    """The hashes of a tile; a length that is no multiple of 32 leaves a short last one."""
    return [tile[i : i + HASH_BYTES] for i in range(0, len(tile), HASH_BYTES)]
