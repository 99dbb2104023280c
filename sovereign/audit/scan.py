"""Look at the bundles of a log, one by one or in several processes, and say what was seen.

A bundle is all right in one of two ways. The quick one: its hashes, joined, are its tile, and
`bulk.check` says yes to its records. When either does not hold, the bundle is walked entry by
entry to say what is wrong and where. Both ways see the same; a test compares them.

Of each bundle the caller gets a `Sight`, in order: the root over its tile, whether its entries
are there, what is wrong, and the records that the caller itself has to read. The caller builds
the tree out of the roots, so nothing of a log of ten million stays in memory but its right edge.

A log in a `Folder` may be scanned by as many processes as there are cores. They are programs of
their own (`workers.py`), started anew, without fork, semaphores or shared memory; each goes over
every n-th range and waits when nobody takes what it has seen. Where they cannot be started, or
stop, this process goes over the rest itself: the answer never depends on how it was had.
"""

from collections.abc import Callable, Generator, Sequence
from hashlib import sha256
from typing import Any

import msgspec

from sovereign.audit import bulk, clockwise, record, tiles
from sovereign.audit.merkle import HASH_BYTES, TILE_WIDTH
from sovereign.errors import RecordInvalid

Read = Callable[[str], bytes | None]
"""Gives the file at a path below the log's folder, None when there is none."""
FAULTS_MAX = 100
"""Faults of one bundle that are kept; more say no more about it."""


class Fault(msgspec.Struct, frozen=True, array_like=True):
    """Something that is not as it must be: the code of a finding, and where."""

    code: str
    where: str


class Told(msgspec.Struct, frozen=True, array_like=True):
    """A sound record of a type that the caller reads itself."""

    index: int
    entry: bytes


class Sight(msgspec.Struct, frozen=True, array_like=True):
    """What was seen of one bundle.

    `node` is the root over a full bundle's hashes, the hashes themselves of the last, partial
    one, and empty when neither its tile nor its entries are there. `times` are those of its records
    as `clockwise.Times` takes them; of records in the order of their times, the first and the last.
    """

    index: int
    node: bytes
    there: bool
    faults: tuple[Fault, ...] = ()
    told: tuple[Told, ...] = ()
    times: tuple[tuple[int, str, bool], ...] = ()


class Task(msgspec.Struct, frozen=True):
    """Which log is scanned: its name, its size, and the types of records its caller reads."""

    origin: str
    size: int
    told: tuple[str, ...] = ()

    @property
    def bundles(self) -> int:
        """How many bundles the log has."""
        return -(-self.size // TILE_WIDTH)

    @property
    def stream(self) -> str:
        """The stream its name ends in, which says what records belong in it."""
        return self.origin.rpartition("/")[2]


def scan(read: Read, task: Task, first: int, last: int) -> Generator[Sight, None, None]:
    """See the bundles from `first` up to `last`, which is not seen."""
    for index in range(first, last):
        yield see(read, task, index)


def see(read: Read, task: Task, index: int) -> Sight:
    """See one bundle and its tile."""
    width = tiles.width_of(0, index, task.size)
    path = tiles.tile_path(0, index, width)
    tile = read_tile(read, path, HASH_BYTES * width)
    faults: list[Fault] = []
    entries = _entries(read, index, width, faults)
    stored = tile if tile and len(tile) == HASH_BYTES * width else b""
    if not stored:
        faults.append(Fault("tile-missing" if tile is None else "tile-differs", path))
    if entries is None:
        return Sight(index, _node(stored, width), there=False, faults=tuple(faults))
    own = b"".join([sha256(b"\x00" + entry).digest() for entry in entries])
    good = bulk.check(entries, task.stream, task.told) if not stored or own == stored else None
    if good is None:
        told, times = _walked(task, index, entries, stored, own, faults)
    else:
        told = [Told(index * TILE_WIDTH + i, entries[i]) for i in good.told]
        times = _ends(good.times, index * TILE_WIDTH)
    return Sight(
        index,
        _node(stored or own, width),
        there=True,
        faults=tuple(faults[:FAULTS_MAX]),
        told=tuple(told),
        times=_noted(times, entries, index * TILE_WIDTH),
    )


def _noted(
    times: Sequence[tuple[int, str]], entries: list[bytes], first: int
) -> tuple[tuple[int, str, bool], ...]:
    """The times, each with whether its record says that the clock was set back."""
    return tuple((i, time, clockwise.MARK in entries[i - first]) for i, time in times)


def _ends(times: list[str], first: int) -> list[tuple[int, str]]:
    """Index and time of the first and last record when all are in order, else of every one."""
    if len(times) > 1 and times == sorted(times):
        return [(first, times[0]), (first + len(times) - 1, times[-1])]
    return list(enumerate(times, first))


def leaves(read: Read, index: int, size: int) -> list[bytes]:
    """The leaf hashes of one bundle: as its tile has them, else as its entries do."""
    width = tiles.width_of(0, index, size)
    tile = read_tile(read, tiles.tile_path(0, index, width), HASH_BYTES * width)
    if tile and len(tile) == HASH_BYTES * width:
        return tiles.split_hashes(tile)
    entries = _entries(read, index, width, [])
    return [sha256(b"\x00" + entry).digest() for entry in entries or ()]


def read_tile(read: Read, path: str, length: int) -> bytes | None:
    """A tile as it lies there; of a full one in a partial one's place, the part that counts."""
    found = read(path)
    if found is None:
        found = read_or_full(read, path)
        return None if found is None else found[:length]
    return found


def read_or_full(read: Read, path: str) -> bytes | None:
    """A file by its name, or the full one that has since taken a partial one's place."""
    found = read(path)
    full, partial, _ = path.partition(".p/")
    return read(full) if found is None and partial else found


def _entries(read: Read, index: int, width: int, faults: list[Fault]) -> list[bytes] | None:
    path = tiles.bundle_path(index, width)
    bundle = read(path)
    direct = bundle is not None
    if bundle is None:
        bundle = read_or_full(read, path) if width < TILE_WIDTH else None
    if bundle is None:
        return None
    try:
        entries = tiles.unpack(bundle, at_most=TILE_WIDTH)
    except ValueError:
        entries = []
    if len(entries) < width or (len(entries) > width and direct):
        faults.append(Fault("bundle-damaged", path))
        return None
    return entries[:width]


def _node(hashes: bytes, width: int) -> bytes:
    """The root over a full tile; the hashes of any other."""
    while width == TILE_WIDTH and len(hashes) > HASH_BYTES:
        hashes = b"".join(
            [sha256(b"\x01" + hashes[i : i + 64]).digest() for i in range(0, len(hashes), 64)]
        )
    return hashes


def _walked(
    task: Task, index: int, entries: list[bytes], stored: bytes, own: bytes, faults: list[Fault]
) -> tuple[list[Told], list[tuple[int, str]]]:
    """The slow way: each entry by itself, so that the one that is wrong can be named.

    Returns the records to be told of, and the index and time of each that is one.
    """
    told: list[Told] = []
    times: list[tuple[int, str]] = []
    for i, entry in enumerate(entries):
        number, span = index * TILE_WIDTH + i, slice(HASH_BYTES * i, HASH_BYTES * (i + 1))
        name = f"{task.origin}#{number}"
        if stored and own[span] != stored[span]:
            faults.append(Fault("entry-differs", name))
            continue
        content = _content(entry, task.stream)
        if content is None:
            faults.append(Fault("record-invalid", name))
            continue
        times.append((number, str(content["at"])))
        if content["type"] in task.told:
            told.append(Told(number, entry))
    return told, times


def _content(entry: bytes, stream: str) -> dict[str, Any] | None:
    """A record that may stand in the stream, None for anything else."""
    try:
        content = record.parse(entry)
    except RecordInvalid:
        return None
    fits = record.RECORD_TYPES[str(content["type"])].stream in ("any", stream)
    return content if fits else None
